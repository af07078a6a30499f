//! Settling: outcomes are written down at once and told to the server in batches, until it has taken them.
//!
//! INVARIANT: a message is in the ledger from the moment it is settled until the server knows. Readers neither claim
//! such a message again nor read on while too many wait, which bounds the ledger.

use super::entry::Entry;
use super::{Group, Redelivery};
use crate::client::{Repeat, backoff};
use crate::failure::is_passing;
use outrigger_component::pubsub::{Outcome, Settle};
use redis::{Cmd, RedisResult, Value};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Messages told in one request.
const BATCH: usize = 500;
/// Outcomes that may wait for the server before readers pause.
const MOST_WAITING: usize = 10_000;

/// Outcomes that the server does not know yet, of all subscriptions.
#[derive(Default)]
pub(super) struct Ledger {
    waiting: Mutex<Waiting>,
    more: Notify,
    fewer: Notify,
    closed: AtomicBool,
}

#[derive(Default)]
struct Waiting {
    topics: BTreeMap<Arc<str>, BTreeMap<String, Outcome>>,
    count: usize,
}

/// What one subscription has handed out.
pub(super) struct Held {
    topic: Arc<str>,
    ids: Mutex<HashMap<u64, String>>,
    next: AtomicU64,
    ledger: Arc<Ledger>,
}

impl Ledger {
    pub(super) fn add(&self, topic: &Arc<str>, id: String, outcome: Outcome) {
        let mut waiting = self.waiting();
        if waiting
            .topics
            .entry(Arc::clone(topic))
            .or_default()
            .insert(id, outcome)
            .is_none()
        {
            waiting.count += 1;
        }
        drop(waiting);
        self.more.notify_one();
    }

    pub(super) fn holds(&self, topic: &str, id: &str) -> bool {
        self.waiting()
            .topics
            .get(topic)
            .is_some_and(|ids| ids.contains_key(id))
    }

    /// Returns when few enough outcomes wait.
    pub(super) async fn room(&self) {
        loop {
            let fewer = self.fewer.notified();
            tokio::pin!(fewer);
            fewer.as_mut().enable();
            if self.waiting().count < MOST_WAITING {
                return;
            }
            fewer.await;
        }
    }

    /// No more will come; [`run`] ends when it has told what waits.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.more.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Up to a batch of one topic with one outcome. They stay in the ledger until [`Ledger::told`].
    fn batch(&self) -> Option<(Arc<str>, Outcome, Vec<String>)> {
        let waiting = self.waiting();
        let (topic, ids) = waiting.topics.iter().next()?;
        let outcome = *ids.values().next()?;
        let same = ids.iter().filter(|(_, other)| **other == outcome).take(BATCH);
        Some((
            Arc::clone(topic),
            outcome,
            same.map(|(id, _)| id.clone()).collect(),
        ))
    }

    fn told(&self, topic: &str, ids: &[String]) {
        let mut waiting = self.waiting();
        let Waiting { topics, count } = &mut *waiting;
        if let Some(of) = topics.get_mut(topic) {
            *count -= ids.iter().filter(|id| of.remove(*id).is_some()).count();
            if of.is_empty() {
                topics.remove(topic);
            }
        }
        drop(waiting);
        self.fewer.notify_waiters();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    pub(super) fn new(topic: &str, ledger: &Arc<Ledger>) -> Self {
        Self {
            topic: topic.into(),
            ids: Mutex::default(),
            next: AtomicU64::new(0),
            ledger: Arc::clone(ledger),
        }
    }

    /// Notes that a message is handed out; answers its token.
    pub(super) fn hand_out(&self, id: String) -> u64 {
        let token = self.next.fetch_add(1, Ordering::Relaxed);
        self.ids().insert(token, id);
        token
    }

    /// Messages that come back without having been handed out.
    pub(super) fn give_back(&self, entries: impl IntoIterator<Item = Entry>) {
        for entry in entries {
            self.ledger.add(&self.topic, entry.id, Outcome::Nack);
        }
    }

    pub(super) fn ids_now(&self) -> HashSet<String> {
        self.ids().values().cloned().collect()
    }

    fn ids(&self) -> MutexGuard<'_, HashMap<u64, String>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Settle for Held {
    fn settle(&self, token: u64, outcome: Outcome) {
        // Into the ledger first: between the two, a reader must find the message in one of them.
        let id = self.ids().get(&token).cloned();
        if let Some(id) = id {
            self.ledger.add(&self.topic, id, outcome);
            self.ids().remove(&token);
        }
    }
}

/// Tells the server, until the ledger is closed and empty.
pub(super) async fn run(group: Arc<Group>, ledger: Arc<Ledger>) {
    let mut backoff = backoff();
    loop {
        let Some((topic, outcome, ids)) = ledger.batch() else {
            if ledger.is_closed() {
                return;
            }
            ledger.more.notified().await;
            continue;
        };
        match tell(&group, &topic, outcome, &ids).await {
            Ok(()) => backoff.reset(),
            Err(error) if is_gone(&error) => group.log.warn(format_args!(
                "redis streams: stream {topic} or its group {} is gone; nothing is left to acknowledge",
                group.name
            )),
            Err(error) => {
                group.log.error(format_args!(
                    "redis streams: error acknowledging messages of {topic}: {error}"
                ));
                if is_passing(&error) {
                    backoff.wait().await;
                    continue;
                }
                // Refused for good: these are delivered again some day, and must not keep others waiting.
            }
        }
        ledger.told(&topic, &ids);
    }
}

async fn tell(group: &Group, topic: &str, outcome: Outcome, ids: &[String]) -> RedisResult<()> {
    let cmd = match (outcome, group.redelivery) {
        (Outcome::Ack, _) => command("XACK", topic, group, ids, |_| {}, |_| {}),
        (Outcome::Nack, Some(Redelivery { after, .. })) => command(
            "XCLAIM",
            topic,
            group,
            ids,
            |cmd| {
                cmd.arg(&group.name).arg(0);
            },
            // As if it had been pending for long enough: whoever looks next may have it.
            |cmd| {
                cmd.arg("IDLE").arg(after.as_millis()).arg("JUSTID");
            },
        ),
        // Without redelivery, what is refused stays pending, for somebody to look at.
        (Outcome::Nack, None) => return Ok(()),
    };
    let answer: RedisResult<Value> = group.client.query(&cmd, Repeat::Yes).await;
    answer.map(drop)
}

fn command(
    name: &str,
    topic: &str,
    group: &Group,
    ids: &[String],
    before: impl Fn(&mut Cmd),
    after: impl Fn(&mut Cmd),
) -> Cmd {
    let mut cmd = Cmd::with_capacity(ids.len() + 8, ids.len() * 20 + 128);
    cmd.arg(name).arg(topic).arg(&group.name);
    before(&mut cmd);
    cmd.arg(ids);
    after(&mut cmd);
    cmd
}

/// The server has lost its data, or somebody has removed the stream.
pub(super) fn is_gone(error: &redis::RedisError) -> bool {
    error.code() == Some("NOGROUP")
}
