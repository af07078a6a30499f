//! SQLite: `state.sqlite` and `nameresolution.sqlite`, on the same tables as the reference's components, so that both can
//! work on one file at once.
//!
//! SQLite blocks, so every connection has a thread of its own ([`worker`], [`state`]'s writer); nothing here blocks the
//! threads of the event loop.
//!
//! Deliberately absent: encryption of the file, attached databases, extensions.

mod config;
mod database;
mod failure;
mod names;
mod state;
mod worker;

use outrigger_component::registry::Registry;

/// Adds `state.sqlite` (also as `state.sqlite3`) and `nameresolution.sqlite`.
///
/// # Panics
/// When one of them is registered already.
pub fn register(registry: &mut Registry) {
    registry
        .state("sqlite", state::Store::connect)
        .options(&[config::FILE, config::STATE])
        .also("sqlite3");
    registry
        .resolver("sqlite", names::Resolver::connect)
        .options(&[config::FILE, config::NAMES]);
}
