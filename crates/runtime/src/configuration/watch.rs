//! Subscriptions by their id, and the stream that each of them is.

use futures::stream::Stream;
use outrigger_component::configuration::{Changes, Items};
use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::sync::oneshot;

/// Subscriptions of one sidecar at most, so that memory is bounded.
const MOST: usize = 1000;

/// There is no room for another subscription.
#[derive(Debug, thiserror::Error)]
#[error("there are {MOST} subscriptions already: unsubscribe those that are not needed")]
pub(super) struct Full;

/// The running subscriptions.
#[derive(Default)]
pub(super) struct Held(Mutex<HashMap<String, Entry>>);

struct Entry {
    store: String,
    /// Dropped to end the stream.
    _end: oneshot::Sender<()>,
}

/// The changes of one subscription. Dropping it unsubscribes.
pub struct Watch {
    id: String,
    changes: Changes,
    ended: oneshot::Receiver<()>,
    held: Arc<Held>,
}

impl Held {
    pub(super) fn add(this: &Arc<Self>, store: &str, changes: Changes) -> Result<Watch, Full> {
        let id = uuid::Uuid::new_v4().to_string();
        let (end, ended) = oneshot::channel();
        let entry = Entry {
            store: store.to_owned(),
            _end: end,
        };
        let mut entries = this.entries();
        if entries.len() >= MOST {
            return Err(Full);
        }
        entries.insert(id.clone(), entry);
        drop(entries);
        Ok(Watch {
            id,
            changes,
            ended,
            held: Arc::clone(this),
        })
    }

    /// Whether there was such a subscription, of this store if one is named.
    pub(super) fn end(&self, store: Option<&str>, id: &str) -> bool {
        let mut entries = self.entries();
        let ours = entries
            .get(id)
            .is_some_and(|entry| store.is_none_or(|store| entry.store == store));
        ours && entries.remove(id).is_some()
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl Stream for Watch {
    type Item = Items;

    /// `None` once it was unsubscribed or the store was closed.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Items>> {
        if Pin::new(&mut self.ended).poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        self.changes.as_mut().poll_next(cx)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.held.entries().remove(&self.id);
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
