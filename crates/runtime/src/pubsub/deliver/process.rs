//! What happens to one message: envelope, expiry, route, subscriber, dead letter.
//!
//! COMPAT(pkg/runtime/subscription/subscription.go, postman/*): what is logged, counted, dead-lettered and
//! acknowledged. Unlike there, a subscription that is stopping sends nothing to the dead-letter topic, and an event
//! that should lie there but could not be written is delivered again in every case.

use super::{Engine, Subscriber, Verdict};
use crate::outbound::Input;
use crate::pubsub::envelope::{self, read::Head, write};
use crate::pubsub::publish::Door;
use bytes::Bytes;
use jiff::Timestamp;
use outrigger_channel::app::bulk::Payload;
use outrigger_channel::app::{Outcome, TopicEvent};
use outrigger_channel::error::Error as AppError;
use outrigger_component::metadata::Metadata;
use outrigger_component::pubsub::{Incoming, Outgoing};
use outrigger_daemon::metrics::{Ingress, ProcessStatus};
use outrigger_daemon::trace::{self, Span};
use outrigger_resiliency::core::retry::Status;
use outrigger_resiliency::policies::{Flow, Kind};
use outrigger_resiliency::policy;
use std::time::Duration;
use tokio::time::Instant;

/// How long a dead letter may take to be written.
const DEAD_LETTER_PATIENCE: Duration = Duration::from_secs(30);
/// Message metadata that is an attribute of a binary-mode CloudEvent.
const BINARY_PREFIX: &str = "ce_";

/// An event that did not get through this time.
#[derive(Debug, thiserror::Error)]
enum Undelivered {
    #[error("RETRY status returned from app while processing pub/sub event {0}")]
    Retry(String),
    #[error("error returned from app while processing pub/sub event {id}: {error}")]
    App { id: String, error: AppError },
}

/// A message, looked into.
pub(super) struct Opened {
    /// As the app knows it.
    pub topic: String,
    /// What goes to the dead-letter topic if it comes to that.
    pub letter: Option<Outgoing>,
    pub fate: Result<Fit, Unfit>,
}

/// An event that a subscriber may have.
pub(super) struct Fit {
    /// Empty for a raw payload in a batch.
    pub id: String,
    pub path: String,
    pub payload: Payload,
    pub metadata: Metadata,
    /// The trace that the event continues.
    pub parent: Option<trace::Context>,
}

/// Why no subscriber gets a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    Expired,
    /// No rule wants it.
    Unrouted,
    /// No event, or its route cannot be decided.
    Unreadable,
}

impl Engine {
    pub(super) async fn process(&self, message: &mut Incoming) -> Verdict {
        let Opened { topic, letter, fate } = self.open(message);
        let topic = topic.as_str();
        let fit = match fate {
            Ok(fit) => fit,
            Err(unfit) => {
                match unfit {
                    Unfit::Expired => self.count(topic, ProcessStatus::Drop, None, None),
                    Unfit::Unrouted => {
                        self.count(topic, ProcessStatus::Drop, Some(ProcessStatus::Success), None);
                    }
                    Unfit::Unreadable => return self.failed(letter, topic).await,
                }
                return self.refused(letter, topic).await;
            }
        };
        let (Payload::CloudEvent(envelope) | Payload::Raw(envelope)) = fit.payload;
        let event = TopicEvent {
            pubsub: self.broker.name.clone(),
            topic: topic.to_owned(),
            path: fit.path,
            envelope,
            content_type: envelope::CONTENT_TYPE,
            metadata: fit.metadata,
            trace: None,
        };
        match self.deliver(&fit.id, topic, event, fit.parent.as_ref()).await {
            Some(Outcome::Success) => Verdict::Done,
            Some(Outcome::Drop) => self.refused(letter, topic).await,
            Some(Outcome::Retry) | None => self.failed(letter, topic).await,
        }
    }

    /// Envelope, expiry and route of a message that goes to the subscriber by itself.
    fn open(&self, message: &mut Incoming) -> Opened {
        self.open_as(message, Self::event)
    }

    /// The same for a message in a batch: there a raw payload has no envelope.
    pub(super) fn open_batched(&self, message: &mut Incoming) -> Opened {
        self.open_as(message, if self.raw { Self::raw_payload } else { Self::event })
    }

    fn open_as(
        &self,
        message: &mut Incoming,
        read: fn(&Self, &Bytes, Metadata, &str) -> Result<Fit, Unfit>,
    ) -> Opened {
        let mut metadata = std::mem::take(&mut message.metadata);
        if let Some(content_type) = &message.content_type {
            metadata.insert("content-type", content_type.clone());
        }
        metadata.insert("pubsubName", self.broker.name.clone());
        let topic = self.topic_of(message).to_owned();
        let letter = self.dead_letter.as_ref().map(|topic| Outgoing {
            topic: topic.clone(),
            data: message.data.clone(),
            content_type: message.content_type.clone(),
            metadata: metadata.clone(),
        });
        let fate = read(self, &message.data, metadata, &topic);
        Opened { topic, letter, fate }
    }

