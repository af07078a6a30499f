//! From the client's failures to the seam's errors.

use crate::amqp::Failure;
use outrigger_component::error::{Error, Kind};

/// `what` begins the sentence.
pub(crate) fn failure(what: &str, failure: Failure) -> Error {
    Error::caused(kind(&failure), what, failure)
}

/// The numbers are AMQP's reply codes.
pub(crate) fn kind(failure: &Failure) -> Kind {
    match failure {
        Failure::Lost(_) | Failure::Ended | Failure::Refused => Kind::Unavailable,
        Failure::Silent(_) => Kind::Timeout,
        Failure::Login => Kind::PermissionDenied,
        Failure::Blocked(_) => Kind::Exhausted,
        Failure::NotAmqp | Failure::TooLong(_) => Kind::Invalid,
        Failure::Malformed(_) => Kind::Internal,
        Failure::Closed { code, .. } => match code {
            // ACCESS_REFUSED, NOT_ALLOWED (a virtual host).
            403 | 530 => Kind::PermissionDenied,
            404 => Kind::NotFound,
            // PRECONDITION_FAILED (declared otherwise before), COMMAND_INVALID, NOT_IMPLEMENTED.
            406 | 503 | 540 => Kind::Invalid,
            // CONTENT_TOO_LARGE, RESOURCE_ERROR.
            311 | 506 => Kind::Exhausted,
            // CONNECTION_FORCED, RESOURCE_LOCKED, INTERNAL_ERROR (a node that goes down).
            320 | 405 | 541 => Kind::Unavailable,
            _ => Kind::Internal,
        },
    }
}
