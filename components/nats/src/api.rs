//! The words of JetStream's API, as far as they are used: JSON in requests and answers.
//!
//! Facts of NATS ADR-1 (API), ADR-13 and the server's `consumer.go` and `errors.json`: names of fields, numbers of errors.
//! Durations are nanoseconds.

use crate::failure::Fault;
use async_nats::Message;
use outrigger_component::error::Kind;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

pub(crate) const STREAM_NOT_FOUND: u32 = 10_059;
pub(crate) const CONSUMER_NOT_FOUND: u32 = 10_014;
/// Somebody has made it with other settings, or just now.
pub(crate) const CONSUMER_EXISTS: [u32; 3] = [10_013, 10_105, 10_148];

/// What JetStream says when it does not do something.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Refusal {
    /// As in HTTP.
    pub code: u32,
    #[serde(default)]
    pub err_code: u32,
    #[serde(default)]
    description: String,
}

impl Refusal {
    pub(crate) fn kind(&self) -> Kind {
        match (self.code, self.err_code) {
            // Resources of an account, storage, memory, messages or bytes of a stream, messages of a subject.
            (_, 10_002 | 10_023 | 10_028 | 10_047 | 10_077) => Kind::Exhausted,
            (404, _) => Kind::NotFound,
            (503, _) => Kind::Unavailable,
            (401 | 403, _) => Kind::PermissionDenied,
            (400, _) => Kind::Invalid,
            _ => Kind::Internal,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.description, self.err_code)
    }
}

#[derive(Deserialize)]
struct Envelope {
    error: Option<Refusal>,
}

/// # Errors
/// [`Fault::Refused`], or [`Fault::Unexpected`] if it is neither.
pub(crate) fn answer<T: DeserializeOwned>(message: &Message) -> Result<T, Fault> {
    let odd = |error: serde_json::Error| Fault::Unexpected(error.to_string());
    let envelope: Envelope = serde_json::from_slice(&message.payload).map_err(odd)?;
    match envelope.error {
        Some(refusal) => Err(Fault::Refused(refusal)),
        None => serde_json::from_slice(&message.payload).map_err(odd),
    }
}

/// Answer to a published message; nothing of it is needed but that it is one.
#[derive(Deserialize)]
pub(crate) struct Published {
    #[serde(rename = "seq")]
    pub _sequence: u64,
}

#[derive(Serialize)]
pub(crate) struct NamesRequest<'a> {
    pub subject: &'a str,
}

#[derive(Deserialize)]
pub(crate) struct Names {
    /// `null` if there are none.
    pub streams: Option<Vec<String>>,
}

#[derive(Deserialize)]
pub(crate) struct Stream {
    pub config: StreamConfig,
}

#[derive(Deserialize)]
pub(crate) struct StreamConfig {
    /// Single messages may be read from any replica, without a detour over JSON.
    #[serde(default)]
    pub allow_direct: bool,
}

#[derive(Serialize)]
pub(crate) struct CreateConsumer<'a> {
    pub stream_name: &'a str,
    pub config: &'a Consumer,
}

/// A consumer's settings; in requests, what is `None` is left to the server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Consumer {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durable_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliver_subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliver_group: Option<String>,
    pub deliver_policy: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opt_start_seq: Option<u64>,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opt_start_time: Option<String>,
    pub ack_policy: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ack_wait: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_deliver: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub backoff: Vec<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter_subject: Option<String>,
    pub replay_policy: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit_bps: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ack_pending: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_heartbeat: Option<u64>,
    pub flow_control: bool,
    pub num_replicas: u32,
    pub mem_storage: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ConsumerInfo {
    pub name: String,
    pub config: Consumer,
    /// Somebody receives its messages.
    #[serde(default)]
    pub push_bound: bool,
}

/// For a refused message: when it may come again.
#[derive(Serialize)]
pub(crate) struct Again {
    pub delay: u64,
}

#[derive(Serialize)]
pub(crate) struct LastMessage<'a> {
    pub last_by_subj: &'a str,
}

#[derive(Deserialize)]
pub(crate) struct Stored {
    pub message: StoredMessage,
}

/// Both parts in base64.
#[derive(Deserialize)]
pub(crate) struct StoredMessage {
    #[serde(default)]
    pub hdrs: String,
    #[serde(default)]
    pub data: String,
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
