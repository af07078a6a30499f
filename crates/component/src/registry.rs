//! Which component types exist: a value that is passed in, filled by each vendor's `register`.

use crate::binding::{InputBinding, OutputBinding};
use crate::configuration::ConfigurationStore;
use crate::error::{Error, Result};
use crate::lock::LockStore;
use crate::metadata::{self, Metadata};
use crate::middleware::HttpMiddleware;
use crate::pubsub::PubSub;
use crate::resolver::NameResolver;
use crate::secret::SecretStore;
use crate::setup::Setup;
use crate::state::StateStore;
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

type Build<T> = Arc<dyn Fn(Setup<Metadata>) -> BoxFuture<'static, Result<Arc<T>>> + Send + Sync>;

/// Constructors by `category.name/version`. Registering one twice panics: it is a programming error that
/// every start would show.
#[derive(Default)]
pub struct Registry {
    state: Kind<dyn StateStore>,
    pubsub: Kind<dyn PubSub>,
    secret: Kind<dyn SecretStore>,
    resolver: Kind<dyn NameResolver>,
    configuration: Kind<dyn ConfigurationStore>,
    lock: Kind<dyn LockStore>,
    input: Kind<dyn InputBinding>,
    output: Kind<dyn OutputBinding>,
    middleware: Kind<dyn HttpMiddleware>,
}

/// The constructors of one category.
pub struct Kind<T: ?Sized>(BTreeMap<(String, String), Build<T>>);

impl<T: ?Sized> Default for Kind<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: ?Sized + 'static> Kind<T> {
    fn add(&mut self, name: &str, version: &str, build: Build<T>) {
        let clash = self
            .0
            .insert((name.to_lowercase(), version.to_lowercase()), build);
        assert!(
            clash.is_none(),
            "component type {name}/{version} is registered twice"
        );
    }

    /// Builds one. `name` is the type without its category (`redis` of `state.redis`); an empty version is `v1`.
    pub async fn build(&self, name: &str, version: &str, setup: Setup<Metadata>) -> Result<Arc<T>> {
        let version = if version.is_empty() { "v1" } else { version };
        let Some(build) = self.0.get(&(name.to_lowercase(), version.to_lowercase())) else {
            return Err(Error::invalid(format!(
                "couldn't find {name}/{version}; known types are: {}",
                self.known()
            )));
        };
        build(setup).await
    }

    pub fn contains(&self, name: &str, version: &str) -> bool {
        let version = if version.is_empty() { "v1" } else { version };
        self.0
            .contains_key(&(name.to_lowercase(), version.to_lowercase()))
    }

    /// `name/version, …` in alphabetical order.
    pub fn known(&self) -> String {
        let names: Vec<String> = self
            .0
            .keys()
            .map(|(name, version)| format!("{name}/{version}"))
            .collect();
        names.join(", ")
    }
}

