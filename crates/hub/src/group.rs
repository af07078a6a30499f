//! One consumer group: who has which message, what is to be delivered again, and when.
//!
//! Sans-I/O: [`Group::step`] takes an event and the time and answers what to send. The caller feeds messages in
//! order ([`Event::Offer`]) as long as [`Group::room`] says so, sends what [`Deliver`] says, and calls again at
//! [`Group::deadline`].
//!
//! INVARIANT: every offset below `next` is settled or in `slots`. Fresh messages go out in topic order; a message
//! that is delivered again goes before fresh ones, so members that hold one message at a time see the topic's
//! order but for those.
//!
//! Bounds: at most [`Limits::messages`] messages or [`Limits::bytes`] are unsettled; one message always fits.
//! A message that is never settled takes one slot and holds nothing else up, until all slots are such.

#[cfg(test)]
mod tests;

use crate::log::record::{Cursor, Stored};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Names a member of the group; never used twice.
pub(crate) type Member = u64;

/// Both clocks, in milliseconds: one that only runs forward, for delays, and the wall's, for expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Now {
    pub(crate) steady: u64,
    pub(crate) wall: u64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

#[derive(Debug)]
pub(crate) enum Event {
    Join {
        member: Member,
        /// Most deliveries it may hold; at least 1.
        window: usize,
        /// Milliseconds until an unsettled delivery is taken back; 0 is never.
        timeout: u64,
    },
    Leave(Member),
    /// The message at `next`, fresh from the topic.
    Offer(Arc<Stored>),
    /// A message that was handed out before a restart, and how often.
    Restore(Arc<Stored>, u32),
    /// Messages below this offset do not exist any more.
    Skip(u64),
    Ack(u64),
    Nack {
        member: Member,
        offset: u64,
        delay: u64,
    },
    /// Time has passed.
    Tick,
}

/// Send this message to this member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Deliver {
    pub(crate) member: Member,
    pub(crate) message: Arc<Stored>,
    /// 1 for the first time.
    pub(crate) attempt: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) delivered: u64,
    pub(crate) redelivered: u64,
    pub(crate) expired: u64,
}

pub(crate) struct Group {
    limits: Limits,
    next: u64,
    slots: BTreeMap<u64, Slot>,
    bytes: usize,
    /// Offsets that may be delivered now.
    ready: BTreeSet<u64>,
    /// When something changes by itself: a delay ends, or a delivery is taken back.
    due: BTreeSet<(u64, u64)>,
    members: BTreeMap<Member, Membership>,
    /// Whom the last delivery went to; the next one goes to somebody after it.
    last: Member,
    counts: Counts,
}

struct Slot {
    message: Arc<Stored>,
    attempts: u32,
    state: State,
}

enum State {
    Ready,
    Delayed { until: u64 },
    Held { by: Member, until: Option<u64> },
}

struct Membership {
    window: usize,
    timeout: u64,
    held: usize,
}

impl Group {
    /// A group that goes on at `next`.
    pub(crate) fn new(next: u64, limits: Limits) -> Self {
        Self {
            limits,
            next,
            slots: BTreeMap::new(),
            bytes: 0,
            ready: BTreeSet::new(),
            due: BTreeSet::new(),
            members: BTreeMap::new(),
            last: 0,
            counts: Counts::default(),
        }
    }

    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    pub(crate) fn members(&self) -> usize {
        self.members.len()
    }

