use super::{Components, Identity, Settings};
use crate::components::snapshot::Listed;
use crate::fakes::{Bench, document, scope};
use outrigger_resources::component::Component;

/// A document whose `password` comes from the secret `db` in `store`.
fn guarded(name: &str, kind: &str, store: &str) -> Component {
    serde_json::from_value(serde_json::json!({
        "metadata": {"name": name},
        "spec": {"type": kind, "version": "v1", "metadata": [
            {"name": "password", "secretKeyRef": {"name": "db"}},
        ]},
        "auth": {"secretStore": store},
    }))
    .unwrap()
}

fn lenient(mut document: Component) -> Component {
    document.ignore_errors = true;
    document
}

async fn names(settings: &Settings, documents: Vec<Component>) -> Vec<String> {
    let components = Components::load(settings, documents).await.unwrap();
    let live = components.live();
    live.now().listed().iter().map(|it| it.name.clone()).collect()
}

#[tokio::test]
async fn secrets_and_placeholders_reach_the_component() {
    let bench = Bench::new();
    let mut with_env = document("env", "state.fake", &[]);
    with_env.metadata = serde_json::from_value(serde_json::json!([
        {"name": "colour", "envRef": "COLOUR"},
        {"name": "password", "envRef": "APP_API_TOKEN"},
    ]))
    .unwrap();
    let documents = vec![
        guarded("store", "state.fake", "vault"),
        with_env,
        document("topics", "pubsub.fake", &[("colour", "{appID} in {namespace}")]),
        guarded("vault", "secretstores.fake", "root"),
        document("root", "secretstores.fake", &[]),
    ];
    assert_eq!(
        names(&bench.settings(), documents).await,
        ["root", "vault", "store", "env", "topics"]
    );
    assert_eq!(
        bench.journal.take(),
        [
            "built root",
            "secret db",
            "built vault password=db-value",
            "secret db",
            "built store password=db-value",
            "built env colour=red password=",
            "built topics colour=shop in default.shop consumerID=shop",
        ]
    );
    let log = bench.logged();
    for line in [
        r#"msg="Component loaded: store (state.fake/v1)""#,
        r#"msg="Component env references an env variable that isn't allowed: APP_API_TOKEN""#,
    ] {
        assert!(log.contains(line), "{line} is missing in\n{log}");
    }
    let metrics = bench.registry.expose();
    for line in [
        r#"dapr_runtime_component_loaded{app_id="shop"} 5"#,
        r#"dapr_runtime_component_init_total{app_id="shop",component="secretstores.fake"} 2"#,
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
}

#[tokio::test]
async fn a_component_without_its_secret_store_stays_parked() {
    let bench = Bench::new();
    let mut settings = bench.settings();
    settings.secret_scopes = vec![scope("customsecretstore1", "deny", &[], &[])];
    let documents = vec![
        guarded("a", "state.fake", "nowhere"),
        document("b", "state.fake", &[]),
    ];
    assert_eq!(names(&settings, documents).await, ["b"]);
    let log = bench.logged();
    for line in [
        "Component a references a secret store that isn't loaded: nowhere",
        "Secrets configuration added for 'customsecretstore1', but no matching secret store was found",
    ] {
        assert!(log.contains(line), "{line} is missing in\n{log}");
    }
}

/// A document that cannot be loaded, and the sentence after `process component a error: `.
#[tokio::test(start_paused = true)]
async fn failures_stop_the_start_unless_ignored() {
    let double = |kind: &str, cause: &str| {
        format!(
            "[INIT_COMPONENT_FAILURE]: initialization error occurred for a ({kind}/v1): \
             [INIT_COMPONENT_FAILURE]: initialization error occurred for a ({kind}/v1): {cause}"
        )
    };
    let create = |kind: &str, cause: &str| {
        format!(
            "[INIT_COMPONENT_FAILURE]: initialization error occurred for a ({kind}/v1): \
             [CREATE_COMPONENT_FAILURE]: initialization error occurred for a ({kind}/v1): {cause}"
        )
    };
    let absent = |kind: &str| {
        create(
            kind,
            &format!("components of type {kind} are not available in this version of Outrigger"),
        )
    };
    let cases = [
        (
            document("a", "state.fake", &[("fail", "missing connection string")]),
            double("state.fake", "missing connection string"),
        ),
        (
            document("a", "state.fake", &[("slow", "6")]),
            double(
                "state.fake",
                "init timeout for component a (state.fake/v1): not ready within 5s",
            ),
        ),
        (
            document("a", "pubsub.fake", &[("slow", "many")]),
            double("pubsub.fake", "metadata \"slow\" must be a number"),
        ),
        (
            document("a", "state.fake", &[("keyPrefix", "x||y")]),
            double(
                "state.fake",
                "failed to save lock keyprefix: api error: code = InvalidArgument desc = \
                 input key/keyPrefix 'x||y' can't contain '||'",
            ),
        ),
        (
            document("a", "state.nothing", &[]),
            create(
                "state.nothing",
                "couldn't find state store state.nothing/v1; known types are: fake/v1",
            ),
        ),
        (
            document("a", "state.fake", &[("PrimaryEncryptionKey", "00")]),
            create(
                "state.fake",
                "failed to extract encryption key: metadata primaryEncryptionKey must come from a secret store: \
                 give it a secretKeyRef",
            ),
        ),
        (document("a", "crypto.fake", &[]), absent("crypto.fake")),
        (
            document("a", "bindings.nothing", &[]),
            create(
                "bindings.nothing",
                "couldn't find binding a (bindings.nothing/v1); known types are: input fake/v1; output fake/v1",
            ),
        ),
        (
            document("a", "bindings.fake", &[("fail", "no such file")]),
            double("bindings.fake", "no such file"),
        ),
        (
            document("a", "conversation.echo", &[]),
            absent("conversation.echo"),
        ),
        (
            document("a", "workflow.dapr", &[]),
            "incorrect type workflow.dapr".to_owned(),
        ),
    ];
    for (bad, expect) in cases {
        let bench = Bench::new();
        let documents = vec![document("b", "state.fake", &[]), bad.clone()];
        let error = Components::load(&bench.settings(), documents)
            .await
            .err()
            .expect("the document cannot be loaded");
        let error = error.to_string();
        assert_eq!(error, format!("process component a error: {expect}"));
        let log = bench.logged();
        let quoted = error.replace('"', "\\\"");
        let line = format!("Error processing component, daprd will exit gracefully: {quoted}");
        assert!(log.contains(&line), "{line} is missing in\n{log}");
        assert_eq!(bench.journal.take(), ["built b", "closed b"], "{expect}");

        let bench = Bench::new();
        let documents = vec![lenient(bad), document("b", "state.fake", &[])];
        assert_eq!(names(&bench.settings(), documents).await, ["b"]);
        let log = bench.logged();
        let line = format!("Ignoring error processing component: {quoted}");
        assert!(log.contains(&line), "{line} is missing in\n{log}");
    }
}

#[tokio::test]
async fn failures_are_counted_with_their_reason() {
    let bench = Bench::new();
    let documents = vec![
        lenient(document("a", "state.fake", &[("fail", "no")])),
        lenient(document("b", "state.nothing", &[])),
    ];
    assert!(names(&bench.settings(), documents).await.is_empty());
    let metrics = bench.registry.expose();
    for labels in [
        r#"component="state.fake",componentName="a",reason="init""#,
        r#"component="state.nothing",componentName="b",reason="creation""#,
    ] {
        let line = format!(r#"dapr_runtime_component_init_fail_total{{app_id="shop",{labels}}} 1"#);
        assert!(metrics.contains(&line), "{line} is missing in\n{metrics}");
    }
}

#[tokio::test]
async fn a_bindings_direction_says_which_sides_it_has() {
    type Row<'r> = (&'r [(&'r str, &'r str)], &'r [&'r str], &'r str, bool);
    let cases: [Row<'_>; 6] = [
        (&[], &["INPUT_BINDING", "OUTPUT_BINDING"], "b", false),
        (&[("direction", "input")], &["INPUT_BINDING"], "b", true),
        (&[("Direction", " Output ")], &["OUTPUT_BINDING"], "b", false),
        (
            &[("direction", "input, output")],
            &["INPUT_BINDING", "OUTPUT_BINDING"],
            "b",
            true,
        ),
        (&[("direction", "sideways")], &[], "b", false),
        (
            &[("route", "/way/in")],
            &["INPUT_BINDING", "OUTPUT_BINDING"],
            "/way/in",
            false,
        ),
    ];
    for (metadata, capabilities, route, declared) in cases {
        let bench = Bench::new();
        let documents = vec![document("b", "bindings.fake", metadata)];
        let components = Components::load(&bench.settings(), documents).await.unwrap();
        let live = components.live();
        assert_eq!(live.now().listed()[0].capabilities, capabilities, "{metadata:?}");
        let binding = live.now().binding("b").unwrap().clone();
        assert_eq!(
            (&*binding.route, binding.declared_input),
            (route, declared),
            "{metadata:?}"
        );
        bench.journal.take();
        components.close_all().await;
        assert_eq!(bench.journal.take().len(), capabilities.len(), "{metadata:?}");
    }
}

#[tokio::test]
async fn denied_types_are_not_loaded() {
    let cases: [(&[&str], &[&str]); 5] = [
        (&[], &["a", "p"]),
        (&[""], &["a", "p"]),
        (&["state.fake"], &["p"]),
        (&["pubsub.fake/v1"], &["a"]),
        (&["pubsub.fake/v2", "other"], &["a", "p"]),
    ];
    for (denied, expect) in cases {
        let bench = Bench::new();
        let mut settings = bench.settings();
        settings.denied = denied.iter().map(|&entry| entry.to_owned()).collect();
        let documents = vec![
            document("a", "state.fake", &[]),
            document("p", "pubsub.fake", &[]),
        ];
        assert_eq!(names(&settings, documents).await, expect, "{denied:?}");
        let log = bench.logged();
        assert_eq!(log.contains("are not allowed"), expect.len() < 2, "{log}");
    }
}

#[tokio::test]
async fn requests_keep_what_they_found() {
    let bench = Bench::new();
    let mut settings = bench.settings();
    settings.identity = Identity {
        app_id: "shop".to_owned(),
        namespace: "ns1".to_owned(),
        pod: String::new(),
    };
    let documents = vec![
        document("a", "state.fake", &[("keyPrefix", "namespace")]),
        document("plain", "state.fake", &[("plain", "true")]),
        document("p", "pubsub.fake", &[("consumerID", " {namespace} ")]),
    ];
    let components = Components::load(&settings, documents).await.unwrap();
    let live = components.live();
    let (store, broker) = {
        let now = live.now();
        (
            now.state_store("a").unwrap().clone(),
            now.broker("p").unwrap().clone(),
        )
    };
    assert_eq!(store.prefix.apply("k").unwrap(), "ns1.shop||k");
    assert_eq!(broker.topic_prefix, "ns1");
    let listed = |name: &str, kind: &str, capabilities: &[&'static str]| Listed {
        name: name.to_owned(),
        kind: kind.to_owned(),
        version: "v1".to_owned(),
        capabilities: capabilities.to_vec(),
    };
    assert_eq!(
        live.now().listed(),
        [
            listed("a", "state.fake", &["ETAG", "TRANSACTIONAL", "ACTOR"]),
            listed("plain", "state.fake", &[]),
            listed("p", "pubsub.fake", &["SUBSCRIBE_WILDCARDS"]),
        ]
    );
    bench.journal.take();
    components.close_all().await;
    let mut closed = bench.journal.take();
    closed.sort();
    assert_eq!(closed, ["closed a", "closed p", "closed plain"]);
    assert!(live.now().state_store("a").is_none());
    assert_eq!(store.name, "a");
}
