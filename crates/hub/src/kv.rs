//! Keys and values: what the log says, materialised for reading.
//!
//! Three layers, newest first: `active` (in memory, written since the last checkpoint began), `sealed` (in
//! memory, being written to the engine now) and the [`engine`]. A write touches memory only; the log has made
//! it durable before. Only the commit thread writes; anybody reads.

pub(crate) mod engine;
#[cfg(test)]
mod tests;
mod watched;

use crate::error::Result;
use bytes::Bytes;
use engine::Engine;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::watch;
use watched::Watched;

/// `space`, a NUL, the key as the client knows it.
pub(crate) type Key = Bytes;
/// `None` is a deleted key.
pub(crate) type Layer = BTreeMap<Key, Option<Item>>;

/// Counted per entry of a layer, beside key and value.
const ENTRY_OVERHEAD: usize = 128;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    /// Sequence number of the record that put it: never used twice, always growing.
    pub(crate) version: u64,
    /// Milliseconds of the wall clock; 0 is never.
    pub(crate) expires: u64,
    pub(crate) content_type: String,
    pub(crate) value: Bytes,
}

impl Item {
    pub(crate) fn expired(&self, now: u64) -> bool {
        self.expires > 0 && self.expires <= now
    }
}

pub(crate) struct Kv {
    layers: RwLock<Layers>,
    engine: Engine,
    watched: Watched,
}

#[derive(Default)]
struct Layers {
    active: Layer,
    active_bytes: usize,
    sealed: Option<Arc<Layer>>,
    /// Grows whenever a layer changes its place.
    generation: u64,
}

impl Kv {
    pub(crate) fn new(engine: Engine) -> Self {
        Self {
            layers: RwLock::default(),
            engine,
            watched: Watched::default(),
        }
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Bytes waiting in memory for a checkpoint that has not begun.
    pub(crate) fn active_bytes(&self) -> usize {
        self.read().active_bytes
    }

    /// Whether a checkpoint is under way.
    pub(crate) fn is_sealed(&self) -> bool {
        self.read().sealed.is_some()
    }

    /// Readers see all of it or nothing.
    pub(crate) fn put(&self, items: impl IntoIterator<Item = (Key, Option<Item>)>) {
        let mut layers = self.write();
        // Asked under the lock, see `watch`.
        let watching = self.watched.is_watching();
        let mut touched = Vec::new();
        for (key, item) in items {
            if watching {
                touched.push(key.clone());
            }
            layers.active_bytes += weight(&key, item.as_ref());
            if let Some(old) = layers.active.get(&key) {
                layers.active_bytes -= weight(&key, old.as_ref());
            }
            layers.active.insert(key, item);
        }
        drop(layers);
        if watching {
            self.watched.touch(&touched);
        }
    }

    /// Marked as changed after each write to the space, unless that is visible already when this returns.
    pub(crate) fn watch(&self, space: &str) -> watch::Receiver<()> {
        let changes = self.watched.add(space);
        // Whoever is writing now and has not seen us is done when we have had the lock.
        drop(self.write());
        changes
    }

    /// An item that is there now. Reads the disk when the key was not written lately.
    pub(crate) fn get(&self, key: &[u8], now: u64) -> Result<Option<Item>> {
        let recent = {
            let layers = self.read();
            let sealed = || layers.sealed.as_ref().and_then(|sealed| sealed.get(key));
            layers.active.get(key).or_else(sealed).cloned()
        };
        let found = match recent {
            Some(found) => found,
            None => self.engine.get(key)?,
        };
        Ok(found.filter(|item| !item.expired(now)))
    }

    /// Keys that begin with `prefix`, after `after` if given, at most `limit`; and whether there are more.
    pub(crate) fn keys(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        now: u64,
    ) -> Result<(Vec<Key>, bool)> {
        loop {
            // A checkpoint that begins or ends in between moves entries between layers: look again.
            if let Some(page) = self.page(prefix, after, limit, now)? {
                return Ok(page);
            }
        }
    }

    fn page(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        now: u64,
    ) -> Result<Option<(Vec<Key>, bool)>> {
        let (sealed, generation) = {
            let layers = self.read();
            (layers.sealed.clone(), layers.generation)
        };
        let empty = Layer::new();
        let sealed = sealed.as_deref().unwrap_or(&empty);
        let mut keys: Vec<Key> = Vec::new();
        let mut more = false;
        // Everything in memory between the last key looked at and the engine's next one, which it hides if
        // they are the same.
        let mut last: Bound<Key> = after.map_or(Bound::Included(Bytes::copy_from_slice(prefix)), |after| {
            Bound::Excluded(Bytes::copy_from_slice(after))
        });
        let recent = |last: &mut Bound<Key>, until: Option<&[u8]>, keys: &mut Vec<Key>| -> bool {
            loop {
                let found = {
                    let layers = self.read();
                    let active = next_in(&layers.active, last);
                    let sealed = next_in(sealed, last);
                    match (active, sealed) {
                        (Some(a), Some(s)) if s.0 < a.0 => Some(s),
                        (None, Some(s)) => Some(s),
                        (active, _) => active,
                    }
                    .map(|(key, item)| (key.clone(), item.as_ref().is_some_and(|item| !item.expired(now))))
                };
                let Some((key, live)) = found.filter(|(key, _)| key.starts_with(prefix)) else {
                    return false;
                };
                if until.is_some_and(|until| key.as_ref() > until) {
                    return false;
                }
                let hides = until.is_some_and(|until| key.as_ref() == until);
                *last = Bound::Excluded(key.clone());
                if live {
                    keys.push(key);
                }
                if hides {
                    return true;
                }
                if keys.len() > limit {
                    return false;
                }
            }
        };
        let from = after.unwrap_or(prefix).to_vec();
        self.engine.walk(&from, &mut |key, expires| {
            if after.is_some_and(|after| key <= after) {
                return true;
            }
            if !key.starts_with(prefix) {
                return false;
            }
            let hidden = recent(&mut last, Some(key), &mut keys);
            if !hidden && (expires == 0 || expires > now) {
                keys.push(Bytes::copy_from_slice(key));
            }
            if !hidden {
                last = Bound::Excluded(Bytes::copy_from_slice(key));
            }
            keys.len() <= limit
        })?;
        if keys.len() <= limit {
            recent(&mut last, None, &mut keys);
        }
        if keys.len() > limit {
            keys.truncate(limit);
            more = true;
        }
        Ok((self.read().generation == generation).then_some((keys, more)))
    }

    /// Begins a checkpoint: what was written so far becomes read-only. `None` while another one runs.
    pub(crate) fn seal(&self) -> Option<Arc<Layer>> {
        let mut layers = self.write();
        if layers.sealed.is_some() {
            return None;
        }
        let sealed = Arc::new(std::mem::take(&mut layers.active));
        layers.active_bytes = 0;
        layers.sealed = Some(sealed.clone());
        layers.generation += 1;
        Some(sealed)
    }

    /// Ends it: the engine has what was sealed.
    pub(crate) fn unseal(&self) {
        let mut layers = self.write();
        layers.sealed = None;
        layers.generation += 1;
    }

    fn read(&self) -> RwLockReadGuard<'_, Layers> {
        self.layers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Layers> {
        self.layers.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn next_in<'a>(layer: &'a Layer, last: &Bound<Key>) -> Option<(&'a Key, &'a Option<Item>)> {
    layer.range((last.clone(), Bound::Unbounded)).next()
}

fn weight(key: &Key, item: Option<&Item>) -> usize {
    ENTRY_OVERHEAD + key.len() + item.map_or(0, |item| item.value.len() + item.content_type.len())
}
