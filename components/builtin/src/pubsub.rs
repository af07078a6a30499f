//! `pubsub.in-memory`: topics in the memory of this process. A message goes to everybody who is subscribed at that
//! moment and lives until each has acknowledged it; when a subscription ends, what it has not acknowledged ends too.
//!
//! Publishing waits while a subscriber is too far behind ([`queue::CAPACITY`]), and reports failure after
//! [`PATIENCE`] without having given the message to anybody. What a subscriber refuses comes back after a pause that
//! doubles; everything else is handed out in the order of publishing.
//!
//! COMPAT(components-contrib pubsub/in-memory): a topic that ends in `*` is a subscription to all topics that begin
//! with the rest and are longer; its messages bear the subscription's topic. Unlike there, a refused message is
//! delivered again, and a subscriber can hold several messages at once. A subscription in bulk gets them one by one, as
//! there, unless `concurrency` is given: then batches of up to that many.

mod queue;
#[cfg(test)]
mod tests;

use futures::StreamExt;
use outrigger_component::Component;
use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::options::{Opt, opt};
use outrigger_component::pubsub::{Features, Incoming, Outgoing, PubSub, Subscribe, Subscription};
use outrigger_component::setup::Setup;
use queue::{Place, Queue};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// How long a publisher waits for a subscriber to catch up.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Bus {
    /// `None` once closed.
    subscribers: Arc<RwLock<Option<Subscribers>>>,
    /// `None`: as many as usual.
    concurrency: Option<usize>,
}

/// What can be written under its `metadata`.
pub(crate) const OPTIONS: &[Opt] = &[opt(
    "concurrency",
    "16",
    "events the app holds at once; 1 keeps the order, and is the default of subscriptions in bulk",
)];

/// What `pubsub.in-memory` can be told.
#[derive(Debug, serde::Deserialize)]
pub struct Config {
    /// Messages of one subscription that the app may hold at once; 1 makes it take them strictly one by one.
    #[serde(default)]
    pub concurrency: Option<usize>,
}

const CONCURRENCY: usize = 16;

#[derive(Default)]
struct Subscribers {
    exact: HashMap<String, Vec<Arc<Queue>>>,
    /// With what the topic must begin with.
    wildcards: Vec<(String, Arc<Queue>)>,
}

impl Bus {
    /// # Errors
    /// `Invalid` if `concurrency` is zero.
    pub async fn build(setup: Setup<Config>) -> Result<Self> {
        let concurrency = setup.config.concurrency;
        if concurrency == Some(0) {
            return Err(Error::invalid("metadata \"concurrency\" must be at least 1"));
        }
        Ok(Self {
            subscribers: Arc::new(RwLock::new(Some(Subscribers::default()))),
            concurrency,
        })
    }

    fn queues(&self, topic: &str) -> Result<Vec<Arc<Queue>>> {
        let subscribers = self.subscribers.read().unwrap_or_else(PoisonError::into_inner);
        let subscribers = subscribers.as_ref().ok_or_else(Error::closed)?;
        let exact = subscribers.exact.get(topic).into_iter().flatten();
        let wild = subscribers
            .wildcards
            .iter()
            .filter(|(prefix, queue)| {
                topic.len() > prefix.len() && topic.starts_with(prefix) && queue.topic() != topic
            })
            .map(|(_, queue)| queue);
        Ok(exact.chain(wild).cloned().collect())
    }
}

#[async_trait::async_trait]
impl Component for Bus {
    async fn close(&self) {
        let subscribers = self
            .subscribers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        for queue in subscribers.iter().flat_map(Subscribers::all) {
            queue.end();
        }
    }
}

#[async_trait::async_trait]
impl PubSub for Bus {
    fn features(&self) -> Features {
        Features {
            message_ttl: false,
            subscribe_wildcards: true,
            bulk: false,
        }
    }

    async fn publish(&self, message: Outgoing) -> Result<()> {
        let queues = self.queues(&message.topic)?;
        // First room in all queues, then the message to all: a failure leaves no trace.
        let mut places = Vec::with_capacity(queues.len());
        for queue in &queues {
            places.push(place(queue, &message.topic).await?);
        }
        let Outgoing {
            data,
            content_type,
            metadata,
            ..
        } = message;
        for place in places {
            place.put(Incoming {
                topic: String::new(),
                data: data.clone(),
                content_type: content_type.clone(),
                metadata: metadata.clone(),
            });
        }
        Ok(())
    }

    async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription> {
        let batched = subscribe.batch > 0;
        let queue = Arc::new(Queue::new(subscribe.topic));
        self.subscribers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
            .ok_or_else(Error::closed)?
            .add(&queue);
        let seat = Seat {
            queue,
            subscribers: Arc::clone(&self.subscribers),
        };
        let deliveries = futures::stream::unfold(seat, |seat| async move {
            let delivery = seat.queue.next().await?;
            Some((delivery, seat))
        });
        Ok(Subscription {
            deliveries: deliveries.boxed(),
            concurrency: match self.concurrency {
                Some(concurrency) => concurrency,
                None if batched => 1,
                None => CONCURRENCY,
            },
        })
    }
}

/// Leaves the bus when dropped.
struct Seat {
    queue: Arc<Queue>,
    subscribers: Arc<RwLock<Option<Subscribers>>>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(subscribers) = self
            .subscribers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
        {
            subscribers.remove(&self.queue);
        }
        // Publishers that wait for room in it need not wait any longer.
        self.queue.end();
    }
}

impl Subscribers {
    fn add(&mut self, queue: &Arc<Queue>) {
        if let Some(prefix) = queue.topic().strip_suffix('*') {
            self.wildcards.push((prefix.to_owned(), Arc::clone(queue)));
        }
        // The pattern itself is a topic, too.
        self.exact
            .entry(queue.topic().to_owned())
            .or_default()
            .push(Arc::clone(queue));
    }

    fn remove(&mut self, queue: &Arc<Queue>) {
        self.wildcards.retain(|(_, other)| !Arc::ptr_eq(other, queue));
        if let Some(queues) = self.exact.get_mut(queue.topic()) {
            queues.retain(|other| !Arc::ptr_eq(other, queue));
            if queues.is_empty() {
                self.exact.remove(queue.topic());
            }
        }
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Queue>> {
        self.exact.values().flatten()
    }
}

async fn place<'a>(queue: &'a Arc<Queue>, topic: &str) -> Result<Place<'a>> {
    if let Some(place) = queue.place_now() {
        return Ok(place);
    }
    tokio::time::timeout(PATIENCE, queue.place()).await.map_err(|_| {
        Error::new(
            Kind::Exhausted,
            format!(
                "a subscriber of topic {topic:?} is {} messages behind and took none for {} s",
                queue::CAPACITY,
                PATIENCE.as_secs()
            ),
        )
    })
}
