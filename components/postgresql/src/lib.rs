//! PostgreSQL: `state.postgresql` (versions 1 and 2), `configuration.postgresql` and `bindings.postgresql`, on the same tables as the reference's components, so that both can work
//! on one database at once and an existing one is taken over.
//!
//! A component has a small set of connections ([`pool`]). Requests of all callers that wait at the same time travel together
//! over one of them ([`group`]).
//!
//! Deliberately absent, each with an error that names it: Entra ID, AWS IAM. Nothing is read from the environment (`PGHOST`,
//! `.pgpass`, service files).

mod binding;
mod config;
mod configuration;
mod failure;
mod group;
mod migrations;
mod pool;
mod state;
mod tls;

use config::CONNECTION;
use outrigger_component::registry::Registry;

/// Adds `state.postgresql` and those that speak its protocol (`state.cockroachdb`, `state.yugabytedb`),
/// `configuration.postgresql` and `bindings.postgresql`, each under all its names.
///
/// # Panics
/// When one of them is registered already.
pub fn register(registry: &mut Registry) {
    registry
        .state("postgresql", state::Store::first)
        .options(&[CONNECTION, state::COMMON, state::V1])
        .also("postgres");
    registry
        .state("postgresql/v2", state::Store::second)
        .options(&[CONNECTION, state::COMMON, state::V2])
        .also("postgres")
        .also("yugabytedb")
        .also("yugabyte")
        .also("cockroachdb");
    registry
        .state("cockroachdb", state::Store::cockroach)
        .options(&[CONNECTION, state::COMMON, state::V1]);
    registry
        .configuration("postgresql", configuration::Store::connect)
        .options(&[CONNECTION, configuration::OPTIONS])
        .also("postgres");
    registry
        .output_binding("postgresql", binding::Binding::connect)
        .options(&[CONNECTION])
        .also("postgres");
}
