//! A Redis cluster: each key belongs to one of 16384 slots, each slot to one master.
//!
//! The map of slots is read from any node, and again when a node says that a key is elsewhere or does not answer. Requests
//! of one key go to its master and keep their order as long as the slot stays there. Replicas are not read from.

mod slots;
#[cfg(test)]
mod tests;

use super::dial::{Address, Dialer};
use super::link::{Failure, Link, Place};
use arc_swap::ArcSwap;
use redis::{Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use slots::{Owner, SLOTS};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// How often a request is sent on to another node.
const REDIRECTS: usize = 5;
/// For one node to describe the cluster; another is asked then.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two readings of the map.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Cluster {
    seeds: Vec<Address>,
    dialer: Dialer,
    map: ArcSwap<Map>,
    /// Held while the map is read.
    reading: Semaphore,
    /// For requests that any node can answer.
    turn: AtomicUsize,
}

/// Who has which slot.
struct Map {
    /// By slot; indices of `nodes`.
    owners: Vec<Option<u16>>,
    nodes: Vec<Node>,
    read: Option<Instant>,
}

#[derive(Clone)]
struct Node {
    address: Address,
    link: Arc<Link>,
}

/// Where a node says that a key is.
enum Elsewhere {
    Moved(Address),
    /// For this one request.
    Ask(Address),
}

impl Cluster {
    /// Knows nothing of the cluster yet.
    pub(super) fn new(seeds: Vec<Address>, dialer: Dialer) -> Self {
        Self {
            seeds,
            dialer,
            map: ArcSwap::from_pointee(Map {
                owners: Vec::new(),
                nodes: Vec::new(),
                read: None,
            }),
            reading: Semaphore::new(1),
            turn: AtomicUsize::new(0),
        }
    }

    /// The same cluster over other connections.
    pub(super) fn apart(&self, dialer: Dialer) -> Self {
        let known = self
            .map
            .load()
            .nodes
            .iter()
            .map(|node| node.address.clone())
            .collect();
        Self::new([self.seeds.clone(), known].concat(), dialer)
    }

    /// Sends a request to the master of the key `beside`, else of its own key, else to any node.
    pub(super) async fn request(&self, cmd: &Cmd, beside: Option<&str>) -> Result<Value, Failure> {
        let slot = beside
            .map(str::as_bytes)
            .or_else(|| slots::key(cmd))
            .map(slots::slot);
        let (mut map, mut link) = self.link(slot).await.map_err(unsent)?;
        let mut asking = false;
        let mut left = REDIRECTS;
        loop {
            let answer = if asking {
                link.ask(cmd).await
            } else {
                link.request(cmd).await
            };
            let failure = match answer {
                Err(failure) if left > 0 => failure,
                answer => return answer,
            };
            left -= 1;
            match elsewhere(&failure.error) {
                Some(Elsewhere::Moved(address)) => {
                    // If the cluster cannot be asked, the node's word has to do.
                    let known = self.read_again(&map).await.is_ok();
                    map = self.map.load_full();
                    link = match slot.and_then(|slot| map.owner(slot)) {
                        Some(owner) if known => Arc::clone(&owner.link),
                        _ => self.node(&map, address),
                    };
                    asking = false;
                }
                Some(Elsewhere::Ask(address)) => {
                    link = self.node(&map, address);
                    asking = true;
                }
                None => {
                    if is_about_nodes(&failure.error) {
                        // Whoever tries again finds the new map; this request has its own error to tell.
                        let _told_by_the_next = self.read_again(&map).await;
                    }
                    return Err(failure);
                }
            }
        }
    }

    /// The master of a key's slot.
    pub(super) async fn master(&self, key: &str) -> RedisResult<Arc<Link>> {
        self.link(Some(slots::slot(key.as_bytes())))
            .await
            .map(|(_, link)| link)
    }

    /// All masters.
    pub(super) async fn masters(&self) -> RedisResult<Vec<Arc<Link>>> {
        let map = self.known().await?;
        Ok(map.nodes.iter().map(|node| Arc::clone(&node.link)).collect())
    }

    /// Reads the map again if an error outside of [`Cluster::request`] says that it is wrong.
    pub(super) async fn doubt(&self, error: &RedisError) {
        if elsewhere(error).is_some() || is_about_nodes(error) {
            let _told_by_the_next = self.read_again(&self.map.load_full()).await;
        }
    }

    async fn link(&self, slot: Option<u16>) -> RedisResult<(Arc<Map>, Arc<Link>)> {
        let mut map = self.known().await?;
        let Some(slot) = slot else {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            let node = map.nodes.get(turn % map.nodes.len().max(1));
            let link = node
                .map(|node| Arc::clone(&node.link))
                .ok_or_else(|| unserved(None))?;
            return Ok((map, link));
        };
        if map.owner(slot).is_none() {
            self.read_again(&map).await?;
            map = self.map.load_full();
        }
        let link = map.owner(slot).map(|owner| Arc::clone(&owner.link));
        Ok((map, link.ok_or_else(|| unserved(Some(slot)))?))
    }

