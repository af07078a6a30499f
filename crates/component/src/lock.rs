//! Distributed locks: one owner at a time holds a resource, until it unlocks or the time it asked for is over.
//!
//! Resources arrive complete (prefix included).

use crate::Component;
use crate::error::Result;
use crate::metadata::Metadata;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TryLock {
    pub resource: String,
    pub owner: String,
    /// Whole seconds, above zero.
    pub expiry: Duration,
}

/// The lock is the caller's now. `metadata` may hold `fencingToken`, a whole number that is larger for every later holder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Granted {
    pub metadata: Metadata,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unlock {
    pub resource: String,
    pub owner: String,
}

/// How unlocking ended. Numbers are those of `UnlockResponse.Status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unlocked {
    Done = 0,
    /// Nobody holds it, or no longer.
    Absent = 1,
    /// Somebody else holds it; it stays locked.
    HeldByOther = 2,
}

#[async_trait::async_trait]
pub trait LockStore: Component {
    /// `None` when the lock is held, be it by the same owner. Never waits for it.
    async fn try_lock(&self, lock: &TryLock) -> Result<Option<Granted>>;

    async fn unlock(&self, unlock: &Unlock) -> Result<Unlocked>;
}
