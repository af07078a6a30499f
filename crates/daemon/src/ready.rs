//! Readiness as a set of named parts.
//!
//! A part is pending from [`Ready::part`] until its [`Guard`] is dropped. `/v1.0/healthz` answers from one such set and
//! outbound health from a second: both are values, so the two differ only in which parts they were given.
//! Whoever makes the last guard ready before the others were declared would open the door early: declare all parts
//! before starting any of the work.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// A set of parts that are awaited. Clones share it.
#[derive(Clone)]
pub struct Ready {
    shared: Arc<Shared>,
}

/// A part that is not ready yet; dropping it makes it ready.
#[must_use = "dropping the guard makes the part ready"]
pub struct Guard {
    shared: Arc<Shared>,
    id: u64,
}

struct Shared {
    parts: Mutex<Parts>,
    /// Number of parts that are pending.
    pending: watch::Sender<usize>,
}

#[derive(Default)]
struct Parts {
    next: u64,
    pending: Vec<(u64, Cow<'static, str>)>,
}

impl Ready {
    /// An empty set, which is ready.
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                parts: Mutex::default(),
                pending: watch::Sender::new(0),
            }),
        }
    }

    /// Adds a part that is not ready, also to a set that was ready before (as when shutting down).
    pub fn part(&self, name: impl Into<Cow<'static, str>>) -> Guard {
        let mut parts = self.shared.parts();
        let id = parts.next;
        parts.next += 1;
        parts.pending.push((id, name.into()));
        self.shared.pending.send_replace(parts.pending.len());
        Guard {
            shared: Arc::clone(&self.shared),
            id,
        }
    }

    pub fn is_ready(&self) -> bool {
        *self.shared.pending.borrow() == 0
    }

    /// Names of the parts that are awaited, in the order they were declared.
    pub fn pending(&self) -> Vec<String> {
        self.shared
            .parts()
            .pending
            .iter()
            .map(|(_, name)| name.to_string())
            .collect()
    }

    /// Returns when no part is pending. Cancel-safe.
    pub async fn wait(&self) {
        let mut pending = self.shared.pending.subscribe();
        pending
            .wait_for(|pending| *pending == 0)
            .await
            .expect("the sender lives in `self`, which is borrowed here");
    }
}

impl Default for Ready {
    fn default() -> Self {
        Self::new()
    }
}

impl Guard {
    /// Says in words what dropping does.
    pub fn done(self) {}
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut parts = self.shared.parts();
        parts.pending.retain(|(id, _)| *id != self.id);
        self.shared.pending.send_replace(parts.pending.len());
    }
}

impl Shared {
    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
