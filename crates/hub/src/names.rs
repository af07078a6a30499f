//! Which app instances run on this machine. In memory only: an instance is known as long as its sidecar holds
//! the lease, and the sidecars announce themselves again to a new hub.

use outrigger_proto::hub::v1::Instance;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

#[derive(Clone)]
pub(crate) struct Names {
    shared: Arc<Shared>,
}

struct Shared {
    instances: Mutex<Instances>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Instances {
    last: u64,
    by_lease: BTreeMap<u64, Instance>,
}

/// An announcement; dropping it takes it back.
#[must_use = "the instance is forgotten when the lease is dropped"]
pub(crate) struct Lease {
    names: Names,
    id: u64,
}

impl Names {
    pub(crate) fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                instances: Mutex::default(),
                changed: watch::Sender::new(0),
            }),
        }
    }

    pub(crate) fn register(&self, instance: Instance) -> Lease {
        let id = self.change(|instances| {
            instances.last += 1;
            instances.by_lease.insert(instances.last, instance);
            instances.last
        });
        Lease {
            names: self.clone(),
            id,
        }
    }

    /// Every instance of an app, oldest lease first, each address once.
    pub(crate) fn resolve(&self, app: &str, namespace: &str) -> Vec<Instance> {
        let mut found: Vec<Instance> = Vec::new();
        let instances = self
            .shared
            .instances
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for instance in instances.by_lease.values() {
            let same = instance.app_id == app && instance.namespace == namespace;
            if same && found.iter().all(|known| known.address != instance.address) {
                found.push(instance.clone());
            }
        }
        found
    }

    pub(crate) fn all(&self) -> Vec<Instance> {
        let instances = self
            .shared
            .instances
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        instances.by_lease.values().cloned().collect()
    }

    /// Changes whenever the list does.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    fn change<T>(&self, change: impl FnOnce(&mut Instances) -> T) -> T {
        let mut instances = self
            .shared
            .instances
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut instances);
        drop(instances);
        self.shared.changed.send_modify(|generation| *generation += 1);
        result
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.names.change(|instances| instances.by_lease.remove(&self.id));
    }
}
