//! Both ends of a topic.

use super::{Nature, Order};
use crate::broker::{self, text};
use futures::StreamExt as _;
use outrigger_component::metadata::Metadata;
use outrigger_component::pubsub::{Delivery, Outcome, Outgoing, PubSub, Subscribe, Subscription};
use std::panic::Location;
use std::time::Duration;

/// That something does not come is believed after this time.
const QUIET: Duration = Duration::from_millis(300);

pub(super) struct Sender<'a> {
    pub broker: &'a dyn PubSub,
    pub topic: String,
    pub nature: Nature,
}

impl Sender<'_> {
    pub(super) async fn subscribe(&self) -> Inbox {
        Inbox::open(self.broker, broker::to(&self.topic), self.nature).await
    }

    /// Publishes a text. All messages have the same key, and therefore an order, if there is one.
    pub(super) async fn publish(&self, content: &str) {
        self.publish_as("key", content).await;
    }

    pub(super) async fn publish_as(&self, key: &str, content: &str) {
        let message = Outgoing {
            topic: self.topic.clone(),
            data: content.as_bytes().to_vec().into(),
            content_type: Some("text/plain".to_owned()),
            metadata: self.metadata(key),
        };
        self.broker
            .publish(message)
            .await
            .unwrap_or_else(|error| panic!("publishing to {}: {error}", self.topic));
    }

    pub(super) fn metadata(&self, key: &str) -> Metadata {
        let mut metadata = Metadata::from_iter([("sent", "by conformance")]);
        if let Order::PerKey(name) = self.nature.order {
            metadata.insert(name, key);
        }
        metadata
    }
}

pub(super) struct Inbox {
    topic: String,
    pub deliveries: futures::stream::BoxStream<'static, Delivery>,
    pub concurrency: usize,
    nature: Nature,
}

impl Inbox {
    pub(super) async fn open(broker: &dyn PubSub, subscribe: Subscribe, nature: Nature) -> Self {
        let topic = subscribe.topic.clone();
        let Subscription {
            deliveries,
            concurrency,
        } = broker
            .subscribe(subscribe)
            .await
            .unwrap_or_else(|error| panic!("subscribing to {topic}: {error}"));
        // Brokers whose members are told later what is theirs do not say when.
        tokio::time::sleep(nature.joining).await;
        Self {
            topic,
            deliveries,
            concurrency,
            nature,
        }
    }

    #[track_caller]
    pub(super) fn next(&mut self) -> impl Future<Output = Delivery> {
        self.next_within(self.nature.patience, Location::caller())
    }

    /// What may be a redelivery.
    #[track_caller]
    pub(super) fn again(&mut self) -> impl Future<Output = Delivery> {
        let time = self.nature.patience + self.nature.redelivery;
        self.next_within(time, Location::caller())
    }

    /// `case` is who waits, for whoever reads that it did so in vain.
    async fn next_within(&mut self, time: Duration, case: &Location<'_>) -> Delivery {
        match tokio::time::timeout(time, self.deliveries.next()).await {
            Ok(Some(delivery)) => delivery,
            Ok(None) => panic!("{case}: the subscription to {} ends", self.topic),
            Err(_) => panic!("{case}: nothing comes of {} within {time:?}", self.topic),
        }
    }

    #[track_caller]
    pub(super) fn expect(&mut self, content: &str) -> impl Future<Output = ()> {
        let case = Location::caller();
        async move {
            let delivery = self.next_within(self.nature.patience, case).await;
            assert_eq!(text(&delivery), content, "{case}");
            delivery.settle(Outcome::Ack);
        }
    }

    /// The next texts, acknowledged; sorted where there is no order.
    #[track_caller]
    pub(super) fn take(&mut self, count: usize) -> impl Future<Output = Vec<String>> {
        let case = Location::caller();
        async move {
            let mut contents = Vec::new();
            for _ in 0..count {
                let delivery = self.next_within(self.nature.patience, case).await;
                contents.push(text(&delivery));
                delivery.settle(Outcome::Ack);
            }
            if self.nature.order == Order::None {
                contents.sort();
            }
            contents
        }
    }

    pub(super) async fn quiet(&mut self, why: &str) {
        if let Ok(delivery) = tokio::time::timeout(QUIET, self.deliveries.next()).await {
            panic!("{why}: and yet there came {delivery:?}");
        }
    }
}
