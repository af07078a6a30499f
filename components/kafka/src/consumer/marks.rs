//! The messages of one partition that is ours: fetched, handed out, settled; no input or output here.
//!
//! INVARIANT: the mark, which is what the group commits, is never behind a message that is not settled: it moves in order,
//! however outcomes come. Messages are handed out in the order of the partition; with a depth of 1, the next one only
//! after the one before was acknowledged, so that a refused message keeps its place and is tried again.

use crate::wire::batch::Found;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

pub(crate) struct Marks {
    /// Fetched and never handed out.
    queue: VecDeque<Found>,
    /// Handed out and not acknowledged.
    unsettled: BTreeMap<i64, Unsettled>,
    /// Where the next fetch goes on.
    next: i64,
    /// What the group knows.
    committed: i64,
    /// How many may be unsettled at once.
    depth: usize,
    /// No more are handed out: it is being given up.
    closing: bool,
}

struct Unsettled {
    message: Found,
    /// `None` while it is handed out; otherwise when it may be handed out again.
    again: Option<Instant>,
}

impl Marks {
    /// Begins at `next`; `committed` if the group knows of that.
    pub(crate) fn new(next: i64, committed: bool, depth: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            unsettled: BTreeMap::new(),
            next,
            committed: if committed { next } else { -1 },
            depth: depth.max(1),
            closing: false,
        }
    }

    /// Where to fetch, unless enough is there.
    pub(crate) fn wanted(&self, enough: usize) -> Option<i64> {
        (!self.closing && self.queue.len() < enough).then_some(self.next)
    }

    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing
    }

    /// What was fetched from `from` on; an answer to an older question changes nothing.
    pub(crate) fn fetched(&mut self, from: i64, messages: Vec<Found>, next: Option<i64>) {
        if from != self.next || self.closing {
            return;
        }
        self.queue.extend(messages);
        self.next = next.unwrap_or(from).max(from);
    }

    /// The broker has nothing at the offset that was asked for: goes on elsewhere.
    pub(crate) fn jump(&mut self, from: i64, to: i64) {
        if from == self.next {
            self.next = to;
        }
    }

    /// The next message to be handed out.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Found> {
        if self.closing {
            return None;
        }
        let due = |unsettled: &Unsettled| unsettled.again.is_some_and(|at| at <= now);
        if let Some(unsettled) = self.unsettled.values_mut().find(|unsettled| due(unsettled)) {
            unsettled.again = None;
            return Some(unsettled.message.clone());
        }
        if self.unsettled.len() >= self.depth {
            return None;
        }
        let message = self.queue.pop_front()?;
        self.unsettled.insert(
            message.offset,
            Unsettled {
                message: message.clone(),
                again: None,
            },
        );
        Some(message)
    }

    /// When a refused message may be handed out again.
    pub(crate) fn due(&self) -> Option<Instant> {
        if self.closing {
            return None;
        }
        self.unsettled
            .values()
            .filter_map(|unsettled| unsettled.again)
            .min()
    }

    pub(crate) fn acknowledged(&mut self, offset: i64) {
        self.unsettled.remove(&offset);
    }

    pub(crate) fn refused(&mut self, offset: i64, now: Instant, pause: Duration) {
        if let Some(unsettled) = self.unsettled.get_mut(&offset) {
            unsettled.again = Some(now + pause);
        }
    }

    /// Hands out no more.
    pub(crate) fn close(&mut self) {
        self.closing = true;
    }

    /// Whether somebody has a message in hand.
    pub(crate) fn is_held(&self) -> bool {
        self.unsettled.values().any(|unsettled| unsettled.again.is_none())
    }

    /// What the group should know and does not.
    pub(crate) fn uncommitted(&self) -> Option<i64> {
        let mark = self.mark();
        (mark != self.committed).then_some(mark)
    }

    /// The group knows.
    pub(crate) fn committed(&mut self, mark: i64) {
        self.committed = mark;
    }

    /// The first offset that is not settled.
    pub(crate) fn mark(&self) -> i64 {
        let unsettled = self.unsettled.keys().next();
        let queued = self.queue.front().map(|message| message.offset);
        unsettled.copied().or(queued).unwrap_or(self.next)
    }
}

#[cfg(test)]
mod tests;
