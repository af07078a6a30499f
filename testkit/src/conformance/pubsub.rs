//! Brokers. Unlike a state store, a broker is tried as a whole: what is published, delivered and settled in what
//! order is the case. [`run`] is for every broker; [`churn`] is for those that work while their world changes.

pub mod churn;
mod inbox;
mod shapes;

use crate::broker::text;
use inbox::{Inbox, Sender};
use outrigger_component::metadata::Metadata;
use outrigger_component::pubsub::{Entry, Outcome, PubSub, Subscribe};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How the broker may behave. Made by [`Nature::durable`] or [`Nature::passing`], with what differs:
/// `Nature { order: Order::None, ..Nature::durable(time) }`.
#[derive(Debug, Clone, Copy)]
pub struct Nature {
    /// Keeps what nobody has acknowledged for the next subscriber of the group, and what was published while there
    /// was none.
    pub durable: bool,
    /// A message that is delivered again comes within this time.
    pub redelivery: Duration,
    pub order: Order,
    /// A refused message holds back those behind it (of its key, where there are keys), instead of being passed by them.
    pub holds: bool,
    /// An acknowledged message may come again when members of the group come and go.
    pub repeats: bool,
    /// Metadata of a message reach its subscribers.
    pub metadata: bool,
    /// What stands for one or more characters in the topic of a subscription, where the broker claims wildcards; `None` where
    /// they mean something else.
    pub wildcard: Option<&'static str>,
    /// The largest message that must go through, in bytes.
    pub largest: usize,
    /// How long a subscription may need before it sees what is published.
    pub joining: Duration,
    /// Deliveries that must come, come within this time.
    pub patience: Duration,
}

/// In what order messages come to the only subscriber of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    None,
    /// As they were published, as long as nothing goes wrong.
    Published,
    /// As those of one key were published, whatever happens. Metadata of this name is the key.
    PerKey(&'static str),
}

impl Nature {
    /// Keeps messages, their order and their metadata; redelivers one by one.
    pub const fn durable(redelivery: Duration) -> Self {
        Self {
            durable: true,
            redelivery,
            order: Order::Published,
            holds: false,
            repeats: false,
            metadata: true,
            wildcard: Some("*"),
            largest: 512 * 1024,
            joining: Duration::ZERO,
            patience: Duration::from_secs(10),
        }
    }

    /// The same, for those who are there.
    pub const fn passing(redelivery: Duration) -> Self {
        Self {
            durable: false,
            ..Self::durable(redelivery)
        }
    }
}

/// Runs all cases that apply. `prefix` begins all topics and keeps apart runs on the same broker.
///
/// # Panics
/// When the broker does not do what it claims.
pub async fn run(broker: &dyn PubSub, prefix: &str, nature: Nature) {
    broker.ping().await.expect("the broker is there");
    let on = |name: &str| Sender {
        broker,
        topic: format!("{prefix}{name}"),
        nature,
    };
    in_order(&on("order")).await;
    apart(&on("apart-1"), &on("apart-2")).await;
    again(&on("again")).await;
    faults(&on("faults")).await;
    many_held(&on("held")).await;
    leaving(&on("leaving")).await;
    wildcards(&on("wild")).await;
    bulk(&on("bulk")).await;
    batches(&on("batches")).await;
    shapes::all(&on("shapes")).await;
}

/// What is acknowledged one by one comes in the order of publishing, once, and with its metadata.
async fn in_order(on: &Sender<'_>) {
    const KEYS: usize = 3;
    let mut inbox = on.subscribe().await;
    for number in 0..50 {
        let key = format!("key{}", number % KEYS);
        on.publish_as(&key, &format!("{key} {number}")).await;
    }
    let mut last: BTreeMap<String, usize> = BTreeMap::new();
    let mut numbers = Vec::new();
    for _ in 0..50 {
        let delivery = inbox.next().await;
        assert_eq!(delivery.message.topic, on.topic, "topic of a delivery");
        if on.nature.metadata {
            assert_eq!(
                delivery.message.metadata.get("sent"),
                Some("by conformance"),
                "metadata of a delivery"
            );
        }
        let content = text(&delivery);
        let (key, number) = content.split_once(' ').expect("as it was published");
        let number = number.parse().expect("as it was published");
        let before = last.insert(key.to_owned(), number);
        if on.nature.order != Order::None {
            assert!(before < Some(number), "order of {key}: {before:?}, then {number}");
        }
        numbers.push(number);
        delivery.settle(Outcome::Ack);
    }
    if on.nature.order != Order::Published {
        numbers.sort_unstable();
    }
    assert_eq!(numbers, (0..50).collect::<Vec<_>>(), "order, and each once");
    inbox.quiet("everything is acknowledged").await;
}

