//! Calls to components under their outbound policy.

use outrigger_component::error::{Error, Kind};
use outrigger_resiliency::policy::{self, Outcome, Policy};
use std::fmt;

/// Calls the component, again where the policy says so.
///
/// A failure that repeating cannot change is passed on at once and is a success to the policy: the component answered,
/// so a circuit breaker must not open for it.
pub(crate) async fn run<T, F>(policy: &Policy<'_>, mut request: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let outcome = policy
        .run(|_| {
            let attempt = request();
            async move {
                match attempt.await {
                    Ok(value) => Ok(Ok(value)),
                    Err(error) if is_final(error.kind) => Ok(Err(error)),
                    Err(error) => Err(Failed(error)),
                }
            }
        })
        .await;
    match outcome {
        Ok(answered) => answered,
        Err(policy::Error::Operation(Failed(error))) => Err(error),
        Err(error @ policy::Error::Timeout) => Err(Error::new(Kind::Timeout, error.to_string())),
        Err(error @ policy::Error::Refused(_)) => Err(Error::new(Kind::Unavailable, error.to_string())),
    }
}

/// Failures that stay the same when the request is repeated.
pub(crate) fn is_final(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::EtagMismatch | Kind::EtagInvalid | Kind::NotFound | Kind::Unsupported | Kind::Invalid
    )
}

/// What a request is made of when it may be made more than once: copied only then.
pub(crate) struct Input<T> {
    value: Option<T>,
    keep: bool,
}

impl<T: Clone> Input<T> {
    pub(crate) fn new(value: T, policy: &Policy<'_>) -> Self {
        Self {
            value: Some(value),
            keep: policy.has_retries(),
        }
    }

    /// For the next attempt.
    pub(crate) fn take(&mut self) -> T {
        let value = if self.keep {
            self.value.clone()
        } else {
            self.value.take()
        };
        value.expect("a policy without retries runs a request once")
    }
}

/// A failed attempt. It carries no status code: components have none, so every failure may be retried.
struct Failed(Error);

impl Outcome for Failed {}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
