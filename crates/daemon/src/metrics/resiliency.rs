//! `resiliency/…`: policies at work.
//!
//! COMPAT(pkg/diagnostics/resiliency_monitoring.go): names, help texts and labels; targets read `app_<id>`,
//! `actor_<type>` or `<kind>_<component>`.

use super::{Counter, Family, Gauge, Label, Registry};

/// Families of resiliency policies.
pub struct Resiliency {
    loaded: Family<Counter, 2>,
    executed: Family<Counter, 6>,
    activated: Family<Counter, 6>,
    breaker: Family<Gauge, 6>,
}

/// Kinds of policies; a circuit breaker comes with its present state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Timeout,
    Retry,
    /// `closed`, `half-open`, `open` or `unknown`.
    CircuitBreaker(&'static str),
}

/// Which way the guarded call goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Outbound,
    Inbound,
}

/// A policy at work on a target.
#[derive(Clone, Copy, Debug)]
pub struct Applied<'a> {
    /// Of the Resiliency resource.
    pub name: &'a str,
    pub namespace: &'a str,
    pub policy: Policy,
    pub direction: Direction,
    pub target: &'a str,
}

const STATES: [&str; 4] = ["closed", "half-open", "open", "unknown"];

const NAME: Label = Label::open("name");
const NAMESPACE: Label = Label::open("namespace");

impl Resiliency {
    pub fn new(registry: &Registry) -> Self {
        let labels = [
            Label::closed("flow_direction"),
            NAME,
            NAMESPACE,
            Label::closed("policy"),
            Label::closed("status"),
            Label::open("target"),
        ];
        Self {
            loaded: registry.counter(
                "resiliency/loaded",
                "Number of resiliency policies loaded.",
                [NAME, NAMESPACE],
            ),
            executed: registry.counter(
                "resiliency/count",
                "Number of times a resiliency policyKey has been applied to a building block.",
                labels,
            ),
            activated: registry.counter(
                "resiliency/activations_total",
                "Number of times a resiliency policyKey has been activated in a building block after a failure or after a state change.",
                labels,
            ),
            breaker: registry.gauge(
                "resiliency/cb_state",
                "A resiliency policy's current CircuitBreakerState state. 0 is closed, 1 is half-open, 2 is open, and -1 is unknown.",
                labels,
            ),
        }
    }

    /// A Resiliency resource was loaded.
    pub fn loaded(&self, name: &str, namespace: &str) {
        self.loaded.with([name, namespace]).increment();
    }

    /// A policy wrapped a call.
    pub fn executed(&self, applied: Applied<'_>) {
        self.executed
            .with(applied.labels(applied.policy.state()))
            .increment();
        if let Policy::CircuitBreaker(present) = applied.policy {
            // COMPAT: the help text notwithstanding, there is one series per state, 1 for the present one.
            for state in STATES {
                self.breaker
                    .with(applied.labels(state))
                    .set(i64::from(state == present));
            }
        }
    }

    /// A policy had something to do: a time-out, a retry, a change of state.
    pub fn activated(&self, applied: Applied<'_>) {
        self.activated
            .with(applied.labels(applied.policy.state()))
            .increment();
    }
}

impl<'a> Applied<'a> {
    fn labels(&self, state: &'a str) -> [&'a str; 6] {
        let direction = match self.direction {
            Direction::Outbound => "outbound",
            Direction::Inbound => "inbound",
        };
        let policy = match self.policy {
            Policy::Timeout => "timeout",
            Policy::Retry => "retry",
            Policy::CircuitBreaker(_) => "circuitbreaker",
        };
        [direction, self.name, self.namespace, policy, state, self.target]
    }
}

impl Policy {
    fn state(self) -> &'static str {
        match self {
            Self::CircuitBreaker(state) => state,
            Self::Timeout | Self::Retry => "",
        }
    }
}
