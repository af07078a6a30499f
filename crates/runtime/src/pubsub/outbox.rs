//! The outbox: events that are published if, and only if, the state transaction that caused them is committed.
//!
//! A state store with `outboxPublishPubsub` and `outboxPublishTopic` publishes an event for each value that a transaction
//! writes. How nothing is lost and nothing invented:
//! 1. [`Outbox::begin`] sends each event to an internal topic, under an id that is made here, and adds to the
//!    transaction a [record](event::Record) under that id as key.
//! 2. The transaction commits: record and values are there together, or none of them.
//! 3. Whoever gets the event from the internal topic ([`relay`]) publishes it to the real topic if the record is in the
//!    store, removes the record, and only then acknowledges. In the process that ran the transaction nobody looks
//!    into the store: the outcome is handed over as soon as it is known ([`flights`]).
//! 4. Records that are left after a crash, for example because the broker forgot the internal event, are found when the
//!    next sidecar of the app starts ([`recovery`]).
//!
//! Invariants
//! - An event may be published again (after a crash between its publication and the acknowledgement), always under the
//!   same id.
//! - Events of one key leave one sidecar in the order of their transactions: transactions on the same key wait for each
//!   other here, and an event waits for those of its key before it. Across sidecars of one app the order is the internal topic's.
//!
//! COMPAT(pkg/runtime/pubsub/outbox.go): names of metadata, topic, key and event; which attributes an operation may set.
//! Sidecars of the reference can share the topic: they look for the key, whatever is stored under it. Unlike there, nothing
//! waits a fixed time, a transaction that failed withdraws its events, and records outlive the broker.

pub mod event;
pub(crate) mod flights;
mod order;
mod recovery;
mod relay;

use super::publisher::Publisher;
use crate::catalogue::pubsub as catalogue;
use crate::components::snapshot::StateStore;
use crate::error::ApiError;
use event::{Cause, Events};
use flights::{Flight, Flights};
use futures::future::try_join_all;
use order::Chains;
use outrigger_component::error::{Error, Kind};
use outrigger_component::metadata::{Metadata, truthy};
use outrigger_component::pubsub::Outgoing;
use outrigger_component::state::{Set, Write};
use outrigger_daemon::drain;
use outrigger_daemon::log::Log;
use outrigger_daemon::tasks::{OnExit, Spawner};
use outrigger_daemon::trace;

use relay::Relay;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// What a state store's metadata says about its outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where events are published to.
    pub pubsub: String,
    pub topic: String,
    /// The broker of the internal topic.
    pub through: String,
    /// An event without a record is dropped instead of being looked at again.
    pub discard: bool,
}

impl Settings {
    /// `None` without broker and topic.
    pub fn read(metadata: &Metadata) -> Option<Self> {
        let text = |name: &str| metadata.get_any_case(name).filter(|text| !text.is_empty());
        let pubsub = text("outboxPublishPubsub")?.to_owned();
        Some(Self {
            topic: text("outboxPublishTopic")?.to_owned(),
            through: text("outboxPubsub").map_or_else(|| pubsub.clone(), str::to_owned),
            discard: text("outboxDiscardWhenMissingState").is_some_and(truthy),
            pubsub,
        })
    }
}

/// Who this is.
pub(super) struct Parts {
    pub app_id: String,
    pub namespace: String,
    pub publisher: Arc<Publisher>,
    /// Scope `dapr.outbox`.
    pub log: Log,
    pub tasks: Spawner,
}

pub struct Outbox {
    shared: Arc<Shared>,
    /// Tells the relays to end.
    halt: watch::Sender<Option<Instant>>,
    /// Never fired: it knows when the last relay has ended.
    working: drain::Trigger,
}

/// What transactions and relays share.
struct Shared {
    app_id: String,
    namespace: String,
    publisher: Arc<Publisher>,
    flights: Flights,
    chains: Chains,
    log: Log,
}

impl Outbox {
    /// Starts a relay for each store that has an outbox.
    pub(super) fn start(parts: Parts) -> Self {
        let shared = Arc::new(Shared {
            app_id: parts.app_id,
            namespace: parts.namespace,
            publisher: parts.publisher,
            flights: Flights::default(),
            chains: Chains::default(),
            log: parts.log,
        });
        let halt = watch::Sender::new(None);
        let (working, claim) = drain::channel();
        let components = shared.publisher.components.now();
        for store in components.state_stores() {
            let Some(settings) = store.outbox.clone() else {
                continue;
            };
            let relay = Relay::new(&shared, store.name.clone(), settings, halt.subscribe());
            let claim = claim.clone();
            parts
                .tasks
                .named(format!("outbox {}", store.name), OnExit::Log, async move {
                    relay.run().await;
                    drop(claim);
                });
        }
        Self {
            shared,
            halt,
            working,
        }
    }

