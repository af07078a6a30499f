//! Pauses between attempts, so that a server that comes back is not run over by everybody at once.

use std::time::Duration;

/// Doubles from the shortest pause to the longest, and takes off up to half of each at random.
#[derive(Debug, Clone)]
pub struct Backoff {
    shortest: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// A longest pause below the shortest is both.
    pub fn new(shortest: Duration, longest: Duration) -> Self {
        let shortest = shortest.min(longest);
        Self {
            shortest,
            longest,
            next: shortest,
        }
    }

    /// How long to wait before the next attempt.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = pause.saturating_mul(2).min(self.longest);
        pause.mul_f64(rand::random_range(0.5..=1.0))
    }

    /// It worked: the next pause is the shortest again.
    pub fn reset(&mut self) {
        self.next = self.shortest;
    }
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
        backoff.reset();
        assert!(backoff.pause() <= ms(100));
        assert!(Backoff::new(ms(100), ms(10)).pause() <= ms(10));
    }
}
