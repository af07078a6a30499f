//! Every public error code: one row each. The pairs of HTTP status and gRPC code follow no rule in the
//! reference, so both stand in the row. The texts that clients compare stand with the rows, in one small
//! constructor each.
//!
//! How doors render an [`ApiError`](crate::error::ApiError):
//! - HTTP: status [`Code::http`], body `{"errorCode": tag, "message": …}`; a `details` member only when the error has
//!   details.
//! - gRPC: status [`Code::grpc`] and the details; when none of them is an `ErrorInfo` and [`Code::reason`] is not
//!   empty, an `ErrorInfo` with that reason, domain `dapr.io` and no metadata is added.
//!
//! Source: pkg/messages/predefined.go, pkg/messages/errorcodes/errorcodes.go, pkg/api/errors/*.go.

pub mod bindings;
pub mod common;
pub mod configuration;
pub mod invoke;
pub mod lock;
pub mod pubsub;
pub mod secrets;
pub mod state;

/// The building block that an error is counted under in `dapr_error_code_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    Common,
    Invocation,
    State,
    Pubsub,
    Secret,
    Binding,
    Configuration,
    Lock,
    Health,
}

impl Category {
    /// The label value `category`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Common => "common",
            Self::Invocation => "service-invocation",
            Self::State => "state",
            Self::Pubsub => "pubsub",
            Self::Secret => "secret",
            Self::Binding => "binding",
            Self::Configuration => "configuration",
            Self::Lock => "lock",
            Self::Health => "health",
        }
    }
}

/// One public error code.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// `errorCode` of the JSON body.
    pub tag: &'static str,
    /// `reason` of the gRPC ErrorInfo; empty where the reference attaches none.
    pub reason: &'static str,
    /// HTTP status.
    pub http: u16,
    /// gRPC status code.
    pub grpc: i32,
    pub category: Category,
}

/// All rows, for the metrics and for the test that each has its page under `docs/errors`.
pub fn all() -> impl Iterator<Item = &'static Code> {
    [
        common::ROWS,
        invoke::ROWS,
        state::ROWS,
        pubsub::ROWS,
        secrets::ROWS,
        configuration::ROWS,
        lock::ROWS,
        bindings::ROWS,
    ]
    .into_iter()
    .flatten()
    .copied()
}

/// A row whose reason is its tag.
const fn plain(category: Category, tag: &'static str, http: u16, grpc: i32) -> Code {
    row(category, tag, tag, http, grpc)
}

const fn row(category: Category, tag: &'static str, reason: &'static str, http: u16, grpc: i32) -> Code {
    Code {
        tag,
        reason,
        http,
        grpc,
        category,
    }
}

/// gRPC status codes by name. Source: google/rpc/code.proto.
pub mod grpc {
    pub const UNKNOWN: i32 = 2;
    pub const INVALID_ARGUMENT: i32 = 3;
    pub const NOT_FOUND: i32 = 5;
    pub const PERMISSION_DENIED: i32 = 7;
    pub const FAILED_PRECONDITION: i32 = 9;
    pub const ABORTED: i32 = 10;
    pub const UNIMPLEMENTED: i32 = 12;
    pub const INTERNAL: i32 = 13;
    pub const UNAVAILABLE: i32 = 14;
}

#[cfg(test)]
mod tests;
