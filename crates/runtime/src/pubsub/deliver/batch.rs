//! Subscriptions in bulk: messages are collected and handed to the app together.
//!
//! A batch leaves when it is full, or when its first message has waited long enough. One batch is with the app at a time,
//! so that their order is kept; the next one fills meanwhile, as far as the broker lets us hold more. The app answers
//! for each entry by itself: what it did not take is delivered again, by the policy those entries alone.
//!
//! COMPAT(pkg/runtime/subscription/bulksubscription.go, pkg/runtime/pubsub/default_bulksub.go): defaults, the envelope, what
//! is counted. Unlike there, status 404 sends the entries to the dead-letter topic, as for single events, and a batch that
//! has begun when the subscription ends is still delivered.

use super::process::{Fit, Opened, Unfit};
use super::{End, Engine, Surroundings, Verdict};
use crate::pubsub::envelope;
use futures::StreamExt as _;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use outrigger_channel::app::bulk::{BulkEvent, Entry, Payload};
use outrigger_channel::app::{AppChannel, Bulk, Outcome, Subscription as Spec};
use outrigger_channel::error::Error as AppError;
use outrigger_component::metadata::Metadata;
use outrigger_component::pubsub::{self as component, Delivery, Outgoing, Subscription};
use outrigger_daemon::metrics::ProcessStatus;
use outrigger_daemon::trace::{self, Span};
use outrigger_resiliency::core::retry::Status;
use outrigger_resiliency::policies::{Flow, Kind};
use outrigger_resiliency::policy;
use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

const MESSAGES: usize = 100;
const AWAIT: Duration = Duration::from_secs(1);
/// More than this is never collected: all of it is in memory at once, and the app gets it in one request.
const MOST_MESSAGES: usize = 1_000;

/// When a batch leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pubsub) struct Batching {
    pub most: usize,
    pub patience: Duration,
}

impl Batching {
    /// `None` unless it is asked for.
    pub(super) fn of(bulk: &Bulk, surroundings: &Surroundings, of: &Spec) -> Option<Self> {
        let asked = asked(bulk);
        if let Some(asked) = asked.filter(|asked| *asked > MOST_MESSAGES) {
            surroundings.log.warn(format_args!(
                "maxMessagesCount {asked} of topic {} in pubsub {} is taken as {MOST_MESSAGES}, the most there can be",
                of.topic, of.pubsub
            ));
        }
        Self::told(bulk)
    }

    /// The same, without a word about what is too much.
    pub(in crate::pubsub) fn told(bulk: &Bulk) -> Option<Self> {
        if !bulk.enabled {
            return None;
        }
        let patience = u64::try_from(bulk.max_await_ms).ok().filter(|most| *most > 0);
        Some(Self {
            most: asked(bulk).unwrap_or(MESSAGES).min(MOST_MESSAGES),
            patience: patience.map_or(AWAIT, Duration::from_millis),
        })
    }
}

fn asked(bulk: &Bulk) -> Option<usize> {
    let asked = usize::try_from(bulk.max_messages).ok()?;
    (bulk.enabled && asked > 0).then_some(asked)
}

/// A message of a batch on its way to the app.
struct Item {
    delivery: Delivery,
    id: String,
    letter: Option<Outgoing>,
}

/// The messages of a batch that go to the same route.
#[derive(Default)]
struct Group {
    items: Vec<Item>,
    entries: Vec<Entry>,
    parents: Vec<Option<trace::Context>>,
}

/// How entries ended, each attempt counted.
#[derive(Debug, Default)]
struct Tally {
    success: u64,
    retry: u64,
    drop: u64,
    elapsed: Option<Duration>,
}

