//! The app beside us, in the verbs of its contract. HTTP and gRPC apps differ behind [`AppChannel`] and
//! nowhere else.

pub mod binding;
pub mod bulk;
pub mod gated;
pub mod grpc;
pub mod http;
mod http1;

use crate::body::Body;
use crate::call::{Call, Reply};
use crate::error::Error;
use crate::wire::{self, MOST_FIELDS};
use ::bytes::Bytes;
use bulk::{BulkEvent, Verdict};
use outrigger_component::metadata::Metadata;
use outrigger_daemon::dial::Dial;
use outrigger_daemon::trace::Context;
use rustls::ClientConfig;
use std::sync::Arc;

/// A subscription as the app declares it (`GET /dapr/subscribe`, `ListTopicSubscriptions`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subscription {
    pub pubsub: String,
    pub topic: String,
    pub metadata: Metadata,
    /// In order; the first rule whose expression is true wins; an empty expression always is.
    pub rules: Vec<Rule>,
    pub dead_letter_topic: String,
    pub bulk: Bulk,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// CEL over `event`; empty is the default route.
    pub expression: String,
    pub path: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bulk {
    pub enabled: bool,
    /// 0 is the default (100).
    pub max_messages: i32,
    /// Milliseconds; 0 is the default (1000).
    pub max_await_ms: i32,
}

/// One event on its way to the app.
#[derive(Debug, Clone)]
pub struct TopicEvent {
    pub pubsub: String,
    pub topic: String,
    /// Where the app wants it: an HTTP route or the gRPC `path`.
    pub path: String,
    /// The CloudEvent, structured JSON.
    pub envelope: Bytes,
    pub content_type: &'static str,
    /// Message metadata; becomes HTTP headers or gRPC metadata.
    pub metadata: Metadata,
    /// Trace of this delivery, when there is one.
    pub trace: Option<Context>,
}

/// Sent as trace parent with an event or a call that has no trace. No valid one, which receivers ignore.
///
/// COMPAT(pkg/diagnostics): the reference sends the trace it does not have.
const NO_TRACE: ::http::HeaderValue =
    ::http::HeaderValue::from_static("00-00000000000000000000000000000000-0000000000000000-00");

/// What the app says of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Success,
    Retry,
    Drop,
}

/// The app's side of the contract.
///
/// Every future may be dropped at any await: the request to the app is then cancelled.
#[async_trait::async_trait]
pub trait AppChannel: Send + Sync + 'static {
    /// What the app subscribes to; empty when it declares nothing.
    async fn subscriptions(&self) -> Result<Vec<Subscription>, Error>;

    /// The actor types that the app says it hosts. The default is for apps that are not asked: those that speak gRPC.
    async fn hosted(&self) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    async fn invoke(&self, call: Call) -> Result<Reply, Error>;

    /// `Err` is "not delivered, or answered with a failure": the subscription's policy decides on a retry.
    async fn deliver(&self, event: TopicEvent) -> Result<Outcome, Error>;

    /// Several events at once; `Err` as for [`AppChannel::deliver`], for all of them. Entries that the answer does not
    /// name have no outcome. The default is for apps without the callback.
    async fn deliver_bulk(&self, _event: BulkEvent) -> Result<Vec<Verdict>, Error> {
        Err(Error::Unimplemented("OnBulkTopicEvent"))
    }

    /// Whether the app wants the events of an input binding. It is asked at `route` (HTTP) or for a list (gRPC).
    async fn takes(&self, _binding: &str, _route: &str) -> Result<bool, Error> {
        Ok(false)
    }

    /// `Err` is "not delivered, or answered with a failure", as for [`AppChannel::deliver`].
    async fn trigger(&self, _event: binding::Event) -> Result<binding::Reply, Error> {
        Err(Error::Unimplemented("OnBindingEvent"))
    }

    /// Passes a gRPC request through byte by byte. Only gRPC apps can.
    async fn proxy(&self, request: ::http::Request<Body>) -> Result<::http::Response<Body>, Error>;

    /// One health probe.
    async fn healthy(&self) -> Result<(), Error>;
}

/// The way to the app.
fn dial(host: &str, port: u16, tls: Option<Arc<ClientConfig>>) -> Result<Dial, Error> {
    let address = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    match tls {
        None => Ok(Dial::plain(address)),
        Some(config) => {
            Dial::secure(address, host, config).map_err(|error| Error::Invalid(error.to_string()))
        }
    }
}

/// The gRPC code that stands for an HTTP status. COMPAT(dapr/kit grpccodes): 400 is `Internal`.
pub fn grpc_code_of_http(status: u16) -> i32 {
    match status {
        200..=299 => 0,
        408 => 1,
        500 => 2,
        400 => 13,
        504 => 4,
        404 => 5,
        409 => 6,
        403 => 7,
        401 => 16,
        429 => 8,
        501 => 12,
        503 => 14,
        _ => 2,
    }
}

/// Room for an event's metadata as header fields.
fn fields_for(metadata: &Metadata) -> Result<::http::HeaderMap, Error> {
    let count = metadata.len();
    if count > MOST_FIELDS {
        return Err(Error::Invalid(format!(
            "the event has {count} metadata entries, and at most {MOST_FIELDS} can be sent to the app"
        )));
    }
    Ok(::http::HeaderMap::with_capacity(count + 4))
}

/// The fields of a delivery: the metadata of the message, but for what belongs to the request itself.
fn fields(metadata: &Metadata, not: fn(&::http::HeaderName) -> bool) -> Result<::http::HeaderMap, Error> {
    let mut fields = fields_for(metadata)?;
    for (name, value) in metadata.iter() {
        // Names or values that cannot be HTTP fields are left out, as they could not be sent at all.
        if let (Ok(name), Ok(value)) = (
            ::http::HeaderName::try_from(name),
            ::http::HeaderValue::try_from(value),
        ) && !not(&name)
            && !wire::is_hop_by_hop(&name)
        {
            fields.insert(name, value);
        }
    }
    Ok(fields)
}

/// Writes the trace of this hop into the app's headers.
pub fn insert_trace(headers: &mut ::http::HeaderMap, trace: &Context) {
    if let Ok(value) = ::http::HeaderValue::from_str(trace.traceparent().as_str()) {
        headers.insert(::http::HeaderName::from_static("traceparent"), value);
    }
    if let Some(state) = trace.tracestate()
        && let Ok(value) = ::http::HeaderValue::try_from(state)
    {
        headers.insert(::http::HeaderName::from_static("tracestate"), value);
    }
}
