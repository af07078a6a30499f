//! Whether and when to try again; see the header of [`super`].

use std::time::Duration;
use tokio::time::Instant;

/// How often, how soon, and for which failures an operation is repeated.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    pub backoff: Backoff,
    /// Repetitions after the first attempt; `None` is without end.
    pub max_retries: Option<u64>,
    pub matching: Matching,
}

/// The pauses between attempts.
#[derive(Debug, Clone, PartialEq)]
pub enum Backoff {
    Constant(Duration),
    Exponential {
        max_interval: Duration,
        /// Since the start of the run; `None` is without end.
        max_elapsed: Option<Duration>,
    },
}

/// Pause of a constant policy that names none.
pub const CONSTANT: Duration = Duration::from_secs(5);
/// Longest pause of an exponential policy that names none.
pub const MAX_INTERVAL: Duration = Duration::from_secs(60);
/// Longest run of an exponential policy.
pub const MAX_ELAPSED: Duration = Duration::from_secs(15 * 60);
const INITIAL: Duration = Duration::from_millis(500);
const GROWTH: f64 = 1.5;
const JITTER: f64 = 0.5;

/// A failure's status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Http(u16),
    Grpc(u16),
}

/// Which status codes are retried; `None` is all valid ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matching {
    pub http: Option<Vec<Range>>,
    pub grpc: Option<Vec<Range>>,
}

/// Codes from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub first: u16,
    pub last: u16,
}

const HTTP: Range = Range {
    first: 100,
    last: 599,
};
const GRPC: Range = Range { first: 0, last: 16 };

/// A list of codes that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "status codes {pattern:?} are not understood; write codes from {first} to {last} and ranges, for example {example}"
)]
pub struct Error {
    pub pattern: String,
    first: u16,
    last: u16,
    example: &'static str,
}

impl Matching {
    /// Lists as documents have them (`429,500-599`); an empty text is no list, empty entries are passed over.
    pub fn parse(http: &str, grpc: &str) -> Result<Self, Error> {
        Ok(Self {
            http: ranges(http, HTTP, "429,500-599")?,
            grpc: ranges(grpc, GRPC, "1,4,13-15")?,
        })
    }

    /// Whether a failure with this code is retried. Codes that cannot exist are not.
    pub fn retries(&self, status: Status) -> bool {
        let (code, valid, list) = match status {
            Status::Http(code) => (code, HTTP, &self.http),
            Status::Grpc(code) => (code, GRPC, &self.grpc),
        };
        let listed = |list: &Vec<Range>| list.iter().any(|range| range.contains(code));
        valid.contains(code) && list.as_ref().is_none_or(listed)
    }
}

impl Range {
    fn contains(self, code: u16) -> bool {
        (self.first..=self.last).contains(&code)
    }
}

/// The pauses of one run.
#[derive(Debug, Clone)]
pub struct Schedule {
    started: Instant,
    retries: u64,
    /// The next exponential pause, before it is varied.
    interval: Duration,
}

impl Schedule {
    pub fn new(now: Instant) -> Self {
        Self {
            started: now,
            retries: 0,
            interval: INITIAL,
        }
    }

    /// The pause before the next attempt; `None` when there is to be none. `random` is from 0 to 1.
    pub fn next(&mut self, retry: &Retry, now: Instant, random: f64) -> Option<Duration> {
        if retry.max_retries.is_some_and(|most| self.retries >= most) {
            return None;
        }
        self.retries += 1;
        match retry.backoff {
            Backoff::Constant(pause) => Some(pause),
            Backoff::Exponential {
                max_interval,
                max_elapsed,
            } => {
                let varied = 1.0 - JITTER + random.clamp(0.0, 1.0) * 2.0 * JITTER;
                let pause = self.interval.mul_f64(varied);
                self.interval = if self.interval.as_secs_f64() >= max_interval.as_secs_f64() / GROWTH {
                    max_interval
                } else {
                    self.interval.mul_f64(GROWTH)
                };
                let elapsed = now.saturating_duration_since(self.started);
                let over = |most| elapsed.saturating_add(pause) > most;
                (!max_elapsed.is_some_and(over)).then_some(pause)
            }
        }
    }
}

fn ranges(text: &str, valid: Range, example: &'static str) -> Result<Option<Vec<Range>>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || Error {
        pattern: text.to_owned(),
        first: valid.first,
        last: valid.last,
        example,
    };
    let code = |text: &str| text.parse().ok().filter(|code| valid.contains(*code));
    text.split(',')
        .filter(|entry| !entry.is_empty())
        .map(|entry| {
            let (first, last) = entry.split_once('-').unwrap_or((entry, entry));
            let range = Range {
                first: code(first).ok_or_else(wrong)?,
                last: code(last).ok_or_else(wrong)?,
            };
            if range.first > range.last {
                Err(wrong())
            } else {
                Ok(range)
            }
        })
        .collect::<Result<Vec<_>, _>>()
        .map(Some)
}
