//! The commit thread: takes what is in the queue, writes it as one frame with one sync, applies it, answers.
//!
//! While a sync runs, the next requests gather: that is the group commit, and nobody waits for company. A frame
//! takes at most [`BATCH_RECORDS`] records or about [`BATCH_BYTES`].
//!
//! It also owns what needs no caller: the sync of the interval policy, checkpoints, retention.

use super::checkpoint::{Checkpointer, Job};
use super::stage::{Stage, View};
use super::{Failure, Opened, Queued, Reason, Request, Wrote};
use crate::catalog::Catalog;
use crate::clock;
use crate::config::{Config, Fsync};
use crate::health::Health;
use crate::kv::Kv;
use crate::log::record::{Cursor, Record};
use crate::log::{Batch, Log, Refused, Sync, Written};
use crate::topics::Topics;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

pub(crate) const BATCH_RECORDS: u32 = 1024;
pub(crate) const BATCH_BYTES: usize = 4 << 20;
/// A checkpoint is made when this many bytes of keys and values wait for one, or …
const CHECKPOINT_VALUES: usize = 16 << 20;
/// … this many bytes of log were written since the last.
const CHECKPOINT_LOG: u64 = 64 << 20;

pub(crate) struct Writer {
    log: Log,
    kv: Arc<Kv>,
    catalog: Catalog,
    topics: Arc<Topics>,
    config: Config,
    health: Arc<Health>,
    output: outrigger_daemon::log::Log,
    checkpointer: Checkpointer,
    batch: Batch,
    /// When the oldest acknowledged record was written that is not synced.
    unsynced: Option<Instant>,
    checkpoint_at: Instant,
    /// Sequence number and log bytes of the last checkpoint that was begun.
    checkpoint_from: u64,
    checkpoint_bytes: u64,
    written_bytes: u64,
    retained_at: Instant,
}

/// What a writer takes over.
pub(crate) struct Parts {
    pub(crate) log: Log,
    pub(crate) kv: Arc<Kv>,
    pub(crate) catalog: Catalog,
    pub(crate) topics: Arc<Topics>,
    pub(crate) config: Config,
    pub(crate) health: Arc<Health>,
    pub(crate) output: outrigger_daemon::log::Log,
    /// Sequence number of the checkpoint in the engine.
    pub(crate) checkpoint: u64,
}

/// Somebody who is told when the frame is written.
enum Waiting {
    Publish(
        oneshot::Sender<Vec<Result<u64, Failure>>>,
        Vec<Result<u64, Failure>>,
    ),
    Write(
        oneshot::Sender<Vec<Result<Wrote, Failure>>>,
        Vec<Result<Wrote, Failure>>,
    ),
    Open(
        oneshot::Sender<Result<Opened, Failure>>,
        Result<(u32, u32, Cursor), Failure>,
    ),
}

impl Writer {
    pub(crate) fn new(parts: Parts) -> std::io::Result<Self> {
        let checkpointer = Checkpointer::start(
            parts.kv.clone(),
            parts.health.clone(),
            parts.output.clone(),
            parts.checkpoint,
        )?;
        let now = Instant::now();
        Ok(Self {
            log: parts.log,
            kv: parts.kv,
            catalog: parts.catalog,
            topics: parts.topics,
            config: parts.config,
            health: parts.health,
            output: parts.output,
            checkpointer,
            batch: Batch::default(),
            unsynced: None,
            checkpoint_at: now,
            checkpoint_from: parts.checkpoint,
            checkpoint_bytes: 0,
            written_bytes: 0,
            retained_at: now,
        })
    }

