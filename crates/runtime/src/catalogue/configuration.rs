//! Codes of configuration.
//!
//! COMPAT(pkg/messages/predefined.go): the texts name keys as Go prints a list.

use super::Category::Configuration;
use super::{Code, grpc, row};
use crate::error::ApiError;
use std::fmt::Display;

pub const ROWS: &[&Code] = &[&NOT_CONFIGURED, &NOT_FOUND, &GET, &SUBSCRIBE, &UNSUBSCRIBE];

const NOT_CONFIGURED_TAG: &str = "ERR_CONFIGURATION_STORE_NOT_CONFIGURED";
pub static NOT_CONFIGURED: Code = row(
    Configuration,
    NOT_CONFIGURED_TAG,
    NOT_CONFIGURED_TAG,
    500,
    grpc::FAILED_PRECONDITION,
);
const NOT_FOUND_TAG: &str = "ERR_CONFIGURATION_STORE_NOT_FOUND";
pub static NOT_FOUND: Code = row(
    Configuration,
    NOT_FOUND_TAG,
    NOT_FOUND_TAG,
    400,
    grpc::INVALID_ARGUMENT,
);
const GET_TAG: &str = "ERR_CONFIGURATION_GET";
pub static GET: Code = row(Configuration, GET_TAG, GET_TAG, 500, grpc::INTERNAL);
const SUBSCRIBE_TAG: &str = "ERR_CONFIGURATION_SUBSCRIBE";
pub static SUBSCRIBE: Code = row(
    Configuration,
    SUBSCRIBE_TAG,
    SUBSCRIBE_TAG,
    500,
    grpc::INVALID_ARGUMENT,
);
const UNSUBSCRIBE_TAG: &str = "ERR_CONFIGURATION_UNSUBSCRIBE";
pub static UNSUBSCRIBE: Code = row(
    Configuration,
    UNSUBSCRIBE_TAG,
    UNSUBSCRIBE_TAG,
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
