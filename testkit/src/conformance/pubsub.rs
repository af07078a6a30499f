//! Brokers. Unlike a state store, a broker is tried as a whole: what is published, delivered and settled in what
//! order is the case.

use futures::StreamExt;
use outrigger_component::metadata::Metadata;
use outrigger_component::pubsub::{Delivery, Entry, Outcome, Outgoing, PubSub, Subscribe, Subscription};
use std::collections::BTreeSet;
use std::time::Duration;

/// How the broker may behave.
#[derive(Debug, Clone, Copy)]
pub struct Nature {
    /// Keeps what nobody has acknowledged for the next subscriber of the group, and what was published while there
    /// was none.
    pub durable: bool,
    /// A message that is delivered again comes within this time.
    pub redelivery: Duration,
}

/// Deliveries that must come, come within this time.
const SOON: Duration = Duration::from_secs(10);
/// That something does not come is believed after this time.
const QUIET: Duration = Duration::from_millis(300);

/// Runs all cases that apply. `prefix` begins all topics and keeps apart runs on the same broker.
///
/// # Panics
/// When the broker does not do what it claims.
pub async fn run(broker: &dyn PubSub, prefix: &str, nature: Nature) {
    in_order(broker, &topic(prefix, "order")).await;
    apart(broker, &topic(prefix, "apart")).await;
    again(broker, &topic(prefix, "again"), nature).await;
    many_held(broker, &topic(prefix, "held")).await;
    leaving(broker, &topic(prefix, "leaving"), nature).await;
    wildcards(broker, &topic(prefix, "wild")).await;
    bulk(broker, &topic(prefix, "bulk")).await;
}

fn topic(prefix: &str, name: &str) -> String {
    format!("{prefix}{name}")
}

/// What is acknowledged one by one comes in the order of publishing, once, and with its metadata.
async fn in_order(broker: &dyn PubSub, topic: &str) {
    let mut inbox = Inbox::open(broker, topic).await;
    for number in 0..50 {
        publish(broker, topic, &number.to_string()).await;
    }
    for number in 0..50 {
        let delivery = inbox.next().await;
        assert_eq!(text(&delivery), number.to_string(), "order");
        assert_eq!(delivery.message.topic, topic, "topic of a delivery");
        assert_eq!(
            delivery.message.metadata.get("sent"),
            Some("by conformance"),
            "metadata of a delivery"
        );
        delivery.settle(Outcome::Ack);
    }
    inbox.quiet("everything is acknowledged").await;
}

/// Topics do not mix.
async fn apart(broker: &dyn PubSub, topic: &str) {
    let (one, other) = (format!("{topic}-1"), format!("{topic}-2"));
    let (mut first, mut second) = (Inbox::open(broker, &one).await, Inbox::open(broker, &other).await);
    publish(broker, &one, "1").await;
    publish(broker, &other, "2").await;
    first.expect("1").await;
    second.expect("2").await;
    first.quiet("of its own topic only").await;
}

/// Refused and dropped messages come again, and do not keep others back.
async fn again(broker: &dyn PubSub, topic: &str, nature: Nature) {
    let mut inbox = Inbox::open(broker, topic).await;
    publish(broker, topic, "refused").await;
    publish(broker, topic, "dropped").await;
    let refused = inbox.next().await;
    assert_eq!(text(&refused), "refused");
    let dropped = inbox.next().await;
    assert_eq!(text(&dropped), "dropped");
    refused.settle(Outcome::Nack);
    drop(dropped);
    publish(broker, topic, "other").await;
    inbox.expect("other").await;
    let mut returned = BTreeSet::new();
    while returned.len() < 2 {
        let delivery = inbox.next_within(nature.redelivery + SOON).await;
        returned.insert(text(&delivery));
        delivery.settle(Outcome::Ack);
    }
    assert_eq!(
        returned,
        BTreeSet::from(["dropped".to_owned(), "refused".to_owned()])
    );
    inbox.quiet("acknowledged after all").await;
}

/// As many may be held as the broker says, and they may be settled in any order.
async fn many_held(broker: &dyn PubSub, topic: &str) {
    let mut inbox = Inbox::open(broker, topic).await;
    let held = inbox.concurrency.min(8);
    assert!(held >= 1, "a subscription hands out at least one message at once");
    for number in 0..held {
        publish(broker, topic, &number.to_string()).await;
    }
    let mut deliveries = Vec::new();
    for _ in 0..held {
        deliveries.push(inbox.next().await);
    }
    while let Some(delivery) = deliveries.pop() {
        delivery.settle(Outcome::Ack);
    }
    publish(broker, topic, "last").await;
    inbox.expect("last").await;
}

