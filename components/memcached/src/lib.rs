//! Memcached: `state.memcached`, on the same keys and values as the reference's component.
//!
//! A few connections to each host carry all requests, pipelined. A key belongs to one host, and a host that is away is
//! not replaced by another: its keys fail until it is back, as with the reference's client.

mod config;
mod connection;
mod protocol;
mod state;

use outrigger_component::registry::Registry;

/// Adds `state.memcached`.
///
/// # Panics
/// When it is registered already.
pub fn register(registry: &mut Registry) {
    registry
        .state("memcached", state::Store::connect)
        .options(&[config::OPTIONS]);
}
