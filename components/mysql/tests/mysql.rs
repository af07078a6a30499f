//! Against a real server; skipped loudly where none is installed.

use futures::future::join_all;
use outrigger_component::binding::{Invoke, Output, OutputBinding};
use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::metadata::Metadata;
use outrigger_component::registry::Registry;
use outrigger_component::state::{KeysLike, Set, StateStore, Write};
use outrigger_components_mysql::register;
use outrigger_testkit::conformance::state::{self, churn};
use outrigger_testkit::limits::exhausted;
use outrigger_testkit::servers::mariadb::{Mariadb, PASSWORD, USER, start};
use outrigger_testkit::setup::setup;
use outrigger_testkit::store::{get, set};
use outrigger_testkit::until::until;
use std::sync::Arc;
use std::time::Duration;

fn registry() -> Registry {
    let mut registry = Registry::default();
    register(&mut registry);
    registry
}

async fn try_store(metadata: &[(&str, &str)]) -> Result<Arc<dyn StateStore>, Error> {
    registry()
        .state_stores()
        .build("mysql", "v1", setup(metadata))
        .await
}

async fn store(server: &Mariadb, metadata: &[(&str, &str)]) -> Arc<dyn StateStore> {
    let dsn = server.dsn();
    let store = try_store(&[&[("connectionString", dsn.as_str())], metadata].concat()).await;
    store.unwrap_or_else(|error| panic!("{error}"))
}

async fn binding(server: &Mariadb) -> Arc<dyn OutputBinding> {
    let dsn = format!("{}mysql?parseTime=true", server.dsn());
    let built = registry()
        .output_bindings()
        .build("mysql", "v1", setup(&[("url", &dsn)]))
        .await;
    built.unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_conforms() {
    let Some(server) = start(&["--innodb-flush-log-at-trx-commit=0"]).await else {
        return;
    };
    let store = store(&server, &[]).await;
    assert_eq!(
        store.features().names(),
        ["ETAG", "TRANSACTIONAL", "TTL", "KEYS_LIKE"]
    );
    state::run(&*store, "app").await;
    store.close().await;
    assert_eq!(
        store.set(set("late", "1")).await.unwrap_err().kind,
        Kind::Unavailable
    );
}

/// COMPAT(components-contrib state/mysql).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_laid_out_as_the_reference_does() {
    let Some(server) = start(&[]).await else { return };
    let store = store(&server, &[("schemaName", "mine")]).await;
    assert_eq!(
        server.sql("SELECT column_name, column_type, is_nullable, column_key FROM information_schema.columns WHERE table_schema = 'mine' AND table_name = 'state' ORDER BY ordinal_position").await,
        "id\tvarchar(255)\tNO\tPRI\nvalue\tlongtext\tNO\t\nisbinary\ttinyint(1)\tNO\t\ninsertDate\ttimestamp\tNO\t\nupdateDate\ttimestamp\tNO\t\n\
         eTag\tvarchar(36)\tNO\t\nexpiredate\ttimestamp(6)\tYES\tMUL\nrow_id\tbigint(20) unsigned\tNO\tUNI"
    );
    let json = Set {
        is_json: true,
        ..set("j", "{\"b\":1, \"a\":2}")
    };
    store.set(json.clone()).await.unwrap();
    store.set(set("t", "text")).await.unwrap();
    let (value, tag) = get(&*store, "j").await.unwrap();
    assert_eq!(value, "{\"b\":1, \"a\":2}");
    assert_eq!(
        server
            .sql("SELECT id, value, isbinary, eTag = '' FROM mine.state ORDER BY id")
            .await,
        "j\t{\"b\":1, \"a\":2}\t0\t0\nt\t\"dGV4dA==\"\t1\t0"
    );
    assert_eq!(
        server.sql("SELECT eTag FROM mine.state WHERE id = 'j'").await,
        tag
    );
    server.sql("INSERT INTO mine.state (id, value, isbinary, eTag) VALUES ('theirs', '[1]', 0, 'x'), ('bytes', '\"/wA=\"', 1, 'y')").await;
    assert_eq!(
        get(&*store, "theirs").await.unwrap(),
        ("[1]".to_owned(), "x".to_owned())
    );
    store.set(set("J", "other")).await.unwrap();
    assert_eq!(
        get(&*store, "j").await.unwrap().0,
        value,
        "keys differ by the case of letters"
    );
    let broken = Set {
        is_json: true,
        ..set("broken", "{")
    };
    assert_eq!(store.set(broken).await.unwrap_err().kind, Kind::Invalid);
}