    /// Prepares the events of a transaction: withdraws projections from it, adds the records. Keys have their prefix.
    /// `None` if there is nothing to publish.
    ///
    /// # Errors
    /// The internal topic did not take an event: the transaction must not be made.
    pub(crate) async fn begin(
        &self,
        store: &StateStore,
        settings: &Settings,
        writes: &mut Vec<Write>,
        trace: Option<&trace::Context>,
    ) -> Result<Option<Flight>, ApiError> {
        let shared = &self.shared;
        let Events { events, orphans } = Events::take(
            writes,
            Cause {
                app_id: &shared.app_id,
                through: &settings.through,
                trace,
            },
        );
        for key in orphans {
            shared.log.warn(format_args!(
                "the projection of key {key} in a transaction on state store {} has no operation of the same key: it is ignored",
                store.name
            ));
        }
        if events.is_empty() {
            return Ok(None);
        }
        let mut flight = shared
            .flights
            .begin(events.iter().map(|event| (event.id.as_str(), event.key.as_str())))
            .await;
        // Events of one key in their order, those of different keys at once.
        let mut by_key: BTreeMap<&str, Vec<&event::Event>> = BTreeMap::new();
        for event in &events {
            by_key.entry(&event.key).or_default().push(event);
        }
        let topic = shared.internal_topic(settings);
        let sent: Result<Vec<()>, Error> = try_join_all(by_key.into_values().map(|events| async {
            for event in events {
                shared.announce(settings, &topic, event).await?;
            }
            Ok(())
        }))
        .await;
        if let Err(cause) = sent {
            // What was announced already finds this outcome.
            flight.end(Some(Kind::Invalid));
            return Err(catalogue::outbox(&shared.app_id, cause));
        }
        writes.extend(events.iter().map(|event| {
            Write::Set(Set {
                value: event.record(&shared.namespace, &shared.app_id),
                key: event.id.clone(),
                ..Set::default()
            })
        }));
        flight.carry(events);
        Ok(Some(flight))
    }

    /// The transaction has ended. `failure` is why the store refused it.
    pub(crate) async fn end(&self, settings: &Settings, mut flight: Flight, failure: Option<Kind>) {
        // Relays may have given the events up meanwhile.
        let late = failure.is_none() && flight.age() > relay::ORPHANED / 2;
        let events = flight.unload();
        flight.end(failure);
        if !late {
            return;
        }
        let topic = self.shared.internal_topic(settings);
        for event in &events {
            if let Err(error) = self.shared.announce(settings, &topic, event).await {
                self.shared.log.error(format_args!(
                    "outbox event {} of a slow transaction is published when the app starts again: {error}",
                    event.id
                ));
            }
        }
    }

    /// Lets the relays finish what they hold, no longer than `patience`. The rest stays with the broker.
    pub(super) async fn stop(&self, patience: Duration) {
        self.halt.send_replace(Some(Instant::now() + patience));
        self.working.drained().await;
    }
}

impl Shared {
    fn internal_topic(&self, settings: &Settings) -> String {
        format!("{}{}{}outbox", self.namespace, self.app_id, settings.topic)
    }

    /// Sends an event to the internal topic.
    async fn announce(&self, settings: &Settings, topic: &str, event: &event::Event) -> Result<(), Error> {
        let message = Outgoing {
            topic: topic.to_owned(),
            data: event.envelope.clone(),
            content_type: None,
            // Brokers with partitions keep what bears the same key in order.
            metadata: Metadata::from_iter([(relay::KEY, event.key.as_str())]),
        };
        self.put(&settings.through, message).await
    }

    /// Publishes under the broker's outbound policy.
    async fn put(&self, pubsub: &str, message: Outgoing) -> Result<(), Error> {
        let broker = self.publisher.broker(pubsub).ok_or_else(|| {
            Error::new(
                Kind::NotFound,
                format!("pubsub {pubsub} of the outbox is not loaded"),
            )
        })?;
        self.publisher.put(&broker, message).await
    }
}
