//! The handle to all subscriptions: those of the app, which [one task](owner) owns, and those of streams.

mod owner;

use self::owner::{Owner, keep};
use super::active::{Active, Kind, Lists};
use super::deliver::{Engine, Halt, Surroundings};
use outrigger_channel::app::{AppChannel, Subscription};
use outrigger_component::pubsub;
use outrigger_daemon::drain;
use outrigger_daemon::tasks::{OnExit, Spawner};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// What the app's subscriptions should be doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Paused,
    Running,
    /// For good; what is held is settled until then.
    Stopped(Instant),
}

pub(super) struct Subscriptions {
    phase: watch::Sender<Phase>,
    lists: watch::Sender<Lists>,
    /// Of the streams; the app's subscriptions are halted by their owner.
    halt: watch::Sender<Halt>,
    begun: watch::Sender<bool>,
    /// Never fired: it knows when the last task has ended.
    working: drain::Trigger,
    surroundings: Surroundings,
    tasks: Spawner,
}

pub(super) struct Parts {
    pub surroundings: Surroundings,
    pub app: Option<Arc<dyn AppChannel>>,
    pub declared: Vec<Subscription>,
    pub ask_app: bool,
    pub tasks: Spawner,
}

impl Subscriptions {
    pub(super) fn start(parts: Parts) -> Self {
        let (phase, phases) = watch::channel(Phase::Paused);
        let (working, claim) = drain::channel();
        let lists = watch::Sender::new(Lists::default());
        owner::list(&lists, &parts.declared, &[]);
        let begun = watch::Sender::new(parts.app.is_none());
        // Without an app, what is declared is listed and nothing more.
        if let Some(app) = parts.app {
            let owner = Owner {
                surroundings: parts.surroundings.clone(),
                app,
                declared: parts.declared,
                ask_app: parts.ask_app,
                programmatic: None,
                lists: lists.clone(),
                tasks: parts.tasks.clone(),
                running: None,
                begun: begun.clone(),
            };
            parts
                .tasks
                .named("pub/sub subscriptions", OnExit::Log, async move {
                    owner.own(phases).await;
                    drop(claim);
                });
        }
        Self {
            phase,
            lists,
            halt: watch::Sender::new(None),
            begun,
            working,
            surroundings: parts.surroundings,
            tasks: parts.tasks,
        }
    }

    pub(super) fn resume(&self) {
        self.change(Phase::Running);
    }

    /// Returns once every subscription has been tried after the first [`Subscriptions::resume`], well or not.
    pub(super) async fn begun(&self) {
        let mut begun = self.begun.subscribe();
        // The sender lives in `self`: this ends only with the value.
        let _begun = begun.wait_for(|begun| *begun).await;
    }

    pub(super) fn pause(&self) {
        self.change(Phase::Paused);
    }

    /// After this, nothing begins again.
    pub(super) async fn stop(&self, patience: Duration) {
        let until = Instant::now() + patience;
        self.phase.send_replace(Phase::Stopped(until));
        self.halt.send_replace(Some(until));
        self.working.drained().await;
    }

    pub(super) fn lists(&self) -> watch::Receiver<Lists> {
        self.lists.subscribe()
    }

    fn change(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let changes = *phase != to && !matches!(phase, Phase::Stopped(_));
            if changes {
                *phase = to;
            }
            changes
        });
    }

    pub(super) fn surroundings(&self) -> &Surroundings {
        &self.surroundings
    }

    /// Tells streams when to end.
    pub(super) fn halt(&self) -> watch::Receiver<Halt> {
        self.halt.subscribe()
    }

    /// Runs a stream's subscription until its door hangs up or everything stops.
    pub(super) fn run_stream(&self, engine: Engine, first: pubsub::Subscription, listed: &Subscription) {
        let mut number = 0;
        self.lists.send_modify(|lists| {
            number = lists.next;
            lists.next += 1;
            lists.streams.insert(number, Active::of(Kind::Streaming, listed));
        });
        let listing = Listing {
            lists: self.lists.clone(),
            number,
        };
        let claim = self.working.watch();
        let name = format!("pub/sub stream {}/{}", engine.pubsub(), engine.topic());
        self.tasks.named(name, OnExit::Log, async move {
            keep(&engine, Some(first), None).await;
            drop((listing, claim));
        });
    }
}

/// A stream's place in the lists.
struct Listing {
    lists: watch::Sender<Lists>,
    number: u64,
}

impl Drop for Listing {
    fn drop(&mut self) {
        self.lists.send_modify(|lists| {
            lists.streams.remove(&self.number);
        });
    }
}
