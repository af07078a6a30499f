//! A broker of one topic that redelivers at once.

use futures::StreamExt as _;
use outrigger_component::Component;
use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::metadata::Metadata;
use outrigger_component::pubsub::{
    self, Delivery, Entry, Failed, Features, Incoming, Outgoing, PubSub, Settle, Subscribe,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, watch};

/// One topic in memory. What is published to it is kept apart from what is delivered, which tests put in.
pub(in crate::pubsub::tests) struct FakeBroker {
    pub features: Features,
    pub concurrency: usize,
    pub shared: Arc<Shared>,
    pub published: Mutex<Vec<Outgoing>>,
    /// Errors for the next publishes, in order; `None` lets one through.
    pub refuse: Mutex<VecDeque<Option<Kind>>>,
    /// Topics that cannot be published to.
    pub broken: Mutex<Vec<String>>,
    /// Topics whose publishing never ends.
    pub hanging: Mutex<Vec<String>>,
    /// Errors for the next subscribes.
    pub refuse_subscribe: Mutex<VecDeque<Kind>>,
    pub subscribed: Mutex<Vec<Subscribe>>,
}

#[derive(Default)]
pub(in crate::pubsub::tests) struct Shared {
    state: Mutex<State>,
    more: Notify,
    /// Counts settled messages.
    pub settled: watch::Sender<Vec<(u64, pubsub::Outcome)>>,
}

#[derive(Default)]
struct State {
    next: u64,
    waiting: VecDeque<(u64, Incoming)>,
    held: BTreeMap<u64, Incoming>,
    most_held: usize,
    ended: bool,
}

impl Shared {
    pub(in crate::pubsub::tests) fn push(&self, message: Incoming) -> u64 {
        let mut state = self.state.lock().unwrap();
        state.next += 1;
        let token = state.next;
        state.waiting.push_back((token, message));
        self.more.notify_waiters();
        token
    }

    /// Ends the deliveries of whoever is subscribed now.
    pub(in crate::pubsub::tests) fn end(&self) {
        self.state.lock().unwrap().ended = true;
        self.more.notify_waiters();
    }

    pub(in crate::pubsub::tests) fn most_held(&self) -> usize {
        self.state.lock().unwrap().most_held
    }

    /// Messages that nobody holds and that are not acknowledged.
    pub(in crate::pubsub::tests) fn waiting(&self) -> Vec<u64> {
        self.state
            .lock()
            .unwrap()
            .waiting
            .iter()
            .map(|(token, _)| *token)
            .collect()
    }

    pub(in crate::pubsub::tests) fn held(&self) -> usize {
        self.state.lock().unwrap().held.len()
    }

    /// The first so many outcomes, once they are in.
    pub(in crate::pubsub::tests) async fn outcomes(&self, count: usize) -> Vec<(u64, pubsub::Outcome)> {
        let mut settled = self.settled.subscribe();
        let settled = settled.wait_for(|settled| settled.len() >= count).await.unwrap();
        settled[..count].to_vec()
    }

    async fn next(&self) -> Option<(u64, Incoming)> {
        loop {
            let more = self.more.notified();
            tokio::pin!(more);
            more.as_mut().enable();
            {
                let mut state = self.state.lock().unwrap();
                if std::mem::take(&mut state.ended) {
                    return None;
                }
                if let Some((token, message)) = state.waiting.pop_front() {
                    state.held.insert(token, message.clone());
                    state.most_held = state.most_held.max(state.held.len());
                    return Some((token, message));
                }
            }
            more.await;
        }
    }
}

impl Settle for Shared {
    fn settle(&self, token: u64, outcome: pubsub::Outcome) {
        let mut state = self.state.lock().unwrap();
        let message = state.held.remove(&token).expect("settled once");
        if outcome == pubsub::Outcome::Nack {
            state.waiting.push_front((token, message));
        }
        drop(state);
        self.more.notify_waiters();
        self.settled.send_modify(|settled| settled.push((token, outcome)));
    }
}

impl Default for FakeBroker {
    fn default() -> Self {
        Self {
            features: Features::default(),
            concurrency: 1,
            shared: Arc::default(),
            published: Mutex::default(),
            refuse: Mutex::default(),
            broken: Mutex::default(),
            hanging: Mutex::default(),
            refuse_subscribe: Mutex::default(),
            subscribed: Mutex::default(),
        }
    }
}

impl FakeBroker {
    fn take(&self, message: Outgoing) -> Result<()> {
        if self.broken.lock().unwrap().contains(&message.topic) {
            return Err(Error::new(Kind::Unavailable, "topic is broken"));
        }
        if let Some(Some(kind)) = self.refuse.lock().unwrap().pop_front() {
            return Err(Error::new(kind, "broker says no"));
        }
        self.published.lock().unwrap().push(message);
        Ok(())
    }

    pub(in crate::pubsub::tests) fn published(&self) -> Vec<Outgoing> {
        self.published.lock().unwrap().clone()
    }
}

#[async_trait::async_trait]
impl Component for FakeBroker {}

#[async_trait::async_trait]
impl PubSub for FakeBroker {
    fn features(&self) -> Features {
        self.features
    }

    async fn publish(&self, message: Outgoing) -> Result<()> {
        if self.hanging.lock().unwrap().contains(&message.topic) {
            std::future::pending::<()>().await;
        }
        self.take(message)
    }

    async fn publish_bulk(
        &self,
        topic: &str,
        entries: Vec<Entry>,
        _metadata: &Metadata,
    ) -> std::result::Result<Vec<Failed>, Vec<Entry>> {
        if !self.features.bulk {
            return Err(entries);
        }
        let put = |Entry {
                       id,
                       data,
                       content_type,
                       metadata,
                   }| {
            let topic = topic.to_owned();
            let message = Outgoing {
                topic,
                data,
                content_type: Some(content_type),
                metadata,
            };
            self.take(message).err().map(|error| Failed { id, error })
        };
        Ok(entries.into_iter().filter_map(put).collect())
    }

    async fn subscribe(&self, subscribe: Subscribe) -> Result<pubsub::Subscription> {
        if let Some(kind) = self.refuse_subscribe.lock().unwrap().pop_front() {
            return Err(Error::new(kind, "broker is not ready"));
        }
        self.subscribed.lock().unwrap().push(subscribe);
        let shared = Arc::clone(&self.shared);
        let deliveries = futures::stream::unfold(shared, |shared| async move {
            let (token, message) = shared.next().await?;
            let settle: Arc<dyn Settle> = shared.clone();
            Some((Delivery::new(message, settle, token), shared))
        });
        Ok(pubsub::Subscription {
            deliveries: deliveries.boxed(),
            concurrency: self.concurrency,
        })
    }
}
