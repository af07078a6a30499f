//! Several events of one topic in one request, and what the app says of each.
//!
//! COMPAT(pkg/runtime/pubsub/bulksubscribe_events.go, pkg/runtime/subscription/postman): the envelope's members in
//! alphabetical order, type `com.dapr.event.sent.bulk`; an entry without an answer, or with an empty or unknown one, is
//! delivered again.

use super::Outcome;
use crate::error::Error;
use crate::json::Object;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use outrigger_component::metadata::Metadata;
use outrigger_daemon::trace::Context;
use serde::Deserialize;
use std::borrow::Cow;

/// Type of the envelope around the entries.
pub(super) const KIND: &str = "com.dapr.event.sent.bulk";
/// Room for what an entry has around its event.
const FRAME: usize = 192;

/// Events on their way to the app together.
#[derive(Debug, Clone)]
pub struct BulkEvent {
    /// Of this request; new each time.
    pub id: String,
    pub pubsub: String,
    pub topic: String,
    /// Where the app wants them.
    pub path: String,
    pub entries: Vec<Entry>,
    /// Of the request; becomes HTTP headers or gRPC metadata.
    pub metadata: Metadata,
    pub trace: Option<Context>,
}

/// One event of several.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Unique in the request; the app's answer names it.
    pub id: String,
    pub payload: Payload,
    pub content_type: String,
    pub metadata: Metadata,
}

#[derive(Debug, Clone)]
pub enum Payload {
    /// A CloudEvent as structured JSON. INVARIANT: one JSON object, checked by who made this.
    CloudEvent(Bytes),
    /// The message as it was published, for subscriptions with `rawPayload`.
    Raw(Bytes),
}

/// What the app says of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub id: String,
    /// A text is why the word cannot be understood.
    pub outcome: Result<Outcome, String>,
}

/// The body for an HTTP app.
pub fn envelope(event: &BulkEvent) -> Bytes {
    let room = event.entries.iter().map(|entry| match &entry.payload {
        Payload::CloudEvent(json) => json.len() + FRAME,
        Payload::Raw(bytes) => bytes.len().div_ceil(3) * 4 + FRAME,
    });
    let mut out = String::with_capacity(room.sum::<usize>() + FRAME);
    out.push_str("{\"entries\":[");
    for (number, entry) in event.entries.iter().enumerate() {
        if number > 0 {
            out.push(',');
        }
        push(&mut out, entry);
    }
    out.push_str("],\"id\":");
    quote(&mut out, &event.id);
    out.push_str(",\"metadata\":");
    object(&mut out, &event.metadata);
    out.push_str(",\"pubsubname\":");
    quote(&mut out, &event.pubsub);
    out.push_str(",\"topic\":");
    quote(&mut out, &event.topic);
    out.push_str(",\"type\":");
    quote(&mut out, KIND);
    out.push('}');
    Bytes::from(out)
}

fn push(out: &mut String, entry: &Entry) {
    out.push_str("{\"entryId\":");
    quote(out, &entry.id);
    out.push_str(",\"event\":");
    match &entry.payload {
        // Not UTF-8 would not be JSON: nothing is replaced here.
        Payload::CloudEvent(json) => out.push_str(&String::from_utf8_lossy(json)),
        Payload::Raw(bytes) => {
            out.push('"');
            BASE64.encode_string(bytes, out);
            out.push('"');
        }
    }
    out.push_str(",\"metadata\":");
    object(out, &entry.metadata);
    if !entry.content_type.is_empty() {
        out.push_str(",\"contentType\":");
        quote(out, &entry.content_type);
    }
    out.push('}');
}

fn object(out: &mut String, metadata: &Metadata) {
    out.push('{');
    for (number, (name, value)) in metadata.iter().enumerate() {
        if number > 0 {
            out.push(',');
        }
        quote(out, name);
        out.push(':');
        quote(out, value);
    }
    out.push('}');
}

fn quote(out: &mut String, text: &str) {
    out.push_str(&serde_json::to_string(text).expect("a text can be written as JSON"));
}

