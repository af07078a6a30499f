//! Codes of building blocks that this version does not have. Their routes exist and answer exactly what the
//! reference answers when no component of the kind is configured, which is always so here.

use super::Category::Binding;
use super::{Code, grpc, row};
use crate::error::ApiError;

pub const ROWS: &[&Code] = &[&INVOKE_BINDING];

pub static INVOKE_BINDING: Code = row(
    Binding,
    "ERR_INVOKE_OUTPUT_BINDING",
    "ERR_INVOKE_OUTPUT_BINDING",
    500,
    grpc::INTERNAL,
);
/// Any output binding.
pub fn binding(name: &str) -> ApiError {
    ApiError::new(
        &INVOKE_BINDING,
        format!("error invoking output binding {name}: couldn't find output binding {name}"),
    )
}
