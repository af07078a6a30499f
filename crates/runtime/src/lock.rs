//! Distributed locks: one owner at a time holds a resource, until it unlocks or the time it asked for is over.
//!
//! A lock is advice between apps; whoever writes to something shared should send the fencing token along, which stores
//! give with a lock, so that a holder that was late is found out.

pub mod keys;

use crate::catalogue::lock as catalogue;
use crate::components::snapshot::{Live, LockStore};
use crate::error::Result;
use crate::outbound;
use outrigger_component::lock::{self, Granted, Unlock, Unlocked};
use outrigger_resiliency::policies::{Flow, Kind, Policies};
use std::sync::Arc;
use std::time::Duration;

/// The lock building block.
pub struct Lock {
    components: Live,
    policies: Arc<Policies>,
}

/// A request for a lock, as a door got it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TryLock {
    pub store: String,
    pub resource: String,
    pub owner: String,
    /// Seconds; must be above zero.
    pub expiry: i32,
}

impl Lock {
    pub fn new(components: Live, policies: Arc<Policies>) -> Self {
        Self { components, policies }
    }

    /// `None` when somebody holds the lock.
    ///
    /// # Errors
    /// [`catalogue::MALFORMED`] for a field that is missing, [`catalogue::NOT_CONFIGURED`], [`catalogue::NOT_FOUND`],
    /// [`catalogue::TRY_LOCK`] when the store fails or the resource holds `||`.
    pub async fn try_lock(&self, request: TryLock) -> Result<Option<Granted>> {
        let TryLock {
            store,
            resource,
            owner,
            expiry,
        } = request;
        let seconds = u64::try_from(expiry)
            .ok()
            .filter(|seconds| *seconds > 0)
            .ok_or_else(|| catalogue::expiry_not_positive(&store))?;
        let store = self.store(&store, &resource, &owner)?;
        let lock = lock::TryLock {
            resource: store
                .prefix
                .apply(&resource)
                .map_err(catalogue::try_lock_failed)?,
            owner,
            expiry: Duration::from_secs(seconds),
        };
        let policy = self.policies.component(&store.name, Kind::Lock, Flow::Outbound);
        outbound::run(&policy, || store.store.try_lock(&lock))
            .await
            .map_err(|error| catalogue::try_lock_failed(&error).caused_by(error))
    }

    /// # Errors
    /// As [`Lock::try_lock`], with [`catalogue::UNLOCK`] in place of its last.
    pub async fn unlock(&self, store: &str, resource: &str, owner: String) -> Result<Unlocked> {
        let store = self.store(store, resource, &owner)?;
        let unlock = Unlock {
            resource: store.prefix.apply(resource).map_err(catalogue::unlock_failed)?,
            owner,
        };
        let policy = self.policies.component(&store.name, Kind::Lock, Flow::Outbound);
        outbound::run(&policy, || store.store.unlock(&unlock))
            .await
            .map_err(|error| catalogue::unlock_failed(&error).caused_by(error))
    }

    /// COMPAT(pkg/api/universal/lock.go): the order of complaints.
    fn store(&self, name: &str, resource: &str, owner: &str) -> Result<Arc<LockStore>> {
        let components = self.components.now();
        if !components.has_lock_stores() {
            return Err(catalogue::not_configured());
        }
        if resource.is_empty() {
            return Err(catalogue::resource_missing(name));
        }
        if owner.is_empty() {
            return Err(catalogue::owner_missing(name));
        }
        components
            .lock_store(name)
            .map(Arc::clone)
            .ok_or_else(|| catalogue::not_found(name))
    }
}

#[cfg(test)]
mod tests;