    /// Handed out and not settled, or waiting to be delivered again.
    pub(crate) fn unsettled(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// What must be remembered to go on from here.
    pub(crate) fn cursor(&self) -> Cursor {
        Cursor {
            next: self.next,
            open: self
                .slots
                .iter()
                .map(|(offset, slot)| (*offset, slot.attempts))
                .collect(),
        }
    }

    /// How many fresh messages could be delivered at once.
    pub(crate) fn room(&self) -> usize {
        if self.bytes >= self.limits.bytes {
            return 0;
        }
        let slots = self.limits.messages.saturating_sub(self.slots.len());
        let free: usize = self
            .members
            .values()
            .map(|member| member.window.saturating_sub(member.held))
            .sum();
        // What is ready again goes first.
        slots.min(free.saturating_sub(self.ready.len()))
    }

    /// When [`Event::Tick`] is due, on the steady clock.
    pub(crate) fn deadline(&self) -> Option<u64> {
        self.due.first().map(|(when, _)| *when)
    }

    pub(crate) fn step(&mut self, event: Event, now: Now) -> Vec<Deliver> {
        match event {
            Event::Join {
                member,
                window,
                timeout,
            } => {
                let window = window.max(1);
                self.members.insert(
                    member,
                    Membership {
                        window,
                        timeout,
                        held: 0,
                    },
                );
            }
            Event::Leave(member) => self.leave(member),
            Event::Offer(message) => {
                self.next = message.offset + 1;
                self.insert(message, 0);
            }
            Event::Restore(message, attempts) => self.insert(message, attempts),
            Event::Skip(first) => self.next = self.next.max(first),
            Event::Ack(offset) => self.settle(offset),
            Event::Nack {
                member,
                offset,
                delay,
            } => self.nack(member, offset, delay, now),
            Event::Tick => {}
        }
        self.wake(now);
        self.dispatch(now)
    }

    fn insert(&mut self, message: Arc<Stored>, attempts: u32) {
        let offset = message.offset;
        let weight = weigh(&message);
        let slot = Slot {
            message,
            attempts,
            state: State::Ready,
        };
        if self.slots.insert(offset, slot).is_none() {
            self.bytes += weight;
            self.ready.insert(offset);
        }
    }

    fn leave(&mut self, member: Member) {
        if self.members.remove(&member).is_none() {
            return;
        }
        for (offset, slot) in &mut self.slots {
            if let State::Held { by, until } = slot.state
                && by == member
            {
                if let Some(until) = until {
                    self.due.remove(&(until, *offset));
                }
                slot.state = State::Ready;
                self.ready.insert(*offset);
            }
        }
    }

    /// Whoever says so, it is done: a late answer counts as well.
    fn settle(&mut self, offset: u64) {
        let Some(slot) = self.slots.remove(&offset) else {
            return;
        };
        self.bytes -= weigh(&slot.message);
        self.release(offset, &slot.state);
    }

    fn nack(&mut self, member: Member, offset: u64, delay: u64, now: Now) {
        let Some(slot) = self.slots.get_mut(&offset) else {
            return;
        };
        // Only the one who has it now may give it back.
        if !matches!(slot.state, State::Held { by, .. } if by == member) {
            return;
        }
        let until = now.steady.saturating_add(delay);
        let state = std::mem::replace(&mut slot.state, State::Delayed { until });
        self.release(offset, &state);
        self.due.insert((until, offset));
    }

    /// Takes an offset out of the indexes that `state` put it into.
    fn release(&mut self, offset: u64, state: &State) {
        match state {
            State::Ready => {
                self.ready.remove(&offset);
            }
            State::Delayed { until } => {
                self.due.remove(&(*until, offset));
            }
            State::Held { by, until } => {
                if let Some(until) = until {
                    self.due.remove(&(*until, offset));
                }
                if let Some(member) = self.members.get_mut(by) {
                    member.held -= 1;
                }
            }
        }
    }

    /// Makes ready what is due: delays that are over, deliveries nobody settled in time.
    fn wake(&mut self, now: Now) {
        while let Some(&(when, offset)) = self.due.first() {
            if when > now.steady {
                break;
            }
            self.due.pop_first();
            if let Some(slot) = self.slots.get_mut(&offset) {
                let state = std::mem::replace(&mut slot.state, State::Ready);
                self.release(offset, &state);
                self.ready.insert(offset);
            }
        }
    }

    fn dispatch(&mut self, now: Now) -> Vec<Deliver> {
        let mut out = Vec::new();
        while let Some(&offset) = self.ready.first() {
            let Some(slot) = self.slots.get_mut(&offset) else {
                self.ready.pop_first();
                continue;
            };
            if slot.message.expires > 0 && slot.message.expires <= now.wall {
                self.counts.expired += 1;
                self.settle(offset);
                continue;
            }
            let free = |(_, member): &(&Member, &Membership)| member.held < member.window;
            let turn = self.members.range(self.last.saturating_add(1)..).find(free);
            let Some((&id, _)) = turn.or_else(|| self.members.iter().find(free)) else {
                break;
            };
            let Some(member) = self.members.get_mut(&id) else {
                break;
            };
            member.held += 1;
            self.last = id;
            self.ready.pop_first();
            slot.attempts = slot.attempts.saturating_add(1);
            let until = (member.timeout > 0).then(|| now.steady.saturating_add(member.timeout));
            slot.state = State::Held { by: id, until };
            if let Some(until) = until {
                self.due.insert((until, offset));
            }
            self.counts.delivered += 1;
            self.counts.redelivered += u64::from(slot.attempts > 1);
            out.push(Deliver {
                member: id,
                message: slot.message.clone(),
                attempt: slot.attempts,
            });
        }
        out
    }
}

fn weigh(message: &Stored) -> usize {
    let metadata: usize = message
        .metadata
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    128 + metadata + message.data.len()
}
