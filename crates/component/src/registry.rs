//! Which component types exist: a value that is passed in, filled by each vendor's `register`.
//!
//! A name is registered as `redis`, or with a version other than `v1` as `postgresql/v2`. What a vendor adds with
//! [`Entry::options`] is what users may write under `metadata`: other names are warned of, and the documentation of the
//! component is made of it.

use crate::binding::{InputBinding, OutputBinding};
use crate::configuration::ConfigurationStore;
use crate::error::{Error, Result};
use crate::lock::LockStore;
use crate::metadata::{self, Metadata};
use crate::middleware::HttpMiddleware;
use crate::options::{self, Opt, Tables};
use crate::pubsub::PubSub;
use crate::resolver::NameResolver;
use crate::secret::SecretStore;
use crate::setup::Setup;
use crate::state::StateStore;
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;

type Build<T> = Arc<dyn Fn(Setup<Metadata>) -> BoxFuture<'static, Result<Arc<T>>> + Send + Sync>;

/// The constructors of one category, by name and version.
pub struct Kind<T: ?Sized>(BTreeMap<(String, String), Known<T>>);

struct Known<T: ?Sized> {
    build: Build<T>,
    options: Option<Tables>,
    names: fn() -> Vec<&'static str>,
    /// The name that it was registered with first.
    of: Option<String>,
}

/// A type that was just registered, for saying more of it.
pub struct Entry<'a, T: ?Sized> {
    kind: &'a mut Kind<T>,
    key: (String, String),
}

/// A component type, for people.
#[derive(Debug, Clone)]
pub struct Type {
    /// `state`, `pubsub`, `bindings`, …
    pub category: &'static str,
    /// Without the category: `redis`.
    pub name: String,
    pub version: String,
    /// What its vendor says of its metadata; `None` when it takes any name.
    pub options: Option<Tables>,
    /// The names that are decoded; each should be in a table.
    pub names: Vec<&'static str>,
    /// The full name of the type of which this is only another name.
    pub alias_of: Option<String>,
    /// What the runtime reads of the metadata of all components of the category.
    pub common: &'static [Opt],
}

impl Type {
    /// `state.redis`.
    pub fn full(&self) -> String {
        format!("{}.{}", self.category, self.name)
    }

    /// All that can be written: the vendor's first, then what the runtime reads and the vendor does not say better.
    pub fn all_options(&self) -> impl Iterator<Item = &'static Opt> {
        let own = self.options.unwrap_or_default();
        let told = move |name: &str| own.iter().any(|table| table.iter().any(|known| known.is(name)));
        let common = self.common.iter().filter(move |common| !told(common.name));
        own.iter().flat_map(|table| table.iter()).chain(common)
    }
}

