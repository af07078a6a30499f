//! Running, pausing and stopping what brings events to the app: subscriptions and input bindings.
//!
//! One task owns the work. The handle ([`Life`]) tells it what should be ([`Phase`]); it starts tasks and ends them again
//! ([`Running`]). INVARIANT: after [`Phase::Stopped`] there is no other phase.

use outrigger_daemon::drain;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long the app may take for what it holds when the work is paused.
pub(crate) const PAUSE_PATIENCE: Duration = Duration::from_secs(30);

/// What the work should be doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Paused,
    Running,
    /// For good; what is held is settled until then.
    Stopped(Instant),
}

/// Until when a task may settle what it holds; `None` while it goes on.
pub(crate) type Halt = Option<Instant>;

/// The handle to the work.
pub(crate) struct Life {
    phase: watch::Sender<Phase>,
    begun: watch::Sender<bool>,
    /// Never fired: it knows when the last task has ended.
    working: drain::Trigger,
}

/// The tasks of a running phase.
pub(crate) struct Running {
    pub(crate) halt: watch::Sender<Halt>,
    /// Never fired: it knows when the last task has ended.
    pub(crate) working: drain::Trigger,
}

impl Life {
    /// Paused. `begun` is true from the start where nothing will ever be tried.
    pub(crate) fn new(begun: bool) -> Self {
        Self {
            phase: watch::Sender::new(Phase::Paused),
            begun: watch::Sender::new(begun),
            working: drain::channel().0,
        }
    }

    pub(crate) fn phases(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Kept by every task that [`Life::ended`] waits for.
    pub(crate) fn claim(&self) -> drain::Watch {
        self.working.watch()
    }

    /// Where the owner says that everything has been tried once.
    pub(crate) fn beginning(&self) -> watch::Sender<bool> {
        self.begun.clone()
    }

    /// Returns once everything has been tried after the first [`Life::resume`], well or not.
    pub(crate) async fn begun(&self) {
        let mut begun = self.begun.subscribe();
        // The sender lives in `self`: this ends only with the value.
        let _begun = begun.wait_for(|begun| *begun).await;
    }

    pub(crate) fn resume(&self) {
        self.change(Phase::Running);
    }

    pub(crate) fn pause(&self) {
        self.change(Phase::Paused);
    }

    /// For good.
    pub(crate) fn stop(&self, until: Instant) {
        self.phase.send_replace(Phase::Stopped(until));
    }

    /// Returns when the last task has ended.
    pub(crate) async fn ended(&self) {
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

impl Running {
    /// Halts the tasks and returns when they have ended, sooner if a stop says so meanwhile.
    pub(crate) async fn end(self, until: Instant, phases: &mut watch::Receiver<Phase>) {
        self.halt.send_replace(Some(until));
        let hurry = async {
            let stopped = phases
                .wait_for(|phase| matches!(phase, Phase::Stopped(_)))
                .await
                .map(|phase| *phase);
            if let Ok(Phase::Stopped(sooner)) = stopped {
                self.halt.send_replace(Some(until.min(sooner)));
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = self.working.drained() => {}
            () = hurry => {}
        }
    }
}
