//! Codes of bindings.

use super::Category::Binding;
use super::{Code, grpc, plain};
use crate::error::ApiError;
use std::fmt::Display;

pub const ROWS: &[&Code] = &[&INVOKE];

pub static INVOKE: Code = plain(Binding, "ERR_INVOKE_OUTPUT_BINDING", 500, grpc::INTERNAL);

pub fn failed(binding: &str, cause: impl Display) -> ApiError {
    ApiError::new(
        &INVOKE,
        format!("error invoking output binding {binding}: {cause}"),
    )
}
