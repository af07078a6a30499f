//! The commit thread's front: what can be asked of it, and the bounded queue in between.
//!
//! INVARIANT: an answer that is no failure means: as durable as [`Fsync`](crate::config::Fsync) says, and visible
//! to every reader. Requests are applied in the order in which they entered the queue. Dropping the future of a
//! request does not take it back.
//!
//! The queue is bounded by bytes ([`Limits::queue_bytes`](crate::config::Limits)); callers wait for room.

pub(crate) mod checkpoint;
mod stage;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod writer;

use crate::catalog::Catalog;
use crate::log::record::Cursor;
use crate::topic::Topic;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// The queue is accounted in units of this many bytes.
const UNIT: usize = 1 << 10;
/// Every request counts as at least this much, so that their number is bounded too.
const MINIMUM: usize = 16 << 10;

/// Why a message, a transaction or a group was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    Conflict,
    InvalidEtag,
    Invalid,
    Limit,
    DiskFull,
    DiskFailed,
    Closing,
}

impl Failure {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }

    fn closing() -> Self {
        Self::new(Reason::Closing, "the hub is ending")
    }
}

/// A message to append.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outgoing {
    pub(crate) topic: String,
    pub(crate) data: Bytes,
    pub(crate) metadata: Vec<(String, String)>,
    /// Milliseconds; 0 is for ever.
    pub(crate) ttl: u64,
}

/// One step of a transaction. Keys are complete (space, NUL, key).
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) key: Bytes,
    pub(crate) condition: Condition,
    /// `None` deletes.
    pub(crate) put: Option<Put>,
}

#[derive(Debug, Clone)]
pub(crate) struct Put {
    pub(crate) value: Bytes,
    pub(crate) content_type: String,
    /// Milliseconds; 0 is for ever.
    pub(crate) ttl: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    None,
    Version(u64),
    Absent,
}

/// What a transaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wrote {
    /// Of every value that was put.
    pub(crate) version: u64,
    pub(crate) deleted: u64,
}

/// A group that exists, durably.
pub(crate) struct Opened {
    pub(crate) topic: Arc<Topic>,
    pub(crate) group: u32,
    pub(crate) cursor: Cursor,
}

pub(crate) enum Request {
    Publish {
        messages: Vec<Outgoing>,
        reply: oneshot::Sender<Vec<Result<u64, Failure>>>,
    },
    Write {
        transactions: Vec<Vec<Step>>,
        reply: oneshot::Sender<Vec<Result<Wrote, Failure>>>,
    },
    /// Finds or makes a topic and a group.
    Open {
        topic: String,
        group: String,
        earliest: bool,
        reply: oneshot::Sender<Result<Opened, Failure>>,
    },
    /// A group got further. Nobody waits for it.
    Advance { group: u32, cursor: Cursor },
    /// For the status: calls back with what exists.
    Look(Box<dyn FnOnce(&Catalog) + Send>),
}

/// A request and its place in the queue.
pub(crate) struct Queued {
    pub(crate) request: Request,
    _room: OwnedSemaphorePermit,
}

/// Cheap to clone. The commit thread ends when the last one is dropped.
#[derive(Clone)]
pub(crate) struct Handle {
    queue: SyncSender<Queued>,
    room: Arc<Semaphore>,
}

/// Both ends of a queue.
pub(crate) fn queue(bytes: usize) -> (Handle, Receiver<Queued>) {
    let units = bytes.max(MINIMUM) / UNIT;
    // As many places as requests can have room at once: sending never blocks.
    let (sender, receiver) = sync_channel(units / (MINIMUM / UNIT) + 1);
    let handle = Handle {
        queue: sender,
        room: Arc::new(Semaphore::new(units)),
    };
    (handle, receiver)
}

impl Handle {
    pub(crate) async fn publish(
        &self,
        messages: Vec<Outgoing>,
    ) -> Result<Vec<Result<u64, Failure>>, Failure> {
        let bytes = messages.iter().map(Outgoing::bytes).sum();
        self.ask(bytes, |reply| Request::Publish { messages, reply })
            .await
    }

    pub(crate) async fn write(
        &self,
        transactions: Vec<Vec<Step>>,
    ) -> Result<Vec<Result<Wrote, Failure>>, Failure> {
        let bytes = transactions.iter().flatten().map(Step::bytes).sum();
        self.ask(bytes, |reply| Request::Write { transactions, reply })
            .await
    }

    pub(crate) async fn open(&self, topic: String, group: String, earliest: bool) -> Result<Opened, Failure> {
        self.ask(0, |reply| Request::Open {
            topic,
            group,
            earliest,
            reply,
        })
        .await?
    }

    /// Answers `false` when the queue has no room now.
    pub(crate) fn try_advance(&self, group: u32, cursor: Cursor) -> bool {
        let Ok(room) = self.room.clone().try_acquire_many_owned(permits(0)) else {
            return false;
        };
        self.send(Request::Advance { group, cursor }, room).is_ok()
    }

    pub(crate) async fn advance(&self, group: u32, cursor: Cursor) -> Result<(), Failure> {
        let room = self.acquire(0).await?;
        self.send(Request::Advance { group, cursor }, room)
    }

    pub(crate) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Catalog) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        self.ask(0, |reply| {
            Request::Look(Box::new(move |catalog| {
                // Whoever asked may have left.
                drop(reply.send(look(catalog)));
            }))
        })
        .await
    }

    async fn ask<T>(
        &self,
        bytes: usize,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, Failure> {
        let room = self.acquire(bytes).await?;
        let (reply, answer) = oneshot::channel();
        self.send(request(reply), room)?;
        answer.await.map_err(|_| Failure::closing())
    }

    async fn acquire(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Failure> {
        self.room
            .clone()
            .acquire_many_owned(permits(bytes))
            .await
            .map_err(|_| Failure::closing())
    }

    fn send(&self, request: Request, room: OwnedSemaphorePermit) -> Result<(), Failure> {
        let queued = Queued { request, _room: room };
        self.queue.try_send(queued).map_err(|error| match error {
            TrySendError::Disconnected(_) => Failure::closing(),
            TrySendError::Full(_) => Failure::new(Reason::Limit, "the hub's queue is full"),
        })
    }
}

impl Outgoing {
    pub(crate) fn bytes(&self) -> usize {
        let metadata: usize = self
            .metadata
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        self.topic.len() + self.data.len() + metadata
    }
}

impl Step {
    fn bytes(&self) -> usize {
        self.key.len()
            + self
                .put
                .as_ref()
                .map_or(0, |put| put.value.len() + put.content_type.len())
    }
}

fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes.max(MINIMUM).div_ceil(UNIT)).unwrap_or(u32::MAX)
}