/// A table from before the columns of today, with rows in it, as the reference made it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_tables_are_taken_over() {
    let Some(server) = start(&[]).await else { return };
    server
        .sql(
            "CREATE DATABASE dapr_state_store; USE dapr_state_store; CREATE TABLE state (id VARCHAR(255) NOT NULL PRIMARY KEY, \
             value JSON NOT NULL, isbinary BOOLEAN NOT NULL, insertDate TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, \
             updateDate TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, eTag VARCHAR(36) NOT NULL); \
             INSERT INTO state (id, value, isbinary, eTag) VALUES ('a', '1', 0, 'e')",
        )
        .await;
    let stores = join_all((0..4).map(|_| store(&server, &[]))).await;
    let store = &stores[0];
    assert_eq!(
        get(&**store, "a").await.unwrap(),
        ("1".to_owned(), "e".to_owned())
    );
    store
        .set(Set {
            etag: Some("e".to_owned()),
            ..set("a", "2")
        })
        .await
        .unwrap();
    store.set(set("b", "3")).await.unwrap();
    let page = store
        .keys_like(&KeysLike {
            pattern: "%".to_owned(),
            page_size: Some(1),
            continuation: None,
        })
        .await
        .unwrap();
    assert_eq!(
        (page.keys, page.continuation.as_deref()),
        (vec!["a".to_owned()], Some("1"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_expired_is_deleted_by_one() {
    let Some(server) = start(&[]).await else { return };
    let stores = join_all((0..2).map(|_| store(&server, &[("cleanupInterval", "1s")]))).await;
    let metadata: Metadata = [("ttlInSeconds", "1")].into_iter().collect();
    stores[0]
        .set(Set {
            metadata,
            ..set("short", "1")
        })
        .await
        .unwrap();
    stores[0].set(set("long", "1")).await.unwrap();
    let count = "SELECT count(*) FROM dapr_state_store.state";
    let gone = async || server.sql(count).await == "1";
    until("the expired row is deleted", Duration::from_secs(15), gone).await;
    assert_eq!(
        server.sql("SELECT id FROM dapr_state_store.dapr_metadata").await,
        "last-cleanup"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_collide() {
    let Some(server) = start(&["--innodb-flush-log-at-trx-commit=0"]).await else {
        return;
    };
    let store = store(&server, &[]).await;
    let metadata = Metadata::new();
    let work = (0..100).map(|number| {
        let (store, metadata) = (&store, &metadata);
        async move {
            let value = number.to_string();
            let (one, other) = if number % 2 == 0 { ("a", "b") } else { ("b", "a") };
            let both = vec![Write::Set(set(one, &value)), Write::Set(set(other, &value))];
            let (single, whole) = tokio::join!(store.set(set("c", &value)), store.transact(both, metadata));
            single.and(whole)
        }
    });
    for outcome in join_all(work).await {
        outcome.unwrap_or_else(|error| panic!("{error}"));
    }
    assert_eq!(
        get(&*store, "a").await.unwrap().0,
        get(&*store, "b").await.unwrap().0,
        "the last wrote both"
    );
}

/// The server is killed in the middle of writing and comes again: what was accepted is there, and the store works again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_under_load() {
    let Some(mut server) = start(&["--innodb-flush-log-at-trx-commit=2"]).await else {
        return;
    };
    let store = store(&server, &[("timeoutInSeconds", "5")]).await;
    let load = churn::interrupted(&*store, 1, Duration::from_secs(6), async || {
        server.kill();
        // Nobody is to sleep through the gap.
        tokio::time::sleep(Duration::from_millis(100)).await;
        server.restart().await;
    })
    .await;
    assert!(
        load.refused.iter().all(|refused| *refused > 0),
        "each writer has met the gap: {load:?}"
    );
}

#[tokio::test]
async fn refused() {
    let Some(server) = start(&[]).await else { return };
    let wrong = format!("{USER}:hunter2@tcp(127.0.0.1:{})/", server.port());
    let nobody = format!("{USER}:{PASSWORD}@tcp(127.0.0.1:1)/");
    let with_database = format!("{}db", server.dsn());
    let over_tls = format!("{}?tls=skip-verify", server.dsn());
    for (metadata, kind, text) in [
        (&[][..], Kind::Invalid, "missing connection string"),
        (
            &[("connectionString", "x/"), ("tableName", "a;b")],
            Kind::Invalid,
            "table name 'a;b' is not valid",
        ),
        (
            &[("connectionString", "x/"), ("schemaName", "")],
            Kind::Invalid,
            "schema name '' is not valid",
        ),
        (
            &[("connectionString", &wrong)],
            Kind::PermissionDenied,
            "Error 1045 (28000): Access denied for user 'dapr'@",
        ),
        (
            &[("connectionString", &nobody)],
            Kind::Unavailable,
            "failed to connect to the database at 127.0.0.1:1: ",
        ),
        (
            &[("connectionString", &with_database)],
            Kind::Invalid,
            "set schemaName",
        ),
        (&[("connectionString", &over_tls)], Kind::Internal, "SSL"),
    ] {
        let error = try_store(metadata).await.err().expect("refused");
        assert_eq!(error.kind, kind, "{error:?}");
        assert!(
            error.message.contains(text) && !error.message.contains("hunter2"),
            "{error}"
        );
    }
    let preferred = format!("{}?tls=preferred", server.dsn());
    let store = try_store(&[("connectionString", &preferred)])
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    store.set(set("k", "v")).await.unwrap();
}

/// Somebody who speaks something else, and somebody who says nothing.
#[tokio::test]
async fn another_protocol_on_the_port() {
    use tokio::io::AsyncWriteExt as _;
    for answer in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"-ERR unknown command\r\n",
        b"",
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answering = async {
            let mut held = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(answer).await.unwrap();
                held.push(stream);
            }
        };
        let dsn = format!("u:p@tcp(127.0.0.1:{port})/");
        let metadata = [("connectionString", dsn.as_str()), ("timeoutInSeconds", "2")];
        let trying = tokio::time::timeout(Duration::from_secs(20), try_store(&metadata));
        let error = tokio::select! {
            error = trying => error.expect("in time").err().expect("refused"),
            () = answering => unreachable!("the loop does not end"),
        };
        assert!(error.message.contains(&format!("127.0.0.1:{port}")), "{error}");
    }
}

async fn invoke(
    binding: &Arc<dyn OutputBinding>,
    operation: &str,
    sql: &str,
    params: &str,
) -> Result<Option<Output>, Error> {
    let mut metadata = Metadata::new();
    for (name, value) in [("sql", sql), ("params", params)] {
        if !value.is_empty() {
            metadata.insert(name, value);
        }
    }
    let invoke = Invoke {
        operation: operation.to_owned(),
        metadata,
        ..Invoke::default()
    };
    binding.invoke(invoke).await.map_err(|failed| failed.error)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_and_their_rows() {
    let Some(server) = start(&[]).await else { return };
    let binding = binding(&server).await;
    server.sql("CREATE DATABASE shop; CREATE TABLE shop.foo (id BIGINT, v VARCHAR(50), t DATETIME(3), d DATE, p DECIMAL(10,2), f DOUBLE, b BLOB, o BOOLEAN, c TIME, j JSON)").await;
    let insert = "INSERT INTO shop.foo VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?), (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)";
    let params =
        r#"[1, "it's", "2024-01-02 03:04:05.5", "2024-02-29", "1.50", 2.5, "ab", true, "01:02:03", {"a":1}]"#;
    let said = invoke(&binding, "exec", insert, params)
        .await
        .unwrap_or_else(|error| panic!("{error}"))
        .unwrap();
    let value = |name| {
        said.metadata
            .get(name)
            .unwrap_or_else(|| panic!("{name} is said"))
    };
    assert_eq!(
        (value("operation"), value("sql"), value("rows-affected")),
        ("exec", insert, "2")
    );
    assert!(
        value("start-time").ends_with('Z')
            && value("end-time").ends_with('Z')
            && value("duration").ends_with('s')
    );
    let expected = r#"[{"id":1,"v":"it's","t":"2024-01-02T03:04:05.5Z","d":"2024-02-29T00:00:00Z","p":"1.50","f":2.5,"b":"YWI=","o":1,"c":"01:02:03","j":"{\"a\":1}"},{"id":2}]"#;
    let expected: serde_json::Value = serde_json::from_str(expected).unwrap();
    // With parameters and without, the server answers in different forms.
    for (sql, params) in [
        ("SELECT * FROM shop.foo ORDER BY id", ""),
        ("SELECT * FROM shop.foo WHERE id > ? ORDER BY id", "[0]"),
    ] {
        let output = invoke(&binding, "query", sql, params)
            .await
            .unwrap_or_else(|error| panic!("{error}"))
            .unwrap();
        let rows: serde_json::Value = serde_json::from_slice(&output.data).unwrap();
        assert_eq!(rows, expected, "{sql}");
    }
    let none = invoke(&binding, "query", "SELECT * FROM shop.foo WHERE id = 7", "")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(none.data, "null");
    for (operation, sql, params, text) in [
        ("query", "", "", "required metadata not set: sql"),
        (
            "query",
            "SELECT 1",
            "{}",
            "invalid metadata property params: failed to unserialize into an array",
        ),
        (
            "list",
            "SELECT 1",
            "",
            "invalid operation type: list. Expected exec, query, or close",
        ),
        (
            "exec",
            "SELEC 1",
            "",
            "error executing query: Error 1064 (42000): ",
        ),
    ] {
        let error = invoke(&binding, operation, sql, params).await.unwrap_err();
        assert!(error.message.contains(text), "{error}");
    }
    invoke(&binding, "close", "", "").await.unwrap();
    invoke(&binding, "close", "", "").await.unwrap();
    assert_eq!(
        invoke(&binding, "query", "SELECT 1", "")
            .await
            .unwrap_err()
            .message,
        "component is closed"
    );
}

#[tokio::test]
async fn over_tls() {
    let Some(mut server) = start(&[]).await else {
        return;
    };
    let authority = rcgen::KeyPair::generate().unwrap();
    let mut of_authority = rcgen::CertificateParams::new(vec![]).unwrap();
    of_authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = of_authority.self_signed(&authority).unwrap();
    let issuer = rcgen::Issuer::new(of_authority, authority);
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = rcgen::CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let root = server.file("ca.pem", &root.pem()).display().to_string();
    let certificate = format!(
        "--ssl-cert={}",
        server.file("server.pem", &certificate.pem()).display()
    );
    let key = format!(
        "--ssl-key={}",
        server.file("server.key", &key.serialize_pem()).display()
    );
    server.kill();
    server.options(&[&certificate, &key, "--require-secure-transport=ON"]);
    server.restart().await;
    for (tls, fits) in [
        ("custom", true),
        ("skip-verify", true),
        ("preferred", true),
        ("true", false),
        ("false", false),
    ] {
        let dsn = format!("{}?tls={tls}", server.dsn());
        let metadata = [("connectionString", dsn.as_str()), ("pemPath", &root)];
        match try_store(&metadata).await {
            Ok(store) => {
                assert!(fits, "tls={tls}");
                store.set(set("k", "v")).await.unwrap();
            }
            Err(error) => {
                assert!(!fits, "tls={tls}: {error}");
                // Without TLS, it is the server that refuses.
                let distrusted = error
                    .message
                    .contains("tls: failed to verify certificate: x509: ");
                assert_eq!(distrusted, tls == "true", "tls={tls}: {error}");
            }
        }
    }
    let missing = format!("{}?tls=custom", server.dsn());
    let error = try_store(&[("connectionString", &missing)])
        .await
        .err()
        .expect("refused");
    assert!(error.message.contains("pemPath"), "{error}");
}

/// Room, connections, and messages that are larger than the server takes.
#[tokio::test]
async fn a_server_that_has_no_more() {
    let options = [
        "--max-connections=6",
        "--max-allowed-packet=1M",
        // All tables in one file that does not grow. (On a disk that is full, MariaDB ends itself.)
        "--innodb-file-per-table=OFF",
        "--innodb-data-file-path=ibdata1:12M",
    ];
    let Some(server) = start(&options).await else {
        return;
    };
    let store = store(&server, &[]).await;
    let large = store.set(set("large", &"x".repeat(3 << 20))).await.unwrap_err();
    assert_eq!(large.kind, Kind::Exhausted, "{large:?}");
    assert!(large.message.contains("max_allowed_packet"), "{large}");
    store.set(set("k", "v")).await.unwrap();

    let dsn = server.dsn();
    let metadata = [("connectionString", dsn.as_str())];
    // There are six, and a store takes one at least.
    let (others, error) = exhausted(8, async |_| try_store(&metadata).await).await;
    assert_eq!(error.kind, Kind::Unavailable, "{error:?}");
    assert!(
        error.message.contains("Too many connections") && !error.message.contains(PASSWORD),
        "{error}"
    );
    for other in others {
        other.close().await;
    }
    assert_eq!(get(&*store, "k").await.unwrap().0, "v");

    let (kept, error) = exhausted(100, async |number| {
        store.set(set(&format!("k{number}"), &"x".repeat(500_000))).await
    })
    .await;
    assert_eq!(error.kind, Kind::Exhausted, "{error:?}");
    assert!(!kept.is_empty() && error.message.contains("is full"), "{error}");
    assert_eq!(get(&*store, "k").await.unwrap().0, "v");
    store.close().await;
}
