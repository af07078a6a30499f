//! `kind: Resiliency`: named timeouts, retries and circuit breakers, and what they are applied to. Text as written;
//! the resiliency crate gives it meaning and reports what it cannot read.

use serde::Deserialize;
use std::collections::BTreeMap;

/// Reference: `pkg/apis/resiliency/v1alpha1`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resiliency {
    pub name: String,
    /// Empty when the document has none.
    pub namespace: String,
    pub policies: Policies,
    pub targets: Targets,
    /// App ids it is for; empty means all.
    pub scopes: Vec<String>,
}

/// Policies by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Policies {
    /// Durations.
    pub timeouts: BTreeMap<String, String>,
    pub retries: BTreeMap<String, Retry>,
    pub circuit_breakers: BTreeMap<String, CircuitBreaker>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Retry {
    /// `constant` or `exponential`.
    pub policy: String,
    pub duration: String,
    pub max_interval: String,
    /// Negative: without end.
    pub max_retries: Option<i64>,
    pub matching: Option<Matching>,
}

/// Status codes that are retried: `429,500-599`. Empty: all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Matching {
    #[serde(rename = "httpStatusCodes")]
    pub http: String,
    #[serde(rename = "gRPCStatusCodes")]
    pub grpc: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CircuitBreaker {
    /// Let through while half-open; zero: the default.
    pub max_requests: i64,
    pub interval: String,
    pub timeout: String,
    /// A CEL expression over the counts; empty: the default.
    pub trip: String,
}

/// What policies are applied to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Targets {
    /// By app id or HTTP endpoint.
    pub apps: BTreeMap<String, App>,
    /// By actor type.
    pub actors: BTreeMap<String, Actor>,
    /// By component name.
    pub components: BTreeMap<String, Component>,
}

/// Names of policies; empty: none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Names {
    pub timeout: String,
    pub retry: String,
    pub circuit_breaker: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct App {
    pub timeout: String,
    pub retry: String,
    pub circuit_breaker: String,
    /// Breakers kept, one per endpoint; zero: the default.
    pub circuit_breaker_cache_size: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Actor {
    pub timeout: String,
    pub retry: String,
    pub circuit_breaker: String,
    /// `type`, `id` or `both`.
    pub circuit_breaker_scope: String,
    /// Breakers kept; zero: the default.
    pub circuit_breaker_cache_size: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Component {
    pub inbound: Names,
    pub outbound: Names,
}

impl<'de> Deserialize<'de> for Resiliency {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Document {
            metadata,
            spec,
            scopes,
        } = Document::deserialize(from)?;
        Ok(Self {
            name: metadata.name,
            namespace: metadata.namespace,
            policies: spec.policies,
            targets: spec.targets,
            scopes,
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Document {
    metadata: crate::disk::Header,
    spec: Spec,
    scopes: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Spec {
    policies: Policies,
    targets: Targets,
}
