//! The two doors are one API: what is asked of both does the same and fails with the same words.

use crate::cluster::{Cluster, SOON, Sidecar, Spec, component};
use outrigger_proto::dapr::common::v1 as common;
use outrigger_proto::dapr::runtime::v1 as proto;
use outrigger_testkit::client::{Answer, Client};
use proto::dapr_client::DaprClient;
use tonic::transport::Channel;
use tonic::{Code, Status};

type Grpc = DaprClient<Channel>;

/// One failure, asked for at both doors.
struct Failure {
    method: &'static str,
    path: &'static str,
    body: &'static str,
    status: u16,
    tag: &'static str,
    code: Code,
}

/// A failing request at the gRPC door.
macro_rules! fails {
    ($client:expr, $call:ident, $request:expr) => {
        $client
            .$call($request)
            .await
            .map(|_| ())
            .expect_err("it is refused")
    };
}

struct Doors {
    _cluster: Cluster,
    sidecar: Sidecar,
    http: Client,
    grpc: Grpc,
}

impl Doors {
    async fn open() -> Self {
        let cluster = Cluster::new();
        let secrets = cluster.folder().join("secrets.json");
        std::fs::write(&secrets, r#"{"known":"value"}"#).unwrap();
        let secrets = secrets.display().to_string();
        let resources = cluster.resources(
            "resources",
            &[
                ("state.yaml", &component("state", "state.in-memory", &[])),
                ("pubsub.yaml", &component("pubsub", "pubsub.in-memory", &[])),
                (
                    "secrets.yaml",
                    &component("secrets", "secretstores.local.file", &[("secretsFile", &secrets)]),
                ),
            ],
        );
        let mut sidecar = cluster.sidecar(&Spec {
            app_id: "app",
            resources: Some(&resources),
            ..Spec::default()
        });
        sidecar.start().await;
        let address = format!("http://127.0.0.1:{}", sidecar.grpc_port());
        let grpc = DaprClient::connect(address).await.unwrap();
        Self {
            _cluster: cluster,
            sidecar,
            http: Client::new(SOON),
            grpc,
        }
    }

    async fn http(&self, method: &str, path: &str, body: &str) -> Answer {
        let request = http::Request::builder()
            .method(method)
            .uri(self.sidecar.url(path))
            .header("content-type", "application/json")
            .body(outrigger_testkit::client::full(body.to_owned()))
            .unwrap();
        self.http.request(request).await.unwrap()
    }

    /// Both doors refuse, each with its number, both with the same words and the same reason.
    async fn same(&self, failure: &Failure, status: &Status) {
        let at = format!("{} {}", failure.method, failure.path);
        let answer = self.http(failure.method, failure.path, failure.body).await;
        let body: serde_json::Value = serde_json::from_slice(&answer.body)
            .unwrap_or_else(|error| panic!("{at}: {error}: {}", answer.text()));
        assert_eq!(answer.status, failure.status, "{at}: {body}");
        assert_eq!(body["errorCode"], failure.tag, "{at}: {body}");
        assert_eq!(status.code(), failure.code, "{at}: {status:?}");
        assert_eq!(body["message"], status.message(), "{at}");
        for detail in body["details"].as_array().into_iter().flatten() {
            let Some(reason) = detail["reason"].as_str() else {
                continue;
            };
            let sent = status.details();
            assert!(
                sent.windows(reason.len()).any(|part| part == reason.as_bytes()),
                "{at}: {reason} is not in the details of {status:?}"
            );
        }
    }
}

fn item(key: &str, value: &'static str) -> common::StateItem {
    common::StateItem {
        key: key.to_owned(),
        value: value.into(),
        ..common::StateItem::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_door_writes_the_other_reads() {
    let doors = Doors::open().await;
    let mut grpc = doors.grpc.clone();
    let saved = doors
        .http(
            "POST",
            "/v1.0/state/state",
            r#"[{"key":"a","value":{"n":1}},{"key":"b","value":"text"}]"#,
        )
        .await;
    assert_eq!(saved.status, 204, "{}", saved.text());
    let request = |key: &str| proto::GetStateRequest {
        store_name: "state".to_owned(),
        key: key.to_owned(),
        ..proto::GetStateRequest::default()
    };
    for (key, value) in [("a", r#"{"n":1}"#), ("b", r#""text""#)] {
        let theirs = grpc.get_state(request(key)).await.unwrap().into_inner();
        let ours = doors.http("GET", &format!("/v1.0/state/state/{key}"), "").await;
        assert_eq!(theirs.data, value.as_bytes(), "{key}");
        assert_eq!(ours.body, theirs.data, "{key}");
        assert_eq!(ours.headers["etag"], theirs.etag.as_str(), "{key}");
    }

    grpc.save_state(proto::SaveStateRequest {
        store_name: "state".to_owned(),
        states: vec![item("c", r#"[1,2]"#)],
    })
    .await
    .unwrap();
    assert_eq!(doors.http("GET", "/v1.0/state/state/c", "").await.text(), "[1,2]");

    let gone = doors.http("DELETE", "/v1.0/state/state/c", "").await;
    assert_eq!(gone.status, 204);
    let none = grpc.get_state(request("c")).await.unwrap().into_inner();
    assert!(none.data.is_empty() && none.etag.is_empty(), "{none:?}");
    assert_eq!(doors.http("GET", "/v1.0/state/state/c", "").await.status, 204);

    let secret = doors.http("GET", "/v1.0/secrets/secrets/known", "").await;
    let same = proto::GetSecretRequest {
        store_name: "secrets".to_owned(),
        key: "known".to_owned(),
        ..proto::GetSecretRequest::default()
    };
    let same = grpc.get_secret(same).await.unwrap().into_inner().data;
    assert_eq!(secret.text(), r#"{"known":"value"}"#);
    assert_eq!(same["known"], "value");

    let metadata = doors.http("GET", "/v1.0/metadata", "").await;
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.body).unwrap();
    let same = grpc
        .get_metadata(proto::GetMetadataRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(metadata["id"], same.id);
    assert_eq!(metadata["runtimeVersion"], same.runtime_version);
    let mut components: Vec<_> = same
        .registered_components
        .iter()
        .map(|component| (component.name.as_str(), component.r#type.as_str()))
        .collect();
    components.sort_unstable();
    let mut shown: Vec<_> = metadata["components"]
        .as_array()
        .unwrap()
        .iter()
        .map(|component| {
            (
                component["name"].as_str().unwrap(),
                component["type"].as_str().unwrap(),
            )
        })
        .collect();
    shown.sort_unstable();
    assert_eq!(shown, components);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_told_in_the_same_words() {
    let doors = Doors::open().await;
    let mut grpc = doors.grpc.clone();
    let nowhere = || "nowhere".to_owned();

    let rows = [
        (
            fails!(
                grpc,
                get_state,
                proto::GetStateRequest {
                    store_name: nowhere(),
                    key: "k".to_owned(),
                    ..proto::GetStateRequest::default()
                }
            ),
            (
                "GET /v1.0/state/nowhere/k",
                "",
                400,
                "ERR_STATE_STORE_NOT_FOUND",
                Code::InvalidArgument,
            ),
        ),
        (
            fails!(
                grpc,
                save_state,
                proto::SaveStateRequest {
                    store_name: nowhere(),
                    states: vec![item("k", "1")],
                }
            ),
            (
                "POST /v1.0/state/nowhere",
                r#"[{"key":"k","value":1}]"#,
                400,
                "ERR_STATE_STORE_NOT_FOUND",
                Code::InvalidArgument,
            ),
        ),
        (
            fails!(
                grpc,
                save_state,
                proto::SaveStateRequest {
                    store_name: "state".to_owned(),
                    states: vec![item("a||b", "1")],
                }
            ),
            (
                "POST /v1.0/state/state",
                r#"[{"key":"a||b","value":1}]"#,
                400,
                "ERR_MALFORMED_REQUEST",
                Code::InvalidArgument,
            ),
        ),
        (
            fails!(
                grpc,
                publish_event,
                proto::PublishEventRequest {
                    pubsub_name: nowhere(),
                    topic: "t".to_owned(),
                    ..proto::PublishEventRequest::default()
                }
            ),
            (
                "POST /v1.0/publish/nowhere/t",
                "{}",
                404,
                "ERR_PUBSUB_NOT_FOUND",
                Code::InvalidArgument,
            ),
        ),
        (
            fails!(
                grpc,
                get_secret,
                proto::GetSecretRequest {
                    store_name: nowhere(),
                    key: "k".to_owned(),
                    ..proto::GetSecretRequest::default()
                }
            ),
            (
                "GET /v1.0/secrets/nowhere/k",
                "",
                401,
                "ERR_SECRET_STORE_NOT_FOUND",
                Code::InvalidArgument,
            ),
        ),
        (
            fails!(
                grpc,
                get_secret,
                proto::GetSecretRequest {
                    store_name: "secrets".to_owned(),
                    key: "unknown".to_owned(),
                    ..proto::GetSecretRequest::default()
                }
            ),
            (
                "GET /v1.0/secrets/secrets/unknown",
                "",
                500,
                "ERR_SECRET_GET",
                Code::Internal,
            ),
        ),
    ];
    for (told, (line, body, status, tag, code)) in rows {
        let (method, path) = line.split_once(' ').expect("a line has two parts");
        let failure = Failure {
            method,
            path,
            body,
            status,
            tag,
            code,
        };
        doors.same(&failure, &told).await;
    }
}

/// An etag that no longer fits, with numbers of its own at each door.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conflicts_are_told_in_the_same_words() {
    let doors = Doors::open().await;
    let mut grpc = doors.grpc.clone();
    let saved = doors
        .http("POST", "/v1.0/state/state", r#"[{"key":"a","value":1}]"#)
        .await;
    assert_eq!(saved.status, 204);
    let mut stale = item("a", "2");
    stale.etag = Some(common::Etag {
        value: "4711".to_owned(),
    });
    let request = proto::SaveStateRequest {
        store_name: "state".to_owned(),
        states: vec![stale],
    };
    let status = fails!(grpc, save_state, request);
    let failure = Failure {
        method: "POST",
        path: "/v1.0/state/state",
        body: r#"[{"key":"a","value":2,"etag":"4711"}]"#,
        status: 409,
        tag: "ERR_STATE_SAVE",
        code: Code::Aborted,
    };
    doors.same(&failure, &status).await;
}
