//! A server that has no more: disk, connections.

use super::{store, try_store};
use outrigger_component::error::Kind;
use outrigger_testkit::disk::Disk;
use outrigger_testkit::limits::exhausted;
use outrigger_testkit::servers::postgresql::{PASSWORD, start};
use outrigger_testkit::store::{get, set};

#[tokio::test]
async fn a_full_disk() {
    let Some(disk) = Disk::mount(8) else { return };
    let Some(server) = start(&[]).await else { return };
    disk.give_to("postgres");
    let tablespace = format!("CREATE TABLESPACE small LOCATION '{}'", disk.path().display());
    server.sql(&tablespace).await;
    server
        .sql("ALTER DATABASE postgres SET default_tablespace = small")
        .await;
    for version in ["v1", "v2"] {
        let metadata_table = format!("metadata_{version}");
        let tables = [("tableName", version), ("metadataTableName", &metadata_table)];
        let store = store(&server, version, &tables).await;
        store.set(set("k", "v")).await.unwrap();
        let ballast = disk.path().join("ballast");
        std::fs::write(&ballast, vec![0; 2 << 20]).unwrap();
        let (_, error) = exhausted(100, async |number| {
            store
                .set(set(&format!("k{number}"), &incompressible(number)))
                .await
        })
        .await;
        assert_eq!(error.kind, Kind::Exhausted, "{version}: {error:?}");
        for expected in ["No space left on device", "SQLSTATE 53100"] {
            assert!(error.message.contains(expected), "{version}: {expected}: {error}");
        }
        assert!(!error.message.contains(PASSWORD), "{error}");
        assert_eq!(get(&*store, "k").await.unwrap().0, "v", "{version}");
        // Somebody makes room.
        std::fs::remove_file(&ballast).unwrap();
        store.set(set("k", &incompressible(0))).await.unwrap();
        store.close().await;
        if version == "v1" {
            server.sql("DROP TABLE v1").await;
        }
    }
    // The tables are gone before the disk is.
    drop(server);
}

#[tokio::test]
async fn a_server_without_connections() {
    let options = [
        "-c",
        "max_connections=6",
        "-c",
        "superuser_reserved_connections=0",
    ];
    let Some(server) = start(&options).await else {
        return;
    };
    let text = server.connection_string();
    let metadata = [("connectionString", text.as_str()), ("maxConns", "1")];
    let (mut stores, error) = exhausted(7, async |_| try_store("v2", &metadata).await).await;
    assert_eq!(error.kind, Kind::Unavailable, "{error:?}");
    assert!(
        error.message.contains("too many clients") && !error.message.contains(PASSWORD),
        "{error}"
    );
    let first = stores.pop().unwrap();
    first.set(set("k", "v")).await.unwrap();
    first.close().await;
    drop((first, stores));
    let again = async {
        loop {
            match try_store("v2", &metadata).await {
                Ok(store) => return store,
                // The server needs a moment to notice who is gone.
                Err(error) => assert_eq!(error.kind, Kind::Unavailable, "{error:?}"),
            }
        }
    };
    let again = tokio::time::timeout(std::time::Duration::from_secs(10), again).await;
    assert_eq!(get(&*again.expect("in time"), "k").await.unwrap().0, "v");
}

/// Half a mebibyte of text, another one for each number.
fn incompressible(number: usize) -> String {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..32_768)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            format!("{state:016x}")
        })
        .collect()
}
