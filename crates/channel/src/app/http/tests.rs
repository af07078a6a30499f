use super::{Declared, escape_path, outcome};
use crate::app::Outcome;

#[test]
fn answers_to_an_event() {
    for (status, body, expected) in [
        (200, "", Ok(Outcome::Success)),
        (204, "", Ok(Outcome::Success)),
        (200, "not json", Ok(Outcome::Success)),
        (200, r#"{"status":"SUCCESS"}"#, Ok(Outcome::Success)),
        (200, r#"{"status":""}"#, Ok(Outcome::Success)),
        (200, r#"{"other":1}"#, Ok(Outcome::Success)),
        (200, r#"{"status":"RETRY"}"#, Ok(Outcome::Retry)),
        (200, r#"{"status":"DROP"}"#, Ok(Outcome::Drop)),
        (
            200,
            r#"{"status":"LATER"}"#,
            Err("unknown status returned from app"),
        ),
        (404, "", Ok(Outcome::Drop)),
        (
            500,
            "oops",
            Err(
                "retriable error returned from app while processing pub/sub event: oops. status code returned: 500",
            ),
        ),
    ] {
        match (outcome(status, body.as_bytes()), expected) {
            (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{status} {body}"),
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
            (got, expected) => panic!("{status} {body}: {got:?} instead of {expected:?}"),
        }
    }
}

#[test]
fn both_forms_of_routes_become_one_list() {
    let body = br#"[
        {"pubsubname":"p","topic":"a","route":"/a","metadata":{"rawPayload":"true"}},
        {"pubsubname":"p","topic":"b","deadLetterTopic":"dead",
         "routes":{"rules":[{"match":"event.type == 'x'","path":"/x"}],"default":"/d"}}
    ]"#;
    let parsed = Declared::parse(body).expect("parses");
    let paths = |index: usize| -> Vec<&str> {
        parsed[index]
            .rules
            .iter()
            .map(|rule| rule.path.as_str())
            .collect()
    };
    assert_eq!(paths(0), ["/a"]);
    assert_eq!(parsed[0].metadata.get("rawPayload"), Some("true"));
    assert_eq!(paths(1), ["/x", "/d"]);
    assert_eq!(parsed[1].dead_letter_topic, "dead");
    assert!(Declared::parse(b"null").expect("null").is_empty());
    assert!(Declared::parse(b"{}").is_err());
}

#[test]
fn paths_are_escaped_once() {
    let mut out = String::new();
    escape_path(&mut out, "a b/ü?#%");
    assert_eq!(out, "a%20b/%C3%BC%3F%23%25");
}
