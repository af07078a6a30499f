//! Components that record what they are asked, for tests of whoever asks.

use futures::StreamExt;
use outrigger_component::Component;
use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::metadata::Metadata;
use outrigger_component::pubsub::{
    self, Delivery, Incoming, Outcome, Outgoing, PubSub, Settle, Subscribe, Subscription,
};
use outrigger_component::state::{self, Delete, Get, Item, Set, StateStore, Write};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, watch};

/// A state store that holds plain values and fails when told to.
#[derive(Default)]
pub struct Store {
    pub calls: Mutex<Vec<Call>>,
    values: Mutex<BTreeMap<String, Item>>,
    /// Kinds of failure for the next calls, in order; `None` lets one through.
    pub fail: Mutex<VecDeque<Option<Kind>>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    Get(Get),
    Set(Set),
    Delete(Delete),
    Transact(Vec<Write>, Metadata),
}

impl Store {
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut *lock(&self.calls))
    }

    fn meet(&self, call: Call) -> Result<()> {
        lock(&self.calls).push(call);
        refusal(&self.fail)
    }

    fn write(&self, write: Write) {
        let mut values = lock(&self.values);
        match write {
            Write::Set(Set {
                key,
                value,
                content_type,
                ..
            }) => {
                values.insert(
                    key,
                    Item {
                        value,
                        etag: Some("1".to_owned()),
                        content_type,
                        metadata: Metadata::new(),
                    },
                );
            }
            Write::Delete(delete) => {
                values.remove(&delete.key);
            }
        }
    }
}

impl Component for Store {}

#[async_trait::async_trait]
impl StateStore for Store {
    fn features(&self) -> state::Features {
        state::Features {
            etag: true,
            transactional: true,
            ..state::Features::default()
        }
    }

    async fn get(&self, get: &Get) -> Result<Option<Item>> {
        self.meet(Call::Get(get.clone()))?;
        Ok(lock(&self.values).get(&get.key).cloned())
    }

    async fn set(&self, set: Set) -> Result<()> {
        self.meet(Call::Set(set.clone()))?;
        self.write(Write::Set(set));
        Ok(())
    }

    async fn delete(&self, delete: Delete) -> Result<()> {
        self.meet(Call::Delete(delete.clone()))?;
        self.write(Write::Delete(delete));
        Ok(())
    }

    async fn transact(&self, writes: Vec<Write>, metadata: &Metadata) -> Result<()> {
        self.meet(Call::Transact(writes.clone(), metadata.clone()))?;
        writes.into_iter().for_each(|write| self.write(write));
        Ok(())
    }
}

/// A broker that keeps what is published to itself and delivers what the test puts in.
pub struct Broker {
    pub features: pubsub::Features,
    pub published: Mutex<Vec<Outgoing>>,
    pub subscribed: Mutex<Vec<Subscribe>>,
    /// Kinds of failure for the next publishes, in order; `None` lets one through.
    pub fail: Mutex<VecDeque<Option<Kind>>>,
    feeds: Mutex<Vec<(String, mpsc::Sender<Delivery>)>>,
    settled: Arc<Settled>,
}

/// Outcomes by token, in the order in which they came.
struct Settled(watch::Sender<Vec<(u64, Outcome)>>);

/// Deliveries that nobody has polled yet.
const FEED: usize = 1024;

impl Default for Broker {
    fn default() -> Self {
        Self {
            features: pubsub::Features::default(),
            published: Mutex::default(),
            subscribed: Mutex::default(),
            fail: Mutex::default(),
            feeds: Mutex::default(),
            settled: Arc::new(Settled(watch::Sender::default())),
        }
    }
}

impl Broker {
    /// Delivers a message to the subscriptions of its topic. `token` comes back with the outcome.
    ///
    /// # Panics
    /// When nobody takes deliveries any more and too many wait.
    pub fn deliver(&self, message: &Incoming, token: u64) {
        for (topic, feed) in lock(&self.feeds)
            .iter()
            .filter(|(topic, feed)| *topic == message.topic && !feed.is_closed())
        {
            let settled: Arc<Settled> = Arc::clone(&self.settled);
            let sent = feed.try_send(Delivery::new(message.clone(), settled, token));
            sent.unwrap_or_else(|error| panic!("delivery to {topic}: {error}"));
        }
    }

    /// Waits until that many outcomes are in.
    ///
    /// # Panics
    /// Never: the broker itself holds the sender.
    pub async fn outcomes(&self, count: usize) -> Vec<(u64, Outcome)> {
        let mut settled = self.settled.0.subscribe();
        settled
            .wait_for(|settled| settled.len() >= count)
            .await
            .expect("the sender is held")
            .clone()
    }
}

impl Settle for Settled {
    fn settle(&self, token: u64, outcome: Outcome) {
        self.0.send_modify(|settled| settled.push((token, outcome)));
    }
}

impl Component for Broker {}

#[async_trait::async_trait]
impl PubSub for Broker {
    fn features(&self) -> pubsub::Features {
        self.features
    }

    async fn publish(&self, message: Outgoing) -> Result<()> {
        refusal(&self.fail)?;
        lock(&self.published).push(message);
        Ok(())
    }

    async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription> {
        let (feed, inbox) = mpsc::channel(FEED);
        lock(&self.feeds).push((subscribe.topic.clone(), feed));
        lock(&self.subscribed).push(subscribe);
        let deliveries =
            futures::stream::unfold(
                inbox,
                |mut inbox| async move { Some((inbox.recv().await?, inbox)) },
            );
        Ok(Subscription {
            deliveries: deliveries.boxed(),
            concurrency: 1,
        })
    }
}

fn refusal(fail: &Mutex<VecDeque<Option<Kind>>>) -> Result<()> {
    match lock(fail).pop_front().flatten() {
        Some(kind) => Err(Error::new(kind, "told to fail")),
        None => Ok(()),
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
