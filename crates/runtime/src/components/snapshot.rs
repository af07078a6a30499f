//! The components as requests see them: an immutable map that is replaced as a whole.
//!
//! INVARIANT: a request that found its component keeps it, whatever is loaded or closed meanwhile. What depends on
//! a component's metadata (key prefix, topic scopes, secret scope) is computed here once, not per request.

use crate::lock::keys::Prefix as LockPrefix;
use crate::pubsub::outbox;
use crate::pubsub::scopes::Scopes;
use crate::state::encryption;
use crate::state::keys::Prefix;
use arc_swap::ArcSwap;
use outrigger_component::binding::{InputBinding, OutputBinding};
use outrigger_component::middleware::HttpMiddleware;
use outrigger_component::pubsub::PubSub;
use outrigger_component::{configuration, lock, pubsub, secret, state};
use outrigger_resources::configuration::access::SecretScope;
use std::collections::HashMap;
use std::sync::Arc;

/// A loaded state store.
pub struct StateStore {
    pub name: String,
    pub store: Arc<dyn state::StateStore>,
    pub features: state::Features,
    /// What stands before this app's keys.
    pub prefix: Prefix,
    /// Whether transactions publish events.
    pub outbox: Option<outbox::Settings>,
    /// What values are encrypted with; `None`: they are not.
    pub encryption: Option<encryption::Keys>,
}

/// A loaded message broker.
pub struct Broker {
    pub name: String,
    pub broker: Arc<dyn PubSub>,
    pub features: pubsub::Features,
    pub scopes: Scopes,
    /// What stands before every topic at the broker: the namespace when the component's metadata mentions it, otherwise
    /// nothing.
    pub topic_prefix: String,
}

/// A loaded secret store.
pub struct SecretStore {
    pub name: String,
    pub store: Arc<dyn secret::SecretStore>,
    /// `None` allows every secret.
    pub scope: Option<SecretScope>,
}

/// A loaded configuration store.
pub struct ConfigurationStore {
    pub name: String,
    pub store: Arc<dyn configuration::ConfigurationStore>,
}

/// A loaded lock store.
pub struct LockStore {
    pub name: String,
    pub store: Arc<dyn lock::LockStore>,
    /// What stands before this app's resources.
    pub prefix: LockPrefix,
}

/// A loaded binding, with the sides that its type has and its `direction` allows.
pub struct Binding {
    pub name: String,
    pub input: Option<Arc<dyn InputBinding>>,
    pub output: Option<Arc<dyn OutputBinding>>,
    /// Where an HTTP app gets the events.
    pub route: String,
    /// Its `direction` says that it is read: the app is not asked whether it wants the events.
    pub declared_input: bool,
}

/// A loaded HTTP middleware. It does nothing unless a pipeline of the Configuration names it.
pub struct Middleware {
    pub name: String,
    /// `middleware.http.bearer`.
    pub kind: String,
    pub version: String,
    pub handler: Arc<dyn HttpMiddleware>,
}

/// A component as `GET /v1.0/metadata` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub name: String,
    /// `state.redis`.
    pub kind: String,
    pub version: String,
    pub capabilities: Vec<&'static str>,
}

/// What one document became.
#[derive(Clone)]
pub enum Loaded {
    State(Arc<StateStore>),
    Pubsub(Arc<Broker>),
    Secret(Arc<SecretStore>),
    Configuration(Arc<ConfigurationStore>),
    Lock(Arc<LockStore>),
    Binding(Arc<Binding>),
    Middleware(Arc<Middleware>),
}

/// All components at one moment.
#[derive(Default, Clone)]
pub struct Snapshot {
    state_stores: HashMap<String, Arc<StateStore>>,
    brokers: HashMap<String, Arc<Broker>>,
    secret_stores: HashMap<String, Arc<SecretStore>>,
    configuration_stores: HashMap<String, Arc<ConfigurationStore>>,
    lock_stores: HashMap<String, Arc<LockStore>>,
    bindings: HashMap<String, Arc<Binding>>,
    middlewares: HashMap<String, Arc<Middleware>>,
    /// In the order of loading.
    listed: Vec<Listed>,
}

impl Snapshot {
    /// Adds a component under its name. Names are unique: duplicates are refused when documents are read.
    pub fn insert(&mut self, kind: &str, version: &str, loaded: Loaded) {
        let capabilities = loaded.capabilities();
        let name = match loaded {
            Loaded::State(store) => {
                let name = store.name.clone();
                self.state_stores.insert(name.clone(), store);
                name
            }
            Loaded::Pubsub(broker) => {
                let name = broker.name.clone();
                self.brokers.insert(name.clone(), broker);
                name
            }
            Loaded::Secret(store) => {
                let name = store.name.clone();
                self.secret_stores.insert(name.clone(), store);
                name
            }
            Loaded::Configuration(store) => {
                let name = store.name.clone();
                self.configuration_stores.insert(name.clone(), store);
                name
            }
            Loaded::Lock(store) => {
                let name = store.name.clone();
                self.lock_stores.insert(name.clone(), store);
                name
            }
            Loaded::Binding(binding) => {
                let name = binding.name.clone();
                self.bindings.insert(name.clone(), binding);
                name
            }
            Loaded::Middleware(middleware) => {
                let name = middleware.name.clone();
                self.middlewares.insert(name.clone(), middleware);
                name
            }
        };
        self.listed.push(Listed {
            name,
            kind: kind.to_owned(),
            version: version.to_owned(),
            capabilities,
        });
    }

