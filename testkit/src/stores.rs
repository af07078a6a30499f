//! A configuration store and a lock store in memory, for tests of who uses them. Locks expire by tokio's clock.

use futures::{StreamExt as _, stream};
use outrigger_component::Component;
use outrigger_component::configuration::{Changes, ConfigurationStore, Get, Item, Items};
use outrigger_component::error::Result;
use outrigger_component::lock::{Granted, LockStore, TryLock, Unlock, Unlocked};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use tokio::time::Instant;

/// Configuration; clones share it.
#[derive(Clone)]
pub struct Settings {
    items: Arc<watch::Sender<Items>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            items: Arc::new(watch::Sender::new(Items::new())),
        }
    }
}

impl Settings {
    /// Writes a value; its version is the number of writes so far.
    pub fn set(&self, key: &str, value: &str) {
        self.items.send_modify(|items| {
            let version = items
                .values()
                .filter_map(|item| item.version.parse::<u64>().ok())
                .max()
                .unwrap_or(0)
                + 1;
            let item = Item {
                value: value.to_owned(),
                version: version.to_string(),
                ..Item::default()
            };
            items.insert(key.to_owned(), item);
        });
    }

    pub fn remove(&self, key: &str) {
        self.items.send_modify(|items| {
            items.remove(key);
        });
    }
}

fn chosen(items: &Items, keys: &[String]) -> Items {
    items
        .iter()
        .filter(|(key, _)| keys.is_empty() || keys.contains(key))
        .map(|(key, item)| (key.clone(), item.clone()))
        .collect()
}

#[async_trait::async_trait]
impl Component for Settings {}

#[async_trait::async_trait]
impl ConfigurationStore for Settings {
    async fn get(&self, get: &Get) -> Result<Items> {
        Ok(chosen(&self.items.borrow(), &get.keys))
    }

    async fn watch(&self, get: &Get) -> Result<Changes> {
        let mut receiver = self.items.subscribe();
        let seen = chosen(&receiver.borrow_and_update(), &get.keys);
        let state = (receiver, seen, get.keys.clone());
        Ok(stream::unfold(state, |(mut receiver, mut seen, keys)| async {
            loop {
                receiver.changed().await.ok()?;
                let now = chosen(&receiver.borrow_and_update(), &keys);
                let mut changed: Items = now
                    .iter()
                    .filter(|(key, item)| seen.get(*key) != Some(item))
                    .map(|(key, item)| (key.clone(), item.clone()))
                    .collect();
                for key in seen.keys().filter(|key| !now.contains_key(*key)) {
                    changed.insert(key.clone(), Item::default());
                }
                seen = now;
                if !changed.is_empty() {
                    return Some((changed, (receiver, seen, keys)));
                }
            }
        })
        .boxed())
    }
}

/// Locks; clones share them.
#[derive(Clone, Default)]
pub struct Locks(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    held: BTreeMap<String, (String, Instant)>,
    tokens: u64,
}

impl Locks {
    fn table(&self) -> MutexGuard<'_, Table> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        table.held.retain(|_, (_, until)| *until > now);
        table
    }
}

#[async_trait::async_trait]
impl Component for Locks {}

#[async_trait::async_trait]
impl LockStore for Locks {
    async fn try_lock(&self, lock: &TryLock) -> Result<Option<Granted>> {
        let mut table = self.table();
        if table.held.contains_key(&lock.resource) {
            return Ok(None);
        }
        let until = Instant::now() + lock.expiry;
        table
            .held
            .insert(lock.resource.clone(), (lock.owner.clone(), until));
        table.tokens += 1;
        Ok(Some(Granted {
            metadata: [("fencingToken", table.tokens.to_string())].into_iter().collect(),
        }))
    }

    async fn unlock(&self, unlock: &Unlock) -> Result<Unlocked> {
        let mut table = self.table();
        Ok(match table.held.get(&unlock.resource) {
            None => Unlocked::Absent,
            Some((owner, _)) if *owner != unlock.owner => Unlocked::HeldByOther,
            Some(_) => {
                table.held.remove(&unlock.resource);
                Unlocked::Done
            }
        })
    }
}
