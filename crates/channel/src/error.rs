//! Why a conversation failed, before any use case decides what to answer.

use crate::app::grpc_code_of_http;

/// `Display` is what callers are shown after the runtime's own prefix.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The other side could not be reached or hung up: the request may be repeated elsewhere.
    #[error("{0}")]
    Unavailable(String),
    /// The other side answered with a gRPC status.
    #[error("rpc error: code = {} desc = {}", code_name(*.code), .message)]
    Status {
        code: i32,
        message: String,
        details: Vec<u8>,
    },
    /// The app answered with an HTTP status that is a failure.
    #[error("{message}")]
    Http { status: u16, message: String },
    /// The health probe says that the app is down.
    #[error("app is not in a healthy state")]
    Unhealthy,
    /// The app does not implement the callback; not a failure for optional ones.
    #[error("{0} is not implemented by the app")]
    Unimplemented(&'static str),
    /// The request cannot be expressed in the app's protocol.
    #[error("{0}")]
    Invalid(String),
    /// The answer broke the protocol.
    #[error("{0}")]
    Malformed(String),
    #[error("the call was not answered within {0:?}")]
    Timeout(std::time::Duration),
}

impl Error {
    /// gRPC code as the peer protocol would carry it.
    pub fn grpc_code(&self) -> i32 {
        match self {
            Self::Unavailable(_) => 14,
            Self::Status { code, .. } => *code,
            Self::Http { status, .. } => grpc_code_of_http(*status),
            Self::Unhealthy | Self::Malformed(_) => 13,
            Self::Unimplemented(_) => 12,
            Self::Invalid(_) => 3,
            Self::Timeout(_) => 4,
        }
    }
}

/// The name gRPC libraries print for a code.
pub fn code_name(code: i32) -> &'static str {
    match code {
        0 => "OK",
        1 => "Canceled",
        2 => "Unknown",
        3 => "InvalidArgument",
        4 => "DeadlineExceeded",
        5 => "NotFound",
        6 => "AlreadyExists",
        7 => "PermissionDenied",
        8 => "ResourceExhausted",
        9 => "FailedPrecondition",
        10 => "Aborted",
        11 => "OutOfRange",
        12 => "Unimplemented",
        13 => "Internal",
        14 => "Unavailable",
        15 => "DataLoss",
        16 => "Unauthenticated",
        _ => "Unknown",
    }
}
