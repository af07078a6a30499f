//! How many requests a door works on at once. What comes beyond is refused at once, so that those that are worked on get done and
//! memory stays bounded, whatever arrives.
//!
//! A request counts until its answer has been handed over, streamed answers to their end. Health checks, metadata and standing
//! subscriptions are not counted: an overloaded sidecar is still alive, and a subscription is no work in itself.
//!
//! INVARIANT: nothing waits here; a place is taken or refused with one atomic step.

use crate::catalogue::common;
use crate::error::Result;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The places of one door. Clones share them.
#[derive(Debug, Clone)]
pub struct Admission {
    most: usize,
    taken: Arc<AtomicUsize>,
}

/// One place; dropping it makes room.
#[derive(Debug)]
pub struct Pass(Arc<AtomicUsize>);

impl Admission {
    /// `None` is no limit.
    pub fn new(most: Option<usize>) -> Self {
        Self {
            most: most.unwrap_or(usize::MAX),
            taken: Arc::default(),
        }
    }

    /// # Errors
    /// [`common::OVERLOADED`] when all places are taken.
    pub fn enter(&self) -> Result<Pass> {
        if self.taken.fetch_add(1, Ordering::Relaxed) < self.most {
            return Ok(Pass(self.taken.clone()));
        }
        self.taken.fetch_sub(1, Ordering::Relaxed);
        Err(common::overloaded(self.most))
    }
}

/// Without limit.
impl Default for Admission {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::Admission;

    #[test]
    fn places_are_taken_and_given_back() {
        let admission = Admission::new(Some(2));
        let first = admission.enter().unwrap();
        let _second = admission.clone().enter().unwrap();
        for _ in 0..3 {
            let error = admission.enter().unwrap_err();
            assert_eq!(error.code.tag, "ERR_OVERLOADED");
            assert_eq!((error.code.http, error.code.grpc), (503, 14));
        }
        drop(first);
        let _third = admission.enter().unwrap();
        assert!(admission.enter().is_err());
        let endless = Admission::new(None);
        let passes: Vec<_> = (0..10_000).map(|_| endless.enter().unwrap()).collect();
        assert_eq!(passes.len(), 10_000);
    }
}
