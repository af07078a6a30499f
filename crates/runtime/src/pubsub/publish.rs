//! Publishing one message: find the broker, check the scope, wrap the data in a CloudEvent, hand it over.
//!
//! One allocation for the envelope, one copy of the data. The broker has the message when this returns `Ok`, as
//! durably as the broker is configured to.

use super::Pubsub;
use super::envelope::{self, write};
use crate::catalogue::pubsub as catalogue;
use crate::components::snapshot::Broker;
use crate::error::Result;
use bytes::Bytes;
use jiff::Timestamp;
use outrigger_component::metadata::Metadata;
use outrigger_component::pubsub::Outgoing;
use outrigger_daemon::trace::{Context, Traceparent};
use outrigger_resources::go;
use std::sync::Arc;
use tokio::time::Instant;

/// A message to publish.
#[derive(Debug, Clone, Default)]
pub struct Publish {
    pub pubsub: String,
    pub topic: String,
    pub data: Bytes,
    /// Of the data; empty is `text/plain`.
    pub content_type: String,
    /// For the broker, and for us: `rawPayload`, `ttlInSeconds`, `cloudevent.*`.
    pub metadata: Metadata,
    /// The trace that the event continues.
    pub trace: Option<Context>,
    pub door: Door,
}

/// Through which API a request came: decides whether a retry policy matches a broker's error by HTTP or by gRPC code.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Door {
    Http,
    /// Also what we publish ourselves, such as dead letters.
    #[default]
    Grpc,
}

impl Pubsub {
    /// Publishes one message. Cancelling it leaves open whether the broker has it.
    ///
    /// COMPAT(pkg/api/http onPublish, pkg/api/grpc PublishEvent): the order of the checks decides which error is
    /// answered.
    pub async fn publish(&self, mut request: Publish) -> Result<()> {
        let broker = self.target(&request.pubsub, &request.topic, &request.metadata)?;
        let data = if raw_payload(&request.pubsub, &request.metadata)? {
            trace_metadata(&mut request.metadata, request.trace.as_ref());
            request.data
        } else {
            self.envelope(
                &broker,
                &request.topic,
                &request.content_type,
                &request.metadata,
                request.trace.as_ref(),
                &request.data,
            )?
        };
        let message = Outgoing {
            topic: request.topic,
            data,
            // COMPAT: a single message has no content type of its own; subscribers take it for an envelope.
            content_type: None,
            metadata: request.metadata,
        };
        let (topic, started) = (message.topic.clone(), Instant::now());
        let sent = self.publisher.send(&broker, message, request.door).await;
        self.publisher
            .metrics
            .published(&broker.name, &topic, sent.is_ok(), started.elapsed());
        sent
    }

    /// The broker that a request names.
    pub(super) fn target(&self, pubsub: &str, topic: &str, metadata: &Metadata) -> Result<Arc<Broker>> {
        let info = || {
            metadata
                .iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect()
        };
        if pubsub.is_empty() {
            return Err(catalogue::name_empty(info()));
        }
        let broker = self
            .publisher
            .broker(pubsub)
            .ok_or_else(|| catalogue::not_found(pubsub, info()))?;
        if topic.is_empty() {
            return Err(catalogue::topic_empty(pubsub, info()));
        }
        Ok(broker)
    }

    /// The data as a CloudEvent: wrapped, or completed if it is one already.
    pub(super) fn envelope(
        &self,
        broker: &Broker,
        topic: &str,
        content_type: &str,
        metadata: &Metadata,
        trace: Option<&Context>,
        data: &[u8],
    ) -> Result<Bytes> {
        let now = Timestamp::now();
        let traceparent = trace.map(Context::traceparent);
        let frame = write::Frame {
            app_id: &self.publisher.app_id,
            pubsub: &broker.name,
            topic,
            content_type,
            traceparent: traceparent.as_ref().map_or("", Traceparent::as_str),
            tracestate: trace.and_then(Context::tracestate).unwrap_or_default(),
            // Brokers with a time to live of their own enforce it themselves.
            expiration: if broker.features.message_ttl {
                None
            } else {
                write::expiration(metadata, now)
            },
        };
        if envelope::is_cloud_event(content_type) {
            write::complete(frame, data, now)
                .map_err(|error| catalogue::cloud_event(&broker.name, &self.publisher.app_id, error))
        } else {
            Ok(write::wrap(frame, &write::Overrides::of(metadata), data, now))
        }
    }
}

/// Whether the message travels without an envelope.
pub(super) fn raw_payload(pubsub: &str, metadata: &Metadata) -> Result<bool> {
    is_raw(metadata).map_err(|cause| {
        let info = metadata
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        catalogue::metadata_unreadable(pubsub, cause, info)
    })
}

/// `rawPayload` of a message or of a subscription. The error text is what clients compare.
pub(super) fn is_raw(metadata: &Metadata) -> Result<bool, String> {
    match metadata.get_any_case("rawPayload") {
        None | Some("") => Ok(false),
        Some(text) => go::boolean(text)
            .map_err(|_| format!("rawPayload value must be a valid boolean: actual is '{text}'")),
    }
}

/// A raw message has no envelope for its trace; the broker's metadata carries it.
pub(super) fn trace_metadata(metadata: &mut Metadata, trace: Option<&Context>) {
    if let Some(trace) = trace {
        metadata.insert("traceid", trace.traceparent().as_str());
        if let Some(state) = trace.tracestate() {
            metadata.insert("tracestate", state);
        }
    }
}
