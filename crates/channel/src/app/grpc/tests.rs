use super::topic_event;
use crate::app::{TopicEvent, fields_for};
use bytes::Bytes;
use outrigger_component::metadata::Metadata;
use prost_types::value::Kind;

fn event(envelope: &str) -> TopicEvent {
    TopicEvent {
        pubsub: "p".into(),
        topic: "t".into(),
        path: "/x".into(),
        envelope: Bytes::copy_from_slice(envelope.as_bytes()),
        content_type: "application/cloudevents+json",
        metadata: Metadata::new(),
        trace: None,
    }
}

#[test]
fn data_by_content_type() {
    for (members, expected) in [
        (
            r#""datacontenttype":"application/json","data":{"n":1}"#,
            &b"{\"n\":1}"[..],
        ),
        (r#""datacontenttype":"text/plain","data":"hello""#, b"hello"),
        (
            r#""datacontenttype":"application/octet-stream","data_base64":"aGk=""#,
            b"hi",
        ),
        (r#""datacontenttype":"application/json","data":null"#, b""),
    ] {
        let message = topic_event(&event(&format!(
            r#"{{"id":"1","source":"s","type":"y","specversion":"1.0",{members}}}"#
        )))
        .expect(members);
        assert_eq!(message.data, expected, "{members}");
        assert_eq!(
            (message.id.as_str(), message.topic.as_str(), message.path.as_str()),
            ("1", "t", "/x")
        );
    }
}

#[test]
fn unknown_attributes_become_extensions() {
    let message = topic_event(&event(r#"{"id":"1","traceid":"abc","pubsubname":"p","n":2}"#)).expect("event");
    let extensions = message.extensions.expect("extensions").fields;
    assert_eq!(extensions["traceid"].kind, Some(Kind::StringValue("abc".into())));
    assert_eq!(extensions["n"].kind, Some(Kind::NumberValue(2.0)));
    assert!(!extensions.contains_key("id"));
}

#[test]
fn what_is_no_event_is_refused() {
    for (envelope, expected) in [
        ("[]", "not a JSON object"),
        (r#"{"data_base64":"%%"}"#, "base64"),
        (
            r#"{"datacontenttype":"text/plain","data":{}}"#,
            "unexpected data type",
        ),
    ] {
        let error = topic_event(&event(envelope)).expect_err("must fail").to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// A `HeaderMap` panics when it is to hold some 25000 fields.
#[test]
fn metadata_beyond_all_measure_is_refused() {
    let metadata = |count: u32| (0..count).map(|number| (format!("m{number}"), "v")).collect();
    assert!(fields_for(&metadata(4096)).is_ok());
    let error = fields_for(&metadata(30_000)).expect_err("must fail").to_string();
    assert!(error.contains("30000 metadata entries"), "{error}");
}
