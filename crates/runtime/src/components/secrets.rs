//! From the items of a document to a component's metadata: secrets fetched, environment read, placeholders filled in.
//!
//! A secret that cannot be fetched leaves its item as it is, with a line in the log: the component then says what
//! it misses.

use super::Identity;
use super::snapshot::{SecretStore, Snapshot};
use outrigger_component::error::{Error, Kind};
use outrigger_component::metadata::Metadata;
use outrigger_daemon::log::Log;
use outrigger_resources::component::Component;
use outrigger_resources::property::Item;
use outrigger_resources::references::{self, Secrets};
use outrigger_resources::template;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Reads one environment variable; the composition root supplies it.
pub type Lookup = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What `envRef` may see.
#[derive(Clone)]
pub struct Environment {
    pub lookup: Lookup,
    /// Text of `DAPR_ENV_KEYS`; empty when it is not set.
    pub allowed: String,
}

/// The secret store that the document's references name, when it has any.
pub fn store_of<'a>(document: &'a Component, default: &'a str) -> Option<&'a str> {
    if references::secrets(&document.metadata).is_empty() {
        return None;
    }
    Some(if document.secret_store.is_empty() {
        default
    } else {
        &document.secret_store
    })
}

/// Fetches what the items refer to and fills it in. `store` is the loaded store of [`store_of`].
pub async fn resolve(
    document: &Component,
    store: Option<&SecretStore>,
    environment: &Environment,
    log: &Log,
) -> Vec<Item> {
    let names = references::secrets(&document.metadata);
    let fetched = match store {
        Some(store) => fetch(names, store, (&document.namespace, document.init_timeout), log).await,
        None => Secrets::new(),
    };
    let mut items = document.metadata.clone();
    let warnings = references::resolve(
        &mut items,
        |name| (environment.lookup)(name),
        &environment.allowed,
        &fetched,
    );
    for warning in warnings {
        log.warn(format_args!("Component {} {warning}", document.name));
    }
    items
}

/// Fetches secrets for a document of a namespace, each no longer than the time given. What fails is logged and left out.
pub async fn fetch(
    names: BTreeSet<&str>,
    store: &SecretStore,
    (namespace, patience): (&str, Duration),
    log: &Log,
) -> Secrets {
    let mut fetched = Secrets::new();
    let request: Metadata = [("namespace", namespace)].into_iter().collect();
    for name in names {
        match tokio::time::timeout(patience, store.store.get(name, &request)).await {
            Ok(Ok(secret)) => {
                fetched.insert(name.to_owned(), secret.0);
            }
            Ok(Err(error)) => log.error(format_args!("Error getting secret: {error}")),
            Err(_) => log.error(format_args!(
                "Error getting secret: {name:?} of {}: no answer within {patience:?}",
                store.name
            )),
        }
    }
    fetched
}

/// The items as text, placeholders replaced.
pub fn metadata(items: &[Item], identity: &Identity) -> Result<Metadata, Error> {
    let names = template::Names {
        app_id: &identity.app_id,
        namespace: identity.namespace_or_default(),
        pod: &identity.pod,
    };
    template::properties(items, names, || uuid::Uuid::new_v4().to_string())
        .map(|properties| properties.into_iter().collect())
        .map_err(|error| Error::new(Kind::Invalid, error.to_string()))
}

/// Finds the loaded store that a document waits for; `Err` with its name when it is not there.
pub fn ready<'a>(
    document: &'a Component,
    default: &'a str,
    snapshot: &'a Snapshot,
) -> Result<Option<&'a Arc<SecretStore>>, &'a str> {
    match store_of(document, default) {
        None => Ok(None),
        Some(name) => snapshot.secret_store(name).map(Some).ok_or(name),
    }
}
