//! The suites of the testkit, against what this crate registers.

use outrigger_component::registry::Registry;
use outrigger_components_builtin::register;
use outrigger_components_builtin::secrets::environment::Environment;
use outrigger_testkit::conformance::{pubsub, secrets, state};
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

#[tokio::test]
async fn pubsub_in_memory() {
    let broker = registry()
        .brokers()
        .build("in-memory", "v1", setup(&[]))
        .await
        .unwrap();
    let nature = pubsub::Nature {
        durable: false,
        redelivery: Duration::from_secs(1),
    };
    pubsub::run(&*broker, "topic-", nature).await;
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
