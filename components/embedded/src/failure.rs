//! What the hub's failures mean at the seam.

use outrigger_component::error::{Error, Kind};
use outrigger_proto::hub::v1::{self, failure::Reason};
use std::error::Error as StdError;
use std::io;
use tonic::{Code, Status};

/// One part of a request was refused.
pub(crate) fn refused(failure: v1::Failure) -> Error {
    let kind = match failure.reason() {
        Reason::Conflict => Kind::EtagMismatch,
        Reason::InvalidEtag => Kind::EtagInvalid,
        Reason::Invalid => Kind::Invalid,
        Reason::Limit | Reason::DiskFull => Kind::Exhausted,
        Reason::Closing => Kind::Unavailable,
        Reason::DiskFailed | Reason::Unspecified => Kind::Internal,
    };
    Error::new(kind, failure.message)
}

/// A call failed as a whole.
pub(crate) fn failed(status: &Status) -> Error {
    let kind = match status.code() {
        Code::Unavailable | Code::Cancelled | Code::Unknown => Kind::Unavailable,
        Code::DeadlineExceeded => Kind::Timeout,
        Code::InvalidArgument | Code::OutOfRange => Kind::Invalid,
        Code::ResourceExhausted => Kind::Exhausted,
        Code::Unimplemented => Kind::Unsupported,
        _ => Kind::Internal,
    };
    Error::new(kind, format!("the hub: {}", root(status)))
}

/// Whether the hub may be back in a moment.
pub(crate) fn is_gone(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Cancelled | Code::Unknown)
}

/// Whether the request certainly never reached a hub.
pub(crate) fn is_unsent(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            );
        }
        source = error.source();
    }
    false
}

/// The innermost cause: tonic's own text says only that the transport failed.
fn root(status: &Status) -> String {
    let mut source = status.source();
    let mut text = status.message().to_owned();
    while let Some(error) = source {
        text = error.to_string();
        source = error.source();
    }
    text
}
