//! What `GET /v1.0/metadata` says of a sidecar, and the values that callers may add to it.
//!
//! Everything that changes is read when it is asked for, from where it lives; nothing is pushed here later.

use crate::components::snapshot::{Listed, Live};
use crate::pubsub::active::Active;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Extended values that callers may store at most, so that memory is bounded.
const EXTENDED: usize = 1000;

/// The metadata use cases.
pub struct Metadata {
    facts: Facts,
    components: Live,
    subscriptions: Box<dyn Fn() -> Vec<Active> + Send + Sync>,
    extended: Mutex<BTreeMap<String, String>>,
}

/// What does not change while the sidecar runs.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub app_id: String,
    /// `1.18.3` or `edge`.
    pub version: String,
    pub enabled_features: Vec<String>,
    /// Names of the HTTPEndpoint documents.
    pub http_endpoints: Vec<String>,
    /// Names of the Resiliency documents.
    pub resiliencies: Vec<String>,
    pub app: AppConnection,
}

/// How the sidecar talks to its app.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppConnection {
    /// 0 when there is no app.
    pub port: u16,
    /// `http`, `grpc`, `https`, `grpcs`, `h2c`.
    pub protocol: String,
    pub channel_address: String,
    /// 0: unlimited.
    pub max_concurrency: i32,
    /// Present when the app's health is probed.
    pub health: Option<AppHealth>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppHealth {
    /// Empty for gRPC apps, which have none.
    pub path: String,
    pub interval: Duration,
    pub timeout: Duration,
    pub threshold: i32,
}

/// State of the actor runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actors {
    pub status: ActorStatus,
    pub host_ready: bool,
    pub placement: &'static str,
}

/// Numbers are those of `ActorRuntime.ActorRuntimeStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActorStatus {
    Initializing = 0,
    Disabled = 1,
    Running = 2,
}

impl ActorStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Initializing => "INITIALIZING",
            Self::Disabled => "DISABLED",
            Self::Running => "RUNNING",
        }
    }
}

/// One answer. What this version does not have is absent: scheduler addresses, workflow workers, MCP servers,
/// workflow access policies.
#[derive(Debug, Clone)]
pub struct Report {
    pub facts: Facts,
    pub components: Vec<Listed>,
    pub subscriptions: Vec<Active>,
    /// What was [put](Metadata::put), and `daprRuntimeVersion`.
    pub extended: BTreeMap<String, String>,
    pub actors: Actors,
}

/// Too many different keys were put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("extended metadata is full: at most {EXTENDED} keys")]
pub struct Full;

impl Metadata {
    /// `subscriptions` answers the subscriptions of this moment.
    pub fn new(
        facts: Facts,
        components: Live,
        subscriptions: impl Fn() -> Vec<Active> + Send + Sync + 'static,
    ) -> Self {
        Self {
            facts,
            components,
            subscriptions: Box::new(subscriptions),
            extended: Mutex::default(),
        }
    }

    pub fn report(&self) -> Report {
        let mut extended = self.extended().clone();
        extended.insert("daprRuntimeVersion".to_owned(), self.facts.version.clone());
        Report {
            facts: self.facts.clone(),
            components: self.components.now().listed().to_vec(),
            subscriptions: (self.subscriptions)(),
            extended,
            actors: Actors {
                status: ActorStatus::Disabled,
                host_ready: false,
                placement: "placement: disconnected",
            },
        }
    }

    /// Stores a value under a key, for as long as the sidecar runs. An empty key is ignored.
    pub fn put(&self, key: &str, value: &str) -> Result<(), Full> {
        if key.is_empty() {
            return Ok(());
        }
        let mut extended = self.extended();
        if extended.len() >= EXTENDED && !extended.contains_key(key) {
            return Err(Full);
        }
        extended.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    fn extended(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        self.extended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
