//! Codes of secrets.

use super::Category::Secret;
use super::{Code, grpc, row};
use crate::error::ApiError;
use outrigger_resources::go::quote::quote;
use std::fmt::Display;

pub const ROWS: &[&Code] = &[&NOT_CONFIGURED, &NOT_FOUND, &DENIED, &GET];

pub static NOT_CONFIGURED: Code = row(
    Secret,
    "ERR_SECRET_STORES_NOT_CONFIGURED",
    "",
    500,
    grpc::FAILED_PRECONDITION,
);
/// COMPAT(pkg/messages/predefined.go): 401; SDKs match it.
pub static NOT_FOUND: Code = row(
    Secret,
    "ERR_SECRET_STORE_NOT_FOUND",
    "",
    401,
    grpc::INVALID_ARGUMENT,
);
pub static DENIED: Code = row(Secret, "ERR_PERMISSION_DENIED", "", 403, grpc::PERMISSION_DENIED);
pub static GET: Code = row(Secret, "ERR_SECRET_GET", "", 500, grpc::INTERNAL);

pub fn not_configured() -> ApiError {
    ApiError::new(&NOT_CONFIGURED, "secret store is not configured")
}

pub fn not_found(store: &str) -> ApiError {
    ApiError::new(
        &NOT_FOUND,
        format!("failed finding secret store with key {store}"),
    )
}

pub fn denied(store: &str, name: &str) -> ApiError {
    ApiError::new(
        &DENIED,
        format!(
            "access denied by policy to get {} from {}",
            quote(name),
            quote(store)
        ),
    )
}

pub fn get_failed(store: &str, name: &str, cause: impl Display) -> ApiError {
    ApiError::new(
        &GET,
        format!("failed getting secret with key {name} from secret store {store}: {cause}"),
    )
}

pub fn bulk_failed(store: &str, cause: impl Display) -> ApiError {
    ApiError::new(
        &GET,
        format!("failed getting secrets from secret store {store}: {cause}"),
    )
}
