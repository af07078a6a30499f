//! From the internal topic to the real one.
//!
//! Events of one key are handled one after the other, in the order in which they came; those of different keys at once,
//! as many as the broker hands out. An event that cannot be published for now is held here and tried again: giving it
//! back would let those after it overtake.

use super::event::{Announced, Event};
use super::flights::Outcome;
use super::order::Turn;
use super::{Settings, Shared, recovery};
use crate::components::snapshot::StateStore;
use crate::outbound;
use crate::pubsub::envelope::write;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use outrigger_component::error::Error;
use outrigger_component::pubsub::{
    Delivery, Incoming, Outcome as Settled, Outgoing, Subscribe, Subscription,
};
use outrigger_component::state::{Delete, Get};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Under this name an internal event carries the key of its state.
pub(super) const KEY: &str = "partitionKey";
/// Until an event is this old, its record is looked for again and again: the transaction may be under way elsewhere.
const YOUNG: Duration = Duration::from_secs(2);
const FIRST_LOOK: Duration = Duration::from_millis(2);
const LONGEST_LOOK: Duration = Duration::from_millis(500);
/// An event so old whose record is missing belongs to no transaction that could still be committed, unless it
/// announces its events [again](super::Outbox::end).
pub(super) const ORPHANED: Duration = Duration::from_secs(60);
/// The same when the settings ask to discard. COMPAT(pkg/runtime/pubsub/outbox.go): one second, then ten.
const DISCARDED: Duration = Duration::from_secs(11);
/// Between attempts to publish, and to subscribe.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Attempts to remove a record.
const REMOVALS: u32 = 6;

/// The outbox of one state store.
pub(super) struct Relay {
    shared: Arc<Shared>,
    store: String,
    settings: Settings,
    halt: watch::Receiver<Option<Instant>>,
}

/// What the store says of a record.
enum Look {
    Found,
    Missing,
    Failed(Error),
}

/// The event is still to be published, and the sidecar is stopping or the event cannot be.
pub(super) struct Unpublished;

