//! Codes of state management.
//!
//! COMPAT(pkg/api/http/http.go): the reference's HTTP handlers put the app id into the `ErrorInfo` of an unknown store
//! and print an illegal key's error twice wrapped (`api error: code = … desc = …`); its gRPC handlers do neither. Both
//! of our doors answer as the gRPC one.

use super::Category::{Common, State};
use super::{Code, grpc, plain, row};
use crate::error::{ApiError, Detail, Link, Violation};
use std::collections::BTreeMap;
use std::fmt::Display;

pub const ROWS: &[&Code] = &[
    &NOT_CONFIGURED,
    &NOT_FOUND,
    &ILLEGAL_KEY,
    &KEY_MISSING,
    &GET,
    &BULK_GET,
    &SAVE,
    &SAVE_ETAG_MISMATCH,
    &SAVE_ETAG_INVALID,
    &DELETE,
    &DELETE_ETAG_MISMATCH,
    &DELETE_ETAG_INVALID,
    &BULK_DELETE,
    &BULK_DELETE_ETAG_MISMATCH,
    &BULK_DELETE_ETAG_INVALID,
    &TRANSACTION,
    &TRANSACTIONS_UNSUPPORTED,
    &TOO_MANY_OPERATIONS,
    &OPERATION_UNSUPPORTED,
    &QUERY_UNSUPPORTED,
    &QUERY,
];

pub static NOT_CONFIGURED: Code = row(
    State,
    "ERR_STATE_STORE_NOT_CONFIGURED",
    "DAPR_STATE_NOT_CONFIGURED",
    500,
    grpc::FAILED_PRECONDITION,
);
pub static NOT_FOUND: Code = row(
    State,
    "ERR_STATE_STORE_NOT_FOUND",
    "DAPR_STATE_NOT_FOUND",
    400,
    grpc::INVALID_ARGUMENT,
);
pub static ILLEGAL_KEY: Code = row(
    State,
    "ERR_MALFORMED_REQUEST",
    "DAPR_STATE_ILLEGAL_KEY",
    400,
    grpc::INVALID_ARGUMENT,
);
/// COMPAT(pkg/api/http/http.go, pkg/api/grpc/grpc.go): one door says malformed request, the other save failed. The texts
/// differ as well (gRPC: `state key cannot be empty`); both of ours send the first.
pub static KEY_MISSING: Code = row(
    Common,
    "ERR_MALFORMED_REQUEST",
    "ERR_STATE_SAVE",
    400,
    grpc::INVALID_ARGUMENT,
);
pub static GET: Code = plain(State, "ERR_STATE_GET", 500, grpc::INTERNAL);
pub static BULK_GET: Code = row(State, "ERR_STATE_BULK_GET", "", 500, grpc::UNKNOWN);

const SAVE_TAG: &str = "ERR_STATE_SAVE";
pub static SAVE: Code = plain(State, SAVE_TAG, 500, grpc::INTERNAL);
pub static SAVE_ETAG_MISMATCH: Code = plain(State, SAVE_TAG, 409, grpc::ABORTED);
pub static SAVE_ETAG_INVALID: Code = plain(State, SAVE_TAG, 400, grpc::INVALID_ARGUMENT);

const DELETE_TAG: &str = "ERR_STATE_DELETE";
pub static DELETE: Code = plain(State, DELETE_TAG, 500, grpc::INTERNAL);
pub static DELETE_ETAG_MISMATCH: Code = plain(State, DELETE_TAG, 409, grpc::ABORTED);
pub static DELETE_ETAG_INVALID: Code = plain(State, DELETE_TAG, 400, grpc::INVALID_ARGUMENT);

const BULK_DELETE_TAG: &str = "ERR_STATE_BULK_DELETE";
pub static BULK_DELETE: Code = plain(State, BULK_DELETE_TAG, 500, grpc::INTERNAL);
pub static BULK_DELETE_ETAG_MISMATCH: Code = plain(State, BULK_DELETE_TAG, 409, grpc::ABORTED);
pub static BULK_DELETE_ETAG_INVALID: Code = plain(State, BULK_DELETE_TAG, 400, grpc::INVALID_ARGUMENT);

pub static TRANSACTION: Code = plain(State, "ERR_STATE_TRANSACTION", 500, grpc::INTERNAL);
pub static TRANSACTIONS_UNSUPPORTED: Code = row(
    State,
    "ERR_STATE_STORE_NOT_SUPPORTED",
    "DAPR_STATE_TRANSACTIONS_NOT_SUPPORTED",
    500,
    grpc::UNIMPLEMENTED,
);
pub static TOO_MANY_OPERATIONS: Code = row(
    State,
    "ERR_STATE_STORE_TOO_MANY_TRANSACTIONS",
    "DAPR_STATE_TOO_MANY_TRANSACTIONS",
    400,
    grpc::INVALID_ARGUMENT,
);
pub static OPERATION_UNSUPPORTED: Code = plain(
    State,
    "ERR_NOT_SUPPORTED_STATE_OPERATION",
    400,
    grpc::UNIMPLEMENTED,
);
pub static QUERY_UNSUPPORTED: Code = row(
    State,
    "ERR_STATE_STORE_NOT_SUPPORTED",
    "DAPR_STATE_QUERYING_NOT_SUPPORTED",
    500,
    grpc::INTERNAL,
);
pub static QUERY: Code = row(
    State,
    "ERR_STATE_QUERY",
    "DAPR_STATE_QUERY_FAILED",
    500,
    grpc::INTERNAL,
);

