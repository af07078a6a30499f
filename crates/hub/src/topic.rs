//! One topic as all parts of the hub share it: where its messages are in the log, and the newest ones in memory.
//!
//! INVARIANT: offsets have no gaps: between `first` and `next` every message is in the log, and a reader that
//! does not find one has met damage, never an empty place.
//!
//! The index is sparse, so that it is small whatever the backlog: one mark for every [`WINDOW`] bytes of a
//! segment in which the topic has a message. A reader scans at most one window to find an offset.

#[cfg(test)]
mod tests;

use crate::log::Segments;
use crate::log::frame::Frame;
use crate::log::record::{Malformed, Raw, Record, Stored};
use crate::log::segment::{Segment, Unreadable};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Bytes of a segment that share a mark.
pub(crate) const WINDOW: u64 = 256 << 10;
/// Newest messages kept in memory while somebody consumes the topic, bytes and messages.
const RECENT_BYTES: usize = 2 << 20;
const RECENT_MESSAGES: usize = 4096;

pub(crate) struct Topic {
    pub(crate) id: u32,
    pub(crate) name: String,
    state: Mutex<State>,
    /// Told after messages were added.
    pub(crate) added: Notify,
}

struct State {
    first: u64,
    next: u64,
    /// By base of the segment, each ascending.
    marks: BTreeMap<u64, Vec<Mark>>,
    recent: VecDeque<Arc<Stored>>,
    recent_bytes: usize,
    joined: BTreeSet<u32>,
}

/// The message at `offset` is in the frame at `at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    offset: u64,
    at: u64,
}

/// What is to be had at an offset.
pub(crate) enum Recent {
    /// These, from that offset on.
    Messages(Vec<Arc<Stored>>),
    /// Nothing yet.
    End,
    /// Only in the log.
    Older,
    /// Not any more; the oldest that is left has this offset.
    Gone(u64),
}

/// A message that should be in the log cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    #[error("log segment {segment} cannot be read: {source}")]
    Segment { segment: String, source: Unreadable },
    #[error("log segment {segment}: {source}")]
    Record { segment: String, source: Malformed },
    #[error("message {offset} of topic {topic:?} is not where the index says")]
    Misplaced { topic: String, offset: u64 },
    #[error("message {offset} of topic {topic:?} was removed")]
    Gone { topic: String, offset: u64 },
}

impl Topic {
    pub(crate) fn new(id: u32, name: String, next: u64) -> Self {
        Self {
            id,
            name,
            state: Mutex::new(State {
                first: next,
                next,
                marks: BTreeMap::new(),
                recent: VecDeque::new(),
                recent_bytes: 0,
                joined: BTreeSet::new(),
            }),
            added: Notify::new(),
        }
    }

    /// Oldest offset still kept, and the next one to be given.
    pub(crate) fn range(&self) -> (u64, u64) {
        let state = self.state();
        (state.first, state.next)
    }

    /// Adds messages, in order, that were written to the frame at `at` of a segment.
    pub(crate) fn add(&self, segment: u64, at: u64, messages: &[Arc<Stored>]) {
        let (Some(first), Some(last)) = (messages.first(), messages.last()) else {
            return;
        };
        let mut state = self.state();
        state.mark(segment, at, first.offset);
        state.next = last.offset + 1;
        if !state.joined.is_empty() {
            for message in messages {
                state.recent_bytes += message.data.len();
                state.recent.push_back(message.clone());
            }
            while state.recent.len() > RECENT_MESSAGES || state.recent_bytes > RECENT_BYTES {
                let Some(oldest) = state.recent.pop_front() else {
                    break;
                };
                state.recent_bytes -= oldest.data.len();
            }
        }
        drop(state);
        self.added.notify_one();
    }

    /// Notes a message found in the log while it is opened.
    pub(crate) fn found(&self, segment: u64, at: u64, offset: u64) {
        let mut state = self.state();
        if state.marks.is_empty() {
            state.first = offset;
        }
        state.mark(segment, at, offset);
        state.next = state.next.max(offset + 1);
    }

    /// The segment is about to be removed. Answers how many of the topic's messages go with it.
    pub(crate) fn forget(&self, segment: u64) -> u64 {
        let mut state = self.state();
        let Some(marks) = state.marks.remove(&segment) else {
            return 0;
        };
        let from = marks.first().map_or(state.first, |mark| mark.offset);
        let until = state
            .marks
            .first_key_value()
            .and_then(|(_, marks)| marks.first())
            .map_or(state.next, |mark| mark.offset);
        state.first = state.first.max(until);
        until - from
    }

