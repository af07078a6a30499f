//! Writing envelopes: around data ([`wrap`], [`wrap_raw`]) and over a publisher's own event ([`complete`]).

use super::object::{Members, Object};
use super::{DEFAULT_CONTENT_TYPE, DEFAULT_SOURCE, DEFAULT_TYPE, SPEC_VERSION, is_binary, is_json, rfc3339};
use bytes::Bytes;
use jiff::Timestamp;
use outrigger_component::metadata::Metadata;
use outrigger_resources::go;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::time::Duration;

/// Room for the fixed members, their names and a trace, so that most envelopes are written without growing.
const FRAME: usize = 448;

/// Everything of a new envelope but its data.
#[derive(Debug, Default, Clone, Copy)]
pub(in crate::pubsub) struct Frame<'a> {
    /// Source unless overridden: the app's id.
    pub app_id: &'a str,
    pub pubsub: &'a str,
    pub topic: &'a str,
    /// Empty is `text/plain`.
    pub content_type: &'a str,
    /// W3C trace parent and state; empty without a trace.
    pub traceparent: &'a str,
    pub tracestate: &'a str,
    /// When the event is no longer worth delivering.
    pub expiration: Option<Timestamp>,
}

/// Members that a publisher sets by metadata `cloudevent.<member>`, names in any case.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::pubsub) struct Overrides<'a> {
    id: &'a str,
    source: Option<&'a str>,
    kind: &'a str,
    subject: &'a str,
    traceid: Option<&'a str>,
    traceparent: &'a str,
    tracestate: Option<&'a str>,
}

impl<'a> Overrides<'a> {
    pub(in crate::pubsub) fn of(metadata: &'a Metadata) -> Self {
        const PREFIX: &str = "cloudevent.";
        let mut overrides = Self::default();
        for (name, value) in metadata.iter() {
            let Some((prefix, member)) = name.split_at_checked(PREFIX.len()) else {
                continue;
            };
            if !prefix.eq_ignore_ascii_case(PREFIX) {
                continue;
            }
            match member.to_ascii_lowercase().as_str() {
                "id" => overrides.id = value,
                "source" => overrides.source = Some(value),
                "type" => overrides.kind = value,
                "subject" => overrides.subject = value,
                "traceid" => overrides.traceid = Some(value),
                "traceparent" => overrides.traceparent = value,
                "tracestate" => overrides.tracestate = Some(value),
                _ => {}
            }
        }
        overrides
    }
}

/// When a message with this metadata expires; `None` if it has no `ttlInSeconds` (or `ttl`), or one that is no time.
///
/// COMPAT(components-contrib metadata/utils.go): Go durations and bare seconds; what cannot be read is ignored.
/// Rounded up to the next whole second, since envelopes carry no fractions.
pub(in crate::pubsub) fn expiration(metadata: &Metadata, now: Timestamp) -> Option<Timestamp> {
    let text = ["ttl", "ttlInSeconds"]
        .iter()
        .find_map(|name| metadata.get_any_case(name))
        .filter(|text| !text.is_empty())?;
    let ttl = match go::duration::parse(text) {
        Ok(nanoseconds) => Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0)),
        Err(_) => Duration::from_secs(text.parse::<u64>().ok().filter(|seconds| *seconds > 0)?),
    };
    let whole = ttl
        .as_secs()
        .saturating_add(u64::from(ttl.subsec_nanos() > 0 || now.subsec_nanosecond() > 0));
    let seconds = i64::try_from(whole)
        .unwrap_or(i64::MAX)
        .saturating_add(now.as_second());
    Some(Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX))
}

