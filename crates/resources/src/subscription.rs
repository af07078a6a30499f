//! `kind: Subscription`, both versions as one: which topic goes to which route of the app.

use serde::Deserialize;
use std::collections::BTreeMap;

/// A declared subscription. Reference: `pkg/apis/subscriptions/v2alpha1`; a `v1alpha1` document is read as one whose
/// only route is the default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subscription {
    pub name: String,
    /// Empty when the document has none.
    pub namespace: String,
    /// Name of the pub/sub component.
    pub pubsub: String,
    pub topic: String,
    pub metadata: BTreeMap<String, String>,
    pub routes: Routes,
    /// Empty: undeliverable messages are dropped.
    pub dead_letter_topic: String,
    pub bulk: Bulk,
    /// App ids it is for; empty means all.
    pub scopes: Vec<String>,
}

/// Tested in order; the first match decides, otherwise `default` if there is one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Routes {
    pub rules: Vec<Rule>,
    /// Empty: no default.
    pub default: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Rule {
    /// A CEL expression over `event`; empty matches everything.
    #[serde(rename = "match")]
    pub matches: String,
    pub path: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Bulk {
    pub enabled: bool,
    /// Zero: the component's default.
    #[serde(rename = "maxMessagesCount")]
    pub max_messages: i32,
    /// Milliseconds. Zero: the component's default.
    #[serde(rename = "maxAwaitDurationMs")]
    pub max_await_ms: i32,
}

impl<'de> Deserialize<'de> for Subscription {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Document {
            api_version,
            metadata,
            spec,
            scopes,
        } = Document::deserialize(from)?;
        let routes = if api_version == V1 {
            Routes {
                rules: Vec::new(),
                default: spec.route,
            }
        } else {
            spec.routes
        };
        Ok(Self {
            name: metadata.name,
            namespace: metadata.namespace,
            pubsub: spec.pubsubname,
            topic: spec.topic,
            metadata: spec.metadata,
            routes,
            dead_letter_topic: spec.dead_letter_topic,
            bulk: spec.bulk_subscribe,
            scopes,
        })
    }
}

/// `apiVersion` of the older form.
pub const V1: &str = "dapr.io/v1alpha1";
/// `apiVersion` of the newer form.
pub const V2: &str = "dapr.io/v2alpha1";

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Document {
    api_version: String,
    metadata: crate::disk::Header,
    spec: Spec,
    scopes: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    pubsubname: String,
    topic: String,
    metadata: BTreeMap<String, String>,
    routes: Routes,
    route: String,
    dead_letter_topic: String,
    bulk_subscribe: Bulk,
}
