//! Values that somebody else writes.

use super::registry;
use futures::StreamExt as _;
use outrigger_component::configuration::{Changes, ConfigurationStore, Get, Items};
use outrigger_component::error::{Error, Kind, Result};
use outrigger_testkit::conformance::configuration;
use outrigger_testkit::servers::postgresql::{Postgresql, start};
use outrigger_testkit::setup::setup;
use outrigger_testkit::until::until;
use std::sync::Arc;
use std::time::Duration;

/// As the reference's documentation has it.
const TABLE: &str = "CREATE TABLE cfg (KEY VARCHAR NOT NULL, VALUE VARCHAR NOT NULL, VERSION VARCHAR NOT NULL, METADATA JSON); \
    CREATE FUNCTION notify_event() RETURNS TRIGGER AS $$ DECLARE data json; notification json; BEGIN \
    IF (TG_OP = 'DELETE') THEN data = row_to_json(OLD); ELSE data = row_to_json(NEW); END IF; \
    notification = json_build_object('table', TG_TABLE_NAME, 'action', TG_OP, 'data', data); \
    PERFORM pg_notify('config', notification::text); RETURN NULL; END; $$ LANGUAGE plpgsql; \
    CREATE TRIGGER config AFTER INSERT OR UPDATE OR DELETE ON cfg FOR EACH ROW EXECUTE PROCEDURE notify_event()";

async fn connect(
    server: &Postgresql,
    metadata: &[(&str, &str)],
) -> Result<Arc<dyn ConfigurationStore>, Error> {
    let text = server.connection_string();
    let metadata = [&[("connectionString", text.as_str())], metadata].concat();
    registry()
        .configuration_stores()
        .build("postgres", "v1", setup(&metadata))
        .await
}

async fn store(server: &Postgresql) -> Arc<dyn ConfigurationStore> {
    let store = connect(server, &[("table", "cfg"), ("notifyChannel", "config")]).await;
    store.unwrap_or_else(|error| panic!("{error}"))
}

async fn watch(store: &Arc<dyn ConfigurationStore>, keys: &[&str]) -> Changes {
    let get = Get {
        keys: keys.iter().map(|&key| key.to_owned()).collect(),
        ..Get::default()
    };
    store.watch(&get).await.unwrap_or_else(|error| panic!("{error}"))
}

