//! `state.in-memory`: key/value in the memory of this process, gone when it ends.
//!
//! One map behind one lock, held for a lookup or an insertion and never across an await. An expired value is as good
//! as absent from the moment it expires; its memory is given back when it is met, or by a sweep every few seconds.
//! The index of expiries holds exactly one entry for each value that can expire, so it does not grow by overwriting.
//!
//! COMPAT(components-contrib state/in-memory): entity tags are checked by deletes and by each step of a transaction
//! as well, and `deleteWithPrefix` spares keys with a further `||`. Unlike there, tags are numbers that only grow, and
//! the tag of an expired value is the tag of no value.

mod table;
#[cfg(test)]
mod tests;

use outrigger_component::Component;
use outrigger_component::error::{Error, Result};
use outrigger_component::metadata::Metadata;
use outrigger_component::options::{Opt, opt};
use outrigger_component::setup::Setup;
use outrigger_component::state::query::{Matcher, Page, Query};
use outrigger_component::state::{Delete, Features, Get, Item, Keys, KeysLike, Set, StateStore, Write};
use outrigger_daemon::drain;
use outrigger_daemon::tasks::{OnExit, Tasks};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use table::Table;
use tokio::time::Instant;

/// How often what nobody asks for any more is buried.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// Values buried under one hold of the lock.
const SWEEP_BATCH: usize = 1000;

/// What can be written under its `metadata`.
pub(crate) const OPTIONS: &[Opt] = &[opt("queryApi", "false", "offers [queries](../state.md#queries)")];

/// How a store behaves.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Config {
    /// Whether the query API is offered. COMPAT: the reference's store has none, and its capabilities are compared.
    pub query_api: bool,
}

pub struct Store {
    query_api: bool,
    table: Arc<Mutex<Table>>,
    /// Owns the sweep.
    _tasks: Tasks,
}

impl Store {
    /// # Errors
    /// None.
    pub async fn build(setup: Setup<Config>) -> Result<Self> {
        let table = Arc::new(Mutex::new(Table::default()));
        let tasks = Tasks::new(&setup.log, drain::channel().0);
        tasks.spawn("state.in-memory sweep", OnExit::Log, sweep(Arc::clone(&table)));
        Ok(Self {
            query_api: setup.config.query_api,
            table,
            _tasks: tasks,
        })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }
}

#[async_trait::async_trait]
impl Component for Store {
    async fn close(&self) {
        *self.table() = Table::default();
    }
}

#[async_trait::async_trait]
impl StateStore for Store {
    fn features(&self) -> Features {
        Features {
            etag: true,
            transactional: true,
            ttl: true,
            query: self.query_api,
            delete_with_prefix: true,
            keys_like: true,
            max_transaction: None,
        }
    }

    async fn get(&self, get: &Get) -> Result<Option<Item>> {
        let found = self.table().get(&get.key, Instant::now());
        Ok(found.map(Item::from))
    }

    async fn set(&self, set: Set) -> Result<()> {
        self.transact(vec![Write::Set(set)], &Metadata::new()).await
    }

    async fn delete(&self, delete: Delete) -> Result<()> {
        self.transact(vec![Write::Delete(delete)], &Metadata::new()).await
    }

    async fn transact(&self, writes: Vec<Write>, _metadata: &Metadata) -> Result<()> {
        let steps = writes
            .into_iter()
            .map(table::Step::new)
            .collect::<Result<Vec<_>>>()?;
        self.table().apply(steps, Instant::now())
    }

    async fn bulk_get(&self, gets: &[Get]) -> Option<Vec<Result<Option<Item>>>> {
        let now = Instant::now();
        let mut table = self.table();
        let found: Vec<_> = gets.iter().map(|get| table.get(&get.key, now)).collect();
        drop(table);
        Some(found.into_iter().map(|value| Ok(value.map(Item::from))).collect())
    }

    async fn delete_with_prefix(&self, prefix: &str) -> Result<u64> {
        Ok(self.table().delete_with_prefix(prefix, Instant::now()))
    }

    /// Looks at every value whose key begins as asked for; the lock is held while they are collected.
    async fn query(&self, query: &Query) -> Result<Page> {
        if !self.query_api {
            return Err(Error::unsupported("query"));
        }
        let found = self.table().with_prefix(&query.prefix, Instant::now());
        let mut matcher = Matcher::new(query)?;
        for found in found {
            matcher.offer(found);
        }
        Ok(matcher.page())
    }

    async fn keys_like(&self, like: &KeysLike) -> Result<Keys> {
        self.table().keys_like(like, Instant::now())
    }
}

async fn sweep(table: Arc<Mutex<Table>>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        while lock(&table).bury(Instant::now(), SWEEP_BATCH) == SWEEP_BATCH {
            tokio::task::yield_now().await;
        }
    }
}

/// Every change under the lock is complete before anything can panic, so a poisoned lock holds a sound table.
fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}
