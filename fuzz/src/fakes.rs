//! One stand-in for every seam: a store that keeps, a broker that delivers what it is told to, an app that takes events
//! as a gRPC app would and echoes calls.

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use http::{Request, Response};
use outrigger_channel::app::{AppChannel, Outcome, Subscription as Declared, TopicEvent, grpc};
use outrigger_channel::body::Body;
use outrigger_channel::call::{Call, Reply};
use outrigger_channel::error::Error as ChannelError;
use outrigger_channel::peer::PeerChannel;
use outrigger_component::Component;
use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::metadata::Metadata;
use outrigger_component::pubsub::{
    self, Delivery, Entry, Failed, Incoming, Outgoing, PubSub, Settle, Subscribe, Subscription,
};
use outrigger_component::resolver::{Endpoint, NameResolver, Target};
use outrigger_component::secret::{self, Secret, SecretStore};
use outrigger_component::state::{self, Delete, Get, Item, Set, StateStore, Write};
use outrigger_daemon::trace::Context;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, watch};

/// What the fakes saw, and what they hold.
#[derive(Default)]
pub struct Shared {
    published: Mutex<Vec<Outgoing>>,
    events: Mutex<Vec<TopicEvent>>,
    values: Mutex<BTreeMap<String, Bytes>>,
    topics: Mutex<BTreeMap<String, mpsc::UnboundedSender<Incoming>>>,
    subscribed: watch::Sender<usize>,
    settled: watch::Sender<Option<pubsub::Outcome>>,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// What the broker was given since the last call, in order.
    pub fn published(&self) -> Vec<Outgoing> {
        std::mem::take(&mut *lock(&self.published))
    }

    /// What the app was given since the last call.
    pub fn events(&self) -> Vec<TopicEvent> {
        std::mem::take(&mut *lock(&self.events))
    }

    /// Keys as the store has them.
    pub fn keys(&self) -> Vec<String> {
        lock(&self.values).keys().cloned().collect()
    }

    /// Lets the broker deliver to the subscription of `topic`, and waits for the outcome.
    pub async fn deliver(&self, topic: &str, message: Incoming) -> pubsub::Outcome {
        let mut subscribed = self.subscribed.subscribe();
        let line = loop {
            if let Some(line) = lock(&self.topics).get(topic) {
                break line.clone();
            }
            subscribed.changed().await.expect("we hold the sender");
        };
        self.settled.send_replace(None);
        line.send(message).expect("the subscription ended");
        let mut settled = self.settled.subscribe();
        let outcome = *settled
            .wait_for(Option::is_some)
            .await
            .expect("we hold the sender");
        outcome.expect("awaited")
    }

    pub(crate) fn forget(&self) {
        self.published();
        self.events();
        lock(&self.values).clear();
    }
}

pub(crate) struct Fake(pub(crate) Arc<Shared>);

#[async_trait::async_trait]
impl Component for Fake {}

#[async_trait::async_trait]
impl StateStore for Fake {
    fn features(&self) -> state::Features {
        state::Features {
            etag: true,
            transactional: true,
            ..state::Features::default()
        }
    }

    async fn get(&self, get: &Get) -> Result<Option<Item>> {
        Ok(lock(&self.0.values).get(&get.key).map(|value| Item {
            value: value.clone(),
            etag: Some("1".to_owned()),
            ..Item::default()
        }))
    }

    async fn set(&self, set: Set) -> Result<()> {
        if set.etag.as_deref() == Some("9") {
            return Err(Error::new(Kind::EtagMismatch, "tag 1 is stored"));
        }
        lock(&self.0.values).insert(set.key, set.value);
        Ok(())
    }

    async fn delete(&self, delete: Delete) -> Result<()> {
        lock(&self.0.values).remove(&delete.key);
        Ok(())
    }

    async fn transact(&self, writes: Vec<Write>, _metadata: &Metadata) -> Result<()> {
        let mut values = lock(&self.0.values);
        for write in writes {
            match write {
                Write::Set(set) => values.insert(set.key, set.value),
                Write::Delete(delete) => values.remove(&delete.key),
            };
        }
        Ok(())
    }
}