async fn next(changes: &mut Changes) -> Items {
    tokio::time::timeout(Duration::from_secs(20), changes.next())
        .await
        .expect("a change is told")
        .expect("the watch goes on")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    let Some(server) = start(&[]).await else { return };
    server.sql(TABLE).await;
    let store = store(&server).await;
    let server = Arc::new(server);
    let write = |key: &'static str, value: Option<&'static str>| {
        let server = Arc::clone(&server);
        let writing: futures::future::BoxFuture<'static, ()> = Box::pin(async move {
            let statement = match value {
                None => format!("DELETE FROM cfg WHERE key = '{key}'"),
                Some(value) => format!(
                    "WITH changed AS (UPDATE cfg SET value = '{value}', version = version::int + 1 WHERE key = '{key}' RETURNING 1) \
                     INSERT INTO cfg SELECT '{key}', '{value}', '1', NULL WHERE NOT EXISTS (SELECT FROM changed)"
                ),
            };
            server.sql(&statement).await;
        });
        writing
    };
    configuration::run(&*store, &write).await;
    store.ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_and_notifications_of_the_reference() {
    let Some(server) = start(&[]).await else { return };
    server.sql(TABLE).await;
    let store = store(&server).await;
    server
        .sql("INSERT INTO cfg VALUES ('a', 'old', '9', '{\"x\":\"y\",\"n\":1}'), ('a', 'new', '10', '{\"x\":\"z\"}'), ('a', 'odd', 'x', NULL), ('b', '1', '', NULL)")
        .await;
    let items = store.get(&Get::default()).await.unwrap();
    let a = &items["a"];
    assert_eq!(
        (a.value.as_str(), a.version.as_str(), a.metadata.get("x")),
        ("new", "10", Some("z"))
    );
    assert_eq!(items["b"].value, "1");
    let odd = Get {
        keys: vec!["a'".to_owned()],
        ..Get::default()
    };
    assert_eq!(store.get(&odd).await.unwrap_err().message, "invalid key : 'a''");
    let mut changes = watch(&store, &["a"]).await;
    // Of several versions, one goes: the one before counts again.
    server.sql("DELETE FROM cfg WHERE version = '10'").await;
    assert_eq!(next(&mut changes).await["a"].value, "old");
    server
        .sql("UPDATE cfg SET value = 'other', metadata = '{\"k\":\"v\"}' WHERE version = '9'")
        .await;
    let told = next(&mut changes).await;
    assert_eq!(
        (told["a"].value.as_str(), told["a"].metadata.get("k")),
        ("other", Some("v"))
    );
    // A trigger that says no more than that something has happened.
    server.sql("ALTER TABLE cfg DISABLE TRIGGER config; UPDATE cfg SET value = 'quiet' WHERE version = '9'; NOTIFY config, 'look'").await;
    assert_eq!(next(&mut changes).await["a"].value, "quiet");
    store.close().await;
    let end = tokio::time::timeout(Duration::from_secs(10), changes.next()).await;
    assert!(end.expect("in time").is_none(), "a closed store ends its watches");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_missed_while_the_connection_is_lost() {
    let Some(mut server) = start(&[]).await else {
        return;
    };
    server.sql(TABLE).await;
    server
        .sql("INSERT INTO cfg VALUES ('a', '1', '1', NULL), ('b', '1', '1', NULL)")
        .await;
    let store = store(&server).await;
    let mut changes = watch(&store, &[]).await;
    let mut second = watch(&store, &["b"]).await;
    let listening = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'";
    assert_eq!(
        server.sql(listening).await,
        "1",
        "one connection for all watches of a channel"
    );
    for round in 2..4 {
        // Cut, and at once written: with the trigger, nobody hears.
        if round == 2 {
            server
                .sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'; UPDATE cfg SET value = '2' WHERE key = 'a'; DELETE FROM cfg WHERE key = 'b'")
                .await;
        } else {
            server.kill();
            server.restart().await;
            server.sql("UPDATE cfg SET value = '3' WHERE key = 'a'; INSERT INTO cfg VALUES ('b', '3', '1', NULL)").await;
        }
        let mut seen = Items::new();
        while seen.len() < 2 {
            seen.extend(next(&mut changes).await);
        }
        assert_eq!(seen["a"].value, round.to_string());
        let b = if round == 2 { "" } else { "3" };
        assert_eq!(seen["b"].value, b);
        assert_eq!(next(&mut second).await["b"].value, b);
    }
    drop(changes);
    drop(second);
    let ended = async || server.sql(listening).await == "0";
    until("nobody listens any more", Duration::from_secs(10), ended).await;
}

/// More comes at once than a watch keeps waiting: in the end it knows the last of each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_ends_with_the_last_values() {
    let Some(server) = start(&[]).await else { return };
    server.sql(TABLE).await;
    let store = store(&server).await;
    let mut changes = watch(&store, &[]).await;
    server
        .sql("INSERT INTO cfg SELECT 'k' || number % 100, number::text, number::text, NULL FROM generate_series(1, 3000) AS number")
        .await;
    let mut seen = Items::new();
    while seen.len() < 100
        || seen
            .values()
            .any(|item| item.version.parse::<u32>().unwrap() <= 2900)
    {
        seen.extend(next(&mut changes).await);
    }
}

#[tokio::test]
async fn refused() {
    let Some(server) = start(&[]).await else { return };
    server.sql(TABLE).await;
    for (metadata, text) in [
        (&[][..], "missing postgreSQL configuration table name"),
        (
            &[("table", "Cfg")],
            "invalid table name 'Cfg'. non-alphanumerics or upper cased table names are not supported",
        ),
        (
            &[("table", "nothing")],
            "postgreSQL configuration table 'nothing' does not exist",
        ),
        (
            &[("table", "cfg"), ("notifyChannel", "a;b")],
            "invalid notifyChannel name \"a;b\"",
        ),
    ] {
        let error = connect(&server, metadata).await.err().expect("refused");
        assert_eq!(error.kind, Kind::Invalid, "{error:?}");
        assert!(error.message.contains(text), "{error}");
    }
    let store = connect(&server, &[("table", "cfg")])
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let error = store.watch(&Get::default()).await.err().expect("refused");
    assert_eq!(
        error.message,
        "unable to subscribe to \"cfg\". notifyChannel must be set in component metadata or request metadata"
    );
    let mut get = Get::default();
    get.metadata.insert("PgNotifyChannel", "config");
    let mut changes = store.watch(&get).await.unwrap_or_else(|error| panic!("{error}"));
    server.sql("INSERT INTO cfg VALUES ('a', '1', '1', NULL)").await;
    assert_eq!(next(&mut changes).await["a"].value, "1");
}