/// Puts data into a new envelope.
///
/// JSON stays JSON; JSON that is none, and anything else, becomes a string; bytes (by content type, or because they
/// are not UTF-8) become `data_base64`.
pub(in crate::pubsub) fn wrap(
    frame: Frame<'_>,
    overrides: &Overrides<'_>,
    data: &[u8],
    now: Timestamp,
) -> Bytes {
    let content_type = or(frame.content_type, DEFAULT_CONTENT_TYPE);
    let source = match overrides.source {
        Some(source) => or(source, DEFAULT_SOURCE),
        None => or(frame.app_id, DEFAULT_SOURCE),
    };
    // `traceid` and `traceparent` always agree; an overridden parent wins over an overridden id.
    let trace = or(
        overrides.traceparent,
        overrides.traceid.unwrap_or(frame.traceparent),
    );
    let state = overrides.tracestate.unwrap_or(frame.tracestate);
    let mut id_text = [0; uuid::fmt::Hyphenated::LENGTH];
    let id = match overrides.id {
        "" => &*uuid::Uuid::new_v4().as_hyphenated().encode_lower(&mut id_text),
        given => given,
    };

    let data = Data::of(content_type, data);
    let room =
        FRAME + data.room() + content_type.len() + source.len() + frame.pubsub.len() + frame.topic.len();
    let mut out = Object::with_capacity(room);
    data.write(&mut out);
    out.text("datacontenttype", content_type);
    if let Some(expiration) = frame.expiration {
        out.text("expiration", &rfc3339(expiration));
    }
    out.text("id", id);
    out.text("pubsubname", frame.pubsub);
    out.text("source", source);
    out.text("specversion", SPEC_VERSION);
    if !overrides.subject.is_empty() {
        out.text("subject", overrides.subject);
    }
    out.text("time", &rfc3339(now));
    out.text("topic", frame.topic);
    out.text("traceid", trace);
    out.text("traceparent", trace);
    out.text("tracestate", state);
    out.text("type", or(overrides.kind, DEFAULT_TYPE));
    out.finish()
}

/// Puts data into a new envelope under a given id. `attributes` add members or replace all but id and content.
pub(in crate::pubsub) fn wrap_with(
    frame: Frame<'_>,
    id: &str,
    attributes: &Metadata,
    data: &[u8],
    now: Timestamp,
) -> Bytes {
    let time = rfc3339(now);
    let content_type = or(frame.content_type, DEFAULT_CONTENT_TYPE);
    let mut members = BTreeMap::from([
        ("datacontenttype", content_type),
        ("id", id),
        ("pubsubname", frame.pubsub),
        ("source", or(frame.app_id, DEFAULT_SOURCE)),
        ("specversion", SPEC_VERSION),
        ("time", time.as_str()),
        ("topic", frame.topic),
        ("traceid", frame.traceparent),
        ("traceparent", frame.traceparent),
        ("tracestate", frame.tracestate),
        ("type", DEFAULT_TYPE),
    ]);
    let given = attributes.iter();
    members.extend(given.filter(|(name, _)| !matches!(*name, "data" | "data_base64" | "id")));
    let data = Data::of(content_type, data);
    let mut out = Object::with_capacity(FRAME + data.room());
    data.write(&mut out);
    for (name, value) in members {
        out.text(name, value);
    }
    out.finish()
}

/// The same event for another topic.
pub(in crate::pubsub) fn redirect(
    event: &[u8],
    pubsub: &str,
    topic: &str,
) -> Result<Bytes, serde_json::Error> {
    let Members(members) = serde_json::from_slice(event)?;
    let mut out = Object::with_capacity(event.len() + pubsub.len() + topic.len() + 32);
    for (name, value) in &members {
        if !matches!(&**name, "pubsubname" | "topic") {
            out.raw(name, value.get());
        }
    }
    out.text("pubsubname", pubsub);
    out.text("topic", topic);
    Ok(out.finish())
}

/// Envelope for a message that was published without one, made on the subscriber's side: a new id at every
/// delivery, since nothing in the message names it. `traces` are the members the message's metadata has.
pub(in crate::pubsub) fn wrap_raw<'a>(
    pubsub: &str,
    topic: &str,
    data: &[u8],
    traces: impl Iterator<Item = (&'a str, &'a str)>,
) -> Bytes {
    let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
    let data = Data::Binary(data);
    let mut out = Object::with_capacity(FRAME + data.room() + pubsub.len() + topic.len());
    data.write(&mut out);
    out.text("datacontenttype", "application/octet-stream");
    out.text("id", uuid::Uuid::new_v4().as_hyphenated().encode_lower(&mut id));
    out.text("pubsubname", pubsub);
    out.text("source", DEFAULT_SOURCE);
    out.text("specversion", SPEC_VERSION);
    out.text("topic", topic);
    for (name, value) in traces {
        out.text(name, value);
    }
    out.text("type", DEFAULT_TYPE);
    out.finish()
}

