//! Bodies of another shape than their endpoint asks for: a list is no object, at any depth; `null` is nothing.

use super::bench::Bench;
use crate::Config;

const MALFORMED: (u16, &str) = (400, "ERR_MALFORMED_REQUEST");
const EVENTS: (u16, &str) = (400, "ERR_PUBSUB_EVENTS_SER");

/// Every endpoint that reads JSON, with a body that it takes.
const ENDPOINTS: [(&str, &str, (u16, &str)); 7] = [
    (
        "POST /v1.0/bindings/b",
        r#"{"operation":"create","data":1,"metadata":{"x":"1"}}"#,
        MALFORMED,
    ),
    (
        "POST /v1.0/state/s",
        r#"[{"key":"k","value":1,"etag":"","contentType":"text/plain","metadata":{"x":"1"},"options":{"concurrency":"last-write","consistency":"strong"}}]"#,
        MALFORMED,
    ),
    (
        "POST /v1.0/state/s/bulk",
        r#"{"keys":["k"],"parallelism":2,"metadata":{"x":"1"}}"#,
        MALFORMED,
    ),
    (
        "POST /v1.0/state/s/transaction",
        r#"{"operations":[{"operation":"upsert","request":{"key":"k","value":1,"metadata":{"x":"1"},"options":{"concurrency":"last-write","consistency":"strong"}}}],"metadata":{"x":"1"}}"#,
        MALFORMED,
    ),
    (
        "POST /v1.0/publish/bulk/p/t",
        r#"[{"entryId":"1","event":"e","contentType":"text/plain","metadata":{"x":"1"}}]"#,
        EVENTS,
    ),
    (
        "POST /v1.0-alpha1/lock/l",
        r#"{"resourceId":"r","lockOwner":"o","expiryInSeconds":1}"#,
        MALFORMED,
    ),
    (
        "POST /v1.0-alpha1/unlock/l",
        r#"{"resourceId":"r","lockOwner":"o"}"#,
        MALFORMED,
    ),
];

#[tokio::test]
async fn a_list_is_no_object() {
    let bench = Bench::new(Config::default()).await;
    for (line, good, expected) in ENDPOINTS {
        let answer = bench.ask(line, &[], good).await;
        assert!((200..300).contains(&answer.status), "{line} {good}: {answer:?}");
        bench.fake.journal();
        let good = serde_json::from_str(good).unwrap();
        let variants = listed(&good);
        assert!(!variants.is_empty(), "{line}");
        for body in variants {
            let body = body.to_string();
            let answer = bench.ask(line, &[], &body).await;
            let (status, code) = expected;
            assert_eq!(answer.status, status, "{line} {body}: {answer:?}");
            let begins = format!(r#"{{"errorCode":"{code}","message":"#);
            assert!(answer.body.starts_with(&begins), "{line} {body}: {answer:?}");
            assert_eq!(bench.fake.journal(), [""; 0], "{line} {body}");
        }
    }
}

#[tokio::test]
async fn null_is_nothing() {
    let bench = Bench::new(Config::default()).await;
    let status = |code: &'static str| format!(r#""errorCode":"{code}""#);
    for (line, body, (expected, code)) in [
        (
            "POST /v1.0/bindings/b",
            "null",
            (500, "ERR_INVOKE_OUTPUT_BINDING"),
        ),
        (
            "POST /v1.0/bindings/b",
            r#"{"operation":"delete","data":null,"metadata":{"x":null}}"#,
            (204, ""),
        ),
        (
            "POST /v1.0/bindings/b",
            r#"{"operation":null}"#,
            (500, "ERR_INVOKE_OUTPUT_BINDING"),
        ),
        ("POST /v1.0/state/s", "[null]", MALFORMED),
        (
            "POST /v1.0/state/s",
            r#"[{"key":"k","metadata":{"x":null},"options":{"concurrency":null}}]"#,
            (204, ""),
        ),
        ("POST /v1.0/state/s/bulk", "null", (200, "")),
        (
            "POST /v1.0/state/s/bulk",
            r#"{"keys":null,"parallelism":null,"metadata":null}"#,
            (200, ""),
        ),
        ("POST /v1.0/state/s/transaction", "null", (204, "")),
        (
            "POST /v1.0/state/s/transaction",
            r#"{"operations":null,"metadata":null}"#,
            (204, ""),
        ),
        (
            "POST /v1.0/state/s/transaction",
            r#"{"operations":[null]}"#,
            (400, "ERR_NOT_SUPPORTED_STATE_OPERATION"),
        ),
        ("POST /v1.0/publish/bulk/p/t", "null", (204, "")),
        (
            "POST /v1.0/publish/bulk/p/t",
            r#"[{"entryId":"1","event":"e","contentType":"text/plain","metadata":null}]"#,
            (204, ""),
        ),
        ("POST /v1.0-alpha1/lock/l", "null", MALFORMED),
        ("POST /v1.0-alpha1/unlock/l", r#"{"resourceId":null}"#, MALFORMED),
    ] {
        let answer = bench.ask(line, &[], body).await;
        assert_eq!(answer.status, expected, "{line} {body}: {answer:?}");
        assert!(
            code.is_empty() || answer.body.contains(&status(code)),
            "{line} {body}: {answer:?}"
        );
    }
}

/// `good`, each time with another one of its objects as the list of that object's values.
fn listed(good: &serde_json::Value) -> Vec<serde_json::Value> {
    use serde_json::Value;

    let mut all = Vec::new();
    match good {
        Value::Object(members) => {
            all.push(Value::Array(members.values().cloned().collect()));
            for (name, value) in members {
                for variant in listed(value) {
                    let mut members = members.clone();
                    members.insert(name.clone(), variant);
                    all.push(Value::Object(members));
                }
            }
        }
        Value::Array(values) => {
            for (position, value) in values.iter().enumerate() {
                for variant in listed(value) {
                    let mut values = values.clone();
                    values[position] = variant;
                    all.push(Value::Array(values));
                }
            }
        }
        _ => {}
    }
    all
}
