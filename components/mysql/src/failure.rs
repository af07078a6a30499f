//! What the database's failures mean at the seam.

use mysql_async::DriverError;
use outrigger_component::error::{Error, Kind};
use outrigger_daemon::tls;

/// Somebody else holds what the statement wants; the server undid one of both.
const DEADLOCK: u16 = 1213;

/// `what` begins the sentence.
pub(crate) fn failure(what: &str, error: mysql_async::Error) -> Error {
    Error {
        kind: kind(&error),
        message: format!("{what}: {}", text(&error)),
        source: Some(Box::new(error)),
    }
}

/// Whether the server undid everything only because of what others did at the same time.
pub(crate) fn is_collision(error: &mysql_async::Error) -> bool {
    code(error) == Some(DEADLOCK)
}

pub(crate) fn code(error: &mysql_async::Error) -> Option<u16> {
    match error {
        mysql_async::Error::Server(answer) => Some(answer.code),
        _ => None,
    }
}

/// As the reference's client writes it.
fn text(error: &mysql_async::Error) -> String {
    match error {
        mysql_async::Error::Server(answer) => {
            format!("Error {} ({}): {}", answer.code, answer.state, answer.message)
        }
        other => tls::failure(other),
    }
}

fn kind(error: &mysql_async::Error) -> Kind {
    match error {
        // The library does not send what the server would not take.
        mysql_async::Error::Io(error) if error.to_string().contains("max_allowed_packet") => Kind::Exhausted,
        mysql_async::Error::Io(_) => Kind::Unavailable,
        mysql_async::Error::Driver(
            DriverError::ConnectionClosed
            | DriverError::PoolDisconnected
            | DriverError::CantParseServerVersion { .. },
        ) => Kind::Unavailable,
        mysql_async::Error::Server(answer) => match answer.code {
            1044 | 1045 | 1142 | 1143 | 1227 | 1698 => Kind::PermissionDenied,
            // Too many connections, shutting down, read only, killed, a deadlock.
            1040 | 1053 | 1290 | 1836 | 1927 | 2006 | 2013 | DEADLOCK => Kind::Unavailable,
            1205 | 1969 | 3024 => Kind::Timeout,
            1021 | 1114 | 1041 | 1037 | 1153 => Kind::Exhausted,
            // No such database; a value that the column cannot hold.
            1049 | 1264 | 1366 | 1406 | 3140 | 4025 => Kind::Invalid,
            _ => Kind::Internal,
        },
        _ => Kind::Internal,
    }
}