/// Topics do not mix, and leaving one leaves the other as it is.
async fn apart(one: &Sender<'_>, other: &Sender<'_>) {
    let (mut first, mut second) = (one.subscribe().await, other.subscribe().await);
    one.publish("1").await;
    other.publish("2").await;
    first.expect("1").await;
    second.expect("2").await;
    first.quiet("of its own topic only").await;
    drop(first);
    one.publish("nobody takes it").await;
    other.publish("3").await;
    second.expect("3").await;
    second.quiet("of its own topic only").await;
}

/// Refused and dropped messages come again, and do not keep others back unless they may.
async fn again(on: &Sender<'_>) {
    let mut inbox = on.subscribe().await;
    let mut left: BTreeSet<&str> = ["refused", "dropped", "other"].into();
    if on.nature.holds || on.nature.order == Order::None || inbox.concurrency < 2 {
        for content in ["refused", "dropped", "other"] {
            on.publish(content).await;
        }
        let mut seen = BTreeSet::new();
        while !left.is_empty() {
            let delivery = inbox.again().await;
            let content = text(&delivery);
            match (content.as_str(), seen.insert(content.clone())) {
                ("refused", true) => delivery.settle(Outcome::Nack),
                ("dropped", true) => drop(delivery),
                (content, _) => {
                    left.remove(content);
                    delivery.settle(Outcome::Ack);
                }
            }
        }
    } else {
        on.publish("refused").await;
        on.publish("dropped").await;
        let refused = inbox.next().await;
        assert_eq!(text(&refused), "refused");
        let dropped = inbox.next().await;
        assert_eq!(text(&dropped), "dropped");
        refused.settle(Outcome::Nack);
        drop(dropped);
        on.publish("other").await;
        while left.remove("other") {
            // What was refused may come at once.
            let delivery = inbox.next().await;
            match text(&delivery).as_str() {
                "other" => delivery.settle(Outcome::Ack),
                early => {
                    assert!(left.remove(early), "{early} again");
                    delivery.settle(Outcome::Ack);
                    left.insert("other");
                }
            }
        }
        while !left.is_empty() {
            let delivery = inbox.again().await;
            assert!(left.remove(text(&delivery).as_str()), "{delivery:?} again");
            delivery.settle(Outcome::Ack);
        }
    }
    inbox.quiet("acknowledged after all").await;
}

/// COMPAT(components-contrib tests/conformance/pubsub): the app fails at the first two and at every fifth message; all
/// others come nevertheless, and those in the end.
async fn faults(on: &Sender<'_>) {
    const COUNT: usize = 20;
    let mut inbox = on.subscribe().await;
    for number in 0..COUNT {
        on.publish_as(&number.to_string(), &number.to_string()).await;
    }
    let (mut refused, mut done) = (BTreeSet::new(), BTreeSet::new());
    let mut deliveries = 0;
    while done.len() < COUNT {
        let delivery = inbox.again().await;
        let content = text(&delivery);
        deliveries += 1;
        let fails = deliveries <= 2 || deliveries % 5 == 0;
        if fails && refused.insert(content.clone()) {
            delivery.settle(Outcome::Nack);
        } else {
            done.insert(content);
            delivery.settle(Outcome::Ack);
        }
    }
    assert!(refused.len() >= 4, "{refused:?} were refused");
    inbox.quiet("acknowledged after all").await;
}

