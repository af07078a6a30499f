//! What the server's handlers share: the store, the tasks that consume topics, the names.

use crate::commit::{Failure, Handle};
use crate::config::Config;
use crate::dispatch::{Command, Dispatch, MAILBOX, Report};
use crate::group::{Deliver, Limits, Member};
use crate::health::Health;
use crate::kv::Kv;
use crate::log::Segments;
use crate::names::Names;
use crate::topic::Topic;
use crate::topics::Topics;
use outrigger_daemon::drain;
use outrigger_daemon::log::Log;
use outrigger_daemon::tasks::{OnExit, Spawner};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) commit: Handle,
    pub(crate) kv: Arc<Kv>,
    pub(crate) topics: Arc<Topics>,
    pub(crate) segments: Arc<Segments>,
    pub(crate) health: Arc<Health>,
    pub(crate) names: Names,
    pub(crate) log: Log,
    pub(crate) spawner: Spawner,
    /// Makes the claim of one stream, which drains when requests must end.
    pub(crate) doors: drain::Trigger,
    /// Drains when the tasks that consume topics must end.
    pub(crate) work: drain::Watch,
    /// Ends the hub.
    pub(crate) end: drain::Trigger,
    pub(crate) connections: watch::Receiver<u32>,
}

pub(crate) struct Broker {
    parts: Parts,
    started: Instant,
    started_wall: u64,
    consumed: Mutex<HashMap<u32, mpsc::Sender<Command>>>,
    members: AtomicU64,
}

/// A member of a group.
pub(crate) struct Joined {
    pub(crate) group: u32,
    pub(crate) member: Member,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) deliveries: mpsc::Receiver<Deliver>,
    /// First offset that was not handed out yet.
    pub(crate) next: u64,
}

/// How to join a group.
pub(crate) struct Join {
    pub(crate) topic: String,
    pub(crate) group: String,
    pub(crate) earliest: bool,
    pub(crate) window: usize,
    /// Milliseconds; 0 is the hub's default.
    pub(crate) timeout: u64,
}

impl Broker {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            parts,
            started: Instant::now(),
            started_wall: crate::clock::wall(),
            consumed: Mutex::default(),
            members: AtomicU64::new(0),
        }
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Wall clock, milliseconds.
    pub(crate) fn started(&self) -> u64 {
        self.started_wall
    }

    /// Makes the group durable if it is new, and joins it.
    pub(crate) async fn join(&self, join: Join) -> Result<Joined, Failure> {
        let limits = &self.parts.config.limits;
        // A window beyond what the group may hold would only cost memory.
        let window = join.window.clamp(1, limits.group_messages);
        let timeout = match join.timeout {
            0 => u64::try_from(self.parts.config.settle_timeout.as_millis()).unwrap_or(u64::MAX),
            given => given,
        };
        let opened = self
            .parts
            .commit
            .open(join.topic, join.group.clone(), join.earliest)
            .await?;
        let group = opened.group;
        let commands = self.consume(&opened.topic);
        let member = self.members.fetch_add(1, Ordering::Relaxed) + 1;
        let (outlet, deliveries) = mpsc::channel(window);
        let (joined, next) = oneshot::channel();
        let command = Command::Join {
            opened,
            name: join.group,
            member,
            window,
            timeout,
            outlet,
            joined,
        };
        let closing = || Failure::new(crate::commit::Reason::Closing, "the hub is ending");
        commands.send(command).await.map_err(|_| closing())?;
        Ok(Joined {
            group,
            member,
            commands,
            deliveries,
            next: next.await.map_err(|_| closing())?,
        })
    }

    /// The task of a topic, started if there is none.
    fn consume(&self, topic: &Arc<Topic>) -> mpsc::Sender<Command> {
        let mut consumed = self.consumed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(commands) = consumed.get(&topic.id).filter(|commands| !commands.is_closed()) {
            return commands.clone();
        }
        let (commands, mailbox) = mpsc::channel(MAILBOX);
        let limits = &self.parts.config.limits;
        let dispatch = Dispatch {
            topic: topic.clone(),
            segments: self.parts.segments.clone(),
            commit: self.parts.commit.clone(),
            limits: Limits {
                messages: limits.group_messages,
                bytes: limits.group_bytes,
            },
            health: self.parts.health.clone(),
            log: self.parts.log.clone(),
            start: self.started,
        };
        let run = dispatch.run(mailbox, self.parts.work.clone());
        self.parts
            .spawner
            .named(format!("topic {}", topic.name), OnExit::Log, run);
        consumed.insert(topic.id, commands.clone());
        commands
    }

    /// What the tasks say about the groups they have.
    pub(crate) async fn reports(&self) -> BTreeMap<u32, Report> {
        let tasks: Vec<_> = {
            let consumed = self.consumed.lock().unwrap_or_else(PoisonError::into_inner);
            consumed.values().cloned().collect()
        };
        let mut reports = BTreeMap::new();
        for commands in tasks {
            let (reply, report) = oneshot::channel();
            // A task that ends just now has nothing to say.
            if commands.send(Command::Report(reply)).await.is_ok()
                && let Ok(report) = report.await
            {
                reports.extend(report);
            }
        }
        reports
    }
}
