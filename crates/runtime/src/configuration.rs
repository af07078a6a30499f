//! Configuration: values that others write, read by the app and told to it when they change.
//!
//! A subscription is a task that calls the app for each change ([`Configuration::subscribe`]), or a stream that a door
//! holds open ([`Configuration::watch`]). Both have an id by which any caller of this sidecar ends them. Changes that
//! an app cannot take are logged and not repeated beyond its policy: the next read shows the value.

pub mod watch;

use crate::catalogue::common;
use crate::catalogue::configuration as catalogue;
use crate::components::snapshot::{ConfigurationStore, Live};
use crate::error::Result;
use crate::outbound;
use bytes::Bytes;
use futures::StreamExt as _;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use outrigger_channel::app::AppChannel;
use outrigger_channel::call::{Call, Status};
use outrigger_component::configuration::{Changes, Get, Item, Items};
use outrigger_component::error::Error;
use outrigger_daemon::log::Log;
use outrigger_daemon::metrics;
use outrigger_daemon::tasks::{OnExit, Spawner};
use outrigger_resiliency::policies::{Flow, Kind, Policies};
use outrigger_resiliency::policy::Outcome;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;
use watch::{Held, Watch};

/// What the building block is made of.
pub struct Parts {
    pub components: Live,
    /// `None` without an app: subscriptions that call it are refused.
    pub app: Option<Arc<dyn AppChannel>>,
    pub policies: Arc<Policies>,
    pub metrics: Arc<metrics::Component>,
    /// Scope `dapr.runtime.http`, as the reference logs what it cannot tell the app.
    pub log: Log,
    pub tasks: Spawner,
}

/// The configuration building block.
pub struct Configuration {
    parts: Parts,
    held: Arc<Held>,
}

impl Configuration {
    pub fn new(parts: Parts) -> Self {
        Self {
            parts,
            held: Arc::default(),
        }
    }

    /// The values there are; keys that are not there are left out.
    ///
    /// # Errors
    /// [`catalogue::NOT_CONFIGURED`], [`catalogue::NOT_FOUND`], [`catalogue::GET`] when the store fails.
    pub async fn get(&self, store: &str, get: &Get) -> Result<Items> {
        let store = self.store(store)?;
        self.call(&store, "get", || store.store.get(get))
            .await
            .map_err(|error| catalogue::get_failed(&get.keys, &store.name, &error).caused_by(error))
    }

    /// Calls the app for every change from now on. Answers the subscription's id.
    ///
    /// # Errors
    /// As [`Configuration::watch`], and [`common::APP_CHANNEL_NIL`] without an app.
    pub async fn subscribe(&self, store: &str, get: &Get) -> Result<String> {
        let store = self.store(store)?;
        let Some(app) = self.parts.app.clone() else {
            return Err(common::app_channel_nil(
                "app channel is not initialized. cannot subscribe to configuration updates",
            ));
        };
        let mut watch = self.begin(&store, get).await?;
        let id = watch.id().to_owned();
        let teller = Teller {
            store: store.name.clone(),
            app,
            policies: Arc::clone(&self.parts.policies),
            log: self.parts.log.clone(),
        };
        let told = async move {
            while let Some(items) = watch.next().await {
                teller.tell(watch.id(), &items).await;
            }
        };
        let name = format!("configuration subscription {id}");
        self.parts.tasks.named(name, OnExit::Log, told);
        Ok(id)
    }

    /// The changes from now on, until the stream is dropped or its id unsubscribed.
    ///
    /// # Errors
    /// [`catalogue::NOT_CONFIGURED`], [`catalogue::NOT_FOUND`], [`catalogue::SUBSCRIBE`] when the store fails or there
    /// are too many subscriptions.
    pub async fn watch(&self, store: &str, get: &Get) -> Result<Watch> {
        let store = self.store(store)?;
        self.begin(&store, get).await
    }

    /// Ends a subscription, whoever began it.
    ///
    /// # Errors
    /// [`catalogue::NOT_CONFIGURED`], [`catalogue::NOT_FOUND`], [`catalogue::UNSUBSCRIBE`] when there is none of this id.
    pub fn unsubscribe(&self, store: &str, id: &str) -> Result<()> {
        let store = self.store(store)?;
        let started = Instant::now();
        let ended = self.held.end(Some(&store.name), id);
        self.parts
            .metrics
            .configuration(&store.name, "unsubscribe", ended, started.elapsed());
        if ended {
            Ok(())
        } else {
            Err(catalogue::unsubscribe_failed(id, "subscription does not exist"))
        }
    }

