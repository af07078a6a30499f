//! What a policy does, for people: one phrase for each part that is there.

use crate::core::breaker::OPEN_FOR;
use crate::core::retry::{Backoff, Retry};
use crate::policy::Policy;

/// Phrases without a final stop; `None` where there is no such part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words {
    pub timeout: Option<String>,
    pub retry: Option<String>,
    pub breaker: Option<String>,
}

impl Policy<'_> {
    pub fn words(&self) -> Words {
        Words {
            timeout: self.timeout.map(|time| format!("each attempt may take {time:?}")),
            retry: self.retry.filter(|_| self.has_retries()).map(retry),
            breaker: self.breaker.as_ref().map(|breaker| {
                let settings = breaker.settings();
                let open = match settings.timeout.is_zero() {
                    true => OPEN_FOR,
                    false => settings.timeout,
                };
                format!(
                    "circuit breaker {} opens for {open:?} when {}",
                    breaker.name(),
                    settings.trip
                )
            }),
        }
    }
}

fn retry(retry: &Retry) -> String {
    let often = match retry.max_retries {
        None => "again and again".to_owned(),
        Some(1) => "once more".to_owned(),
        Some(times) => format!("{times} more times"),
    };
    let pauses = match retry.backoff {
        Backoff::Constant(pause) => format!("{pause:?} apart"),
        Backoff::Exponential {
            max_interval,
            max_elapsed,
        } => {
            let within = max_elapsed
                .map(|time| format!(", for {time:?} at most"))
                .unwrap_or_default();
            format!("with growing pauses of up to {max_interval:?}{within}")
        }
    };
    let some = match (&retry.matching.http, &retry.matching.grpc) {
        (None, None) => "",
        _ => ", for the status codes that the policy lists",
    };
    format!("{often}, {pauses}{some}")
}

#[cfg(test)]
mod tests {
    use super::Words;
    use crate::load::load;
    use crate::policies::{BuiltIn, Flow, Kind};
    use outrigger_resources::disk::Documents;
    use outrigger_resources::resiliency::Resiliency;
    use std::sync::Arc;

    #[test]
    fn parts_are_told_as_they_are() {
        let text = "apiVersion: dapr.io/v1alpha1
kind: Resiliency
metadata: {name: r}
spec:
  policies:
    timeouts: {t: 5s}
    retries:
      constant: {policy: constant, duration: 2s, maxRetries: 3}
      growing: {policy: exponential, maxInterval: 15s}
      never: {policy: constant, maxRetries: 0}
    circuitBreakers:
      cb: {maxRequests: 1, timeout: 30s, trip: consecutiveFailures > 7}
  targets:
    components:
      all: {inbound: {timeout: t, retry: constant, circuitBreaker: cb}}
      growing: {inbound: {retry: growing}}
      never: {inbound: {retry: never}}
";
        let documents = Documents::of_text("r.yaml", text).load::<Resiliency>();
        let policies = load(&documents.items, Arc::new(()));
        let words = |name| policies.component(name, Kind::Pubsub, Flow::Inbound).words();
        assert_eq!(
            words("all"),
            Words {
                timeout: Some("each attempt may take 5s".to_owned()),
                retry: Some("3 more times, 2s apart".to_owned()),
                breaker: Some("circuit breaker cb-all opens for 30s when consecutiveFailures > 7".to_owned()),
            }
        );
        assert_eq!(
            words("growing").retry.as_deref(),
            Some("again and again, with growing pauses of up to 15s, for 900s at most")
        );
        assert_eq!(words("never"), Words::default());
        assert_eq!(words("other"), Words::default());
        let start = policies.built_in(BuiltIn::InitializationRetries).words();
        assert_eq!(
            start.retry.as_deref(),
            Some("3 more times, with growing pauses of up to 1s, for 10s at most")
        );
    }
}