    async fn known(&self) -> RedisResult<Arc<Map>> {
        let map = self.map.load_full();
        if map.read.is_some() {
            return Ok(map);
        }
        self.read_again(&map).await?;
        Ok(self.map.load_full())
    }

    /// Reads the map, unless somebody has done so since `seen` was taken, or just now.
    async fn read_again(&self, seen: &Arc<Map>) -> RedisResult<()> {
        let _one = self.reading.acquire().await.map_err(io::Error::other)?;
        let now = self.map.load_full();
        if !Arc::ptr_eq(seen, &now) {
            return Ok(());
        }
        if let Some(read) = now.read {
            tokio::time::sleep_until(read + PAUSE).await;
        }
        let mut failed = unserved(None);
        let seeds = self.seeds.iter().map(|seed| self.node(&now, seed.clone()));
        for link in now.nodes.iter().map(|node| Arc::clone(&node.link)).chain(seeds) {
            match tokio::time::timeout(PATIENCE, self.describe(&now, &link)).await {
                Ok(Ok(map)) => {
                    self.map.store(Arc::new(map));
                    return Ok(());
                }
                Ok(Err(error)) => failed = error,
                Err(_) => {
                    failed = super::dial::timed_out("the cluster did not say who has which key in time")
                }
            }
        }
        // Those who wait for their turn share this outcome.
        self.map.store(Arc::new(Map {
            owners: now.owners.clone(),
            nodes: now.nodes.clone(),
            read: now.read.map(|_| Instant::now()),
        }));
        Err(failed)
    }

    async fn describe(&self, now: &Map, link: &Link) -> RedisResult<Map> {
        let mut cmd = redis::cmd("CLUSTER");
        cmd.arg("SLOTS");
        let answer = link.request(&cmd).await.map_err(|failure| failure.error)?;
        let asked = link.place.resolve().await?;
        let owners = slots::read(answer, &asked).ok_or_else(|| {
            RedisError::from((
                ErrorKind::UnexpectedReturnType,
                "unexpected answer to CLUSTER SLOTS",
            ))
        })?;
        // A new cluster, or a server that belongs to none any more.
        if owners.is_empty() {
            return Err(unserved(None));
        }
        Ok(self.map(now, owners))
    }

    fn map(&self, now: &Map, ranges: Vec<Owner>) -> Map {
        let mut map = Map {
            owners: vec![None; usize::from(SLOTS)],
            nodes: Vec::new(),
            read: Some(Instant::now()),
        };
        for Owner { slots, address } in ranges {
            let index = map.nodes.iter().position(|node| node.address == address);
            let index = index.unwrap_or_else(|| {
                let link = self.node(now, address.clone());
                map.nodes.push(Node { address, link });
                map.nodes.len() - 1
            });
            let (first, last) = (usize::from(*slots.start()), usize::from(*slots.end()));
            if let Some(owners) = map.owners.get_mut(first..=last) {
                owners.fill(u16::try_from(index).ok());
            }
        }
        map
    }

    /// The link that is there, or a new one.
    fn node(&self, map: &Map, address: Address) -> Arc<Link> {
        match map.nodes.iter().find(|node| node.address == address) {
            Some(node) => Arc::clone(&node.link),
            None => Arc::new(Link::new(Place::Fixed(address), self.dialer.clone())),
        }
    }
}

impl Map {
    fn owner(&self, slot: u16) -> Option<&Node> {
        let index = self.owners.get(usize::from(slot)).copied()??;
        self.nodes.get(usize::from(index))
    }
}

fn elsewhere(error: &RedisError) -> Option<Elsewhere> {
    let (address, _slot) = error.redirect_node()?;
    let address = Address::parse(address)?;
    match error.code() {
        Some("ASK") => Some(Elsewhere::Ask(address)),
        _ => Some(Elsewhere::Moved(address)),
    }
}

/// Whether another node may have taken over.
fn is_about_nodes(error: &RedisError) -> bool {
    error.is_unrecoverable_error()
        || error.is_timeout()
        || matches!(error.code(), Some("CLUSTERDOWN" | "READONLY" | "MASTERDOWN"))
}

fn unserved(slot: Option<u16>) -> RedisError {
    let detail = slot.map_or_else(
        || "no node of the cluster serves any slot".to_owned(),
        |slot| format!("no node of the cluster serves slot {slot}"),
    );
    RedisError::from((
        ErrorKind::Server(ServerErrorKind::ClusterDown),
        "cluster is down",
        detail,
    ))
}

fn unsent(error: RedisError) -> Failure {
    Failure { error, sent: false }
}