/// Structured form of a binary-mode CloudEvent: `attributes` are the message's, names in lower case without prefix. What
/// CloudEvents requires and the message lacks is filled as for a message without envelope.
pub(in crate::pubsub) fn structured(
    pubsub: &str,
    topic: &str,
    attributes: &[(String, &str)],
    content_type: &str,
    data: &[u8],
) -> Bytes {
    let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
    let id = &*uuid::Uuid::new_v4().as_hyphenated().encode_lower(&mut id);
    let data = Data::of(content_type, data);
    let mut out = Object::with_capacity(FRAME + data.room());
    data.write(&mut out);
    out.text("datacontenttype", content_type);
    for (name, value) in attributes {
        if !matches!(name.as_str(), "data" | "data_base64" | "datacontenttype") {
            out.text(name, value);
        }
    }
    let filled = [
        ("id", id),
        ("pubsubname", pubsub),
        ("source", DEFAULT_SOURCE),
        ("specversion", SPEC_VERSION),
        ("topic", topic),
        ("type", DEFAULT_TYPE),
    ];
    for (name, value) in filled {
        if attributes.iter().all(|(given, _)| given != name) {
            out.text(name, value);
        }
    }
    out.finish()
}

/// Fills what a publisher's own CloudEvent lacks and overwrites what is ours: topic, broker, and the trace unless
/// the event has one. Everything else stays as it is written.
///
/// COMPAT(components-contrib pubsub/envelope.go FromCloudEvent): an event without `traceid` gets both trace members
/// overwritten. Unlike there, a missing `id` is filled too: without one no receiver could recognise a duplicate.
pub(in crate::pubsub) fn complete(
    frame: Frame<'_>,
    event: &[u8],
    now: Timestamp,
) -> Result<Bytes, serde_json::Error> {
    let Members(members) = serde_json::from_slice(event)?;
    let has = |name: &str| members.iter().any(|(member, _)| member == name);
    let has_value = |name: &str| {
        members
            .iter()
            .any(|(member, value)| member == name && value.get() != "null")
    };
    let own_trace = has("traceid");
    let own_state = has("tracestate");
    let filled = [
        ("source", DEFAULT_SOURCE),
        ("specversion", SPEC_VERSION),
        ("type", DEFAULT_TYPE),
    ]
    .map(|(name, value)| (name, (!has_value(name)).then_some(value)));
    let fill_id = !has_value("id");

    let mut out = Object::with_capacity(FRAME + event.len() + frame.pubsub.len() + frame.topic.len());
    for (name, value) in &members {
        let ours = match &**name {
            "topic" | "pubsubname" => true,
            "traceid" | "traceparent" => !own_trace,
            "expiration" => frame.expiration.is_some(),
            "id" => fill_id,
            other => filled.iter().any(|(name, fill)| *name == other && fill.is_some()),
        };
        if !ours {
            out.raw(name, value.get());
        }
    }
    if let Some(expiration) = frame.expiration {
        out.text("expiration", &rfc3339(expiration));
    }
    if fill_id {
        let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
        out.text("id", uuid::Uuid::new_v4().as_hyphenated().encode_lower(&mut id));
    }
    out.text("pubsubname", frame.pubsub);
    for (name, fill) in filled {
        if let Some(value) = fill {
            out.text(name, value);
        }
    }
    if !has("time") {
        out.text("time", &rfc3339(now));
    }
    out.text("topic", frame.topic);
    if !own_trace {
        out.text("traceid", frame.traceparent);
        out.text("traceparent", frame.traceparent);
    }
    if !own_state {
        out.text("tracestate", frame.tracestate);
    }
    Ok(out.finish())
}

/// Data in the form in which it goes into an envelope.
enum Data<'a> {
    Json(&'a str),
    Text(&'a str),
    Binary(&'a [u8]),
}

impl<'a> Data<'a> {
    fn of(content_type: &str, data: &'a [u8]) -> Self {
        if is_binary(content_type) {
            return Self::Binary(data);
        }
        if is_json(content_type)
            && let Ok(json) = serde_json::from_slice::<&RawValue>(data)
        {
            return Self::Json(json.get());
        }
        match std::str::from_utf8(data) {
            Ok(text) => Self::Text(text),
            // The reference would replace what is not UTF-8 and lose it; receivers of either form get these bytes.
            Err(_) => Self::Binary(data),
        }
    }

    fn room(&self) -> usize {
        match self {
            Self::Json(json) => json.len(),
            Self::Text(text) => text.len() + text.len() / 16,
            Self::Binary(bytes) => bytes.len().div_ceil(3) * 4,
        }
    }

    fn write(&self, out: &mut Object) {
        match self {
            Self::Json(json) => out.raw("data", json),
            Self::Text(text) => out.text("data", text),
            Self::Binary(bytes) => out.base64("data_base64", bytes),
        }
    }
}

fn or<'a>(text: &'a str, default: &'a str) -> &'a str {
    if text.is_empty() { default } else { text }
}
