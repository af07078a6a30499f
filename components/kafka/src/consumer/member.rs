//! A member of a consumer group: joins, keeps its place by heartbeats, fetches what it was given, and commits marks.
//!
//! One task does all of it, so nothing of this is ever waiting for the app: messages go to the [shelf](super::shelf), and
//! refused ones rest there. Partitions are given up when nobody holds messages of them any more (or after a while), and
//! only after their marks are committed.
//!
//! INVARIANT: a mark is committed under the generation in which its partition is ours; when the group has gone on without
//! us, everything on the shelf is dropped first.

use super::Settings;
use super::assign::{self, Part, by_topic, plan};
use super::fetch::{Fetched, Fetches};
use super::positions;
use super::shelf::Shelf;
use crate::cluster::{Cluster, pause};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::wire::code::Code;
use crate::wire::group::{
    Commit, Heartbeat, Join, Joined, Leave, Subscription, Sync, assignment, take_assignment,
};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use outrigger_daemon::log::Log;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior};

/// How long members may take to give up what they hold. COMPAT(IBM/sarama config.go): Rebalance.Timeout.
const REBALANCE_TIMEOUT: Duration = Duration::from_mins(1);
/// How long we wait for messages that somebody holds when their partition is to be given up.
const GIVE_UP: Duration = Duration::from_secs(30);
/// The same when the subscription ends.
const FAREWELL: Duration = Duration::from_secs(10);
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// How often a topic without partitions is asked for.
const MISSING_TOPIC: Duration = Duration::from_secs(5);
/// How long somebody who subscribes is kept waiting while the brokers are away.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Member {
    cluster: Arc<Cluster>,
    settings: Arc<Settings>,
    topics: Vec<String>,
    shelf: Arc<Shelf>,
    log: Log,
    stop: watch::Receiver<bool>,
    /// Told when the first distribution has arrived.
    first: Option<oneshot::Sender<Result<(), Failure>>>,
    coordinator: Option<Connection>,
    id: String,
    /// -1 while we are not in the group.
    generation: i32,
    /// As of which what is on the shelf is ours.
    held_since: i32,
    /// Numbers of partitions that we have distributed, if we are the leader.
    distributed: Option<BTreeMap<Arc<str>, Vec<i32>>>,
    fetches: Fetches,
    asked: FuturesUnordered<BoxFuture<'static, Answer>>,
    under_way: UnderWay,
    heartbeat: Interval,
    commit: Interval,
    refresh: Interval,
    missing: Interval,
}

/// Requests of which one at a time is enough.
#[derive(Debug, Default)]
struct UnderWay {
    heartbeat: bool,
    commit: bool,
    learning: bool,
}

enum Answer {
    Heartbeat(Result<i16, Failure>),
    Commit(Vec<(Part, i64)>, Result<Vec<(Part, i16)>, Failure>),
    Learned(Result<Vec<(String, Code)>, Failure>),
    Jump(Part, i64, Result<i64, Failure>),
}

/// Why a member cannot go on as it is.
#[derive(Debug, Clone)]
pub(super) enum Trouble {
    /// The group is distributed anew.
    Rebalance,
    /// The group has gone on without us.
    Lost { unknown: bool },
    /// The coordinator is to be found again.
    Away(Failure),
}

