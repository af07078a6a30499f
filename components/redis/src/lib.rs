//! Redis: `state.redis`, `pubsub.redis`, `configuration.redis`, `lock.redis` and `bindings.redis`, on the same data as the
//! reference's components, so both can work on one server side by side; over one server, the master that Sentinels name, or
//! a cluster, with TLS or without.
//!
//! One connection per component and server carries all requests, pipelined; each subscription and each watch has one more.
//! Lost connections come back by themselves.
//!
//! Deliberately absent for now, each with an error that names it: Entra ID, OIDC, RediSearch queries.

mod binding;
mod client;
mod config;
mod configuration;
mod failure;
mod lock;
mod pubsub;
mod script;
mod state;

use config::options::{CLIENT, CONSUMER, LONG_RETRIES, RETRIES, STATE, WIDE_RETRIES};
use outrigger_component::registry::Registry;

/// Adds the components.
///
/// # Panics
/// When one of them is registered already.
pub fn register(registry: &mut Registry) {
    registry
        .state("redis", state::Store::connect)
        .options(&[CLIENT, STATE, LONG_RETRIES]);
    registry
        .pubsub("redis", pubsub::Streams::connect)
        .options(&[CLIENT, CONSUMER, RETRIES]);
    registry
        .configuration("redis", configuration::Store::connect)
        .options(&[CLIENT, WIDE_RETRIES]);
    registry
        .lock("redis", lock::Locks::connect)
        .options(&[CLIENT, LONG_RETRIES]);
    registry
        .output_binding("redis", binding::Binding::connect)
        .options(&[CLIENT, RETRIES]);
}
