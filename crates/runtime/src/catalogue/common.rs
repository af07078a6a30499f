//! Codes that no building block owns, and those of the health routes.

use super::Category::{Common, Health};
use super::{Code, grpc, row};
use crate::error::ApiError;
use std::fmt::Display;

pub const ROWS: &[&Code] = &[
    &BAD_REQUEST,
    &UNIMPLEMENTED,
    &BODY_READ,
    &MALFORMED_REQUEST,
    &MALFORMED_REQUEST_DATA,
    &MALFORMED_RESPONSE,
    &APP_CHANNEL_NIL,
    &INTERNAL,
    &OVERLOADED,
    &ERROR,
    &HEALTH_NOT_READY,
    &HEALTH_APP_ID,
    &OUTBOUND_NOT_READY,
];

pub static BAD_REQUEST: Code = row(Common, "ERR_BAD_REQUEST", "", 400, grpc::INVALID_ARGUMENT);
pub static UNIMPLEMENTED: Code = row(Common, "ERR_API_UNIMPLEMENTED", "", 501, grpc::UNIMPLEMENTED);
pub static BODY_READ: Code = row(Common, "ERR_BODY_READ", "", 400, grpc::INVALID_ARGUMENT);
pub static MALFORMED_REQUEST: Code = row(Common, "ERR_MALFORMED_REQUEST", "", 400, grpc::INVALID_ARGUMENT);
pub static MALFORMED_REQUEST_DATA: Code = row(Common, "ERR_MALFORMED_REQUEST_DATA", "", 500, grpc::INTERNAL);
pub static MALFORMED_RESPONSE: Code = row(Common, "ERR_MALFORMED_RESPONSE", "", 500, grpc::INTERNAL);
pub static APP_CHANNEL_NIL: Code = row(Common, "ERR_APP_CHANNEL_NIL", "", 500, grpc::INTERNAL);
pub static INTERNAL: Code = row(Common, "ERR_INTERNAL", "", 500, grpc::INTERNAL);
/// Too much is asked of the sidecar at once. Not in the reference.
pub static OVERLOADED: Code = row(Common, "ERR_OVERLOADED", "", 503, grpc::UNAVAILABLE);
/// What has no code of its own.
pub static ERROR: Code = row(Common, "ERROR", "", 500, grpc::UNKNOWN);

pub static HEALTH_NOT_READY: Code = row(Health, "ERR_HEALTH_NOT_READY", "", 500, grpc::INTERNAL);
pub static HEALTH_APP_ID: Code = row(Health, "ERR_HEALTH_APPID_NOT_MATCH", "", 500, grpc::INTERNAL);
pub static OUTBOUND_NOT_READY: Code = row(Health, "ERR_OUTBOUND_HEALTH_NOT_READY", "", 500, grpc::INTERNAL);

pub fn bad_request(cause: impl Display) -> ApiError {
    ApiError::new(&BAD_REQUEST, format!("invalid request: {cause}"))
}

/// Something the reference has and we do not; `what` names it, so that nobody looks for a typing error.
pub fn unimplemented(what: &str) -> ApiError {
    ApiError::new(
        &UNIMPLEMENTED,
        format!(
            "this API is currently not implemented: {what} is not available in this version of Outrigger"
        ),
    )
}

pub fn body_read(cause: impl Display) -> ApiError {
    ApiError::new(&BODY_READ, format!("failed to read request body: {cause}"))
}

/// A body that is not what the route expects.
pub fn malformed_body(cause: impl Display) -> ApiError {
    ApiError::new(
        &MALFORMED_REQUEST,
        format!("failed deserializing HTTP body: {cause}"),
    )
}

/// The same code with the bare cause, as some routes answer.
pub fn malformed(cause: impl Display) -> ApiError {
    ApiError::new(&MALFORMED_REQUEST, cause.to_string())
}

pub fn malformed_data(cause: impl Display) -> ApiError {
    ApiError::new(
        &MALFORMED_REQUEST_DATA,
        format!("can't serialize request data field: {cause}"),
    )
}

pub fn overloaded(most: usize) -> ApiError {
    ApiError::new(
        &OVERLOADED,
        format!("too many requests at once: this sidecar works on at most {most}; try again in a moment"),
    )
}

/// What was asked for needs an app, and this sidecar has none.
pub fn app_channel_nil(what: impl Into<String>) -> ApiError {
    ApiError::new(&APP_CHANNEL_NIL, what)
}

/// `pending` are the names of what is not ready yet.
/// COMPAT(pkg/api/http/healthz.go): the list is printed in brackets, separated by blanks.
pub fn not_ready(pending: &[String]) -> ApiError {
    ApiError::new(
        &HEALTH_NOT_READY,
        format!("dapr is not ready: [{}]", pending.join(" ")),
    )
}

pub fn outbound_not_ready() -> ApiError {
    ApiError::new(&OUTBOUND_NOT_READY, "dapr outbound is not ready")
}

pub fn app_id_mismatch() -> ApiError {
    ApiError::new(&HEALTH_APP_ID, "dapr app-id does not match")
}
