//! The handle to all subscriptions: those of the app, which [one task](owner) owns, and those of streams.

mod owner;

use self::owner::{Owner, keep};
use super::active::{Active, Kind, Lists};
use super::deliver::{Engine, Surroundings};
use crate::life::{Halt, Life};
use outrigger_channel::app::{AppChannel, Subscription};
use outrigger_component::pubsub;
use outrigger_daemon::tasks::{OnExit, Spawner};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

pub(super) struct Subscriptions {
    /// Its phases are for the app's subscriptions; it waits for the streams, too.
    life: Life,
    lists: watch::Sender<Lists>,
    /// Of the streams; the app's subscriptions are halted by their owner.
    halt: watch::Sender<Halt>,
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
        let life = Life::new(parts.app.is_none());
        let lists = watch::Sender::new(Lists::default());
        owner::list(&lists, &parts.declared, &[]);
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
                begun: life.beginning(),
            };
            let (phases, claim) = (life.phases(), life.claim());
            parts
                .tasks
                .named("pub/sub subscriptions", OnExit::Log, async move {
                    owner.own(phases).await;
                    drop(claim);
                });
        }
        Self {
            life,
            lists,
            halt: watch::Sender::new(None),
            surroundings: parts.surroundings,
            tasks: parts.tasks,
        }
    }

    pub(super) fn resume(&self) {
        self.life.resume();
    }

    /// Returns once every subscription has been tried after the first [`Subscriptions::resume`], well or not.
    pub(super) async fn begun(&self) {
        self.life.begun().await;
    }

    pub(super) fn pause(&self) {
        self.life.pause();
    }

    /// After this, nothing begins again.
    pub(super) async fn stop(&self, patience: Duration) {
        let until = Instant::now() + patience;
        self.life.stop(until);
        self.halt.send_replace(Some(until));
        self.life.ended().await;
    }

    pub(super) fn lists(&self) -> watch::Receiver<Lists> {
        self.lists.subscribe()
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
        let claim = self.life.claim();
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
