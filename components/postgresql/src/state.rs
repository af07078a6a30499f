//! `state.postgresql`: keys and values in a table.
//!
//! Reads that wait together are one statement; writes that wait together are one transaction, which is synced once
//! ([`write`]). An answer means that the write is committed.
//!
//! COMPAT(components-contrib state/postgresql, state/cockroachdb): tables, meaning of the statements, texts.

mod config;
mod layout;
mod read;
mod write;

pub(crate) use config::{COMMON, V1, V2};

use crate::config::Target;
use crate::group::Group;
use crate::pool::{Pool, failed, within};
use config::Config;
use futures::TryStreamExt as _;
use futures::future::join_all;
use layout::{Layout, Version};
use outrigger_component::Component;
use outrigger_component::error::{Error, Result};
use outrigger_component::metadata::Metadata;
use outrigger_component::setup::Setup;
use outrigger_component::state::query::{Matcher, Page, Query};
use outrigger_component::state::{
    Delete, Features, Get, Item, Keys, KeysLike, Set, StateStore, Write, cleanup,
};
use outrigger_daemon::drain;
use outrigger_daemon::tasks::{OnExit, Tasks};
use read::Read;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use write::{Change, Step};

/// Reads of one statement, and writes of one transaction, at most.
const READS: usize = 256;
const WRITES: usize = 256;
/// Deleting what has expired may take long.
const CLEANUP_PATIENCE: Duration = Duration::from_secs(600);

pub(crate) struct Store {
    pool: Pool,
    layout: Arc<Layout>,
    query_api: bool,
    reads: Group<Read>,
    writes: Group<Change>,
    /// Owns connections, groups and clean-up.
    _tasks: Tasks,
}

impl Store {
    pub(crate) async fn first(setup: Setup<Config>) -> Result<Self> {
        Self::connect(setup, Version::One).await
    }

    pub(crate) async fn second(setup: Setup<Config>) -> Result<Self> {
        Self::connect(setup, Version::Two).await
    }

    pub(crate) async fn cockroach(setup: Setup<Config>) -> Result<Self> {
        Self::connect(setup, Version::Cockroach).await
    }

    async fn connect(setup: Setup<Config>, version: Version) -> Result<Self> {
        let Setup {
            config,
            metadata,
            log,
            ..
        } = setup;
        let target = Target::read(&metadata, &log)?;
        let cleanup = cleanup::interval(&config.cleanup_interval)?;
        let layout = Arc::new(Layout::new(version, &config)?);
        let tasks = Tasks::new(&log, drain::channel().0);
        let pool = Pool::connect(target, tasks.spawner(), &log).await?;
        layout.migrate(&pool).await?;
        // The other half is for transactions and everything else.
        let lanes = (pool.size() / 2).max(1);
        let reads = Group::start(&tasks, "state.postgresql reads", lanes, READS, {
            let (pool, layout) = (pool.clone(), Arc::clone(&layout));
            move |jobs| read::all(pool.clone(), Arc::clone(&layout), jobs)
        });
        let writes = Group::start(&tasks, "state.postgresql writes", lanes, WRITES, {
            let (pool, layout) = (pool.clone(), Arc::clone(&layout));
            move |jobs| write::all(pool.clone(), Arc::clone(&layout), jobs)
        });
        if let Some(interval) = cleanup {
            let clean = cleanup::every(interval, log, {
                let (pool, layout) = (pool.clone(), Arc::clone(&layout));
                move || clean(pool.clone(), Arc::clone(&layout), interval)
            });
            tasks.spawn("state.postgresql clean-up", OnExit::Log, clean);
        }
        Ok(Self {
            pool,
            layout,
            query_api: config.query_api.unwrap_or(version.has_query()),
            reads,
            writes,
            _tasks: tasks,
        })
    }

    async fn change(&self, step: Step) -> Result<()> {
        let what = "cannot write";
        within(self.pool.timeout(), what, async {
            let (reply, answer) = oneshot::channel();
            self.writes.submit(Change { step, reply }).await?;
            answer.await.unwrap_or_else(|_| Err(Error::closed()))
        })
        .await
    }
}

#[async_trait::async_trait]
impl Component for Store {
    async fn ping(&self) -> Result<()> {
        self.pool.ping().await
    }

