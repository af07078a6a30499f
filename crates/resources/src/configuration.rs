//! `kind: Configuration`: how a sidecar behaves, from zero or more files laid over each other.
//!
//! Every field has its default, so a `Configuration` has no holes: without any file it is `Configuration::default()`.
//! Reference: `pkg/config/configuration.go`.
//!
//! Invariant: secret scopes are checked (one per store, known access words) and their lists sorted.
//! Deliberately not here: compiling access control into a lookup (runtime), reading the environment.

pub mod access;
pub mod metrics;
pub mod tracing;
pub mod workflow;

use crate::component;
use crate::yaml::node::Node;
use crate::yaml::{self, Dialect};
use access::{AccessControl, Api, SecretScope};
use metrics::Metrics;
use serde::Deserialize;
use std::collections::BTreeSet;
use tracing::Tracing;
use workflow::Workflow;

/// Features that are on unless a document turns them off.
const FEATURES_ON: [&str; 2] = ["HotReload", "WorkflowsRemoteActivityReminder"];

/// The merged configuration of one sidecar.
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration {
    /// `metadata.name`; empty without a document.
    pub name: String,
    /// `metadata.namespace`; empty without one.
    pub namespace: String,
    pub tracing: Tracing,
    pub metrics: Metrics,
    pub mtls: Mtls,
    /// At most one scope per store.
    pub secrets: Vec<SecretScope>,
    pub access_control: AccessControl,
    pub name_resolution: Option<NameResolution>,
    /// As written, with the features that are on by default added.
    pub features: Vec<Feature>,
    pub api: Api,
    /// Component types (`state.redis` or `state.redis/v1`) that may not be built.
    pub denied_components: Vec<String>,
    pub api_logging: ApiLogging,
    /// Middleware for requests to the app.
    pub app_http_pipeline: Vec<Handler>,
    /// Middleware for requests to the API.
    pub http_pipeline: Vec<Handler>,
    /// Every wasm component is confined, whatever its own metadata says.
    pub wasm_strict_sandbox: bool,
    pub workflow: Workflow,
}

impl Default for Configuration {
    fn default() -> Self {
        Document::default()
            .into_configuration()
            .expect("a document without secret scopes has none to refuse")
    }
}

/// Why there is no configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("configuration {file}: {source}")]
    Yaml { file: String, source: yaml::Error },
    /// Text of the reference.
    #[error("{0} storeName is repeated in secrets configuration")]
    RepeatedStore(String),
    /// Text of the reference.
    #[error("defaultAccess {0} can be either allow or deny")]
    DefaultAccess(String),
}

impl Configuration {
    /// Lays the files over each other in order. Each is its name (for messages) and its text, in which `$NAME` and
    /// `${NAME}` were already expanded (see [`crate::expand`]). Only the first document of a file counts.
    pub fn parse<'f>(files: impl IntoIterator<Item = (&'f str, &'f str)>) -> Result<Self, Error> {
        let mut merged = Node::null();
        let mut last = "";
        for (file, text) in files {
            let node = yaml::parse(text, Dialect::Configuration).map_err(|source| Error::Yaml {
                file: file.to_owned(),
                source,
            })?;
            merged.overlay(node);
            last = file;
        }
        let document: Document =
            yaml::decode(&merged, Dialect::Configuration).map_err(|source| Error::Yaml {
                file: last.to_owned(),
                source,
            })?;
        document.into_configuration()
    }

    /// Whether a preview feature is on.
    pub fn is_enabled(&self, feature: &str) -> bool {
        self.enabled_features().contains(feature)
    }

    /// Names of all features that are on, unknown ones included; of repeated entries the last decides.
    pub fn enabled_features(&self) -> BTreeSet<&str> {
        let mut enabled = BTreeSet::new();
        for feature in &self.features {
            if feature.enabled && !feature.name.is_empty() {
                enabled.insert(feature.name.as_str());
            } else {
                enabled.remove(feature.name.as_str());
            }
        }
        enabled
    }

    /// The scope of a secret store; `None` allows everything.
    pub fn secret_scope(&self, store: &str) -> Option<&SecretScope> {
        self.secrets.iter().find(|scope| scope.store == store)
    }
}

/// `spec.mtls`. Durations stay text: who uses them knows what to fall back to.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Mtls {
    pub enabled: bool,
    #[serde(rename = "workloadCertTTL")]
    pub workload_cert_ttl: String,
    pub allowed_clock_skew: String,
    pub sentry_address: String,
    pub control_plane_trust_domain: String,
    pub token_validators: Vec<TokenValidator>,
}

/// A further way for Sentry to check a caller.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct TokenValidator {
    pub name: String,
    pub options: serde_json::Value,
}

/// `spec.nameResolution`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NameResolution {
    /// `mdns`, `consul`, `sqlite`, …; empty: the default of the hosting mode.
    pub component: String,
    pub version: String,
    /// Free form, for the component.
    pub configuration: serde_json::Value,
}

/// One entry of `spec.features`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Feature {
    pub name: String,
    pub enabled: bool,
}

/// `spec.logging.apiLogging`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ApiLogging {
    /// The command line overrides it.
    pub enabled: bool,
    /// Route names instead of paths.
    #[serde(rename = "obfuscateURLs")]
    pub obfuscate_urls: bool,
    pub omit_health_checks: bool,
}

/// A middleware component used in a pipeline.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Handler {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub version: String,
    pub selector: Selector,
}

impl Handler {
    /// As log lines name it.
    pub fn log_name(&self) -> String {
        component::log_name(&self.name, &self.kind, &self.version)
    }
}

/// Which requests a handler is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Selector {
    pub fields: Vec<SelectorField>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SelectorField {
    pub field: String,
    pub value: String,
}

/// The document as it is nested.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Document {
    metadata: crate::disk::Header,
    spec: Spec,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    http_pipeline: Pipeline,
    app_http_pipeline: Pipeline,
    tracing: Tracing,
    mtls: Mtls,
    metric: metrics::Spec,
    metrics: metrics::Spec,
    secrets: access::Secrets,
    access_control: AccessControl,
    name_resolution: Option<NameResolution>,
    features: Vec<Feature>,
    api: Api,
    components: Components,
    logging: Logging,
    wasm: Wasm,
    workflow: workflow::Spec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Pipeline {
    handlers: Vec<Handler>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Components {
    deny: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Logging {
    api_logging: ApiLogging,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Wasm {
    strict_sandbox: bool,
}

impl Document {
    fn into_configuration(self) -> Result<Configuration, Error> {
        let Spec { mut features, .. } = self.spec;
        for name in FEATURES_ON {
            if !features.iter().any(|feature| feature.name == name) {
                features.push(Feature {
                    name: name.to_owned(),
                    enabled: true,
                });
            }
        }
        Ok(Configuration {
            name: self.metadata.name,
            namespace: self.metadata.namespace,
            tracing: self.spec.tracing,
            metrics: self.spec.metric.overlaid(self.spec.metrics),
            mtls: self.spec.mtls,
            secrets: access::checked(self.spec.secrets)?,
            access_control: self.spec.access_control,
            name_resolution: self.spec.name_resolution,
            features,
            api: self.spec.api,
            denied_components: self.spec.components.deny,
            api_logging: self.spec.logging.api_logging,
            app_http_pipeline: self.spec.app_http_pipeline.handlers,
            http_pipeline: self.spec.http_pipeline.handlers,
            wasm_strict_sandbox: self.spec.wasm.strict_sandbox,
            workflow: self.spec.workflow.into_workflow(),
        })
    }
}

#[cfg(test)]
mod tests;
