//! One task per consumed topic: feeds its groups from memory or from the log, sends to their members, takes what
//! they settle, and has cursors logged.
//!
//! The decisions are [`Group`]'s; this is the shell that performs them. It never waits for a member: a member's
//! outlet has room for its whole window. Reads from the log run on the blocking pool, one at a time per group.
//!
//! Cursors are logged lazily ([`CURSOR_EVERY`]): what a crash loses of them is delivered again, nothing else.

use crate::clock;
use crate::commit::{Handle, Opened};
use crate::group::{Counts, Deliver, Event, Group, Limits, Member};
use crate::health::Health;
use crate::log::Segments;
use crate::log::record::{Cursor, Stored};
use crate::topic::{Lost, Recent, Topic};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use outrigger_daemon::drain;
use outrigger_daemon::log::Log;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// How long a cursor may be ahead of the log.
pub(crate) const CURSOR_EVERY: Duration = Duration::from_millis(50);
/// Commands that may wait; whoever sends one more waits.
pub(crate) const MAILBOX: usize = 256;
const READ_MESSAGES: usize = 256;
const READ_BYTES: usize = 1 << 20;
/// A damaged place is tried again after this: somebody may have restored the file.
const STALLED: Duration = Duration::from_secs(30);

pub(crate) enum Command {
    Join {
        opened: Opened,
        name: String,
        member: Member,
        window: usize,
        /// Milliseconds; 0 is never.
        timeout: u64,
        outlet: mpsc::Sender<Deliver>,
        /// Answered with the first offset that was not handed out yet.
        joined: oneshot::Sender<u64>,
    },
    Leave {
        group: u32,
        member: Member,
    },
    Settle {
        group: u32,
        member: Member,
        acks: Vec<u64>,
        /// Offset and delay in milliseconds.
        nacks: Vec<(u64, u64)>,
    },
    Report(oneshot::Sender<BTreeMap<u32, Report>>),
}

/// A group as people see it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Report {
    pub(crate) members: usize,
    pub(crate) lag: u64,
    pub(crate) in_flight: u64,
    pub(crate) stalled: Option<String>,
}

pub(crate) struct Dispatch {
    pub(crate) topic: Arc<Topic>,
    pub(crate) segments: Arc<Segments>,
    pub(crate) commit: Handle,
    pub(crate) limits: Limits,
    pub(crate) health: Arc<Health>,
    pub(crate) log: Log,
    pub(crate) start: Instant,
}

struct Running {
    name: String,
    core: Group,
    outlets: BTreeMap<Member, mpsc::Sender<Deliver>>,
    /// Read from the log and not yet offered.
    backlog: VecDeque<Arc<Stored>>,
    /// Handed out before a restart, not settled, not yet read again: offset and attempts.
    restoring: BTreeMap<u64, u32>,
    reading: bool,
    /// Nothing is read before this.
    paused: Option<Instant>,
    /// Why the last read failed.
    stalled: Option<String>,
    logged: Cursor,
    counted: Counts,
}

enum Read {
    /// The group goes on with these.
    Fresh(u32, Result<Vec<Arc<Stored>>, Lost>),
    /// What was handed out before a restart.
    Again(u32, Vec<(u64, Result<Arc<Stored>, Lost>)>),
}

type Reads = FuturesUnordered<BoxFuture<'static, Read>>;

impl Dispatch {
    /// Works until told to drain, and has all cursors logged then.
    pub(crate) async fn run(self, mut commands: mpsc::Receiver<Command>, watch: drain::Watch) {
        let mut groups: BTreeMap<u32, Running> = BTreeMap::new();
        let mut reads = Reads::new();
        let mut flush_at: Option<Instant> = None;
        let mut draining = std::pin::pin!(watch.draining());
        loop {
            let wake = self.wake(&groups, flush_at);
            tokio::select! {
                () = &mut draining => break,
                command = commands.recv() => match command {
                    Some(command) => self.command(command, &mut groups),
                    None => break,
                },
                Some(read) = reads.next(), if !reads.is_empty() => self.read(read, &mut groups),
                () = self.topic.added.notified() => {}
                () = sleep_until(wake) => self.tick(&mut groups),
            }
            for (id, group) in &mut groups {
                self.pump(*id, group, &reads);
            }
            flush_at = self.flush(&mut groups, flush_at);
        }
        for (id, group) in &groups {
            let cursor = group.cursor();
            if cursor != group.logged
                && let Err(failure) = self.commit.advance(*id, cursor).await
            {
                self.log.warn(format_args!(
                    "the cursor of group {:?} of topic {:?} was not stored, some messages will be delivered again: {}",
                    group.name, self.topic.name, failure.message
                ));
            }
        }
    }

