use super::Store;
use bytes::Bytes;
use futures::future::join_all;
use outrigger_component::Component as _;
use outrigger_component::error::Kind;
use outrigger_component::metadata::{self, Metadata};
use outrigger_component::setup::Setup;
use outrigger_component::state::query::Query;
use outrigger_component::state::{Concurrency, Delete, Get, Set, StateStore as _, Write};
use outrigger_testkit::setup::setup;
use rusqlite::Connection;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

async fn open(pairs: &[(&str, &str)]) -> Store {
    try_open(pairs).await.unwrap()
}

async fn try_open(pairs: &[(&str, &str)]) -> Result<Store, outrigger_component::error::Error> {
    let base = setup(pairs);
    let metadata = Metadata::from_iter(pairs.iter().copied());
    Store::connect(Setup {
        name: base.name,
        app_id: base.app_id,
        namespace: base.namespace,
        config: metadata::decode(&metadata).unwrap(),
        metadata,
        log: base.log,
        instance: base.instance,
    })
    .await
}

fn set(key: &str, value: &str) -> Set {
    Set {
        key: key.to_owned(),
        value: Bytes::copy_from_slice(value.as_bytes()),
        is_json: true,
        ..Set::default()
    }
}

async fn get(store: &Store, key: &str) -> Option<String> {
    let get = Get {
        key: key.to_owned(),
        ..Get::default()
    };
    let item = store.get(&get).await.unwrap()?;
    Some(String::from_utf8(item.value.to_vec()).unwrap())
}

fn path(file: &Path) -> &str {
    file.to_str().unwrap()
}

