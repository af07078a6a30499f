use super::{Audience, Documents, Duplicates, Error, configuration, read, select};
use crate::component::{Component, INIT_TIMEOUT};
use crate::http_endpoint::HttpEndpoint;
use crate::resiliency::Resiliency;
use crate::subscription::Subscription;
use std::fs;
use std::time::Duration;

fn component(name: &str, kind: &str, extra: &str) -> String {
    format!(
        "---\napiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: {name}{extra}}}\nspec: {{type: {kind}, version: v1}}\n"
    )
}

#[test]
fn folders_are_read_in_order_and_broken_parts_skipped() {
    let root = tempfile::tempdir().unwrap();
    let (one, two) = (root.path().join("one"), root.path().join("two"));
    for (path, text) in [
        ("one/b.yml", component("b", "state.x", "")),
        (
            "one/a.YAML",
            component("a", "state.x", "") + &component("a2", "state.x", ""),
        ),
        ("one/notes.txt", "hello".to_owned()),
        ("one/deep/c.yaml", component("deep", "state.x", "")),
        (
            "two/mixed.yaml",
            format!(
                "{}---\nkind: [broken\n---\n# nothing\n---\nkind: Component\napiVersion: dapr.io/v1alpha1\nmetadata: {{name: bad}}\nspec:\n  ignoreErrors: 'yes please'\n---\nkind: Other\n{}---\nkind: Component\napiVersion: dapr.io/v1alpha1\nmetadata: {{name: a/b}}\n",
                component("first", "state.x", ""),
                component("last", "state.x", "")
            ),
        ),
    ] {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    fs::write(two.join("bytes.yaml"), b"a: \xff\n").unwrap();
    let documents = read(&[&two, &one]).unwrap();
    let loaded = documents.load::<Component>();
    let names: Vec<_> = loaded.items.iter().map(|item| item.name.as_str()).collect();
    assert_eq!(names, ["first", "last", "a", "a2", "b"]);
    let texts = |warnings: &[super::Warning]| {
        warnings
            .iter()
            .map(|warning| {
                warning
                    .to_string()
                    .replace(&root.path().display().to_string(), "")
            })
            .collect::<Vec<_>>()
    };
    let reading = texts(&documents.warnings);
    assert_eq!(
        reading[0],
        "/two/bytes.yaml: line 1: not valid UTF-8; save the file as UTF-8 text"
    );
    assert!(
        reading[1].starts_with("/two/mixed.yaml, document 2: line "),
        "{reading:?}"
    );
    assert_eq!(
        reading[2],
        "/one/notes.txt: not a .yaml or .yml file, it is not loaded"
    );
    assert_eq!(reading.len(), 3);
    assert_eq!(
        texts(&loaded.warnings),
        [
            "/two/mixed.yaml, document 4: the Component is skipped: line 15: spec.ignoreErrors: expected true or false without quotes, found text",
            "/two/mixed.yaml, document 7: the Component is skipped: invalid name \"a/b\" for \"Component\": may not contain '/'",
        ]
    );
    let missing = root.path().join("missing");
    let Err(Error { folder, .. }) = read(&[&missing]) else {
        panic!("a folder that is not there must be an error")
    };
    assert_eq!(folder, missing);
}

#[test]
fn a_component_in_full() {
    let text = r#"
apiVersion: dapr.io/v1alpha1
kind: Component
metadata:
  name: orders
  namespace: prod
spec:
  type: pubsub.redis
  version: v1
  ignoreErrors: true
  initTimeout: 20s
  metadata:
  - {name: host, value: "localhost:6379"}
  - {name: retries, value: 3}
  - {name: tls, value: on}
  - {name: nested, value: {b: 1, a: [x]}}
  - {name: password, secretKeyRef: {name: redis, key: pw}}
  - {name: home, envRef: HOME}
  - {name: nothing, value: null}
auth: {secretStore: vault}
scopes: [shop, till]
"#;
    let documents = Documents::of_text("x.yaml", text);
    let component = documents.load::<Component>().items.remove(0);
    assert_eq!(component.log_name(), "orders (pubsub.redis/v1)");
    assert_eq!(
        (component.block(), component.namespace.as_str()),
        ("pubsub", "prod")
    );
    assert_eq!(
        (component.ignore_errors, component.init_timeout),
        (true, Duration::from_secs(20))
    );
    assert_eq!(
        (component.secret_store.as_str(), component.scopes.len()),
        ("vault", 2)
    );
    for (name, expect) in [
        ("HOST", Some("localhost:6379")),
        ("retries", Some("3")),
        ("tls", Some("true")),
        ("nested", Some("{\"a\":[\"x\"],\"b\":1}")),
        ("nothing", Some("")),
        ("absent", None),
    ] {
        assert_eq!(component.property(name).as_deref(), expect, "{name}");
    }
    assert_eq!(component.metadata[4].secret_key_ref.key, "pw");
    assert_eq!(component.metadata[5].env_ref, "HOME");
    assert!(component.metadata[6].value.is_none());
    assert!(
        !format!("{component:?}").contains("6379"),
        "values may be secrets"
    );

    let bare = Documents::of_text("x.yaml", &component_text("initTimeout: soon"));
    let bare = bare.load::<Component>().items.remove(0);
    assert_eq!(
        (bare.init_timeout, bare.log_name().as_str()),
        (INIT_TIMEOUT, "x (state.y)")
    );
}

fn component_text(spec: &str) -> String {
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: x}}\nspec: {{type: state.y, {spec}}}\n"
    )
}