    /// Works until every [`Handle`](super::Handle) is gone, then makes a last checkpoint.
    pub(crate) fn run(mut self, queue: &Receiver<Queued>) {
        loop {
            match queue.recv_timeout(self.patience()) {
                Ok(first) => self.turn(first, queue),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.maintain();
        }
        self.close();
    }

    /// One frame.
    fn turn(&mut self, first: Queued, queue: &Receiver<Queued>) {
        let now = clock::wall();
        let mut stage = Stage::new(std::mem::take(&mut self.batch));
        let mut waiting = Vec::new();
        // Room in the queue is given back when the request has been answered.
        let mut rooms = Vec::new();
        let mut next = Some(first);
        while let Some(Queued { request, _room: room }) = next {
            rooms.push(room);
            self.stage(&mut stage, request, now, &mut waiting);
            let full = stage.batch.records() >= BATCH_RECORDS || stage.batch.bytes() >= BATCH_BYTES;
            next = if full { None } else { queue.try_recv().ok() };
        }
        let outcome = self.write(&mut stage, now);
        if let Ok(Some(written)) = &outcome {
            self.apply(&mut stage, written, now);
        }
        for waiting in waiting {
            self.answer(waiting, outcome.as_ref().err());
        }
        stage.batch.clear();
        self.batch = stage.batch;
    }

    fn stage(&mut self, stage: &mut Stage, request: Request, now: u64, waiting: &mut Vec<Waiting>) {
        let crowded = matches!(request, Request::Write { .. })
            .then(|| self.crowded())
            .flatten();
        let view = View {
            catalog: &self.catalog,
            topics: &self.topics,
            kv: &self.kv,
            limits: &self.config.limits,
            sequence: self.log.next(),
            now,
        };
        match request {
            Request::Publish { messages, reply } => {
                let results = messages
                    .into_iter()
                    .map(|message| stage.publish(&view, message))
                    .collect();
                waiting.push(Waiting::Publish(reply, results));
            }
            Request::Write { transactions, reply } => {
                let results = transactions
                    .into_iter()
                    .map(|steps| match &crowded {
                        Some(failure) => Err(failure.clone()),
                        None => stage.write(&view, steps),
                    })
                    .collect();
                waiting.push(Waiting::Write(reply, results));
            }
            Request::Open {
                topic,
                group,
                earliest,
                reply,
            } => {
                let result = stage.open(&view, &topic, group, earliest);
                waiting.push(Waiting::Open(reply, result));
            }
            Request::Advance { group, cursor } => {
                if self.catalog.groups.contains_key(&group) {
                    stage.advance(group, cursor);
                }
            }
            Request::Look(look) => look(&self.catalog),
        }
    }

    /// Why no value may be written now. Waits for a checkpoint that is merely slow.
    fn crowded(&self) -> Option<Failure> {
        let limit = self.config.limits.unwritten_bytes;
        while self.kv.active_bytes() >= limit {
            if let Some(cause) = self.health.engine.get() {
                let what = format!("{limit} bytes of values wait for a checkpoint, which fails: {cause}");
                return Some(Failure::new(Reason::DiskFull, what));
            }
            if self.checkpointer.has_ended() {
                let what =
                    "values wait for a checkpoint, and the checkpoint thread has ended: start the hub again";
                return Some(Failure::new(Reason::DiskFailed, what));
            }
            if !self.kv.is_sealed() {
                return None;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        None
    }

    /// `None` when there was nothing to write.
    fn write(&mut self, stage: &mut Stage, now: u64) -> Result<Option<Written>, Refused> {
        if stage.batch.records() == 0 {
            return Ok(None);
        }
        let sync = match self.config.fsync {
            Fsync::Always if stage.awaited => Sync::Now,
            Fsync::Always | Fsync::Interval(_) => Sync::Later,
        };
        let written = self.log.append(&mut stage.batch, sync, now);
        match &written {
            Ok(_) => {
                self.written_bytes += stage.batch.bytes() as u64;
                if stage.awaited && sync == Sync::Later {
                    self.unsynced.get_or_insert_with(Instant::now);
                }
                self.worked();
            }
            Err(refused) => self.failed(refused),
        }
        written.map(Some)
    }

    fn apply(&mut self, stage: &mut Stage, written: &Written, now: u64) {
        for record in &stage.catalog {
            self.catalog.apply(record, now);
            if let Record::Topic { id, name } = record {
                self.topics.obtain(*id, name, 1);
            }
        }
        let counters = &self.health.counters;
        for (id, messages) in std::mem::take(&mut stage.messages) {
            if let (Some(row), Some(last)) = (self.catalog.topics.get_mut(&id), messages.last()) {
                row.next = last.offset + 1;
            }
            if let Some(topic) = self.topics.get(id) {
                topic.add(written.segment.base, written.at, &messages);
            }
            counters
                .published
                .fetch_add(messages.len() as u64, Ordering::Relaxed);
        }
        counters
            .writes
            .fetch_add(stage.items.len() as u64, Ordering::Relaxed);
        counters.commits.fetch_add(1, Ordering::Relaxed);
        self.kv.put(stage.items.drain());
    }

    /// Whoever asked may have left meanwhile; what was written stays written.
    fn answer(&self, waiting: Waiting, refused: Option<&Refused>) {
        let failure = refused.map(|refused| {
            let reason = match refused {
                Refused::Full { .. } => Reason::DiskFull,
                Refused::Failed { .. } => Reason::DiskFailed,
            };
            Failure::new(reason, refused.to_string())
        });
        match waiting {
            Waiting::Publish(reply, results) => {
                reply.send(overrule(results, failure)).map_err(drop).unwrap_or(())
            }
            Waiting::Write(reply, results) => {
                reply.send(overrule(results, failure)).map_err(drop).unwrap_or(())
            }
            Waiting::Open(reply, result) => {
                let result = match failure {
                    Some(failure) => Err(failure),
                    None => result.and_then(|(topic, group, cursor)| {
                        let topic = self.topics.get(topic).ok_or_else(Failure::closing)?;
                        Ok(Opened { topic, group, cursor })
                    }),
                };
                drop(reply.send(result));
            }
        }
    }

    fn patience(&self) -> Duration {
        if let (Fsync::Interval(interval), Some(since)) = (self.config.fsync, self.unsynced) {
            return interval.saturating_sub(since.elapsed());
        }
        let retention = self.config.retention.every;
        let next = match self.log.next() > self.checkpoint_from {
            true => self
                .config
                .checkpoint_after
                .min(retention)
                .min(Duration::from_secs(1)),
            false => retention,
        };
        next.max(Duration::from_millis(10))
    }

    fn maintain(&mut self) {
        if let (Fsync::Interval(interval), Some(since)) = (self.config.fsync, self.unsynced)
            && since.elapsed() >= interval
        {
            self.sync();
        }
        let fresh = self.log.next() > self.checkpoint_from;
        let due = self.checkpoint_at.elapsed() >= self.config.checkpoint_after
            || self.kv.active_bytes() >= CHECKPOINT_VALUES
            || self.written_bytes - self.checkpoint_bytes >= CHECKPOINT_LOG;
        if fresh && due {
            self.begin_checkpoint();
        }
        if self.retained_at.elapsed() >= self.config.retention.every {
            self.retained_at = Instant::now();
            self.retain();
        }
    }

    fn sync(&mut self) -> bool {
        self.unsynced = None;
        match self.log.sync() {
            Ok(()) => true,
            Err(refused) => {
                self.failed(&refused);
                false
            }
        }
    }

    fn begin_checkpoint(&mut self) {
        // The engine must never be ahead of a durable log.
        if self.kv.is_sealed() || !self.sync() {
            return;
        }
        let bytes = self.kv.active_bytes();
        let Some(layer) = self.kv.seal() else { return };
        let job = Job {
            layer,
            bytes,
            sequence: self.log.next(),
            catalog: self.catalog.encode(),
        };
        self.checkpoint_from = job.sequence;
        self.checkpoint_at = Instant::now();
        self.checkpoint_bytes = self.written_bytes;
        if !self.checkpointer.begin(job) {
            self.output
                .error("the checkpoint thread has ended: start the hub again");
        }
    }

    /// Removes what is settled and old, what is settled and too much, and above the hard limit what is oldest.
    fn retain(&mut self) {
        self.expire_groups();
        let now = clock::wall();
        let rules = self.config.retention;
        loop {
            let segments = self.log.segments().all();
            let total: u64 = segments.iter().map(|segment| segment.readable()).sum();
            let Some(oldest) = segments.first() else { return };
            let old = oldest.newest().saturating_add(millis(rules.keep_age)) <= now;
            let Some(after) = segments.get(1) else {
                // The only one: it can be removed once another one is written.
                if old
                    && oldest.base < self.log.next()
                    && let Err(refused) = self.log.rotate(now)
                {
                    self.failed(&refused);
                    return;
                }
                if !old || self.log.segments().all().len() < 2 {
                    return;
                }
                continue;
            };
            let needed = self.needed(oldest.base);
            let over = total > rules.max_bytes;
            if !(over || (needed == 0 && (old || total > rules.keep_bytes))) {
                return;
            }
            if after.base > self.checkpointer.done() {
                self.begin_checkpoint();
                return;
            }
            let name = oldest.name.clone();
            let base = oldest.base;
            match self.log.remove_oldest() {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    self.output.error(format_args!("retention: {error}"));
                    return;
                }
            }
            for topic in self.topics.all() {
                topic.forget(base);
            }
            if needed > 0 {
                self.health.counters.dropped.fetch_add(needed, Ordering::Relaxed);
                self.output.error(format_args!(
                    "the log has {total} bytes, above its hard limit of {}: segment {name} was removed although \
                     {needed} of its messages were not settled by all groups; these are lost to them",
                    rules.max_bytes
                ));
            } else {
                self.output
                    .debug(format_args!("retention removed log segment {name}"));
            }
        }
    }

    /// How many messages of a segment some group has not settled, each counted once.
    fn needed(&self, segment: u64) -> u64 {
        let mut needed = 0;
        for topic in self.topics.all() {
            if let (Some(last), Some(floor)) = (topic.last_in(segment), self.catalog.floor(topic.id)) {
                let first = topic.range().0;
                needed += (last + 1).saturating_sub(floor.max(first));
            }
        }
        needed
    }

    fn expire_groups(&mut self) {
        let now = clock::wall();
        let patience = millis(self.config.retention.group_expiry);
        let mut gone = Vec::new();
        for (id, group) in &mut self.catalog.groups {
            let topic = self.topics.get(group.topic);
            if topic.as_ref().is_some_and(|topic| topic.is_joined(*id)) {
                group.seen = now;
            } else if group.seen.saturating_add(patience) <= now {
                let topic = topic.map(|topic| topic.name.clone()).unwrap_or_default();
                gone.push((*id, topic, group.name.clone()));
            }
        }
        let mut stage = Stage::new(std::mem::take(&mut self.batch));
        for (id, topic, group) in gone {
            self.output.warn(format_args!(
                "group {group:?} of topic {topic:?} had no member for {} days and is removed",
                self.config.retention.group_expiry.as_secs() / 86_400
            ));
            stage.record(Record::GroupGone { id });
        }
        if let Ok(Some(written)) = self.write(&mut stage, now) {
            self.apply(&mut stage, &written, now);
        }
        stage.batch.clear();
        self.batch = stage.batch;
    }

    fn worked(&self) {
        if self.health.log.clear() {
            self.output.info("the log can be written again");
        }
    }

    fn failed(&self, refused: &Refused) {
        if self.health.log.set(&refused.to_string()) {
            self.output
                .error(format_args!("writes fail, reads and deliveries go on: {refused}"));
        }
    }

    fn close(mut self) {
        self.sync();
        if self.log.next() > self.checkpointer.done() {
            // One that is under way ends first; if it keeps failing, the log has everything.
            while self.kv.is_sealed() && self.health.engine.get().is_none() && !self.checkpointer.has_ended()
            {
                std::thread::sleep(Duration::from_millis(2));
            }
            self.begin_checkpoint();
        }
        if !self.checkpointer.finish() {
            self.output
                .error("the checkpoint thread panicked; the next start reads the log instead");
        }
    }
}

/// The frame's failure is everybody's.
fn overrule<T>(results: Vec<Result<T, Failure>>, failure: Option<Failure>) -> Vec<Result<T, Failure>> {
    match failure {
        Some(failure) => results.into_iter().map(|_| Err(failure.clone())).collect(),
        None => results,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
