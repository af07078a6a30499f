//! Redis: `state.redis` and `pubsub.redis`, on the same data as the reference's components, so both can work on one
//! server side by side.
//!
//! One connection per component carries all requests, pipelined; each subscription has one more, for the blocking
//! read. Lost connections come back by themselves.
//!
//! Deliberately absent for now, each with an error that names it: TLS, cluster, Sentinel, Entra ID, RediSearch queries.

mod client;
mod config;
mod failure;
mod pubsub;
mod state;

use outrigger_component::registry::Registry;

/// Adds `state.redis` and `pubsub.redis`.
///
/// # Panics
/// When one of them is registered already.
pub fn register(registry: &mut Registry) {
    registry.state("redis", state::Store::connect);
    registry.pubsub("redis", pubsub::Streams::connect);
}
