use super::read::Head;
use super::write::{Frame, Overrides, complete, expiration, structured, wrap, wrap_raw};
use jiff::Timestamp;
use outrigger_component::metadata::Metadata;
use serde_json::{Value, json};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn metadata(pairs: &[(&str, &str)]) -> Metadata {
    pairs.iter().copied().collect()
}

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn frame(content_type: &str) -> Frame<'_> {
    Frame {
        app_id: "shop",
        pubsub: "orders",
        topic: "new",
        content_type,
        traceparent: PARENT,
        tracestate: "a=1",
        expiration: None,
    }
}

/// The text, for order and exact bytes, and the value.
fn wrapped(content_type: &str, pairs: &[(&str, &str)], data: &[u8]) -> (String, Value) {
    let metadata = metadata(pairs);
    let now = at("2026-11-21T09:00:00.7Z");
    let frame = Frame {
        expiration: expiration(&metadata, now),
        ..frame(content_type)
    };
    let bytes = wrap(frame, &Overrides::of(&metadata), data, now);
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let value = serde_json::from_str(&text).unwrap();
    (text, value)
}

#[test]
fn data_table() {
    let rows: &[(&str, &[u8], &str)] = &[
        // JSON stays as it is written: digits, order, duplicate names, spaces inside.
        (
            "application/json",
            br#" {"b":1.10,"a":12345678901234567890123,"a":2} "#,
            r#""data":{"b":1.10,"a":12345678901234567890123,"a":2},"#,
        ),
        ("application/json; charset=utf-8", b"[1, 2]", r#""data":[1, 2],"#),
        ("APPLICATION/JSON", b"null", r#""data":null,"#),
        // JSON that is none is text; nothing is cut off.
        ("application/json", b"{\"a\":", r#""data":"{\"a\":","#),
        ("application/json", b"1 2", r#""data":"1 2","#),
        ("application/json", b"", r#""data":"","#),
        ("", b"hi", r#""data":"hi","#),
        (
            "text/plain",
            "a\"\\\n\r\t\u{1}\u{7f}<ü€".as_bytes(),
            "\"data\":\"a\\\"\\\\\\n\\r\\t\\u0001\u{7f}<ü€\",",
        ),
        ("application/xml", b"<a/>", r#""data":"<a/>","#),
        ("application/unknown", b"x", r#""data":"x","#),
        ("application/octet-stream", b"hi", r#""data_base64":"aGk=","#),
        ("application/octet-stream", b"", r#""data_base64":"","#),
        (
            "application/cloudevents+protobuf",
            &[0, 255],
            r#""data_base64":"AP8=","#,
        ),
        // What is not UTF-8 is kept, not replaced.
        ("text/plain", &[b'a', 0xff], r#""data_base64":"Yf8=","#),
        (
            "application/json",
            &[b'"', 0xff, b'"'],
            r#""data_base64":"Iv8i","#,
        ),
    ];
    for (content_type, data, expected) in rows {
        let (text, value) = wrapped(content_type, &[], data);
        assert!(
            text.starts_with(&format!("{{{expected}")),
            "{content_type} {data:?}: {text}"
        );
        let stated = if content_type.is_empty() {
            "text/plain"
        } else {
            content_type
        };
        assert_eq!(value["datacontenttype"], stated);
    }
}

#[test]
fn members_and_overrides_table() {
    let (text, value) = wrapped("text/plain", &[], b"x");
    let names: Vec<String> = serde_json::from_str::<serde_json::Map<String, Value>>(&text)
        .unwrap()
        .keys()
        .cloned()
        .collect();
    assert_eq!(
        names,
        [
            "data",
            "datacontenttype",
            "id",
            "pubsubname",
            "source",
            "specversion",
            "time",
            "topic",
            "traceid",
            "traceparent",
            "tracestate",
            "type"
        ]
    );
    assert!(uuid::Uuid::parse_str(value["id"].as_str().unwrap()).is_ok());
    assert_ne!(value["id"], wrapped("text/plain", &[], b"x").1["id"]);
    let expected = json!({
        "data": "x", "datacontenttype": "text/plain", "id": value["id"], "pubsubname": "orders", "source": "shop",
        "specversion": "1.0", "time": "2026-11-21T09:00:00Z", "topic": "new", "traceid": PARENT, "traceparent": PARENT,
        "tracestate": "a=1", "type": "com.dapr.event.sent",
    });
    assert_eq!(value, expected);

    let rows: &[(&[(&str, &str)], Value)] = &[
        (&[("cloudevent.id", "1")], json!({"id": "1"})),
        (&[("CloudEvent.ID", "1")], json!({"id": "1"})),
        (&[("cloudevent.source", "s")], json!({"source": "s"})),
        (&[("cloudevent.source", "")], json!({"source": "Dapr"})),
        (&[("cloudevent.type", "t")], json!({"type": "t"})),
        (&[("cloudevent.type", "")], json!({"type": "com.dapr.event.sent"})),
        (&[("cloudevent.subject", "s")], json!({"subject": "s"})),
        (
            &[("cloudevent.traceid", "x")],
            json!({"traceid": "x", "traceparent": "x"}),
        ),
        (
            &[("cloudevent.traceid", "x"), ("cloudevent.traceparent", "y")],
            json!({"traceid": "y", "traceparent": "y"}),
        ),
        (&[("cloudevent.tracestate", "b=2")], json!({"tracestate": "b=2"})),
        // What identifies the message is not the publisher's to set.
        (
            &[
                ("cloudevent.topic", "x"),
                ("cloudevent.data", "y"),
                ("cloudevent.pubsub", "z"),
            ],
            json!({"topic": "new", "data": "x", "pubsubname": "orders"}),
        ),
        (
            &[("cloudevent.", "x"), ("cloudevent", "y")],
            json!({"source": "shop"}),
        ),
        (
            &[("ttlInSeconds", "10")],
            json!({"expiration": "2026-11-21T09:00:11Z"}),
        ),
        (
            &[("TTLINSECONDS", "1m")],
            json!({"expiration": "2026-11-21T09:01:01Z"}),
        ),
        (
            &[("ttl", "1500ms")],
            json!({"expiration": "2026-11-21T09:00:02Z"}),
        ),
    ];
    for (pairs, expected) in rows {
        let (_, value) = wrapped("text/plain", pairs, b"x");
        for (name, expected) in expected.as_object().unwrap() {
            assert_eq!(&value[name], expected, "{pairs:?}");
        }
    }
}

#[test]
fn expiration_table() {
    let now = at("2026-11-21T09:00:00Z");
    let rows: &[(&str, Option<&str>)] = &[
        ("", None),
        ("5", Some("2026-11-21T09:00:05Z")),
        ("2s", Some("2026-11-21T09:00:02Z")),
        ("0s", Some("2026-11-21T09:00:00Z")),
        ("-1s", Some("2026-11-21T09:00:00Z")),
        ("0", Some("2026-11-21T09:00:00Z")),
        ("-5", None),
        ("soon", None),
        ("1.5", None),
        ("9223372036854775807", Some("9999-12-30T22:00:00.999999999Z")),
        ("99999999999999999999", None),
    ];
    for (text, expected) in rows {
        let found = expiration(&metadata(&[("ttlInSeconds", text)]), now);
        assert_eq!(found, expected.map(at), "{text:?}");
    }
}

#[test]
fn completion_table() {
    let now = at("2026-11-21T09:00:00Z");
    let given = json!({"pubsubname": "orders", "topic": "new"});
    let rows: &[(&str, Value)] = &[
        // Nothing given: everything filled.
        (
            "{}",
            json!({"source": "Dapr", "type": "com.dapr.event.sent", "specversion": "1.0", "time": "2026-11-21T09:00:00Z", "traceid": PARENT, "traceparent": PARENT, "tracestate": "a=1"}),
        ),
        // Given members stay, topic and broker do not.
        (
            r#"{"id":"1","source":"s","type":"t","specversion":"0.3","time":"then","topic":"x","pubsubname":"y","data":{"n":1},"ext":true}"#,
            json!({"id": "1", "source": "s", "type": "t", "specversion": "0.3", "time": "then", "data": {"n": 1}, "ext": true}),
        ),
        // A trace of its own stays whole; without `traceid`, ours replaces both.
        (
            r#"{"traceid":"x"}"#,
            json!({"traceid": "x", "traceparent": null, "tracestate": "a=1"}),
        ),
        (
            r#"{"traceid":"x","traceparent":"y","tracestate":"z"}"#,
            json!({"traceid": "x", "traceparent": "y", "tracestate": "z"}),
        ),
        (
            r#"{"traceparent":"y"}"#,
            json!({"traceid": PARENT, "traceparent": PARENT}),
        ),
        (
            r#"{"source":null,"type":null,"specversion":null}"#,
            json!({"source": "Dapr", "type": "com.dapr.event.sent", "specversion": "1.0"}),
        ),
        (r#"{"na\u006de":"escaped"}"#, json!({"name": "escaped"})),
    ];
    for (event, expected) in rows {
        let bytes = complete(frame(""), event.as_bytes(), now).unwrap();
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        for (name, expected) in expected
            .as_object()
            .unwrap()
            .iter()
            .chain(given.as_object().unwrap())
        {
            assert_eq!(&value[name], expected, "{name} of {event}");
        }
        assert!(value["id"].is_string(), "{event}");
    }
    // Numbers keep their digits.
    let bytes = complete(frame(""), br#"{"data":1.10000000000000000000001}"#, now).unwrap();
    assert!(
        std::str::from_utf8(&bytes)
            .unwrap()
            .contains("1.10000000000000000000001")
    );
    let expires = Frame {
        expiration: Some(now),
        ..frame("")
    };
    let value: Value =
        serde_json::from_slice(&complete(expires, br#"{"expiration":"never"}"#, now).unwrap()).unwrap();
    assert_eq!(value["expiration"], "2026-11-21T09:00:00Z");

    let many = format!(
        "{{{}\"z\":1}}",
        (0..2000).map(|n| format!("\"a{n}\":1,")).collect::<String>()
    );
    for bad in [
        "",
        "{",
        "{\"}",
        "null",
        "[]",
        "1",
        "\"x\"",
        "{} x",
        "{\"a\":1}{}",
        &many,
    ] {
        assert!(complete(frame(""), bad.as_bytes(), now).is_err(), "{bad}");
    }
}

#[test]
fn reading_table() {
    let now = at("2026-11-21T09:00:00Z");
    let none = Metadata::new();
    // (envelope, id, expired, traceparent)
    let rows: &[(&str, &str, bool, Option<&str>)] = &[
        ("{}", "", false, None),
        (
            r#"{"id":"1","expiration":"2026-11-21T08:59:59Z"}"#,
            "1",
            true,
            None,
        ),
        (
            r#"{"id":"1","expiration":"2026-11-21T10:59:59+02:00"}"#,
            "1",
            true,
            None,
        ),
        (
            r#"{"id":"1","expiration":"2026-11-21T09:00:01Z"}"#,
            "1",
            false,
            None,
        ),
        (r#"{"expiration":"","id":"a\"b"}"#, "a\"b", false, None),
        (r#"{"expiration":"soon","id":7}"#, "7", false, None),
        (r#"{"expiration":5,"id":null}"#, "null", false, None),
        (r#"{"traceid":"x"}"#, "", false, Some("x")),
        (r#"{"traceid":"x","traceparent":"y"}"#, "", false, Some("y")),
        (r#"{"traceparent":null,"traceid":"x"}"#, "", false, Some("x")),
        (r#"{"traceparent":{"a":1},"traceid":12}"#, "", false, None),
        (r#"{"id":"1","id":"2","data":{"id":"3"}}"#, "2", false, None),
    ];
    for (envelope, id, expired, traceparent) in rows {
        let head = Head::read(envelope.as_bytes()).unwrap();
        assert_eq!(head.id, *id, "{envelope}");
        assert_eq!(head.has_expired(now), *expired, "{envelope}");
        assert_eq!(head.traceparent(&none), *traceparent, "{envelope}");
    }
    let message = metadata(&[("traceparent", "m"), ("traceid", "i"), ("tracestate", "s")]);
    let head = Head::read(br#"{"traceid":"x"}"#).unwrap();
    assert_eq!(
        (head.traceparent(&message), head.tracestate(&message)),
        (Some("m"), Some("s"))
    );
    for bad in ["", "x", "{", "null", "[]", "{} {}", "{\"a\":tru}"] {
        assert!(Head::read(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn messages_without_envelope() {
    let traces = [("traceid", "t"), ("traceparent", "t")];
    let value: Value =
        serde_json::from_slice(&wrap_raw("orders", "new", &[255], traces.into_iter())).unwrap();
    let expected = json!({
        "data_base64": "/w==", "datacontenttype": "application/octet-stream", "id": value["id"], "pubsubname": "orders",
        "source": "Dapr", "specversion": "1.0", "topic": "new", "traceid": "t", "traceparent": "t", "type": "com.dapr.event.sent",
    });
    assert_eq!(value, expected);

    let attributes = [
        ("id", "1"),
        ("type", "t"),
        ("datacontenttype", "x"),
        ("data", "y"),
    ];
    let attributes = attributes.map(|(name, value)| (name.to_owned(), value));
    let bytes = structured("orders", "new", &attributes, "application/octet-stream", b"hi");
    let value: Value = serde_json::from_slice(&bytes).unwrap();
    let expected = json!({
        "data_base64": "aGk=", "datacontenttype": "application/octet-stream", "id": "1", "pubsubname": "orders",
        "source": "Dapr", "specversion": "1.0", "topic": "new", "type": "t",
    });
    assert_eq!(value, expected);
}
