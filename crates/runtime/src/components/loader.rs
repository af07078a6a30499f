//! Builds one component from its document: find the constructor, resolve the metadata, build within the time allowed,
//! compute what requests need to know.
//!
//! Refused here rather than half done: kinds of components that this version does not have, and encryption keys that cannot
//! be had. Ignoring either would store plain text.

use super::secrets;
use super::snapshot::{
    Binding, Broker, ConfigurationStore, Loaded, LockStore, Middleware, SecretStore, StateStore,
};
use super::{Failure, Settings};
use crate::lock::keys::Prefix as LockPrefix;
use crate::pubsub::outbox;
use crate::pubsub::scopes::Scopes;
use crate::state::encryption::Keys;
use crate::state::keys::Prefix;
use outrigger_component::error::{Error, Kind};
use outrigger_component::metadata::Metadata;
use outrigger_component::registry;
use outrigger_component::setup::Setup;
use outrigger_resources::component::Component;
use outrigger_resources::template;
use std::sync::Arc;

/// Kinds of the reference whose building block is not here yet.
const ABSENT: [&str; 2] = ["conversation", "crypto"];

/// Builds the component. `store` is the secret store that its references name.
pub async fn build(
    document: &Component,
    store: Option<&SecretStore>,
    settings: &Settings,
) -> Result<Loaded, Failure> {
    let name = document.kind.split_once('.').map_or("", |(_, name)| name);
    match document.block() {
        "state" => {
            let kinds = settings.registry.state_stores();
            known(document, kinds, name, "state store")?;
            let (_, mut setup) = setup(document, store, settings).await?;
            let encryption = Keys::take(document, &mut setup.metadata)
                .map_err(|error| Failure::create(document, error.to_string()))?;
            if encryption.is_some() {
                settings.log.info(format_args!(
                    "Automatic encryption enabled for state store {}",
                    document.name
                ));
                settings.log.info("WARNING: Automatic state store encryption should never be used to store more than 4 billion items in the state store (including updates). Storing more items than that can cause the private key to be exposed.");
            }
            let prefix = prefix(document, &setup.metadata, settings)?;
            let outbox = outbox::Settings::read(&setup.metadata);
            let store = timed(document, kinds.build(name, &document.version, setup)).await?;
            Ok(Loaded::State(Arc::new(StateStore {
                name: document.name.clone(),
                features: store.features(),
                store,
                prefix,
                outbox,
                encryption,
            })))
        }
        "pubsub" => {
            let kinds = settings.registry.brokers();
            known(document, kinds, name, "message bus")?;
            let (namespaced, mut setup) = setup(document, store, settings).await?;
            let consumer = consumer(&setup.metadata, &settings.identity.app_id).to_owned();
            setup.metadata.insert("consumerID", consumer);
            let scopes = Scopes::parse(&setup.metadata, &settings.identity.app_id);
            let broker = timed(document, kinds.build(name, &document.version, setup)).await?;
            Ok(Loaded::Pubsub(Arc::new(Broker {
                name: document.name.clone(),
                features: broker.features(),
                broker,
                scopes,
                topic_prefix: if namespaced {
                    settings.identity.namespace_or_default().to_owned()
                } else {
                    String::new()
                },
            })))
        }
        "secretstores" => {
            let kinds = settings.registry.secret_stores();
            known(document, kinds, name, "secret store")?;
            let (_, setup) = setup(document, store, settings).await?;
            let store = timed(document, kinds.build(name, &document.version, setup)).await?;
            Ok(Loaded::Secret(Arc::new(SecretStore {
                name: document.name.clone(),
                store,
                scope: settings
                    .secret_scopes
                    .iter()
                    .find(|scope| scope.store == document.name)
                    .cloned(),
            })))
        }
        "configuration" => {
            let kinds = settings.registry.configuration_stores();
            known(document, kinds, name, "configuration store")?;
            let (_, setup) = setup(document, store, settings).await?;
            let store = timed(document, kinds.build(name, &document.version, setup)).await?;
            Ok(Loaded::Configuration(Arc::new(ConfigurationStore {
                name: document.name.clone(),
                store,
            })))
        }
        "lock" => {
            let kinds = settings.registry.lock_stores();
            known(document, kinds, name, "lock store")?;
            let (_, setup) = setup(document, store, settings).await?;
            let prefix = LockPrefix::parse(&setup.metadata, &document.name, &settings.identity.app_id)
                .map_err(|error| {
                    let message = format!("failed to save lock keyprefix: {error}");
                    Failure::init(document, Error::invalid(message))
                })?;
            let store = timed(document, kinds.build(name, &document.version, setup)).await?;
            Ok(Loaded::Lock(Arc::new(LockStore {
                name: document.name.clone(),
                store,
                prefix,
            })))
        }
        "bindings" => binding(document, name, store, settings)
            .await
            .map(|binding| Loaded::Binding(Arc::new(binding))),
        "middleware" => {
            let kinds = settings.registry.middlewares();
            known(document, kinds, name, "HTTP middleware")?;
            let (_, setup) = setup(document, store, settings).await?;
            let handler = timed(document, kinds.build(name, &document.version, setup)).await?;
            Ok(Loaded::Middleware(Arc::new(Middleware {
                name: document.name.clone(),
                kind: document.kind.clone(),
                version: document.version.clone(),
                handler,
            })))
        }
        block if ABSENT.contains(&block) => Err(Failure::create(
            document,
            format!(
                "components of type {} are not available in this version of Outrigger",
                document.kind
            ),
        )),
        _ => Err(Failure::IncorrectType(document.kind.clone())),
    }
}

