//! What the task of a connection shares with those who use it: bytes to be written, and who waits for what.
//!
//! Nothing here waits; the lock is held for as long as it takes to append some bytes.

use super::Failure;
use super::content::{Assembly, Delivery, bodies};
use super::frame::{END, Frame, HEARTBEAT, Kind};
use super::method::{self, Deliver, Method, Refuse};
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

/// Bytes of messages that may wait to be written or confirmed, in units of [`UNIT`].
pub(super) const CREDIT: u32 = 16 * 1024;
pub(super) const UNIT: usize = 1024;
/// Bodies up to this size are copied behind their header, which is cheaper than a write of their own.
const SMALL: usize = 16 * 1024;
/// The highest number of a channel that is ever used.
const CHANNELS: u16 = 2047;

pub(super) struct Shared {
    state: Mutex<State>,
    /// There is something to write.
    pub wake: Notify,
    /// Somebody wants the connection closed.
    pub farewell: Notify,
    pub credit: Arc<Semaphore>,
    pub end: watch::Sender<Option<Failure>>,
    /// Why the server takes no messages at present, if it said so.
    pub blocked: watch::Sender<Option<String>>,
    pub longest_frame: usize,
    channels: u16,
}

#[derive(Default)]
struct State {
    out: Out,
    slots: BTreeMap<u16, Slot>,
    /// The server has closed the connection: the end, as soon as our answer is written.
    last: Option<Failure>,
    /// We have.
    closing: bool,
    dead: Option<Failure>,
}

/// What is to be written, in order.
#[derive(Default)]
struct Out {
    chunks: VecDeque<Bytes>,
    tail: BytesMut,
    /// Given back once written.
    credit: Vec<OwnedSemaphorePermit>,
}

/// One channel.
#[derive(Default)]
pub(super) struct Slot {
    reply: Option<oneshot::Sender<Result<Method, Failure>>>,
    confirms: Option<Confirms>,
    consumer: Option<Consumer>,
    content: Option<Assembly>,
    /// We have closed it and wait for the answer; what still comes is of no interest.
    closing: bool,
}

#[derive(Clone)]
struct Consumer {
    to: mpsc::Sender<Delivery>,
    auto_ack: bool,
}

/// Messages that wait for their confirm, in the order of their numbers.
struct Confirms {
    first: u64,
    waiting: VecDeque<Option<Waiting>>,
}

struct Waiting {
    to: oneshot::Sender<Result<(), Failure>>,
    _credit: OwnedSemaphorePermit,
}

/// What the reading side has to do outside of the lock.
pub(super) enum Then {
    Nothing,
    /// Hand this to a consumer, waiting for room.
    Deliver(Parcel),
    /// The conversation is over.
    Stop,
}

pub(super) struct Parcel {
    channel: u16,
    consumer: Consumer,
    delivery: Delivery,
}

/// What the writing side has to do.
pub(super) enum Work {
    Write(VecDeque<Bytes>, Vec<OwnedSemaphorePermit>),
    Wait,
    Stop(Failure),
}

impl Shared {
    pub(super) fn new(longest_frame: usize, channels: u16) -> Self {
        Self {
            state: Mutex::default(),
            wake: Notify::new(),
            farewell: Notify::new(),
            credit: Arc::new(Semaphore::new(CREDIT as usize)),
            end: watch::Sender::new(None),
            blocked: watch::Sender::new(None),
            longest_frame,
            channels: channels.min(CHANNELS),
        }
    }

