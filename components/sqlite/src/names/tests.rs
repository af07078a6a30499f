use super::Resolver;
use outrigger_component::Component as _;
use outrigger_component::metadata::{self, Metadata};
use outrigger_component::resolver::{NameResolver as _, Target};
use outrigger_component::setup::Setup;
use outrigger_testkit::setup::setup;
use std::path::Path;
use std::time::Duration;

async fn sidecar(file: &Path, app: &str, port: u16) -> Resolver {
    let pairs = [
        ("connectionString", file.to_str().unwrap()),
        ("updateInterval", "2s"),
        ("timeout", "1s"),
    ];
    let base = setup(&pairs);
    let mut instance = base.instance.clone();
    instance.app_id = app.to_owned();
    instance.internal_port = port;
    let config = metadata::decode(&Metadata::from_iter(pairs)).unwrap();
    Resolver::connect(Setup {
        name: base.name,
        app_id: app.to_owned(),
        namespace: base.namespace,
        config,
        metadata: base.metadata,
        log: base.log,
        instance,
    })
    .await
    .unwrap()
}

async fn found(resolver: &Resolver, app: &str) -> Vec<String> {
    let target = Target {
        app_id: app.to_owned(),
        namespace: "default".to_owned(),
    };
    let found = resolver.resolve(&target).await.unwrap();
    let mut addresses: Vec<_> = found.into_iter().map(|endpoint| endpoint.0).collect();
    addresses.sort();
    addresses
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sidecars_find_each_other_as_long_as_they_renew() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("names.db");
    let shop = sidecar(&file, "shop", 1).await;
    let one = sidecar(&file, "billing", 2).await;
    let two = sidecar(&file, "billing", 3).await;
    assert_eq!(found(&shop, "billing").await, ["127.0.0.1:2", "127.0.0.1:3"]);
    assert_eq!(found(&two, "shop").await, ["127.0.0.1:1"]);
    assert!(found(&shop, "nobody").await.is_empty());
    // One leaves, the other is gone without a word.
    one.close().await;
    assert_eq!(found(&shop, "billing").await, ["127.0.0.1:3"]);
    two.tasks.abort();
    let forgotten = async {
        while !found(&shop, "billing").await.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), forgotten)
        .await
        .expect("who does not renew is forgotten");
    assert_eq!(found(&two, "shop").await, ["127.0.0.1:1"], "shop renews");
    // An address that is announced anew is the new one's.
    let three = sidecar(&file, "orders", 3).await;
    assert_eq!(found(&shop, "orders").await, ["127.0.0.1:3"]);
    for resolver in [shop, three] {
        resolver.close().await;
    }
    let rows: i64 = rusqlite::Connection::open(&file)
        .unwrap()
        .query_row("SELECT COUNT(*) FROM hosts", [], |row| row.get(0))
        .unwrap();
    assert_eq!(rows, 0, "who leaves takes its row along");
}
