//! What is known of one connection without asking it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Streams under way on a connection, and whether it still takes new ones.
#[derive(Default)]
pub(super) struct Usage {
    streams: AtomicUsize,
    closed: AtomicBool,
}

impl Usage {
    pub(super) fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }
}

/// One stream of a connection; dropping it makes room for another.
pub(super) struct Slot(Arc<Usage>);

impl Slot {
    /// `None` when `most` are taken.
    pub(super) fn take(usage: &Arc<Usage>, most: usize) -> Option<Self> {
        usage
            .streams
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
                (taken < most).then_some(taken + 1)
            })
            .ok()
            .map(|_| Self(usage.clone()))
    }

    /// The connection takes no requests any more.
    pub(super) fn close(&self) {
        self.0.close();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}
