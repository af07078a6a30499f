//! Ending in good order: who is asked to stop, and when everybody has.
//!
//! [`channel`] makes a [`Trigger`] and a [`Watch`]. Each clone of a watch is a claim *I am still working*: its owner
//! watches [`Watch::draining`], finishes, and drops it. [`Trigger::drained`] returns when no claim is left.
//! Both are values: a process has one such pair for "shut down" and others for what is drained on the way.
//!
//! Servers are in [`serve`].

pub mod serve;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// Asks everybody to finish. Clones ask the same parties.
#[derive(Clone)]
pub struct Trigger {
    fired: watch::Sender<bool>,
    flag: Arc<AtomicBool>,
}

/// A claim of still working, and the means to learn that it should end.
#[derive(Clone)]
pub struct Watch {
    fired: watch::Receiver<bool>,
    flag: Arc<AtomicBool>,
}

/// A new pair. Nobody is draining until the trigger is fired, or its last clone dropped.
pub fn channel() -> (Trigger, Watch) {
    let (sender, receiver) = watch::channel(false);
    let flag = Arc::new(AtomicBool::new(false));
    (
        Trigger {
            fired: sender,
            flag: Arc::clone(&flag),
        },
        Watch {
            fired: receiver,
            flag,
        },
    )
}

impl Trigger {
    /// Asks everybody to finish. Further calls change nothing.
    pub fn fire(&self) {
        self.flag.store(true, Ordering::Release);
        self.fired.send_replace(true);
    }

    pub fn fired(&self) -> bool {
        self.flag.load(Ordering::Acquire)
    }

    /// Another claim, for parties that start later.
    pub fn watch(&self) -> Watch {
        Watch {
            fired: self.fired.subscribe(),
            flag: Arc::clone(&self.flag),
        }
    }

    /// Returns when no [`Watch`] is left. Cancel-safe. It does not fire.
    pub async fn drained(&self) {
        self.fired.closed().await;
    }
}

impl Watch {
    /// One atomic load: fit for a hot path.
    pub fn is_draining(&self) -> bool {
        self.flag.load(Ordering::Acquire)
    }

    /// Returns when it is time to finish: the trigger was fired, or nobody is left who could fire it. Cancel-safe.
    /// The future is a claim itself for as long as it is kept.
    pub fn draining(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut fired = self.fired.clone();
        async move {
            if fired.wait_for(|fired| *fired).await.is_err() {
                // All triggers are gone: nobody would ever ask, so the work has lost its owner.
            }
        }
    }
}
