//! What can go wrong between us and the brokers, and how it is told.

use crate::wire::code::Code;
use outrigger_component::error::{Error, Kind};
use std::time::Duration;

/// Cloned for everybody who waited for the same thing.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Failure {
    #[error("cannot connect to kafka at {address}: {cause}")]
    Dial { address: String, cause: String },
    #[error("kafka at {address} refused the login ({mechanism}): {cause}")]
    Login {
        address: String,
        mechanism: &'static str,
        cause: String,
    },
    /// The token for logging in cannot be had.
    #[error("no token from {endpoint}: {cause}")]
    Token { endpoint: String, cause: String },
    #[error("the connection to kafka at {address} was lost: {cause}")]
    Lost { address: String, cause: String },
    #[error("kafka at {address} did not answer within {} s", .within.as_secs())]
    Slow { address: String, within: Duration },
    #[error("what answers at {address} is no Kafka broker, or expects TLS or a login: {cause}")]
    Strange { address: String, cause: String },
    #[error("kafka: {what}: {code}")]
    Code { what: String, code: Code },
    #[error("schema registry at {url}: {cause}")]
    Registry { url: String, kind: Kind, cause: String },
    #[error("kafka: {0}")]
    Invalid(String),
    #[error("kafka: {0}")]
    TooLarge(String),
    #[error("kafka: {0}")]
    NoLeader(String),
    #[error("component is closed")]
    Closed,
}

impl Failure {
    pub(crate) fn code(what: impl Into<String>, code: Code) -> Self {
        Self::Code {
            what: what.into(),
            code,
        }
    }

    /// Whether it may go away by itself.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Dial { .. }
            | Self::Token { .. }
            | Self::Lost { .. }
            | Self::Slow { .. }
            | Self::Strange { .. }
            | Self::NoLeader(_) => true,
            Self::Code { code, .. } => code.is_passing(),
            Self::Registry { kind, .. } => matches!(kind, Kind::Unavailable | Kind::Timeout),
            Self::Login { .. } | Self::Invalid(_) | Self::TooLarge(_) | Self::Closed => false,
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let kind = match &failure {
            Failure::Dial { .. }
            | Failure::Token { .. }
            | Failure::Lost { .. }
            | Failure::NoLeader(_)
            | Failure::Closed => Kind::Unavailable,
            Failure::Strange { .. } => Kind::Unavailable,
            Failure::Login { .. } => Kind::PermissionDenied,
            Failure::Slow { .. } => Kind::Timeout,
            Failure::Code { code, .. } => code.kind(),
            Failure::Registry { kind, .. } => *kind,
            Failure::Invalid(_) => Kind::Invalid,
            Failure::TooLarge(_) => Kind::Exhausted,
        };
        Error::new(kind, failure.to_string())
    }
}
