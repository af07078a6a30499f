//! The suites of the testkit, against what this crate registers.

use outrigger_component::pubsub::PubSub;
use outrigger_component::registry::Registry;
use outrigger_components_builtin::register;
use outrigger_components_builtin::secrets::environment::Environment;
use outrigger_testkit::conformance::pubsub::churn;
use outrigger_testkit::conformance::{binding, pubsub, secrets, state};
use outrigger_testkit::setup::setup;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

fn registry() -> Registry {
    let variables = [
        ("COLOUR", "red"),
        ("EMPTY", ""),
        ("DAPR_TOKEN", "hidden"),
        ("App_Api_Token", "hidden"),
        ("P_SIZE", "xl"),
    ];
    let environment = Environment {
        lookup: Arc::new(move |name| {
            variables
                .iter()
                .find(|(variable, _)| *variable == name)
                .map(|(_, value)| (*value).to_owned())
        }),
        all: Arc::new(move || {
            variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect()
        }),
    };
    let mut registry = Registry::default();
    register(&mut registry, environment);
    registry
}

#[tokio::test]
async fn state_in_memory() {
    let store = registry()
        .state_stores()
        .build("in-memory", "v1", setup(&[]))
        .await
        .unwrap();
    state::run(&*store, "app").await;
    assert_eq!(
        store.features().names(),
        ["ETAG", "TRANSACTIONAL", "TTL", "DELETE_WITH_PREFIX", "KEYS_LIKE"]
    );
    let store = registry()
        .state_stores()
        .build("in-memory", "v1", setup(&[("queryApi", "true")]))
        .await
        .unwrap();
    assert!(store.features().query);
    state::run(&*store, "app").await;
}

async fn bus() -> Arc<dyn PubSub> {
    registry()
        .brokers()
        .build("in-memory", "v1", setup(&[]))
        .await
        .expect("it needs nothing")
}

#[tokio::test]
async fn pubsub_in_memory() {
    let nature = pubsub::Nature::passing(Duration::from_secs(1));
    pubsub::run(&*bus().await, "topic-", nature).await;
    let group = churn::Group {
        connect: &|| Box::pin(bus()),
        prefix: "churn-",
        nature,
    };
    churn::poison(&group, 1000).await;
    churn::slow(&group, 2000, Duration::from_millis(500)).await;
    churn::parallel(&group, 64, 150).await;
}

#[tokio::test]
async fn files() {
    let folder = tempfile::tempdir().unwrap();
    let files = registry()
        .output_bindings()
        .build(
            "localstorage",
            "v1",
            setup(&[("rootPath", folder.path().to_str().unwrap())]),
        )
        .await
        .unwrap();
    let ask = binding::Ask {
        listing: Some(&[("fileName", "a")]),
        ..binding::Ask::new(
            &["create", "get", "list", "delete"],
            &[("fileName", "a/b.txt")],
            b"content of a file",
        )
    };
    binding::run(Some(&*files), None, ask).await;
}

#[tokio::test]
async fn schedules() {
    let schedule = registry()
        .input_bindings()
        .build("cron", "v1", setup(&[("schedule", "@every 1s")]))
        .await
        .unwrap();
    binding::run(None, Some(&*schedule), binding::Ask::new(&[], &[], b"")).await;
}

#[tokio::test]
async fn secrets_from_the_environment() {
    for (metadata, expected) in [
        (
            &[][..],
            &[
                ("COLOUR", &[("COLOUR", "red")][..]),
                ("P_SIZE", &[("P_SIZE", "xl")]),
            ][..],
        ),
        (&[("prefix", "P_")][..], &[("SIZE", &[("SIZE", "xl")][..])]),
    ] {
        let store = registry()
            .secret_stores()
            .build("local.env", "v1", setup(metadata))
            .await
            .unwrap();
        secrets::run(&*store, expected, secrets::Absent::Empty).await;
    }
}

#[tokio::test]
async fn secrets_from_a_file() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(br#"{"plain": "p", "db": {"user": "u", "ports": [1, true, null], "deep": {"er": "d"}}, "list": ["l"]}"#)
        .unwrap();
    let path = file.path().to_str().unwrap();
    let single: &[secrets::Expected] = &[
        ("plain", &[("plain", "p")]),
        ("db:user", &[("db:user", "u")]),
        ("db:ports:0", &[("db:ports:0", "1")]),
        ("db:ports:1", &[("db:ports:1", "true")]),
        ("db:ports:2", &[("db:ports:2", "")]),
        ("db:deep:er", &[("db:deep:er", "d")]),
        ("list:0", &[("list:0", "l")]),
    ];
    let separated: &[secrets::Expected] = &[("db.deep.er", &[("db.deep.er", "d")])];
    let grouped: &[secrets::Expected] = &[
        ("plain", &[("plain", "p")]),
        (
            "db",
            &[
                ("user", "u"),
                ("ports:0", "1"),
                ("ports:1", "true"),
                ("ports:2", ""),
                ("deep:er", "d"),
            ],
        ),
    ];
    for (metadata, expected, count) in [
        (&[("secretsFile", path)][..], single, 7),
        (
            &[("secretsFile", path), ("nestedSeparator", ".")][..],
            separated,
            7,
        ),
        (&[("secretsFile", path), ("multiValued", "true")][..], grouped, 2),
    ] {
        let store = registry()
            .secret_stores()
            .build("local.file", "v1", setup(metadata))
            .await
            .unwrap();
        secrets::run(
            &*store,
            expected,
            secrets::Absent::Error("secret absent not found"),
        )
        .await;
        assert_eq!(store.all(&Default::default()).await.unwrap().len(), count);
    }
}