impl Engine {
    pub(super) async fn run_batches(&self, subscription: Subscription, batching: Batching) -> End {
        let Subscription {
            mut deliveries,
            concurrency,
        } = subscription;
        let most = concurrency.max(1);
        let mut open = true;
        let mut waiting: Vec<Delivery> = Vec::new();
        // By when what waits must leave.
        let mut due = Instant::now();
        // The batch that is with the app: at most one.
        let mut sent = FuturesUnordered::new();
        let mut away = 0;
        let mut halt = self.halt.clone();
        let end = {
            let mut halted = pin!(halt.wait_for(Option::is_some));
            loop {
                if sent.is_empty() {
                    away = 0;
                    let full = waiting.len() >= batching.most || !open;
                    if !waiting.is_empty() && (full || Instant::now() >= due) {
                        away = waiting.len();
                        sent.push(self.batch(std::mem::take(&mut waiting)));
                    } else if !open {
                        break End::Broker;
                    }
                }
                let room = waiting.len() < batching.most && waiting.len() + away < most;
                tokio::select! {
                    biased;
                    _ = &mut halted => break End::Halted,
                    Some(()) = sent.next() => {}
                    next = deliveries.next(), if open && room => match next {
                        Some(delivery) => {
                            if waiting.is_empty() {
                                due = Instant::now() + batching.patience;
                            }
                            waiting.push(delivery);
                        }
                        None => open = false,
                    },
                    () = tokio::time::sleep_until(due), if sent.is_empty() && !waiting.is_empty() => {}
                }
            }
        };
        if end == End::Halted {
            self.finish(&mut sent).await;
            if sent.is_empty() && !waiting.is_empty() {
                sent.push(self.batch(waiting));
                self.finish(&mut sent).await;
            }
        }
        // What is held still goes back to the broker: that is what dropping it means.
        end
    }

    /// From messages to a settled outcome each.
    async fn batch(&self, deliveries: Vec<Delivery>) {
        let mut tally = Tally::default();
        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        let mut unfit = Vec::new();
        for mut delivery in deliveries {
            let Opened { letter, fate, .. } = self.open_batched(&mut delivery.message);
            let id = uuid::Uuid::new_v4().to_string();
            match fate {
                Ok(Fit {
                    path,
                    payload,
                    metadata,
                    parent,
                    ..
                }) => {
                    let group = groups.entry(path).or_default();
                    let content_type = metadata.get("content-type").unwrap_or(match &payload {
                        Payload::CloudEvent(_) => envelope::CONTENT_TYPE,
                        Payload::Raw(_) => "application/octet-stream",
                    });
                    group.entries.push(Entry {
                        id: id.clone(),
                        payload,
                        content_type: content_type.to_owned(),
                        metadata,
                    });
                    group.parents.push(parent);
                    group.items.push(Item { delivery, id, letter });
                }
                Err(why) => {
                    match why {
                        Unfit::Expired | Unfit::Unrouted => tally.drop += 1,
                        Unfit::Unreadable => tally.retry += 1,
                    }
                    let item = Item { delivery, id, letter };
                    unfit.push((item, why != Unfit::Unreadable));
                }
            }
        }
        let asked = groups.into_iter().map(|(path, group)| self.ask(path, group));
        let mut again = Vec::new();
        for (items, verdicts, counted) in join_all(asked).await {
            tally.add(counted);
            for item in items {
                match verdicts.get(&item.id) {
                    Some(Outcome::Success) => {
                        self.pace.succeeded();
                        item.delivery.settle(component::Outcome::Ack);
                    }
                    Some(Outcome::Drop) => unfit.push((item, true)),
                    Some(Outcome::Retry) | None => unfit.push((item, false)),
                }
            }
        }
        let buried = unfit
            .into_iter()
            .map(|(item, refused)| self.put_away(item, refused));
        for (delivery, verdict, refused) in join_all(buried).await {
            match verdict {
                Verdict::Done => {
                    if !refused {
                        // Counted as to be repeated when it failed.
                        tally.retry = tally.retry.saturating_sub(1);
                        tally.drop += 1;
                    }
                    delivery.settle(component::Outcome::Ack);
                }
                Verdict::Again => again.push(delivery),
            }
        }
        let counts = [
            (ProcessStatus::Success, tally.success),
            (ProcessStatus::Retry, tally.retry),
            (ProcessStatus::Drop, tally.drop),
        ];
        self.publisher
            .metrics
            .delivered_bulk(&self.broker.name, &self.topic, &counts, tally.elapsed);
        if again.is_empty() {
            return;
        }
        let mut halt = self.halt.clone();
        tokio::select! {
            () = tokio::time::sleep(self.pace.failed()) => {}
            _ = halt.wait_for(Option::is_some) => {}
        }
        for delivery in again {
            delivery.settle(component::Outcome::Nack);
        }
    }