#[test]
fn subscriptions_of_both_versions() {
    let text = "
apiVersion: dapr.io/v1alpha1
kind: Subscription
metadata: {name: old}
spec: {pubsubname: bus, topic: t, route: /all, deadLetterTopic: dead, metadata: {a: 1}, bulkSubscribe: {enabled: true, maxMessagesCount: 10, maxAwaitDurationMs: 20}}
scopes: [app]
---
apiVersion: dapr.io/v2alpha1
kind: Subscription
metadata: {name: new}
spec:
  pubsubname: bus
  topic: t
  routes:
    rules: [{match: event.type == \"a\", path: /a}]
    default: /rest
---
apiVersion: dapr.io/v3
kind: Subscription
metadata: {name: unknown}
";
    let found = Documents::of_text("s.yaml", text).load::<Subscription>();
    let [old, new] = <[Subscription; 2]>::try_from(found.items).unwrap();
    assert_eq!(
        (
            old.name.as_str(),
            old.routes.default.as_str(),
            old.routes.rules.len()
        ),
        ("old", "/all", 0)
    );
    assert_eq!(
        (old.dead_letter_topic.as_str(), old.metadata["a"].as_str()),
        ("dead", "1")
    );
    assert_eq!(
        (old.bulk.enabled, old.bulk.max_messages, old.bulk.max_await_ms),
        (true, 10, 20)
    );
    assert_eq!(new.routes.rules[0].matches, "event.type == \"a\"");
    assert_eq!(
        (new.routes.rules[0].path.as_str(), new.routes.default.as_str()),
        ("/a", "/rest")
    );
}

#[test]
fn endpoints_and_resiliency() {
    let text = "
apiVersion: dapr.io/v1alpha1
kind: HTTPEndpoint
metadata: {name: api}
spec:
  baseUrl: https://example.com
  headers: [{name: Accept, value: text/plain}]
  clientTLS: {rootCA: {value: PEM}, privateKey: {secretKeyRef: {name: k}}}
---
apiVersion: dapr.io/v1alpha1
kind: Resiliency
metadata: {name: calm}
spec:
  policies:
    timeouts: {fast: 5s}
    retries: {some: {policy: exponential, maxInterval: 10s, maxRetries: 3, matching: {httpStatusCodes: 429, gRPCStatusCodes: '1-5'}}}
    circuitBreakers: {cb: {maxRequests: 2, interval: 8s, timeout: 45s, trip: consecutiveFailures > 8}}
  targets:
    apps: {a: {timeout: fast, retry: some, circuitBreaker: cb, circuitBreakerCacheSize: 7}}
    actors: {t: {circuitBreakerScope: both}}
    components: {s: {outbound: {retry: some}}}
";
    let documents = Documents::of_text("m.yaml", text);
    let endpoint = documents.load::<HttpEndpoint>().items.remove(0);
    assert_eq!(endpoint.headers[0].text(), "text/plain");
    let tls = endpoint.client_tls.unwrap();
    assert_eq!(tls.root_ca.unwrap().value.unwrap().text(), "PEM");
    assert_eq!(tls.private_key.unwrap().secret_key_ref.unwrap().name, "k");
    let resiliency = documents.load::<Resiliency>().items.remove(0);
    let retry = &resiliency.policies.retries["some"];
    assert_eq!(
        (retry.policy.as_str(), retry.max_retries),
        ("exponential", Some(3))
    );
    assert_eq!(retry.matching.as_ref().unwrap().http, "429");
    assert_eq!(
        resiliency.policies.circuit_breakers["cb"].trip,
        "consecutiveFailures > 8"
    );
    assert_eq!(resiliency.targets.apps["a"].circuit_breaker_cache_size, 7);
    assert_eq!(resiliency.targets.components["s"].outbound.retry, "some");
}

#[test]
fn selection() {
    let select = |texts: &[String], namespace: Option<&str>| {
        let items = Documents::of_text("x.yaml", &texts.concat())
            .load::<Component>()
            .items;
        select(
            items,
            Audience {
                app_id: "me",
                namespace,
            },
        )
        .map(|items| items.into_iter().map(|item| item.log_name()).collect::<Vec<_>>())
        .map_err(|Duplicates { texts }| texts)
    };
    let (state, pubsub) = ("state.in-memory", "pubsub.in-memory");
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let texts = [
        component("a", state, ", namespace: foo"),
        component("b", state, ", namespace: bar"),
        component("c", state, ""),
    ];
    assert_eq!(select(&texts, None).unwrap().len(), 3);
    assert_eq!(
        select(&texts, Some("foo")).unwrap(),
        names(&["a (state.in-memory/v1)", "c (state.in-memory/v1)"])
    );
    let texts = [
        component("abc", state, ""),
        component("abc", pubsub, ""),
        component("123", state, ""),
        component("123", state, ", namespace: other"),
        component("123", pubsub, ""),
    ];
    let expect = [
        "duplicate definition of Component name abc (pubsub.in-memory/v1) with existing abc (state.in-memory/v1)",
        "duplicate definition of Component name 123 (pubsub.in-memory/v1) with existing 123 (state.in-memory/v1)",
    ];
    assert_eq!(select(&texts, Some("default")).unwrap_err(), names(&expect));
    assert_eq!(
        Duplicates {
            texts: names(&expect)
        }
        .to_string(),
        expect.join("\n")
    );
    assert_eq!(select(&texts, None).unwrap_err().len(), 3);
    // Out of scope counts only as the second of two.
    let scoped = |app: &str| component("s", state, "").replace("spec:", &format!("scopes: [{app}]\nspec:"));
    assert_eq!(select(&[scoped("other"), scoped("me")], None).unwrap().len(), 1);
    assert_eq!(
        select(&[scoped("me"), scoped("other")], None).unwrap_err().len(),
        1
    );
}

#[test]
fn configuration_files() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("config.yaml");
    fs::write(
        &file,
        "spec: {tracing: {zipkin: {endpointAddress: \"${ZIPKIN}/x\"}}}\n",
    )
    .unwrap();
    let found = configuration(&[&file], |name| (name == "ZIPKIN").then(|| "http://z".to_owned())).unwrap();
    assert_eq!(found.tracing.zipkin.endpoint_address, "http://z/x");
    let missing = configuration(&[root.path().join("none.yaml")], |_| None).unwrap_err();
    assert!(missing.to_string().contains("none.yaml"), "{missing}");
}
