//! The subscriptions of the app: which there are, and that they run while the app is healthy.
//!
//! One task owns them. It is told what should be ([`Phase`]) and brings it about: asks the app once what it subscribes
//! to, merges that with the declared subscriptions, and keeps a task of [the engine](crate::pubsub::deliver) running
//! for each, trying again whenever a broker refuses or ends one.
//!
//! COMPAT(pkg/runtime/processor/subscriber). Unlike there, an app that could not be asked is asked again, and a
//! subscription that the broker ends is made anew.

use crate::life::{Halt, PAUSE_PATIENCE, Phase, Running};
use crate::pubsub::active::{Active, Lists};
use crate::pubsub::declared::merge;
use crate::pubsub::deliver::{End, Engine, Subscriber, Surroundings};
use futures::FutureExt as _;
use outrigger_channel::app::{AppChannel, Subscription};
use outrigger_channel::error::Error;
use outrigger_component::pubsub;
use outrigger_daemon::drain;
use outrigger_daemon::log::Log;
use outrigger_daemon::tasks::{OnExit, Spawner};
use outrigger_resiliency::policies::BuiltIn;
use outrigger_resiliency::policy;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Pauses between attempts to subscribe, and to ask an app that did not answer.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

pub(super) struct Owner {
    pub surroundings: Surroundings,
    pub app: Arc<dyn AppChannel>,
    pub declared: Vec<Subscription>,
    pub ask_app: bool,
    /// What the app said; `None` until it has answered.
    pub programmatic: Option<Vec<Subscription>>,
    pub lists: watch::Sender<Lists>,
    pub tasks: Spawner,
    /// `None` while nothing runs.
    pub running: Option<Running>,
    /// Becomes true when every subscription has been tried once.
    pub begun: watch::Sender<bool>,
}

impl Owner {
    pub(super) async fn own(mut self, mut phases: watch::Receiver<Phase>) {
        let mut pause = FIRST_PAUSE;
        loop {
            let phase = *phases.borrow_and_update();
            match phase {
                Phase::Running => {
                    let asked = tokio::select! {
                        asked = self.ask() => asked,
                        changed = phases.changed() => match changed {
                            Ok(()) => continue,
                            Err(_) => Asked::Known,
                        },
                    };
                    if asked == Asked::News {
                        // What the app says may replace what runs already.
                        self.end(Instant::now() + PAUSE_PATIENCE, &mut phases).await;
                    }
                    self.begin();
                    if asked == Asked::Later {
                        let _again = tokio::time::timeout(pause, phases.changed()).await;
                        pause = (pause * 2).min(LONGEST_PAUSE);
                        continue;
                    }
                }
                Phase::Paused => self.end(Instant::now() + PAUSE_PATIENCE, &mut phases).await,
                Phase::Stopped(until) => return self.end(until, &mut phases).await,
            }
            // What was asked meanwhile is not waited for.
            if *phases.borrow() == phase && phases.changed().await.is_err() {
                // The handle is gone without a stop.
                return self.end(Instant::now(), &mut phases).await;
            }
        }
    }

    /// Asks the app for its subscriptions, unless it has answered.
    async fn ask(&mut self) -> Asked {
        if self.programmatic.is_some() {
            return Asked::Known;
        }
        if self
            .surroundings
            .publisher
            .components
            .now()
            .brokers()
            .next()
            .is_none()
        {
            return Asked::Known;
        }
        if !self.ask_app {
            self.surroundings.log.warn(
                "Skipping programmatic subscription loading (see 'disable-init-endpoints' flag/annotation)",
            );
            self.programmatic = Some(Vec::new());
            return Asked::Known;
        }
        let policy = self
            .surroundings
            .publisher
            .policies
            .built_in(BuiltIn::InitializationRetries);
        let answer = policy
            .run(|_| async { self.app.subscriptions().await.map_err(Unanswered) })
            .await;
        match answer.map_err(|error| error.into_operation(|text| Unanswered(Error::Unavailable(text)))) {
            Ok(subscriptions) => {
                let subscriptions = self.checked(subscriptions);
                self.announce(&subscriptions);
                self.programmatic = Some(subscriptions);
                Asked::News
            }
            Err(error) => {
                self.surroundings
                    .log
                    .error(format_args!("error getting topic list from app: {error}"));
                if policy::Outcome::is_permanent(&error) {
                    self.programmatic = Some(Vec::new());
                    return Asked::Known;
                }
                Asked::Later
            }
        }
    }

    /// Without those that have no route.
    fn checked(&self, subscriptions: Vec<Subscription>) -> Vec<Subscription> {
        let (routed, unrouted): (Vec<_>, Vec<_>) = subscriptions
            .into_iter()
            .partition(|subscription| !subscription.rules.is_empty());
        for Subscription { topic, .. } in unrouted {
            self.surroundings.log.warn(format_args!(
                "topic {topic} has an empty routes. removing from subscriptions list"
            ));
        }
        routed
    }

