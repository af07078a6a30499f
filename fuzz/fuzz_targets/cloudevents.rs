//! Events on their way through the runtime: published, wrapped, delivered by a broker, routed, handed to a gRPC app.
//!
//! Input: one byte, a line with the content type, a line with metadata (`a=b&c=d`), then the data. The byte chooses the
//! topic and whether the data is published (alone, or twice in bulk), or comes straight from the broker, as from a
//! publisher that is not one of ours. Every input is answered, nothing that was accepted is lost or changed.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use outrigger_component::metadata::Metadata;
use outrigger_component::pubsub::{Incoming, Outgoing};
use outrigger_fuzz::Bench;
use outrigger_runtime::pubsub::bulk::{Entry, Event, PublishBulk};
use outrigger_runtime::pubsub::publish::Publish;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

struct Input {
    topic: &'static str,
    content_type: String,
    metadata: Metadata,
    data: Bytes,
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, rest)) = bytes.split_first() else {
        return;
    };
    let mut parts = rest.splitn(3, |byte| *byte == b'\n');
    let mut part = || parts.next().unwrap_or_default();
    let text = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
    let input = Input {
        content_type: text(part()),
        metadata: text(part())
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .collect(),
        data: Bytes::copy_from_slice(part()),
        topic: ["plain", "ruled", "raw"][usize::from(choice % 3)],
    };
    Bench::with(|bench| match choice / 3 % 3 {
        0 => single(bench, input),
        1 => bulk(bench, input),
        _ => deliver(
            bench,
            input.topic,
            Incoming {
                topic: input.topic.to_owned(),
                data: input.data,
                content_type: (!input.content_type.is_empty()).then_some(input.content_type),
                metadata: input.metadata,
            },
        ),
    });
});

fn single(bench: &Bench, input: Input) {
    let request = Publish {
        pubsub: "p".to_owned(),
        topic: input.topic.to_owned(),
        data: input.data.clone(),
        content_type: input.content_type.clone(),
        metadata: input.metadata.clone(),
        ..Publish::default()
    };
    let outcome = bench.run(bench.pubsub.publish(request));
    let published = bench.shared.published();
    match outcome {
        Ok(()) => {
            assert_eq!(published.len(), 1);
            forward(bench, &input, published);
        }
        Err(error) => {
            assert!(published.is_empty());
            assert!(!error.to_string().is_empty());
        }
    }
}

fn bulk(bench: &Bench, input: Input) {
    let entry = |id: &str, event| Entry {
        id: id.to_owned(),
        event,
        content_type: input.content_type.clone(),
        metadata: input.metadata.clone(),
    };
    let mut entries = vec![entry("1", Event::Bytes(input.data.clone()))];
    // Doors hand over JSON that they have checked.
    let json = serde_json::from_slice::<&RawValue>(&input.data).is_ok();
    if json {
        entries.push(entry("2", Event::Json(input.data.clone())));
    }
    let request = PublishBulk {
        pubsub: "p".to_owned(),
        topic: input.topic.to_owned(),
        entries,
        metadata: input.metadata.clone(),
        ..PublishBulk::default()
    };
    let outcome = bench.run(bench.pubsub.publish_bulk(request));
    let mut published = bench.shared.published();
    match outcome {
        Ok(()) => {
            assert_eq!(published.len(), if json { 2 } else { 1 });
            // The other's data is not the input's, for it was decoded.
            for rest in published.split_off(1) {
                deliver(bench, input.topic, incoming(rest));
            }
            forward(bench, &input, published);
        }
        Err(rejected) => {
            assert!(published.is_empty());
            assert!(!rejected.to_string().is_empty());
        }
    }
}

/// What was published is what was given, and can be delivered.
fn forward(bench: &Bench, input: &Input, published: Vec<Outgoing>) {
    for message in published {
        let ours = !input
            .content_type
            .to_ascii_lowercase()
            .starts_with("application/cloudevents+json");
        if message.data != input.data && ours {
            check(&message.data, &input.data);
        }
        deliver(bench, input.topic, incoming(message));
    }
}

fn incoming(message: Outgoing) -> Incoming {
    Incoming {
        topic: message.topic,
        data: message.data,
        content_type: message.content_type,
        metadata: message.metadata,
    }
}

/// The envelope is a CloudEvent with this data.
fn check(envelope: &[u8], data: &[u8]) {
    let members: BTreeMap<String, &RawValue> = serde_json::from_slice(envelope).expect("an object");
    let text = |name: &str| {
        let value = members.get(name)?;
        serde_json::from_str::<String>(value.get()).ok()
    };
    assert_eq!(text("specversion").as_deref(), Some("1.0"));
    assert!(text("id").is_some_and(|id| !id.is_empty()));
    let same = match (text("data_base64"), text("data"), members.get("data")) {
        (Some(base64), None, None) => BASE64.decode(base64).expect("base64") == data,
        (None, Some(text), _) if text.as_bytes() == data => true,
        (None, _, Some(json)) => json.get().as_bytes() == data.trim_ascii(),
        _ => false,
    };
    assert!(same, "{}", String::from_utf8_lossy(envelope));
}

fn deliver(bench: &Bench, topic: &str, message: Incoming) {
    bench.run(bench.shared.deliver(topic, message));
    for event in bench.shared.events() {
        assert!(event.path.starts_with('/'));
    }
}
