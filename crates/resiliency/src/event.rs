//! What happened, for logs and metrics.

use crate::core::breaker::State;
use crate::policies::{Flow, Operation, Target};
use outrigger_resources::go;
use std::fmt;
use std::time::Duration;

/// Receives everything worth a log line or a count. Called on the path of requests: must not block.
pub trait Observer: Send + Sync + 'static {
    fn observe(&self, event: &Event<'_>);
}

/// Nobody listens.
impl Observer for () {
    fn observe(&self, _: &Event<'_>) {}
}

/// Something that happened.
pub enum Event<'a> {
    /// A document is about to be read.
    Loading { resource: &'a str },
    /// A document is in use: count it under `resiliency/loaded`.
    Loaded { resource: &'a str, namespace: &'a str },
    /// A document is skipped.
    Unreadable {
        resource: &'a str,
        error: &'a dyn fmt::Display,
    },
    /// A built-in retry policy was to get fewer than 3 retries.
    Raised { policy: &'a str },
    /// A built-in policy cannot be replaced.
    Protected { policy: &'a str },
    /// A target names a policy that no document defines.
    Dangling { target: &'a str, policy: &'a str },
    /// A policy was looked up for a call: count it under `resiliency/count`, and set `resiliency/cb_state` where there
    /// is a state.
    Applied(&'a Usage<'a>),
    /// A policy did something: count it under `resiliency/activations_total`.
    Activated(&'a Usage<'a>),
    /// A breaker changed its state.
    Changed {
        breaker: &'a str,
        from: State,
        to: State,
    },
    /// A run pauses for the first time.
    Retrying {
        operation: &'a Operation<'a>,
        delay: Duration,
        error: &'a dyn fmt::Display,
    },
    /// A run succeeded after pauses.
    Recovered {
        operation: &'a Operation<'a>,
        attempts: u32,
    },
}

/// One policy in use: the labels of its metrics.
#[derive(Debug, Clone, Copy)]
pub struct Usage<'a> {
    /// `name`: of the Resiliency document read last. COMPAT(pkg/resiliency): whichever document defines the policy.
    pub resource: &'a str,
    /// `namespace` of that document.
    pub namespace: &'a str,
    /// `policy`.
    pub part: Part,
    /// `flow_direction`.
    pub flow: Flow,
    /// `target`.
    pub target: Target<'a>,
    /// `status`: of a breaker; an empty label otherwise.
    pub state: Option<State>,
}

/// Which of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Timeout,
    Retry,
    CircuitBreaker,
}

impl Part {
    /// As the metric label `policy` names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Retry => "retry",
            Self::CircuitBreaker => "circuitbreaker",
        }
    }
}

/// How loud a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

impl Event<'_> {
    /// The log lines of this event, in the reference's words (scope `dapr.runtime`).
    pub fn lines(&self) -> Vec<(Level, String)> {
        match self {
            Self::Loading { resource } => {
                vec![(
                    Level::Info,
                    format!("Loading Resiliency configuration: {resource}"),
                )]
            }
            Self::Unreadable { resource, error } => {
                vec![(
                    Level::Error,
                    format!("Could not read resiliency policy {resource}: {error}"),
                )]
            }
            Self::Raised { policy } => vec![(
                Level::Warn,
                format!("Attempted override of {policy} did not meet minimum retry count, resetting to 3."),
            )],
            Self::Protected { policy } => vec![(
                Level::Warn,
                format!(
                    "Attempted to override protected policy {policy} which is not allowed. Ignoring provided policy and using default."
                ),
            )],
            Self::Dangling { target, policy } => vec![(
                Level::Warn,
                format!(
                    "Resiliency target {target} names the policy {policy}, which is not defined; it is ignored"
                ),
            )],
            Self::Changed { breaker, from, to } => vec![(
                Level::Info,
                format!(
                    "Circuit breaker {} changed state from {from} to {to}",
                    go::quote::quote(breaker)
                ),
            )],
            Self::Retrying {
                operation,
                delay,
                error,
            } => vec![
                (
                    Level::Warn,
                    format!(
                        "Error processing operation {operation}. Retrying in {}…",
                        go::format_duration(*delay)
                    ),
                ),
                (
                    Level::Debug,
                    format!("Error for operation {operation} was: {error}"),
                ),
            ],
            Self::Recovered { operation, attempts } => vec![(
                Level::Info,
                format!("Recovered processing operation {operation} after {attempts} attempts"),
            )],
            Self::Loaded { .. } | Self::Applied(_) | Self::Activated(_) => Vec::new(),
        }
    }
}