impl Registry {
    pub fn state<C, S, F, Fut>(&mut self, name: &str, build: F)
    where
        C: DeserializeOwned + Send,
        S: StateStore,
        F: Fn(Setup<C>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<S>> + Send + 'static,
    {
        self.state
            .add(name, "v1", erase(build, |store| store as Arc<dyn StateStore>));
    }

    pub fn pubsub<C, S, F, Fut>(&mut self, name: &str, build: F)
    where
        C: DeserializeOwned + Send,
        S: PubSub,
        F: Fn(Setup<C>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<S>> + Send + 'static,
    {
        self.pubsub
            .add(name, "v1", erase(build, |broker| broker as Arc<dyn PubSub>));
    }

    pub fn secret<C, S, F, Fut>(&mut self, name: &str, build: F)
    where
        C: DeserializeOwned + Send,
        S: SecretStore,
        F: Fn(Setup<C>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<S>> + Send + 'static,
    {
        self.secret
            .add(name, "v1", erase(build, |store| store as Arc<dyn SecretStore>));
    }

    pub fn resolver<C, S, F, Fut>(&mut self, name: &str, build: F)
    where
        C: DeserializeOwned + Send,
        S: NameResolver,
        F: Fn(Setup<C>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<S>> + Send + 'static,
    {
        self.resolver.add(
            name,
            "v1",
            erase(build, |resolver| resolver as Arc<dyn NameResolver>),
        );
    }

    pub fn configuration<C, S, F, Fut>(&mut self, name: &str, build: F)
    where
        C: DeserializeOwned + Send,
        S: ConfigurationStore,
        F: Fn(Setup<C>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<S>> + Send + 'static,
    {
        self.configuration.add(
            name,
            "v1",
            erase(build, |store| store as Arc<dyn ConfigurationStore>),
        );
    }

    pub fn lock<C, S, F, Fut>(&mut self, name: &str, build: F)
    where
        C: DeserializeOwned + Send,
        S: LockStore,
        F: Fn(Setup<C>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<S>> + Send + 'static,
    {
        self.lock
            .add(name, "v1", erase(build, |store| store as Arc<dyn LockStore>));
    }

    /// The reading side of a binding; a type may have both sides.
    pub fn input_binding<C, S, F, Fut>(&mut self, name: &str, build: F)
    where
        C: DeserializeOwned + Send,
        S: InputBinding,
        F: Fn(Setup<C>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<S>> + Send + 'static,
    {
        self.input.add(
            name,
            "v1",
            erase(build, |binding| binding as Arc<dyn InputBinding>),
        );
    }

    /// The calling side of a binding.
    pub fn output_binding<C, S, F, Fut>(&mut self, name: &str, build: F)
    where
        C: DeserializeOwned + Send,
        S: OutputBinding,
        F: Fn(Setup<C>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<S>> + Send + 'static,
    {
        self.output.add(
            name,
            "v1",
            erase(build, |binding| binding as Arc<dyn OutputBinding>),
        );
    }

    /// A middleware of HTTP; `name` as in `http.bearer`.
    pub fn middleware<C, S, F, Fut>(&mut self, name: &str, build: F)
    where
        C: DeserializeOwned + Send,
        S: HttpMiddleware,
        F: Fn(Setup<C>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<S>> + Send + 'static,
    {
        self.middleware.add(
            name,
            "v1",
            erase(build, |middleware| middleware as Arc<dyn HttpMiddleware>),
        );
    }

    pub fn state_stores(&self) -> &Kind<dyn StateStore> {
        &self.state
    }

    pub fn brokers(&self) -> &Kind<dyn PubSub> {
        &self.pubsub
    }

    pub fn secret_stores(&self) -> &Kind<dyn SecretStore> {
        &self.secret
    }

    pub fn resolvers(&self) -> &Kind<dyn NameResolver> {
        &self.resolver
    }

    pub fn configuration_stores(&self) -> &Kind<dyn ConfigurationStore> {
        &self.configuration
    }

    pub fn lock_stores(&self) -> &Kind<dyn LockStore> {
        &self.lock
    }

    pub fn input_bindings(&self) -> &Kind<dyn InputBinding> {
        &self.input
    }

    pub fn middlewares(&self) -> &Kind<dyn HttpMiddleware> {
        &self.middleware
    }

    pub fn output_bindings(&self) -> &Kind<dyn OutputBinding> {
        &self.output
    }
}

/// Wraps a vendor's typed constructor: decodes its metadata first, then builds.
fn erase<C, S, T, F, Fut>(build: F, widen: fn(Arc<S>) -> Arc<T>) -> Build<T>
where
    C: DeserializeOwned + Send,
    S: 'static,
    T: ?Sized + 'static,
    F: Fn(Setup<C>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<S>> + Send + 'static,
{
    Arc::new(move |setup| {
        let decoded = metadata::decode::<C>(&setup.metadata);
        let future = decoded.map(|config| {
            build(Setup {
                name: setup.name,
                app_id: setup.app_id,
                namespace: setup.namespace,
                config,
                metadata: setup.metadata,
                log: setup.log,
                instance: setup.instance,
            })
        });
        Box::pin(async move { future?.await.map(Arc::new).map(widen) })
    })
}
