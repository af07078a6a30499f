//! That input bindings are read while the app is healthy, and only then.
//!
//! One task owns the readers. It is told what should be ([`Phase`]) and brings it about, as the owner of subscriptions does.

use super::read::{Reader, Surroundings};
use super::{Outputs, Parts};
use crate::components::snapshot::Live;
use crate::life::{Life, PAUSE_PATIENCE, Phase, Running};
use outrigger_daemon::drain;
use outrigger_daemon::tasks::{OnExit, Spawner};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The handle to all readers.
pub(super) struct Readers {
    life: Life,
}

struct Owner {
    surroundings: Arc<Surroundings>,
    components: Live,
    tasks: Spawner,
    /// Becomes true when the app has been asked once about every binding.
    begun: watch::Sender<bool>,
    running: Option<Running>,
}

impl Readers {
    pub(super) fn start(parts: Parts, outputs: Arc<Outputs>) -> Self {
        let life = Life::new(parts.app.is_none());
        if let Some(app) = parts.app {
            let tasks = parts.tasks;
            let owner = Owner {
                surroundings: Arc::new(Surroundings {
                    app,
                    log: parts.log,
                    probe_timeout: parts.probe_timeout,
                    state: parts.state,
                    outputs,
                }),
                components: parts.components,
                tasks: tasks.clone(),
                begun: life.beginning(),
                running: None,
            };
            let (phases, claim) = (life.phases(), life.claim());
            tasks.named("input bindings", OnExit::Log, async move {
                owner.own(phases).await;
                drop(claim);
            });
        }
        Self { life }
    }

    pub(super) fn resume(&self) {
        self.life.resume();
    }

    pub(super) fn pause(&self) {
        self.life.pause();
    }

    pub(super) async fn begun(&self) {
        self.life.begun().await;
    }

    pub(super) async fn stop(&self, patience: Duration) {
        self.life.stop(Instant::now() + patience);
        self.life.ended().await;
    }
}

impl Owner {
    async fn own(mut self, mut phases: watch::Receiver<Phase>) {
        loop {
            let phase = *phases.borrow_and_update();
            match phase {
                Phase::Running => self.begin(),
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

    /// Starts a reader for each binding that can be read, unless they run.
    fn begin(&mut self) {
        if self.running.is_some() {
            return;
        }
        let (working, _) = drain::channel();
        let (asking, asked) = drain::channel();
        let halt = watch::Sender::new(None);
        let bindings: Vec<_> = self.components.now().bindings().cloned().collect();
        for binding in bindings {
            let Some(input) = binding.input.clone() else {
                continue;
            };
            let name = format!("input binding {}", binding.name);
            let reader = Reader::new(Arc::clone(&self.surroundings), binding, input, halt.subscribe());
            let (claim, asked) = (working.watch(), asked.clone());
            self.tasks.named(name, OnExit::Log, async move {
                reader.run(asked).await;
                drop(claim);
            });
        }
        drop(asked);
        let begun = self.begun.clone();
        self.tasks.spawn("input bindings start", async move {
            asking.drained().await;
            begun.send_replace(true);
        });
        self.running = Some(Running { halt, working });
    }

    async fn end(&mut self, until: Instant, phases: &mut watch::Receiver<Phase>) {
        if let Some(running) = self.running.take() {
            running.end(until, phases).await;
        }
    }
}
