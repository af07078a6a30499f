//! What is wrong now, and what was counted since the start: for the status.

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

#[derive(Default)]
pub(crate) struct Health {
    /// The log cannot be written.
    pub(crate) log: Trouble,
    /// Checkpoints fail.
    pub(crate) engine: Trouble,
    pub(crate) counters: Counters,
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) published: AtomicU64,
    pub(crate) delivered: AtomicU64,
    pub(crate) redelivered: AtomicU64,
    pub(crate) expired: AtomicU64,
    pub(crate) writes: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) dropped: AtomicU64,
}

/// Something that fails again and again is worth one line when it begins and one when it ends.
#[derive(Default)]
pub(crate) struct Trouble(Mutex<Option<String>>);

impl Trouble {
    /// Answers whether it is new.
    pub(crate) fn set(&self, cause: &str) -> bool {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = slot.is_none();
        *slot = Some(cause.to_owned());
        new
    }

    /// Answers whether there was any.
    pub(crate) fn clear(&self) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .is_some()
    }

    pub(crate) fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
