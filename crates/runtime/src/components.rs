//! Components: from documents to a [snapshot](snapshot::Snapshot) of ready values.
//!
//! Secret stores come first, then everything else, several at a time. A component whose secrets are in a store that is
//! not loaded is parked until it is; what is still parked at the end stays unloaded and the log says so. A
//! failed component is fatal unless it has `ignoreErrors`.
//!
//! Texts of log lines and errors are those that tools wait for (pkg/runtime/processor, pkg/runtime/errors).
//!
//! Deliberately not here: reading documents (`resources`), app scopes and namespaces (applied when they are read), and
//! hot reload.

pub mod loader;
pub mod pipeline;
pub mod secrets;
pub mod snapshot;

use futures::stream::{self, StreamExt as _};
use outrigger_component::error::Error as Cause;
use outrigger_component::registry::Registry;
use outrigger_component::resolver::Instance;
use outrigger_daemon::log::Log;
use outrigger_daemon::metrics::Loading;
use outrigger_resources::component::Component;
use outrigger_resources::configuration::access::SecretScope;
use secrets::Environment;
use snapshot::{Live, Snapshot};
use std::sync::Arc;

/// How many components are built at once.
const CONCURRENCY: usize = 8;

/// Who this sidecar is.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    pub app_id: String,
    /// As configured; empty when there is none.
    pub namespace: String,
    /// Empty outside Kubernetes.
    pub pod: String,
}

impl Identity {
    pub fn namespace_or_default(&self) -> &str {
        if self.namespace.is_empty() {
            "default"
        } else {
            &self.namespace
        }
    }
}

/// What loading needs besides the documents.
pub struct Settings {
    pub registry: Arc<Registry>,
    pub identity: Identity,
    /// This sidecar as others find it; handed to components.
    pub instance: Instance,
    pub environment: Environment,
    /// Secret store of documents that name none; empty for none.
    pub default_secret_store: String,
    /// `spec.components.deny` of the Configuration.
    pub denied: Vec<String>,
    pub secret_scopes: Vec<SecretScope>,
    pub metrics: Loading,
    /// Scope `dapr.runtime.processor`.
    pub log: Log,
    /// Scope `dapr.contrib`; handed to components.
    pub component_log: Log,
}

/// A component that stops the start.
#[derive(Debug, thiserror::Error)]
#[error("process component {name} error: {failure}")]
pub struct Error {
    pub name: String,
    pub failure: Wrapped,
}

/// A failure as it leaves the loader: a failed build is named twice.
/// COMPAT(pkg/runtime/processor/components.go): tests compare the doubled text.
#[derive(Debug, thiserror::Error)]
pub enum Wrapped {
    #[error("[INIT_COMPONENT_FAILURE]: initialization error occurred for {component}: {failure}")]
    Init { component: String, failure: Failure },
    #[error("{0}")]
    Plain(Failure),
}

/// Why one component is not there. `component` is its name for logs.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There is nothing to build it with.
    #[error("[CREATE_COMPONENT_FAILURE]: initialization error occurred for {component}: {cause}")]
    Create { component: String, cause: String },
    #[error("[INIT_COMPONENT_FAILURE]: initialization error occurred for {component}: {cause}")]
    Init {
        component: String,
        #[source]
        cause: Cause,
    },
    /// Not a kind of component at all.
    #[error("incorrect type {0}")]
    IncorrectType(String),
}

impl Failure {
    fn create(document: &Component, cause: String) -> Self {
        Self::Create {
            component: document.log_name(),
            cause,
        }
    }

    fn init(document: &Component, cause: Cause) -> Self {
        Self::Init {
            component: document.log_name(),
            cause,
        }
    }
}

/// The loaded components.
pub struct Components {
    live: Live,
}

