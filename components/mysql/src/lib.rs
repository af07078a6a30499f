//! MySQL and MariaDB: `state.mysql` and `bindings.mysql`, on the same tables as the reference's components, so that both can
//! work on one database at once and an existing one is taken over.
//!
//! The protocol knows one request at a time on a connection, so callers share a pool of them.
//!
//! Deliberately absent: `LOAD DATA LOCAL INFILE`, compression, and what else only the reference's client library knows.

mod binding;
mod client;
mod dsn;
mod failure;
mod state;

use outrigger_component::registry::Registry;

/// Adds `state.mysql` and `bindings.mysql`.
///
/// # Panics
/// When one of them is registered already.
pub fn register(registry: &mut Registry) {
    registry
        .state("mysql", state::Store::connect)
        .options(&[state::OPTIONS]);
    registry
        .output_binding("mysql", binding::Binding::connect)
        .options(&[binding::OPTIONS]);
}
