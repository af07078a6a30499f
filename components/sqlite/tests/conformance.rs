//! The suite of the testkit, on a file, in memory, and without a write-ahead log.

use outrigger_component::registry::Registry;
use outrigger_components_sqlite::register;
use outrigger_testkit::conformance::state;
use outrigger_testkit::setup::setup;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.db");
    let other = folder.path().join("other.db");
    let mut registry = Registry::default();
    register(&mut registry);
    let (file, other) = (file.to_str().unwrap(), other.to_str().unwrap());
    for (metadata, capabilities) in [
        (
            &[("connectionString", file), ("queryAPI", "true")][..],
            &["ETAG", "TRANSACTIONAL", "TTL", "QUERY_API", "KEYS_LIKE"][..],
        ),
        (
            &[("connectionString", ":memory:")],
            &["ETAG", "TRANSACTIONAL", "TTL", "KEYS_LIKE"],
        ),
        (
            &[("connectionString", other), ("disableWAL", "true")],
            &["ETAG", "TRANSACTIONAL", "TTL", "KEYS_LIKE"],
        ),
    ] {
        let store = registry
            .state_stores()
            .build("sqlite", "v1", setup(metadata))
            .await
            .unwrap();
        assert_eq!(store.features().names(), capabilities);
        state::run(&*store, "app").await;
        store.ping().await.unwrap();
        store.close().await;
    }
}
