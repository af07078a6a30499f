//! The engine: one subscription, from the broker's deliveries to a settled outcome each.
//!
//! Everything happens in the task of the subscription. Up to the broker's concurrency, deliveries are in the hands of
//! the subscriber at once; with a concurrency of one they keep the broker's order. A subscription in bulk collects them
//! and hands them over in [batches](batch). A delivery that is dropped at any point (a panic, an abort, the end of
//! [`Engine::run`]) goes back to the broker by itself.

pub(super) mod batch;
mod process;

use super::pace::Pace;
use super::publish::is_raw;
use super::publisher::Publisher;
use super::routes::{Invalid, Routes};
use super::stream::{self, Line};
use crate::components::snapshot::Broker;
use crate::life::Halt;
use batch::Batching;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use outrigger_channel::app::{self, AppChannel};
use outrigger_component::metadata::Metadata;
use outrigger_component::pubsub::{self as component, Delivery, Subscription};
use outrigger_daemon::log::Log;
use outrigger_daemon::trace::Tracer;
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Who gets the events.
pub(super) enum Subscriber {
    App(Arc<dyn AppChannel>),
    Stream {
        events: mpsc::Sender<Box<stream::Event>>,
        line: Arc<Line>,
    },
}

/// Why [`Engine::run`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It was halted.
    Halted,
    /// The door of its stream hung up.
    Gone,
    /// The broker ended the deliveries.
    Broker,
}

/// One subscription.
pub(super) struct Engine {
    broker: Arc<Broker>,
    topic: String,
    metadata: Metadata,
    routes: Routes,
    raw: bool,
    dead_letter: Option<String>,
    /// `None` delivers one by one.
    batching: Option<Batching>,
    /// Name of its spans.
    span: String,
    subscriber: Subscriber,
    publisher: Arc<Publisher>,
    tracer: Tracer,
    log: Log,
    pace: Pace,
    halt: watch::Receiver<Halt>,
}

/// Why a subscription cannot be.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("subscription to topic '{topic}' on pubsub '{pubsub}' is not allowed")]
    Forbidden { pubsub: String, topic: String },
    #[error("{0}")]
    Route(#[from] Invalid),
    #[error("{0}")]
    Metadata(String),
}

/// What every engine needs.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub publisher: Arc<Publisher>,
    pub tracer: Tracer,
    pub log: Log,
}

/// How a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Taken, refused, or in the dead-letter topic.
    Done,
    /// To be delivered again.
    Again,
}

impl Engine {
    pub(super) fn new(
        surroundings: &Surroundings,
        halt: watch::Receiver<Halt>,
        broker: Arc<Broker>,
        subscription: &app::Subscription,
        subscriber: Subscriber,
    ) -> Result<Self, Error> {
        if !broker.scopes.may_subscribe(&subscription.topic) {
            return Err(Error::Forbidden {
                pubsub: broker.name.clone(),
                topic: subscription.topic.clone(),
            });
        }
        let dead_letter = &subscription.dead_letter_topic;
        Ok(Self {
            topic: subscription.topic.clone(),
            metadata: subscription.metadata.clone(),
            routes: Routes::compile(&subscription.rules)?,
            raw: is_raw(&subscription.metadata).map_err(Error::Metadata)?,
            dead_letter: (!dead_letter.is_empty()).then(|| dead_letter.clone()),
            batching: Batching::of(&subscription.bulk, surroundings, subscription),
            span: format!("pubsub/{}", subscription.topic),
            subscriber,
            broker,
            publisher: Arc::clone(&surroundings.publisher),
            tracer: surroundings.tracer.clone(),
            log: surroundings.log.clone(),
            pace: Pace::default(),
            halt,
        })
    }

    pub(super) fn pubsub(&self) -> &str {
        &self.broker.name
    }

    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    pub(super) fn log(&self) -> &Log {
        &self.log
    }

    /// Asks the broker for deliveries.
    pub(super) async fn subscribe(&self) -> Result<Subscription, outrigger_component::error::Error> {
        let topic = format!("{}{}", self.broker.topic_prefix, self.topic);
        let metadata = self.metadata.clone();
        self.broker
            .broker
            .subscribe(component::Subscribe {
                topic,
                metadata,
                batch: self.batching.map_or(0, |batching| batching.most),
            })
            .await
    }

    /// Delivers until the end. When halted, waits for what is held until the given time; what is held still at the end
    /// goes back to the broker.
    pub(super) async fn run(&self, subscription: Subscription) -> End {
        match self.batching {
            Some(batching) => self.run_batches(subscription, batching).await,
            None => self.run_each(subscription).await,
        }
    }

    async fn run_each(&self, subscription: Subscription) -> End {
        let Subscription {
            mut deliveries,
            concurrency,
        } = subscription;
        let most = concurrency.max(1);
        let mut open = true;
        let mut held = FuturesUnordered::new();
        let mut halt = self.halt.clone();
        let end = {
            let mut halted = pin!(halt.wait_for(Option::is_some));
            let mut gone = pin!(self.gone());
            loop {
                if !open && held.is_empty() {
                    break End::Broker;
                }
                tokio::select! {
                    biased;
                    _ = &mut halted => break End::Halted,
                    () = &mut gone => break End::Gone,
                    Some(()) = held.next() => {}
                    next = deliveries.next(), if open && held.len() < most => match next {
                        Some(delivery) => held.push(self.handle(delivery)),
                        None => open = false,
                    },
                }
            }
        };
        if end == End::Halted {
            self.finish(&mut held).await;
        }
        // What is held still goes back to the broker: that is what dropping it means.
        end
    }

    /// Waits for what is held, as long as the halt allows; it may become shorter meanwhile.
    async fn finish<F: Future<Output = ()>>(&self, held: &mut FuturesUnordered<F>) {
        let mut halt = self.halt.clone();
        loop {
            let until = halt.borrow_and_update().unwrap_or_else(Instant::now);
            tokio::select! {
                next = held.next() => if next.is_none() {
                    return;
                },
                () = tokio::time::sleep_until(until) => return,
                Ok(()) = halt.changed() => {}
            }
        }
    }

    /// Returns when this subscription should not go on: halted, or nobody is left to deliver to.
    pub(super) async fn over(&self) {
        let mut halt = self.halt.clone();
        tokio::select! {
            _ = halt.wait_for(Option::is_some) => {}
            () = self.gone() => {}
        }
    }

    /// Returns when there is nobody left to deliver to.
    async fn gone(&self) {
        match &self.subscriber {
            Subscriber::App(_) => std::future::pending().await,
            Subscriber::Stream { events, line } => line.gone(events).await,
        }
    }

    fn halting(&self) -> bool {
        self.halt.borrow().is_some()
    }

    async fn handle(&self, mut delivery: Delivery) {
        match self.process(&mut delivery.message).await {
            Verdict::Done => {
                self.pace.succeeded();
                delivery.settle(component::Outcome::Ack);
            }
            Verdict::Again => {
                let mut halt = self.halt.clone();
                tokio::select! {
                    () = tokio::time::sleep(self.pace.failed()) => {}
                    _ = halt.wait_for(Option::is_some) => {}
                }
                delivery.settle(component::Outcome::Nack);
            }
        }
    }
}
