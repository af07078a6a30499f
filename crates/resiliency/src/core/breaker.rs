//! The circuit breaker as a state machine; see the header of [`super`].

use super::trip::Trip;
use std::fmt;
use std::time::Duration;
use tokio::time::Instant;

/// How a breaker behaves.
#[derive(Debug)]
pub struct Settings {
    /// Attempts let through while half-open, and successes needed to close; at least 1.
    pub max_requests: u32,
    /// How long counts are kept while closed; zero keeps them.
    pub interval: Duration,
    /// How long it stays open; zero is the default of 60 s.
    pub timeout: Duration,
    pub trip: Trip,
}

/// Open for this long unless a document says otherwise.
pub const OPEN_FOR: Duration = Duration::from_secs(60);

/// Whether calls go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Closed,
    HalfOpen,
    Open,
}

impl State {
    /// As logs and metric labels name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half-open",
            Self::Open => "open",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What happened since the counts began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub requests: u32,
    pub total_successes: u32,
    pub total_failures: u32,
    pub consecutive_successes: u32,
    pub consecutive_failures: u32,
}

/// A refused attempt. Texts of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("circuit breaker is open")]
    Open,
    /// Half-open, and as many as allowed are under way.
    #[error("too many requests")]
    TooMany,
}

/// A change of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    pub from: State,
    pub to: State,
}

/// Proof of admission, to be given back with the outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    generation: u64,
}

/// One breaker. Its settings are an argument, since many breakers share them.
#[derive(Debug)]
pub struct Core {
    state: State,
    /// Grows whenever counts start again; tells late outcomes from current ones.
    generation: u64,
    counts: Counts,
    /// When the interval or the open time ends.
    expires: Option<Instant>,
}

impl Core {
    pub fn new(settings: &Settings, now: Instant) -> Self {
        let mut core = Self {
            state: State::Closed,
            generation: 0,
            counts: Counts::default(),
            expires: None,
        };
        core.restart(settings, now);
        core
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The state at `now`, and the change that brought the passing of time, if any.
    pub fn state(&mut self, settings: &Settings, now: Instant) -> (State, Option<Change>) {
        let expired = self.expires.is_some_and(|expires| expires < now);
        let change = match self.state {
            State::Closed if expired => {
                self.restart(settings, now);
                None
            }
            State::Open if expired => self.enter(State::HalfOpen, settings, now),
            _ => None,
        };
        (self.state, change)
    }

    /// Asks to start an attempt. Call [`Core::state`] with the same `now` first to learn of changes.
    pub fn admit(&mut self, settings: &Settings, now: Instant) -> Result<Ticket, Refusal> {
        match self.state(settings, now).0 {
            State::Open => return Err(Refusal::Open),
            State::HalfOpen if self.counts.requests >= settings.max_requests.max(1) => {
                return Err(Refusal::TooMany);
            }
            State::HalfOpen | State::Closed => {}
        }
        self.counts.requests = self.counts.requests.saturating_add(1);
        Ok(Ticket {
            generation: self.generation,
        })
    }

    /// Tells how an attempt ended. Late outcomes are ignored.
    pub fn settle(
        &mut self,
        ticket: Ticket,
        success: bool,
        settings: &Settings,
        now: Instant,
    ) -> Option<Change> {
        let (state, change) = self.state(settings, now);
        if ticket.generation != self.generation {
            return change;
        }
        if success {
            self.counts.succeed();
            let enough = self.counts.consecutive_successes >= settings.max_requests.max(1);
            if state == State::HalfOpen && enough {
                return self.enter(State::Closed, settings, now);
            }
        } else {
            self.counts.fail();
            if state == State::HalfOpen || (state == State::Closed && settings.trip.trips(&self.counts)) {
                return self.enter(State::Open, settings, now);
            }
        }
        change
    }

    fn enter(&mut self, state: State, settings: &Settings, now: Instant) -> Option<Change> {
        let from = std::mem::replace(&mut self.state, state);
        self.restart(settings, now);
        Some(Change { from, to: state })
    }

    fn restart(&mut self, settings: &Settings, now: Instant) {
        self.generation += 1;
        self.counts = Counts::default();
        let length = match self.state {
            State::Closed => settings.interval,
            State::Open if settings.timeout.is_zero() => OPEN_FOR,
            State::Open => settings.timeout,
            State::HalfOpen => Duration::ZERO,
        };
        // A length too large for the clock never ends.
        self.expires = if length.is_zero() {
            None
        } else {
            now.checked_add(length)
        };
    }
}

impl Counts {
    fn succeed(&mut self) {
        self.total_successes = self.total_successes.saturating_add(1);
        self.consecutive_successes = self.consecutive_successes.saturating_add(1);
        self.consecutive_failures = 0;
    }

    fn fail(&mut self) {
        self.total_failures = self.total_failures.saturating_add(1);
        self.consecutive_failures = self.consecutive_failures.saturating_add(1);
        self.consecutive_successes = 0;
    }
}