/// Leaving gives back what is held. A durable broker keeps it, and everything else, for the next who comes.
async fn leaving(broker: &dyn PubSub, topic: &str, nature: Nature) {
    let mut inbox = Inbox::open(broker, topic).await;
    publish(broker, topic, "done").await;
    inbox.expect("done").await;
    publish(broker, topic, "held").await;
    let held = inbox.next().await;
    drop(inbox);
    drop(held);
    publish(broker, topic, "missed").await;
    let mut inbox = Inbox::open(broker, topic).await;
    publish(broker, topic, "new").await;
    let mut expected: BTreeSet<String> = ["held", "missed", "new"].map(str::to_owned).into();
    if !nature.durable {
        expected.retain(|text| text == "new");
    }
    let mut seen = BTreeSet::new();
    while seen.len() < expected.len() {
        let delivery = inbox.next_within(nature.redelivery + SOON).await;
        seen.insert(text(&delivery));
        delivery.settle(Outcome::Ack);
    }
    assert_eq!(seen, expected, "after coming back");
    inbox.quiet("nothing twice").await;
}

async fn wildcards(broker: &dyn PubSub, topic: &str) {
    if !broker.features().subscribe_wildcards {
        return;
    }
    let mut wild = Inbox::open(broker, &format!("{topic}/*")).await;
    let mut exact = Inbox::open(broker, &format!("{topic}/a")).await;
    publish(broker, &format!("{topic}/a"), "a").await;
    publish(broker, &format!("{topic}/b"), "b").await;
    publish(broker, &format!("{topic}/"), "too short").await;
    publish(broker, topic, "elsewhere").await;
    wild.expect("a").await;
    wild.expect("b").await;
    wild.quiet("what does not match").await;
    exact.expect("a").await;
    exact.quiet("what does not match").await;
}

/// Publishing in bulk works as claimed; what is not claimed hands the entries back.
async fn bulk(broker: &dyn PubSub, topic: &str) {
    let mut inbox = Inbox::open(broker, topic).await;
    let entry = |id: &str| Entry {
        id: id.to_owned(),
        data: id.as_bytes().to_vec().into(),
        content_type: "text/plain".to_owned(),
        metadata: Metadata::new(),
    };
    let entries = vec![entry("1"), entry("2")];
    match broker
        .publish_bulk(topic, entries.clone(), &Metadata::new())
        .await
    {
        Ok(failed) => {
            assert!(broker.features().bulk, "bulk is not claimed, and was done");
            assert!(failed.is_empty(), "{failed:?}");
            inbox.expect("1").await;
            inbox.expect("2").await;
        }
        Err(returned) => {
            assert!(!broker.features().bulk, "bulk is claimed, and was refused");
            assert_eq!(returned, entries, "entries come back as they were");
        }
    }
    inbox.quiet("nothing else").await;
}

struct Inbox {
    deliveries: futures::stream::BoxStream<'static, Delivery>,
    concurrency: usize,
}

impl Inbox {
    async fn open(broker: &dyn PubSub, topic: &str) -> Self {
        let subscribe = Subscribe {
            topic: topic.to_owned(),
            ..Subscribe::default()
        };
        let Subscription {
            deliveries,
            concurrency,
        } = broker.subscribe(subscribe).await.expect("subscribes");
        Self {
            deliveries,
            concurrency,
        }
    }

    async fn next(&mut self) -> Delivery {
        self.next_within(SOON).await
    }

    async fn next_within(&mut self, time: Duration) -> Delivery {
        let next = tokio::time::timeout(time, self.deliveries.next()).await;
        next.expect("a delivery in time")
            .expect("the subscription goes on")
    }

    async fn expect(&mut self, content: &str) {
        let delivery = self.next().await;
        assert_eq!(text(&delivery), content);
        delivery.settle(Outcome::Ack);
    }

    async fn quiet(&mut self, why: &str) {
        if let Ok(delivery) = tokio::time::timeout(QUIET, self.deliveries.next()).await {
            panic!("{why}: and yet there came {delivery:?}");
        }
    }
}

async fn publish(broker: &dyn PubSub, topic: &str, content: &str) {
    let message = Outgoing {
        topic: topic.to_owned(),
        data: content.as_bytes().to_vec().into(),
        content_type: Some("text/plain".to_owned()),
        metadata: Metadata::from_iter([("sent", "by conformance")]),
    };
    broker.publish(message).await.expect("publishes");
}

fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.message.data.to_vec()).expect("the cases send text")
}
