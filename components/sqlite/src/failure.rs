//! What SQLite's failures mean at the seam.

use outrigger_component::error::{Error, Kind};
use rusqlite::ErrorCode;

pub(crate) fn failure(what: &str, error: rusqlite::Error) -> Error {
    let kind = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Kind::Unavailable,
        Some(ErrorCode::DiskFull | ErrorCode::TooBig | ErrorCode::OutOfMemory) => Kind::Exhausted,
        Some(
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied,
        ) => Kind::PermissionDenied,
        _ => Kind::Internal,
    };
    Error::caused(kind, what, error)
}
