//! What an app answers to several events at once, and what the outbox reads from stores and from its internal topic.
//!
//! Input: one byte, then text. The byte chooses: an app's answer (the low bits choose the status), an event for a batch, a
//! record of the outbox, an announced event. What can be read is the same when written and read again.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use outrigger_channel::app::bulk::{self, BulkEvent, Entry, Payload};
use outrigger_component::metadata::Metadata;
use outrigger_runtime::pubsub::outbox::event::{Announced, Event};
use serde_json::Value;
use serde_json::value::RawValue;

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, rest)) = bytes.split_first() else {
        return;
    };
    match choice % 4 {
        0 => answer([200, 202, 404, 500][usize::from(choice / 4 % 4)], rest),
        1 => batch(rest),
        2 => record(rest),
        _ => announced(rest),
    }
});

fn entry(id: &str, payload: Payload) -> Entry {
    Entry {
        id: id.to_owned(),
        payload,
        content_type: String::new(),
        metadata: Metadata::new(),
    }
}

fn answer(status: u16, body: &[u8]) {
    let entries = [entry("1", Payload::Raw(Bytes::new()))];
    match bulk::verdicts(status, body, &entries) {
        // Only JSON is an answer, and one with a failure is none. Where nobody looks it may hold what is no Unicode.
        Ok(verdicts) if status < 300 => {
            let text = String::from_utf8_lossy(body);
            if let Ok(read) = serde_json::from_str::<Value>(&text) {
                let named = read["statuses"].as_array().map_or(0, Vec::len);
                assert_eq!(verdicts.len(), named);
            }
        }
        Ok(verdicts) => assert_eq!((status, verdicts.len()), (404, 1)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// The bytes as a raw payload, as names and values, and as a CloudEvent if they are one.
fn batch(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut entries = vec![entry("raw", Payload::Raw(Bytes::copy_from_slice(bytes)))];
    entries[0].metadata.insert(&*text, &*text);
    let object =
        serde_json::from_slice::<&RawValue>(bytes).is_ok_and(|json| json.get().trim_start().starts_with('{'));
    if object {
        entries.push(entry("event", Payload::CloudEvent(Bytes::copy_from_slice(bytes))));
    }
    let event = BulkEvent {
        id: text.clone().into_owned(),
        pubsub: text.clone().into_owned(),
        topic: text.clone().into_owned(),
        path: String::new(),
        entries,
        metadata: Metadata::new(),
        trace: None,
    };
    let written = bulk::envelope(&event);
    // Values may be numbers that this reader refuses, and objects deeper than it goes; the frame is always right.
    if let Ok(read) = serde_json::from_slice::<Value>(&written) {
        assert_eq!(
            (&read["id"], &read["topic"]),
            (&Value::from(&*text), &Value::from(&*text))
        );
        assert_eq!(
            read["entries"].as_array().map(Vec::len),
            Some(event.entries.len())
        );
        assert_eq!(read["entries"][0]["metadata"][&*text], Value::from(&*text));
    } else {
        assert!(object, "{}", String::from_utf8_lossy(&written));
    }
}

fn record(bytes: &[u8]) {
    if let Some(event) = Event::of_record("outbox-1", bytes, "default", "shop") {
        let written = event.record("default", "shop");
        let again = Event::of_record("outbox-1", &written, "default", "shop").expect("it was written");
        assert_eq!(
            (event.key, event.envelope, event.made),
            (again.key, again.envelope, again.made)
        );
        assert!(Event::of_record("outbox-1", &written, "default", "other").is_none());
    }
}

fn announced(bytes: &[u8]) {
    if let Ok(announced) = Announced::read(bytes) {
        let _age = announced.age(jiff::Timestamp::now());
    }
}
