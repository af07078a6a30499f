use super::{Fields, Request, RequestChunk, Response};
use crate::body::Body;
use crate::wire::{call, reply};
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use outrigger_proto::any::Any;
use outrigger_proto::dapr::common::v1 as common;
use outrigger_proto::dapr::internals::v1 as internals;
use prost::Message;
use std::collections::HashMap;

fn fields(pairs: &[(&'static str, &[u8])], canonical: bool) -> Fields {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        let value = HeaderValue::from_bytes(value).expect("value");
        map.append(HeaderName::from_static(name), value);
    }
    Fields::new(map, canonical)
}

fn theirs(pairs: &[(&str, &[&str])]) -> HashMap<String, internals::ListStringValue> {
    let list = |values: &[&str]| internals::ListStringValue {
        values: values.iter().map(|&value| value.to_owned()).collect(),
    };
    pairs
        .iter()
        .map(|&(name, values)| (name.to_owned(), list(values)))
        .collect()
}

const OURS: [(&str, &[u8]); 5] = [
    ("content-type", b"text/plain"),
    ("x-many", b"1"),
    ("x-many", b""),
    ("x-many", "3 \u{e9}".as_bytes()),
    ("x-broken", b"a\xffb"),
];

#[test]
fn requests_are_the_generated_messages_on_the_wire() {
    let message = common::InvokeRequest {
        method: "m".to_owned(),
        data: Some(Any::from_bytes("data")),
        content_type: "text/plain".to_owned(),
        http_extension: None,
    };
    for canonical in [false, true] {
        let ours = Request {
            ver: 1,
            metadata: fields(&OURS, canonical),
            message: Some(message.clone()),
        };
        let name = |canonical_name, name| if canonical { canonical_name } else { name };
        let generated = internals::InternalInvokeRequest {
            ver: 1,
            metadata: theirs(&[
                (name("Content-Type", "content-type"), &["text/plain"]),
                (name("X-Many", "x-many"), &["1", "", "3 \u{e9}"]),
                (name("X-Broken", "x-broken"), &["a\u{fffd}b"]),
            ]),
            message: Some(message.clone()),
            actor: None,
        };
        let bytes = ours.encode_to_vec();
        assert_eq!(bytes.len(), ours.encoded_len());
        assert_eq!(
            internals::InternalInvokeRequest::decode(bytes.as_slice()).expect("theirs"),
            generated
        );
        let back = Request::decode(generated.encode_to_vec().as_slice()).expect("ours");
        assert_eq!(back.ver, 1);
        assert_eq!(back.message, ours.message);
        let mut sent = ours.metadata.map;
        sent.insert("x-broken", "a\u{fffd}b".parse().expect("value"));
        assert_eq!(back.metadata.map, sent);
    }
}

#[test]
fn replies_are_the_generated_messages_on_the_wire() {
    let generated = internals::InternalInvokeResponse {
        status: Some(internals::Status {
            code: 5,
            message: "no".to_owned(),
            details: vec![Any::from_bytes("why")],
        }),
        headers: theirs(&[("x-a", &["1", "2"])]),
        trailers: theirs(&[("x-b", &["3"])]),
        message: Some(common::InvokeResponse::default()),
    };
    let ours = Response::decode(generated.encode_to_vec().as_slice()).expect("ours");
    assert_eq!(
        ours.headers.map,
        fields(&[("x-a", b"1"), ("x-a", b"2")], false).map
    );
    assert_eq!(ours.trailers.map, fields(&[("x-b", b"3")], false).map);
    let bytes = ours.encode_to_vec();
    assert_eq!(bytes.len(), ours.encoded_len());
    assert_eq!(
        internals::InternalInvokeResponse::decode(bytes.as_slice()).expect("theirs"),
        generated
    );
}

#[test]
fn what_is_unknown_or_no_header_is_left_out() {
    let generated = internals::InternalInvokeRequest {
        metadata: theirs(&[("x y", &["1"]), ("x-split", &["a\r\nb", "c"])]),
        actor: Some(internals::Actor::default()), // a field that is skipped
        ..internals::InternalInvokeRequest::default()
    };
    let ours = Request::decode(generated.encode_to_vec().as_slice()).expect("ours");
    assert_eq!(ours.metadata.map, fields(&[("x-split", b"c")], false).map);
    assert!(
        RequestChunk::decode(&b"\x0a\x04\x12\x05\x0a\x01"[..]).is_err(),
        "cut off"
    );
}

/// A `HeaderMap` panics when it is to hold some 25000 fields.
#[test]
fn too_many_fields_are_refused() {
    for (names, values, fits) in [
        (4096, 1, true),
        (4097, 1, false),
        (4097, 0, false),
        (40_000, 1, false),
        (1, 4096, true),
        (1, 40_000, false),
    ] {
        let fields: HashMap<_, _> = (0..names)
            .map(|number| {
                let values = vec!["v".to_owned(); values];
                (format!("h{number}"), internals::ListStringValue { values })
            })
            .collect();
        let head = internals::InternalInvokeRequest {
            metadata: fields.clone(),
            message: Some(common::InvokeRequest {
                http_extension: Some(common::HttpExtension {
                    verb: 3,
                    querystring: String::new(),
                }),
                ..common::InvokeRequest::default()
            }),
            ..internals::InternalInvokeRequest::default()
        };
        let head = Request::decode(head.encode_to_vec().as_slice()).expect("request");
        let taken = call(head, Body::Empty);
        assert_eq!(taken.is_ok(), fits, "call with {names} names, {values} values");
        for trailers in [false, true] {
            let mut head = internals::InternalInvokeResponse {
                status: Some(internals::Status::default()),
                ..internals::InternalInvokeResponse::default()
            };
            if trailers {
                head.trailers = fields.clone();
            } else {
                head.headers = fields.clone();
            }
            let head = Response::decode(head.encode_to_vec().as_slice()).expect("response");
            let taken = reply(head, Body::Empty);
            assert_eq!(taken.is_ok(), fits, "reply with {names} names, {values} values");
        }
    }
}
