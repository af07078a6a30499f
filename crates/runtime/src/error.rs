//! What a use case answers when it fails: a row of the [catalogue](crate::catalogue), the message that clients compare,
//! and details. Neither knows which door it leaves through; each door renders any [`ApiError`] in one place.

use crate::catalogue::Code;
use std::collections::BTreeMap;
use std::error::Error as StdError;

pub type Result<T, E = ApiError> = std::result::Result<T, E>;

/// A failure on its way to the client.
///
/// `message` is byte for byte what the reference sends, its cause's text included where the reference includes
/// it; `source` is for the log and is never sent by itself.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    pub code: &'static Code,
    pub message: String,
    /// Empty for the classic errors; the doors add a `details` member only when there is one.
    pub details: Vec<Detail>,
    #[source]
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The `google.rpc` error details the reference attaches. Source: google/rpc/error_details.proto.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detail {
    /// The domain is always `dapr.io`. An empty `metadata` is printed as `null` in JSON.
    ErrorInfo {
        reason: String,
        metadata: BTreeMap<String, String>,
    },
    ResourceInfo {
        resource_type: String,
        resource_name: String,
        owner: String,
        description: String,
    },
    BadRequest {
        violations: Vec<Violation>,
    },
    Help {
        links: Vec<Link>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub field: String,
    pub description: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub description: String,
    pub url: String,
}

impl ApiError {
    pub fn new(code: &'static Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: Vec::new(),
            source: None,
        }
    }

    /// With an `ErrorInfo` that both doors show.
    pub fn rich(code: &'static Code, message: impl Into<String>, metadata: BTreeMap<String, String>) -> Self {
        Self::new(code, message).with(Detail::ErrorInfo {
            reason: code.reason.to_owned(),
            metadata,
        })
    }

    pub fn with(mut self, detail: Detail) -> Self {
        self.details.push(detail);
        self
    }

    pub fn caused_by(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }
}
