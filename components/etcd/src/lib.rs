//! etcd: `state.etcd`, versions `v1` and `v2`, on the same data as the reference's, so both can work on one cluster side by
//! side.
//!
//! It speaks etcd's gRPC API version 3 with [messages of its own](wire): the few fields of the few calls that are needed.
//! Nothing is connected before the first request; what cannot be reached is tried again, endpoint by endpoint, for a stated
//! time.
//!
//! Deliberately absent: watching, and finding further members of the cluster by asking it (all that may be used are named
//! in `endpoints`).

mod client;
mod config;
mod failure;
mod state;
mod wire;

use outrigger_component::registry::Registry;
use state::Store;
use state::value::Schema;

/// Adds `state.etcd/v1` and `state.etcd/v2`.
///
/// # Panics
/// When one of them is registered already.
pub fn register(registry: &mut Registry) {
    registry
        .state("etcd", |setup| async { Store::connect(setup, Schema::Plain) })
        .options(&[config::OPTIONS]);
    registry
        .state("etcd/v2", |setup| async {
            Store::connect(setup, Schema::Stamped)
        })
        .options(&[config::OPTIONS]);
}
