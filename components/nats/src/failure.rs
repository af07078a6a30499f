//! From what goes wrong on the way to a server, and from what JetStream refuses, to our errors.

use crate::api;
use async_nats::{ConnectError, ConnectErrorKind};
use outrigger_component::error::{Error, Kind};
use outrigger_daemon::tls;

/// Why there is no answer to a request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("no answer in time")]
    Late,
    /// Nobody has subscribed to the subject of the request.
    #[error("no response from stream")]
    NoResponders,
    #[error("the message is larger than the server takes ({0} bytes)")]
    TooLarge(usize),
    #[error("{0:?} is no subject: it is empty or has spaces in it")]
    Subject(String),
    #[error("the connection is closed")]
    Closed,
    /// JetStream's answer is not what its API says.
    #[error("unexpected answer: {0}")]
    Unexpected(String),
    #[error("{0}")]
    Refused(api::Refusal),
}

impl Fault {
    /// `what` begins the sentence.
    pub(crate) fn because(self, what: &str) -> Error {
        let kind = match &self {
            Self::Late => Kind::Timeout,
            Self::NoResponders | Self::Closed => Kind::Unavailable,
            Self::TooLarge(_) => Kind::Exhausted,
            Self::Subject(_) => Kind::Invalid,
            Self::Unexpected(_) => Kind::Internal,
            Self::Refused(refusal) => refusal.kind(),
        };
        Error::caused(kind, what, self)
    }
}

/// `address` has no secrets in it.
pub(crate) fn connecting(address: &str, error: ConnectError) -> Error {
    let kind = match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => Kind::PermissionDenied,
        ConnectErrorKind::TimedOut => Kind::Timeout,
        ConnectErrorKind::ServerParse => Kind::Invalid,
        _ => Kind::Unavailable,
    };
    Error {
        kind,
        message: format!("error connecting to nats at {address}: {}", tls::failure(&error)),
        source: Some(Box::new(error)),
    }
}
