//! One member of a group.

use super::Ledger;
use crate::conformance::pubsub::Nature;
use crate::conformance::pubsub::inbox::Inbox;
use futures::StreamExt as _;
use outrigger_component::pubsub::{Delivery, PubSub, Subscribe};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

pub(super) struct Member {
    broker: Arc<dyn PubSub>,
    inbox: Inbox,
}

impl Member {
    pub(super) async fn join(broker: Arc<dyn PubSub>, topic: &str, nature: Nature) -> Self {
        let subscribe = Subscribe {
            topic: topic.to_owned(),
            ..Subscribe::default()
        };
        let inbox = Inbox::open(&*broker, subscribe, nature).await;
        Self { broker, inbox }
    }

    pub(super) fn concurrency(&self) -> usize {
        self.inbox.concurrency
    }

    /// Takes one after the other, each with so much work. Never ends by itself; cancelled, it drops what it has in hand.
    pub(super) async fn work(&mut self, ledger: &Ledger, time: Duration) {
        loop {
            let delivery = self.inbox.deliveries.next().await;
            let delivery = delivery.expect("the subscription goes on");
            if !time.is_zero() {
                tokio::time::sleep(time).await;
            }
            ledger.take(delivery);
        }
    }

    pub(super) async fn next(&mut self, within: Duration) -> Delivery {
        let next = self.next_until(Instant::now() + within, true).await;
        next.expect("a delivery in time")
    }

    /// The next delivery, if there is one by then; without `room` it is only waited.
    pub(super) async fn next_until(&mut self, until: Instant, room: bool) -> Option<Delivery> {
        if !room {
            tokio::time::sleep_until(until).await;
            return None;
        }
        let next = tokio::time::timeout_at(until, self.inbox.deliveries.next()).await;
        next.ok().map(|next| next.expect("the subscription goes on"))
    }

    /// As a sidecar does that ends.
    pub(super) async fn leave(self) {
        drop(self.inbox);
        self.broker.close().await;
    }
}
