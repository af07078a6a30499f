//! `kind: Component`: which implementation to build under which name, with which properties.

use crate::go;
use crate::property::Item;
use serde::Deserialize;
use std::time::Duration;

/// How long a component may take to initialise when the document does not say.
pub const INIT_TIMEOUT: Duration = Duration::from_secs(5);

/// A component resource. Reference: `pkg/apis/components/v1alpha1`.
#[derive(Debug, Clone, PartialEq)]
pub struct Component {
    pub name: String,
    /// Empty when the document has none.
    pub namespace: String,
    /// What implements it: `state.redis`, `pubsub.in-memory`. The document calls it `type`.
    pub kind: String,
    /// `v1`; empty when the document has none.
    pub version: String,
    /// A failed initialisation is logged, not fatal.
    pub ignore_errors: bool,
    pub init_timeout: Duration,
    /// In the order written.
    pub metadata: Vec<Item>,
    /// The secret store that `secretKeyRef` names refer to; empty when the document has none.
    pub secret_store: String,
    /// App ids that may use it; empty means all.
    pub scopes: Vec<String>,
}

impl Component {
    /// As log lines and errors name it: `orders (pubsub.redis/v1)`.
    pub fn log_name(&self) -> String {
        log_name(&self.name, &self.kind, &self.version)
    }

    /// `state` of `state.redis`.
    pub fn block(&self) -> &str {
        self.kind
            .split_once('.')
            .map_or(self.kind.as_str(), |(block, _)| block)
    }

    /// The text of a property, the name in any case; the last one wins.
    pub fn property(&self, name: &str) -> Option<String> {
        let item = self
            .metadata
            .iter()
            .rev()
            .find(|item| item.name.eq_ignore_ascii_case(name))?;
        Some(item.text())
    }
}

/// `name (type)`, with `/version` behind the type where there is one.
pub fn log_name(name: &str, kind: &str, version: &str) -> String {
    if version.is_empty() {
        format!("{name} ({kind})")
    } else {
        format!("{name} ({kind}/{version})")
    }
}

impl<'de> Deserialize<'de> for Component {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Document {
            metadata,
            spec,
            auth,
            scopes,
        } = Document::deserialize(from)?;
        // COMPAT(pkg/runtime/processor/components.go): a timeout that cannot be read counts as absent.
        let init_timeout = go::duration(&spec.init_timeout).unwrap_or(INIT_TIMEOUT);
        Ok(Self {
            name: metadata.name,
            namespace: metadata.namespace,
            kind: spec.kind,
            version: spec.version,
            ignore_errors: spec.ignore_errors,
            init_timeout,
            metadata: spec.metadata,
            secret_store: auth.secret_store,
            scopes,
        })
    }
}

/// The document as it is nested.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Document {
    metadata: crate::disk::Header,
    spec: Spec,
    auth: Auth,
    scopes: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    #[serde(rename = "type")]
    kind: String,
    version: String,
    ignore_errors: bool,
    metadata: Vec<Item>,
    init_timeout: String,
}

/// `auth` of a component or endpoint.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Auth {
    pub(crate) secret_store: String,
}
