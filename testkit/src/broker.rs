//! Both ends of a topic, for the tests of one broker: messages are texts, and what does not come in time is a failure.
//!
//! What every broker must do is in [`crate::conformance::pubsub`]; this is for what only one of them does.

use futures::StreamExt as _;
use outrigger_component::metadata::Metadata;
use outrigger_component::pubsub::{Delivery, Outcome, Outgoing, PubSub, Subscribe, Subscription};
use std::time::Duration;

/// A delivery must come within this time, on a busy machine and after a reconnect.
const PATIENCE: Duration = Duration::from_secs(30);
/// That something does not come is believed after this time.
const QUIET: Duration = Duration::from_millis(300);

pub fn message(topic: &str, content: &str) -> Outgoing {
    message_with(topic, content, &[])
}

pub fn message_with(topic: &str, content: &str, metadata: &[(&str, &str)]) -> Outgoing {
    Outgoing {
        topic: topic.to_owned(),
        data: content.as_bytes().to_vec().into(),
        metadata: Metadata::from_iter(metadata.iter().copied()),
        ..Outgoing::default()
    }
}

/// To this topic, without metadata, for an app that takes one message at a time.
pub fn to(topic: &str) -> Subscribe {
    Subscribe {
        topic: topic.to_owned(),
        ..Subscribe::default()
    }
}

/// # Panics
/// When the broker refuses.
pub async fn subscribe(broker: &dyn PubSub, topic: &str) -> Subscription {
    let subscription = broker.subscribe(to(topic)).await;
    subscription.unwrap_or_else(|error| panic!("subscribing to {topic}: {error}"))
}

/// The next delivery, not settled.
///
/// # Panics
/// When none comes in time.
pub async fn next(subscription: &mut Subscription) -> Delivery {
    tokio::time::timeout(PATIENCE, subscription.deliveries.next())
        .await
        .expect("a delivery in time")
        .expect("the subscription goes on")
}

/// The next delivery has this content; it is acknowledged.
///
/// # Panics
/// When another one comes, or none in time.
pub async fn expect(subscription: &mut Subscription, content: &str) {
    let delivery = next(subscription).await;
    assert_eq!(text(&delivery), content);
    delivery.settle(Outcome::Ack);
}

/// Nothing comes for a while.
///
/// # Panics
/// When something does.
pub async fn quiet(subscription: &mut Subscription) {
    if let Ok(delivery) = tokio::time::timeout(QUIET, subscription.deliveries.next()).await {
        panic!("nothing was to come, and yet there came {delivery:?}");
    }
}

/// # Panics
/// When it is no text.
pub fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.message.data.to_vec()).expect("tests send text")
}