#[async_trait::async_trait]
impl PubSub for Fake {
    fn features(&self) -> pubsub::Features {
        pubsub::Features {
            bulk: true,
            ..pubsub::Features::default()
        }
    }

    async fn publish(&self, message: Outgoing) -> Result<()> {
        lock(&self.0.published).push(message);
        Ok(())
    }

    async fn publish_bulk(
        &self,
        topic: &str,
        entries: Vec<Entry>,
        _metadata: &Metadata,
    ) -> std::result::Result<Vec<Failed>, Vec<Entry>> {
        let message = |entry: Entry| Outgoing {
            topic: topic.to_owned(),
            data: entry.data,
            content_type: Some(entry.content_type),
            metadata: entry.metadata,
        };
        lock(&self.0.published).extend(entries.into_iter().map(message));
        Ok(Vec::new())
    }

    async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription> {
        let (line, messages) = mpsc::unbounded_channel();
        lock(&self.0.topics).insert(subscribe.topic, line);
        self.0.subscribed.send_modify(|count| *count += 1);
        let settle: Arc<dyn Settle> = Arc::new(Ledger(Arc::clone(&self.0)));
        let deliveries = stream::unfold((messages, settle), |(mut messages, settle)| async move {
            let message = messages.recv().await?;
            Some((Delivery::new(message, Arc::clone(&settle), 1), (messages, settle)))
        });
        Ok(Subscription {
            deliveries: deliveries.boxed(),
            concurrency: 1,
        })
    }
}

struct Ledger(Arc<Shared>);

impl Settle for Ledger {
    fn settle(&self, _token: u64, outcome: pubsub::Outcome) {
        self.0.settled.send_replace(Some(outcome));
    }
}

#[async_trait::async_trait]
impl SecretStore for Fake {
    fn features(&self) -> secret::Features {
        secret::Features::default()
    }

    async fn get(&self, name: &str, _metadata: &Metadata) -> Result<Secret> {
        Ok(Secret([(name.to_owned(), "hush".to_owned())].into()))
    }

    async fn all(&self, _metadata: &Metadata) -> Result<BTreeMap<String, Secret>> {
        Ok([(
            "a".to_owned(),
            Secret([("a".to_owned(), "hush".to_owned())].into()),
        )]
        .into())
    }
}

#[async_trait::async_trait]
impl NameResolver for Fake {
    async fn resolve(&self, target: &Target) -> Result<Vec<Endpoint>> {
        Err(Error::new(
            Kind::NotFound,
            format!("couldn't find service: {}", target.app_id),
        ))
    }
}

#[async_trait::async_trait]
impl PeerChannel for Fake {
    async fn reach(&self, _at: &Endpoint) -> std::result::Result<(), ChannelError> {
        Err(no_peers())
    }

    async fn invoke(
        &self,
        _at: &Endpoint,
        _app: &Target,
        _call: Call,
        _trace: Option<&Context>,
    ) -> std::result::Result<Reply, ChannelError> {
        Err(no_peers())
    }

    async fn proxy(
        &self,
        _at: &Endpoint,
        _request: Request<Body>,
    ) -> std::result::Result<Response<Body>, ChannelError> {
        Err(no_peers())
    }

    fn forget(&self, _at: &Endpoint) {}
}

fn no_peers() -> ChannelError {
    ChannelError::Unavailable("no peers here".to_owned())
}

#[async_trait::async_trait]
impl AppChannel for Fake {
    async fn subscriptions(&self) -> std::result::Result<Vec<Declared>, ChannelError> {
        Ok(Vec::new())
    }

    async fn invoke(&self, call: Call) -> std::result::Result<Reply, ChannelError> {
        let mut reply = Reply::http(200, Body::Empty);
        reply.headers = call.headers;
        reply.body = call.body;
        Ok(reply)
    }

    async fn deliver(&self, event: TopicEvent) -> std::result::Result<Outcome, ChannelError> {
        lock(&self.0.events).push(event.clone());
        grpc::topic_event(&event)?;
        Ok(Outcome::Success)
    }

    async fn proxy(&self, _request: Request<Body>) -> std::result::Result<Response<Body>, ChannelError> {
        Err(ChannelError::Unimplemented("proxy"))
    }

    async fn healthy(&self) -> std::result::Result<(), ChannelError> {
        Ok(())
    }
}
