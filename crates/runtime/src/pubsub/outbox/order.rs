//! Turns: who asks for the same key later comes later.
//!
//! [`Chains::join`] takes a place behind all that joined for the key before, at the moment of the call; [`Turn::come`]
//! waits until they are gone. Dropping a turn gives way to the next one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

#[derive(Default, Clone)]
pub(super) struct Chains(Arc<Mutex<Tails>>);

#[derive(Default)]
struct Tails {
    /// Of each key that somebody has joined for: the last one's number and end.
    by_key: HashMap<String, (u64, oneshot::Receiver<()>)>,
    next: u64,
}

/// A place in the chain of a key.
pub(super) struct Turn {
    chains: Chains,
    key: String,
    number: u64,
    before: Option<oneshot::Receiver<()>>,
    /// Dropped with the turn: that is the signal.
    _end: oneshot::Sender<()>,
}

impl Chains {
    pub(super) fn join(&self, key: &str) -> Turn {
        let (end, ended) = oneshot::channel();
        let mut tails = self.lock();
        tails.next += 1;
        let number = tails.next;
        let before = tails
            .by_key
            .insert(key.to_owned(), (number, ended))
            .map(|(_, ended)| ended);
        drop(tails);
        Turn {
            chains: self.clone(),
            key: key.to_owned(),
            number,
            before,
            _end: end,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tails> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Returns when everybody before is gone. Cancel-safe.
    pub(super) async fn come(&mut self) {
        if let Some(before) = &mut self.before {
            // Either way it is over: nobody ever sends.
            let _gone = before.await;
            self.before = None;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut tails = self.chains.lock();
        if tails
            .by_key
            .get(&self.key)
            .is_some_and(|(number, _)| *number == self.number)
            && self.before.is_none()
        {
            tails.by_key.remove(&self.key);
        }
    }
}
