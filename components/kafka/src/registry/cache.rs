//! What was asked for, for a while; one request for all who want the same at the same time.

use crate::failure::Failure;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Beyond it, somebody else goes.
const MOST: usize = 1000;
/// How long a failure is remembered, so that what is tried again and again does not run over the registry.
const REST: Duration = Duration::from_secs(1);

/// How long a value that could not be asked for again counts on: a registry that is silent costs its patience each time.
const STALE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy)]
pub(super) enum Lasts {
    Ever,
    For(Duration),
}

pub(super) struct Cache<K, V> {
    slots: Mutex<HashMap<K, Slot<V>>>,
}

enum Slot<V> {
    Asking(Asking<V>),
    /// `None` for ever.
    Kept(V, Option<Instant>),
    Failed(Failure, Instant),
}

type Asking<V> = Shared<BoxFuture<'static, Result<Found<V>, Failure>>>;

#[derive(Clone)]
struct Found<V> {
    value: V,
    until: Option<Instant>,
}

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self {
            slots: Mutex::default(),
        }
    }
}

impl<K: Hash + Eq + Clone, V: Clone + Send + Sync + 'static> Cache<K, V> {
    /// What is remembered, or what `fetch` gives. If it fails for now and there was a value before, that one stays.
    pub(super) async fn get(
        &self,
        key: K,
        lasts: Lasts,
        fetch: impl Future<Output = Result<V, Failure>> + Send + 'static,
    ) -> Result<V, Failure> {
        let asking = {
            let mut slots = self.slots();
            let now = Instant::now();
            let former = match slots.get(&key) {
                Some(Slot::Kept(value, until)) if until.is_none_or(|until| until > now) => {
                    return Ok(value.clone());
                }
                Some(Slot::Failed(failure, until)) if *until > now => return Err(failure.clone()),
                Some(Slot::Asking(asking)) => Err(asking.clone()),
                Some(Slot::Kept(value, _)) => Ok(Some(value.clone())),
                Some(Slot::Failed(..)) | None => Ok(None),
            };
            match former {
                Err(asking) => asking,
                Ok(former) => {
                    let asking = ask(former, lasts, fetch).boxed().shared();
                    make_room(&mut slots);
                    slots.insert(key.clone(), Slot::Asking(asking.clone()));
                    asking
                }
            }
        };
        let outcome = asking.clone().await;
        let mut slots = self.slots();
        // The first who hears it writes it down.
        if let Some(slot @ Slot::Asking(_)) = slots.get_mut(&key)
            && matches!(slot, Slot::Asking(current) if current.ptr_eq(&asking))
        {
            *slot = match &outcome {
                Ok(found) => Slot::Kept(found.value.clone(), found.until),
                Err(failure) => Slot::Failed(failure.clone(), Instant::now() + REST),
            };
        }
        outcome.map(|found| found.value)
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<K, Slot<V>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn ask<V>(
    former: Option<V>,
    lasts: Lasts,
    fetch: impl Future<Output = Result<V, Failure>>,
) -> Result<Found<V>, Failure> {
    match (fetch.await, former) {
        (Ok(value), _) => Ok(Found {
            value,
            until: match lasts {
                Lasts::Ever => None,
                Lasts::For(time) => Some(Instant::now() + time),
            },
        }),
        (Err(failure), Some(value)) if failure.is_passing() => Ok(Found {
            value,
            until: Some(Instant::now() + STALE),
        }),
        (Err(failure), _) => Err(failure),
    }
}

fn make_room<K: Hash + Eq + Clone, V>(slots: &mut HashMap<K, Slot<V>>) {
    if slots.len() < MOST {
        return;
    }
    let settled = slots.iter().find(|(_, slot)| !matches!(slot, Slot::Asking(_)));
    if let Some(key) = settled.map(|(key, _)| key.clone()) {
        slots.remove(&key);
    }
}

#[cfg(test)]
mod tests;
