//! What is in the tables: the reference's layout.

use super::store;
use outrigger_component::error::Kind;
use outrigger_component::metadata::Metadata;
use outrigger_component::state::{KeysLike, Set};
use outrigger_testkit::servers::postgresql::start;
use outrigger_testkit::store::{get, set};
use outrigger_testkit::until::until;
use std::time::Duration;

/// COMPAT(components-contrib state/postgresql/v1).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn version_1_is_laid_out_as_the_reference_does() {
    let Some(server) = start(&[]).await else { return };
    let store = store(&server, "v1", &[]).await;
    assert_eq!(
        server
            .sql("SELECT key, value FROM dapr_metadata ORDER BY key")
            .await,
        "lock|lock\nmigrations|3"
    );
    assert_eq!(
        server
            .sql("SELECT column_name, data_type, is_nullable, is_identity FROM information_schema.columns WHERE table_name = 'state' ORDER BY ordinal_position")
            .await,
        "key|text|NO|NO\nvalue|jsonb|NO|NO\nisbinary|boolean|NO|NO\ninsertdate|timestamp with time zone|NO|NO\n\
         updatedate|timestamp with time zone|YES|NO\nexpiredate|timestamp with time zone|YES|NO\nrow_id|bigint|NO|YES"
    );
    assert_eq!(
        server
            .sql("SELECT indexname FROM pg_indexes WHERE tablename = 'state' ORDER BY 1")
            .await,
        "state_pkey\nstate_row_id_uidx"
    );
    let json = |key: &str, value: &str| Set {
        is_json: true,
        ..set(key, value)
    };
    store.set(json("j", r#"{"b":1, "a":"x"}"#)).await.unwrap();
    store.set(set("t", "text")).await.unwrap();
    assert_eq!(
        server
            .sql("SELECT key, value, isbinary, updatedate IS NULL FROM state ORDER BY key")
            .await,
        "j|{\"a\": \"x\", \"b\": 1}|f|t\nt|\"dGV4dA==\"|t|t"
    );
    let first = get(&*store, "j").await.unwrap();
    assert_eq!(
        first.1,
        server.sql("SELECT xmin FROM state WHERE key = 'j'").await
    );
    store.set(json("j", "2")).await.unwrap();
    assert_eq!(
        server
            .sql("SELECT updatedate > insertdate FROM state WHERE key = 'j'")
            .await,
        "t"
    );
    for tag in ["-1", "x", "4294967296"] {
        let set = Set {
            etag: Some(tag.to_owned()),
            ..json("j", "3")
        };
        assert_eq!(store.set(set).await.unwrap_err().kind, Kind::EtagInvalid, "{tag}");
    }
    // What the reference writes, we read.
    server.sql("INSERT INTO state (key, value, isbinary) VALUES ('theirs', '[1, 2]', false), ('bytes', '\"/wA=\"', true)").await;
    assert_eq!(get(&*store, "theirs").await.unwrap().0, "[1, 2]");
    let bytes = store
        .get(&outrigger_component::state::Get {
            key: "bytes".to_owned(),
            ..Default::default()
        })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&bytes.value[..], b"\xff\0");
}

/// COMPAT(components-contrib state/postgresql/v2).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn version_2_is_laid_out_as_the_reference_does() {
    let Some(server) = start(&[]).await else { return };
    let store = store(&server, "v2", &[("tablePrefix", "p_")]).await;
    assert_eq!(
        server
            .sql("SELECT key, value FROM dapr_metadata ORDER BY key")
            .await,
        "lock|lock\nmigrations-state-v2-p_|2"
    );
    assert_eq!(
        server
            .sql("SELECT column_name, data_type, is_nullable, is_identity FROM information_schema.columns WHERE table_name = 'p_state' ORDER BY ordinal_position")
            .await,
        "key|text|NO|NO\nvalue|bytea|NO|NO\netag|uuid|NO|NO\ncreated_at|timestamp with time zone|NO|NO\n\
         updated_at|timestamp with time zone|YES|NO\nexpires_at|timestamp with time zone|YES|NO\nrow_id|bigint|NO|YES"
    );
    assert_eq!(
        server
            .sql("SELECT indexname FROM pg_indexes WHERE tablename = 'p_state' ORDER BY 1")
            .await,
        "p_state_expires_at_idx\np_state_pkey\np_state_row_id_uidx"
    );
    store
        .set(Set {
            is_json: true,
            ..set("j", "{\"b\":1, \"a\":2}")
        })
        .await
        .unwrap();
    let (value, tag) = get(&*store, "j").await.unwrap();
    assert_eq!(value, "{\"b\":1, \"a\":2}", "byte for byte");
    assert_eq!(
        server
            .sql("SELECT convert_from(value, 'UTF8'), etag FROM p_state")
            .await,
        format!("{{\"b\":1, \"a\":2}}|{tag}")
    );
    let odd = Set {
        etag: Some("7".to_owned()),
        ..set("j", "1")
    };
    assert_eq!(store.set(odd).await.unwrap_err().kind, Kind::EtagMismatch);
}

