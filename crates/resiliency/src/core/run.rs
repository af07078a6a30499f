//! One run of an operation: what follows an attempt; see the header of [`super`].

use super::breaker::Refusal;
use super::retry::{Retry, Schedule, Status};
use std::time::Duration;
use tokio::time::Instant;

/// The state of one run.
#[derive(Debug)]
pub struct Run<'p> {
    retry: Option<(&'p Retry, Schedule)>,
    attempts: u32,
    paused: bool,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Succeeded,
    Failed { status: Option<Status>, permanent: bool },
    TimedOut,
    Refused(Refusal),
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Hand the outcome to the caller. `recovered` when it is a success after at least one pause.
    Finish { recovered: bool },
    /// Sleep, then try again. `first` is the first pause of the run.
    Pause { length: Duration, first: bool },
}

impl<'p> Run<'p> {
    pub fn new(retry: Option<&'p Retry>, now: Instant) -> Self {
        Self {
            retry: retry.map(|retry| (retry, Schedule::new(now))),
            attempts: 0,
            paused: false,
        }
    }

    /// Number of attempts begun.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Begins an attempt; its number, counted from 1.
    pub fn begin(&mut self) -> u32 {
        self.attempts = self.attempts.saturating_add(1);
        self.attempts
    }

    /// Decides after an attempt. `random` is from 0 to 1.
    pub fn after(&mut self, ended: Ended, now: Instant, random: f64) -> Next {
        let over = Next::Finish { recovered: false };
        let Some((retry, schedule)) = &mut self.retry else {
            return over;
        };
        let again = match ended {
            Ended::Succeeded => {
                return Next::Finish {
                    recovered: self.paused,
                };
            }
            Ended::Refused(_) => false,
            Ended::TimedOut => true,
            Ended::Failed { status, permanent } => {
                !permanent && status.is_none_or(|status| retry.matching.retries(status))
            }
        };
        if !again {
            return over;
        }
        match schedule.next(retry, now, random) {
            Some(length) => Next::Pause {
                length,
                first: !std::mem::replace(&mut self.paused, true),
            },
            None => over,
        }
    }
}
