//! Configuration and locks.

use super::bench::Bench;
use crate::Config;
use std::time::Duration;

async fn check(bench: &Bench, rows: &[(&str, &str, u16, &str)]) {
    for (line, body, status, expected) in rows {
        let answer = bench.ask(line, &[], body).await;
        assert_eq!(
            (answer.status, &*answer.body),
            (*status, *expected),
            "{line} {body}"
        );
    }
}

#[tokio::test]
async fn configuration() {
    let bench = Bench::new(Config::default()).await;
    bench.fake.settings.set("a", "1");
    bench.fake.settings.set("b c", "<2>");
    check(
        &bench,
        &[
            (
                "GET /v1.0/configuration/c",
                "",
                200,
                r#"{"a":{"value":"1","version":"1"},"b c":{"value":"<2>","version":"2"}}"#,
            ),
            (
                "GET /v1.0-alpha1/configuration/c?key=b+c&key=absent",
                "",
                200,
                r#"{"b c":{"value":"<2>","version":"2"}}"#,
            ),
            ("GET /v1.0/configuration/c?key=absent", "", 204, ""),
            (
                "GET /v1.0/configuration/x",
                "",
                400,
                r#"{"errorCode":"ERR_CONFIGURATION_STORE_NOT_FOUND","message":"configuration store x not found"}"#,
            ),
            (
                "GET /v1.0/configuration/c/absent/unsubscribe",
                "",
                500,
                r#"{"message":"failed to unsubscribe to configuration request absent: subscription does not exist"}"#,
            ),
        ],
    )
    .await;
    let counted = r#"error_code="ERR_CONFIGURATION_UNSUBSCRIBE""#;
    assert!(bench.metrics().contains(counted), "{}", bench.metrics());
}

#[tokio::test]
async fn subscriptions_call_the_app() {
    let bench = Bench::new(Config::default()).await;
    let answer = bench
        .ask("GET /v1.0/configuration/c/subscribe?key=a", &[], "")
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let id = answer
        .body
        .strip_prefix(r#"{"id":""#)
        .and_then(|rest| rest.strip_suffix(r#""}"#))
        .unwrap_or_else(|| panic!("{answer:?}"));
    bench.fake.settings.set("a", "1");
    let told = async {
        loop {
            let journal = bench.fake.journal();
            if !journal.is_empty() {
                return journal;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let told = tokio::time::timeout(Duration::from_secs(10), told).await.unwrap();
    assert_eq!(told, ["POST /configuration/c/a?"]);
    let line = format!("GET /v1.0-alpha1/configuration/c/{id}/unsubscribe");
    check(&bench, &[(&line, "", 200, r#"{"ok":true}"#)]).await;
}

#[tokio::test]
async fn locks() {
    let bench = Bench::new(Config::default()).await;
    let ann = r#"{"resourceId":"r","lockOwner":"ann","expiryInSeconds":10}"#;
    let bob = r#"{"resource_id":"r","lock_owner":"bob","expiry_in_seconds":"10"}"#;
    let granted = bench.ask("POST /v1.0-alpha1/lock/l", &[], ann).await;
    assert_eq!((granted.status, &*granted.body), (200, r#"{"success":true}"#));
    assert_eq!(granted.header("metadata.fencingtoken"), Some("1"));
    check(
        &bench,
        &[
            ("POST /v1.0-alpha1/lock/l", bob, 200, r#"{"success":false}"#),
            ("POST /v1.0-alpha1/unlock/l", bob, 200, r#"{"status":2}"#),
            ("POST /v1.0-alpha1/unlock/l", ann, 200, r#"{"status":0}"#),
            ("POST /v1.0-alpha1/unlock/l", ann, 200, r#"{"status":1}"#),
            (
                "POST /v1.0-alpha1/lock/l",
                "",
                400,
                r#"{"errorCode":"ERR_MALFORMED_REQUEST","message":"ExpiryInSeconds is not positive in lock store l"}"#,
            ),
            (
                "POST /v1.0-alpha1/unlock/x",
                ann,
                400,
                r#"{"errorCode":"ERR_LOCK_STORE_NOT_FOUND","message":"lock store x not found"}"#,
            ),
        ],
    )
    .await;
    let broken = bench.ask("POST /v1.0-alpha1/lock/l", &[], "{").await;
    assert_eq!(broken.status, 400);
    assert!(
        broken.body.contains("failed deserializing HTTP body: "),
        "{broken:?}"
    );
}
