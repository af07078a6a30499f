//! Who wants to know about writes to a space. Nobody: then a write costs one look at a flag.

use super::Key;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Spaces that are watched, each with the bell of its watchers. Bounded by the streams of the hub's connections: a space
/// nobody watches any more goes when the next one is added or it is written to.
#[derive(Default)]
pub(super) struct Watched {
    any: AtomicBool,
    spaces: Mutex<HashMap<Bytes, watch::Sender<()>>>,
}

impl Watched {
    pub(super) fn is_watching(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    pub(super) fn add(&self, space: &str) -> watch::Receiver<()> {
        let mut spaces = self.spaces();
        spaces.retain(|_, bell| bell.receiver_count() > 0);
        let bell = spaces
            .entry(Bytes::copy_from_slice(space.as_bytes()))
            .or_insert_with(|| watch::channel(()).0);
        let changes = bell.subscribe();
        self.any.store(true, Ordering::Release);
        changes
    }

    /// Keys that were written.
    pub(super) fn touch(&self, keys: &[Key]) {
        let mut spaces = self.spaces();
        for key in keys {
            let space = key.split(|byte| *byte == 0).next().unwrap_or_default();
            // It fails when nobody is left.
            if spaces.get(space).is_some_and(|bell| bell.send(()).is_err()) {
                spaces.remove(space);
            }
        }
        if spaces.is_empty() {
            self.any.store(false, Ordering::Release);
        }
    }

    fn spaces(&self) -> MutexGuard<'_, HashMap<Bytes, watch::Sender<()>>> {
        self.spaces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::Watched;
    use bytes::Bytes;

    fn key(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn only_the_space_that_is_watched() {
        let watched = Watched::default();
        assert!(!watched.is_watching());
        let mut changes = watched.add("a");
        assert!(watched.is_watching());
        changes.borrow_and_update();
        watched.touch(&[key("b\0x"), key("aa\0x")]);
        assert!(!changes.has_changed().unwrap());
        watched.touch(&[key("b\0x"), key("a\0x"), key("a\0y")]);
        assert!(changes.has_changed().unwrap());
    }

    #[test]
    fn nobody_left() {
        let watched = Watched::default();
        let (one, other) = (watched.add("a"), watched.add("b"));
        drop(one);
        watched.touch(&[key("a\0x")]);
        assert!(watched.is_watching());
        assert_eq!(watched.spaces().len(), 1);
        drop(other);
        watched.touch(&[key("b\0x")]);
        assert!(!watched.is_watching());
    }
}
