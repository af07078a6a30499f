//! A policy that applies to one call, and the shell that runs an operation under it.

use crate::core::breaker::{self, Refusal, State, Ticket};
use crate::core::retry::{Retry, Status};
use crate::core::run::{Ended, Next, Run};
use crate::event::{Event, Observer, Part, Usage};
use crate::policies::{Flow, Operation, Target};
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// What the core has to know about an operation's error.
pub trait Outcome: fmt::Display {
    /// The status code it carries, if the code shall decide about retrying.
    fn status(&self) -> Option<Status> {
        None
    }

    /// Never to be retried.
    fn is_permanent(&self) -> bool {
        false
    }
}

/// Why a run failed. The policy's own reasons have the reference's texts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error<E> {
    /// The last attempt's own error.
    #[error("{0}")]
    Operation(E),
    /// The last attempt took longer than the timeout.
    #[error("context deadline exceeded")]
    Timeout,
    /// The circuit breaker refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl<E> Error<E> {
    /// The operation's own error, or what `otherwise` makes of the policy's.
    pub fn into_operation(self, otherwise: impl FnOnce(String) -> E) -> E {
        match self {
            Self::Operation(error) => error,
            Self::Timeout => otherwise("context deadline exceeded".to_owned()),
            Self::Refused(refusal) => otherwise(refusal.to_string()),
        }
    }
}

/// A breaker that many calls share.
pub(crate) struct Breaker {
    name: String,
    settings: Arc<breaker::Settings>,
    core: Mutex<breaker::Core>,
}

impl Breaker {
    pub(crate) fn new(name: String, settings: Arc<breaker::Settings>) -> Self {
        let core = Mutex::new(breaker::Core::new(&settings, Instant::now()));
        Self { name, settings, core }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn settings(&self) -> &breaker::Settings {
        &self.settings
    }

    /// Does one thing with the core, and reports the change of state that came with it.
    fn with<T>(
        &self,
        observer: &dyn Observer,
        act: impl FnOnce(&mut breaker::Core, &breaker::Settings, Instant) -> (T, Option<breaker::Change>),
    ) -> T {
        let now = Instant::now();
        let (value, change) = {
            // A panic inside cannot leave the counts half-changed in a way that matters.
            let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
            act(&mut core, &self.settings, now)
        };
        if let Some(breaker::Change { from, to }) = change {
            observer.observe(&Event::Changed {
                breaker: &self.name,
                from,
                to,
            });
        }
        value
    }

    fn state(&self, observer: &dyn Observer) -> State {
        self.with(observer, breaker::Core::state)
    }

    fn admit(&self, observer: &dyn Observer) -> Result<(Ticket, State), Refusal> {
        self.with(observer, |core, settings, now| {
            let (state, change) = core.state(settings, now);
            (core.admit(settings, now).map(|ticket| (ticket, state)), change)
        })
    }

    /// The state afterwards.
    fn settle(&self, ticket: Ticket, success: bool, observer: &dyn Observer) -> State {
        self.with(observer, |core, settings, now| {
            let change = core.settle(ticket, success, settings, now);
            (core.state(settings, now).0, change)
        })
    }
}

/// What applies to one call. Looked up once per call; holds nothing but references and at most one shared breaker.
pub struct Policy<'p> {
    pub(crate) operation: Operation<'p>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retry: Option<&'p Retry>,
    pub(crate) breaker: Option<Arc<Breaker>>,
    pub(crate) labels: Option<Labels<'p>>,
    pub(crate) observer: &'p dyn Observer,
}

/// What metrics of a policy carry; absent where there are none (built-in policies).
#[derive(Clone, Copy)]
pub(crate) struct Labels<'p> {
    pub(crate) resource: &'p str,
    pub(crate) namespace: &'p str,
    pub(crate) flow: Flow,
    pub(crate) target: Target<'p>,
}

impl<'p> Policy<'p> {
    /// Nothing applies.
    pub fn none() -> Self {
        Policy {
            operation: Operation::Unnamed,
            timeout: None,
            retry: None,
            breaker: None,
            labels: None,
            observer: &(),
        }
    }

    /// Running under it is running without it.
    pub fn is_none(&self) -> bool {
        self.timeout.is_none() && self.retry.is_none() && self.breaker.is_none()
    }

    /// Whether an operation may run more than once: then its input must be kept for replay.
    pub fn has_retries(&self) -> bool {
        self.retry.is_some_and(|retry| retry.max_retries != Some(0))
    }