    /// A message that no subscriber took: `refused` if none is to have it again.
    async fn put_away(&self, item: Item, refused: bool) -> (Delivery, Verdict, bool) {
        let verdict = match item.letter {
            // While we stop, subscribers fail for reasons that are not the message's.
            Some(letter) if refused || !self.halting() => self.bury(letter, &self.topic).await,
            None if refused => Verdict::Done,
            Some(_) | None => Verdict::Again,
        };
        (item.delivery, verdict, refused)
    }

    /// Hands entries to the app under the inbound policy, those it did not take again. Answers what it said of each.
    async fn ask(&self, path: String, group: Group) -> (Vec<Item>, HashMap<String, Outcome>, Tally) {
        let Group {
            items,
            entries,
            parents,
        } = group;
        let super::Subscriber::App(app) = &self.subscriber else {
            // INVARIANT: streams never ask for batches (`stream.rs`).
            return (items, HashMap::new(), Tally::default());
        };
        let asking = Asking {
            engine: self,
            app,
            path,
            parents,
            progress: Mutex::new(Progress {
                entries,
                ..Progress::default()
            }),
        };
        let policy = self
            .publisher
            .policies
            .component(&self.broker.name, Kind::Pubsub, Flow::Inbound);
        match policy.run(|_| asking.attempt()).await {
            // Reported by the attempt.
            Ok(()) | Err(policy::Error::Operation(_)) => {}
            Err(error @ (policy::Error::Timeout | policy::Error::Refused(_))) => {
                let left = asking.progress().entries.len();
                asking.progress().tally.retry += u64::try_from(left).unwrap_or(u64::MAX);
                self.log.warn(format_args!(
                    "{left} events could not be delivered to topic {}: {error}",
                    self.topic
                ));
            }
        }
        let Progress { verdicts, tally, .. } = asking
            .progress
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        (items, verdicts, tally)
    }
}

/// Entries on their way to one route, over all attempts.
struct Asking<'e> {
    engine: &'e Engine,
    app: &'e Arc<dyn AppChannel>,
    path: String,
    parents: Vec<Option<trace::Context>>,
    progress: Mutex<Progress>,
}

/// An attempt that is given up leaves it as it was.
#[derive(Default)]
struct Progress {
    /// Not taken yet.
    entries: Vec<Entry>,
    /// What the app said last.
    verdicts: HashMap<String, Outcome>,
    tally: Tally,
}

