//! What was acknowledged and what came, by key.

use super::{Nature, Order};
use crate::audit::{Events, Verdict};
use crate::broker::text;
use outrigger_component::metadata::Metadata;
use outrigger_component::pubsub::{Delivery, Outcome, Outgoing, PubSub};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A publish that fails is repeated for so long.
const STUBBORN: Duration = Duration::from_secs(120);

pub(super) struct Ledger {
    case: &'static str,
    keys: Mutex<BTreeMap<u64, Events>>,
}

impl Ledger {
    pub(super) fn new(case: &'static str) -> Self {
        Self {
            case,
            keys: Mutex::default(),
        }
    }

    /// Notes a delivery and acknowledges it.
    pub(super) fn take(&self, delivery: Delivery) {
        let content = text(&delivery);
        let numbers = content
            .split_once(' ')
            .and_then(|(key, number)| Some((key.parse().ok()?, number.parse().ok()?)));
        let (key, number): (u64, u64) = numbers.expect("as it was published");
        self.keys()
            .entry(key)
            .or_default()
            .delivered(number, content.as_str());
        delivery.settle(Outcome::Ack);
    }

    /// Different messages that came.
    pub(super) fn delivered(&self) -> u64 {
        let delivered: usize = self.keys().values().map(Events::distinct).sum();
        delivered as u64
    }

    pub(super) fn missing(&self) -> usize {
        self.keys().values().map(Events::missing).sum()
    }

    /// Says what became of the messages, and judges it.
    pub(super) fn tell(&self, nature: Nature) {
        let mut verdict = Verdict::default();
        for events in self.keys().values() {
            verdict.add(events.verdict());
        }
        self.say(&verdict.to_string());
        verdict.check();
        if matches!(nature.order, Order::PerKey(_)) {
            assert_eq!(
                verdict.reordered, 0,
                "{}: messages overtook others of their key",
                self.case
            );
        }
    }

    #[expect(clippy::print_stdout, reason = "what came of a run is to be seen")]
    pub(super) fn say(&self, text: &str) {
        println!("\n{}: {text}", self.case);
    }

    fn keys(&self) -> MutexGuard<'_, BTreeMap<u64, Events>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Publishes the messages of one key one after the other.
pub(super) struct Publisher<'a> {
    broker: &'a dyn PubSub,
    topic: &'a str,
    key: u64,
    next: u64,
    nature: Nature,
    ledger: &'a Ledger,
}

impl<'a> Publisher<'a> {
    pub(super) fn new(
        broker: &'a dyn PubSub,
        topic: &'a str,
        key: u64,
        nature: Nature,
        ledger: &'a Ledger,
    ) -> Self {
        Self {
            broker,
            topic,
            key,
            next: 0,
            nature,
            ledger,
        }
    }

    /// Each until it is acknowledged.
    pub(super) async fn publish(&mut self, count: u64) {
        for _ in 0..count {
            let number = self.next;
            self.next += 1;
            let key = self.key.to_string();
            let content = format!("{key} {number}");
            send(self.broker, self.topic, &key, content, self.nature).await;
            self.ledger
                .keys()
                .entry(self.key)
                .or_default()
                .acknowledged(number);
        }
    }
}

pub(super) async fn send(broker: &dyn PubSub, topic: &str, key: &str, content: String, nature: Nature) {
    let began = Instant::now();
    let mut metadata = Metadata::new();
    if let Order::PerKey(name) = nature.order {
        metadata.insert(name, key);
    }
    let message = Outgoing {
        topic: topic.to_owned(),
        data: content.into(),
        content_type: Some("text/plain".to_owned()),
        metadata,
    };
    while let Err(error) = broker.publish(message.clone()).await {
        assert!(
            error.is_retryable(),
            "a broker that is away is unavailable or late, not {:?}: {error}",
            error.kind
        );
        assert!(
            began.elapsed() < STUBBORN,
            "publishing fails for {STUBBORN:?}: {error}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
