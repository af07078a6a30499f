//! Codes of building blocks that this version does not have. Their routes exist and answer exactly what the
//! reference answers when no component of the kind is configured, which is always so here.

use super::Category::{Binding, Configuration, Lock};
use super::{Code, grpc, row};
use crate::error::ApiError;

pub const ROWS: &[&Code] = &[
    &INVOKE_BINDING,
    &CONFIGURATION_NOT_CONFIGURED,
    &LOCK_NOT_CONFIGURED,
];

pub static INVOKE_BINDING: Code = row(
    Binding,
    "ERR_INVOKE_OUTPUT_BINDING",
    "ERR_INVOKE_OUTPUT_BINDING",
    500,
    grpc::INTERNAL,
);
pub static CONFIGURATION_NOT_CONFIGURED: Code = row(
    Configuration,
    "ERR_CONFIGURATION_STORE_NOT_CONFIGURED",
    "ERR_CONFIGURATION_STORE_NOT_CONFIGURED",
    500,
    grpc::FAILED_PRECONDITION,
);
pub static LOCK_NOT_CONFIGURED: Code = row(
    Lock,
    "ERR_LOCK_STORE_NOT_CONFIGURED",
    "",
    500,
    grpc::FAILED_PRECONDITION,
);

/// Any output binding.
pub fn binding(name: &str) -> ApiError {
    ApiError::new(
        &INVOKE_BINDING,
        format!("error invoking output binding {name}: couldn't find output binding {name}"),
    )
}

/// Any configuration store.
pub fn configuration() -> ApiError {
    ApiError::new(
        &CONFIGURATION_NOT_CONFIGURED,
        "configuration stores not configured",
    )
}

/// Any lock store.
pub fn lock() -> ApiError {
    ApiError::new(&LOCK_NOT_CONFIGURED, "lock store is not configured")
}
