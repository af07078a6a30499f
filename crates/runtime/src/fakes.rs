//! Hand-written stand-ins for tests of this crate: a log that can be read, a registry of scripted components.

use crate::components::Settings;
use crate::components::secrets::Environment;
use crate::components::snapshot::Live;
use crate::components::{Components, Error, Identity};
use crate::pubsub::{Parts, Pubsub};
use crate::state::State;
use outrigger_component::Component as _;
use outrigger_component::binding::{Failed, InputBinding, Invoke, Output, OutputBinding, Reading};
use outrigger_component::error::{Error as Cause, Kind, Result};
use outrigger_component::metadata::Metadata;
use outrigger_component::middleware::{self, HttpMiddleware, Next};
use outrigger_component::pubsub::{self, Outgoing, PubSub, Subscribe, Subscription};
use outrigger_component::registry::Registry;
use outrigger_component::resolver::Instance;
use outrigger_component::secret::{self, Secret, SecretStore};
use outrigger_component::setup::Setup;
use outrigger_component::state::{self, Concurrency, Delete, Get, Item, Set, StateStore, Write};
use outrigger_daemon::drain;
use outrigger_daemon::log::Log;
use outrigger_daemon::metrics::{self, Loading};
use outrigger_daemon::tasks::Tasks;
use outrigger_daemon::trace::Tracer;
use outrigger_resiliency::policies::Policies;
use outrigger_resources::component::Component;
use outrigger_resources::configuration::access::SecretScope;
use outrigger_resources::resiliency::Resiliency;
use outrigger_testkit::log::{Lines, captured};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What happened in one test.
pub(crate) struct Bench {
    pub(crate) log: Log,
    lines: Lines,
    pub(crate) registry: metrics::Registry,
    /// What components did: `built a`, `closed a`, `get shop||k`, …
    pub(crate) journal: Journal,
}

#[derive(Clone, Default)]
pub(crate) struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    pub(crate) fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        let (log, lines) = captured();
        Self {
            log,
            lines,
            registry: metrics::Registry::new(metrics::Settings::sidecar("shop")).unwrap(),
            journal: Journal::default(),
        }
    }

    /// Everything logged so far.
    pub(crate) fn logged(&self) -> String {
        self.lines.text()
    }

    /// Settings with `state.fake`, `pubsub.fake`, `secretstores.fake` and `bindings.fake`.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            registry: Arc::new(registry(&self.journal)),
            identity: Identity {
                app_id: "shop".to_owned(),
                namespace: String::new(),
                pod: String::new(),
            },
            instance: Instance {
                app_id: "shop".to_owned(),
                namespace: "default".to_owned(),
                host: "127.0.0.1".to_owned(),
                near_host: "127.0.0.1".to_owned(),
                internal_port: 1,
                http_port: 2,
                grpc_port: 3,
            },
            environment: Environment {
                lookup: Arc::new(|name| (name == "COLOUR").then(|| "red".to_owned())),
                allowed: String::new(),
            },
            default_secret_store: String::new(),
            denied: Vec::new(),
            secret_scopes: Vec::new(),
            metrics: Loading::new(&self.registry),
            log: self.log.clone(),
            component_log: self.log.clone(),
        }
    }

    pub(crate) fn component_metrics(&self) -> Arc<metrics::Component> {
        Arc::new(metrics::Component::new(&self.registry, ""))
    }

    /// The building block over components without outbox.
    pub(crate) fn state(&self, components: Live, retries: u32) -> State {
        let (policies, metrics) = (policies(retries), self.component_metrics());
        let pubsub = Pubsub::new(Parts {
            app_id: "shop".to_owned(),
            namespace: "ns".to_owned(),
            components: components.clone(),
            app: None,
            declared: Vec::new(),
            ask_app: false,
            policies: Arc::clone(&policies),
            metrics: Arc::clone(&metrics),
            tracer: Tracer::off(),
            log: self.log.clone(),
            tasks: Tasks::new(&self.log, drain::channel().0).spawner(),
        })
        .unwrap();
        State::new(components, policies, metrics, pubsub.outbox())
    }
}

