use super::{Found, find};
use crate::endpoint::{Endpoint, Version};
use http::Method;

/// `Name(first,second)`, `other method` or `nothing`.
fn show(method: &str, path: &str) -> String {
    match find(&Method::from_bytes(method.as_bytes()).unwrap(), path) {
        Found::Route(route) => {
            let version = if route.version == Version::V1 {
                ""
            } else {
                route.version.segment()
            };
            format!("{version}{:?}({},{})", route.endpoint, route.first, route.second)
        }
        Found::OtherMethod => "other method".to_owned(),
        Found::Nothing => "nothing".to_owned(),
    }
}

#[test]
fn routes() {
    for (method, path, expected) in [
        ("GET", "/v1.0/state/s/k", "GetState(s,k)"),
        ("DELETE", "/v1.0/state/s/k%2F1", "DeleteState(s,k%2F1)"),
        ("GET", "/v1.0/state/s/bulk", "GetState(s,bulk)"),
        (
            "DELETE",
            "/v1.0/state/s/transaction",
            "DeleteState(s,transaction)",
        ),
        ("POST", "/v1.0/state/s", "SaveState(s,)"),
        ("PUT", "/v1.0/state/s", "SaveState(s,)"),
        ("GET", "/v1.0/state/s", "other method"),
        ("PATCH", "/v1.0/state/s/k", "other method"),
        ("POST", "/v1.0/state/s/k", "other method"),
        ("POST", "/v1.0/state/s/bulk", "GetBulkState(s,)"),
        ("PUT", "/v1.0/state/s/transaction", "ExecuteStateTransaction(s,)"),
        ("POST", "/v1.0/state/s/k/x", "nothing"),
        ("POST", "/v1.0/state", "nothing"),
        (
            "POST",
            "/v1.0-alpha1/state/s/query",
            "v1.0-alpha1QueryState(s,query)",
        ),
        ("POST", "/v1.0-alpha1/state/s", "nothing"),
        ("POST", "/v1.0/publish/p/t", "PublishEvent(p,t)"),
        (
            "PUT",
            "/v1.0/publish/p/t/with/slashes",
            "PublishEvent(p,t/with/slashes)",
        ),
        ("POST", "/v1.0/publish/p", "nothing"),
        ("GET", "/v1.0/publish/p/t", "other method"),
        ("POST", "/v1.0/publish/bulk/p/t/u", "BulkPublishEvent(p,t/u)"),
        (
            "POST",
            "/v1.0-alpha1/publish/bulk/p/t",
            "v1.0-alpha1BulkPublishEvent(p,t)",
        ),
        ("POST", "/v1.0/publish/bulk/t", "PublishEvent(bulk,t)"),
        ("POST", "/v1.0-alpha1/publish/p/t", "nothing"),
        ("GET", "/v1.0/secrets/s/n", "GetSecret(s,n)"),
        ("GET", "/v1.0/secrets/s/bulk", "GetBulkSecret(s,)"),
        ("POST", "/v1.0/secrets/s/n", "other method"),
        ("GET", "/v1.0/metadata", "GetMetadata(,)"),
        ("PUT", "/v1.0/metadata/k", "PutMetadata(k,)"),
        ("GET", "/v1.0/metadata/k", "other method"),
        ("PUT", "/v1.0/metadata", "other method"),
        ("GET", "/v1.0/healthz", "Healthz(,)"),
        ("GET", "/v1.0/healthz/outbound", "HealthzOutbound(,)"),
        ("GET", "/v1.0/healthz/x", "nothing"),
        ("POST", "/v1.0/shutdown", "Shutdown(,)"),
        ("GET", "/v1.0/shutdown", "other method"),
        ("BREW", "/v1.0/invoke/a/method/b", "InvokeService(,)"),
        ("POST", "/v1.0/invoke", "InvokeService(,)"),
        ("POST", "/v2.0/state/s", "nothing"),
        ("GET", "/v1.0", "nothing"),
        ("GET", "/", "nothing"),
        ("GET", "/v1.0/workflow/dapr/x", "nothing"),
        ("POST", "/v1.0/bindings/b", "InvokeBinding(b,)"),
        (
            "GET",
            "/v1.0-alpha1/configuration/c",
            "v1.0-alpha1GetConfiguration(c,)",
        ),
        (
            "GET",
            "/v1.0/configuration/c/subscribe",
            "SubscribeConfiguration(c,subscribe)",
        ),
        (
            "GET",
            "/v1.0/configuration/c/7/unsubscribe",
            "UnsubscribeConfiguration(c,7)",
        ),
        ("POST", "/v1.0-alpha1/lock/l", "v1.0-alpha1TryLock(l,)"),
        ("POST", "/v1.0/lock/l", "nothing"),
        ("POST", "/v1.0-alpha1/unlock/l", "v1.0-alpha1Unlock(l,)"),
        (
            "PUT",
            "/v1.0-alpha1/crypto/c/encrypt",
            "v1.0-alpha1Encrypt(c,encrypt)",
        ),
        (
            "POST",
            "/v1.0-alpha2/conversation/c/converse",
            "v1.0-alpha2Converse(c,converse)",
        ),
        ("GET", "/v1.0/jobs/j", "GetJob(j,)"),
        (
            "PUT",
            "/v1.0/actors/t/1/state",
            "ExecuteActorStateTransaction(t,1)",
        ),
        ("GET", "/v1.0/actors/t/1/state/k", "GetActorState(t,1)"),
        ("DELETE", "/v1.0/actors/t/1/method/m", "InvokeActor(t,1)"),
        ("PATCH", "/v1.0/actors/t/1/method/m", "other method"),
        ("POST", "/v1.0/actors/t/1/timers/n", "RegisterActorTimer(t,1)"),
        (
            "GET",
            "/v1.0-beta1/workflows/dapr/id",
            "v1.0-beta1GetWorkflow(dapr,id)",
        ),
        (
            "POST",
            "/v1.0/workflows/dapr/id/raiseEvent/e",
            "RaiseEventWorkflow(dapr,id)",
        ),
        ("POST", "/v1.0/workflows/dapr/id/dance", "nothing"),
    ] {
        assert_eq!(show(method, path), expected, "{method} {path}");
    }
}

#[test]
fn every_version_has_its_segment() {
    for version in Version::ALL {
        assert_eq!(Version::of(version.segment()), Some(version));
    }
    assert_eq!(Endpoint::QueryState.name(), "QueryStateAlpha1");
}
