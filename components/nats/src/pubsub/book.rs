//! What one subscription knows of its messages: which are in its hands, which are done, and what the server is to be told.
//!
//! Sans-I/O: the feed tells what came and what was settled, and sends what it is answered.
//!
//! INVARIANT: nothing is acknowledged that was not settled with `Ack`; with [`Acks::All`], where one acknowledgement stands for
//! all before it, the mark stops before what is still in somebody's hands or was refused.

use super::reply::{Id, Reply};
use crate::config::Acks;
use outrigger_component::pubsub::Outcome;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

/// Messages that are known to be done, in case their acknowledgement got lost on its way.
const REMEMBERED: usize = 4096;
/// Where neither `ackWait` nor `backOff` says when a refused message comes again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

pub(super) struct Book {
    acks: Acks,
    pauses: Pauses,
    /// By the token under which each was handed out.
    held: HashMap<u64, Reply>,
    tokens: BTreeMap<Id, u64>,
    next: u64,
    /// Refused, and not yet here again.
    refused: BTreeSet<Id>,
    /// Done, and behind something that is not: their acknowledgement waits ([`Acks::All`] only).
    behind: BTreeMap<Id, String>,
    done: HashSet<Id>,
    /// The same, oldest first.
    order: VecDeque<Id>,
    /// The highest sequence that came.
    last: Option<u64>,
}

/// When a refused message comes again.
#[derive(Debug, Clone, Default)]
pub(super) struct Pauses {
    /// Each time; COMPAT(components-contrib pubsub/jetstream).
    pub ack_wait: Option<Duration>,
    /// For the first, second, … delivery.
    pub back_off: Vec<Duration>,
    /// After so many deliveries it does not; 0 is never.
    pub most: u64,
}

/// What is to be done with a message that came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// It goes to the app, under this token.
    New(u64),
    /// It is here already.
    Held,
    /// It was done before: the server is told again.
    Done(Tell),
}

/// What the server is told, on a message's subject.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tell {
    Ack(String),
    Again(String, Duration),
}

impl Book {
    pub(super) fn new(acks: Acks, pauses: Pauses) -> Self {
        Self {
            acks,
            pauses,
            held: HashMap::new(),
            tokens: BTreeMap::new(),
            next: 0,
            refused: BTreeSet::new(),
            behind: BTreeMap::new(),
            done: HashSet::new(),
            order: VecDeque::new(),
            last: None,
        }
    }

    pub(super) fn came(&mut self, reply: Reply) -> Came {
        let id = reply.id;
        self.last = self.last.max(Some(id.sequence));
        if let Some(token) = self.tokens.get(&id) {
            // The newer subject is the better one.
            self.held.insert(*token, reply);
            return Came::Held;
        }
        if let Some(subject) = self.behind.get_mut(&id) {
            *subject = reply.subject;
            return Came::Held;
        }
        if self.done.contains(&id) {
            return Came::Done(Tell::Ack(reply.subject));
        }
        self.refused.remove(&id);
        let token = self.next;
        self.next += 1;
        self.tokens.insert(id, token);
        self.held.insert(token, reply);
        Came::New(token)
    }

    /// `leaving`: what is refused should go to somebody else at once.
    pub(super) fn settled(&mut self, token: u64, outcome: Outcome, leaving: bool) -> Option<Tell> {
        let reply = self.held.remove(&token)?;
        self.tokens.remove(&reply.id);
        match (outcome, self.acks) {
            (_, Acks::None) => None,
            (Outcome::Nack, _) => {
                let last = self.pauses.most > 0 && reply.delivered >= self.pauses.most;
                if !last {
                    self.refused.insert(reply.id);
                }
                let pause = if leaving {
                    Duration::ZERO
                } else {
                    self.pauses.after(reply.delivered)
                };
                Some(Tell::Again(reply.subject, pause))
            }
            (Outcome::Ack, Acks::Explicit) => {
                self.remember(reply.id);
                Some(Tell::Ack(reply.subject))
            }
            (Outcome::Ack, Acks::All) => {
                self.behind.insert(reply.id, reply.subject);
                self.move_mark()
            }
        }
    }

    /// The last of those that are done with nothing open before them.
    fn move_mark(&mut self) -> Option<Tell> {
        let open = [self.tokens.keys().next(), self.refused.first()];
        let first = open.into_iter().flatten().min().copied();
        let rest = match first {
            Some(first) => self.behind.split_off(&first),
            None => BTreeMap::new(),
        };
        let finished = std::mem::replace(&mut self.behind, rest);
        let mut tell = None;
        for (id, subject) in finished {
            self.remember(id);
            tell = Some(Tell::Ack(subject));
        }
        tell
    }

    fn remember(&mut self, id: Id) {
        if self.done.insert(id) {
            self.order.push_back(id);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.done.remove(&oldest);
        }
    }

    /// Subjects of messages that are being worked on, for the server to wait.
    pub(super) fn in_progress(&self) -> impl Iterator<Item = &str> {
        let held = self.held.values().map(|reply| reply.subject.as_str());
        let quiet = self.acks == Acks::None;
        held.chain(self.behind.values().map(String::as_str))
            .filter(move |_| !quiet)
    }

    /// How many are in somebody's hands.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// The first sequence that a consumer that takes this one's place must deliver. `None` if nothing ever came.
    pub(super) fn resume(&self) -> Option<u64> {
        let next = self.last?.saturating_add(1);
        let open = [
            self.tokens.keys().next(),
            self.refused.first(),
            self.behind.keys().next(),
        ];
        let oldest = open.into_iter().flatten().map(|id| id.sequence).min();
        Some(oldest.map_or(next, |oldest| oldest.min(next)))
    }
}

impl Pauses {
    fn after(&self, delivered: u64) -> Duration {
        if let Some(wait) = self.ack_wait {
            return wait;
        }
        let times = usize::try_from(delivered.saturating_sub(1)).unwrap_or(usize::MAX);
        if let Some(pause) = self.back_off.get(times).or(self.back_off.last()) {
            return *pause;
        }
        (FIRST_PAUSE * (1 << times.min(7))).min(LONGEST_PAUSE)
    }
}

#[cfg(test)]
mod tests;
