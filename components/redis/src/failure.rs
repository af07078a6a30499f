//! From the client library's errors to ours.

use outrigger_component::error::{Error, Kind};
use redis::{ErrorKind, RedisError, ServerErrorKind};

/// `what` begins the sentence.
pub(crate) fn failure(what: &str, error: RedisError) -> Error {
    Error::caused(kind(&error), what, error)
}

/// Whether the server may do tomorrow what it did not do now.
pub(crate) fn is_passing(error: &RedisError) -> bool {
    matches!(kind(error), Kind::Unavailable | Kind::Timeout | Kind::Exhausted)
}

fn kind(error: &RedisError) -> Kind {
    match error.kind() {
        _ if error.is_timeout() => Kind::Timeout,
        _ if error.is_io_error() || error.is_connection_dropped() => Kind::Unavailable,
        ErrorKind::AuthenticationFailed | ErrorKind::Server(ServerErrorKind::NoPerm) => {
            Kind::PermissionDenied
        }
        ErrorKind::Server(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::TryAgain
            | ServerErrorKind::Moved
            | ServerErrorKind::Ask
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ReadOnly,
        ) => Kind::Unavailable,
        _ => match error.code() {
            Some("NOAUTH" | "WRONGPASS") => Kind::PermissionDenied,
            // Out of memory; unable to save what it has, for lack of disk most of the time.
            Some("OOM" | "MISCONF") => Kind::Exhausted,
            _ => Kind::Internal,
        },
    }
}