    /// Appends something to be written.
    pub(super) fn send(
        &self,
        write: impl FnOnce(&mut BytesMut) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut state = self.state();
        state.alive()?;
        write(&mut state.out.tail)?;
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Appends a request of a channel, and says where its answer will be.
    pub(super) fn ask(
        &self,
        channel: u16,
        write: impl FnOnce(&mut BytesMut) -> Result<(), Failure>,
    ) -> Result<oneshot::Receiver<Result<Method, Failure>>, Failure> {
        let (to, answer) = oneshot::channel();
        let mut state = self.state();
        state.alive()?;
        let State { out, slots, .. } = &mut *state;
        let slot = slots.get_mut(&channel).ok_or(Failure::Ended)?;
        write(&mut out.tail)?;
        slot.reply = Some(to);
        drop(state);
        self.wake.notify_one();
        Ok(answer)
    }

    /// A channel that is not in use.
    pub(super) fn claim(&self) -> Result<u16, Failure> {
        let mut state = self.state();
        state.alive()?;
        let free = (1..=self.channels).find(|number| !state.slots.contains_key(number));
        let number = free.ok_or(Failure::Malformed("it allows no more channels"))?;
        state.slots.insert(number, Slot::default());
        Ok(number)
    }

    /// Gives a channel back.
    pub(super) fn release(&self, channel: u16) {
        let mut state = self.state();
        let State { out, slots, dead, .. } = &mut *state;
        let Some(slot) = slots.get_mut(&channel) else {
            return;
        };
        if dead.is_some() || method::close(&mut out.tail, channel).is_err() {
            slots.remove(&channel);
            return;
        }
        *slot = Slot {
            closing: true,
            ..Slot::default()
        };
        drop(state);
        self.wake.notify_one();
    }

    pub(super) fn set_confirms(&self, channel: u16) {
        if let Some(slot) = self.state().slots.get_mut(&channel) {
            slot.confirms = Some(Confirms {
                first: 1,
                waiting: VecDeque::new(),
            });
        }
    }

    pub(super) fn set_consumer(&self, channel: u16, to: mpsc::Sender<Delivery>, auto_ack: bool) {
        if let Some(slot) = self.state().slots.get_mut(&channel) {
            slot.consumer = Some(Consumer { to, auto_ack });
        }
    }

    /// Appends a message: `head` is everything before the frames of its body. `None` if it will not be confirmed.
    pub(super) fn publish(
        &self,
        channel: u16,
        head: &BytesMut,
        body: &Bytes,
        credit: OwnedSemaphorePermit,
    ) -> Result<Option<oneshot::Receiver<Result<(), Failure>>>, Failure> {
        let mut state = self.state();
        state.alive()?;
        let State { out, slots, .. } = &mut *state;
        let slot = slots
            .get_mut(&channel)
            .filter(|slot| !slot.closing)
            .ok_or(Failure::Ended)?;
        out.tail.extend_from_slice(head);
        for (head, part) in bodies(channel, body, self.longest_frame) {
            out.tail.put_slice(&head);
            if part.len() > SMALL {
                let before = out.tail.split().freeze();
                out.chunks.push_back(before);
                out.chunks.push_back(part);
            } else {
                out.tail.put_slice(&part);
            }
            out.tail.put_u8(END);
        }
        let confirmed = match &mut slot.confirms {
            Some(confirms) => {
                let (to, confirmed) = oneshot::channel();
                confirms.waiting.push_back(Some(Waiting { to, _credit: credit }));
                Some(confirmed)
            }
            None => {
                out.credit.push(credit);
                None
            }
        };
        drop(state);
        self.wake.notify_one();
        Ok(confirmed)
    }

    pub(super) fn work(&self) -> Work {
        let mut state = self.state();
        if let Some(failure) = &state.dead {
            return Work::Stop(failure.clone());
        }
        let out = &mut state.out;
        if !out.tail.is_empty() {
            let tail = out.tail.split().freeze();
            out.chunks.push_back(tail);
        }
        if !out.chunks.is_empty() {
            return Work::Write(std::mem::take(&mut out.chunks), std::mem::take(&mut out.credit));
        }
        match &state.last {
            Some(failure) => Work::Stop(failure.clone()),
            None => Work::Wait,
        }
    }

    pub(super) fn heartbeat(&self) {
        self.state().out.tail.put_slice(&HEARTBEAT);
    }

    /// Asks the server to end the connection, once.
    pub(super) fn close(&self) {
        let mut state = self.state();
        if state.closing || state.last.is_some() || state.dead.is_some() {
            return;
        }
        state.closing = true;
        // It has fixed and short arguments.
        let _short = method::close(&mut state.out.tail, 0);
        drop(state);
        self.wake.notify_one();
        self.farewell.notify_one();
    }

    /// The end: everybody who waits for anything is told.
    pub(super) fn fail(&self, failure: &Failure) {
        let mut state = self.state();
        if state.dead.is_some() {
            return;
        }
        state.dead = Some(failure.clone());
        state.out = Out::default();
        let slots = std::mem::take(&mut state.slots);
        drop(state);
        for (_, slot) in slots {
            slot.fail(failure);
        }
        self.credit.close();
        self.end.send_replace(Some(failure.clone()));
        self.wake.notify_one();
    }

    /// Why the connection is gone.
    pub(super) fn failure(&self) -> Failure {
        self.state().dead.clone().unwrap_or(Failure::Ended)
    }

    /// Takes in one frame.
    pub(super) fn take(&self, frame: Frame) -> Result<Then, Failure> {
        let Frame {
            kind,
            channel,
            payload,
        } = frame;
        match kind {
            Kind::Heartbeat => Ok(Then::Nothing),
            Kind::Method => self.method(channel, Method::read(payload)?),
            Kind::Header => self.content(channel, |content| content.header(payload)),
            Kind::Body => self.content(channel, |content| content.body(payload)),
        }
    }

    fn method(&self, channel: u16, method: Method) -> Result<Then, Failure> {
        let mut state = self.state();
        let State { out, slots, last, .. } = &mut *state;
        match method {
            Method::Close { code, text } => {
                *last = Some(Failure::Closed { code, text });
                method::close_ok(&mut out.tail, 0);
                drop(state);
                self.wake.notify_one();
                return Ok(Then::Stop);
            }
            Method::CloseOk => return Err(Failure::Ended),
            Method::Blocked { reason } => drop(self.blocked.send_replace(Some(reason))),
            Method::Unblocked => drop(self.blocked.send_replace(None)),
            Method::ChannelClose { code, text } => {
                method::close_ok(&mut out.tail, channel);
                let slot = slots.remove(&channel);
                drop(state);
                self.wake.notify_one();
                if let Some(slot) = slot {
                    slot.fail(&Failure::Closed { code, text });
                }
            }
            Method::ChannelCloseOk => {
                slots.remove(&channel);
            }
            Method::Flow { active } => {
                method::flow_ok(&mut out.tail, channel, active)?;
                drop(state);
                self.wake.notify_one();
            }
            other => {
                let Some(slot) = slots.get_mut(&channel).filter(|slot| !slot.closing) else {
                    return Ok(Then::Nothing);
                };
                slot.method(other)?;
            }
        }
        Ok(Then::Nothing)
    }

    fn content(
        &self,
        channel: u16,
        add: impl FnOnce(&mut Assembly) -> Result<(), Failure>,
    ) -> Result<Then, Failure> {
        let mut state = self.state();
        let Some(slot) = state.slots.get_mut(&channel) else {
            return Ok(Then::Nothing);
        };
        let Some(content) = &mut slot.content else {
            return if slot.closing {
                Ok(Then::Nothing)
            } else {
                Err(Failure::Malformed("a message without a delivery"))
            };
        };
        add(content)?;
        if !content.is_complete() {
            return Ok(Then::Nothing);
        }
        Ok(match (slot.content.take(), slot.consumer.clone()) {
            (Some(content), Some(consumer)) => Then::Deliver(Parcel {
                channel,
                consumer,
                delivery: content.delivery(),
            }),
            _ => Then::Nothing,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn alive(&self) -> Result<(), Failure> {
        match self.dead.as_ref().or(self.last.as_ref()) {
            Some(failure) => Err(failure.clone()),
            None => Ok(()),
        }
    }
}

impl Slot {
    fn method(&mut self, method: Method) -> Result<(), Failure> {
        match method {
            Method::Deliver(Deliver { tag, redelivered }) => {
                if self.content.replace(Assembly::new(tag, redelivered)).is_some() {
                    return Err(Failure::Malformed("a message within a message"));
                }
            }
            Method::Ack { tag, multiple } => self.confirm(tag, multiple, &Ok(())),
            Method::Nack { tag, multiple } => self.confirm(tag, multiple, &Err(Failure::Refused)),
            // The queue is gone, and with it the subscription.
            Method::Cancel => self.consumer = None,
            reply => {
                if let Some(to) = self.reply.take() {
                    // Who asked may have stopped waiting.
                    let _unheard = to.send(Ok(reply));
                }
            }
        }
        Ok(())
    }

    fn confirm(&mut self, tag: u64, multiple: bool, outcome: &Result<(), Failure>) {
        if let Some(confirms) = &mut self.confirms {
            confirms.settle(tag, multiple, outcome);
        }
    }

    fn fail(self, failure: &Failure) {
        if let Some(to) = self.reply {
            // Who asked may have stopped waiting.
            let _unheard = to.send(Err(failure.clone()));
        }
        let waiting = self.confirms.map(|confirms| confirms.waiting);
        for waiting in waiting.into_iter().flatten().flatten() {
            waiting.tell(&Err(failure.clone()));
        }
    }
}

impl Confirms {
    /// `multiple` settles all up to this number; zero is then all there are.
    fn settle(&mut self, tag: u64, multiple: bool, outcome: &Result<(), Failure>) {
        if multiple {
            while !self.waiting.is_empty() && (tag == 0 || self.first <= tag) {
                self.first += 1;
                if let Some(waiting) = self.waiting.pop_front().flatten() {
                    waiting.tell(outcome);
                }
            }
            return;
        }
        let place = tag
            .checked_sub(self.first)
            .and_then(|place| usize::try_from(place).ok());
        if let Some(waiting) = place.and_then(|place| self.waiting.get_mut(place)?.take()) {
            waiting.tell(outcome);
        }
        while let Some(None) = self.waiting.front() {
            self.waiting.pop_front();
            self.first += 1;
        }
    }
}

impl Waiting {
    fn tell(self, outcome: &Result<(), Failure>) {
        // Who published may have stopped waiting.
        let _unheard = self.to.send(outcome.clone());
    }
}

impl Parcel {
    /// Waits for room. What nobody wants any more goes back.
    pub(super) async fn deliver(self, shared: &Shared) -> Result<(), Failure> {
        let Self {
            channel,
            consumer,
            delivery,
        } = self;
        if let Err(mpsc::error::SendError(delivery)) = consumer.to.send(delivery).await
            && !consumer.auto_ack
        {
            shared.send(|to| {
                method::nack(to, channel, delivery.tag, Refuse::Requeue);
                Ok(())
            })?;
        }
        Ok(())
    }
}