    fn event(&self, data: &Bytes, metadata: Metadata, topic: &str) -> Result<Fit, Unfit> {
        let (name, log) = (&self.broker.name, &self.log);
        let envelope = self.envelope(data, &metadata, topic);
        let head = Head::read(&envelope).map_err(|error| {
            log.error(format_args!(
                "error deserializing cloud event in pubsub {name} and topic {topic}: {error}"
            ));
            Unfit::Unreadable
        })?;
        let id = &*head.id;
        if head.has_expired(Timestamp::now()) {
            let expiration = head.expiration.as_deref().unwrap_or_default();
            log.warn(format_args!(
                "dropping expired pub/sub event {id} as of {expiration}"
            ));
            return Err(Unfit::Expired);
        }
        let path = self.route(&envelope, id, topic)?;
        Ok(Fit {
            id: id.to_owned(),
            path,
            parent: parent(&head, &metadata),
            payload: Payload::CloudEvent(envelope.clone()),
            metadata,
        })
    }

    /// Expressions see a raw payload as a text.
    fn raw_payload(&self, data: &Bytes, metadata: Metadata, topic: &str) -> Result<Fit, Unfit> {
        let text = if self.routes.look() {
            serde_json::to_vec(&String::from_utf8_lossy(data)).expect("a text can be written as JSON")
        } else {
            Vec::new()
        };
        Ok(Fit {
            id: String::new(),
            path: self.route(&text, "", topic)?,
            payload: Payload::Raw(data.clone()),
            metadata,
            parent: None,
        })
    }

    fn route(&self, event: &[u8], id: &str, topic: &str) -> Result<String, Unfit> {
        let (name, log) = (&self.broker.name, &self.log);
        match self.routes.pick(event) {
            Ok(Some(path)) => Ok(path.to_owned()),
            Ok(None) => {
                log.debug(format_args!(
                    "no matching route for event {id} in pubsub {name} and topic {topic}; skipping"
                ));
                Err(Unfit::Unrouted)
            }
            Err(error) => {
                log.error(format_args!(
                    "error finding matching route for event {id} in pubsub {name} and topic {topic}: {error}"
                ));
                Err(Unfit::Unreadable)
            }
        }
    }

    /// The topic as the app knows it.
    fn topic_of<'a>(&'a self, message: &'a Incoming) -> &'a str {
        let topic = message
            .topic
            .strip_prefix(&self.broker.topic_prefix)
            .unwrap_or(&message.topic);
        if topic.is_empty() { &self.topic } else { topic }
    }

