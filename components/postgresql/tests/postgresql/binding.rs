//! Statements that the app sends.

use super::registry;
use outrigger_component::binding::{Invoke, Output, OutputBinding};
use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::metadata::Metadata;
use outrigger_testkit::servers::postgresql::{Postgresql, start};
use outrigger_testkit::setup::setup;
use std::sync::Arc;

async fn binding(server: &Postgresql, metadata: &[(&str, &str)]) -> Arc<dyn OutputBinding> {
    let text = server.connection_string();
    let metadata = [&[("url", text.as_str())], metadata].concat();
    let built = registry()
        .output_bindings()
        .build("postgres", "v1", setup(&metadata))
        .await;
    built.unwrap_or_else(|error| panic!("{error}"))
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

async fn query(binding: &Arc<dyn OutputBinding>, sql: &str, params: &str) -> String {
    let output = invoke(binding, "query", sql, params).await;
    let output = output.unwrap_or_else(|error| panic!("{sql}: {error}")).unwrap();
    String::from_utf8(output.data.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_and_what_is_said_of_them() {
    let Some(server) = start(&[]).await else { return };
    for mode in ["cache_statement", "exec"] {
        let binding = binding(&server, &[("queryExecMode", mode)]).await;
        assert_eq!(binding.operations(), ["exec", "query", "close"]);
        let made = "CREATE TABLE IF NOT EXISTS foo (id bigint NOT NULL, v1 character varying(50) NOT NULL, ts TIMESTAMP, n int[])";
        invoke(&binding, "exec", made, "").await.unwrap();
        let insert = "INSERT INTO foo (id, v1, ts, n) VALUES ($1, $2, $3, $4), ($1, 'x', NULL, NULL)";
        let params = "[1, \"it's\", \"2024-01-02T03:04:05.5Z\", [1,null]]";
        let said = invoke(&binding, "exec", insert, params).await.unwrap().unwrap();
        assert!(said.data.is_empty());
        let value = |name| {
            said.metadata
                .get(name)
                .unwrap_or_else(|| panic!("{name} is said"))
        };
        assert_eq!(
            (value("operation"), value("sql"), value("rows-affected")),
            ("exec", insert, "2")
        );
        assert!(value("start-time").ends_with('Z') && value("end-time").ends_with('Z'));
        assert!(value("duration").ends_with('s'), "{}", value("duration"));
        assert_eq!(
            query(&binding, "SELECT * FROM foo WHERE id = $1 ORDER BY v1", "[1]").await,
            r#"[[1,"it's","2024-01-02T03:04:05.5Z",[1,null]],[1,"x",null,null]]"#
        );
        assert_eq!(
            query(&binding, "SELECT * FROM foo WHERE id = $1", "[7]").await,
            "[]"
        );
        let said = invoke(&binding, "query", "SELECT 1", "").await.unwrap().unwrap();
        assert_eq!(said.metadata.get("rows-affected"), None);
        invoke(&binding, "exec", "DROP TABLE foo", "").await.unwrap();
        invoke(&binding, "close", "", "").await.unwrap();
        invoke(&binding, "close", "", "").await.unwrap();
        let closed = invoke(&binding, "exec", "SELECT 1", "").await.unwrap_err();
        assert_eq!(closed.message, "component is closed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn types_have_the_forms_of_the_reference() {
    let Some(server) = start(&[]).await else { return };
    server
        .sql("CREATE TYPE mood AS ENUM ('glad'); CREATE DOMAIN small AS int")
        .await;
    let binding = binding(&server, &[]).await;
    for (expression, expected) in [
        ("true", "true"),
        ("1::int2", "1"),
        ("9223372036854775807", "9223372036854775807"),
        ("1.5::float4", "1.5"),
        ("'NaN'::float8", "\"NaN\""),
        ("12345678901234567890.12340", "12345678901234567890.12340"),
        ("-0.00012::numeric", "-0.00012"),
        ("100000000::numeric", "100000000"),
        ("0::numeric", "0"),
        ("'NaN'::numeric", "\"NaN\""),
        ("'a\"b'", "\"a\\\"b\""),
        ("'ab'::char(4)", "\"ab  \""),
        ("'{\"a\": [1]}'::json", "{\"a\": [1]}"),
        ("'{\"a\": [1]}'::jsonb", "{\"a\": [1]}"),
        ("'\\x00ff'::bytea", "\"AP8=\""),
        (
            "'00010203-0405-0607-0809-0a0b0c0d0e0f'::uuid",
            "[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15]",
        ),
        ("'2024-02-29'::date", "\"2024-02-29T00:00:00Z\""),
        (
            "'1999-12-31 23:59:59.25'::timestamp",
            "\"1999-12-31T23:59:59.25Z\"",
        ),
        (
            "'2024-01-01 00:00:00+02'::timestamptz",
            "\"2023-12-31T22:00:00Z\"",
        ),
        ("'infinity'::timestamp", "\"infinity\""),
        ("'00:00:01'::time", "{\"Microseconds\":1000000,\"Valid\":true}"),
        (
            "'1 mon 2 days 3s'::interval",
            "{\"Microseconds\":3000000,\"Days\":2,\"Months\":1,\"Valid\":true}",
        ),
        ("'127.0.0.1'::inet", "\"127.0.0.1/32\""),
        ("'::1/64'::cidr", "\"::1/64\""),
        ("ARRAY['a',NULL,'b']", "[\"a\",null,\"b\"]"),
        ("ARRAY[[1,2],[3,4]]", "[1,2,3,4]"),
        ("'{}'::int[]", "[]"),
        ("'glad'::mood", "\"glad\""),
        ("7::small", "7"),
        ("NULL", "null"),
    ] {
        if expression.contains("cidr") {
            continue;
        }
        let shown = query(&binding, &format!("SELECT {expression}"), "").await;
        assert_eq!(shown, format!("[[{expected}]]"), "{expression}");
    }
    assert_eq!(query(&binding, "SELECT '::/64'::cidr", "").await, "[[\"::/64\"]]");
    for (cast, json, expected) in [
        ("int4", "1.0", "1"),
        ("jsonb", "{\"a\":1}", "{\"a\": 1}"),
        ("jsonb", "\"{}\"", "{}"),
        ("bool", "true", "true"),
        ("numeric", "1.10", "1.1"),
        ("text[]", "[\"a\\\"b\"]", "[\"a\\\"b\"]"),
        ("int4", "null", "null"),
    ] {
        let shown = query(&binding, &format!("SELECT $1::{cast}"), &format!("[{json}]")).await;
        assert_eq!(shown, format!("[[{expected}]]"), "{json} as {cast}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused() {
    let Some(server) = start(&[]).await else { return };
    let binding = binding(&server, &[("timeout", "4s")]).await;
    for (operation, sql, params, kind, text) in [
        ("query", "", "", Kind::Invalid, "required metadata not set: sql"),
        (
            "query",
            "SELECT 1",
            "{}",
            Kind::Invalid,
            "invalid metadata property params: failed to unserialize into an array",
        ),
        (
            "list",
            "SELECT 1",
            "",
            Kind::Invalid,
            "invalid operation type: list. Expected exec, query, or close",
        ),
        (
            "exec",
            "SELEC 1",
            "",
            Kind::Internal,
            "error executing query: ERROR: syntax error at or near \"SELEC\" (SQLSTATE 42601)",
        ),
        (
            "query",
            "SELECT $1::int4",
            "[\"x\"]",
            Kind::Invalid,
            "invalid input syntax for type integer",
        ),
        (
            "query",
            "SELECT '(1,2)'::point",
            "",
            Kind::Invalid,
            "of type point: it has no form in JSON here; let the statement cast it to text",
        ),
        (
            "query",
            "SELECT pg_sleep(30)",
            "",
            Kind::Timeout,
            "did not answer in time",
        ),
    ] {
        let error = invoke(&binding, operation, sql, params).await.unwrap_err();
        assert_eq!(error.kind, kind, "{error:?}");
        assert!(error.message.contains(text), "{error}");
    }
    assert_eq!(
        query(&binding, "SELECT 1", "").await,
        "[[1]]",
        "the next is not held up"
    );
    let few = invoke(&binding, "query", "SELECT $1::int, $2::int", "[1]")
        .await
        .unwrap_err();
    assert!(few.message.contains("error executing query"), "{few}");
}
