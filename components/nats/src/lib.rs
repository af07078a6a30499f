//! NATS JetStream: `pubsub.jetstream` over push consumers and `state.jetstream` in key-value buckets, on the same streams,
//! consumers and keys as the reference's components, so both can work on one server side by side.
//!
//! The connection is `async-nats`' core client; what JetStream adds (requests in JSON, acknowledgements on reply subjects) is
//! written [here](api), because settling, repeating and coming back follow this project's rules.
//!
//! Deliberately absent: making streams and buckets, which have more settings than a sidecar should guess.

mod api;
mod client;
mod config;
mod failure;
mod pubsub;
mod state;

use outrigger_component::registry::Registry;

/// Adds `pubsub.jetstream` and `state.jetstream`.
///
/// # Panics
/// When one of them is registered already.
pub fn register(registry: &mut Registry) {
    registry
        .pubsub("jetstream", pubsub::JetStream::connect)
        .options(&[config::CLIENT, config::PUBSUB]);
    registry
        .state("jetstream", state::Bucket::connect)
        .options(&[config::CLIENT, config::STATE]);
}