    /// The same by the id alone, which is all that gRPC callers are asked for.
    ///
    /// # Errors
    /// [`catalogue::UNSUBSCRIBE`].
    pub fn unsubscribe_id(&self, id: &str) -> Result<()> {
        if self.held.end(None, id) {
            Ok(())
        } else {
            Err(catalogue::unsubscribe_failed(id, "subscription does not exist"))
        }
    }

    async fn begin(&self, store: &ConfigurationStore, get: &Get) -> Result<Watch> {
        let changes: Changes = self
            .call(store, "subscribe", || store.store.watch(get))
            .await
            .map_err(|error| catalogue::subscribe_failed(&get.keys, &store.name, &error).caused_by(error))?;
        Held::add(&self.held, &store.name, changes)
            .map_err(|full| catalogue::subscribe_failed(&get.keys, &store.name, full))
    }

    /// One counted call under the component's policy.
    async fn call<T, F>(
        &self,
        store: &ConfigurationStore,
        operation: &'static str,
        request: impl FnMut() -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let started = Instant::now();
        let policy = self
            .parts
            .policies
            .component(&store.name, Kind::Configuration, Flow::Outbound);
        let outcome = outbound::run(&policy, request).await;
        self.parts
            .metrics
            .configuration(&store.name, operation, outcome.is_ok(), started.elapsed());
        outcome
    }

    fn store(&self, name: &str) -> Result<Arc<ConfigurationStore>> {
        let components = self.parts.components.now();
        match components.configuration_store(name) {
            Some(store) => Ok(Arc::clone(store)),
            None if components.has_configuration_stores() => Err(catalogue::not_found(name)),
            None => Err(catalogue::not_configured()),
        }
    }
}

/// Tells the app of changes.
struct Teller {
    store: String,
    app: Arc<dyn AppChannel>,
    policies: Arc<Policies>,
    log: Log,
}

impl Teller {
    /// COMPAT(pkg/api/http/http.go): one call per changed key, each with all items; anything but 200 is a failure.
    async fn tell(&self, id: &str, items: &Items) {
        let body = event(id, items);
        for key in items.keys() {
            let policy = self
                .policies
                .component(&self.store, Kind::Configuration, Flow::Inbound);
            let outcome = policy.run(|_| self.call(key, body.clone())).await;
            if let Err(error) = outcome {
                self.log.error(format_args!(
                    "error sending configuration item to the app: {error}"
                ));
            }
        }
    }

    async fn call(&self, key: &str, body: Bytes) -> Result<(), Untold> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let call = Call {
            verb: Method::POST,
            method: format!("/configuration/{}/{key}", self.store),
            headers,
            body: body.into(),
            ..Call::default()
        };
        let reply = self
            .app
            .invoke(call)
            .await
            .map_err(|error| Untold(error.to_string()))?;
        match reply.status {
            Status::Http(200) | Status::Grpc { code: 0, .. } => Ok(()),
            Status::Http(status) => Err(Untold(format!(
                "error sending configuration item to application, status {status}"
            ))),
            Status::Grpc { code, message, .. } => Err(Untold(format!(
                "error sending configuration item to application, status {code}: {message}"
            ))),
        }
    }
}

/// Why the app was not told.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Untold(String);

impl Outcome for Untold {}

/// An item as JSON; empty members are left out.
#[derive(Serialize)]
pub struct Shown<'i> {
    #[serde(skip_serializing_if = "str::is_empty")]
    value: &'i str,
    #[serde(skip_serializing_if = "str::is_empty")]
    version: &'i str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<&'i str, &'i str>,
}

impl<'i> From<&'i Item> for Shown<'i> {
    fn from(item: &'i Item) -> Self {
        Self {
            value: &item.value,
            version: &item.version,
            metadata: item.metadata.iter().collect(),
        }
    }
}

/// Items as JSON has them, for the app and for doors that speak it.
pub fn shown(items: &Items) -> BTreeMap<&str, Shown<'_>> {
    items
        .iter()
        .map(|(key, item)| (key.as_str(), item.into()))
        .collect()
}

fn event(id: &str, items: &Items) -> Bytes {
    #[derive(Serialize)]
    struct Event<'i> {
        id: &'i str,
        items: BTreeMap<&'i str, Shown<'i>>,
    }
    let event = Event {
        id,
        items: shown(items),
    };
    serde_json::to_vec(&event)
        .expect("text keys and no failing parts")
        .into()
}

#[cfg(test)]
mod tests;
