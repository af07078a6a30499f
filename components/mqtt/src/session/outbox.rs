//! Messages of ours, from the publisher to the broker's acknowledgement.

use super::{CREDIT, Line, Session, State, UNIT};
use crate::Failure;
use crate::packet::{self, Ack, Qos};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Payloads up to this size are copied behind their head, which is cheaper than a write of their own.
const SMALL: usize = 16 * 1024;
/// Connections that may end with the same message before the broker. It would keep back all others for ever.
const FATAL: u32 = 4;

/// What is to be published.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing<'a> {
    pub topic: &'a str,
    pub payload: Bytes,
    pub retain: bool,
}

/// What is to be written, in order.
#[derive(Default)]
pub(super) struct Out {
    chunks: VecDeque<Bytes>,
    pub tail: BytesMut,
    /// Given back once written.
    credit: Vec<OwnedSemaphorePermit>,
}

/// A message that the broker has not acknowledged.
pub(super) struct Pending {
    id: u16,
    qos: Qos,
    head: BytesMut,
    payload: Bytes,
    /// On some connection.
    sent: bool,
    /// Connections that ended while it was the first without acknowledgement.
    losses: u32,
    /// The broker has it, and has to be told that we know.
    released: bool,
    /// `None` when the publisher has given up.
    done: Option<oneshot::Sender<Result<(), Failure>>>,
    _credit: OwnedSemaphorePermit,
}

impl Out {
    pub(super) fn take(&mut self) -> Option<(VecDeque<Bytes>, Vec<OwnedSemaphorePermit>)> {
        if !self.tail.is_empty() {
            self.chunks.push_back(self.tail.split().freeze());
        }
        if self.chunks.is_empty() {
            return None;
        }
        Some((std::mem::take(&mut self.chunks), std::mem::take(&mut self.credit)))
    }

    fn message(&mut self, head: &[u8], payload: &Bytes) {
        self.tail.extend_from_slice(head);
        if payload.len() > SMALL {
            self.chunks.push_back(self.tail.split().freeze());
            self.chunks.push_back(payload.clone());
        } else {
            self.tail.extend_from_slice(payload);
        }
    }
}

impl Session {
    /// Publishes. Returns when the broker has acknowledged the message; with [`Qos::Zero`], as soon as it is queued to be
    /// written. A connection that is lost meanwhile is waited for, and the message sent again on the next one.
    ///
    /// # Errors
    /// Why the broker may not have it, after at most `patience`.
    pub(crate) async fn publish(&self, message: Outgoing<'_>, patience: Duration) -> Result<(), Failure> {
        let publishing = async {
            let cost = u32::try_from(message.payload.len() / UNIT)
                .unwrap_or(CREDIT)
                .clamp(1, CREDIT);
            let credit = Arc::clone(&self.credit).acquire_many_owned(cost).await;
            let credit = credit.map_err(|_| Failure::Ended)?;
            if self.qos == Qos::Zero {
                // Nobody would send it again.
                let mut line = self.line();
                line.wait_for(|line| *line == Line::Up)
                    .await
                    .map_err(|_| Failure::Ended)?;
                return self.send_once(&message, credit);
            }
            let (number, done) = self.enqueue(&message, credit)?;
            let guard = Guard {
                session: self,
                number,
            };
            let done = done.await.unwrap_or(Err(Failure::Ended));
            drop(guard);
            done
        };
        match tokio::time::timeout(patience, publishing).await {
            Ok(outcome) => outcome,
            Err(_) => Err(match &*self.up.borrow() {
                Line::Up => Failure::Silent(patience),
                Line::Down(failure) => failure.clone(),
            }),
        }
    }

    fn send_once(&self, message: &Outgoing<'_>, credit: OwnedSemaphorePermit) -> Result<(), Failure> {
        let mut head = BytesMut::with_capacity(message.topic.len() + 8);
        packet::publish(
            &mut head,
            message.topic,
            (Qos::Zero, 0),
            message.retain,
            message.payload.len(),
        )?;
        let mut state = self.state();
        if state.closing {
            return Err(Failure::Ended);
        }
        state.out.message(&head, &message.payload);
        state.out.credit.push(credit);
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    fn enqueue(
        &self,
        message: &Outgoing<'_>,
        credit: OwnedSemaphorePermit,
    ) -> Result<(u64, oneshot::Receiver<Result<(), Failure>>), Failure> {
        let mut head = BytesMut::with_capacity(message.topic.len() + 8);
        let mut state = self.state();
        if state.closing {
            return Err(Failure::Ended);
        }
        let id = state.id()?;
        packet::publish(
            &mut head,
            message.topic,
            (self.qos, id),
            message.retain,
            message.payload.len(),
        )?;
        let number = state.number();
        let (to, done) = oneshot::channel();
        let sent = state.connected;
        if sent {
            state.out.message(&head, &message.payload);
        }
        let pending = Pending {
            id,
            qos: self.qos,
            head,
            payload: message.payload.clone(),
            sent,
            losses: 0,
            released: false,
            done: Some(to),
            _credit: credit,
        };
        state.ids.insert(id, number);
        state.pending.insert(number, pending);
        drop(state);
        self.wake.notify_one();
        Ok((number, done))
    }
}

impl State {
    /// The broker is done with this one.
    pub(super) fn done(&mut self, id: u16) {
        let number = self.ids.remove(&id);
        if let Some(done) = number.and_then(|number| self.pending.remove(&number)?.done) {
            // Who published may have stopped waiting.
            let _unheard = done.send(Ok(()));
        }
    }

    /// The broker has this one, and says so as often as we do not answer.
    pub(super) fn release(&mut self, id: u16) {
        let number = self.ids.get(&id);
        if let Some(pending) = number.and_then(|number| self.pending.get_mut(number)) {
            pending.released = true;
            pending.payload = Bytes::new();
        }
        packet::ack(&mut self.out.tail, Ack::Release, id);
    }

    /// On a new connection. `known`: the broker remembers what it had.
    pub(super) fn send_again(&mut self, known: bool) {
        let State {
            pending, ids, out, ..
        } = self;
        // Whoever gave up does not want it sent again, unless the broker would confuse its number with another.
        pending.retain(|_, message| {
            let keep = message.done.is_some() || (known && message.qos == Qos::Two && message.sent);
            if !keep {
                ids.remove(&message.id);
            }
            keep
        });
        if let Some(mut first) = pending.first_entry().filter(|first| first.get().sent) {
            first.get_mut().losses += 1;
            if first.get().losses >= FATAL {
                let message = first.remove();
                ids.remove(&message.id);
                if let Some(done) = message.done {
                    // Who published may have stopped waiting.
                    let _unheard = done.send(Err(Failure::Fatal(FATAL)));
                }
            }
        }
        for message in pending.values_mut() {
            if message.released {
                packet::ack(&mut out.tail, Ack::Release, message.id);
                continue;
            }
            if message.sent && known {
                packet::mark_repeated(&mut message.head);
            }
            message.sent = true;
            out.message(&message.head, &message.payload);
        }
    }
}

/// A publisher that waits. One that stops waiting gives its message up.
struct Guard<'a> {
    session: &'a Session,
    number: u64,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let mut state = self.session.state();
        let State { pending, ids, .. } = &mut *state;
        if let Some(message) = pending.get_mut(&self.number) {
            message.done = None;
            // What was sent keeps its number: its acknowledgement may still come.
            if !message.sent {
                ids.remove(&message.id);
                pending.remove(&self.number);
            }
        }
    }
}
