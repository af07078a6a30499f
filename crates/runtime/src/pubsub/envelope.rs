//! The CloudEvents envelope, written and read as text.
//!
//! The data inside is never parsed into values: JSON is checked and copied, so numbers keep every digit and member
//! order, and a kilobyte costs one allocation and one copy each way.
//!
//! Source: CloudEvents 1.0, JSON format. COMPAT(components-contrib pubsub/envelope.go): member names, defaults, what
//! a publisher may override. Members are written in alphabetical order, as the reference's are.

mod object;
pub(super) mod read;
pub(super) mod write;

use jiff::Timestamp;

/// Content type of an envelope.
pub(super) const CONTENT_TYPE: &str = "application/cloudevents+json";
const SPEC_VERSION: &str = "1.0";
const DEFAULT_TYPE: &str = "com.dapr.event.sent";
/// Source of events whose publisher is not known.
const DEFAULT_SOURCE: &str = "Dapr";
const DEFAULT_CONTENT_TYPE: &str = "text/plain";

/// Whether the text names the media type, in any case and with any parameters.
fn is_type(text: &str, media_type: &str) -> bool {
    let essence = text.split_once(';').map_or(text, |(essence, _)| essence);
    essence.eq_ignore_ascii_case(media_type)
}

/// A publisher's own CloudEvent.
pub(super) fn is_cloud_event(content_type: &str) -> bool {
    is_type(content_type, CONTENT_TYPE)
}

/// Bytes that are not text: they travel as `data_base64`.
pub(super) fn is_binary(content_type: &str) -> bool {
    [
        "application/octet-stream",
        "application/cloudevents+protobuf",
        "application/x-protobuf",
    ]
    .iter()
    .any(|binary| is_type(content_type, binary))
}

pub(super) fn is_octet_stream(content_type: &str) -> bool {
    is_type(content_type, "application/octet-stream")
}

pub(super) fn is_json(content_type: &str) -> bool {
    is_type(content_type, "application/json")
}

/// `text/*` and XML.
pub(super) fn is_text(content_type: &str) -> bool {
    content_type
        .get(..5)
        .is_some_and(|start| start.eq_ignore_ascii_case("text/"))
        || is_type(content_type, "application/xml")
}

/// RFC 3339 in whole seconds, UTC.
fn rfc3339(at: Timestamp) -> String {
    format!("{at:.0}")
}

#[cfg(test)]
mod tests;
