//! Against a real server; skipped loudly where none is installed.

#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

#[path = "postgresql/binding.rs"]
mod binding;
#[path = "postgresql/configuration.rs"]
mod configuration;
#[path = "postgresql/limits.rs"]
mod limits;
#[path = "postgresql/reach.rs"]
mod reach;
#[path = "postgresql/state.rs"]
mod state;
#[path = "postgresql/tables.rs"]
mod tables;

use outrigger_component::error::{Error, Result};
use outrigger_component::registry::Registry;
use outrigger_component::state::StateStore;
use outrigger_components_postgresql::register;
use outrigger_testkit::servers::postgresql::Postgresql;
use outrigger_testkit::setup::setup;
use std::sync::Arc;

fn registry() -> Registry {
    let mut registry = Registry::default();
    register(&mut registry);
    registry
}

/// `version` as in `v1`, or with another type as in `cockroachdb/v2`.
async fn try_store(version: &str, metadata: &[(&str, &str)]) -> Result<Arc<dyn StateStore>, Error> {
    let (name, version) = version.split_once('/').unwrap_or(("postgresql", version));
    registry()
        .state_stores()
        .build(name, version, setup(metadata))
        .await
}

async fn store(server: &Postgresql, version: &str, metadata: &[(&str, &str)]) -> Arc<dyn StateStore> {
    let text = server.connection_string();
    let metadata = [&[("connectionString", text.as_str())], metadata].concat();
    try_store(version, &metadata)
        .await
        .unwrap_or_else(|error| panic!("{version}: {error}"))
}