/// A document: `kind` as `state.fake`, properties as given.
pub(crate) fn document(name: &str, kind: &str, properties: &[(&str, &str)]) -> Component {
    let metadata: Vec<_> = properties
        .iter()
        .map(|(name, value)| serde_json::json!({"name": name, "value": value}))
        .collect();
    serde_json::from_value(serde_json::json!({
        "metadata": {"name": name},
        "spec": {"type": kind, "version": "v1", "metadata": metadata},
    }))
    .unwrap()
}

pub(crate) async fn load(
    settings: &Settings,
    documents: Vec<Component>,
) -> std::result::Result<Components, Error> {
    Components::load(settings, documents).await
}

/// Policies under which every component call is repeated that often, without a pause.
pub(crate) fn policies(retries: u32) -> Arc<Policies> {
    let document: Resiliency = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "test"},
        "spec": {"policies": {"retries": {
            "DefaultRetryPolicy": {"policy": "constant", "duration": "0s", "maxRetries": retries},
        }}},
    }))
    .unwrap();
    Arc::new(outrigger_resiliency::load::load([&document], Arc::new(())))
}

pub(crate) fn scope(store: &str, default_access: &str, allowed: &[&str], denied: &[&str]) -> SecretScope {
    let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    SecretScope {
        default_access: default_access.to_owned(),
        store: store.to_owned(),
        allowed: list(allowed),
        denied: list(denied),
    }
}

fn registry(journal: &Journal) -> Registry {
    let mut registry = Registry::default();
    let of = journal.clone();
    registry.state("fake", move |setup: Setup<Config>| fake(setup, of.clone()));
    let of = journal.clone();
    registry.pubsub("fake", move |setup: Setup<Config>| fake(setup, of.clone()));
    let of = journal.clone();
    registry.secret("fake", move |setup: Setup<Config>| fake(setup, of.clone()));
    let of = journal.clone();
    registry.middleware("http.fake", move |setup: Setup<Config>| fake(setup, of.clone()));
    let of = journal.clone();
    registry.input_binding("fake", move |setup: Setup<Config>| fake(setup, of.clone()));
    let of = journal.clone();
    registry.output_binding("fake", move |setup: Setup<Config>| fake(setup, of.clone()));
    registry
}

/// How a fake behaves, from its metadata.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Config {
    /// The constructor fails with this sentence.
    #[serde(default)]
    fail: String,
    /// Seconds that the constructor takes.
    #[serde(default)]
    slow: u64,
    #[serde(default)]
    plain: bool,
    #[serde(default)]
    max: Option<usize>,
}

async fn fake(setup: Setup<Config>, journal: Journal) -> Result<Fake> {
    tokio::time::sleep(Duration::from_secs(setup.config.slow)).await;
    if !setup.config.fail.is_empty() {
        return Err(Cause::invalid(setup.config.fail));
    }
    let seen: Vec<String> = ["colour", "password", "consumerID"]
        .into_iter()
        .filter_map(|name| Some(format!(" {name}={}", setup.metadata.get(name)?)))
        .collect();
    journal.note(format!("built {}{}", setup.name, seen.concat()));
    Ok(Fake {
        name: setup.name,
        plain: setup.config.plain,
        max: setup.config.max,
        values: Mutex::default(),
        journal,
    })
}

/// A component of every kind. Keys steer it: `…broken` fails, `…flaky` fails the first time, `…mismatch` and
/// `…invalid` fail on their entity tag.
pub(crate) struct Fake {
    name: String,
    plain: bool,
    max: Option<usize>,
    values: Mutex<BTreeMap<String, Item>>,
    journal: Journal,
}

impl Fake {
    fn meet(&self, operation: &str, key: &str) -> Result<()> {
        self.journal.note(format!("{operation} {key}"));
        let before = |what: &str| {
            self.journal
                .0
                .lock()
                .unwrap()
                .iter()
                .filter(|line| *line == what)
                .count()
        };
        match key {
            _ if key.ends_with("broken") => Err(Cause::new(Kind::Unavailable, "store is down")),
            _ if key.ends_with("flaky") && before(&format!("{operation} {key}")) < 2 => {
                Err(Cause::new(Kind::Unavailable, "try again"))
            }
            _ if key.ends_with("mismatch") => Err(Cause::new(Kind::EtagMismatch, "tag 1 is stored")),
            _ if key.ends_with("invalid") => {
                Err(Cause::new(Kind::EtagInvalid, "invalid etag value: not a number"))
            }
            _ => Ok(()),
        }
    }
}

