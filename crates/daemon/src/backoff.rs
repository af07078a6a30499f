//! Pauses between attempts, so that a server that comes back is not run over by everybody at once.

use std::time::Duration;

/// Doubles from the shortest pause to the longest, and takes off up to half of each at random.
#[derive(Debug, Clone)]
pub struct Backoff {
    shortest: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// A longest pause below the shortest is both.
    pub fn new(shortest: Duration, longest: Duration) -> Self {
        Self {
            shortest,
            longest,
            failures: 0,
        }
    }

    /// How long to wait before the next attempt.
    pub fn pause(&mut self) -> Duration {
        let pause = after(self.shortest, self.longest, self.failures);
        self.failures = self.failures.saturating_add(1);
        pause
    }

    /// Waits before the next attempt.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.pause()).await;
    }

    /// It worked: the next pause is the shortest again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Nothing has failed since the beginning or the last [`reset`](Self::reset).
    pub fn is_fresh(&self) -> bool {
        self.failures == 0
    }
}

/// The pause when so many attempts had failed before the last one, for those who count themselves.
pub fn after(shortest: Duration, longest: Duration, failures: u32) -> Duration {
    let doubled = shortest.saturating_mul(1 << failures.min(31)).min(longest);
    doubled.mul_f64(rand::random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::Backoff;
    use std::time::Duration;

    #[test]
    fn doubles_within_bounds_and_starts_over() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(100), ms(350));
        for expected in [100, 200, 350, 350, 350] {
            let pause = backoff.pause();
            assert!(
                pause >= ms(expected) / 2 && pause <= ms(expected),
                "{pause:?} of {expected}"
            );
        }
        assert!(!backoff.is_fresh());
        backoff.reset();
        assert!(backoff.is_fresh());
        assert!(backoff.pause() <= ms(100));
        assert!(Backoff::new(ms(100), ms(10)).pause() <= ms(10));
    }
}
