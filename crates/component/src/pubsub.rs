//! Pub/sub: messages out, and a stream of deliveries in that must each be settled.

use crate::Component;
use crate::error::{Error, Result};
use crate::metadata::Metadata;
use bytes::Bytes;
use futures::stream::BoxStream;
use std::fmt;
use std::sync::Arc;

/// What a broker can do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features {
    /// Honours `ttlInSeconds` itself; otherwise the runtime writes an expiration into the envelope.
    pub message_ttl: bool,
    pub subscribe_wildcards: bool,
    /// Publishes and subscribes in bulk natively.
    pub bulk: bool,
}

impl Features {
    pub fn names(&self) -> Vec<&'static str> {
        [
            (self.message_ttl, "MESSAGE_TTL"),
            (self.subscribe_wildcards, "SUBSCRIBE_WILDCARDS"),
            (self.bulk, "BULK_PUBSUB"),
        ]
        .into_iter()
        .filter_map(|(on, name)| on.then_some(name))
        .collect()
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outgoing {
    pub topic: String,
    pub data: Bytes,
    pub content_type: Option<String>,
    pub metadata: Metadata,
}

/// One entry of a bulk publish; `id` is unique within the request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    pub id: String,
    pub data: Bytes,
    pub content_type: String,
    pub metadata: Metadata,
}

/// An entry that was not published, and why.
#[derive(Debug)]
pub struct Failed {
    pub id: String,
    pub error: Error,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Incoming {
    pub topic: String,
    pub data: Bytes,
    pub content_type: Option<String>,
    pub metadata: Metadata,
}

/// How a delivery ended, as far as the broker is concerned. Dropping and dead-lettering are the runtime's
/// policy: both end in `Ack` here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Ack,
    /// Deliver again, here or to another consumer of the group.
    Nack,
}

/// Where outcomes go. One per subscription; called from any thread.
///
/// INVARIANT: `settle` never blocks and is called exactly once per token.
pub trait Settle: Send + Sync + 'static {
    fn settle(&self, token: u64, outcome: Outcome);

    /// The delivery was dropped without an outcome (the end of the subscription, a panic): the message must come again,
    /// even where a refusal would have sent it elsewhere.
    fn give_back(&self, token: u64) {
        self.settle(token, Outcome::Nack);
    }
}

/// One message and the duty to settle it. Dropped unsettled, it is [given back](Settle::give_back).
#[must_use = "an unsettled delivery is delivered again"]
pub struct Delivery {
    pub message: Incoming,
    duty: Option<(Arc<dyn Settle>, u64)>,
}

impl Delivery {
    /// `token` is the component's own name for the message; it comes back in [`Settle::settle`].
    pub fn new(message: Incoming, to: Arc<dyn Settle>, token: u64) -> Self {
        Self {
            message,
            duty: Some((to, token)),
        }
    }

    pub fn settle(mut self, outcome: Outcome) {
        if let Some((to, token)) = self.duty.take() {
            to.settle(token, outcome);
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some((to, token)) = self.duty.take() {
            to.give_back(token);
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("message", &self.message)
            .field("settled", &self.duty.is_none())
            .finish()
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subscribe {
    pub topic: String,
    /// Of the subscription, not of the component.
    pub metadata: Metadata,
    /// How many messages the runtime means to hand to the app in one request; 0 when it hands them over one by one.
    /// A broker should then let it hold twice as many, so that one batch fills while another is with the app.
    pub batch: usize,
}

/// A running subscription. Dropping `deliveries` ends it; not polling it pauses it.
pub struct Subscription {
    pub deliveries: BoxStream<'static, Delivery>,
    /// How many deliveries the runtime may hold unsettled at once; at least 1. `1` keeps the order.
    pub concurrency: usize,
}

#[async_trait::async_trait]
pub trait PubSub: Component {
    fn features(&self) -> Features;

    /// Returns once the broker has taken the message over, as durably as it is configured to.
    async fn publish(&self, message: Outgoing) -> Result<()>;

    /// Publishes all entries to one topic; answers those that failed. `Err` with the entries when the broker
    /// has no such call: the runtime then publishes one by one.
    async fn publish_bulk(
        &self,
        _topic: &str,
        entries: Vec<Entry>,
        _metadata: &Metadata,
    ) -> std::result::Result<Vec<Failed>, Vec<Entry>> {
        Err(entries)
    }

    /// Joins the consumer group of this component instance (`consumerID`, by default the app id) on a topic.
    async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription>;
}
