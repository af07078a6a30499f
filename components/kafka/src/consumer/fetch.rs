//! Fetching: one request at a time to each broker that leads something of ours, over a connection of its own, because brokers
//! keep such a request until there is something to say.

use super::Settings;
use super::assign::{Part, by_topic};
use super::shelf::Shelf;
use crate::cluster::{Cluster, pause};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::wire::batch;
use crate::wire::code::Code;
use crate::wire::data::Fetch;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use outrigger_daemon::log::Log;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a broker keeps a request when there is nothing. COMPAT(IBM/sarama config.go): MaxWaitTime.
const WAIT: Duration = Duration::from_millis(500);
/// The same while partitions that had enough may want more soon.
const SHORT_WAIT: Duration = Duration::from_millis(50);
/// From one request to a broker to the next, when it answers sooner: so an answer brings what has come meanwhile, instead of
/// one message after the other.
const PACE: Duration = Duration::from_millis(1);

pub(super) struct Fetches {
    cluster: Arc<Cluster>,
    settings: Arc<Settings>,
    links: BTreeMap<i32, Link>,
    under_way: FuturesUnordered<BoxFuture<'static, Fetched>>,
    /// Partitions whose offset is being looked for.
    lost: BTreeSet<Part>,
    /// Somebody is not the leader, or nobody is.
    stale: bool,
    /// Times in a row that it was.
    attempts: u32,
}

#[derive(Default)]
struct Link {
    connection: Option<Connection>,
    busy: bool,
    failures: u32,
    /// When it is to be asked again at the earliest.
    next: Option<Instant>,
}

/// What came of a request.
pub(super) struct Fetched {
    broker: i32,
    connection: Option<Connection>,
    asked: BTreeMap<Part, i64>,
    outcome: Result<<Fetch as crate::wire::Request>::Answer, Failure>,
}

impl Fetches {
    pub(super) fn new(cluster: &Arc<Cluster>, settings: &Arc<Settings>) -> Self {
        Self {
            cluster: Arc::clone(cluster),
            settings: Arc::clone(settings),
            links: BTreeMap::new(),
            under_way: FuturesUnordered::new(),
            lost: BTreeSet::new(),
            stale: false,
            attempts: 0,
        }
    }

    /// Asks for what is wanted where nothing is under way. Says whether some partitions have enough for now.
    pub(super) fn start(&mut self, shelf: &Shelf) -> bool {
        let (wanted, full) = shelf.wanted();
        let mut led: BTreeMap<i32, BTreeMap<Part, i64>> = BTreeMap::new();
        for (part, offset) in wanted {
            if self.lost.contains(&part) {
                continue;
            }
            match self.cluster.leader(&part.0, part.1) {
                Some(leader) => {
                    led.entry(leader).or_default().insert(part, offset);
                }
                None => self.stale = true,
            }
        }
        for (broker, asked) in led {
            let link = self.links.entry(broker).or_default();
            if link.busy {
                continue;
            }
            link.busy = true;
            let connection = link
                .connection
                .take()
                .filter(|connection| !connection.is_closed());
            let now = Instant::now();
            let at = if link.failures == 0 {
                link.next.unwrap_or(now)
            } else {
                now + pause(link.failures)
            };
            link.next = Some(at.max(now) + PACE);
            let wait = if full { SHORT_WAIT } else { WAIT };
            let request = Fetch {
                wait,
                min_bytes: self.settings.fetch_min,
                partition_bytes: self.settings.fetch_default,
                from: by_topic(
                    asked
                        .iter()
                        .map(|((topic, number), offset)| (topic.clone(), (*number, *offset))),
                ),
            };
            let cluster = Arc::clone(&self.cluster);
            self.under_way.push(Box::pin(async move {
                tokio::time::sleep_until(at).await;
                let mut kept = connection;
                let outcome = async {
                    let connection = match kept.take() {
                        Some(connection) => connection,
                        None => cluster.connect(broker).await?,
                    };
                    let answer = connection.ask(&request, wait).await?;
                    kept = Some(connection);
                    Ok(answer)
                };
                let outcome = outcome.await;
                Fetched {
                    broker,
                    connection: kept,
                    asked,
                    outcome,
                }
            }));
        }
        full
    }

    /// The next answer; never, while nothing is under way.
    pub(super) async fn next(&mut self) -> Fetched {
        match self.under_way.next().await {
            Some(fetched) => fetched,
            None => std::future::pending().await,
        }
    }

    /// Puts what came on the shelf. Answers the partitions whose offset is not there any more; they are not
    /// fetched until they are [released](Fetches::release).
    pub(super) fn apply(&mut self, fetched: Fetched, shelf: &Shelf, log: &Log) -> Vec<(Part, i64)> {
        let Fetched {
            broker,
            connection,
            asked,
            outcome,
        } = fetched;
        let link = self.links.entry(broker).or_default();
        link.busy = false;
        link.connection = connection;
        let outcome = outcome.and_then(|(code, topics)| match Code::of(code) {
            None => Ok(topics),
            Some(code) => Err(Failure::code("fetching", code)),
        });
        let topics = match outcome {
            Ok(topics) => topics,
            Err(failure) => {
                if link.failures == 0 {
                    log.warn(format_args!("kafka: {failure}; trying again"));
                }
                link.failures += 1;
                self.stale = true;
                return Vec::new();
            }
        };
        let mut failures = 0;
        let mut out_of_range = Vec::new();
        for (topic, partitions) in topics {
            for one in partitions {
                let part = (topic.clone(), one.partition);
                let Some(from) = asked.get(&part).copied() else {
                    continue;
                };
                match Code::of(one.code) {
                    None => match batch::decode(one.batches, from) {
                        Ok(decoded) => {
                            if decoded.next.is_some() {
                                shelf.fetched(&part, from, decoded.records, decoded.next);
                            }
                        }
                        Err(cause) => {
                            failures = link.failures + 1;
                            if link.failures == 0 {
                                log.error(format_args!(
                                    "kafka: partition {} of topic {topic} cannot be read from offset {from} on: {cause}; \
                                     trying again",
                                    part.1
                                ));
                            }
                        }
                    },
                    Some(Code::OFFSET_OUT_OF_RANGE) => {
                        self.lost.insert(part.clone());
                        out_of_range.push((part, from));
                    }
                    Some(code) => {
                        failures = link.failures + 1;
                        self.stale = true;
                        if link.failures == 0 && !code.is_passing() {
                            log.error(format_args!(
                                "kafka: fetching from topic {topic}: {code}; trying again"
                            ));
                        }
                    }
                }
            }
        }
        link.failures = failures;
        out_of_range
    }

    pub(super) fn release(&mut self, part: &Part) {
        self.lost.remove(part);
    }

    pub(super) fn is_stale(&self) -> bool {
        self.stale
    }

    /// How long to wait before asking who leads.
    pub(super) fn rest(&self) -> Duration {
        if self.attempts == 0 {
            Duration::ZERO
        } else {
            pause(self.attempts)
        }
    }

    /// Who leads is known as well as can be.
    pub(super) fn learned(&mut self) {
        self.attempts = if self.stale { self.attempts + 1 } else { 0 };
        self.stale = false;
    }
}
