//! Where a group's member puts what it has fetched, and the subscription takes it from: all partitions that are ours.
//!
//! Both sides and the outcomes meet in one short lock; nobody waits while holding it.

use super::marks::Marks;
use crate::consumer::assign::Part;
use crate::wire::batch::Found;
use outrigger_component::pubsub::Outcome;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

pub(crate) struct Shelf {
    inner: Mutex<Inner>,
    /// Something can be taken perhaps.
    filled: Notify,
    /// There is room for more, or somebody waits for outcomes and one has come.
    emptied: Notify,
    /// Messages of a partition that wait; with fewer, more are fetched.
    enough: usize,
    /// Messages of a partition that may be unsettled.
    depth: usize,
    /// How long a refused message rests; `None` forgets it.
    pause: Option<Duration>,
}

#[derive(Default)]
struct Inner {
    parts: BTreeMap<Part, Owned>,
    /// What is handed out, by its token.
    tokens: HashMap<u64, (Part, u64, i64)>,
    next_token: u64,
    next_term: u64,
    /// Whose turn it is.
    turn: Option<Part>,
    closed: bool,
}

struct Owned {
    marks: Marks,
    /// Tells outcomes of an earlier ownership from ours.
    term: u64,
}

/// A message on its way to the subscriber.
pub(crate) struct Taken {
    pub token: u64,
    pub part: Part,
    pub message: Found,
}

impl Shelf {
    pub(crate) fn new(buffer: usize, depth: usize, pause: Option<Duration>) -> Self {
        Self {
            inner: Mutex::default(),
            filled: Notify::new(),
            emptied: Notify::new(),
            enough: buffer.div_ceil(2),
            depth,
            pause,
        }
    }

    /// The next message, of one partition after the other; waits for one. `None` after [`Shelf::close`].
    ///
    /// Cancel-safe.
    pub(crate) async fn take(&self) -> Option<Taken> {
        loop {
            let due = {
                let mut inner = self.inner();
                if inner.closed {
                    return None;
                }
                if let Some((taken, queued)) = inner.take(Instant::now()) {
                    drop(inner);
                    if queued + 1 == self.enough {
                        self.emptied.notify_one();
                    }
                    return Some(taken);
                }
                inner.parts.values().filter_map(|owned| owned.marks.due()).min()
            };
            let resting = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.filled.notified() => {}
                () = resting => {}
            }
        }
    }

    /// An outcome. Says which message was given up on, if there is to be no other attempt.
    pub(crate) fn settle(&self, token: u64, outcome: Outcome) -> Option<(Part, i64)> {
        let mut given_up = None;
        let mut awaited = false;
        let mut inner = self.inner();
        if let Some((part, term, offset)) = inner.tokens.remove(&token)
            && let Some(owned) = inner.parts.get_mut(&part)
            && owned.term == term
        {
            awaited = owned.marks.is_closing();
            match (outcome, self.pause) {
                (Outcome::Ack, _) => owned.marks.acknowledged(offset),
                (Outcome::Nack, Some(pause)) => owned.marks.refused(offset, Instant::now(), pause),
                (Outcome::Nack, None) => {
                    owned.marks.acknowledged(offset);
                    given_up = Some((part, offset));
                }
            }
        }
        drop(inner);
        self.filled.notify_one();
        if awaited {
            self.emptied.notify_one();
        }
        given_up
    }

    /// Returns when there is room again, or an outcome that is waited for, since the last time.
    pub(crate) async fn changed(&self) {
        self.emptied.notified().await;
    }

    /// A partition is ours from `offset` on; `committed` if the group knows of that.
    pub(crate) fn own(&self, part: Part, offset: i64, committed: bool) {
        let mut inner = self.inner();
        let term = inner.next_term;
        inner.next_term += 1;
        let marks = Marks::new(offset, committed, self.depth);
        inner.parts.insert(part, Owned { marks, term });
    }

    pub(crate) fn owned(&self) -> BTreeSet<Part> {
        self.inner().parts.keys().cloned().collect()
    }

    /// Hands out no more of these.
    pub(crate) fn hold(&self, parts: &BTreeSet<Part>) {
        let mut inner = self.inner();
        for part in parts {
            if let Some(owned) = inner.parts.get_mut(part) {
                owned.marks.close();
            }
        }
    }

    /// Whether somebody has messages of these in hand.
    pub(crate) fn are_held(&self, parts: &BTreeSet<Part>) -> bool {
        let inner = self.inner();
        parts
            .iter()
            .any(|part| inner.parts.get(part).is_some_and(|owned| owned.marks.is_held()))
    }

    /// These are not ours any more.
    pub(crate) fn drop_parts(&self, parts: &BTreeSet<Part>) {
        let mut inner = self.inner();
        inner.parts.retain(|part, _| !parts.contains(part));
    }

    /// What is to be fetched; and whether some have enough for now.
    pub(crate) fn wanted(&self) -> (Vec<(Part, i64)>, bool) {
        let inner = self.inner();
        let wanted: Vec<_> = inner
            .parts
            .iter()
            .filter_map(|(part, owned)| Some((part.clone(), owned.marks.wanted(self.enough)?)))
            .collect();
        let full = wanted.len() < inner.parts.len();
        (wanted, full)
    }

    pub(crate) fn fetched(&self, part: &Part, from: i64, messages: Vec<Found>, next: Option<i64>) {
        if let Some(owned) = self.inner().parts.get_mut(part) {
            owned.marks.fetched(from, messages, next);
        }
        self.filled.notify_one();
    }

    pub(crate) fn jump(&self, part: &Part, from: i64, to: i64) {
        if let Some(owned) = self.inner().parts.get_mut(part) {
            owned.marks.jump(from, to);
        }
    }

    /// Marks of which the group does not know.
    pub(crate) fn uncommitted(&self) -> Vec<(Part, i64)> {
        let inner = self.inner();
        let mark = |(part, owned): (&Part, &Owned)| Some((part.clone(), owned.marks.uncommitted()?));
        inner.parts.iter().filter_map(mark).collect()
    }

    pub(crate) fn committed(&self, part: &Part, mark: i64) {
        if let Some(owned) = self.inner().parts.get_mut(part) {
            owned.marks.committed(mark);
        }
    }

    /// Nothing is handed out any more.
    pub(crate) fn close(&self) {
        self.inner().closed = true;
        self.filled.notify_one();
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Of the partition after the one that had its turn; and how many wait there still.
    fn take(&mut self, now: Instant) -> Option<(Taken, usize)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let after = match &self.turn {
            Some(turn) => Excluded(turn.clone()),
            None => Unbounded,
        };
        let mut found = None;
        // Those after it, then from the beginning.
        for from in [after, Unbounded::<Part>] {
            for (part, owned) in self.parts.range_mut((from, Unbounded)) {
                if let Some(message) = owned.marks.take(now) {
                    found = Some((part.clone(), owned.term, message, owned.marks.queued()));
                    break;
                }
            }
            if found.is_some() {
                break;
            }
        }
        let (part, term, message, queued) = found?;
        let token = self.next_token;
        self.next_token += 1;
        self.tokens.insert(token, (part.clone(), term, message.offset));
        self.turn = Some(part.clone());
        Some((Taken { token, part, message }, queued))
    }
}
