//! Messages of theirs, from the broker to the subscriber's outcome.

use super::{Session, Slot, State};
use crate::Failure;
use crate::filter::{bare, matches};
use crate::packet::{self, Ack, Publish, Qos};
use outrigger_component::pubsub::{Outcome, Settle};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// A message that is not settled.
pub(super) struct Arrived {
    pub publish: Publish,
    /// The connection that brought it.
    pub epoch: u64,
    /// How many subscriptions have not settled it.
    pub left: usize,
}

/// A message that waits for a subscription.
pub(super) struct Stray {
    pub number: u64,
    /// As the subscription was that has given it back; `None` if nobody has seen it.
    pub filter: Option<String>,
}

/// A subscription. Dropping it ends it.
pub(crate) struct Inbox {
    session: Arc<Session>,
    number: u64,
    more: Arc<Notify>,
    /// The broker is told when it ends, and forgets it.
    unsubscribes: bool,
    settle: Arc<dyn Settle>,
}

/// What outcomes of one subscription go through.
struct Held {
    session: Arc<Session>,
    inbox: u64,
}

impl Inbox {
    /// Subscribes, and waits for the broker's consent for at most `patience`.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn open(
        session: &Arc<Session>,
        filter: &str,
        unsubscribes: bool,
        patience: Duration,
    ) -> Result<Self, Failure> {
        let (inbox, granted) = Self::add(session, filter, unsubscribes)?;
        match tokio::time::timeout(patience, granted).await {
            Ok(Ok(Ok(()))) => Ok(inbox),
            Ok(Ok(Err(failure))) => Err(failure),
            Ok(Err(_)) => Err(Failure::Ended),
            Err(_) => Err(Failure::Silent(patience)),
        }
    }

    fn add(
        session: &Arc<Session>,
        filter: &str,
        unsubscribes: bool,
    ) -> Result<(Self, oneshot::Receiver<Result<(), Failure>>), Failure> {
        let (to, granted) = oneshot::channel();
        let more = Arc::new(Notify::new());
        let mut state = session.state();
        if state.closing {
            return Err(Failure::Ended);
        }
        let number = state.number();
        if state.connected {
            let id = state.id()?;
            packet::subscribe(&mut state.out.tail, id, [filter], session.qos)?;
            state.asked.insert(id, vec![number]);
        }
        let waiting = state.adopt(filter);
        let slot = Slot {
            filter: filter.to_owned(),
            waiting,
            more: Arc::clone(&more),
            granted: Some(to),
        };
        state.inboxes.insert(number, slot);
        drop(state);
        session.wake.notify_one();
        let inbox = Self {
            session: Arc::clone(session),
            number,
            more,
            unsubscribes,
            settle: Arc::new(Held {
                session: Arc::clone(session),
                inbox: number,
            }),
        };
        Ok((inbox, granted))
    }

    /// The next message, and the token with which it is settled; waits for one.
    pub(crate) async fn next(&self) -> (Publish, u64) {
        // A message that is refused is the next at once: whoever refuses it must not keep others of its task waiting.
        tokio::task::coop::consume_budget().await;
        loop {
            if let Some(next) = self.pop() {
                return next;
            }
            self.more.notified().await;
        }
    }

    /// For the outcomes of this subscription's messages.
    pub(crate) fn settle(&self) -> &Arc<dyn Settle> {
        &self.settle
    }

    /// Neither taken nor given back: it comes again with the next connection, and not before.
    pub(crate) fn forget(&self, token: u64) {
        self.session.state().arrived.remove(&token);
        self.session.fewer.notify_waiters();
    }

    fn pop(&self) -> Option<(Publish, u64)> {
        let mut state = self.session.state();
        let State { inboxes, arrived, .. } = &mut *state;
        let slot = inboxes.get_mut(&self.number)?;
        while let Some(number) = slot.waiting.pop_front() {
            if let Some(message) = arrived.get(&number) {
                let publish = message.publish.clone();
                if publish.qos == Qos::Zero && message.left == 1 {
                    // It is gone with the first attempt.
                    arrived.remove(&number);
                }
                return Some((publish, number));
            }
        }
        None
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let mut state = self.session.state();
        let Some(slot) = state.inboxes.remove(&self.number) else {
            return;
        };
        // Another subscription to the same goes on.
        let alone = !state.inboxes.values().any(|other| other.filter == slot.filter);
        if self.unsubscribes && alone && state.connected {
            let asked = state.id();
            // Too long a filter would not have been subscribed to.
            let _told = asked.and_then(|id| packet::unsubscribe(&mut state.out.tail, id, &slot.filter));
        }
        for number in slot.waiting {
            state.homeless(number, &slot.filter, self.unsubscribes);
        }
        drop(state);
        self.session.wake.notify_one();
    }
}

impl Settle for Held {
    fn settle(&self, token: u64, outcome: Outcome) {
        let mut state = self.session.state();
        match outcome {
            Outcome::Ack => state.settled(token),
            Outcome::Nack => state.refused(token, self.inbox),
        }
        drop(state);
        self.session.fewer.notify_waiters();
        self.session.wake.notify_one();
    }
}

impl State {
    fn settled(&mut self, number: u64) {
        let Some(message) = self.arrived.get_mut(&number) else {
            return;
        };
        message.left = message.left.saturating_sub(1);
        if message.left > 0 {
            return;
        }
        if let Some(Arrived { publish, epoch, .. }) = self.arrived.remove(&number) {
            if epoch != self.epoch || !self.connected {
                return;
            }
            match publish.qos {
                Qos::Zero => {}
                Qos::One => packet::ack(&mut self.out.tail, Ack::Done, publish.id),
                Qos::Two => {
                    self.receiving.insert(publish.id);
                    packet::ack(&mut self.out.tail, Ack::Received, publish.id);
                }
            }
        }
    }

    /// Behind the others: its next turn is theirs first.
    fn refused(&mut self, number: u64, inbox: u64) {
        let Some(message) = self.arrived.get(&number) else {
            return;
        };
        if let Some(slot) = self.inboxes.get_mut(&inbox) {
            slot.waiting.push_back(number);
            slot.more.notify_one();
            return;
        }
        // The subscription is gone. Whoever comes next for the topic may have it.
        if message.publish.qos == Qos::Zero {
            self.settled(number);
        } else {
            self.strays.push_back(Stray { number, filter: None });
        }
    }

    /// A message that was not handed out, of a subscription that has ended.
    fn homeless(&mut self, number: u64, filter: &str, forgotten: bool) {
        let passing = self
            .arrived
            .get(&number)
            .is_none_or(|message| message.publish.qos == Qos::Zero);
        if forgotten || passing {
            self.settled(number);
        } else {
            self.strays.push_back(Stray {
                number,
                filter: Some(filter.to_owned()),
            });
        }
    }

    /// What waits for such a subscription.
    fn adopt(&mut self, filter: &str) -> VecDeque<u64> {
        let State { strays, arrived, .. } = self;
        let mut found = VecDeque::new();
        strays.retain(|stray| {
            let Some(message) = arrived.get(&stray.number) else {
                return false;
            };
            let same = stray.filter.as_deref().is_none_or(|other| other == filter);
            let meant = same && matches(bare(filter), &message.publish.topic);
            if meant {
                found.push_back(stray.number);
            }
            !meant
        });
        found
    }
}
