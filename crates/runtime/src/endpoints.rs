//! `HTTPEndpoint` resources: from documents to services that can be called.
//!
//! Secrets come from loaded secret stores, so this runs after components are loaded. A resource that cannot be used does not
//! stop the start: it stays, with the reason, and calls to it say that reason. In particular a secret that cannot be
//! fetched is never left out silently, since the service would then be called without its credentials.
//!
//! COMPAT(pkg/runtime/processor/httpendpoints.go, pkg/runtime/channels/channels.go).

#[cfg(test)]
mod tests;

use crate::components::secrets::{self, Environment};
use crate::components::snapshot::Snapshot;
use outrigger_channel::endpoint::Config;
use outrigger_daemon::log::Log;
use outrigger_daemon::tls::{self, Pem, Trust};
use outrigger_resources::http_endpoint::{self, HttpEndpoint};
use outrigger_resources::property::{Dynamic, Item};
use outrigger_resources::references::{self, Secrets};
use std::time::Duration;

/// How long one secret is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

const ROOT: &str = "clientTLS.rootCA";
const CERTIFICATE: &str = "clientTLS.certificate";
const KEY: &str = "clientTLS.privateKey";
const RENEGOTIATION: &str = "clientTLS.renegotiation";

/// What the resources are resolved against.
pub struct Sources<'a> {
    pub components: &'a Snapshot,
    pub environment: &'a Environment,
    /// Secret store of documents that name none; empty for none.
    pub default_store: &'a str,
    pub log: &'a Log,
}

impl Sources<'_> {
    /// Every resource by name, or why it cannot be used.
    pub async fn resolve(&self, documents: &[HttpEndpoint]) -> Vec<(String, Result<Config, String>)> {
        let mut resolved = Vec::with_capacity(documents.len());
        for document in documents {
            resolved.push((document.name.clone(), self.one(document).await));
        }
        resolved
    }

    async fn one(&self, document: &HttpEndpoint) -> Result<Config, String> {
        let mut items = document.headers.clone();
        items.extend(pems(document));
        let names = references::secrets(&items);
        let secrets = if names.is_empty() {
            Secrets::new()
        } else {
            let name = match document.secret_store.as_str() {
                "" => self.default_store,
                name => name,
            };
            let store = self.components.secret_store(name).ok_or_else(|| {
                format!("it refers to secrets, but the secret store {name:?} is not loaded")
            })?;
            let at = (document.namespace.as_str(), PATIENCE);
            secrets::fetch(names, store, at, self.log).await
        };
        let warnings = references::resolve(
            &mut items,
            |name| (self.environment.lookup)(name),
            &self.environment.allowed,
            &secrets,
        );
        for warning in warnings {
            self.log
                .warn(format_args!("HTTPEndpoint {} {warning}", document.name));
        }
        if let Some(item) = items.iter().find(|item| is_missing(item)) {
            return Err(format!(
                "{} is in the secret {:?}, which could not be read",
                item.name, item.secret_key_ref.name
            ));
        }
        let tls = document
            .client_tls
            .as_ref()
            .map(|asked| self.tls(&document.name, asked, &items))
            .transpose()?;
        let headers = items
            .iter()
            .take(document.headers.len())
            .map(|item| (item.name.clone(), item.text()))
            .collect();
        Ok(Config {
            base_url: document.base_url.clone(),
            headers,
            tls,
        })
    }

    fn tls(
        &self,
        name: &str,
        asked: &http_endpoint::ClientTls,
        items: &[Item],
    ) -> Result<tls::Config, String> {
        let text = |field: &'static str| {
            let item = items.iter().rev().find(|item| item.name == field);
            item.filter(|item| item.value.is_some()).map(Item::text)
        };
        let (root, certificate, key) = (text(ROOT), text(CERTIFICATE), text(KEY));
        let said = |error: tls::Error| error.to_string();
        if let Some(warning) = tls::renegotiation(RENEGOTIATION, &asked.renegotiation).map_err(said)? {
            self.log.warn(format_args!("HTTPEndpoint {name}: {warning}"));
        }
        let trust = root
            .as_deref()
            .map_or(Trust::System, |text| Trust::Only(Pem { field: ROOT, text }));
        let identity =
            tls::pair((CERTIFICATE, certificate.as_deref()), (KEY, key.as_deref())).map_err(said)?;
        tls::client(&tls::Client {
            trust,
            identity,
            protocols: &[],
        })
        .map_err(said)
    }
}

/// The parts of `clientTLS` as items, behind those of the headers.
fn pems(document: &HttpEndpoint) -> Vec<Item> {
    let Some(tls) = &document.client_tls else {
        return Vec::new();
    };
    let item = |name: &str, pem: &Option<http_endpoint::Pem>| {
        let pem = pem.as_ref()?;
        Some(Item {
            name: name.to_owned(),
            value: pem.value.clone(),
            secret_key_ref: pem.secret_key_ref.clone().unwrap_or_default(),
            env_ref: String::new(),
        })
    };
    [
        item(ROOT, &tls.root_ca),
        item(CERTIFICATE, &tls.certificate),
        item(KEY, &tls.private_key),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Whether an item refers to a secret and has not got it.
fn is_missing(item: &Item) -> bool {
    !item.secret_key_ref.name.is_empty() && !matches!(item.value, Some(Dynamic::Raw(_)))
}