impl Relay {
    pub(super) fn new(
        shared: &Arc<Shared>,
        store: String,
        settings: Settings,
        halt: watch::Receiver<Option<Instant>>,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            store,
            settings,
            halt,
        }
    }

    /// Until it is halted.
    pub(super) async fn run(&self) {
        let left = recovery::find(self).await;
        tokio::join!(recovery::finish(self, left), self.serve());
    }

    /// Keeps a subscription to the internal topic.
    async fn serve(&self) {
        let Self { shared, settings, .. } = self;
        let topic = shared.internal_topic(settings);
        let mut pause = FIRST_PAUSE;
        loop {
            let began = Instant::now();
            let broker = shared.publisher.broker(&settings.through);
            let said = match broker {
                None => format!("outbox pubsub {} not loaded", settings.through),
                Some(broker) => {
                    let subscribe = Subscribe {
                        topic: format!("{}{topic}", broker.topic_prefix),
                        ..Subscribe::default()
                    };
                    let subscription = tokio::select! {
                        subscription = broker.broker.subscribe(subscribe) => subscription,
                        () = self.halted() => return,
                    };
                    match subscription {
                        Ok(subscription) => {
                            if self.relay(subscription).await {
                                return;
                            }
                            "the broker ended the subscription".to_owned()
                        }
                        Err(error) => error.to_string(),
                    }
                }
            };
            shared.log.warn(format_args!(
                "could not subscribe to internal outbox topic {topic}, trying again: {said}"
            ));
            if began.elapsed() > LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                () = self.halted() => return,
            }
        }
    }

    /// True when it was halted, false when the broker ended it.
    async fn relay(&self, subscription: Subscription) -> bool {
        let Subscription {
            mut deliveries,
            concurrency,
        } = subscription;
        let most = concurrency.max(1);
        let mut held = FuturesUnordered::new();
        let mut open = true;
        {
            let mut halted = pin!(self.halted());
            loop {
                if !open && held.is_empty() {
                    return false;
                }
                tokio::select! {
                    biased;
                    () = &mut halted => break,
                    Some(()) = held.next() => {}
                    next = deliveries.next(), if open && held.len() < most => match next {
                        // The place is taken here, in the order of the topic.
                        Some(delivery) => {
                            let turn = delivery.message.metadata.get(KEY).map(|key| self.join(key));
                            held.push(self.handle(delivery, turn));
                        }
                        None => open = false,
                    },
                }
            }
        }
        let until = self.halt.borrow().unwrap_or_else(Instant::now);
        let all = async { while held.next().await.is_some() {} };
        // What is held still goes back to the broker: that is what dropping it means.
        let _late = tokio::time::timeout_at(until, all).await;
        true
    }

    pub(super) fn join(&self, key: &str) -> Turn {
        self.shared.chains.join(&format!("{}||{key}", self.store))
    }

    async fn handle(&self, delivery: Delivery, turn: Option<Turn>) {
        let settled = self.settle(&delivery.message, turn).await;
        delivery.settle(settled);
    }

    async fn settle(&self, message: &Incoming, turn: Option<Turn>) -> Settled {
        let (shared, settings) = (&self.shared, &self.settings);
        let announced = match Announced::read(&message.data) {
            Ok(announced) => announced,
            Err(error) => {
                shared.log.error(format_args!(
                    "dropping a message on internal outbox topic {} that is no event: {error}",
                    message.topic
                ));
                return Settled::Ack;
            }
        };
        let mut turn = turn;
        if let Some(turn) = &mut turn {
            turn.come().await;
        }
        let id = &*announced.id;
        let age = || announced.age(Timestamp::now());
        let found = match shared.flights.outcome(id).await {
            Outcome::Published => return Settled::Ack,
            Outcome::Committed => Look::Found,
            Outcome::Over => self.look(id).await,
            // One that does not say when it was made is taken for new.
            Outcome::Unknown => self.look_for(id, age().unwrap_or_default()).await,
        };
        let missing = matches!(found, Look::Missing);
        let outcome = match found {
            Look::Found => return self.publish_and_forget(id, &message.data).await,
            Look::Missing => {
                if shared.flights.outcome(id).await == Outcome::Over {
                    return Settled::Ack;
                }
                "outbox state not found".to_owned()
            }
            Look::Failed(error) => error.to_string(),
        };
        let orphaned = if settings.discard { DISCARDED } else { ORPHANED };
        if missing && age().map_or(settings.discard, |age| age >= orphaned) {
            shared.log.error(format_args!(
                "failed to publish outbox topic to pubsub {}: cannot publish outbox message to topic {}: {outcome}, discarding message",
                settings.pubsub, settings.topic
            ));
            return Settled::Ack;
        }
        shared.log.warn(format_args!(
            "failed to publish outbox topic to pubsub {}: cannot publish outbox message to topic {}: {outcome}, rejecting for later processing",
            settings.pubsub, settings.topic
        ));
        Settled::Nack
    }

    async fn publish_and_forget(&self, id: &str, envelope: &[u8]) -> Settled {
        match self.publish(id, envelope).await {
            Ok(()) => {
                self.forget(id).await;
                Settled::Ack
            }
            Err(Unpublished) => Settled::Nack,
        }
    }

    /// Publishes an event, however long it takes.
    pub(super) async fn publish(&self, id: &str, envelope: &[u8]) -> Result<(), Unpublished> {
        let (shared, settings) = (&self.shared, &self.settings);
        let failed = |error: &dyn std::fmt::Display| {
            shared.log.error(format_args!(
                "failed to publish outbox event {id} to topic {} of pubsub {}: {error}",
                settings.topic, settings.pubsub
            ));
        };
        let data = write::redirect(envelope, &settings.pubsub, &settings.topic)
            .map_err(|error| failed(&error))
            .map_err(|()| Unpublished)?;
        let mut pause = FIRST_PAUSE;
        loop {
            let message = Outgoing {
                topic: settings.topic.clone(),
                data: data.clone(),
                ..Outgoing::default()
            };
            let error = match shared.put(&settings.pubsub, message).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            failed(&error);
            if outbound::is_final(error.kind) {
                return Err(Unpublished);
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                () = self.halted() => return Err(Unpublished),
            }
        }
    }

    /// Removes a record whose event is published.
    pub(super) async fn forget(&self, id: &str) {
        self.shared.flights.published(id);
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let Some(store) = self.state_store() else { return };
            let delete = Delete {
                key: id.to_owned(),
                ..Delete::default()
            };
            let Err(error) = store.store.delete(delete).await else {
                return;
            };
            if attempt == REMOVALS {
                self.shared.log.warn(format_args!(
                    "record {id} of a published outbox event stays in state store {}; the event may be published again when the app starts: {error}",
                    self.store
                ));
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    pub(super) fn state_store(&self) -> Option<Arc<StateStore>> {
        let components = self.shared.publisher.components.now();
        components.state_store(&self.store).cloned()
    }

    async fn look(&self, id: &str) -> Look {
        let Some(store) = self.state_store() else {
            return Look::Failed(Error::internal(format!(
                "cannot get outbox state: state store {} not found",
                self.store
            )));
        };
        let get = Get {
            key: id.to_owned(),
            ..Get::default()
        };
        match store.store.get(&get).await {
            Ok(Some(item)) if !item.value.is_empty() => Look::Found,
            Ok(_) => Look::Missing,
            Err(error) => Look::Failed(error),
        }
    }

    /// Looks for the record of an event that is `age` old, at least once.
    async fn look_for(&self, id: &str, age: Duration) -> Look {
        let patience = if self.settings.discard { DISCARDED } else { YOUNG };
        let until = Instant::now() + patience.saturating_sub(age);
        let mut pause = FIRST_LOOK;
        loop {
            let look = self.look(id).await;
            if matches!(look, Look::Found) || Instant::now() >= until {
                return look;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_LOOK),
                // Not yet the last word, but the last look.
                () = self.halted() => return Look::Failed(Error::internal("the sidecar is stopping")),
            }
        }
    }

    pub(super) async fn halted(&self) {
        let mut halt = self.halt.clone();
        // A sender that is gone is a halt, too.
        let _halted = halt.wait_for(Option::is_some).await;
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(super) fn event(&self, id: &str, record: &[u8]) -> Option<Event> {
        Event::of_record(id, record, &self.shared.namespace, &self.shared.app_id)
    }

    pub(super) fn store_name(&self) -> &str {
        &self.store
    }
}
