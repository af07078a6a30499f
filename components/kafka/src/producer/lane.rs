//! What is published to one partition, from waiting over numbered batches to an answer; no input or output here.
//!
//! INVARIANT: batches are numbered in the order of their messages, are sent in this order, and after a failure are sent
//! again in this order, under the same numbers: only when none of them is under way. So the broker, which watches over the
//! numbers, takes each batch once. When a number was used up without the broker having the batch, or nobody knows
//! whether it has, the lane asks for another identity and numbers what is left anew.

use crate::failure::Failure;
use crate::wire::batch::Stamp;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// Batches under way: as many as brokers remember of a producer.
pub(super) const MOST_BATCHES: usize = 5;

/// Batches are not made smaller than this, in bytes.
const SMALLEST: usize = 1024;

/// How much goes into a batch, and how often it is tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub bytes: usize,
    pub retries: u32,
    /// Whether the broker watches over the order (idempotence).
    pub watched: bool,
}

pub(super) struct Lane<R> {
    limits: Limits,
    identity: Identity,
    sequence: i32,
    waiting: VecDeque<(R, usize)>,
    waiting_bytes: usize,
    batches: VecDeque<Batch<R>>,
    /// Names of batches.
    made: u64,
    /// Nothing is sent before.
    until: Option<Instant>,
    /// Failures in a row to reach the broker at all.
    misses: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Identity {
    Missing,
    Asked,
    Is { producer: i64, epoch: i16 },
}

struct Batch<R> {
    name: u64,
    sequence: i32,
    records: Vec<R>,
    attempts: u32,
    state: State,
}

enum State {
    Ready,
    Sent,
    Failed(Told),
}

/// What became of a batch.
#[derive(Debug, Clone)]
pub(super) enum Told {
    Written,
    /// Perhaps it is written, perhaps not; to be tried again.
    Again(Failure),
    /// It is not written and never will be.
    Never(Failure),
    /// The same, and the broker takes smaller ones.
    TooLarge(Failure),
    /// The broker does not know how to go on after the numbers so far.
    Forgotten(Failure),
}

/// A batch to be sent.
pub(super) struct Next<'a, R> {
    pub name: u64,
    pub stamp: Stamp,
    pub records: &'a [R],
}

/// Messages and what to answer to them.
pub(super) type Answers<R> = Vec<(R, Result<(), Failure>)>;

impl<R> Lane<R> {
    pub(super) fn new(limits: Limits) -> Self {
        let unwatched = Identity::Is {
            producer: -1,
            epoch: -1,
        };
        Self {
            limits,
            identity: if limits.watched {
                Identity::Missing
            } else {
                unwatched
            },
            sequence: 0,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            batches: VecDeque::new(),
            made: 0,
            until: None,
            misses: 0,
        }
    }

    /// `length` is in bytes.
    pub(super) fn push(&mut self, record: R, length: usize) {
        self.waiting.push_back((record, length));
        self.waiting_bytes += length;
    }

