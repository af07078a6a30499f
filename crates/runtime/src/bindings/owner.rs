//! That input bindings are read while the app is healthy, and only then.
//!
//! One task owns the readers. It is told what should be ([`Phase`]) and brings it about, as the owner of subscriptions does.

use super::read::{Halt, Reader, Surroundings};
use super::{Outputs, Parts};
use crate::components::snapshot::Live;
use outrigger_daemon::drain;
use outrigger_daemon::tasks::{OnExit, Spawner};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long the app may take for what it holds when the reading is paused.
const PAUSE_PATIENCE: Duration = Duration::from_secs(30);

/// What the readers should be doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Paused,
    Running,
    /// For good; what is held is answered until then.
    Stopped(Instant),
}

/// The handle to all readers.
pub(super) struct Readers {
    phase: watch::Sender<Phase>,
    begun: watch::Sender<bool>,
    /// Never fired: it knows when the last task has ended.
    working: drain::Trigger,
}

struct Owner {
    surroundings: Arc<Surroundings>,
    components: Live,
    tasks: Spawner,
    /// Becomes true when the app has been asked once about every binding.
    begun: watch::Sender<bool>,
    running: Option<Running>,
}

/// The tasks of the readers.
struct Running {
    halt: watch::Sender<Halt>,
    working: drain::Trigger,
}

impl Readers {
    pub(super) fn start(parts: Parts, outputs: Arc<Outputs>) -> Self {
        let (phase, phases) = watch::channel(Phase::Paused);
        let (working, claim) = drain::channel();
        let begun = watch::Sender::new(parts.app.is_none());
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
                begun: begun.clone(),
                running: None,
            };
            tasks.named("input bindings", OnExit::Log, async move {
                owner.own(phases).await;
                drop(claim);
            });
        }
        Self {
            phase,
            begun,
            working,
        }
    }

    pub(super) fn resume(&self) {
        self.change(Phase::Running);
    }

    pub(super) fn pause(&self) {
        self.change(Phase::Paused);
    }

    pub(super) async fn begun(&self) {
        let mut begun = self.begun.subscribe();
        // The sender lives in `self`: this ends only with the value.
        let _begun = begun.wait_for(|begun| *begun).await;
    }

    pub(super) async fn stop(&self, patience: Duration) {
        self.phase.send_replace(Phase::Stopped(Instant::now() + patience));
        self.working.drained().await;
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

    /// Halts what runs and returns when it has ended, sooner if a stop says so meanwhile.
    async fn end(&mut self, until: Instant, phases: &mut watch::Receiver<Phase>) {
        let Some(running) = self.running.take() else {
            return;
        };
        running.halt.send_replace(Some(until));
        let hurry = async {
            let stopped = phases
                .wait_for(|phase| matches!(phase, Phase::Stopped(_)))
                .await
                .map(|phase| *phase);
            if let Ok(Phase::Stopped(sooner)) = stopped {
                running.halt.send_replace(Some(until.min(sooner)));
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = running.working.drained() => {}
            () = hurry => {}
        }
    }
}