    fn wake(&self, groups: &BTreeMap<u32, Running>, flush_at: Option<Instant>) -> Option<Instant> {
        let deadlines = groups.values().flat_map(|group| {
            let core = group
                .core
                .deadline()
                .map(|at| self.start + Duration::from_millis(at));
            [core, group.paused]
        });
        deadlines.chain([flush_at]).flatten().min()
    }

    fn command(&self, command: Command, groups: &mut BTreeMap<u32, Running>) {
        match command {
            Command::Join {
                opened,
                name,
                member,
                window,
                timeout,
                outlet,
                joined,
            } => {
                let id = opened.group;
                // One of the same name with another id was removed for its age.
                groups.retain(|other, group| *other == id || group.name != name);
                let group = groups
                    .entry(id)
                    .or_insert_with(|| load(name, opened.cursor, self.limits));
                // Who joined may have left already: then the outlet says so.
                joined.send(group.core.next()).ok();
                group.outlets.insert(member, outlet);
                self.step(
                    group,
                    Event::Join {
                        member,
                        window,
                        timeout,
                    },
                );
                self.note_members(groups);
            }
            Command::Leave { group, member } => {
                if let Some(group) = groups.get_mut(&group) {
                    self.leave(group, member);
                }
                self.note_members(groups);
            }
            Command::Settle {
                group,
                member,
                acks,
                nacks,
            } => {
                let Some(group) = groups.get_mut(&group) else {
                    return;
                };
                for offset in acks {
                    self.step(group, Event::Ack(offset));
                }
                for (offset, delay) in nacks {
                    self.step(
                        group,
                        Event::Nack {
                            member,
                            offset,
                            delay,
                        },
                    );
                }
            }
            Command::Report(reply) => {
                let next = self.topic.range().1;
                let reports = groups
                    .iter()
                    .map(|(id, group)| (*id, group.report(next)))
                    .collect();
                drop(reply.send(reports));
            }
        }
    }

    fn read(&self, read: Read, groups: &mut BTreeMap<u32, Running>) {
        match read {
            Read::Fresh(id, found) => {
                let Some(group) = groups.get_mut(&id) else { return };
                group.reading = false;
                match found {
                    Ok(messages) => {
                        group.backlog = messages.into();
                        group.stalled = None;
                    }
                    // Removed by retention meanwhile: the next look finds what is left.
                    Err(Lost::Gone { .. }) => {}
                    Err(lost) => self.stall(group, &lost),
                }
            }
            Read::Again(id, found) => {
                let Some(group) = groups.get_mut(&id) else { return };
                group.reading = false;
                for (offset, found) in found {
                    match found {
                        Ok(message) => {
                            let attempts = group.restoring.remove(&offset).unwrap_or(0);
                            self.step(group, Event::Restore(message, attempts));
                        }
                        Err(Lost::Gone { .. }) => {
                            group.restoring.remove(&offset);
                            self.log.error(format_args!(
                                "message {offset} of topic {:?} was delivered to group {:?}, not settled, and is not in the \
                                 log any more: it is lost to the group",
                                self.topic.name, group.name
                            ));
                        }
                        Err(lost) => self.stall(group, &lost),
                    }
                }
            }
        }
    }

    fn stall(&self, group: &mut Running, lost: &Lost) {
        let what = lost.to_string();
        if group.stalled.as_ref() != Some(&what) {
            self.log.error(format_args!(
                "nothing more is delivered to group {:?} of topic {:?}: {what}. Nothing was skipped. Restore the hub folder \
                 from a backup; it is tried again every {} s",
                group.name,
                self.topic.name,
                STALLED.as_secs()
            ));
        }
        group.stalled = Some(what);
        group.paused = Some(Instant::now() + STALLED);
    }

    fn tick(&self, groups: &mut BTreeMap<u32, Running>) {
        for group in groups.values_mut() {
            self.step(group, Event::Tick);
        }
    }

    /// Offers what there is, as far as the group has room.
    fn pump(&self, id: u32, group: &mut Running, reads: &Reads) {
        if group.paused.is_some_and(|until| until > Instant::now()) || group.reading {
            return;
        }
        group.paused = None;
        if !group.restoring.is_empty() {
            group.reading = true;
            let (topic, segments) = (self.topic.clone(), self.segments.clone());
            let offsets: Vec<u64> = group.restoring.keys().copied().collect();
            let read = blocking(move || {
                let one = |offset| {
                    topic
                        .read(&segments, offset, 1, 1)
                        .map(|mut found| found.remove(0))
                };
                offsets.into_iter().map(|offset| (offset, one(offset))).collect()
            });
            reads.push(Box::pin(async move { Read::Again(id, read.await) }));
            return;
        }
        loop {
            let room = group.core.room();
            if room == 0 || group.reading {
                return;
            }
            let next = group.core.next();
            if let Some(message) = group.backlog.pop_front() {
                if message.offset == next {
                    self.step(group, Event::Offer(message));
                }
                continue;
            }
            match self.topic.recent(next, room) {
                Recent::Messages(messages) => group.backlog = messages.into(),
                Recent::End => return,
                Recent::Gone(first) => {
                    self.log.error(format_args!(
                        "{} messages of topic {:?} were removed by retention before group {:?} got them",
                        first - next,
                        self.topic.name,
                        group.name
                    ));
                    self.step(group, Event::Skip(first));
                }
                Recent::Older => {
                    group.reading = true;
                    let (topic, segments) = (self.topic.clone(), self.segments.clone());
                    let most = room.min(READ_MESSAGES);
                    let read = blocking(move || topic.read(&segments, next, most, READ_BYTES));
                    reads.push(Box::pin(async move { Read::Fresh(id, read.await) }));
                }
            }
        }
    }

