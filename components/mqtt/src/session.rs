//! What outlives a connection: messages under way in both directions, and subscriptions.
//!
//! Nothing here waits for the network; the lock is held for as long as it takes to append some bytes.
//!
//! Invariants
//! - A message of ours stays until the broker has acknowledged it or its publisher has given up; a new connection sends
//!   it again, as MQTT wants it, when the broker still knows us.
//! - A message of theirs is acknowledged when everybody here whom it is for has settled it. MQTT 3.1.1 has no word for
//!   refusing: what is refused waits here for its next turn, and the broker keeps it, too.
//! - What a lost connection has brought is thrown away unless the broker has forgotten us: it comes again.

mod inbox;
mod outbox;
#[cfg(test)]
mod tests;

use crate::Failure;
use crate::filter::{bare, matches};
use crate::packet::{self, Ack, Packet, Publish, Qos};
use bytes::Bytes;
use inbox::{Arrived, Stray};
use outbox::{Out, Pending};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch};

pub(crate) use inbox::Inbox;
pub(crate) use outbox::Outgoing;

/// Bytes of messages that may wait to be written or acknowledged, in units of [`UNIT`].
const CREDIT: u32 = 16 * 1024;
const UNIT: usize = 1024;
/// Messages that may wait here for somebody to take them; with more, reading stops.
const MOST_ARRIVED: usize = 10_000;
/// Messages for subscriptions that do not exist here yet, or no longer.
const MOST_STRAYS: usize = 1_000;

pub(crate) struct Session {
    state: Mutex<State>,
    /// There is something to write.
    pub wake: Notify,
    /// The session is closed.
    pub farewell: Notify,
    /// A message was settled.
    fewer: Notify,
    credit: Arc<Semaphore>,
    /// Whether there is a connection.
    up: watch::Sender<Line>,
    pub qos: Qos,
}

/// The connection, as publishers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    Up,
    Down(Failure),
}

struct State {
    out: Out,
    connected: bool,
    closing: bool,
    /// Counts connections.
    epoch: u64,
    /// Next number for anything that is kept.
    next: u64,
    /// Where to look for the next number of a packet.
    next_id: u16,
    /// Of ours, in the order of publishing.
    pending: BTreeMap<u64, Pending>,
    ids: HashMap<u16, u64>,
    /// Subscriptions, and questions about them that are under way.
    inboxes: BTreeMap<u64, Slot>,
    asked: HashMap<u16, Vec<u64>>,
    /// Of theirs, in the order of arrival.
    arrived: BTreeMap<u64, Arrived>,
    strays: VecDeque<Stray>,
    /// Numbers of theirs with [`Qos::Two`] that are here, which they do not know to be done.
    receiving: BTreeSet<u16>,
}

/// One subscription.
struct Slot {
    /// As the broker knows it.
    filter: String,
    waiting: VecDeque<u64>,
    more: Arc<Notify>,
    /// Who waits for the broker's consent.
    granted: Option<oneshot::Sender<Result<(), Failure>>>,
}

/// What the writing side has to do.
pub(crate) enum Work {
    Write(VecDeque<Bytes>, Vec<OwnedSemaphorePermit>),
    Wait,
    /// All is written, and nobody is left who would write.
    Stop,
}

impl Session {
    pub(crate) fn new(qos: Qos) -> Self {
        Self {
            state: Mutex::new(State {
                out: Out::default(),
                connected: false,
                closing: false,
                epoch: 0,
                next: 0,
                // The broker may remember numbers of an earlier life.
                next_id: rand::random_range(1..=u16::MAX),
                pending: BTreeMap::new(),
                ids: HashMap::new(),
                inboxes: BTreeMap::new(),
                asked: HashMap::new(),
                arrived: BTreeMap::new(),
                strays: VecDeque::new(),
                receiving: BTreeSet::new(),
            }),
            wake: Notify::new(),
            farewell: Notify::new(),
            fewer: Notify::new(),
            credit: Arc::new(Semaphore::new(CREDIT as usize)),
            up: watch::Sender::new(Line::Down(Failure::Ended)),
            qos,
        }
    }

    /// A new connection. `known`: the broker remembers us.
    pub(crate) fn connected(&self, known: bool) -> Result<(), Failure> {
        let mut state = self.state();
        state.connected = true;
        state.epoch += 1;
        state.out = Out::default();
        state.asked.clear();
        if known {
            // It comes again.
            state
                .arrived
                .retain(|_, message| message.publish.qos == Qos::Zero);
            let State {
                arrived,
                inboxes,
                strays,
                ..
            } = &mut *state;
            for slot in inboxes.values_mut() {
                slot.waiting.retain(|number| arrived.contains_key(number));
            }
            strays.retain(|stray| arrived.contains_key(&stray.number));
        } else {
            state.receiving.clear();
        }
        state.subscribe_all(self.qos)?;
        state.send_again(known);
        drop(state);
        self.up.send_replace(Line::Up);
        self.wake.notify_one();
        Ok(())
    }

