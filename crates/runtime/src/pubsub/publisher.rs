//! The last step of every publish, whoever asked for it: a door, or the engine for a dead letter.

use super::bulk::{FailedEntry, Rejected};
use super::publish::Door;
use crate::catalogue::pubsub as catalogue;
use crate::components::snapshot::{Broker, Live};
use crate::error::Result;
use crate::outbound::{self, Input};
use futures::StreamExt as _;
use outrigger_component::error::{Error, Kind};
use outrigger_component::metadata::Metadata;
use outrigger_component::pubsub::{Entry, Failed, Outgoing, PubSub};
use outrigger_daemon::metrics;
use outrigger_resiliency::core::retry::Status;
use outrigger_resiliency::policies::{self, Flow, Policies};
use outrigger_resiliency::policy::{self, Outcome, Policy};
use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Entries on their way at once when a broker takes them one by one.
const AT_ONCE: usize = 100;

pub(super) struct Publisher {
    pub(super) app_id: String,
    pub(super) components: Live,
    pub(super) policies: Arc<Policies>,
    pub(super) metrics: Arc<metrics::Component>,
}

impl Publisher {
    pub(super) fn broker(&self, name: &str) -> Option<Arc<Broker>> {
        self.components.now().broker(name).cloned()
    }

    /// Publishes what is ready to be published, if this app may.
    pub(super) async fn send(&self, broker: &Broker, message: Outgoing, door: Door) -> Result<()> {
        let topic = message.topic.clone();
        self.permit(broker, &topic)?;
        self.run(broker, message, door).await.map_err(|cause| {
            let error = catalogue::publish_failed(&broker.name, &topic, &cause);
            match cause {
                policy::Error::Operation(Refused { error: source, .. }) => error.caused_by(source),
                policy::Error::Timeout | policy::Error::Refused(_) => error,
            }
        })
    }

    /// The same for those who say themselves what a failure means.
    pub(super) async fn put(&self, broker: &Broker, message: Outgoing) -> Result<(), Error> {
        self.permit(broker, &message.topic)
            .map_err(|error| Error::new(Kind::PermissionDenied, error.message))?;
        self.run(broker, message, Door::Grpc)
            .await
            .map_err(|cause| match cause {
                policy::Error::Operation(Refused { error, .. }) => error,
                policy::Error::Timeout => Error::new(Kind::Timeout, cause.to_string()),
                policy::Error::Refused(_) => Error::new(Kind::Unavailable, cause.to_string()),
            })
    }

    async fn run(
        &self,
        broker: &Broker,
        mut message: Outgoing,
        door: Door,
    ) -> Result<(), policy::Error<Refused>> {
        message.topic.insert_str(0, &broker.topic_prefix);
        let policy = self.policy(broker);
        let attempt = |message| async {
            broker
                .broker
                .publish(message)
                .await
                .map_err(|error| Refused { error, door })
        };
        let mut input = Input::new(message, &policy);
        policy.run(|_| attempt(input.take())).await
    }

    /// Publishes entries that are ready to be published. A retry repeats only what failed.
    pub(super) async fn send_bulk(
        &self,
        broker: &Broker,
        topic: &str,
        entries: Vec<Entry>,
        metadata: &Metadata,
        door: Door,
    ) -> Result<(), Rejected> {
        self.permit(broker, topic)?;
        let at_broker = format!("{}{topic}", broker.topic_prefix);
        let policy = self.policy(broker);
        if policy.is_none() {
            let failed = put(&*broker.broker, &at_broker, entries, metadata).await;
            return match Unpublished::of(failed, door) {
                None => Ok(()),
                Some(unpublished) => Err(rejected(
                    broker,
                    topic,
                    unpublished.to_string(),
                    unpublished.failed,
                )),
            };
        }
        let waiting = Waiting(Mutex::new(entries));
        let attempt = || async {
            let failed = put(&*broker.broker, &at_broker, waiting.all(), metadata).await;
            waiting.keep(&failed);
            Unpublished::of(failed, door).map_or(Ok(()), Err)
        };
        policy.run(|_| attempt()).await.map_err(|cause| {
            let text = cause.to_string();
            let failed = match cause {
                policy::Error::Operation(unpublished) => unpublished.failed,
                policy::Error::Timeout | policy::Error::Refused(_) => waiting.failed(&text),
            };
            rejected(broker, topic, text, failed)
        })
    }