    /// Of what is in no batch yet.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.batches.is_empty()
    }

    /// Until when nothing is to be done.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until.filter(|_| !self.is_idle())
    }

    /// Whether an identity or a connection would let something be sent now.
    pub(super) fn is_ready(&self, now: Instant) -> bool {
        if self.until.is_some_and(|until| until > now) || self.identity == Identity::Asked {
            return false;
        }
        let blocked = self
            .batches
            .iter()
            .any(|batch| matches!(batch.state, State::Failed(_)));
        let again = self
            .batches
            .iter()
            .any(|batch| matches!(batch.state, State::Ready));
        !blocked && (again || (!self.waiting.is_empty() && self.batches.len() < MOST_BATCHES))
    }

    /// Whether it must be [told](Lane::identified) who it is before anything can be sent. True once per identity.
    pub(super) fn ask_identity(&mut self) -> bool {
        let ask = self.identity == Identity::Missing;
        if ask {
            self.identity = Identity::Asked;
        }
        ask
    }

    pub(super) fn identified(&mut self, producer: i64, epoch: i16) {
        self.identity = Identity::Is { producer, epoch };
        self.sequence = 0;
        for batch in &mut self.batches {
            batch.sequence = self.sequence;
            self.sequence = after(self.sequence, batch.records.len());
        }
    }

    /// The next batch to be sent, which counts as sent from now on.
    pub(super) fn next(&mut self, now: Instant) -> Option<Next<'_, R>> {
        let Identity::Is { producer, epoch } = self.identity else {
            return None;
        };
        if !self.is_ready(now) {
            return None;
        }
        self.until = None;
        let ready = |batch: &Batch<R>| matches!(batch.state, State::Ready);
        let index = match self.batches.iter().position(ready) {
            Some(index) => index,
            None => {
                self.fill();
                self.batches.len() - 1
            }
        };
        let watched = self.limits.watched;
        let batch = self.batches.get_mut(index)?;
        batch.state = State::Sent;
        Some(Next {
            name: batch.name,
            stamp: Stamp {
                producer,
                epoch,
                sequence: if watched { batch.sequence } else { -1 },
            },
            records: &batch.records,
        })
    }

    /// Makes a batch of what waits.
    fn fill(&mut self) {
        let mut records = Vec::new();
        let mut bytes = 0;
        while let Some((_, length)) = self.waiting.front() {
            if !records.is_empty() && bytes + length > self.limits.bytes {
                break;
            }
            bytes += length;
            self.waiting_bytes -= length;
            records.extend(self.waiting.pop_front().map(|(record, _)| record));
        }
        let sequence = self.sequence;
        self.sequence = after(sequence, records.len());
        self.made += 1;
        self.batches.push_back(Batch {
            name: self.made,
            sequence,
            records,
            attempts: 0,
            state: State::Ready,
        });
    }

    /// A batch has come to an end. Answers those whose messages are done with. `pause` says how long to wait before an
    /// attempt.
    pub(super) fn told(
        &mut self,
        name: u64,
        told: Told,
        now: Instant,
        pause: impl Fn(u32) -> Duration,
    ) -> Answers<R> {
        let mut answers = Vec::new();
        if let Some(index) = self.batches.iter().position(|batch| batch.name == name) {
            if matches!(told, Told::Written) {
                self.misses = 0;
                let batch = self.batches.remove(index);
                answers.extend(
                    batch
                        .into_iter()
                        .flat_map(|batch| batch.records)
                        .map(|record| (record, Ok(()))),
                );
            } else if let Some(batch) = self.batches.get_mut(index) {
                batch.state = State::Failed(told);
            }
        }
        self.recover(&mut answers, now, pause);
        answers
    }

    /// Once nothing is under way any more, decides about what has failed.
    fn recover(&mut self, answers: &mut Answers<R>, now: Instant, pause: impl Fn(u32) -> Duration) {
        let sent = |batch: &Batch<R>| matches!(batch.state, State::Sent);
        let failed = |batch: &Batch<R>| matches!(batch.state, State::Failed(_));
        if self.batches.iter().any(sent) || !self.batches.iter().any(failed) {
            return;
        }
        let mut anew = false;
        let mut attempts = 0;
        let mut kept = VecDeque::new();
        for (index, mut batch) in std::mem::take(&mut self.batches).into_iter().enumerate() {
            let failure = match std::mem::replace(&mut batch.state, State::Ready) {
                State::Ready | State::Sent | State::Failed(Told::Written) => None,
                State::Failed(Told::TooLarge(_)) if batch.records.len() > 1 => {
                    anew = true;
                    kept.extend(self.split(batch));
                    continue;
                }
                State::Failed(Told::Never(failure) | Told::TooLarge(failure)) => Some(failure),
                State::Failed(Told::Forgotten(failure)) => {
                    // Behind another failure, that one is the cause.
                    anew |= index == 0;
                    batch.attempts += 1;
                    (batch.attempts > self.limits.retries).then_some(failure)
                }
                State::Failed(Told::Again(failure)) => {
                    batch.attempts += 1;
                    (batch.attempts > self.limits.retries).then_some(failure)
                }
            };
            match failure {
                Some(failure) => {
                    anew = true;
                    answers.extend(
                        batch
                            .records
                            .into_iter()
                            .map(|record| (record, Err(failure.clone()))),
                    );
                }
                None => {
                    attempts = attempts.max(batch.attempts);
                    kept.push_back(batch);
                }
            }
        }
        self.batches = kept;
        if anew {
            self.forget();
        }
        if attempts > 0 {
            self.until = Some(now + pause(attempts));
        }
    }

    /// In two, and the next batches are smaller, too.
    fn split(&mut self, mut batch: Batch<R>) -> [Batch<R>; 2] {
        self.limits.bytes = (self.limits.bytes / 2).max(SMALLEST);
        self.made += 1;
        let second = Batch {
            name: self.made,
            sequence: 0,
            records: batch.records.split_off(batch.records.len() / 2),
            attempts: batch.attempts,
            state: State::Ready,
        };
        [batch, second]
    }

    /// The broker could not be reached, or does not say who we are. Answers everybody once that has happened too often.
    pub(super) fn missed(
        &mut self,
        failure: &Failure,
        now: Instant,
        pause: impl Fn(u32) -> Duration,
    ) -> Answers<R> {
        if self.identity == Identity::Asked {
            self.identity = Identity::Missing;
        }
        self.misses += 1;
        if self.misses <= self.limits.retries && failure.is_passing() {
            self.until = Some(now + pause(self.misses));
            return Vec::new();
        }
        self.misses = 0;
        self.until = None;
        let (kept, given_up): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.batches)
            .into_iter()
            .partition(|batch| matches!(batch.state, State::Sent));
        self.batches = kept;
        if !given_up.is_empty() {
            self.forget();
        }
        self.waiting_bytes = 0;
        let waiting = std::mem::take(&mut self.waiting)
            .into_iter()
            .map(|(record, _)| record);
        given_up
            .into_iter()
            .flat_map(|batch| batch.records)
            .chain(waiting)
            .map(|record| (record, Err(failure.clone())))
            .collect()
    }

    fn forget(&mut self) {
        if self.limits.watched {
            self.identity = Identity::Missing;
        }
    }
}

/// Numbers begin again with 0 after the largest.
fn after(sequence: i32, count: usize) -> i32 {
    let count = i32::try_from(count).unwrap_or(i32::MAX);
    sequence.wrapping_add(count) & i32::MAX
}

#[cfg(test)]
mod tests;
