//! Codes of service invocation. The tag is always the same.

use super::Category::Invocation;
use super::{Code, grpc, row};
use crate::access::Identity;
use crate::error::ApiError;
use std::fmt::Display;

pub const ROWS: &[&Code] = &[&FAILED, &DENIED, &NO_APP_ID];

const TAG: &str = "ERR_DIRECT_INVOKE";

pub static FAILED: Code = row(Invocation, TAG, "", 500, grpc::INTERNAL);
/// The callee's access policy said no. COMPAT(pkg/api/grpc/grpc.go): over gRPC a failure like any other.
pub static DENIED: Code = row(Invocation, TAG, "", 403, grpc::INTERNAL);
pub static NO_APP_ID: Code = row(Invocation, TAG, "", 404, grpc::NOT_FOUND);

pub fn failed(target: &str, cause: impl Display) -> ApiError {
    ApiError::new(&FAILED, format!("failed to invoke, id: {target}, err: {cause}"))
}

pub fn denied(target: &str, cause: impl Display) -> ApiError {
    ApiError::new(&DENIED, format!("failed to invoke, id: {target}, err: {cause}"))
}

/// Also the answer to every unknown URL, since invocation is the fallback route.
pub fn no_app_id() -> ApiError {
    ApiError::new(
        &NO_APP_ID,
        "failed getting app id either from the URL path or the header dapr-app-id",
    )
}

/// Text that stands behind `err: ` when no app listens behind this sidecar.
pub const NO_CHANNEL: &str = "app channel is not initialized";

pub fn channel_failed(cause: impl Display) -> String {
    format!("error invoking app channel: {cause}")
}

/// What an app that answers a request for events with a failure comes to.
pub const NO_EVENTS: &str = "no response received from stream";

/// What the rules of an app answer to a caller. `verb` is `NONE` where none counts.
pub fn access_denied(caller: Option<&Identity>, method: &str, verb: &str) -> String {
    let id = caller.map(ToString::to_string).unwrap_or_default();
    format!("access control policy has denied access to id: {id} operation: {method} verb: {verb}")
}
