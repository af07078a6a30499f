//! What a component answers when it cannot do what was asked: a closed kind for machines and a sentence
//! for people. Doors never see a vendor's own error type.

use std::error::Error as StdError;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a component failed. The runtime maps kinds to public codes; only [`Kind::Unavailable`] and
/// [`Kind::Timeout`] are worth retrying as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The stored entity tag differs from the one that was sent.
    EtagMismatch,
    /// The entity tag that was sent cannot be one of this store's.
    EtagInvalid,
    /// The thing that was named does not exist (a secret, a topic at the broker).
    NotFound,
    /// The component cannot do this at all.
    Unsupported,
    /// The request or the component's metadata is wrong; repeating it does not help.
    Invalid,
    /// The backend refused us.
    PermissionDenied,
    /// A stated limit is reached: queue full, disk full, message too large.
    Exhausted,
    /// The backend cannot be reached now.
    Unavailable,
    /// The backend did not answer in time.
    Timeout,
    /// Anything else; the message says what.
    Internal,
}

/// A component's failure. `Display` is the sentence that is shown to callers, cause included.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub kind: Kind,
    pub message: String,
    #[source]
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// `message: source` as text, with the source kept for the log.
    pub fn caused(kind: Kind, message: &str, source: impl StdError + Send + Sync + 'static) -> Self {
        Self {
            kind,
            message: format!("{message}: {source}"),
            source: Some(Box::new(source)),
        }
    }

    pub fn unsupported(what: &str) -> Self {
        Self::new(
            Kind::Unsupported,
            format!("{what} is not supported by this component"),
        )
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }

    /// For a request that comes after [`close`](crate::Component::close).
    pub fn closed() -> Self {
        Self::new(Kind::Unavailable, "component is closed")
    }

    /// The same failure for another of those who share it, without its source.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self::new(self.kind, self.message.clone())
    }

    /// Whether the same request may succeed when it is repeated a little later.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, Kind::Unavailable | Kind::Timeout)
    }
}