/// What a code of the coordinator means.
pub(super) fn judge(code: i16, what: &str) -> Result<(), Trouble> {
    match Code::of(code) {
        None => Ok(()),
        Some(Code::REBALANCE_IN_PROGRESS) => Err(Trouble::Rebalance),
        Some(Code::ILLEGAL_GENERATION) => Err(Trouble::Lost { unknown: false }),
        Some(Code::UNKNOWN_MEMBER) => Err(Trouble::Lost { unknown: true }),
        Some(code) => Err(Trouble::Away(Failure::code(what, code))),
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Away(failure)
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = tokio::time::interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

impl Member {
    pub(super) fn new(
        cluster: &Arc<Cluster>,
        settings: &Arc<Settings>,
        topics: Vec<String>,
        shelf: &Arc<Shelf>,
        stop: watch::Receiver<bool>,
        first: oneshot::Sender<Result<(), Failure>>,
        log: &Log,
    ) -> Self {
        Self {
            cluster: Arc::clone(cluster),
            settings: Arc::clone(settings),
            topics,
            shelf: Arc::clone(shelf),
            log: log.clone(),
            stop,
            first: Some(first),
            coordinator: None,
            id: String::new(),
            generation: -1,
            held_since: -1,
            distributed: None,
            fetches: Fetches::new(cluster, settings),
            asked: FuturesUnordered::new(),
            under_way: UnderWay::default(),
            heartbeat: every(settings.heartbeat_interval),
            commit: every(COMMIT_INTERVAL),
            refresh: every(settings.refresh_interval),
            missing: every(MISSING_TOPIC),
        }
    }

    /// Until it is told to stop.
    pub(super) async fn run(mut self) {
        let mut stop = self.stop.clone();
        let mut stopped = pin!(stop.wait_for(|stop| *stop));
        let since = Instant::now();
        let mut attempt = 0;
        loop {
            let began = Instant::now();
            let failure = tokio::select! {
                biased;
                _ = &mut stopped => break,
                failure = self.take_part() => failure,
            };
            if began.elapsed() > LONG_ENOUGH {
                attempt = 0;
            }
            attempt += 1;
            if attempt == 1 {
                self.log.warn(format_args!(
                    "kafka: consumer group {} ({}): {failure}; trying again",
                    self.settings.group,
                    self.topics.join(", ")
                ));
            }
            if !failure.is_passing() || since.elapsed() > PATIENCE {
                self.tell_first(Err(failure));
            }
            tokio::select! {
                _ = &mut stopped => break,
                () = tokio::time::sleep(pause(attempt)) => {}
            }
        }
        self.shelf.close();
        self.leave().await;
    }

    /// Is in the group as long as the coordinator is there.
    async fn take_part(&mut self) -> Failure {
        match self.cluster.coordinator(&self.settings.group).await {
            Ok(connection) => self.coordinator = Some(connection),
            Err(failure) => return failure,
        }
        self.under_way.heartbeat = false;
        self.under_way.commit = false;
        self.asked.clear();
        self.under_way.learning = false;
        loop {
            let trouble = if self.generation < 0 {
                self.join().await.err()
            } else {
                self.work(std::future::pending::<()>(), true).await.err()
            };
            match trouble {
                None => {}
                Some(Trouble::Rebalance) => {
                    if !self.settings.strategy.is_cooperative()
                        && let Err(Trouble::Away(failure)) = self.give_up(self.shelf.owned(), GIVE_UP).await
                    {
                        return failure;
                    }
                    self.generation = -1;
                }
                Some(Trouble::Lost { unknown }) => self.lose(unknown),
                Some(Trouble::Away(failure)) => return failure,
            }
        }
    }

    /// Somebody else may have everything by now.
    fn lose(&mut self, unknown: bool) {
        self.log.debug(format_args!(
            "kafka: consumer group {} has gone on without this member; joining again",
            self.settings.group
        ));
        self.shelf.drop_parts(&self.shelf.owned());
        self.generation = -1;
        self.held_since = -1;
        if unknown {
            self.id.clear();
        }
    }

    /// Joins, and takes up what it is given.
    async fn join(&mut self) -> Result<(), Trouble> {
        let joined = loop {
            let joined = self.ask_to_join().await?;
            match Code::of(joined.code) {
                Some(Code::MEMBER_ID_REQUIRED) => self.id = joined.member,
                _ => {
                    judge(joined.code, &format!("joining group {}", self.settings.group))?;
                    break joined;
                }
            }
        };
        self.id = joined.member;
        let assignments = if joined.leader == self.id {
            self.distribute(joined.members).await?
        } else {
            self.distributed = None;
            Vec::new()
        };
        let assigned = self.sync(joined.generation, assignments).await?;
        let owned = self.shelf.owned();
        let plan = plan(&owned, &assigned);
        self.generation = joined.generation;
        self.held_since = joined.generation;
        self.heartbeat.reset();
        let again = !plan.give_up.is_empty();
        if again {
            self.give_up(plan.give_up, GIVE_UP).await?;
        }
        self.take_up(plan.take_up).await?;
        self.log.debug(format_args!(
            "kafka: consumer group {} generation {}: {} partitions of {}",
            self.settings.group,
            self.generation,
            assigned.len(),
            self.topics.join(", ")
        ));
        self.tell_first(Ok(()));
        if again {
            // What was given up is distributed in the next round.
            return Err(Trouble::Rebalance);
        }
        Ok(())
    }

    fn tell_first(&mut self, outcome: Result<(), Failure>) {
        if let Some(first) = self.first.take() {
            // Whoever has stopped waiting has stopped us, too.
            let _unheard = first.send(outcome);
        }
    }

    async fn ask_to_join(&mut self) -> Result<Joined, Trouble> {
        let settings = Arc::clone(&self.settings);
        let sticky = settings.strategy == assign::Strategy::Sticky;
        let subscription = Subscription {
            topics: self.topics.clone(),
            owned: by_topic(self.shelf.owned()),
            generation: self.held_since,
        };
        let subscription = subscription.bytes(sticky);
        let id = self.id.clone();
        let join = Join {
            group: &settings.group,
            session_timeout: settings.session_timeout,
            rebalance_timeout: REBALANCE_TIMEOUT,
            member: &id,
            strategy: settings.strategy.name(),
            subscription: &subscription,
        };
        let asking = self.connection()?.ask(&join, REBALANCE_TIMEOUT);
        Ok(self.work(asking, false).await??)
    }

    /// As the leader: who gets what.
    async fn distribute(
        &mut self,
        members: Vec<(String, bytes::Bytes)>,
    ) -> Result<Vec<(String, bytes::Bytes)>, Trouble> {
        let mut subscriptions = BTreeMap::new();
        for (id, bytes) in members {
            let subscription = Subscription::take(bytes).map_err(|cause| {
                Failure::Invalid(format!(
                    "member {id} of group {} is strange: {cause}",
                    self.settings.group
                ))
            })?;
            subscriptions.insert(id, subscription);
        }
        let topics: BTreeSet<String> = subscriptions
            .values()
            .flat_map(|subscription| subscription.topics.iter().cloned())
            .collect();
        let topics: Vec<String> = topics.into_iter().collect();
        let cluster = Arc::clone(&self.cluster);
        let names = topics.clone();
        let learning = async move { positions::learn(&cluster, &names).await };
        self.work(learning, false).await??;
        let numbers = self.numbers(&topics);
        let assignments = assign::assign(self.settings.strategy, &subscriptions, &numbers);
        self.distributed = Some(numbers);
        Ok(assignments
            .into_iter()
            .map(|(id, parts)| (id, assignment(&by_topic(parts))))
            .collect())
    }

    fn numbers(&self, topics: &[String]) -> BTreeMap<Arc<str>, Vec<i32>> {
        let numbers = |topic: &String| {
            let partitions = self.cluster.partitions(topic).unwrap_or_default();
            (
                topic.as_str().into(),
                partitions.iter().map(|partition| partition.number).collect(),
            )
        };
        topics.iter().map(numbers).collect()
    }

    async fn sync(
        &mut self,
        generation: i32,
        assignments: Vec<(String, bytes::Bytes)>,
    ) -> Result<BTreeSet<Part>, Trouble> {
        let settings = Arc::clone(&self.settings);
        let id = self.id.clone();
        let sync = Sync {
            group: &settings.group,
            generation,
            member: &id,
            assignments,
        };
        let asking = self.connection()?.ask(&sync, REBALANCE_TIMEOUT);
        let synced = self.work(asking, false).await??;
        judge(synced.code, &format!("synchronising group {}", settings.group))?;
        let assigned = take_assignment(synced.assignment).map_err(|cause| {
            Failure::Invalid(format!(
                "the leader of group {} is strange: {cause}",
                settings.group
            ))
        })?;
        Ok(assigned
            .into_iter()
            .flat_map(|(topic, numbers)| numbers.into_iter().map(move |number| (topic.clone(), number)))
            .collect())
    }

    /// Goes on where the group is, or where it is to begin.
    async fn take_up(&mut self, parts: BTreeSet<Part>) -> Result<(), Trouble> {
        if parts.is_empty() {
            return Ok(());
        }
        let found = positions::find(&self.cluster, &self.settings, self.connection()?, parts);
        let found = self.work(found, true).await??;
        let mut new = false;
        for (part, position) in found {
            new |= !position.committed;
            self.shelf.own(part, position.offset, position.committed);
        }
        if new {
            // So that whoever comes next goes on here, and not behind what is published meanwhile.
            self.commit_all().await?;
        }
        Ok(())
    }

    /// Hands out no more of these, waits for those who hold some, commits, and forgets them.
    async fn give_up(&mut self, parts: BTreeSet<Part>, patience: Duration) -> Result<(), Trouble> {
        if parts.is_empty() {
            return Ok(());
        }
        self.shelf.hold(&parts);
        let shelf = Arc::clone(&self.shelf);
        let held = parts.clone();
        let settled = async move {
            while shelf.are_held(&held) {
                shelf.changed().await;
            }
        };
        let waited = self.work(tokio::time::timeout(patience, settled), false).await?;
        if waited.is_err() {
            self.log.warn(format_args!(
                "kafka: consumer group {}: messages are given to another member although they are not settled after {} s; \
                 they may be delivered twice",
                self.settings.group,
                patience.as_secs()
            ));
        }
        let committed = self.commit_all().await;
        self.shelf.drop_parts(&parts);
        committed
    }

    /// Commits what there is, and waits for it.
    async fn commit_all(&mut self) -> Result<(), Trouble> {
        let marks = self.shelf.uncommitted();
        if marks.is_empty() {
            return Ok(());
        }
        let committing = commit(
            self.connection()?,
            &self.settings.group,
            self.held_since,
            &self.id,
            &marks,
        );
        let outcome = self.work(committing, false).await?;
        self.committed(marks, outcome)
    }

    fn committed(
        &mut self,
        marks: Vec<(Part, i64)>,
        outcome: Result<Vec<(Part, i16)>, Failure>,
    ) -> Result<(), Trouble> {
        let codes: BTreeMap<Part, i16> = outcome?.into_iter().collect();
        let mut trouble = Ok(());
        for (part, mark) in marks {
            match codes.get(&part) {
                Some(0) => self.shelf.committed(&part, mark),
                Some(code) => trouble = judge(*code, &format!("committing to group {}", self.settings.group)),
                None => {}
            }
        }
        trouble
    }

    /// Says goodbye, so that others get our partitions at once.
    async fn leave(mut self) {
        if self.coordinator.is_none() || self.id.is_empty() {
            return;
        }
        let parts = self.shelf.owned();
        if self.held_since >= 0
            && let Err(trouble) = self.give_up(parts, FAREWELL).await
        {
            self.log.debug(format_args!(
                "kafka: consumer group {}: messages may be delivered again: {trouble:?}",
                self.settings.group
            ));
        }
        if self.generation < 0 {
            // A request to join may be under way, and the broker answers in order: over another connection, then.
            self.coordinator = self.cluster.coordinator(&self.settings.group).await.ok();
        }
        let leave = Leave {
            group: &self.settings.group,
            member: &self.id,
        };
        if let Ok(connection) = self.connection()
            && let Err(failure) = connection.ask(&leave, Duration::ZERO).await
        {
            self.log.debug(format_args!(
                "kafka: consumer group {} does not hear that a member leaves: {failure}",
                self.settings.group
            ));
        }
    }

    /// Fetches, commits and keeps our place until `until`. `heed` says whether it is to end when the group is
    /// distributed anew; that we are lost or the coordinator is away ends it always.
    async fn work<T>(&mut self, until: impl Future<Output = T>, heed: bool) -> Result<T, Trouble> {
        let mut until = pin!(until);
        let shelf = Arc::clone(&self.shelf);
        loop {
            let full = self.fetches.start(&shelf);
            if self.fetches.is_stale() {
                self.learn();
            }
            tokio::select! {
                biased;
                out = &mut until => return Ok(out),
                Some(answer) = self.asked.next() => match self.answered(answer) {
                    // A commit may have met the next generation.
                    Err(Trouble::Rebalance | Trouble::Lost { unknown: false }) if !heed => {}
                    outcome => outcome?,
                },
                fetched = self.fetches.next() => self.fetched(fetched),
                _ = self.heartbeat.tick() => self.beat(),
                _ = self.commit.tick() => self.commit(),
                _ = self.refresh.tick() => self.learn(),
                _ = self.missing.tick() => if self.lacks_topics() {
                    self.learn();
                },
                () = shelf.changed(), if full => {}
            }
        }
    }

    fn lacks_topics(&self) -> bool {
        self.topics.iter().any(|topic| {
            self.cluster
                .partitions(topic)
                .is_none_or(|partitions| partitions.is_empty())
        })
    }

    fn beat(&mut self) {
        let Some(connection) = self.coordinator.clone() else {
            return;
        };
        if self.generation < 0 || std::mem::replace(&mut self.under_way.heartbeat, true) {
            return;
        }
        let (settings, generation, id) = (Arc::clone(&self.settings), self.generation, self.id.clone());
        self.asked.push(Box::pin(async move {
            let heartbeat = Heartbeat {
                group: &settings.group,
                generation,
                member: &id,
            };
            Answer::Heartbeat(connection.ask(&heartbeat, Duration::ZERO).await)
        }));
    }

    fn commit(&mut self) {
        let Some(connection) = &self.coordinator else {
            return;
        };
        let marks = self.shelf.uncommitted();
        if self.held_since < 0 || marks.is_empty() || std::mem::replace(&mut self.under_way.commit, true) {
            return;
        }
        let committing = commit(
            connection,
            &self.settings.group,
            self.held_since,
            &self.id,
            &marks,
        );
        self.asked
            .push(Box::pin(async move { Answer::Commit(marks, committing.await) }));
    }

    fn learn(&mut self) {
        if std::mem::replace(&mut self.under_way.learning, true) {
            return;
        }
        let (cluster, topics) = (Arc::clone(&self.cluster), self.topics.clone());
        let rest = self.fetches.rest();
        self.asked.push(Box::pin(async move {
            tokio::time::sleep(rest).await;
            Answer::Learned(cluster.learn(&topics).await)
        }));
    }

    fn answered(&mut self, answer: Answer) -> Result<(), Trouble> {
        match answer {
            Answer::Heartbeat(outcome) => {
                self.under_way.heartbeat = false;
                judge(outcome?, &format!("heartbeat of group {}", self.settings.group))
            }
            Answer::Commit(marks, outcome) => {
                self.under_way.commit = false;
                self.committed(marks, outcome)
            }
            Answer::Learned(outcome) => {
                self.under_way.learning = false;
                match outcome {
                    Ok(_) => self.fetches.learned(),
                    Err(failure) => self.log.debug(format_args!("kafka: {failure}")),
                }
                let grown = self.distributed.as_ref().is_some_and(|distributed| {
                    distributed.iter().any(|(topic, numbers)| {
                        let known = self.cluster.partitions(topic).unwrap_or_default();
                        known.len() > numbers.len()
                    })
                });
                if grown { Err(Trouble::Rebalance) } else { Ok(()) }
            }
            Answer::Jump(part, from, outcome) => {
                match outcome {
                    Ok(to) => self.shelf.jump(&part, from, to),
                    Err(failure) => self.log.debug(format_args!("kafka: {failure}")),
                }
                self.fetches.release(&part);
                Ok(())
            }
        }
    }

    fn fetched(&mut self, fetched: Fetched) {
        for (part, from) in self.fetches.apply(fetched, &self.shelf, &self.log) {
            self.log.warn(format_args!(
                "kafka: partition {} of topic {} has no offset {from} any more; going on with the nearest that is there",
                part.1, part.0
            ));
            let cluster = Arc::clone(&self.cluster);
            self.asked.push(Box::pin(async move {
                let to = positions::nearest(&cluster, &part, from).await;
                Answer::Jump(part, from, to)
            }));
        }
    }

    fn connection(&self) -> Result<&Connection, Failure> {
        self.coordinator.as_ref().ok_or_else(|| {
            Failure::NoLeader(format!(
                "the coordinator of group {} is away",
                self.settings.group
            ))
        })
    }
}

/// After this time, a new failure is a new story.
const LONG_ENOUGH: Duration = Duration::from_secs(20);

fn commit(
    connection: &Connection,
    group: &str,
    generation: i32,
    member: &str,
    marks: &[(Part, i64)],
) -> impl Future<Output = Result<Vec<(Part, i16)>, Failure>> + Send + use<> {
    let marks = marks
        .iter()
        .map(|((topic, number), mark)| (topic.clone(), (*number, *mark)));
    let marks = by_topic(marks);
    let (connection, group, member) = (connection.clone(), group.to_owned(), member.to_owned());
    async move {
        let commit = Commit {
            group: &group,
            generation,
            member: &member,
            marks,
        };
        let topics = connection.ask(&commit, Duration::ZERO).await?;
        let codes = topics.into_iter().flat_map(|(topic, codes)| {
            codes
                .into_iter()
                .map(move |(number, code)| ((topic.clone(), number), code))
        });
        Ok(codes.collect())
    }
}
