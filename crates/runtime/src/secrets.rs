//! Secrets: reading them from the stores, within the scopes of the Configuration.
//!
//! Values pass through and are neither kept nor logged.

use crate::catalogue::secrets as catalogue;
use crate::components::snapshot::{Live, SecretStore};
use crate::error::Result;
use crate::outbound;
use outrigger_component::error::Error;
use outrigger_component::metadata::Metadata;
use outrigger_component::secret::Secret;
use outrigger_daemon::metrics;
use outrigger_resiliency::policies::{Flow, Kind, Policies};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// The secrets building block.
pub struct Secrets {
    components: Live,
    policies: Arc<Policies>,
    metrics: Arc<metrics::Component>,
}

impl Secrets {
    pub fn new(components: Live, policies: Arc<Policies>, metrics: Arc<metrics::Component>) -> Self {
        Self {
            components,
            policies,
            metrics,
        }
    }

    /// The named values of one secret.
    ///
    /// # Errors
    /// [`catalogue::NOT_CONFIGURED`] without any store, [`catalogue::NOT_FOUND`] for an unknown one,
    /// [`catalogue::DENIED`] outside the scope, [`catalogue::GET`] when the store fails or has no such secret.
    pub async fn get(&self, store: &str, name: &str, metadata: &Metadata) -> Result<Secret> {
        let store = self.store(store)?;
        if !allows(&store, name) {
            return Err(catalogue::denied(&store.name, name));
        }
        self.call(&store, "get", || store.store.get(name, metadata))
            .await
            .map_err(|error| catalogue::get_failed(&store.name, name, &error).caused_by(error))
    }

    /// All secrets of a store that the scope allows.
    ///
    /// # Errors
    /// As [`Secrets::get`], never [`catalogue::DENIED`].
    pub async fn bulk(&self, store: &str, metadata: &Metadata) -> Result<BTreeMap<String, Secret>> {
        let store = self.store(store)?;
        let mut secrets = self
            .call(&store, "bulk_get", || store.store.all(metadata))
            .await
            .map_err(|error| catalogue::bulk_failed(&store.name, &error).caused_by(error))?;
        secrets.retain(|name, _| allows(&store, name));
        Ok(secrets)
    }

    /// One counted call under the component's policy.
    async fn call<T, F>(
        &self,
        store: &SecretStore,
        operation: &'static str,
        request: impl FnMut() -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let started = Instant::now();
        let policy = self
            .policies
            .component(&store.name, Kind::Secretstore, Flow::Outbound);
        let outcome = outbound::run(&policy, request).await;
        self.metrics
            .secret(&store.name, operation, outcome.is_ok(), started.elapsed());
        outcome
    }

    fn store(&self, name: &str) -> Result<Arc<SecretStore>> {
        let components = self.components.now();
        match components.secret_store(name) {
            Some(store) => Ok(Arc::clone(store)),
            None if components.has_secret_stores() => Err(catalogue::not_found(name)),
            None => Err(catalogue::not_configured()),
        }
    }
}

fn allows(store: &SecretStore, name: &str) -> bool {
    store.scope.as_ref().is_none_or(|scope| scope.allows(name))
}

#[cfg(test)]
mod tests;
