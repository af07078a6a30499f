//! Publishing many messages to one topic in one request, each with an id by which the answer names those that failed.
//!
//! COMPAT(pkg/api/http onBulkPublish, pkg/api/grpc bulkPublishEvent, pkg/runtime/pubsub/default_bulkpub.go,
//! pkg/runtime/pubsub/bulkpublish_resiliency.go): a retry repeats only what failed. Unlike there, the request's metadata
//! holds for every entry, also for those without metadata of their own.

use super::publish::{Door, raw_payload, trace_metadata};
use super::{Pubsub, envelope};
use crate::catalogue::pubsub as catalogue;
use crate::components::snapshot::Broker;
use crate::error::{ApiError, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use outrigger_component::metadata::Metadata;
use outrigger_component::pubsub;
use outrigger_daemon::trace::{Context, Kind, Span};
use std::collections::HashSet;
use tokio::time::Instant;

/// Name of the span of each entry.
const SPAN: &str = "pubsub/bulk";

/// Messages to publish.
#[derive(Debug, Clone, Default)]
pub struct PublishBulk {
    pub pubsub: String,
    pub topic: String,
    pub entries: Vec<Entry>,
    pub metadata: Metadata,
    pub trace: Option<Context>,
    pub door: Door,
}

#[derive(Debug, Clone)]
pub struct Entry {
    /// Not empty, unique in the request.
    pub id: String,
    pub event: Event,
    pub content_type: String,
    /// Wins over the request's metadata, name by name.
    pub metadata: Metadata,
}

/// The data of an entry, as its door has it.
#[derive(Debug, Clone)]
pub enum Event {
    Bytes(Bytes),
    /// A JSON value as text, as it stood in the request. The content type decides how it becomes bytes: a JSON value
    /// as it is, text from a string, `application/octet-stream` from a string with base64.
    Json(Bytes),
}

/// The request failed, whole or in part.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Rejected {
    /// What a client is told that cannot be shown entries.
    #[source]
    pub error: ApiError,
    /// The entries that were not published; the others were. Empty: nothing was tried, and `error` says why.
    pub failed: Vec<FailedEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedEntry {
    pub id: String,
    pub error: String,
}

impl From<ApiError> for Rejected {
    fn from(error: ApiError) -> Self {
        Self {
            error,
            failed: Vec::new(),
        }
    }
}

impl Pubsub {
    /// Whether a bulk publish to this topic would be looked at. For doors that decode the entries after this check, as
    /// the order of the errors demands.
    pub fn check(&self, pubsub: &str, topic: &str, metadata: &Metadata) -> Result<()> {
        self.target(pubsub, topic, metadata)?;
        raw_payload(pubsub, metadata).map(drop)
    }

    /// The error for a body of a bulk publish that could not be decoded.
    pub fn undecodable(&self, pubsub: &str, topic: &str, cause: &str) -> ApiError {
        catalogue::unmarshal_events(pubsub, topic, &self.publisher.app_id, cause)
    }

    /// Publishes many messages; `Ok` when all of them are published. Cancelling it leaves open which are.
    pub async fn publish_bulk(&self, request: PublishBulk) -> Result<(), Rejected> {
        let broker = self.target(&request.pubsub, &request.topic, &request.metadata)?;
        let raw = raw_payload(&request.pubsub, &request.metadata)?;
        // Each event of a bulk has a place of its own in the trace.
        let mut spans = Vec::with_capacity(request.entries.len());
        let entries = self.entries(&broker, raw, &request, &mut spans)?;
        let (count, started) = (entries.len(), Instant::now());
        let sent = self
            .publisher
            .send_bulk(&broker, &request.topic, entries, &request.metadata, request.door)
            .await;
        let lost = match &sent {
            Ok(()) => 0,
            // Not even tried: the scope forbids it.
            Err(rejected) if rejected.failed.is_empty() => count,
            Err(rejected) => rejected.failed.len(),
        };
        let published = u64::try_from(count.saturating_sub(lost)).unwrap_or(u64::MAX);
        self.publisher.metrics.published_bulk(
            &broker.name,
            &request.topic,
            sent.is_ok(),
            published,
            started.elapsed(),
        );
        if let Err(rejected) = &sent {
            spans.iter_mut().for_each(|span| span.fail(rejected));
        }
        sent
    }

    /// Checks and wraps all entries before the first is published.
    fn entries(
        &self,
        broker: &Broker,
        raw: bool,
        request: &PublishBulk,
        spans: &mut Vec<Span>,
    ) -> Result<Vec<pubsub::Entry>> {
        let app_id = &self.publisher.app_id;
        let (name, topic) = (&broker.name, &request.topic);
        let mut ids = HashSet::with_capacity(request.entries.len());
        let mut entries = Vec::with_capacity(request.entries.len());
        for entry in &request.entries {
            let data = bytes(&entry.event, &entry.content_type)
                .map_err(|cause| catalogue::envelope(name, topic, app_id, cause))?;
            if entry.id.is_empty() || !ids.insert(entry.id.as_str()) {
                let cause = "entryId is duplicated or not present for entry";
                return Err(catalogue::marshal_events(name, topic, app_id, cause));
            }
            let mut metadata = request.metadata.clone();
            metadata.extend(entry.metadata.iter());
            let span = self.tracer().start(SPAN, Kind::Producer, request.trace.as_ref());
            let (data, content_type) = if raw {
                trace_metadata(&mut metadata, span.context());
                (data, entry.content_type.clone())
            } else {
                let data = self.envelope(
                    broker,
                    topic,
                    &entry.content_type,
                    &metadata,
                    span.context(),
                    &data,
                )?;
                (data, envelope::CONTENT_TYPE.to_owned())
            };
            spans.push(span);
            entries.push(pubsub::Entry {
                id: entry.id.clone(),
                data,
                content_type,
                metadata,
            });
        }
        Ok(entries)
    }
}

/// COMPAT(pkg/api/http/util.go ConvertEventToBytes): conversions and texts.
fn bytes(event: &Event, content_type: &str) -> Result<Bytes, String> {
    let json = match event {
        Event::Bytes(bytes) => return Ok(bytes.clone()),
        Event::Json(json) => json,
    };
    let mismatch = || "error: mismatch between contentType and event".to_owned();
    let string = || serde_json::from_slice::<String>(json).map_err(|_| mismatch());
    if envelope::is_octet_stream(content_type) {
        let bytes = BASE64.decode(string()?).map_err(|error| {
            format!(
                "error: unable to decode base64 application/octect-stream data: {}",
                go_base64(error)
            )
        })?;
        Ok(bytes.into())
    } else if envelope::is_text(content_type) {
        Ok(string()?.into())
    } else if envelope::is_json(content_type) || envelope::is_cloud_event(content_type) {
        Ok(json.clone())
    } else {
        Err(mismatch())
    }
}

/// As Go words it.
fn go_base64(error: base64::DecodeError) -> String {
    let at = match error {
        base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
        base64::DecodeError::InvalidLength(length) => length,
        base64::DecodeError::InvalidPadding => return "illegal base64 data".to_owned(),
    };
    format!("illegal base64 data at input byte {at}")
}