    fn step(&self, group: &mut Running, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for deliver in group.core.step(event, clock::now(self.start)) {
                let (member, offset) = (deliver.member, deliver.message.offset);
                let sent = group.outlets.get(&member).map(|outlet| outlet.try_send(deliver));
                match sent {
                    Some(Ok(())) => {}
                    // Deliveries it never took were taken back, so more than its window are under way: it is slow.
                    Some(Err(mpsc::error::TrySendError::Full(_))) => events.push(Event::Nack {
                        member,
                        offset,
                        delay: 1_000,
                    }),
                    Some(Err(mpsc::error::TrySendError::Closed(_))) | None => {
                        group.outlets.remove(&member);
                        events.push(Event::Leave(member));
                    }
                }
            }
        }
    }

    fn leave(&self, group: &mut Running, member: Member) {
        group.outlets.remove(&member);
        self.step(group, Event::Leave(member));
    }

    fn note_members(&self, groups: &BTreeMap<u32, Running>) {
        let joined = groups
            .iter()
            .filter(|(_, group)| group.core.members() > 0)
            .map(|(id, _)| *id);
        self.topic.set_joined(joined.collect());
    }

    /// Has changed cursors logged, at most every [`CURSOR_EVERY`]. Answers when to look again.
    fn flush(&self, groups: &mut BTreeMap<u32, Running>, at: Option<Instant>) -> Option<Instant> {
        let now = Instant::now();
        if at.is_some_and(|at| at > now) {
            return at;
        }
        let mut pending = false;
        for (id, group) in groups {
            group.count(&self.health);
            let cursor = group.cursor();
            if cursor == group.logged {
                continue;
            }
            // The first change waits for company; the timer that it starts finds it here again.
            if at.is_some() && self.commit.try_advance(*id, cursor.clone()) {
                group.logged = cursor;
            } else {
                pending = true;
            }
        }
        pending.then(|| now + CURSOR_EVERY)
    }
}

impl Running {
    /// How far the group is, with what it has not read again yet.
    fn cursor(&self) -> Cursor {
        let mut cursor = self.core.cursor();
        if !self.restoring.is_empty() {
            cursor.open.extend(
                self.restoring
                    .iter()
                    .map(|(offset, attempts)| (*offset, *attempts)),
            );
            cursor.open.sort_unstable();
        }
        cursor
    }

    fn report(&self, topic_next: u64) -> Report {
        let unsettled = (self.core.unsettled() + self.restoring.len()) as u64;
        Report {
            members: self.core.members(),
            lag: topic_next.saturating_sub(self.core.next()) + unsettled,
            in_flight: unsettled,
            stalled: self.stalled.clone(),
        }
    }

    fn count(&mut self, health: &Health) {
        let counts = self.core.counts();
        let add = |counter: &std::sync::atomic::AtomicU64, now: u64, before: u64| {
            counter.fetch_add(now - before, Ordering::Relaxed);
        };
        add(
            &health.counters.delivered,
            counts.delivered,
            self.counted.delivered,
        );
        add(
            &health.counters.redelivered,
            counts.redelivered,
            self.counted.redelivered,
        );
        add(&health.counters.expired, counts.expired, self.counted.expired);
        self.counted = counts;
    }
}

/// A group that was not consumed since the hub was started.
fn load(name: String, cursor: Cursor, limits: Limits) -> Running {
    Running {
        name,
        core: Group::new(cursor.next, limits),
        outlets: BTreeMap::new(),
        backlog: VecDeque::new(),
        restoring: cursor.open.iter().copied().collect(),
        reading: false,
        paused: None,
        stalled: None,
        logged: cursor,
        counted: Counts::default(),
    }
}

/// Reads on the blocking pool. A read that panicked has said so and never answers: the group then waits for the
/// next start.
async fn blocking<T: Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(read).await {
        Ok(result) => result,
        Err(_) => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