    fn permit(&self, broker: &Broker, topic: &str) -> Result<()> {
        if broker.scopes.may_publish(topic) {
            Ok(())
        } else {
            Err(catalogue::forbidden(&broker.name, topic, &self.app_id))
        }
    }

    fn policy<'p>(&'p self, broker: &'p Broker) -> Policy<'p> {
        self.policies
            .component(&broker.name, policies::Kind::Pubsub, Flow::Outbound)
    }
}

/// All entries to the broker, in one call if it has one. Answers those that failed.
async fn put(broker: &dyn PubSub, topic: &str, entries: Vec<Entry>, metadata: &Metadata) -> Vec<Failed> {
    let entries = match broker.publish_bulk(topic, entries, metadata).await {
        Ok(failed) => return failed,
        Err(entries) => entries,
    };
    let one = |Entry {
                   id,
                   data,
                   content_type,
                   metadata,
               }| async move {
        let topic = topic.to_owned();
        let message = Outgoing {
            topic,
            data,
            content_type: Some(content_type),
            metadata,
        };
        broker
            .publish(message)
            .await
            .err()
            .map(|error| Failed { id, error })
    };
    futures::stream::iter(entries)
        .map(one)
        .buffer_unordered(AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await
}

/// `text` is the cause as a whole.
fn rejected(broker: &Broker, topic: &str, text: String, failed: Vec<Failed>) -> Rejected {
    Rejected {
        error: catalogue::publish_failed(&broker.name, topic, text),
        failed: failed
            .into_iter()
            .map(|Failed { id, error }| FailedEntry {
                id,
                error: error.to_string(),
            })
            .collect(),
    }
}

/// A broker's error, with what a retry policy may match.
#[derive(Debug)]
struct Refused {
    error: Error,
    door: Door,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Outcome for Refused {
    fn status(&self) -> Option<Status> {
        status(self.error.kind, self.door)
    }

    fn is_permanent(&self) -> bool {
        outbound::is_final(self.error.kind)
    }
}

/// At least one entry that failed.
#[derive(Debug)]
struct Unpublished {
    failed: Vec<Failed>,
    kind: Kind,
    door: Door,
}

impl Unpublished {
    fn of(failed: Vec<Failed>, door: Door) -> Option<Self> {
        let kind = failed.first()?.error.kind;
        Some(Self { failed, kind, door })
    }
}

impl fmt::Display for Unpublished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.failed.first() {
            Some(first) => first.error.fmt(f),
            None => f.write_str("bulk publish failed"),
        }
    }
}

impl Outcome for Unpublished {
    fn status(&self) -> Option<Status> {
        status(self.kind, self.door)
    }

    fn is_permanent(&self) -> bool {
        self.failed
            .iter()
            .all(|failed| outbound::is_final(failed.error.kind))
    }
}

/// COMPAT(pkg/runtime/pubsub/publish_resiliency.go): matched as HTTP or as gRPC codes, depending on the API that was
/// used. An error of unknown kind has no code, so that it is retried whatever the policy lists.
fn status(kind: Kind, door: Door) -> Option<Status> {
    let (grpc, http) = match kind {
        Kind::Invalid | Kind::EtagInvalid => (3, 400),
        Kind::Timeout => (4, 504),
        Kind::NotFound => (5, 404),
        Kind::PermissionDenied => (7, 403),
        Kind::Exhausted => (8, 429),
        Kind::EtagMismatch => (10, 409),
        Kind::Unsupported => (12, 501),
        Kind::Unavailable => (14, 503),
        Kind::Internal => return None,
    };
    Some(match door {
        Door::Http => Status::Http(http),
        Door::Grpc => Status::Grpc(grpc),
    })
}

/// The entries that are still to be published, between attempts. An attempt that is given up leaves them all.
struct Waiting(Mutex<Vec<Entry>>);

impl Waiting {
    fn all(&self) -> Vec<Entry> {
        self.lock().clone()
    }

    fn keep(&self, failed: &[Failed]) {
        let ids: HashSet<&str> = failed.iter().map(|failed| failed.id.as_str()).collect();
        self.lock().retain(|entry| ids.contains(entry.id.as_str()));
    }

    fn failed(&self, text: &str) -> Vec<Failed> {
        self.lock()
            .drain(..)
            .map(|entry| Failed {
                id: entry.id,
                error: Error::internal(text),
            })
            .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
