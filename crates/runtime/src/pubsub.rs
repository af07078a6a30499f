//! Pub/sub: what every publish and every delivery goes through, whichever door or broker is at its ends.
//!
//! Out: [`Pubsub::publish`] and [`Pubsub::publish_bulk`] (`pubsub/publish.rs`, `pubsub/bulk.rs`): find the broker, check
//! the scope, wrap the data in a CloudEvent, hand it over under the broker's outbound policy.
//! In: one task per subscription (`pubsub/deliver.rs`) pulls deliveries, opens the envelope, picks the route, delivers
//! under the inbound policy, dead-letters and settles. Apps that are called (`pubsub/subscribe.rs`) and apps that
//! hold a stream open (`pubsub/stream.rs`) are two kinds of subscriber of that one engine.
//! Beside both: the outbox (`pubsub/outbox.rs`), which publishes what state transactions caused.
//!
//! Invariants
//! - A message is acknowledged to its broker only after its subscriber took or refused it, or after it lies in the
//!   dead-letter topic. Whatever else happens (error, cancellation, panic, stop) leaves it with the broker.
//! - Nothing is queued here: at most [`concurrency`](outrigger_component::pubsub::Subscription::concurrency) messages
//!   per subscription are in memory, and back-pressure is not polling the broker.
//! - A message that fails does not spin: the engine waits before it gives a failed message back (`pubsub/pace.rs`).
//!
//! Deliberately absent: anything that knows HTTP or gRPC.

pub mod active;
pub mod bulk;
pub mod declared;
mod deliver;
mod envelope;
pub mod outbox;
mod pace;
pub mod plan;
pub mod publish;
mod publisher;
mod routes;
pub mod scopes;
pub mod stream;
mod subscribe;
#[cfg(test)]
mod tests;

use crate::components::snapshot::Live;
use active::{Active, Lists};
use deliver::Surroundings;
use outbox::Outbox;
use outrigger_channel::app::AppChannel;
use outrigger_daemon::log::Log;
use outrigger_daemon::metrics;
use outrigger_daemon::tasks::Spawner;
use outrigger_daemon::trace::Tracer;
use outrigger_resiliency::policies::Policies;
use outrigger_resources::subscription::Subscription;
use publisher::Publisher;
use std::sync::Arc;
use std::time::Duration;
use subscribe::Subscriptions;
use tokio::sync::watch;

/// The pub/sub use cases.
pub struct Pubsub {
    publisher: Arc<Publisher>,
    subscriptions: Subscriptions,
    outbox: Arc<Outbox>,
}

/// What [`Pubsub`] is made of.
pub struct Parts {
    pub app_id: String,
    /// Part of the names of internal topics.
    pub namespace: String,
    pub components: Live,
    /// `None` when the sidecar has no app: then only streams can subscribe.
    pub app: Option<Arc<dyn AppChannel>>,
    /// Declared subscriptions, in the order of reading; those for other apps are left out here.
    pub declared: Vec<Subscription>,
    /// Whether the app is asked for subscriptions of its own (`--disable-init-endpoints=subscribe` says no).
    pub ask_app: bool,
    pub policies: Arc<Policies>,
    pub metrics: Arc<metrics::Component>,
    pub tracer: Tracer,
    /// Scope `dapr.runtime.processor.subscription`.
    pub log: Log,
    pub tasks: Spawner,
}

impl Pubsub {
    /// Nothing is subscribed to before [`Pubsub::resume`].
    ///
    /// # Errors
    /// A declared subscription that can never work.
    pub fn new(parts: Parts) -> Result<Self, declared::Error> {
        let declared = declared::read(parts.declared, &parts.app_id)?;
        let publisher = Arc::new(Publisher {
            app_id: parts.app_id,
            components: parts.components,
            policies: parts.policies,
            metrics: parts.metrics,
        });
        let outbox = Outbox::start(outbox::Parts {
            app_id: publisher.app_id.clone(),
            namespace: parts.namespace,
            publisher: Arc::clone(&publisher),
            log: parts.log.scope("dapr.outbox"),
            tasks: parts.tasks.clone(),
        });
        let subscriptions = Subscriptions::start(subscribe::Parts {
            surroundings: Surroundings {
                publisher: Arc::clone(&publisher),
                tracer: parts.tracer,
                log: parts.log,
            },
            app: parts.app,
            declared,
            ask_app: parts.ask_app,
            tasks: parts.tasks,
        });
        Ok(Self {
            publisher,
            subscriptions,
            outbox: Arc::new(outbox),
        })
    }

    /// What state transactions publish through.
    pub fn outbox(&self) -> Arc<Outbox> {
        Arc::clone(&self.outbox)
    }

    /// Begins, or begins again, to deliver to the app: it is healthy. The first time, the app is asked what it
    /// subscribes to.
    pub fn resume(&self) {
        self.subscriptions.resume();
    }

    /// Returns once every subscription has been tried after the first [`Pubsub::resume`]: events published from then on reach
    /// the app. An app that does not answer for its subscriptions does not hold this up for ever.
    pub async fn begun(&self) {
        self.subscriptions.begun().await;
    }

    /// Ends the app's subscriptions: it is not healthy. What it holds already is settled if it answers. Streams go on.
    pub fn pause(&self) {
        self.subscriptions.pause();
    }

    /// Ends all subscriptions for good: nothing more is taken from the brokers, what subscribers hold is settled if they
    /// answer within `patience`, the rest is left to be delivered again. Returns when all have ended.
    pub async fn stop(&self, patience: Duration) {
        // Together: an event of the outbox may be one that a subscription here still waits for.
        tokio::join!(self.subscriptions.stop(patience), self.outbox.stop(patience));
    }

    /// What is subscribed to, as metadata lists it.
    pub fn active(&self) -> Vec<Active> {
        self.subscriptions.lists().borrow().all().cloned().collect()
    }

    /// Changes whenever [`Pubsub::active`] does.
    pub fn changes(&self) -> watch::Receiver<Lists> {
        self.subscriptions.lists()
    }

    fn tracer(&self) -> &Tracer {
        &self.subscriptions.surroundings().tracer
    }
}
