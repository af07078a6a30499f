//! Reading what the engine needs of a received envelope, and no more: one pass over the text, nothing copied.

use super::object::Name;
use jiff::Timestamp;
use outrigger_component::metadata::Metadata;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// The members of an envelope that decide on its way. Members that are not strings count as absent, `id` apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::pubsub) struct Head<'a> {
    /// As text even if it is none; empty without one.
    pub id: Cow<'a, str>,
    pub expiration: Option<Cow<'a, str>>,
    traceparent: Option<Cow<'a, str>>,
    traceid: Option<Cow<'a, str>>,
    tracestate: Option<Cow<'a, str>>,
}

impl<'a> Head<'a> {
    /// Checks the whole text to be one JSON object.
    pub(in crate::pubsub) fn read(envelope: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(envelope)
    }

    /// The W3C trace parent: of the envelope, else of the message's metadata; `traceid` is how older publishers
    /// wrote it.
    pub(in crate::pubsub) fn traceparent<'b>(&'b self, metadata: &'b Metadata) -> Option<&'b str> {
        self.traceparent
            .as_deref()
            .or_else(|| metadata.get("traceparent"))
            .or(self.traceid.as_deref())
            .or_else(|| metadata.get("traceid"))
    }

    pub(in crate::pubsub) fn tracestate<'b>(&'b self, metadata: &'b Metadata) -> Option<&'b str> {
        self.tracestate.as_deref().or_else(|| metadata.get("tracestate"))
    }

    /// An expiration that is no time does not expire.
    pub(in crate::pubsub) fn has_expired(&self, now: Timestamp) -> bool {
        self.expiration
            .as_deref()
            .and_then(|text| text.parse::<Timestamp>().ok())
            .is_some_and(|expiration| expiration < now)
    }
}

impl<'de> Deserialize<'de> for Head<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Head<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a CloudEvent, which is a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut head = Head::default();
                while let Some(Name(name)) = map.next_key()? {
                    let member = match &*name {
                        "id" => {
                            let raw = map.next_value::<&'de RawValue>()?;
                            head.id = string(raw).unwrap_or(Cow::Borrowed(raw.get()));
                            continue;
                        }
                        "expiration" => &mut head.expiration,
                        "traceparent" => &mut head.traceparent,
                        "traceid" => &mut head.traceid,
                        "tracestate" => &mut head.tracestate,
                        _ => {
                            map.next_value::<serde::de::IgnoredAny>()?;
                            continue;
                        }
                    };
                    *member = string(map.next_value::<&'de RawValue>()?);
                }
                Ok(head)
            }
        }
        from.deserialize_map(Read)
    }
}

/// The value, if it is a string.
fn string(raw: &RawValue) -> Option<Cow<'_, str>> {
    let Name(text) = serde_json::from_str(raw.get()).ok()?;
    Some(text)
}
