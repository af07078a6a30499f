//! Name resolution by DNS: the address of an app's sidecars follows from its id, and DNS says where that is.
//!
//! - `nameresolution.nameformat`: a host name with `{appid}` in it (`{appid}.example.com:50002`).
//! - `nameresolution.kubernetes`: the headless service that Dapr's operator makes for every app
//!   (`<app id>-dapr.<namespace>.svc.<cluster domain>`), or a template.
//!
//! Every address of a name is an instance. Answers are kept for [`KEPT`]; then the next call asks again, while others go on with
//! what is known. A name that cannot be looked up is an error, unless it could be before.
//!
//! INVARIANT: for one name at most one lookup is under way.
//!
//! COMPAT(components-contrib nameresolution/nameformat, nameresolution/kubernetes; pkg/messaging): options and texts. Unlike there,
//! a name without a port has the port of this sidecar, and `nameformat` has all addresses of a name, not one.

mod pattern;
#[cfg(test)]
mod tests;

use futures::future::BoxFuture;
use outrigger_component::Component;
use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::options::{NONE, Opt, REQUIRED, opt};
use outrigger_component::resolver::{Endpoint, NameResolver, Target};
use outrigger_component::setup::Setup;
use pattern::Pattern;
use serde::Deserialize;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long an answer is good. COMPAT(pkg/messaging): `resolverCacheTTL`.
pub const KEPT: Duration = Duration::from_secs(20);
/// Time for one lookup.
const PATIENCE: Duration = Duration::from_secs(5);
/// Names remembered; beyond it all are looked up anew.
const NAMES: usize = 1024;

type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

pub struct Resolver {
    pattern: Pattern,
    port: u16,
    lookup: Lookup,
    names: Mutex<HashMap<String, Arc<Name>>>,
}

/// What is known of one name.
#[derive(Default)]
struct Name {
    known: Mutex<Known>,
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default, Clone)]
struct Known {
    endpoints: Vec<Endpoint>,
    /// `None`: to be looked up.
    until: Option<Instant>,
}

/// What can be written for `nameformat`.
pub(crate) const FORMAT: &[Opt] = &[opt(
    "format",
    REQUIRED,
    "host name with `{appid}` in it, for example `{appid}.example.com:50002`; without a port that of this sidecar",
)];

/// What can be written for `kubernetes`.
pub(crate) const KUBERNETES: &[Opt] = &[
    opt(
        "clusterDomain",
        "cluster.local",
        "last part of the services' names",
    ),
    opt(
        "template",
        NONE,
        "the whole address instead, with `{{.ID}}`, `{{.Namespace}}` and `{{.Port}}`",
    ),
];

/// Metadata of `nameformat`.
#[derive(Debug, Deserialize)]
pub struct Format {
    #[serde(default)]
    format: String,
}

/// Metadata of `kubernetes`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kubernetes {
    #[serde(default)]
    cluster_domain: String,
    #[serde(default)]
    template: String,
}

impl Resolver {
    /// `nameresolution.nameformat`.
    ///
    /// # Errors
    /// `Invalid` without a format, or for one without `{appid}`.
    pub async fn formatted(setup: Setup<Format>) -> Result<Self> {
        let pattern = Pattern::format(&setup.config.format)?;
        Ok(Self::new(pattern, setup.instance.internal_port, system()))
    }

    /// `nameresolution.kubernetes`.
    ///
    /// # Errors
    /// `Invalid` for a template that says more than app id, namespace and port.
    pub async fn kubernetes(setup: Setup<Kubernetes>) -> Result<Self> {
        let Kubernetes {
            cluster_domain,
            template,
        } = setup.config;
        let pattern = if template.is_empty() {
            let domain = if cluster_domain.is_empty() {
                "cluster.local"
            } else {
                &cluster_domain
            };
            Pattern::service(domain)
        } else {
            Pattern::template(&template)?
        };
        Ok(Self::new(pattern, setup.instance.internal_port, system()))
    }

    fn new(pattern: Pattern, port: u16, lookup: Lookup) -> Self {
        Self {
            pattern,
            port,
            lookup,
            names: Mutex::default(),
        }
    }

    fn name(&self, address: &str) -> Arc<Name> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = names.get(address) {
            return name.clone();
        }
        if names.len() >= NAMES {
            names.clear();
        }
        names.entry(address.to_owned()).or_default().clone()
    }

    async fn look_up(&self, address: String) -> Result<Vec<Endpoint>> {
        let failed = |cause: &dyn std::fmt::Display| {
            Error::new(
                Kind::Unavailable,
                format!("failed to resolve address for '{address}': {cause}"),
            )
        };
        let found = tokio::time::timeout(PATIENCE, (self.lookup)(address.clone()))
            .await
            .map_err(|_| failed(&format_args!("no answer within {PATIENCE:?}")))?
            .map_err(|error| failed(&error))?;
        let mut endpoints: Vec<_> = found.iter().map(|found| Endpoint(found.to_string())).collect();
        endpoints.sort();
        endpoints.dedup();
        Ok(endpoints)
    }
}

impl Component for Resolver {}

#[async_trait::async_trait]
impl NameResolver for Resolver {
    async fn resolve(&self, target: &Target) -> Result<Vec<Endpoint>> {
        if target.app_id.is_empty() {
            return Err(Error::invalid("empty ID not allowed"));
        }
        let address = self.pattern.address(target, self.port);
        let name = self.name(&address);
        let known = name.known();
        if known.until.is_some_and(|until| until > Instant::now()) {
            return Ok(known.endpoints);
        }
        let turn = match name.asking.try_lock() {
            Ok(turn) => turn,
            // Somebody asks already.
            Err(_) if !known.endpoints.is_empty() => return Ok(known.endpoints),
            Err(_) => name.asking.lock().await,
        };
        let known = name.known();
        if known.until.is_some_and(|until| until > Instant::now()) {
            return Ok(known.endpoints);
        }
        let looked_up = self.look_up(address).await;
        let endpoints = match looked_up {
            Ok(endpoints) => endpoints,
            Err(error) if known.endpoints.is_empty() => return Err(error),
            // What was right a moment ago is better than nothing.
            Err(_) => known.endpoints,
        };
        *name.known.lock().unwrap_or_else(PoisonError::into_inner) = Known {
            endpoints: endpoints.clone(),
            until: Some(Instant::now() + KEPT),
        };
        drop(turn);
        Ok(endpoints)
    }

    /// The next call looks the name up again.
    fn unreachable(&self, target: &Target, _endpoint: &Endpoint) {
        let address = self.pattern.address(target, self.port);
        self.name(&address)
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .until = None;
    }
}

impl Name {
    fn known(&self) -> Known {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The machine's own resolver.
fn system() -> Lookup {
    Arc::new(|address| Box::pin(async move { Ok(tokio::net::lookup_host(address).await?.collect()) }))
}
