//! What `GET /v1.0/metadata` says of a sidecar, and the values that callers may add to it.
//!
//! Everything that changes is read when it is asked for, from where it lives; nothing is pushed here later.

use crate::catalogue::common;
use crate::components::snapshot::{Listed, Live};
use crate::error::Result;
use crate::pubsub::active::{Active, Lists};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Extended values that callers may store at most, so that memory is bounded.
const EXTENDED: usize = 1000;

/// The metadata use cases.
pub struct Metadata {
    facts: Arc<Facts>,
    components: Live,
    subscriptions: watch::Receiver<Lists>,
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
    pub facts: Arc<Facts>,
    pub components: Vec<Listed>,
    pub subscriptions: Vec<Active>,
    /// What was [put](Metadata::put), and `daprRuntimeVersion`.
    pub extended: BTreeMap<String, String>,
    pub actors: Actors,
}

impl Metadata {
    /// `subscriptions` is [`Pubsub::changes`](crate::pubsub::Pubsub::changes).
    pub fn new(facts: Facts, components: Live, subscriptions: watch::Receiver<Lists>) -> Self {
        Self {
            facts: Arc::new(facts),
            components,
            subscriptions,
            extended: Mutex::default(),
        }
    }

    pub fn report(&self) -> Report {
        let mut extended = self.extended().clone();
        extended.insert("daprRuntimeVersion".to_owned(), self.facts.version.clone());
        Report {
            facts: Arc::clone(&self.facts),
            components: self.components.now().listed().to_vec(),
            subscriptions: self.subscriptions.borrow().all().cloned().collect(),
            extended,
            actors: Actors {
                status: ActorStatus::Disabled,
                host_ready: false,
                placement: "placement: disconnected",
            },
        }
    }

    /// Stores a value under a key, for as long as the sidecar runs. An empty key is ignored.
    ///
    /// # Errors
    /// [`common::BAD_REQUEST`] when there are too many keys already.
    pub fn put(&self, key: &str, value: &str) -> Result<()> {
        if key.is_empty() {
            return Ok(());
        }
        let mut extended = self.extended();
        if extended.len() >= EXTENDED && !extended.contains_key(key) {
            return Err(common::bad_request(format_args!(
                "extended metadata is full: at most {EXTENDED} keys"
            )));
        }
        extended.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    fn extended(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.extended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{ActorStatus, EXTENDED, Facts, Metadata};
    use crate::fakes::{Bench, document, load};
    use crate::pubsub::active::Lists;
    use tokio::sync::watch;

    #[tokio::test]
    async fn reports_what_is_there() {
        let bench = Bench::new();
        let documents = vec![
            document("s", "state.fake", &[]),
            document("p", "pubsub.fake", &[]),
        ];
        let components = load(&bench.settings(), documents).await.unwrap();
        let (_lists, subscriptions) = watch::channel(Lists::default());
        let facts = Facts {
            app_id: "shop".to_owned(),
            version: "edge".to_owned(),
            ..Facts::default()
        };
        let metadata = Metadata::new(facts, components.live(), subscriptions);
        metadata.put("cliPID", "42").unwrap();
        metadata.put("cliPID", "43").unwrap();
        metadata.put("", "nothing").unwrap();

        let report = metadata.report();
        let names: Vec<_> = report.components.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["s", "p"]);
        let extended: Vec<_> = report.extended.into_iter().collect();
        assert_eq!(
            extended,
            [
                ("cliPID".to_owned(), "43".to_owned()),
                ("daprRuntimeVersion".to_owned(), "edge".to_owned())
            ]
        );
        assert_eq!(report.actors.status, ActorStatus::Disabled);
        assert!(report.subscriptions.is_empty());

        components.close_all().await;
        assert!(metadata.report().components.is_empty());
    }

    #[tokio::test]
    async fn extended_values_are_bounded() {
        let bench = Bench::new();
        let components = load(&bench.settings(), Vec::new()).await.unwrap();
        let (_lists, subscriptions) = watch::channel(Lists::default());
        let metadata = Metadata::new(Facts::default(), components.live(), subscriptions);
        for number in 0..EXTENDED {
            metadata.put(&format!("k{number}"), "v").unwrap();
        }
        let error = metadata.put("one more", "v").unwrap_err();
        assert_eq!(
            error.message,
            "invalid request: extended metadata is full: at most 1000 keys"
        );
        metadata.put("k0", "changed").unwrap();
        assert_eq!(metadata.report().extended["k0"], "changed");
    }
}
