//! How resiliency behaves, without clock, chance or tasks: `now` and `random` are arguments. Enough is said here to
//! write it again. Reference: `pkg/resiliency`, with gobreaker and backoff behind it.
//!
//! # Composition
//! An operation runs as `retry(breaker(timeout(operation)))`, each layer optional. [`run::Run`] is one such run:
//!
//! 1. The breaker admits the attempt or refuses it. A refusal ends the run: it is never retried.
//! 2. The attempt runs, at most for the timeout. Running out of time is a failure like any other.
//! 3. The breaker learns success or failure. An attempt that is abandoned counts as failed.
//! 4. A success ends the run. So does a failure that is permanent, that carries a status code which is not to be
//!    retried, or for which the schedule has no pause left. Otherwise the pause is slept and 1. follows.
//!
//! The first pause of a run is reported, and the success of a run that had one.
//!
//! # Retry ([`retry`])
//! Constant: the same pause each time. Exponential: pauses start at 500 ms, each 1.5 times the one before up to the
//! maximum (60 s), each varied by up to half in both directions; a run ends when the next pause would end more than
//! 15 minutes after its start. A maximum number of retries comes on top; -1 is none, 0 never retries. HTTP codes
//! (100 to 599) and gRPC codes (0 to 16) each have a list of ranges; no list means all, an error without a code is
//! retried.
//!
//! # Circuit breaker ([`breaker`])
//! *Closed* lets everything through and counts; the counts are forgotten at the end of every interval (never when
//! the interval is 0). After a failure the trip expression decides over the counts whether to open; by default that
//! is more than 5 consecutive failures. *Open* refuses until its timeout (60 s) has passed, then is *half-open*: lets
//! as many through as allowed (1) and refuses more. There one failure opens again, and as many consecutive successes
//! as allowed close. Every change of state starts with empty counts, and the outcome of an attempt that was admitted
//! before the last change, or before the last interval began, is ignored.

pub mod breaker;
pub mod retry;
pub mod run;
pub mod trip;

#[cfg(test)]
mod tests;