    pub(crate) fn lost(&self, failure: Failure) {
        self.state().connected = false;
        self.up.send_replace(Line::Down(failure));
    }

    /// Nothing new is taken; the connection ends when all is written.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        if !state.closing {
            state.closing = true;
            packet::disconnect(&mut state.out.tail);
        }
        drop(state);
        self.wake.notify_one();
        self.farewell.notify_one();
    }

    pub(crate) fn line(&self) -> watch::Receiver<Line> {
        self.up.subscribe()
    }

    pub(crate) fn work(&self) -> Work {
        let mut state = self.state();
        match state.out.take() {
            Some((chunks, credit)) => Work::Write(chunks, credit),
            None if state.closing => Work::Stop,
            None => Work::Wait,
        }
    }

    pub(crate) fn ping(&self) {
        packet::ping(&mut self.state().out.tail);
    }

    /// Returns when few enough messages wait to be taken.
    pub(crate) async fn room(&self) {
        loop {
            let fewer = self.fewer.notified();
            tokio::pin!(fewer);
            fewer.as_mut().enable();
            if self.state().arrived.len() < MOST_ARRIVED {
                return;
            }
            fewer.await;
        }
    }

    /// Takes in one packet.
    pub(crate) fn take(&self, packet: Packet) -> Result<(), Failure> {
        let mut state = self.state();
        match packet {
            Packet::Publish(publish) => state.arrive(publish),
            Packet::PubAck(id) | Packet::PubComp(id) => state.done(id),
            Packet::PubRec(id) => state.release(id),
            Packet::PubRel(id) => {
                state.receiving.remove(&id);
                packet::ack(&mut state.out.tail, Ack::Complete, id);
            }
            Packet::SubAck(id, granted) => {
                let asked = state.asked.remove(&id).unwrap_or_default();
                if asked.len() != granted.len() {
                    return Err(Failure::Malformed("an answer to other subscriptions"));
                }
                for (number, granted) in asked.into_iter().zip(granted) {
                    let waiting = state
                        .inboxes
                        .get_mut(&number)
                        .and_then(|slot| slot.granted.take());
                    if let Some(to) = waiting {
                        // Who asked may have stopped waiting.
                        let _unheard = to.send(if granted { Ok(()) } else { Err(Failure::Forbidden) });
                    }
                }
            }
            Packet::UnsubAck(_) | Packet::Pong => {}
            Packet::Welcome { .. } | Packet::NotWelcome(_) => {
                return Err(Failure::Malformed("a second welcome"));
            }
        }
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A number for a packet that is not in use. There are more of them than messages may be under way.
    fn id(&mut self) -> Result<u16, Failure> {
        for _ in 0..=u16::MAX {
            let id = self.next_id;
            self.next_id = id.checked_add(1).unwrap_or(1);
            if !self.ids.contains_key(&id) && !self.asked.contains_key(&id) {
                return Ok(id);
            }
        }
        Err(Failure::Lost("too many messages are under way".to_owned()))
    }

    /// Tells the broker about all subscriptions: it may have forgotten them.
    fn subscribe_all(&mut self, qos: Qos) -> Result<(), Failure> {
        if self.inboxes.is_empty() {
            return Ok(());
        }
        let id = self.id()?;
        let numbers = self.inboxes.keys().copied().collect();
        let filters = self.inboxes.values().map(|slot| slot.filter.as_str());
        packet::subscribe(&mut self.out.tail, id, filters, qos)?;
        self.asked.insert(id, numbers);
        Ok(())
    }

    /// A message came.
    fn arrive(&mut self, publish: Publish) {
        if publish.qos == Qos::Two && self.receiving.contains(&publish.id) {
            packet::ack(&mut self.out.tail, Ack::Received, publish.id);
            return;
        }
        let number = self.number();
        let wanted: Vec<u64> = self
            .inboxes
            .iter()
            .filter(|(_, slot)| matches(bare(&slot.filter), &publish.topic))
            .map(|(number, _)| *number)
            .collect();
        if wanted.is_empty() {
            self.stray(number, publish);
            return;
        }
        let passing = publish.qos == Qos::Zero;
        if passing && self.arrived.len() >= MOST_ARRIVED {
            // At most once: who does not keep up misses it.
            return;
        }
        let arrived = Arrived {
            epoch: self.epoch,
            left: wanted.len(),
            publish,
        };
        self.arrived.insert(number, arrived);
        for inbox in wanted {
            if let Some(slot) = self.inboxes.get_mut(&inbox) {
                slot.waiting.push_back(number);
                slot.more.notify_one();
            }
        }
    }

    /// Nobody is subscribed: perhaps soon.
    fn stray(&mut self, number: u64, publish: Publish) {
        if publish.qos == Qos::Zero || self.strays.len() >= MOST_STRAYS {
            // Not acknowledged, so it comes again with the next connection.
            return;
        }
        let arrived = Arrived {
            epoch: self.epoch,
            left: 1,
            publish,
        };
        self.arrived.insert(number, arrived);
        self.strays.push_back(Stray { number, filter: None });
    }
}