/// What an HTTP app's answer means.
///
/// # Errors
/// It is no answer to a batch: all entries are delivered again.
pub fn verdicts(status: u16, body: &[u8], entries: &[Entry]) -> Result<Vec<Verdict>, Error> {
    #[derive(Default, Deserialize)]
    struct Answer<'a> {
        #[serde(default, borrow)]
        statuses: Option<Vec<Object<Status<'a>>>>,
    }
    #[derive(Default, Deserialize)]
    struct Status<'a> {
        #[serde(default, rename = "entryId", borrow)]
        id: Cow<'a, str>,
        #[serde(default, borrow)]
        status: Cow<'a, str>,
    }
    match status {
        200..=299 => {
            let Object(answer): Object<Answer<'_>> = serde_json::from_slice(body).map_err(|error| {
                Error::Malformed(format!(
                    "failed unmarshalling app response for bulk subscribe: {error}"
                ))
            })?;
            let verdict = |Object(status): Object<Status<'_>>| Verdict {
                outcome: match &*status.status {
                    "SUCCESS" => Ok(Outcome::Success),
                    "" | "RETRY" => Ok(Outcome::Retry),
                    "DROP" => Ok(Outcome::Drop),
                    other => Err(unknown(&status.id, other)),
                },
                id: status.id.into_owned(),
            };
            Ok(answer
                .statuses
                .unwrap_or_default()
                .into_iter()
                .map(verdict)
                .collect())
        }
        404 => Ok(entries
            .iter()
            .map(|entry| Verdict {
                id: entry.id.clone(),
                outcome: Ok(Outcome::Drop),
            })
            .collect()),
        other => Err(Error::Http {
            status: other,
            message: format!(
                "retriable error returned from app while processing bulk pub/sub event: {}. status code returned: {other}",
                String::from_utf8_lossy(body)
            ),
        }),
    }
}

pub(super) fn unknown(id: &str, status: impl std::fmt::Display) -> String {
    format!("unknown status returned from app while processing bulk subscribe event {id}: {status}")
}

#[cfg(test)]
mod tests {
    use super::{BulkEvent, Entry, Payload, Verdict, envelope, verdicts};
    use crate::app::Outcome;
    use bytes::Bytes;
    use outrigger_component::metadata::Metadata;

    fn entry(id: &str, payload: Payload) -> Entry {
        Entry {
            id: id.to_owned(),
            payload,
            content_type: "application/cloudevents+json".to_owned(),
            metadata: [("k\"", "v")].into_iter().collect(),
        }
    }

    #[test]
    fn the_envelope_is_what_apps_expect() {
        let entries = vec![
            entry(
                "1",
                Payload::CloudEvent(Bytes::from_static(br#"{"id":"e","data":1.10}"#)),
            ),
            entry("2", Payload::Raw(Bytes::from_static(b"\xff\x00"))),
        ];
        let event = BulkEvent {
            id: "b".to_owned(),
            pubsub: "p".to_owned(),
            topic: "t".to_owned(),
            path: "/all".to_owned(),
            entries,
            metadata: Metadata::new(),
            trace: None,
        };
        let text = r#"{"entries":[{"entryId":"1","event":{"id":"e","data":1.10},"metadata":{"k\"":"v"},"contentType":"application/cloudevents+json"},{"entryId":"2","event":"/wA=","metadata":{"k\"":"v"},"contentType":"application/cloudevents+json"}],"id":"b","metadata":{},"pubsubname":"p","topic":"t","type":"com.dapr.event.sent.bulk"}"#;
        assert_eq!(envelope(&event), text);
        let read: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(read["entries"][1]["event"], "/wA=");
    }

    #[test]
    fn answers_table() {
        let entries = [entry("1", Payload::Raw(Bytes::new()))];
        let all = |outcome| {
            Some(vec![Verdict {
                id: "1".to_owned(),
                outcome,
            }])
        };
        let one = |status: &str| format!(r#"{{"statuses":[{{"entryId":"1","status":{status}}}]}}"#);
        for (status, body, expect) in [
            (200, one("\"SUCCESS\""), all(Ok(Outcome::Success))),
            (202, one("\"RETRY\""), all(Ok(Outcome::Retry))),
            (200, one("\"\""), all(Ok(Outcome::Retry))),
            (200, one("\"DROP\""), all(Ok(Outcome::Drop))),
            (
                200,
                one("\"MAYBE\""),
                all(Err(
                    "unknown status returned from app while processing bulk subscribe event 1: MAYBE"
                        .to_owned(),
                )),
            ),
            (
                200,
                r#"{"statuses":[{"entryId":"1"}]}"#.to_owned(),
                all(Ok(Outcome::Retry)),
            ),
            (200, "{}".to_owned(), Some(Vec::new())),
            (200, r#"{"statuses":null}"#.to_owned(), Some(Vec::new())),
            (200, String::new(), None),
            (200, "ok".to_owned(), None),
            (200, one("7"), None),
            (200, r#"[[["1","SUCCESS"]]]"#.to_owned(), None),
            (200, r#"{"statuses":[["1","SUCCESS"]]}"#.to_owned(), None),
            (404, String::new(), all(Ok(Outcome::Drop))),
            (500, String::new(), None),
            (302, String::new(), None),
        ] {
            assert_eq!(
                verdicts(status, body.as_bytes(), &entries).ok(),
                expect,
                "{status} {body}"
            );
        }
    }
}