/// A table from before the columns of today, with rows in it; and one that somebody has made by hand, all columns there and no
/// word of it in the metadata table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_tables_are_taken_over() {
    let Some(server) = start(&[]).await else { return };
    server
        .sql(
            "CREATE TABLE state (key text NOT NULL PRIMARY KEY, value jsonb NOT NULL, isbinary boolean NOT NULL, \
             insertdate TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(), updatedate TIMESTAMP WITH TIME ZONE NULL); \
             INSERT INTO state (key, value, isbinary, insertdate) VALUES ('b', '1', false, '2020-01-02'), ('a', '2', false, '2020-01-03'); \
             CREATE TABLE dapr_metadata (key text NOT NULL PRIMARY KEY, value text NOT NULL); \
             INSERT INTO dapr_metadata VALUES ('migrations', '1')",
        )
        .await;
    let first = store(&server, "v1", &[]).await;
    assert_eq!(get(&*first, "a").await.unwrap().0, "2");
    first.set(set("c", "3")).await.unwrap();
    assert_eq!(
        server.sql("SELECT key, row_id FROM state ORDER BY row_id").await,
        "b|1\na|2\nc|3"
    );
    assert_eq!(
        server
            .sql("SELECT value FROM dapr_metadata WHERE key = 'migrations'")
            .await,
        "3"
    );
    let page = first
        .keys_like(&KeysLike {
            pattern: "%".to_owned(),
            page_size: Some(2),
            continuation: None,
        })
        .await
        .unwrap();
    assert_eq!(
        (page.keys, page.continuation.as_deref()),
        (vec!["b".to_owned(), "a".to_owned()], Some("2"))
    );

    server
        .sql(
            "CREATE SCHEMA mine; CREATE TABLE mine.state (key text NOT NULL PRIMARY KEY, value bytea NOT NULL, \
             etag uuid NOT NULL DEFAULT gen_random_uuid(), created_at timestamp with time zone NOT NULL DEFAULT now(), \
             updated_at timestamp with time zone, expires_at timestamp with time zone, \
             row_id bigint GENERATED BY DEFAULT AS IDENTITY); \
             INSERT INTO mine.state (key, value) VALUES ('k', 'v')",
        )
        .await;
    let second = store(&server, "v2", &[("tablePrefix", "mine.")]).await;
    assert_eq!(get(&*second, "k").await.unwrap().0, "v");
    second.set(set("k", "w")).await.unwrap();
    assert_eq!(
        server
            .sql("SELECT convert_from(value, 'UTF8'), row_id FROM mine.state")
            .await,
        "w|1"
    );
    // Nothing is left to do for the next sidecar.
    store(&server, "v2", &[("tablePrefix", "mine.")]).await;

    server
        .sql("UPDATE dapr_metadata SET value = 'many' WHERE key = 'migrations'")
        .await;
    let text = server.connection_string();
    let error = super::try_store("v1", &[("connectionString", &text)])
        .await
        .err()
        .expect("refused");
    assert!(
        error
            .message
            .contains("invalid migration level found in metadata table: many"),
        "{error}"
    );
}

/// Sidecars that start at the same time on an empty database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_begin_at_once() {
    let Some(server) = start(&[]).await else { return };
    // Where they meet is chance: several rounds, each with tables of its own.
    for round in 0..8 {
        let (first, second) = (format!("first{round}"), format!("second{round}_"));
        let names = [
            ("tableName", first.as_str()),
            ("metadataTableName", &format!("meta{round}")),
            ("tablePrefix", second.as_str()),
        ];
        let stores = futures::future::join_all(
            (0..8).map(|number| store(&server, if number % 2 == 0 { "v1" } else { "v2" }, &names)),
        );
        for (number, store) in stores.await.iter().enumerate() {
            store.set(set(&format!("k{number}"), "1")).await.unwrap();
        }
        assert_eq!(server.sql(&format!("SELECT count(*) FROM {first}")).await, "4");
    }
}

/// Of several sidecars, one deletes what has expired, once for each interval.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_expired_is_deleted_by_one() {
    let Some(server) = start(&[]).await else { return };
    for (version, table, key) in [
        ("v1", "state", "last-cleanup"),
        ("v2", "x_state", "last-cleanup-state-v2-x_"),
    ] {
        let metadata = [("cleanupInterval", "1s"), ("tablePrefix", "x_")];
        let stores = futures::future::join_all((0..3).map(|_| store(&server, version, &metadata))).await;
        let short: Metadata = [("ttlInSeconds", "1")].into_iter().collect();
        stores[0]
            .set(Set {
                metadata: short,
                ..set("short", "1")
            })
            .await
            .unwrap();
        stores[0].set(set("long", "1")).await.unwrap();
        let count = format!("SELECT count(*) FROM {table}");
        let gone = async || server.sql(&count).await == "1";
        until("the expired row is deleted", Duration::from_secs(10), gone).await;
        let seen = server.sql(&format!("SELECT now() - value::timestamptz < interval '3 seconds' FROM dapr_metadata WHERE key = '{key}'")).await;
        assert_eq!(seen, "t", "{key}");
        // Somebody has just done it: all others leave it.
        for store in &stores {
            store.close().await;
        }
    }
    server.sql("INSERT INTO dapr_metadata VALUES ('last-cleanup', (now() + interval '1 hour')::text) ON CONFLICT (key) DO UPDATE SET value = excluded.value").await;
    server.sql("INSERT INTO state (key, value, isbinary, expiredate) VALUES ('stays', '1', false, now() - interval '1 day')").await;
    let late = store(&server, "v1", &[("cleanupInterval", "1s")]).await;
    // Two intervals in which nothing is deleted.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(
        server.sql("SELECT count(*) FROM state WHERE key = 'stays'").await,
        "1"
    );
    assert_eq!(get(&*late, "stays").await, None);
}