impl Asking<'_> {
    async fn attempt(&self) -> Result<(), Undelivered> {
        let engine = self.engine;
        let mut spans = self.spans();
        let entries = self.progress().entries.clone();
        let count = u64::try_from(entries.len()).unwrap_or(u64::MAX);
        let event = BulkEvent {
            id: uuid::Uuid::new_v4().to_string(),
            pubsub: engine.broker.name.clone(),
            topic: engine.topic.clone(),
            path: self.path.clone(),
            entries,
            metadata: Metadata::from_iter([("pubsubName", engine.broker.name.as_str())]),
            trace: spans.last().and_then(|span| span.context().cloned()),
        };
        let started = Instant::now();
        let answer = self.app.deliver_bulk(event).await;
        let mut progress = self.progress();
        let progress = &mut *progress;
        progress.tally.elapsed = Some(started.elapsed());
        let failed = match answer {
            Ok(verdicts) => {
                let failed = progress.note(verdicts, |text| engine.log.warn(text));
                if failed == 0 {
                    return Ok(());
                }
                Undelivered {
                    error: None,
                    text: format!(
                        "few message(s) have failed during bulk subscribe operation: {failed} of {count} on topic {}",
                        engine.topic
                    ),
                }
            }
            // COMPAT: an app without the callback takes every event, and the dead-letter topic gets none.
            Err(error @ AppError::Unimplemented(_)) => {
                engine.log.warn(format_args!(
                    "non-retriable error returned from app while processing bulk pub/sub event: {error}"
                ));
                progress.tally.drop += count;
                let taken = progress.entries.drain(..);
                progress
                    .verdicts
                    .extend(taken.map(|entry| (entry.id, Outcome::Success)));
                return Ok(());
            }
            Err(error) => {
                progress.tally.retry += count;
                Undelivered {
                    text: format!("error returned from app while processing bulk pub/sub event: {error}"),
                    error: Some(error),
                }
            }
        };
        spans.iter_mut().for_each(|span| span.fail(&failed));
        engine.log.warn(format_args!(
            "encountered a retriable error while publishing subscribed messages to topic {}, err: {failed}",
            engine.topic
        ));
        Err(failed)
    }

    /// One for each event that has a trace.
    fn spans(&self) -> Vec<Span> {
        let engine = self.engine;
        let wanted = |parent: &&Option<trace::Context>| parent.is_some() || engine.tracer.enabled();
        let span = |parent: &Option<trace::Context>| {
            let mut span = engine
                .tracer
                .start(&engine.span, trace::Kind::Client, parent.as_ref());
            span.text("messaging.system", "pubsub");
            span.text("messaging.destination", &engine.topic);
            span
        };
        self.parents.iter().filter(wanted).map(span).collect()
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress {
    /// Takes an answer down; how many entries were not taken.
    fn note(
        &mut self,
        answered: Vec<outrigger_channel::app::bulk::Verdict>,
        warn: impl Fn(std::fmt::Arguments<'_>),
    ) -> usize {
        let mut said: HashMap<String, Result<Outcome, String>> = answered
            .into_iter()
            .map(|verdict| (verdict.id, verdict.outcome))
            .collect();
        let Self {
            entries,
            verdicts,
            tally,
        } = self;
        entries.retain(|entry| {
            let outcome = match said.remove(&entry.id) {
                Some(Ok(outcome)) => outcome,
                Some(Err(text)) => {
                    warn(format_args!("{text}"));
                    Outcome::Retry
                }
                None => {
                    warn(format_args!(
                        "response not received, RETRY required while processing bulk subscribe event for entry id: {}",
                        entry.id
                    ));
                    Outcome::Retry
                }
            };
            match outcome {
                Outcome::Success => tally.success += 1,
                Outcome::Retry => tally.retry += 1,
                Outcome::Drop => {
                    warn(format_args!(
                        "DROP status returned from app while processing pub/sub event {}",
                        entry.id
                    ));
                    tally.drop += 1;
                }
            }
            verdicts.insert(entry.id.clone(), outcome);
            outcome == Outcome::Retry
        });
        for id in said.keys() {
            warn(format_args!(
                "Invalid entry id received from app while processing pub/sub event {id}"
            ));
        }
        entries.len()
    }
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.success += other.success;
        self.retry += other.retry;
        self.drop += other.drop;
        self.elapsed = self.elapsed.max(other.elapsed);
    }
}

/// At least one entry that the app did not take.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct Undelivered {
    text: String,
    /// `None` if the app answered.
    error: Option<AppError>,
}

impl policy::Outcome for Undelivered {
    fn status(&self) -> Option<Status> {
        super::process::status(self.error.as_ref()?)
    }
}