/// Builds both sides of a binding, as far as its type has them and its `direction` does not leave them out.
/// COMPAT(pkg/runtime/processor/binding/binding.go).
async fn binding(
    document: &Component,
    name: &str,
    store: Option<&SecretStore>,
    settings: &Settings,
) -> Result<Binding, Failure> {
    let (inputs, outputs) = (
        settings.registry.input_bindings(),
        settings.registry.output_bindings(),
    );
    let version = &document.version;
    if !inputs.contains(name, version) && !outputs.contains(name, version) {
        let cause = format!(
            "couldn't find binding {}; known types are: input {}; output {}",
            document.log_name(),
            inputs.known(),
            outputs.known()
        );
        return Err(Failure::create(document, cause));
    }
    let (_, setup) = setup(document, store, settings).await?;
    let direction = setup.metadata.get_any_case("direction").map(str::to_lowercase);
    let declared = |side: &str| {
        direction
            .as_deref()
            .is_some_and(|sides| sides.split(',').any(|it| it.trim() == side))
    };
    let wanted = |side: &str| direction.is_none() || declared(side);
    let log = settings.log.scope("dapr.runtime.processor.binding");
    let mut binding = Binding {
        name: document.name.clone(),
        input: None,
        output: None,
        // COMPAT: this name in this case only.
        route: setup.metadata.get("route").unwrap_or(&document.name).to_owned(),
        declared_input: declared("input"),
    };
    if inputs.contains(name, version) && wanted("input") {
        let built = timed(document, inputs.build(name, version, setup.clone())).await?;
        log.info(format_args!(
            "successful init for input binding ({})",
            document.log_name()
        ));
        binding.input = Some(built);
    }
    if outputs.contains(name, version) && wanted("output") {
        let built = timed(document, outputs.build(name, version, setup)).await;
        if let (Err(_), Some(input)) = (&built, &binding.input) {
            input.close().await;
        }
        binding.output = Some(built?);
        log.info(format_args!(
            "successful init for output binding ({})",
            document.log_name()
        ));
    }
    Ok(binding)
}

fn known<T: ?Sized + 'static>(
    document: &Component,
    kinds: &registry::Kind<T>,
    name: &str,
    what: &str,
) -> Result<(), Failure> {
    if kinds.contains(name, &document.version) {
        return Ok(());
    }
    Err(Failure::create(
        document,
        format!(
            "couldn't find {what} {}/{}; known types are: {}",
            document.kind,
            document.version,
            kinds.known()
        ),
    ))
}

/// Whether the metadata mentions the namespace, and what the constructor gets.
/// The consumer group of a broker's subscriptions.
pub(crate) fn consumer<'m>(metadata: &'m Metadata, app_id: &'m str) -> &'m str {
    match metadata.get("consumerID").unwrap_or_default().trim() {
        "" => app_id,
        consumer => consumer,
    }
}

async fn setup(
    document: &Component,
    store: Option<&SecretStore>,
    settings: &Settings,
) -> Result<(bool, Setup<Metadata>), Failure> {
    let items = secrets::resolve(document, store, &settings.environment, &settings.log).await;
    let metadata =
        secrets::metadata(&items, &settings.identity).map_err(|error| Failure::init(document, error))?;
    let setup = Setup {
        name: document.name.clone(),
        app_id: settings.identity.app_id.clone(),
        namespace: settings.identity.namespace_or_default().to_owned(),
        config: Metadata::new(),
        metadata,
        log: settings.component_log.clone(),
        instance: settings.instance.clone(),
    };
    Ok((template::mentions_namespace(&items), setup))
}

fn prefix(document: &Component, metadata: &Metadata, settings: &Settings) -> Result<Prefix, Failure> {
    let identity = &settings.identity;
    Prefix::parse(metadata, &document.name, &identity.app_id, &identity.namespace).map_err(|error| {
        // COMPAT(pkg/runtime/processor/state/state.go): says lock, and prints the error with its code.
        let message =
            format!("failed to save lock keyprefix: api error: code = InvalidArgument desc = {error}");
        Failure::init(document, Error::invalid(message))
    })
}

/// Waits for a constructor no longer than the document allows. Giving up drops it, which ends its work.
async fn timed<T>(document: &Component, build: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
    match tokio::time::timeout(document.init_timeout, build).await {
        Ok(built) => built.map_err(|error| Failure::init(document, error)),
        Err(_) => Err(Failure::init(
            document,
            Error::new(
                Kind::Timeout,
                format!(
                    "init timeout for component {}: not ready within {:?}",
                    document.log_name(),
                    document.init_timeout
                ),
            ),
        )),
    }
}
