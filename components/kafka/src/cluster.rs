//! Which brokers there are and who leads what, as far as anybody has asked.
//!
//! What is known here is often late: users ask for it again when a broker says that it is not the leader. Any broker
//! can be asked, so it is asked of the last that answered, then of those known, then of those in metadata.

use crate::connection::Connection;
use crate::dial::Dialer;
use crate::failure::Failure;
use crate::wire::code::Code;
use crate::wire::setup::{self, FindCoordinator};
use outrigger_daemon::backoff;
use rand::seq::SliceRandom as _;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Between attempts, doubled with each.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

pub(crate) struct Cluster {
    dialer: Dialer,
    bootstrap: Vec<String>,
    /// Of all attempts to learn something.
    timeout: Option<Duration>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Where to ask.
    control: Option<Connection>,
    brokers: BTreeMap<i32, String>,
    topics: BTreeMap<String, Arc<[Partition]>>,
}

/// One partition of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Partition {
    pub number: i32,
    pub leader: Option<i32>,
}

impl Cluster {
    pub(crate) fn new(dialer: Dialer, bootstrap: Vec<String>, timeout: Option<Duration>) -> Self {
        Self {
            dialer,
            bootstrap,
            timeout,
            known: Mutex::default(),
        }
    }

    /// Asks for topics anew; those that are not there are made if the broker allows it. Without topics, asks whether
    /// anybody answers at all.
    ///
    /// # Errors
    /// The last broker's, if none can be asked. What is wrong with a topic is for [`Cluster::partitions`].
    pub(crate) async fn learn(&self, topics: &[String]) -> Result<Vec<(String, Code)>, Failure> {
        let request = setup::Metadata { topics };
        let asking = self.ask_anybody(&request);
        let answer = match self.timeout {
            None => asking.await?,
            Some(within) => tokio::time::timeout(within, asking)
                .await
                .map_err(|_| Failure::Slow {
                    address: self.bootstrap.join(","),
                    within,
                })??,
        };
        let mut wrong = Vec::new();
        let mut known = self.known();
        if !answer.brokers.is_empty() {
            known.brokers = answer
                .brokers
                .into_iter()
                .map(|broker| (broker.id, address(&broker.host, broker.port)))
                .collect();
        }
        for topic in answer.topics {
            if let Some(code) = Code::of(topic.code) {
                known.topics.remove(&topic.name);
                wrong.push((topic.name, code));
                continue;
            }
            let mut partitions: Vec<Partition> = topic
                .partitions
                .iter()
                .map(|partition| Partition {
                    number: partition.number,
                    leader: Some(partition.leader).filter(|leader| *leader >= 0),
                })
                .collect();
            partitions.sort_by_key(|partition| partition.number);
            known.topics.insert(topic.name, partitions.into());
        }
        Ok(wrong)
    }

    /// As of the last time somebody asked.
    pub(crate) fn partitions(&self, topic: &str) -> Option<Arc<[Partition]>> {
        self.known().topics.get(topic).cloned()
    }

    pub(crate) fn leader(&self, topic: &str, number: i32) -> Option<i32> {
        let partitions = self.partitions(topic)?;
        partitions
            .iter()
            .find(|partition| partition.number == number)?
            .leader
    }

    /// A connection of its own to a broker.
    pub(crate) async fn connect(&self, broker: i32) -> Result<Connection, Failure> {
        let address = self.known().brokers.get(&broker).cloned();
        let address = address.ok_or_else(|| Failure::NoLeader(format!("broker {broker} is not known")))?;
        self.dialer.dial(&address).await
    }

    /// A connection of its own to the coordinator of a consumer group.
    pub(crate) async fn coordinator(&self, group: &str) -> Result<Connection, Failure> {
        let found = self.ask_anybody(&FindCoordinator { group }).await?;
        Code::check(found.code)
            .map_err(|code| Failure::code(format!("coordinator of group {group}"), code))?;
        self.dialer.dial(&address(&found.host, found.port)).await
    }

    /// Keeps no connection.
    pub(crate) fn close(&self) {
        self.known().control = None;
    }

    async fn ask_anybody<R: crate::wire::Request>(&self, request: &R) -> Result<R::Answer, Failure> {
        let kept = self.known().control.clone();
        let mut last = Failure::Invalid("no brokers are known".to_owned());
        if let Some(connection) = kept.filter(|connection| !connection.is_closed()) {
            match connection.ask(request, Duration::ZERO).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => last = failure,
            }
            self.known().control = None;
        }
        for address in self.candidates() {
            let asked = async {
                let connection = self.dialer.dial(&address).await?;
                let answer = connection.ask(request, Duration::ZERO).await?;
                self.known().control = Some(connection);
                Ok(answer)
            };
            match asked.await {
                Ok(answer) => return Ok(answer),
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    /// Those known in any order, then those of metadata.
    fn candidates(&self) -> Vec<String> {
        let mut candidates: Vec<String> = self.known().brokers.values().cloned().collect();
        candidates.shuffle(&mut rand::rng());
        let known: BTreeSet<String> = candidates.iter().cloned().collect();
        let mut others: Vec<String> = self.bootstrap.clone();
        others.retain(|address| !known.contains(address));
        others.shuffle(&mut rand::rng());
        candidates.append(&mut others);
        candidates
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long to wait before attempt `attempt` (from 1 on) is made again: longer each time, and never quite the same.
pub(crate) fn pause(attempt: u32) -> Duration {
    backoff::after(SHORTEST_PAUSE, LONGEST_PAUSE, attempt.saturating_sub(1))
}

fn address(host: &str, port: i32) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}
