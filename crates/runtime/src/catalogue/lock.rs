//! Codes of distributed locks.

use super::Category::{Common, Lock};
use super::{Code, grpc, row};
use crate::error::ApiError;
use std::fmt::Display;

pub const ROWS: &[&Code] = &[&NOT_CONFIGURED, &NOT_FOUND, &MALFORMED, &TRY_LOCK, &UNLOCK];

pub static NOT_CONFIGURED: Code = row(
    Lock,
    "ERR_LOCK_STORE_NOT_CONFIGURED",
    "",
    500,
    grpc::FAILED_PRECONDITION,
);
pub static NOT_FOUND: Code = row(Lock, "ERR_LOCK_STORE_NOT_FOUND", "", 400, grpc::INVALID_ARGUMENT);
/// A field that must be there is not.
pub static MALFORMED: Code = row(Common, "ERR_MALFORMED_REQUEST", "", 400, grpc::INVALID_ARGUMENT);
pub static TRY_LOCK: Code = row(Lock, "ERR_TRY_LOCK", "", 500, grpc::INTERNAL);
pub static UNLOCK: Code = row(Lock, "ERR_UNLOCK", "", 500, grpc::INTERNAL);

pub fn not_configured() -> ApiError {
    ApiError::new(&NOT_CONFIGURED, "lock store is not configured")
}

pub fn not_found(store: &str) -> ApiError {
    ApiError::new(&NOT_FOUND, format!("lock store {store} not found"))
}

pub fn resource_missing(store: &str) -> ApiError {
    ApiError::new(&MALFORMED, format!("ResourceId is empty in lock store {store}"))
}

pub fn owner_missing(store: &str) -> ApiError {
    ApiError::new(&MALFORMED, format!("LockOwner is empty in lock store {store}"))
}

pub fn expiry_not_positive(store: &str) -> ApiError {
    ApiError::new(
        &MALFORMED,
        format!("ExpiryInSeconds is not positive in lock store {store}"),
    )
}

pub fn try_lock_failed(cause: impl Display) -> ApiError {
    ApiError::new(&TRY_LOCK, format!("failed to try acquiring lock: {cause}"))
}

pub fn unlock_failed(cause: impl Display) -> ApiError {
    ApiError::new(&UNLOCK, format!("failed to release lock: {cause}"))
}