pub fn not_configured(store: &str) -> ApiError {
    ApiError::rich(
        &NOT_CONFIGURED,
        format!("state store {store} is not configured"),
        BTreeMap::new(),
    )
}

pub fn not_found(store: &str) -> ApiError {
    ApiError::rich(
        &NOT_FOUND,
        format!("state store {store} is not found"),
        BTreeMap::new(),
    )
}

pub fn illegal_key(store: &str, key: &str) -> ApiError {
    let message = illegal_key_text(key);
    let mut error = ApiError::new(&ILLEGAL_KEY, message.clone())
        .with(Detail::BadRequest {
            violations: vec![Violation {
                field: key.to_owned(),
                description: message,
            }],
        })
        .with(resource(store));
    error.details.push(info(&ILLEGAL_KEY, BTreeMap::new()));
    error
}

/// Shared with the load error of a component whose `keyPrefix` is illegal.
pub fn illegal_key_text(key: &str) -> String {
    format!("input key/keyPrefix '{key}' can't contain '||'")
}

pub fn key_missing() -> ApiError {
    ApiError::new(&KEY_MISSING, "\"key\" is a required field")
}

pub fn get_failed(key: &str, store: &str, cause: impl Display) -> ApiError {
    ApiError::new(
        &GET,
        format!("fail to get {key} from state store {store}: {cause}"),
    )
}

pub fn save_failed(code: &'static Code, store: &str, cause: impl Display) -> ApiError {
    ApiError::new(
        code,
        format!("failed saving state in state store {store}: {cause}"),
    )
}

pub fn delete_failed(code: &'static Code, key: &str, cause: impl Display) -> ApiError {
    ApiError::new(code, format!("failed deleting state with key {key}: {cause}"))
}

pub fn bulk_delete_failed(code: &'static Code, store: &str, cause: impl Display) -> ApiError {
    ApiError::new(
        code,
        format!("failed deleting state in state store {store}: {cause}"),
    )
}

pub fn transaction_failed(cause: impl Display) -> ApiError {
    ApiError::new(
        &TRANSACTION,
        format!("error while executing state transaction: {cause}"),
    )
}

pub fn transactions_unsupported(store: &str) -> ApiError {
    ApiError::new(
        &TRANSACTIONS_UNSUPPORTED,
        format!("state store {store} doesn't support transactions"),
    )
    .with(Detail::Help {
        links: vec![Link {
            description: "Check the list of state stores and the features they support".to_owned(),
            url: "https://docs.dapr.io/reference/components-reference/supported-state-stores/".to_owned(),
        }],
    })
    .with(resource(store))
    .with(info(&TRANSACTIONS_UNSUPPORTED, BTreeMap::new()))
}

pub fn too_many_operations(store: &str, count: usize, max: usize) -> ApiError {
    let counts = [("currentOpsTransaction", count), ("maxOpsPerTransaction", max)];
    ApiError::new(
        &TOO_MANY_OPERATIONS,
        format!(
            "the transaction contains {count} operations, which is more than what the state store supports: {max}"
        ),
    )
    .with(resource(store))
    .with(info(
        &TOO_MANY_OPERATIONS,
        counts
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_string()))
            .collect(),
    ))
}

/// A transaction step that is neither `upsert` nor `delete`.
pub fn operation_unsupported(operation: &str) -> ApiError {
    ApiError::new(
        &OPERATION_UNSUPPORTED,
        format!("operation type {operation} not supported"),
    )
}

pub fn query_failed(store: &str, cause: impl Display) -> ApiError {
    ApiError::new(&QUERY, format!("state store {store} query failed: {cause}"))
        .with(resource(store))
        .with(info(&QUERY, BTreeMap::new()))
}

pub fn query_unsupported(store: &str) -> ApiError {
    ApiError::new(&QUERY_UNSUPPORTED, "state store does not support querying")
        .with(resource(store))
        .with(info(&QUERY_UNSUPPORTED, BTreeMap::new()))
}

fn resource(store: &str) -> Detail {
    Detail::ResourceInfo {
        resource_type: "state".to_owned(),
        resource_name: store.to_owned(),
        owner: String::new(),
        description: String::new(),
    }
}

fn info(code: &Code, metadata: BTreeMap<String, String>) -> Detail {
    Detail::ErrorInfo {
        reason: code.reason.to_owned(),
        metadata,
    }
}
