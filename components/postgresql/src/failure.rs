//! What the database's failures mean at the seam.

use outrigger_component::error::{Error, Kind};
use outrigger_daemon::tls;
use std::error::Error as StdError;
use std::io;
use tokio_postgres::error::SqlState;

/// `what` begins the sentence.
pub(crate) fn failure(what: &str, error: tokio_postgres::Error) -> Error {
    Error {
        kind: kind(&error),
        message: format!("{what}: {}", text(&error)),
        source: Some(Box::new(error)),
    }
}

pub(crate) fn too_late(what: &str) -> Error {
    Error::new(
        Kind::Timeout,
        format!("{what}: PostgreSQL did not answer in time"),
    )
}

/// Whether the server undid everything only because of what others did at the same time.
pub(crate) fn is_collision(error: &tokio_postgres::Error) -> bool {
    matches!(
        error.code(),
        Some(&SqlState::T_R_DEADLOCK_DETECTED | &SqlState::T_R_SERIALIZATION_FAILURE)
    )
}

/// As the reference's client writes it.
fn text(error: &tokio_postgres::Error) -> String {
    if let Some(answer) = error.as_db_error() {
        return format!(
            "{}: {} (SQLSTATE {})",
            answer.severity(),
            answer.message(),
            answer.code().code()
        );
    }
    tls::failure(error)
}

fn kind(error: &tokio_postgres::Error) -> Kind {
    let Some(code) = error.code() else {
        let by_the_way = error
            .source()
            .is_some_and(|source| source.downcast_ref::<io::Error>().is_some());
        return if by_the_way || error.is_closed() {
            Kind::Unavailable
        } else {
            Kind::Internal
        };
    };
    match code.code() {
        "42501" => Kind::PermissionDenied,
        "57014" => Kind::Timeout,
        "25006" | "53300" | "40001" | "40P01" => Kind::Unavailable,
        "3D000" | "54000" => Kind::Invalid,
        code => match code.get(..2) {
            Some("28") => Kind::PermissionDenied,
            Some("08" | "57") => Kind::Unavailable,
            Some("53") => Kind::Exhausted,
            Some("22") => Kind::Invalid,
            _ => Kind::Internal,
        },
    }
}