#[async_trait::async_trait]
impl outrigger_component::Component for Fake {
    async fn close(&self) {
        self.journal.note(format!("closed {}", self.name));
    }
}

#[async_trait::async_trait]
impl StateStore for Fake {
    fn features(&self) -> state::Features {
        state::Features {
            etag: !self.plain,
            transactional: !self.plain,
            max_transaction: self.max,
            ..state::Features::default()
        }
    }

    async fn get(&self, get: &Get) -> Result<Option<Item>> {
        self.meet("get", &get.key)?;
        Ok(self.values.lock().unwrap().get(&get.key).cloned())
    }

    async fn set(&self, set: Set) -> Result<()> {
        self.meet("set", &set.key)?;
        let mut values = self.values.lock().unwrap();
        if set.concurrency == Concurrency::FirstWrite && values.contains_key(&set.key) {
            return Err(Cause::new(Kind::EtagMismatch, "key exists"));
        }
        values.insert(
            set.key,
            Item {
                value: set.value,
                etag: Some("1".to_owned()),
                ..Item::default()
            },
        );
        Ok(())
    }

    async fn delete(&self, delete: Delete) -> Result<()> {
        self.meet("delete", &delete.key)?;
        self.values.lock().unwrap().remove(&delete.key);
        Ok(())
    }

    async fn transact(&self, writes: Vec<Write>, _metadata: &Metadata) -> Result<()> {
        for write in writes {
            match write {
                Write::Set(set) => self.set(set).await?,
                Write::Delete(delete) => self.delete(delete).await?,
            }
        }
        Ok(())
    }
}

#[async_trait::async_trait]
impl PubSub for Fake {
    fn features(&self) -> pubsub::Features {
        pubsub::Features {
            subscribe_wildcards: true,
            ..pubsub::Features::default()
        }
    }

    async fn publish(&self, _message: Outgoing) -> Result<()> {
        Err(Cause::unsupported("publish"))
    }

    async fn subscribe(&self, _subscribe: Subscribe) -> Result<Subscription> {
        Err(Cause::unsupported("subscribe"))
    }
}

#[async_trait::async_trait]
impl SecretStore for Fake {
    fn features(&self) -> secret::Features {
        secret::Features {
            multiple_key_values_per_secret: true,
        }
    }

    async fn get(&self, name: &str, metadata: &Metadata) -> Result<Secret> {
        self.ping().await?;
        self.meet("secret", name)?;
        let value = metadata
            .get("version")
            .map_or_else(|| format!("{name}-value"), str::to_owned);
        Ok(Secret(BTreeMap::from([(name.to_owned(), value)])))
    }

    async fn all(&self, metadata: &Metadata) -> Result<BTreeMap<String, Secret>> {
        self.meet("secrets", metadata.get("from").unwrap_or_default())?;
        let mut all = BTreeMap::new();
        for name in ["a", "b", "c"] {
            all.insert(name.to_owned(), SecretStore::get(self, name, metadata).await?);
        }
        Ok(all)
    }
}

#[async_trait::async_trait]
impl InputBinding for Fake {
    async fn read(&self) -> Result<Reading> {
        Err(Cause::unsupported("read"))
    }
}

#[async_trait::async_trait]
impl OutputBinding for Fake {
    fn operations(&self) -> &[&'static str] {
        &[]
    }

    async fn invoke(&self, _invoke: Invoke) -> Result<Option<Output>, Failed> {
        Err(Cause::unsupported("invoke").into())
    }
}

#[async_trait::async_trait]
impl HttpMiddleware for Fake {
    async fn handle(&self, request: middleware::Request, next: Next<'_>) -> middleware::Response {
        next.serve(request).await
    }
}
