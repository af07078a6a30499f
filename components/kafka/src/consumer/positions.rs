//! Where to begin: what the group has committed, or an end of the partition.

use super::Settings;
use super::assign::{Part, by_topic};
use crate::cluster::{Cluster, pause};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::wire::code::Code;
use crate::wire::data::{End, ListOffsets};
use crate::wire::group::Committed;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// Attempts before the coordinator is looked for again.
const ATTEMPTS: u32 = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub offset: i64,
    /// Whether the group knows of it.
    pub committed: bool,
}

/// Where the group is in these partitions.
pub(super) fn find(
    cluster: &Arc<Cluster>,
    settings: &Arc<Settings>,
    coordinator: &Connection,
    parts: BTreeSet<Part>,
) -> impl Future<Output = Result<BTreeMap<Part, Position>, Failure>> + Send + use<> {
    let (cluster, settings, coordinator) = (Arc::clone(cluster), Arc::clone(settings), coordinator.clone());
    async move {
        let request = Committed {
            group: &settings.group,
            of: by_topic(parts),
        };
        let (code, topics) = coordinator.ask(&request, Duration::ZERO).await?;
        let what = |code| Failure::code(format!("offsets of group {}", settings.group), code);
        Code::check(code).map_err(what)?;
        let mut found = BTreeMap::new();
        let mut new = BTreeSet::new();
        for (topic, offsets) in topics {
            for offset in offsets {
                Code::check(offset.code).map_err(what)?;
                let part = (topic.clone(), offset.partition);
                if offset.offset < 0 {
                    new.insert(part);
                } else {
                    let position = Position {
                        offset: offset.offset,
                        committed: true,
                    };
                    found.insert(part, position);
                }
            }
        }
        for (part, offset) in ends(&cluster, new, settings.initial).await? {
            let position = Position {
                offset,
                committed: false,
            };
            found.insert(part, position);
        }
        Ok(found)
    }
}

/// The offset that is there and nearest to one that is not.
pub(super) async fn nearest(cluster: &Arc<Cluster>, part: &Part, from: i64) -> Result<i64, Failure> {
    let parts = BTreeSet::from([part.clone()]);
    let oldest = ends(cluster, parts.clone(), End::Oldest).await?;
    let newest = ends(cluster, parts, End::Newest).await?;
    match (oldest.get(part), newest.get(part)) {
        (Some(oldest), Some(newest)) => Ok(from.clamp(*oldest, (*newest).max(*oldest))),
        _ => Err(Failure::NoLeader(format!(
            "partition {} of topic {} was not answered for",
            part.1, part.0
        ))),
    }
}

/// Ends of partitions, each from its leader; tries again while leaders change.
async fn ends(
    cluster: &Arc<Cluster>,
    mut parts: BTreeSet<Part>,
    end: End,
) -> Result<BTreeMap<Part, i64>, Failure> {
    let mut found = BTreeMap::new();
    let mut attempt = 0;
    let mut last = None;
    while !parts.is_empty() {
        if attempt > 0 {
            if attempt > ATTEMPTS {
                return Err(last.unwrap_or_else(|| Failure::NoLeader("partitions have no leader".to_owned())));
            }
            tokio::time::sleep(pause(attempt)).await;
            let topics: BTreeSet<String> = parts.iter().map(|(topic, _)| topic.to_string()).collect();
            cluster.learn(&topics.into_iter().collect::<Vec<_>>()).await?;
        }
        attempt += 1;
        let mut led: BTreeMap<i32, Vec<Part>> = BTreeMap::new();
        for part in &parts {
            match cluster.leader(&part.0, part.1) {
                Some(leader) => led.entry(leader).or_default().push(part.clone()),
                None => {
                    last = Some(Failure::NoLeader(format!(
                        "partition {} of topic {} has no leader",
                        part.1, part.0
                    )))
                }
            }
        }
        for (leader, of) in led {
            let request = ListOffsets {
                of: by_topic(of),
                end,
            };
            let asked = async {
                let connection = cluster.connect(leader).await?;
                connection.ask(&request, Duration::ZERO).await
            };
            let topics = match asked.await {
                Ok(topics) => topics,
                Err(failure) if failure.is_passing() => {
                    last = Some(failure);
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            for (topic, listed) in topics {
                for one in listed {
                    let part = (topic.clone(), one.partition);
                    match Code::of(one.code) {
                        None => {
                            parts.remove(&part);
                            found.insert(part, one.offset);
                        }
                        Some(code) => {
                            let failure = Failure::code(format!("offsets of topic {topic}"), code);
                            if !code.is_passing() {
                                return Err(failure);
                            }
                            last = Some(failure);
                        }
                    }
                }
            }
        }
    }
    Ok(found)
}

/// Learns about topics, which brokers may just be making: waits for their leaders a little.
pub(super) async fn learn(cluster: &Arc<Cluster>, topics: &[String]) -> Result<(), Failure> {
    for attempt in 1..=5 {
        let wrong = cluster.learn(topics).await?;
        if let Some((topic, code)) = wrong.iter().find(|(_, code)| !code.is_passing()) {
            return Err(Failure::code(format!("topic {topic}"), *code));
        }
        let led = |topic: &String| {
            cluster
                .partitions(topic)
                .is_some_and(|partitions| partitions.iter().all(|partition| partition.leader.is_some()))
        };
        if topics.iter().all(led) {
            break;
        }
        tokio::time::sleep(pause(attempt)).await;
    }
    // A topic that is not there has no partitions to be distributed; it is looked for again later.
    Ok(())
}
