//! Codes of configuration.
//!
//! COMPAT(pkg/messages/predefined.go): the texts name keys as Go prints a list.

use super::Category::Configuration;
use super::{Code, grpc, plain};
use crate::error::ApiError;
use std::fmt::Display;

pub const ROWS: &[&Code] = &[&NOT_CONFIGURED, &NOT_FOUND, &GET, &SUBSCRIBE, &UNSUBSCRIBE];

pub static NOT_CONFIGURED: Code = plain(
    Configuration,
    "ERR_CONFIGURATION_STORE_NOT_CONFIGURED",
    500,
    grpc::FAILED_PRECONDITION,
);
pub static NOT_FOUND: Code = plain(
    Configuration,
    "ERR_CONFIGURATION_STORE_NOT_FOUND",
    400,
    grpc::INVALID_ARGUMENT,
);
pub static GET: Code = plain(Configuration, "ERR_CONFIGURATION_GET", 500, grpc::INTERNAL);
pub static SUBSCRIBE: Code = plain(
    Configuration,
    "ERR_CONFIGURATION_SUBSCRIBE",
    500,
    grpc::INVALID_ARGUMENT,
);
pub static UNSUBSCRIBE: Code = plain(
    Configuration,
    "ERR_CONFIGURATION_UNSUBSCRIBE",
    500,
    grpc::INTERNAL,
);

pub fn not_configured() -> ApiError {
    ApiError::new(&NOT_CONFIGURED, "configuration stores not configured")
}

pub fn not_found(store: &str) -> ApiError {
    ApiError::new(&NOT_FOUND, format!("configuration store {store} not found"))
}

pub fn get_failed(keys: &[String], store: &str, cause: impl Display) -> ApiError {
    ApiError::new(
        &GET,
        format!(
            "failed to get [{}] from Configuration store {store}: {cause}",
            keys.join(" ")
        ),
    )
}

pub fn subscribe_failed(keys: &[String], store: &str, cause: impl Display) -> ApiError {
    ApiError::new(
        &SUBSCRIBE,
        format!(
            "failed to subscribe [{}] from Configuration store {store}: {cause}",
            keys.join(" ")
        ),
    )
}

pub fn unsubscribe_failed(id: &str, cause: impl Display) -> ApiError {
    ApiError::new(
        &UNSUBSCRIBE,
        format!("failed to unsubscribe to configuration request {id}: {cause}"),
    )
}
