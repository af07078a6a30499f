//! The hub's client: `state.outrigger`, `pubsub.outrigger`, `configuration.outrigger`, `lock.outrigger` and
//! `nameresolution.outrigger`.
//!
//! All reach the one hub of this machine over its unix socket, and outlive it: while no hub answers, requests
//! wait for [`link::Config::wait_for_hub`] and then fail with a retryable error; subscriptions and the announcement
//! of this sidecar come back by themselves.
//!
//! Deliberately absent: starting a hub. `outrigger run` does that.

mod batch;
mod configuration;
mod failure;
mod link;
mod lock;
mod names;
mod pubsub;
mod space;
mod state;
mod subscription;
#[cfg(test)]
mod tests;

use link::{HUB, SPACE};
use outrigger_component::registry::Registry;
use std::path::PathBuf;

/// The type's name in all categories.
const NAME: &str = "outrigger";

/// `socket` is where the hub of this sidecar listens. Without one, building a component fails with a message that
/// says how to get one, unless its metadata names a `socket`.
pub fn register(registry: &mut Registry, socket: Option<PathBuf>) {
    let of = socket.clone();
    registry
        .state(NAME, move |setup| state::Store::connect(setup, of.clone()))
        .options(&[SPACE, HUB]);
    let of = socket.clone();
    registry
        .pubsub(NAME, move |setup| pubsub::Broker::connect(setup, of.clone()))
        .options(&[pubsub::OPTIONS, HUB]);
    let of = socket.clone();
    registry
        .configuration(NAME, move |setup| {
            configuration::Store::connect(setup, of.clone())
        })
        .options(&[SPACE, HUB]);
    let of = socket.clone();
    registry
        .lock(NAME, move |setup| lock::Locks::connect(setup, of.clone()))
        .options(&[SPACE, HUB]);
    registry
        .resolver(NAME, move |setup| names::Resolver::connect(setup, socket.clone()))
        .options(&[HUB]);
}
