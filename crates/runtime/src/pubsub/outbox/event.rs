//! Events of the outbox: made from the operations of a transaction, read from the internal topic and from records.
//!
//! COMPAT(pkg/runtime/pubsub/outbox.go): an operation's metadata become attributes of its event, under their whole names,
//! except `data` and `id`; a projection gives data and content type and is not stored. Unlike there, objects and lists
//! of a JSON request without content type are published as JSON, not in a notation of Go.

use crate::pubsub::envelope::{self, write};
use bytes::Bytes;
use jiff::Timestamp;
use outrigger_component::metadata::{Metadata, truthy};
use outrigger_component::state::{Set, Write};
use outrigger_daemon::trace::{self, Traceparent};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;

/// What an event's id and its record's key begin with.
pub(super) const PREFIX: &str = "outbox-";
const PROJECTION: &str = "outbox.projection";
const CONTENT_TYPE: &str = "contentType";
const JSON: &str = "application/json";

/// An event on its way.
#[derive(Debug, Clone)]
pub struct Event {
    /// Also the key of its record.
    pub id: String,
    /// The state key, prefix included.
    pub key: String,
    /// As it goes to the internal topic.
    pub envelope: Bytes,
    /// When it was made, and which one of the same moment: the order of records.
    pub made: (i64, u32),
}

/// What all events of a transaction have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cause<'a> {
    pub app_id: &'a str,
    /// The broker of the internal topic.
    pub through: &'a str,
    pub trace: Option<&'a trace::Context>,
}

/// The events of a transaction.
pub(super) struct Events {
    pub events: Vec<Event>,
    /// Keys of projections that belong to no operation.
    pub orphans: Vec<String>,
}

impl Events {
    /// Takes the projections out of the transaction and makes the events.
    pub(super) fn take(writes: &mut Vec<Write>, cause: Cause<'_>) -> Self {
        let mut projections: HashMap<String, Set> = HashMap::new();
        writes.retain_mut(|write| match write {
            Write::Set(set) if set.metadata.get(PROJECTION).is_some_and(truthy) => {
                let set = std::mem::take(set);
                projections.insert(set.key.clone(), set);
                false
            }
            Write::Set(_) | Write::Delete(_) => true,
        });
        let now = Timestamp::now();
        let mut events = Vec::new();
        let mut used = Vec::new();
        for (number, write) in (0..).zip(&*writes) {
            let Write::Set(set) = write else { continue };
            let source = projections.get(&set.key);
            if source.is_some() {
                used.push(set.key.clone());
            }
            let id = format!("{PREFIX}{}", uuid::Uuid::new_v4());
            let envelope = envelope_of(cause, &id, &set.metadata, source.unwrap_or(set), now);
            events.push(Event {
                id,
                key: set.key.clone(),
                envelope,
                made: (now.as_microsecond(), number),
            });
        }
        projections.retain(|key, _| !used.contains(key));
        Self {
            events,
            orphans: projections.into_keys().collect(),
        }
    }
}

/// `attributes` are the operation's metadata; content comes from `source`.
fn envelope_of(cause: Cause<'_>, id: &str, attributes: &Metadata, source: &Set, now: Timestamp) -> Bytes {
    let asked = source
        .content_type
        .as_deref()
        .or_else(|| source.metadata.get(CONTENT_TYPE))
        .unwrap_or_default();
    let (data, content_type) = if source.is_json {
        of_json(&source.value, asked)
    } else {
        (Cow::Borrowed(&source.value[..]), asked)
    };
    let traceparent = cause.trace.map(trace::Context::traceparent);
    let frame = write::Frame {
        app_id: cause.app_id,
        pubsub: cause.through,
        content_type,
        traceparent: traceparent.as_ref().map_or("", Traceparent::as_str),
        tracestate: cause
            .trace
            .and_then(trace::Context::tracestate)
            .unwrap_or_default(),
        ..write::Frame::default()
    };
    write::wrap_with(frame, id, attributes, &data, now)
}

/// The content of a JSON value: a text means its characters, anything else its JSON.
fn of_json<'a>(json: &'a [u8], content_type: &'a str) -> (Cow<'a, [u8]>, &'a str) {
    if envelope::is_json(content_type) || envelope::is_cloud_event(content_type) {
        return (Cow::Borrowed(json), content_type);
    }
    match serde_json::from_slice::<&RawValue>(json).map(RawValue::get) {
        Ok(text) if text.starts_with('"') => match serde_json::from_str::<String>(text) {
            Ok(text) => (Cow::Owned(text.into_bytes()), content_type),
            Err(_) => (Cow::Borrowed(json), content_type),
        },
        Ok(nested) if content_type.is_empty() && nested.starts_with(['{', '[']) => {
            (Cow::Borrowed(json), JSON)
        }
        _ => (Cow::Borrowed(json), content_type),
    }
}

/// What is stored beside the values that caused an event, until it is published.
///
/// The reference stores `0` there and asks only whether there is anything.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record<'a> {
    /// Namespace and app: stores can be shared, and keys of records have no prefix.
    #[serde(borrow)]
    app: Cow<'a, str>,
    #[serde(borrow)]
    key: Cow<'a, str>,
    made: (i64, u32),
    #[serde(borrow)]
    event: &'a RawValue,
}

impl Event {
    /// What is stored for it.
    pub fn record(&self, namespace: &str, app_id: &str) -> Bytes {
        let event: &RawValue =
            serde_json::from_slice(&self.envelope).expect("an envelope is one JSON object in UTF-8");
        let record = Record {
            app: owner(namespace, app_id).into(),
            key: Cow::Borrowed(&self.key),
            made: self.made,
            event,
        };
        serde_json::to_vec(&record)
            .expect("texts and numbers can be written as JSON")
            .into()
    }

    /// The event of a record; `None` if it is another app's, or not ours at all.
    pub fn of_record(id: &str, record: &[u8], namespace: &str, app_id: &str) -> Option<Self> {
        let record: Record<'_> = serde_json::from_slice(record).ok()?;
        if record.app != owner(namespace, app_id) {
            return None;
        }
        Some(Self {
            id: id.to_owned(),
            key: record.key.into_owned(),
            envelope: Bytes::copy_from_slice(record.event.get().as_bytes()),
            made: record.made,
        })
    }
}

fn owner(namespace: &str, app_id: &str) -> String {
    format!("{namespace}/{app_id}")
}

/// What the relay needs of an event from the internal topic.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub struct Announced<'a> {
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// When it was made, RFC 3339.
    #[serde(borrow, default)]
    pub time: Option<Cow<'a, str>>,
}

impl<'a> Announced<'a> {
    /// # Errors
    /// No JSON object with a text as `id`.
    pub fn read(envelope: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(envelope)
    }

    /// How long ago the event was made; `None` if it does not say.
    pub fn age(&self, now: Timestamp) -> Option<std::time::Duration> {
        let time: Timestamp = self.time.as_deref()?.parse().ok()?;
        now.duration_since(time).try_into().ok()
    }
}
