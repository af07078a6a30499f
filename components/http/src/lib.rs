//! What speaks HTTP to somebody: the HTTP binding.
//!
//! INVARIANT: answers of others are bounded in size and time; secrets (tokens, passwords) are never shown.

pub mod binding;
mod client;

use outrigger_component::registry::Registry;

/// Adds `bindings.http`.
///
/// # Panics
/// When one of them is registered already.
pub fn register(registry: &mut Registry) {
    registry.output_binding("http", binding::Http::build);
}
