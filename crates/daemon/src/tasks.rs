//! Tasks with an owner.
//!
//! A task that ends is always somebody's business: each is spawned with a name and with what its end means. A panic
//! is caught, logged under the task's name and counts as a failure of that task alone.
//!
//! INVARIANT: no task outlives its [`Tasks`]: dropping it aborts them all. [`Spawner`] is the handle for code that
//! starts tasks and does not own them; after the owner is gone, it drops what it is given.

#[cfg(test)]
mod tests;

use std::any::Any;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures::FutureExt;
use tokio::task::{AbortHandle, JoinSet};

use crate::drain::Trigger;
use crate::log::Log;

/// What it means when a task ends before anybody asked it to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExit {
    /// The process cannot go on: shut down, and [`Tasks::casualty`] names the task.
    Shutdown,
    /// Worth a line: error if it failed, debug if it just ended.
    Log,
}

/// What a task may return: nothing, or a result whose error is reported.
pub trait Outcome: Send + 'static {
    fn failure(self) -> Option<String>;
}

/// Owner of tasks.
pub struct Tasks {
    shared: Arc<Shared>,
}

/// A cheap handle to start tasks that an existing [`Tasks`] owns.
#[derive(Clone)]
pub struct Spawner {
    shared: Arc<Shared>,
}

/// The tasks that had not ended when the deadline passed. They have been aborted.
#[derive(Debug, thiserror::Error)]
#[error("tasks did not end in time and were aborted: {}", .0.join(", "))]
pub struct Unfinished(pub Vec<String>);

struct Shared {
    log: Log,
    shutdown: Trigger,
    casualty: OnceLock<String>,
    running: Mutex<Running>,
    /// Apart from `running`: a task's future may be dropped while that lock is held, and takes its name off here.
    names: Mutex<Names>,
}

#[derive(Default)]
struct Running {
    set: JoinSet<()>,
    closed: bool,
}

/// Names of the running tasks that have one of their own.
#[derive(Default)]
struct Names {
    next: u64,
    by_id: BTreeMap<u64, Cow<'static, str>>,
}

impl Tasks {
    /// `shutdown` is fired when a task ends that was spawned with [`OnExit::Shutdown`].
    pub fn new(log: &Log, shutdown: Trigger) -> Self {
        Self {
            shared: Arc::new(Shared {
                log: log.clone(),
                shutdown,
                casualty: OnceLock::new(),
                running: Mutex::default(),
                names: Mutex::default(),
            }),
        }
    }