    /// As log lines name the operation.
    pub fn operation(&self) -> &Operation<'p> {
        &self.operation
    }

    /// Runs `retry(breaker(timeout(op)))`. `op` is called once per attempt with its number, counted from 1. Dropping the
    /// future abandons the attempt under way, which the breaker counts as failed.
    pub async fn run<T, E, F, O>(&self, mut op: O) -> Result<T, Error<E>>
    where
        E: Outcome,
        F: Future<Output = Result<T, E>>,
        O: FnMut(u32) -> F,
    {
        if self.is_none() {
            return op(1).await.map_err(Error::Operation);
        }
        let mut run = Run::new(self.retry, Instant::now());
        let mut timed_out = false;
        loop {
            let number = run.begin();
            let outcome = self.attempt(&mut op, number).await;
            if matches!(outcome, Err(Error::Timeout)) && !std::mem::replace(&mut timed_out, true) {
                self.activated(Part::Timeout, None);
            }
            let random = if self.retry.is_some() { rand::random() } else { 0.0 };
            match (run.after(ended(&outcome), Instant::now(), random), outcome) {
                (Next::Finish { recovered }, outcome) => {
                    if recovered {
                        self.observer.observe(&Event::Recovered {
                            operation: &self.operation,
                            attempts: run.attempts(),
                        });
                    }
                    return outcome;
                }
                (Next::Pause { length, first }, outcome) => {
                    if let (true, Err(error)) = (first, &outcome) {
                        self.activated(Part::Retry, None);
                        self.observer.observe(&Event::Retrying {
                            operation: &self.operation,
                            delay: length,
                            error,
                        });
                    }
                    drop(outcome);
                    tokio::time::sleep(length).await;
                }
            }
        }
    }

    async fn attempt<T, E, F, O>(&self, op: &mut O, number: u32) -> Result<T, Error<E>>
    where
        E: Outcome,
        F: Future<Output = Result<T, E>>,
        O: FnMut(u32) -> F,
    {
        let mut admitted = match &self.breaker {
            None => None,
            Some(breaker) => {
                let (ticket, before) = breaker.admit(self.observer)?;
                Some(Admitted {
                    policy: self,
                    breaker,
                    ticket,
                    before,
                    success: false,
                })
            }
        };
        let outcome = match self.timeout {
            None => op(number).await.map_err(Error::Operation),
            Some(timeout) => match tokio::time::timeout(timeout, op(number)).await {
                Ok(outcome) => outcome.map_err(Error::Operation),
                Err(_) => Err(Error::Timeout),
            },
        };
        if let Some(admitted) = &mut admitted {
            admitted.success = outcome.is_ok();
        }
        outcome
    }

    /// Reports every part that applies; done at lookup.
    pub(crate) fn applied(&self) {
        for (part, state) in [
            self.timeout.map(|_| (Part::Timeout, None)),
            self.retry.map(|_| (Part::Retry, None)),
            self.breaker
                .as_ref()
                .map(|breaker| (Part::CircuitBreaker, Some(breaker.state(self.observer)))),
        ]
        .into_iter()
        .flatten()
        {
            if let Some(usage) = self.usage(part, state) {
                self.observer.observe(&Event::Applied(&usage));
            }
        }
    }

    fn activated(&self, part: Part, state: Option<State>) {
        if let Some(usage) = self.usage(part, state) {
            self.observer.observe(&Event::Activated(&usage));
        }
    }

    fn usage(&self, part: Part, state: Option<State>) -> Option<Usage<'p>> {
        let labels = self.labels?;
        Some(Usage {
            resource: labels.resource,
            namespace: labels.namespace,
            part,
            flow: labels.flow,
            target: labels.target,
            state,
        })
    }
}

/// An attempt that the breaker waits for. Dropped without success, it has failed.
struct Admitted<'a, 'p> {
    policy: &'a Policy<'p>,
    breaker: &'a Breaker,
    ticket: Ticket,
    before: State,
    success: bool,
}

impl Drop for Admitted<'_, '_> {
    fn drop(&mut self) {
        let after = self
            .breaker
            .settle(self.ticket, self.success, self.policy.observer);
        if after != self.before {
            self.policy.activated(Part::CircuitBreaker, Some(after));
        }
    }
}

fn ended<T, E: Outcome>(outcome: &Result<T, Error<E>>) -> Ended {
    match outcome {
        Ok(_) => Ended::Succeeded,
        Err(Error::Operation(error)) => Ended::Failed {
            status: error.status(),
            permanent: error.is_permanent(),
        },
        Err(Error::Timeout) => Ended::TimedOut,
        Err(Error::Refused(refusal)) => Ended::Refused(*refusal),
    }
}

#[cfg(test)]
mod tests;