    /// The last offset that a segment holds, unless it holds none.
    pub(crate) fn last_in(&self, segment: u64) -> Option<u64> {
        let state = self.state();
        state.marks.get(&segment)?;
        let after = state.marks.range(segment + 1..).next();
        let next = after
            .and_then(|(_, marks)| marks.first())
            .map_or(state.next, |mark| mark.offset);
        Some(next - 1)
    }

    /// Which groups have members. While any has, the newest messages are kept in memory.
    pub(crate) fn set_joined(&self, groups: BTreeSet<u32>) {
        let mut state = self.state();
        state.joined = groups;
        if state.joined.is_empty() {
            state.recent = VecDeque::new();
            state.recent_bytes = 0;
        }
    }

    pub(crate) fn is_joined(&self, group: u32) -> bool {
        self.state().joined.contains(&group)
    }

    pub(crate) fn recent(&self, offset: u64, most: usize) -> Recent {
        let state = self.state();
        if offset >= state.next {
            return Recent::End;
        }
        if offset < state.first {
            return Recent::Gone(state.first);
        }
        let Some(oldest) = state.recent.front().filter(|oldest| oldest.offset <= offset) else {
            return Recent::Older;
        };
        let skip = usize::try_from(offset - oldest.offset).unwrap_or(usize::MAX);
        Recent::Messages(state.recent.iter().skip(skip).take(most).cloned().collect())
    }

    /// Reads from the log, beginning with `offset`, at most so many messages and about so many bytes. Answers at
    /// least one. Blocks on the disk.
    pub(crate) fn read(
        &self,
        segments: &Segments,
        offset: u64,
        messages: usize,
        bytes: usize,
    ) -> Result<Vec<Arc<Stored>>, Lost> {
        let mut found = Vec::new();
        let mut weight = 0;
        let mut next = offset;
        while found.len() < messages && weight < bytes {
            let Some((base, mark)) = self.locate(next) else {
                break;
            };
            let before = next;
            let segment = segments.get(base).ok_or_else(|| self.gone(next))?;
            let mut scan = segment.scan(mark.at, segment.readable());
            while found.len() < messages && weight < bytes && scan.at() < mark.at + WINDOW {
                let frame = scan.next().map_err(|source| lost(&segment, source))?;
                let Some(frame) = frame else { break };
                self.collect(&segment, &frame, &mut next, messages, &mut weight, &mut found)?;
            }
            if next == before {
                return Err(Lost::Misplaced {
                    topic: self.name.clone(),
                    offset: next,
                });
            }
        }
        if found.is_empty() {
            return Err(self.gone(offset));
        }
        Ok(found)
    }

    fn collect(
        &self,
        segment: &Segment,
        frame: &Frame,
        next: &mut u64,
        messages: usize,
        weight: &mut usize,
        found: &mut Vec<Arc<Stored>>,
    ) -> Result<(), Lost> {
        let malformed = |source| Lost::Record {
            segment: segment.name.clone(),
            source,
        };
        let mut payload = frame.payload.clone();
        while found.len() < messages {
            let Some(raw) = Raw::next(&mut payload).map_err(malformed)? else {
                break;
            };
            if raw.message() != Some((self.id, *next)) {
                continue;
            }
            if let Record::Message(mut message) = raw.decode().map_err(malformed)? {
                // A slice would keep the whole window in memory for as long as the message is.
                message.data = Bytes::copy_from_slice(&message.data);
                *weight += message.data.len();
                *next += 1;
                found.push(Arc::new(message));
            }
        }
        Ok(())
    }

    fn locate(&self, offset: u64) -> Option<(u64, Mark)> {
        let state = self.state();
        if offset < state.first || offset >= state.next {
            return None;
        }
        let (base, marks) = state
            .marks
            .iter()
            .rev()
            .find(|(_, marks)| marks.first().is_some_and(|mark| mark.offset <= offset))?;
        let index = marks.partition_point(|mark| mark.offset <= offset);
        marks.get(index.checked_sub(1)?).map(|mark| (*base, *mark))
    }

    fn gone(&self, offset: u64) -> Lost {
        Lost::Gone {
            topic: self.name.clone(),
            offset,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn mark(&mut self, segment: u64, at: u64, offset: u64) {
        let marks = self.marks.entry(segment).or_default();
        if marks.last().is_none_or(|last| at >= last.at + WINDOW) {
            marks.push(Mark { offset, at });
        }
    }
}

fn lost(segment: &Segment, source: Unreadable) -> Lost {
    Lost::Segment {
        segment: segment.name.clone(),
        source,
    }
}