    /// Starts a task. The name appears in the log and in [`Unfinished`].
    pub fn spawn<F>(&self, name: impl Into<Cow<'static, str>>, on_exit: OnExit, future: F)
    where
        F: Future<Output: Outcome> + Send + 'static,
    {
        self.spawner().named(name, on_exit, future);
    }

    /// A handle for code that starts tasks without owning them.
    pub fn spawner(&self) -> Spawner {
        Spawner {
            shared: Arc::clone(&self.shared),
        }
    }

    /// The first task with [`OnExit::Shutdown`] that ended by itself, and why; the process should exit with failure.
    pub fn casualty(&self) -> Option<&str> {
        self.shared.casualty.get().map(String::as_str)
    }

    /// Waits until every task has ended by itself, at most for `patience`; what is left then is aborted. Fire the
    /// shutdown trigger before: until then, the end of a needed task still counts as a failure.
    ///
    /// Cancel-safe: dropping the future leaves the tasks running and owned.
    pub async fn join(&self, patience: Duration) -> Result<(), Unfinished> {
        let all_ended = poll_fn(|cx| {
            let mut running = self.shared.running();
            loop {
                match running.set.poll_join_next(cx) {
                    Poll::Ready(Some(_)) => {}
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
        });
        if tokio::time::timeout(patience, all_ended).await.is_ok() {
            return Ok(());
        }
        let mut names: Vec<String> = self
            .shared
            .names()
            .by_id
            .values()
            .map(|name| name.to_string())
            .collect();
        let mut running = self.shared.running();
        running.set.abort_all();
        let nameless = running.set.len().saturating_sub(names.len());
        drop(running);
        if nameless > 0 {
            names.push(format!("{nameless} unnamed"));
        }
        Err(Unfinished(names))
    }

    /// Aborts every task at once.
    pub fn abort(&self) {
        self.shared.running().set.abort_all();
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        let mut running = self.shared.running();
        running.closed = true;
        running.set.abort_all();
    }
}

impl Spawner {
    /// Starts a short-lived task of the data path, for example one per connection. `kind` is used only to report
    /// a failure.
    pub fn spawn<F>(&self, kind: &'static str, future: F)
    where
        F: Future<Output: Outcome> + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        self.shared.start(None, async move {
            shared.report(kind, OnExit::Log, guarded(future).await);
        });
    }

    /// The same as [`Tasks::spawn`]. The handle aborts this one task, for tasks that come and go at run time.
    pub fn named<F>(
        &self,
        name: impl Into<Cow<'static, str>>,
        on_exit: OnExit,
        future: F,
    ) -> Option<AbortHandle>
    where
        F: Future<Output: Outcome> + Send + 'static,
    {
        let name = name.into();
        let registration = self.shared.register(name.clone());
        self.shared.start(Some(&name.clone()), async move {
            registration.shared.report(&name, on_exit, guarded(future).await);
        })
    }
}

/// How a task ended.
enum End {
    Done,
    Failed(String),
    Panicked(String),
}

impl Shared {
    fn start(
        &self,
        name: Option<&str>,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> Option<AbortHandle> {
        let mut running = self.running();
        if running.closed {
            drop(running);
            self.log.debug(format_args!(
                "task \"{}\" not started: shutting down",
                name.unwrap_or("unnamed")
            ));
            return None;
        }
        // Ended tasks leave the set here; each spawn clears at least as many as it adds.
        while running.set.try_join_next().is_some() {}
        Some(running.set.spawn(future))
    }

    fn register(self: &Arc<Self>, name: Cow<'static, str>) -> Registration {
        let mut names = self.names();
        let id = names.next;
        names.next += 1;
        names.by_id.insert(id, name);
        Registration {
            shared: Arc::clone(self),
            id,
        }
    }

    fn report(&self, name: &str, on_exit: OnExit, end: End) {
        let reason = match end {
            End::Panicked(message) => {
                self.log
                    .error(format_args!("task \"{name}\" panicked: {message}"));
                format!("panicked: {message}")
            }
            End::Failed(error) => {
                self.log.error(format_args!("task \"{name}\" failed: {error}"));
                format!("failed: {error}")
            }
            End::Done if on_exit == OnExit::Shutdown => "ended".to_owned(),
            End::Done => return,
        };
        if on_exit == OnExit::Shutdown && !self.shutdown.fired() {
            self.log.error(format_args!(
                "task \"{name}\" is needed and has ended: shutting down"
            ));
            // Only the first counts; those that follow ended because of it.
            self.casualty.get_or_init(|| format!("task \"{name}\" {reason}"));
            self.shutdown.fire();
        }
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name in [`Names`], removed when the task is over, however it ended.
struct Registration {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.shared.names().by_id.remove(&self.id);
    }
}

impl Outcome for () {
    fn failure(self) -> Option<String> {
        None
    }
}

impl<E: Display + Send + 'static> Outcome for Result<(), E> {
    fn failure(self) -> Option<String> {
        self.err().map(|error| error.to_string())
    }
}

async fn guarded<F: Future<Output: Outcome>>(future: F) -> End {
    // Unwind safety: the future is dropped right after a panic, nobody sees its state again.
    match AssertUnwindSafe(future).catch_unwind().await {
        Ok(outcome) => outcome.failure().map_or(End::Done, End::Failed),
        Err(payload) => End::Panicked(panic_message(payload.as_ref())),
    }
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "no message".to_owned()
    }
}