/// As many may be held as the broker says, and they may be settled in any order.
async fn many_held(on: &Sender<'_>) {
    let mut inbox = on.subscribe().await;
    assert!(
        inbox.concurrency >= 1,
        "a subscription hands out at least one message at once"
    );
    // Messages that hold back others may all be behind the first.
    let held = if on.nature.holds {
        1
    } else {
        inbox.concurrency.min(8)
    };
    for number in 0..held {
        on.publish(&number.to_string()).await;
    }
    let mut deliveries = Vec::new();
    for _ in 0..held {
        deliveries.push(inbox.next().await);
    }
    while let Some(delivery) = deliveries.pop() {
        delivery.settle(Outcome::Ack);
    }
    on.publish("last").await;
    inbox.expect("last").await;
}

/// Leaving gives back what is held. A durable broker keeps it, and everything else, for the next who comes.
async fn leaving(on: &Sender<'_>) {
    let mut inbox = on.subscribe().await;
    on.publish("done").await;
    inbox.expect("done").await;
    on.publish("held").await;
    let held = inbox.next().await;
    drop(inbox);
    drop(held);
    on.publish("missed").await;
    let mut inbox = on.subscribe().await;
    on.publish("new").await;
    let mut expected: BTreeSet<String> = ["held", "missed", "new"].map(str::to_owned).into();
    if !on.nature.durable {
        expected.retain(|text| text == "new");
    }
    let mut seen = BTreeSet::new();
    while !expected.is_subset(&seen) {
        let delivery = inbox.again().await;
        seen.insert(text(&delivery));
        delivery.settle(Outcome::Ack);
    }
    if on.nature.repeats {
        seen.remove("done");
    }
    if !on.nature.durable {
        // It may forget the rest, or not yet have done so.
        seen.retain(|text| text == "new" || text == "done");
    }
    assert_eq!(seen, expected, "after coming back");
    inbox.quiet("nothing twice").await;
}

async fn wildcards(on: &Sender<'_>) {
    let Some(wildcard) = on.nature.wildcard else {
        return;
    };
    if !on.broker.features().subscribe_wildcards {
        return;
    }
    let below = |name: &str| Sender {
        topic: format!("{}/{name}", on.topic),
        ..*on
    };
    let mut wild = below(wildcard).subscribe().await;
    let mut exact = below("a").subscribe().await;
    below("a").publish("a").await;
    below("b").publish("b").await;
    below("").publish("too short").await;
    on.publish("elsewhere").await;
    wild.expect("a").await;
    wild.expect("b").await;
    wild.quiet("what does not match").await;
    exact.expect("a").await;
    exact.quiet("what does not match").await;
}

/// Publishing in bulk works as claimed; what is not claimed hands the entries back.
async fn bulk(on: &Sender<'_>) {
    let mut inbox = on.subscribe().await;
    let entries: Vec<Entry> = (0..30)
        .map(|number| Entry {
            id: format!("id{number}"),
            data: number.to_string().into(),
            content_type: "text/plain".to_owned(),
            metadata: on.metadata("key"),
        })
        .collect();
    let none = Metadata::new();
    match on.broker.publish_bulk(&on.topic, entries.clone(), &none).await {
        Ok(failed) => {
            assert!(on.broker.features().bulk, "bulk is not claimed, and was done");
            assert!(failed.is_empty(), "{failed:?}");
            let came = inbox.take(30).await;
            let mut expected: Vec<String> = (0..30).map(|number| number.to_string()).collect();
            if on.nature.order == Order::None {
                expected.sort();
            }
            assert_eq!(came, expected, "of a bulk");
        }
        Err(returned) => {
            assert!(!on.broker.features().bulk, "bulk is claimed, and was refused");
            assert_eq!(returned, entries, "entries come back as they were");
        }
    }
    inbox.quiet("nothing else").await;
}

/// A subscription whose app takes many at once gets them all, once.
async fn batches(on: &Sender<'_>) {
    let subscribe = Subscribe {
        topic: on.topic.clone(),
        batch: 5,
        ..Subscribe::default()
    };
    let mut inbox = Inbox::open(on.broker, subscribe, on.nature).await;
    for number in 0..30 {
        on.publish(&number.to_string()).await;
    }
    let mut came: Vec<usize> = Vec::new();
    for content in inbox.take(30).await {
        came.push(content.parse().expect("as it was published"));
    }
    came.sort_unstable();
    assert_eq!(came, (0..30).collect::<Vec<_>>(), "each once");
    inbox.quiet("nothing else").await;
}
