//! How long a failed message is held before it goes back to its broker.
//!
//! Brokers redeliver at once or after a pause, as each sees fit. So that a message (or an app) that keeps failing
//! never makes us spin, the engine waits here before it gives a message back, longer with each failure in a row of
//! the same subscription. Meanwhile the message counts against the subscription's concurrency: no memory grows, and
//! a subscription whose every message fails slows down to a probe now and then.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub(super) const SHORTEST: Duration = Duration::from_millis(50);
pub(super) const LONGEST: Duration = Duration::from_secs(2);

/// Failures in a row of one subscription.
#[derive(Debug, Default)]
pub(super) struct Pace {
    failures: AtomicU32,
}

impl Pace {
    pub(super) fn succeeded(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// Counts a failure and says how long to hold its message: 50 ms, doubling up to 2 s.
    pub(super) fn failed(&self) -> Duration {
        let before = self.failures.load(Ordering::Relaxed);
        self.failures.store(before.saturating_add(1), Ordering::Relaxed);
        SHORTEST.saturating_mul(1 << before.min(16)).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::{LONGEST, Pace};
    use std::time::Duration;

    #[test]
    fn doubles_and_starts_over() {
        let pace = Pace::default();
        let waits: Vec<u128> = (0..8).map(|_| pace.failed().as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
        for _ in 0..100 {
            assert!(pace.failed() <= LONGEST);
        }
        pace.succeeded();
        assert_eq!(pace.failed(), Duration::from_millis(50));
    }
}
