//! Codes of bindings.

use super::Category::Binding;
use super::{Code, grpc, row};
use crate::error::ApiError;
use std::fmt::Display;

pub const ROWS: &[&Code] = &[&INVOKE];

pub static INVOKE: Code = row(
    Binding,
    "ERR_INVOKE_OUTPUT_BINDING",
    "ERR_INVOKE_OUTPUT_BINDING",
    500,
    grpc::INTERNAL,
);

pub fn failed(binding: &str, cause: impl Display) -> ApiError {
    ApiError::new(
        &INVOKE,
        format!("error invoking output binding {binding}: {cause}"),
    )
}