/// A file as the reference leaves it, with a value of each kind.
fn reference_file(file: &Path, level: &str) {
    let connection = Connection::open(file).unwrap();
    connection
        .execute_batch(&format!(
            "CREATE TABLE metadata (key text NOT NULL PRIMARY KEY, value text NOT NULL);
             INSERT INTO metadata VALUES ('migrations', '{level}');
             CREATE TABLE inttest (key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL, is_binary BOOLEAN NOT NULL,
               etag TEXT NOT NULL, expiration_time TIMESTAMP DEFAULT NULL,
               update_time TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP);
             INSERT INTO inttest (key, value, is_binary, etag) VALUES ('json', '{{\"a\":1}}', 0, 'e1');
             INSERT INTO inttest (key, value, is_binary, etag) VALUES ('bytes', 'AAEC', 1, 'e2');
             INSERT INTO inttest (key, value, is_binary, etag) VALUES ('broken', '%%%', 1, 'e3');
             INSERT INTO inttest (key, value, is_binary, etag, expiration_time)
               VALUES ('later', '1', 0, 'e4', DATETIME(CURRENT_TIMESTAMP, '+100 seconds'));
             INSERT INTO inttest (key, value, is_binary, etag, expiration_time)
               VALUES ('gone', '1', 0, 'e5', DATETIME(CURRENT_TIMESTAMP, '-1 seconds'));"
        ))
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_the_reference_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("data.db");
    reference_file(&file, "1");
    let store = open(&[
        ("connectionString", &format!("file:{}", path(&file))),
        ("tableName", "inttest"),
    ])
    .await;
    assert_eq!(get(&store, "json").await.as_deref(), Some("{\"a\":1}"));
    assert_eq!(get(&store, "bytes").await.as_deref(), Some("\0\u{1}\u{2}"));
    assert_eq!(get(&store, "later").await.as_deref(), Some("1"));
    assert_eq!(get(&store, "gone").await, None);
    let broken = Get {
        key: "broken".to_owned(),
        ..Get::default()
    };
    let error = store.get(&broken).await.unwrap_err();
    assert!(
        error.message.starts_with("failed to decode binary data"),
        "{error}"
    );
    // The tag of a value that the reference wrote guards a write here.
    let tagged = Set {
        etag: Some("e1".to_owned()),
        ..set("json", "2")
    };
    store.set(tagged.clone()).await.unwrap();
    assert_eq!(store.set(tagged).await.unwrap_err().kind, Kind::EtagMismatch);
    let bytes = Set {
        is_json: false,
        ..set("raw", "{}")
    };
    store.set(bytes).await.unwrap();
    let short = Set {
        metadata: Metadata::from_iter([("ttlInSeconds", "100")]),
        ..set("short", "1")
    };
    store.set(short).await.unwrap();
    store.close().await;

    let connection = Connection::open(&file).unwrap();
    let row = |key: &str| -> (String, bool, bool) {
        connection
            .query_row(
                // As the reference reads: text that is compared with its time of whole seconds.
                "SELECT value, is_binary, expiration_time IS NULL OR expiration_time > CURRENT_TIMESTAMP \
                 FROM inttest WHERE key = ?1",
                [key],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )
            .unwrap()
    };
    assert_eq!(row("json"), ("2".to_owned(), false, true));
    assert_eq!(row("raw"), ("e30=".to_owned(), true, true));
    assert_eq!(row("short"), ("1".to_owned(), false, true));
    let level: String = connection
        .query_row("SELECT value FROM metadata WHERE key = 'migrations'", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(level, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_of_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("data.db");
    reference_file(&file, "many");
    let missing = folder.path().join("no/such/folder.db");
    for (connection, expected) in [
        ("", "missing connection string"),
        (
            path(&file),
            "failed to perform migrations: invalid migration level found in metadata table: many",
        ),
        (path(&missing), "failed to create connection: "),
    ] {
        let error = try_open(&[("connectionString", connection)]).await.err().unwrap();
        assert!(error.message.starts_with(expected), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neighbours_in_a_transaction_do_not_fail_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("data.db");
    let store = Arc::new(open(&[("connectionString", path(&file))]).await);
    store.set(set("there", "0")).await.unwrap();
    // All at once, so that they share transactions.
    let writes = (0..600).map(|number| {
        let store = Arc::clone(&store);
        async move {
            let key = format!("k{number}");
            match number % 4 {
                0 => store.set(set(&key, "1")).await,
                1 => {
                    let first = Set {
                        concurrency: Concurrency::FirstWrite,
                        ..set("there", "1")
                    };
                    store.set(first).await
                }
                2 => {
                    let writes = vec![
                        Write::Set(set(&key, "1")),
                        Write::Set(set(&format!("{key}b"), "1")),
                    ];
                    store.transact(writes, &Metadata::new()).await
                }
                _ => {
                    let stale = Delete {
                        key: "there".to_owned(),
                        etag: Some("other".to_owned()),
                        ..Delete::default()
                    };
                    let writes = vec![Write::Set(set(&key, "1")), Write::Delete(stale)];
                    store.transact(writes, &Metadata::new()).await
                }
            }
        }
    });
    let outcomes = join_all(writes).await;
    for (number, outcome) in outcomes.iter().enumerate() {
        let kind = outcome.as_ref().err().map(|error| error.kind);
        let expected = (number % 4 == 1 || number % 4 == 3).then_some(Kind::EtagMismatch);
        assert_eq!(kind, expected, "{number}");
        let kept = get(&store, &format!("k{number}")).await.is_some();
        assert_eq!(kept, number % 4 == 0 || number % 4 == 2, "{number}");
    }
    assert_eq!(get(&store, "k2b").await.as_deref(), Some("1"));
    assert_eq!(get(&store, "there").await.as_deref(), Some("0"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_cannot_be_committed_is_tried_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("data.db");
    // Ten pages more than it has: a large value does not fit, and ends the transaction it is in.
    let limit = format!("{}?_pragma=max_page_count(20)", path(&file));
    let store = Arc::new(open(&[("connectionString", &limit)]).await);
    let writes = (0..20).map(|number| {
        let store = Arc::clone(&store);
        async move {
            let value = if number == 7 {
                "x".repeat(1 << 20)
            } else {
                "1".to_owned()
            };
            store.set(set(&format!("k{number}"), &value)).await
        }
    });
    for (number, outcome) in join_all(writes).await.into_iter().enumerate() {
        let kind = outcome.err().map(|error| error.kind);
        assert_eq!(kind, (number == 7).then_some(Kind::Exhausted), "{number}");
    }
    assert_eq!(get(&store, "k19").await.as_deref(), Some("1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_that_writes_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("data.db");
    let store = open(&[("connectionString", path(&file)), ("busyTimeout", "300ms")]).await;
    let patient = open(&[("connectionString", path(&file)), ("busyTimeout", "60s")]).await;
    let other = Connection::open(&file).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.set(set("a", "1")).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable, "{error}");
    assert_eq!(get(&store, "a").await, None, "readers are not disturbed");
    let release = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        other.execute_batch("COMMIT").unwrap();
    };
    let (written, ()) = tokio::join!(patient.set(set("a", "1")), release);
    written.unwrap();
    assert_eq!(get(&store, "a").await.as_deref(), Some("1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_expired_is_deleted_by_one_of_two() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("data.db");
    let pairs = [("connectionString", path(&file)), ("cleanupInterval", "1s")];
    let (one, other) = (open(&pairs).await, open(&pairs).await);
    let short = Set {
        metadata: Metadata::from_iter([("ttlInSeconds", "1")]),
        ..set("short", "1")
    };
    one.set(short).await.unwrap();
    other.set(set("long", "1")).await.unwrap();
    let connection = Connection::open(&file).unwrap();
    let rows = || -> i64 {
        connection
            .query_row("SELECT COUNT(*) FROM state", [], |row| row.get(0))
            .unwrap()
    };
    assert_eq!(rows(), 2);
    let gone = async {
        while rows() > 1 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone)
        .await
        .expect("it is deleted");
    let cleaned: String = connection
        .query_row(
            "SELECT value FROM metadata WHERE key = 'last-cleanup'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(
        cleaned.len(),
        "2030-01-01 00:00:00".len(),
        "as the reference keeps it"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_see_json_of_their_prefix() {
    let store = open(&[("connectionString", ":memory:"), ("queryAPI", "true")]).await;
    store
        .set(set("shop||a", r#"{"state":"CA","n":1}"#))
        .await
        .unwrap();
    store
        .set(set("shop||b", r#"{"state":"CA","n":3}"#))
        .await
        .unwrap();
    let bytes = Set {
        is_json: false,
        ..set("shop||c", r#"{"state":"CA","n":2}"#)
    };
    store.set(bytes).await.unwrap();
    store
        .set(set("other||d", r#"{"state":"CA","n":9}"#))
        .await
        .unwrap();
    let text = br#"{"filter":{"EQ":{"state":"CA"}},"sort":[{"key":"n","order":"DESC"}],"page":{"limit":2}}"#;
    let mut query = Query {
        prefix: "shop||".to_owned(),
        ..Query::parse(text).unwrap()
    };
    let page = store.query(&query).await.unwrap();
    let keys: Vec<_> = page.results.iter().map(|found| found.key.as_str()).collect();
    assert_eq!(keys, ["shop||b", "shop||c"]);
    assert!(page.results.iter().all(|found| found.etag.is_some()));
    query.token = page.token;
    let page = store.query(&query).await.unwrap();
    assert_eq!((page.results.len(), page.token), (1, None));
    let plain = open(&[("connectionString", ":memory:")]).await;
    assert_eq!(plain.query(&query).await.unwrap_err().kind, Kind::Unsupported);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writes_move_the_log_and_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("data.db");
    let store = Arc::new(open(&[("connectionString", path(&file))]).await);
    let value = "x".repeat(2000);
    for round in 0..20 {
        let writes = (0..200).map(|number| store.set(set(&format!("{round}-{number}"), &value)));
        for outcome in join_all(writes).await {
            outcome.unwrap();
        }
    }
    let sets = (0..300)
        .map(|number| set(&format!("bulk-{number}"), "1"))
        .collect();
    for outcome in store.bulk_set(sets).await.unwrap() {
        outcome.unwrap();
    }
    let gets: Vec<Get> = (0..700)
        .map(|number| Get {
            key: format!("bulk-{number}"),
            ..Get::default()
        })
        .collect();
    let found = store.bulk_get(&gets).await.unwrap();
    let there = found
        .iter()
        .filter(|item| item.as_ref().unwrap().is_some())
        .count();
    assert_eq!((found.len(), there), (700, 300));
    store.close().await;
    assert_eq!(
        store.set(set("late", "1")).await.unwrap_err().kind,
        Kind::Unavailable
    );
    let connection = Connection::open(&file).unwrap();
    let rows: i64 = connection
        .query_row("SELECT COUNT(*) FROM state", [], |row| row.get(0))
        .unwrap();
    assert_eq!(rows, 4300);
}