    pub fn state_store(&self, name: &str) -> Option<&Arc<StateStore>> {
        self.state_stores.get(name)
    }

    pub fn state_stores(&self) -> impl Iterator<Item = &Arc<StateStore>> {
        self.state_stores.values()
    }

    pub fn has_state_stores(&self) -> bool {
        !self.state_stores.is_empty()
    }

    pub fn broker(&self, name: &str) -> Option<&Arc<Broker>> {
        self.brokers.get(name)
    }

    pub fn brokers(&self) -> impl Iterator<Item = &Arc<Broker>> {
        self.brokers.values()
    }

    pub fn secret_store(&self, name: &str) -> Option<&Arc<SecretStore>> {
        self.secret_stores.get(name)
    }

    pub fn has_secret_stores(&self) -> bool {
        !self.secret_stores.is_empty()
    }

    pub fn configuration_store(&self, name: &str) -> Option<&Arc<ConfigurationStore>> {
        self.configuration_stores.get(name)
    }

    pub fn has_configuration_stores(&self) -> bool {
        !self.configuration_stores.is_empty()
    }

    pub fn lock_store(&self, name: &str) -> Option<&Arc<LockStore>> {
        self.lock_stores.get(name)
    }

    pub fn has_lock_stores(&self) -> bool {
        !self.lock_stores.is_empty()
    }

    pub fn binding(&self, name: &str) -> Option<&Arc<Binding>> {
        self.bindings.get(name)
    }

    pub fn bindings(&self) -> impl Iterator<Item = &Arc<Binding>> {
        self.bindings.values()
    }

    pub fn middleware(&self, name: &str) -> Option<&Arc<Middleware>> {
        self.middlewares.get(name)
    }

    pub fn listed(&self) -> &[Listed] {
        &self.listed
    }

    /// Gives back what the components hold, all at once.
    pub async fn close(&self) {
        let states = self.state_stores.values().map(|it| it.store.close());
        let brokers = self.brokers.values().map(|it| it.broker.close());
        let secrets = self.secret_stores.values().map(|it| it.store.close());
        let configurations = self.configuration_stores.values().map(|it| it.store.close());
        let locks = self.lock_stores.values().map(|it| it.store.close());
        let all = states
            .chain(brokers)
            .chain(secrets)
            .chain(configurations)
            .chain(locks);
        futures::future::join_all(all).await;
        futures::future::join_all(self.bindings.values().map(|it| it.close())).await;
        futures::future::join_all(self.middlewares.values().map(|it| it.handler.close())).await;
    }
}

impl Loaded {
    /// COMPAT(pkg/runtime/runtime.go): a state store that could hold actors says so.
    fn capabilities(&self) -> Vec<&'static str> {
        match self {
            Self::State(store) => {
                let mut names = store.features.names();
                if store.features.etag && store.features.transactional {
                    names.push("ACTOR");
                }
                names
            }
            Self::Pubsub(broker) => broker.features.names(),
            Self::Secret(store) => store.store.features().names(),
            Self::Configuration(_) | Self::Lock(_) => Vec::new(),
            Self::Binding(binding) => binding.capabilities(),
            Self::Middleware(_) => Vec::new(),
        }
    }

    pub async fn close(&self) {
        match self {
            Self::State(it) => it.store.close().await,
            Self::Pubsub(it) => it.broker.close().await,
            Self::Secret(it) => it.store.close().await,
            Self::Configuration(it) => it.store.close().await,
            Self::Lock(it) => it.store.close().await,
            Self::Binding(it) => it.close().await,
            Self::Middleware(it) => it.handler.close().await,
        }
    }
}

impl Binding {
    fn capabilities(&self) -> Vec<&'static str> {
        let sides = [
            self.input.as_ref().map(|_| "INPUT_BINDING"),
            self.output.as_ref().map(|_| "OUTPUT_BINDING"),
        ];
        sides.into_iter().flatten().collect()
    }

    async fn close(&self) {
        if let Some(input) = &self.input {
            input.close().await;
        }
        if let Some(output) = &self.output {
            output.close().await;
        }
    }
}

/// The snapshot that requests use now. Clones share it; reading takes neither a lock nor an allocation.
#[derive(Clone, Default)]
pub struct Live(Arc<ArcSwap<Snapshot>>);

impl Live {
    pub fn new(snapshot: Snapshot) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(snapshot)))
    }

    /// For a look-up; clone what was found and let go of the guard before the next await.
    pub fn now(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.0.load()
    }

    /// Requests that begin from here on see `snapshot`. Answers the one before.
    pub fn replace(&self, snapshot: Snapshot) -> Arc<Snapshot> {
        self.0.swap(Arc::new(snapshot))
    }
}