    fn announce(&self, subscriptions: &[Subscription]) {
        let mut topics: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for subscription in subscriptions {
            topics
                .entry(&subscription.pubsub)
                .or_default()
                .push(&subscription.topic);
        }
        if topics.is_empty() {
            self.surroundings
                .log
                .debug("user app did not subscribe to any topic");
        }
        for (pubsub, topics) in topics {
            self.surroundings.log.info(format_args!(
                "app is subscribed to the following topics: [[{}]] through pubsub={pubsub}",
                topics.join(" ")
            ));
        }
    }

    /// Starts what should run and does not.
    fn begin(&mut self) {
        if self.running.is_some() {
            return;
        }
        let (working, _) = drain::channel();
        let (attempts, attempt) = drain::channel();
        let halt = watch::Sender::new(None);
        let programmatic = self.programmatic.as_deref().unwrap_or_default();
        list(&self.lists, &self.declared, programmatic);
        for (_, subscription) in merge(&self.declared, programmatic) {
            if let Some(engine) = self.engine(subscription, &halt) {
                let claim = working.watch();
                let attempt = attempt.clone();
                let name = format!("pub/sub {}/{}", subscription.pubsub, subscription.topic);
                self.tasks.named(name, OnExit::Log, async move {
                    keep(&engine, None, Some(attempt)).await;
                    drop(claim);
                });
            }
        }
        drop(attempt);
        let begun = self.begun.clone();
        self.tasks.spawn("pub/sub start", async move {
            attempts.drained().await;
            begun.send_replace(true);
        });
        self.running = Some(Running { halt, working });
    }

    /// `None`, with a line in the log, if the subscription cannot be.
    fn engine(&self, subscription: &Subscription, halt: &watch::Sender<Halt>) -> Option<Engine> {
        let Surroundings { publisher, log, .. } = &self.surroundings;
        let (pubsub, topic) = (&subscription.pubsub, &subscription.topic);
        let Some(broker) = publisher.broker(pubsub) else {
            log.warn(format_args!(
                "no subscription to topic {topic}: pubsub {pubsub} is not loaded"
            ));
            return None;
        };
        let subscriber = Subscriber::App(Arc::clone(&self.app));
        Engine::new(
            &self.surroundings,
            halt.subscribe(),
            broker,
            subscription,
            subscriber,
        )
        .map_err(|error| failed(log, pubsub, topic, &error))
        .ok()
    }

    async fn end(&mut self, until: Instant, phases: &mut watch::Receiver<Phase>) {
        if let Some(running) = self.running.take() {
            running.end(until, phases).await;
        }
    }
}

/// The app could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unanswered(Error);

impl policy::Outcome for Unanswered {
    /// An answer that makes no sense will make none the next time.
    fn is_permanent(&self) -> bool {
        matches!(self.0, Error::Malformed(_) | Error::Invalid(_))
    }
}

/// How asking the app went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// Nothing to ask, or nothing new.
    Known,
    News,
    /// It did not answer.
    Later,
}

/// Keeps a subscription running until it is halted or its door is gone. `attempt` is dropped after the first try.
pub(super) async fn keep(
    engine: &Engine,
    first: Option<pubsub::Subscription>,
    mut attempt: Option<drain::Watch>,
) {
    let (name, topic, log) = (engine.pubsub(), engine.topic(), engine.log());
    let mut next = first;
    let mut pause = FIRST_PAUSE;
    loop {
        let subscription = match next.take() {
            Some(subscription) => Ok(subscription),
            None => tokio::select! {
                subscription = engine.subscribe() => subscription,
                () = engine.over() => return,
            },
        };
        drop(attempt.take());
        match subscription {
            Ok(subscription) => {
                let began = Instant::now();
                // A panic gives back what was held; the engine keeps nothing that it could have left half done.
                match AssertUnwindSafe(engine.run(subscription)).catch_unwind().await {
                    Ok(End::Halted | End::Gone) => return,
                    Ok(End::Broker) => log.warn(format_args!(
                        "pubsub {name} ended the subscription to topic {topic}: subscribing again"
                    )),
                    Err(_panic) => log.error(format_args!(
                        "the subscription to topic {topic} of pubsub {name} panicked, which is a mistake in Outrigger: subscribing again"
                    )),
                }
                if began.elapsed() > LONGEST_PAUSE {
                    pause = FIRST_PAUSE;
                }
            }
            Err(error) => failed(log, name, topic, &error),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            () = engine.over() => return,
        }
    }
}

fn failed(log: &Log, pubsub: &str, topic: &str, error: &impl Display) {
    log.error(format_args!(
        "Failed to start subscription for pubsub {pubsub}, topic {topic}: {error}"
    ));
}

/// Shows what is to run.
pub(super) fn list(lists: &watch::Sender<Lists>, declared: &[Subscription], programmatic: &[Subscription]) {
    let merged = merge(declared, programmatic);
    let app = merged
        .into_iter()
        .map(|(kind, subscription)| Active::of(kind, subscription))
        .collect();
    lists.send_modify(|lists| lists.app = app);
}