    async fn close(&self) {
        self.pool.close();
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
            delete_with_prefix: false,
            keys_like: true,
            max_transaction: None,
        }
    }

    async fn get(&self, get: &Get) -> Result<Option<Item>> {
        if get.key.is_empty() {
            return Err(Error::invalid("missing key in get operation"));
        }
        within(self.pool.timeout(), "cannot read", async {
            let (reply, answer) = oneshot::channel();
            let key = get.key.clone();
            self.reads.submit(Read { key, reply }).await?;
            answer.await.unwrap_or_else(|_| Err(Error::closed()))
        })
        .await
    }

    async fn set(&self, set: Set) -> Result<()> {
        self.change(self.layout.set(set)?).await
    }

    async fn delete(&self, delete: Delete) -> Result<()> {
        self.change(self.layout.delete(delete)?).await
    }

    async fn transact(&self, writes: Vec<Write>, _metadata: &Metadata) -> Result<()> {
        let mut steps = Vec::with_capacity(writes.len());
        for write in writes {
            steps.push(match write {
                Write::Set(set) => self.layout.set(set)?,
                Write::Delete(delete) => self.layout.delete(delete)?,
            });
        }
        match <[Step; 1]>::try_from(steps) {
            Ok([step]) => self.change(step).await,
            Err(steps) if steps.is_empty() => Ok(()),
            Err(steps) => write::transaction(&self.pool, &self.layout, &steps).await,
        }
    }

    async fn bulk_get(&self, gets: &[Get]) -> Option<Vec<Result<Option<Item>>>> {
        let keys: Vec<&str> = gets.iter().map(|get| get.key.as_str()).collect();
        let found = within(
            self.pool.timeout(),
            "cannot read",
            read::many(&self.pool, &self.layout, &keys),
        );
        Some(match found.await {
            Ok(found) => gets.iter().map(|get| read::pick(&found, &get.key)).collect(),
            Err(error) => gets.iter().map(|_| Err(error.copy())).collect(),
        })
    }

    async fn bulk_set(&self, sets: Vec<Set>) -> std::result::Result<Vec<Result<()>>, Vec<Set>> {
        Ok(join_all(sets.into_iter().map(|set| self.set(set))).await)
    }

    /// In the order of first writes.
    async fn keys_like(&self, like: &KeysLike) -> Result<Keys> {
        if like.pattern.is_empty() {
            return Err(Error::invalid("pattern must not be empty: write % for all keys"));
        }
        let after: i64 = match like.continuation.as_deref() {
            None | Some("") => i64::MIN,
            Some(token) => token.parse().map_err(|_| {
                Error::invalid(format!(
                    "invalid continue token {token:?}: use the one of the page before"
                ))
            })?,
        };
        let size = like.page_size.filter(|size| *size > 0).map(i64::from);
        let what = "cannot list keys";
        within(self.pool.timeout(), what, async {
            let mut lane = self.pool.lane().await?;
            // One more, to know whether there is another page.
            let rows = lane
                .rows(
                    self.layout.keys_like(),
                    &[&like.pattern, &after, &size.map(|size| size + 1)],
                )
                .await;
            lane.give_back();
            let rows = rows.map_err(failed(what))?;
            let mut keys = Keys::default();
            let full = size
                .and_then(|size| usize::try_from(size).ok())
                .filter(|size| rows.len() > *size);
            for row in rows.iter().take(full.unwrap_or(rows.len())) {
                keys.keys.push(row.try_get(0).map_err(failed(what))?);
                if full == Some(keys.keys.len()) {
                    let number: i64 = row.try_get(1).map_err(failed(what))?;
                    keys.continuation = Some(number.to_string());
                }
            }
            Ok(keys)
        })
        .await
    }

    /// Looks at every value whose key begins as asked for.
    async fn query(&self, query: &Query) -> Result<Page> {
        if !self.query_api {
            return Err(Error::unsupported("query"));
        }
        let what = "cannot query";
        within(self.pool.timeout(), what, async {
            let mut lane = self.pool.lane().await?;
            let mut matcher = Matcher::new(query)?;
            let ready = lane.ready(self.layout.scan()).await.map_err(failed(what))?;
            let rows = lane
                .stream(&ready, &[&query.prefix])
                .await
                .map_err(failed(what))?;
            let mut rows = std::pin::pin!(rows);
            while let Some(row) = rows.try_next().await.map_err(failed(what))? {
                matcher.offer(self.layout.found(&row)?);
            }
            lane.give_back();
            Ok(matcher.page())
        })
        .await
    }
}

async fn clean(pool: Pool, layout: Arc<Layout>, interval: Duration) -> Result<Option<u64>> {
    let what = "cannot delete what has expired";
    within(CLEANUP_PATIENCE, what, async {
        let mut lane = pool.lane().await?;
        let removed = layout.clean(&mut lane, interval).await.map_err(failed(what));
        lane.give_back();
        removed
    })
    .await
}