    /// The message as a structured CloudEvent.
    fn envelope(&self, data: &Bytes, metadata: &Metadata, topic: &str) -> Bytes {
        if self.raw {
            let parent = metadata.get("traceparent");
            // COMPAT: the trace parent stands for the older trace id too.
            let traces = [
                ("traceid", parent.or_else(|| metadata.get("traceid"))),
                ("traceparent", parent),
                ("tracestate", metadata.get("tracestate")),
            ];
            let traces = traces
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)));
            return write::wrap_raw(&self.broker.name, topic, data, traces);
        }
        match metadata.get("content-type") {
            Some(content_type) if envelope::is_octet_stream(content_type) => {
                let attribute = |(name, value): (&str, _)| {
                    let name = name.to_ascii_lowercase();
                    Some((name.strip_prefix(BINARY_PREFIX)?.to_owned(), value))
                };
                let attributes: Vec<_> = metadata.iter().filter_map(attribute).collect();
                write::structured(&self.broker.name, topic, &attributes, content_type, data)
            }
            _ => data.clone(),
        }
    }

    /// Delivers under the inbound policy. `None`: not delivered.
    async fn deliver(
        &self,
        id: &str,
        topic: &str,
        event: TopicEvent,
        parent: Option<&trace::Context>,
    ) -> Option<Outcome> {
        let policy = self
            .publisher
            .policies
            .component(&self.broker.name, Kind::Pubsub, Flow::Inbound);
        let mut input = Input::new(event, &policy);
        match policy
            .run(|_| self.attempt(id, topic, input.take(), parent))
            .await
        {
            Ok(outcome) => Some(outcome),
            // Reported by the attempt.
            Err(policy::Error::Operation(_)) => None,
            Err(error @ (policy::Error::Timeout | policy::Error::Refused(_))) => {
                self.log.warn(format_args!(
                    "event {id} could not be delivered to topic {topic}: {error}"
                ));
                None
            }
        }
    }

    async fn attempt(
        &self,
        id: &str,
        topic: &str,
        mut event: TopicEvent,
        parent: Option<&trace::Context>,
    ) -> Result<Outcome, Undelivered> {
        let mut span = if parent.is_some() || self.tracer.enabled() {
            self.tracer.start(&self.span, trace::Kind::Client, parent)
        } else {
            Span::none()
        };
        span.text("messaging.system", "pubsub");
        span.text("messaging.destination", topic);
        event.trace = span.context().cloned();

        let started = Instant::now();
        let (outcome, status_of_drop) = match &self.subscriber {
            Subscriber::App(app) => (app.deliver(event).await, Some(ProcessStatus::Success)),
            Subscriber::Stream { events, line } => (line.deliver(events, id, event).await, None),
        };
        let elapsed = Some(started.elapsed());
        let log = &self.log;
        let undelivered = match outcome {
            Ok(Outcome::Success) => {
                self.count(topic, ProcessStatus::Success, None, elapsed);
                return Ok(Outcome::Success);
            }
            Ok(Outcome::Drop) => {
                log.warn(format_args!(
                    "DROP status returned from app while processing pub/sub event {id}"
                ));
                self.count(topic, ProcessStatus::Drop, status_of_drop, elapsed);
                return Ok(Outcome::Drop);
            }
            // COMPAT: an app without the callback takes every event, and the dead-letter topic gets none.
            Err(error @ AppError::Unimplemented(_)) => {
                log.warn(format_args!(
                    "non-retriable error returned from app while processing pub/sub event {id}: {error}"
                ));
                span.fail(&error);
                self.count(topic, ProcessStatus::Drop, None, elapsed);
                return Ok(Outcome::Success);
            }
            Ok(Outcome::Retry) => Undelivered::Retry(id.to_owned()),
            Err(error) => Undelivered::App {
                id: id.to_owned(),
                error,
            },
        };
        span.fail(&undelivered);
        self.count(topic, ProcessStatus::Retry, None, elapsed);
        log.warn(format_args!(
            "encountered a retriable error while publishing a subscribed message to topic {topic}, err: {undelivered}"
        ));
        Err(undelivered)
    }

    /// A message that its subscriber does not want, or that no subscriber may see any more.
    pub(super) async fn refused(&self, letter: Option<Outgoing>, topic: &str) -> Verdict {
        match letter {
            None => Verdict::Done,
            Some(letter) => self.bury(letter, topic).await,
        }
    }

    /// A message that did not get through.
    async fn failed(&self, letter: Option<Outgoing>, topic: &str) -> Verdict {
        // While we stop, subscribers fail for reasons that are not the message's.
        let buried = match letter {
            Some(letter) if !self.halting() => self.bury(letter, topic).await,
            Some(_) | None => Verdict::Again,
        };
        self.count(
            topic,
            if buried == Verdict::Done {
                ProcessStatus::Drop
            } else {
                ProcessStatus::Retry
            },
            None,
            None,
        );
        buried
    }

    /// Writes a message to the dead-letter topic, as it came.
    pub(super) async fn bury(&self, letter: Outgoing, origin: &str) -> Verdict {
        let topic = letter.topic.clone();
        let sending = Box::pin(self.publisher.send(&self.broker, letter, Door::Grpc));
        let sent = match tokio::time::timeout(DEAD_LETTER_PATIENCE, sending).await {
            Ok(Ok(())) => return Verdict::Done,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("not published within {DEAD_LETTER_PATIENCE:?}"),
        };
        self.log.error(format_args!(
            "error sending message to dead letter, origin topic: {origin} dead letter topic {topic} err: {sent}"
        ));
        Verdict::Again
    }

    fn count(
        &self,
        topic: &str,
        outcome: ProcessStatus,
        status: Option<ProcessStatus>,
        elapsed: Option<Duration>,
    ) {
        self.publisher.metrics.delivered(Ingress {
            component: &self.broker.name,
            topic,
            outcome,
            status,
            elapsed,
        });
    }
}

impl policy::Outcome for Undelivered {
    fn status(&self) -> Option<Status> {
        match self {
            Self::Retry(_) => None,
            Self::App { error, .. } => status(error),
        }
    }
}

/// What a policy may match of an app's failure.
pub(super) fn status(error: &AppError) -> Option<Status> {
    match error {
        AppError::Status { code, .. } => u16::try_from(*code).ok().map(Status::Grpc),
        AppError::Http { status, .. } => Some(Status::Http(*status)),
        _ => None,
    }
}

/// The trace that an event continues.
fn parent(head: &Head<'_>, metadata: &Metadata) -> Option<trace::Context> {
    trace::Context::from_headers(head.traceparent(metadata)?, head.tracestate(metadata))
}