impl Components {
    /// Builds everything. After a fatal failure what was built is closed again; giving up waiting drops it unclosed.
    pub async fn load(settings: &Settings, documents: Vec<Component>) -> Result<Self, Error> {
        settings
            .log
            .info("Waiting for all outstanding components to be processed…");
        let mut snapshot = Snapshot::default();
        let (first, rest): (Vec<_>, Vec<_>) = documents
            .into_iter()
            .filter(|document| settings.permits(document))
            .partition(|document| document.block() == "secretstores");
        let mut parked = Vec::new();
        for documents in [first, rest] {
            match settings.load(&mut snapshot, documents).await {
                Ok(left) => parked.extend(left),
                Err(error) => {
                    snapshot.close().await;
                    return Err(error);
                }
            }
        }
        for document in &parked {
            settings.log.warn(format_args!(
                "Component {} references a secret store that isn't loaded: {}",
                document.name,
                secrets::store_of(document, &settings.default_secret_store).unwrap_or_default()
            ));
        }
        for scope in &settings.secret_scopes {
            if snapshot.secret_store(&scope.store).is_none() {
                settings.log.warn(format_args!(
                    "Secrets configuration added for '{}', but no matching secret store was found",
                    scope.store
                ));
            }
        }
        settings.log.info("All outstanding components processed");
        Ok(Self {
            live: Live::new(snapshot),
        })
    }

    /// What the building blocks look components up in.
    pub fn live(&self) -> Live {
        self.live.clone()
    }

    /// Takes all components away from new requests and closes them. Call it when no request is under way.
    pub async fn close_all(&self) {
        self.live.replace(Snapshot::default()).close().await;
    }
}

/// Whether a Configuration's `spec.components.deny` keeps a component from being loaded.
/// COMPAT(pkg/runtime/authorizer/component.go): with a deny list, a component without version is refused as well.
pub(crate) fn is_denied(document: &Component, denied: &[String]) -> bool {
    if denied.iter().all(String::is_empty) {
        return false;
    }
    document.version.is_empty()
        || denied.iter().any(|entry| match entry.split_once('/') {
            None => *entry == document.kind,
            Some((kind, version)) => kind == document.kind && version == document.version,
        })
}

impl Settings {
    fn permits(&self, document: &Component) -> bool {
        let denied = is_denied(document, &self.denied);
        if denied {
            self.log.warn(format_args!(
                "component '{}' cannot be loaded because components of type '{}' are not allowed",
                document.name,
                document.log_name()
            ));
        }
        !denied
    }

    /// Builds what can be built, again and again as secret stores become available; answers what is left.
    async fn load(
        &self,
        snapshot: &mut Snapshot,
        documents: Vec<Component>,
    ) -> Result<Vec<Component>, Error> {
        let mut waiting = documents;
        loop {
            let (ready, parked): (Vec<_>, Vec<_>) = waiting
                .into_iter()
                .partition(|it| secrets::ready(it, &self.default_secret_store, snapshot).is_ok());
            if ready.is_empty() {
                return Ok(parked);
            }
            let known = &*snapshot;
            let built: Vec<_> = stream::iter(ready)
                .map(|document| async move {
                    let store = secrets::ready(&document, &self.default_secret_store, known)
                        .ok()
                        .flatten()
                        .map(Arc::as_ref);
                    let outcome = loader::build(&document, store, self).await;
                    (document, outcome)
                })
                .buffered(CONCURRENCY)
                .collect()
                .await;
            let mut fatal = None;
            for (document, outcome) in built {
                match outcome {
                    Ok(loaded) => {
                        self.log
                            .info(format_args!("Component loaded: {}", document.log_name()));
                        self.metrics.loaded();
                        self.metrics.initialised(&document.kind);
                        snapshot.insert(&document.kind, &document.version, loaded);
                    }
                    Err(failure) => fatal = fatal.or(self.report(&document, failure)),
                }
            }
            if let Some(error) = fatal {
                return Err(error);
            }
            waiting = parked;
        }
    }

    /// Logs and counts a failure; answers it when it is fatal.
    fn report(&self, document: &Component, failure: Failure) -> Option<Error> {
        let component = document.log_name();
        let failure = match failure {
            Failure::IncorrectType(_) => Wrapped::Plain(failure),
            Failure::Create { .. } | Failure::Init { .. } => {
                let reason = if matches!(failure, Failure::Create { .. }) {
                    "creation"
                } else {
                    "init"
                };
                self.metrics.failed(&document.kind, &document.name, reason);
                self.log
                    .error(format_args!("Failed to init component {component}: {failure}"));
                Wrapped::Init { component, failure }
            }
        };
        let error = Error {
            name: document.name.clone(),
            failure,
        };
        if document.ignore_errors {
            self.log
                .error(format_args!("Ignoring error processing component: {error}"));
            return None;
        }
        self.log.warn(format_args!(
            "Error processing component, daprd will exit gracefully: {error}"
        ));
        Some(error)
    }
}

#[cfg(test)]
mod tests;