impl<T: ?Sized> Default for Kind<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: ?Sized + 'static> Kind<T> {
    fn add(&mut self, name: &str, build: Build<T>, names: fn() -> Vec<&'static str>) -> Entry<'_, T> {
        let (name, version) = name.split_once('/').unwrap_or((name, "v1"));
        let key = (name.to_lowercase(), version.to_lowercase());
        let known = Known {
            build,
            options: None,
            names,
            of: None,
        };
        self.insert(key.clone(), known);
        Entry { kind: self, key }
    }

    fn insert(&mut self, key: (String, String), known: Known<T>) {
        let (name, version) = &key;
        assert!(
            !self.0.contains_key(&key),
            "component type {name}/{version} is registered twice"
        );
        self.0.insert(key, known);
    }

    /// Builds one. `name` is the type without its category (`redis` of `state.redis`); an empty version is `v1`.
    ///
    /// # Errors
    /// `Invalid` for a type that is not there or metadata of the wrong form; whatever building it fails with.
    pub async fn build(&self, name: &str, version: &str, setup: Setup<Metadata>) -> Result<Arc<T>> {
        let Some(known) = self.find(name, version) else {
            let version = if version.is_empty() { "v1" } else { version };
            return Err(Error::invalid(format!(
                "couldn't find {name}/{version}; known types are: {}",
                self.known()
            )));
        };
        if let Some(tables) = known.options {
            for unknown in options::unknown(tables, &setup.metadata) {
                setup.log.warn(format_args!(
                    "component {}: metadata {unknown:?} is not known to {name} and has no effect",
                    setup.name
                ));
            }
        }
        (known.build)(setup).await
    }

    pub fn contains(&self, name: &str, version: &str) -> bool {
        self.find(name, version).is_some()
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

    fn find(&self, name: &str, version: &str) -> Option<&Known<T>> {
        let version = if version.is_empty() { "v1" } else { version };
        self.0.get(&(name.to_lowercase(), version.to_lowercase()))
    }

    fn types(&self, category: &'static str) -> impl Iterator<Item = Type> {
        self.0.iter().map(move |((name, version), known)| Type {
            category,
            name: name.clone(),
            version: version.clone(),
            options: known.options,
            names: (known.names)(),
            alias_of: known.of.as_ref().map(|of| format!("{category}.{of}")),
            common: options::common(category),
        })
    }
}

impl<T: ?Sized + 'static> Entry<'_, T> {
    /// What users can write under `metadata`, beside what the runtime reads itself ([`options::common`]).
    pub fn options(self, tables: Tables) -> Self {
        if let Some(known) = self.kind.0.get_mut(&self.key) {
            known.options = Some(tables);
        }
        self
    }

    /// The same type under another name, with the options said so far.
    ///
    /// # Panics
    /// When the name is taken.
    pub fn also(self, name: &str) -> Self {
        if let Some(known) = self.kind.0.get(&self.key) {
            let copy = Known {
                build: known.build.clone(),
                options: known.options,
                names: known.names,
                of: Some(self.key.0.clone()),
            };
            self.kind.insert((name.to_lowercase(), self.key.1.clone()), copy);
        }
        self
    }
}

/// One line per category: how vendors register, how the runtime finds the constructors, the trait, and what users write
/// before the name.
macro_rules! categories {
    ($($(#[$doc:meta])* $register:ident, $all:ident: $seam:ident, $category:literal;)*) => {
        /// Constructors by `category.name/version`. Registering one twice panics: it is a programming error that
        /// every start would show.
        #[derive(Default)]
        pub struct Registry {
            $($all: Kind<dyn $seam>,)*
        }

        impl Registry {
            $(
                $(#[$doc])*
                pub fn $register<C, S, F, Fut>(&mut self, name: &str, build: F) -> Entry<'_, dyn $seam>
                where
                    C: DeserializeOwned + Send,
                    S: $seam,
                    F: Fn(Setup<C>) -> Fut + Send + Sync + 'static,
                    Fut: Future<Output = Result<S>> + Send + 'static,
                {
                    let build = erase(build, |built| built as Arc<dyn $seam>);
                    self.$all.add(name, build, metadata::names::<C>)
                }

                pub fn $all(&self) -> &Kind<dyn $seam> {
                    &self.$all
                }
            )*

            /// All types, category by category.
            pub fn types(&self) -> Vec<Type> {
                let mut types = Vec::new();
                $(types.extend(self.$all.types($category));)*
                // A binding with both sides is one type.
                let key = |of: &Type| (of.category, of.name.clone(), of.version.clone());
                let mut seen = BTreeSet::new();
                types.retain(|of| seen.insert(key(of)));
                types
            }
        }
    };
}

categories! {
    state, state_stores: StateStore, "state";
    pubsub, brokers: PubSub, "pubsub";
    /// The reading side of a binding; a type may have both sides.
    input_binding, input_bindings: InputBinding, "bindings";
    /// The calling side of a binding.
    output_binding, output_bindings: OutputBinding, "bindings";
    configuration, configuration_stores: ConfigurationStore, "configuration";
    lock, lock_stores: LockStore, "lock";
    secret, secret_stores: SecretStore, "secretstores";
    resolver, resolvers: NameResolver, "nameresolution";
    /// A middleware of HTTP; `name` as in `http.bearer`.
    middleware, middlewares: HttpMiddleware, "middleware";
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
