//! `state.sqlite`: keys and values in a table of a file.
//!
//! Writes of all callers go through one thread, which puts what is waiting into one transaction and syncs once
//! ([`writer`]); reads run on threads of their own ([`readers`](Readers)). An answer means that the write is committed, with
//! SQLite's `synchronous=FULL` unless the connection string says otherwise.
//!
//! COMPAT(components-contrib state/sqlite): tables, statements' meaning, texts. Times have fractions of seconds here, so that
//! values live as long as they were given; the reference reads them. What is expired is not shown, and is deleted only with a
//! `cleanupInterval`.

mod checkpoint;
mod row;
mod writer;

use crate::config::Config;
use crate::database::{Journal, Migrations, claim_cleanup};
use crate::worker::{Worker, blocking, failed};
use outrigger_component::Component;
use outrigger_component::error::{Error, Result};
use outrigger_component::metadata::Metadata;
use outrigger_component::setup::Setup;
use outrigger_component::state::query::{Found, Matcher, Page, Query};
use outrigger_component::state::{
    Delete, Features, Get, Item, Keys, KeysLike, Set, StateStore, Write, cleanup,
};
use outrigger_daemon::drain;
use outrigger_daemon::tasks::{OnExit, Tasks};
use row::{COLUMNS, Row};
use rusqlite::{Connection, OptionalExtension as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use writer::{Step, Writer};

/// Connections for reading beside the writer's; one more is for reads that look at the whole table.
const READERS: usize = 2;
/// Under which the metadata table keeps when expired values were deleted last.
const LAST_CLEANUP: &str = "last-cleanup";
/// Keys read by one statement.
const BULK: usize = 500;

pub(crate) struct Store {
    shared: Arc<Shared>,
    /// Owns the clean-up.
    _tasks: Tasks,
}

struct Shared {
    writer: Arc<Writer>,
    /// `None`: the database is the writer's own, and it reads as well.
    readers: Option<Readers>,
    table: Table,
    timeout: Duration,
    query_api: bool,
}

struct Readers {
    point: Vec<Worker>,
    next: AtomicUsize,
    scan: Worker,
}

/// Names that stand in statements.
#[derive(Clone)]
pub(crate) struct Table {
    state: Arc<str>,
    metadata: Arc<str>,
}

impl Store {
    pub(crate) async fn connect(setup: Setup<Config>) -> Result<Self> {
        let Setup { config, log, .. } = setup;
        config.check()?;
        let location = config.location(&log)?;
        let table = Table {
            state: config.table_name.as_str().into(),
            metadata: config.metadata_table_name.as_str().into(),
        };
        let shared = blocking({
            let table = table.clone();
            let (timeout, query_api) = (config.timeout, config.query_api);
            move || {
                let mut connection = location.open()?;
                table.migrate(&mut connection)?;
                let readers = if location.memory {
                    None
                } else {
                    let open = |name: &str| Worker::start(name, location.open()?);
                    Some(Readers {
                        point: (0..READERS).map(|_| open("sqlite-read")).collect::<Result<_>>()?,
                        next: AtomicUsize::new(0),
                        scan: open("sqlite-scan")?,
                    })
                };
                let checkpoints = if location.journal == Journal::Wal {
                    Some(checkpoint::Checkpoints::start(&connection, location.open()?)?)
                } else {
                    None
                };
                let writer = Writer::start(connection, table.clone(), checkpoints)?;
                Ok(Shared {
                    writer: Arc::new(writer),
                    readers,
                    table,
                    timeout,
                    query_api,
                })
            }
        })
        .await?;
        let shared = Arc::new(shared);
        let tasks = Tasks::new(&log, drain::channel().0);
        if !config.cleanup_interval.is_zero() {
            let (shared, interval) = (Arc::clone(&shared), config.cleanup_interval);
            let clean = cleanup::every(interval, log, move || clean(Arc::clone(&shared), interval));
            tasks.spawn("state.sqlite clean-up", OnExit::Log, clean);
        }
        Ok(Self {
            shared,
            _tasks: tasks,
        })
    }

    async fn write(&self, steps: Vec<Step>) -> Result<()> {
        self.shared.writer.submit(self.shared.timeout, steps).await
    }
}

impl Shared {
    /// Reads a few rows by their keys.
    async fn point<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let reader = self.readers.as_ref().and_then(|readers| {
            let turn = readers.next.fetch_add(1, Ordering::Relaxed);
            readers.point.get(turn % readers.point.len().max(1))
        });
        match reader {
            Some(reader) => reader.run(self.timeout, read).await,
            None => self.writer.run(self.timeout, read).await,
        }
    }

    /// Looks through the table.
    async fn scan<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        match &self.readers {
            Some(readers) => readers.scan.run(self.timeout, read).await,
            None => self.writer.run(self.timeout, read).await,
        }
    }
}

#[async_trait::async_trait]
impl Component for Store {
    async fn ping(&self) -> Result<()> {
        let read = |connection: &mut Connection| {
            connection
                .query_row("SELECT 1", [], |_| Ok(()))
                .map_err(failed("ping"))
        };
        self.shared.point(read).await
    }

    async fn close(&self) {
        self.shared.writer.close().await;
        if let Some(readers) = &self.shared.readers {
            for reader in readers.point.iter().chain([&readers.scan]) {
                reader.close().await;
            }
        }
    }
}

#[async_trait::async_trait]
impl StateStore for Store {
    fn features(&self) -> Features {
        Features {
            etag: true,
            transactional: true,
            ttl: true,
            query: self.shared.query_api,
            delete_with_prefix: false,
            keys_like: true,
            max_transaction: None,
        }
    }

    async fn get(&self, get: &Get) -> Result<Option<Item>> {
        if get.key.is_empty() {
            return Err(Error::invalid("missing key in get operation"));
        }
        let (table, key) = (self.shared.table.clone(), get.key.clone());
        let read = move |connection: &mut Connection| {
            let failed = failed("cannot read");
            let row = connection
                .prepare_cached(&table.select_one())
                .and_then(|mut statement| statement.query_row([&key], Row::of).optional())
                .map_err(&failed)?;
            row.map(Row::item).transpose()
        };
        self.shared.point(read).await
    }

    async fn set(&self, set: Set) -> Result<()> {
        self.write(vec![Step::set(set)?]).await
    }

    async fn delete(&self, delete: Delete) -> Result<()> {
        self.write(vec![Step::delete(delete)?]).await
    }

    async fn transact(&self, writes: Vec<Write>, _metadata: &Metadata) -> Result<()> {
        let steps = writes.into_iter().map(|write| match write {
            Write::Set(set) => Step::set(set),
            Write::Delete(delete) => Step::delete(delete),
        });
        self.write(steps.collect::<Result<_>>()?).await
    }

    async fn bulk_get(&self, gets: &[Get]) -> Option<Vec<Result<Option<Item>>>> {
        let keys: Vec<String> = gets.iter().map(|get| get.key.clone()).collect();
        let table = self.shared.table.clone();
        let read = move |connection: &mut Connection| table.many(connection, &keys);
        Some(match self.shared.point(read).await {
            Ok(items) => items,
            Err(error) => gets.iter().map(|_| Err(error.copy())).collect(),
        })
    }

    async fn bulk_set(&self, sets: Vec<Set>) -> std::result::Result<Vec<Result<()>>, Vec<Set>> {
        let mut outcomes = Vec::with_capacity(sets.len());
        let mut jobs = Vec::with_capacity(sets.len());
        for set in sets {
            match Step::set(set) {
                Ok(step) => {
                    jobs.push(vec![step]);
                    outcomes.push(None);
                }
                Err(error) => outcomes.push(Some(error)),
            }
        }
        let mut written = self
            .shared
            .writer
            .submit_all(self.shared.timeout, jobs)
            .await
            .into_iter();
        let outcome = |refused: Option<Error>| match refused {
            Some(error) => Err(error),
            None => written.next().unwrap_or_else(|| Err(Error::closed())),
        };
        Ok(outcomes.into_iter().map(outcome).collect())
    }

    /// In the order of rows, which is that of first writes.
    async fn keys_like(&self, like: &KeysLike) -> Result<Keys> {
        if like.pattern.is_empty() {
            return Err(Error::invalid("pattern must not be empty: write % for all keys"));
        }
        let after: i64 = match like.continuation.as_deref() {
            None | Some("") => i64::MIN,
            Some(token) => token.parse().map_err(|_| {
                Error::invalid(format!(
                    "invalid continuation token {token:?}: use the one of the page before"
                ))
            })?,
        };
        let (table, pattern, size) = (self.shared.table.clone(), like.pattern.clone(), like.page_size);
        self.shared
            .scan(move |connection| {
                table
                    .keys_like(connection, &pattern, after, size)
                    .map_err(failed("cannot list keys"))
            })
            .await
    }

    async fn query(&self, query: &Query) -> Result<Page> {
        if !self.shared.query_api {
            return Err(Error::unsupported("query"));
        }
        let (table, query) = (self.shared.table.clone(), query.clone());
        self.shared
            .scan(move |connection| table.query(connection, &query))
            .await
    }
}

impl Table {
    fn migrate(&self, connection: &mut Connection) -> Result<()> {
        let table = &self.state;
        Migrations {
            metadata_table: &self.metadata,
            key: "migrations",
            steps: &[format!(
                "CREATE TABLE IF NOT EXISTS {table} (
                    key TEXT NOT NULL PRIMARY KEY,
                    value TEXT NOT NULL,
                    is_binary BOOLEAN NOT NULL,
                    etag TEXT NOT NULL,
                    expiration_time TIMESTAMP DEFAULT NULL,
                    update_time TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
                )"
            )],
        }
        .perform(connection)
    }

    fn select_one(&self) -> String {
        format!(
            "SELECT {COLUMNS} FROM {} WHERE key = ?1 AND {}",
            self.state,
            row::IS_ALIVE
        )
    }

    fn many(&self, connection: &Connection, keys: &[String]) -> Result<Vec<Result<Option<Item>>>> {
        let failed = failed("cannot read");
        let mut found = std::collections::HashMap::with_capacity(keys.len());
        for page in keys.chunks(BULK) {
            let places = vec!["?"; page.len()].join(",");
            let sql = format!(
                "SELECT {COLUMNS} FROM {} WHERE key IN ({places}) AND {}",
                self.state,
                row::IS_ALIVE
            );
            let mut statement = connection.prepare(&sql).map_err(&failed)?;
            let rows = statement
                .query_map(rusqlite::params_from_iter(page), Row::of)
                .map_err(&failed)?;
            for row in rows {
                let row = row.map_err(&failed)?;
                found.insert(row.key.clone(), row);
            }
        }
        // A key may be asked for twice.
        Ok(keys
            .iter()
            .map(|key| found.get(key).cloned().map(Row::item).transpose())
            .collect())
    }

    fn keys_like(
        &self,
        connection: &Connection,
        pattern: &str,
        after: i64,
        size: Option<u32>,
    ) -> rusqlite::Result<Keys> {
        let sql = format!(
            "SELECT key, rowid FROM {} WHERE key LIKE ?1 ESCAPE '\\' AND rowid > ?2 AND {} ORDER BY rowid LIMIT ?3",
            self.state,
            row::IS_ALIVE
        );
        // No limit is a negative one.
        let limit = size.map_or(-1, i64::from);
        let mut statement = connection.prepare(&sql)?;
        let mut rows = statement.query(rusqlite::params![pattern, after, limit])?;
        let mut keys = Keys::default();
        let mut last = after;
        while let Some(row) = rows.next()? {
            keys.keys.push(row.get(0)?);
            last = row.get(1)?;
        }
        let is_full = size.is_some_and(|size| usize::try_from(size) == Ok(keys.keys.len()));
        keys.continuation = (is_full && size != Some(0)).then(|| last.to_string());
        Ok(keys)
    }

    /// Looks at every value whose key begins as asked for.
    fn query(&self, connection: &Connection, query: &Query) -> Result<Page> {
        let failed = failed("cannot query");
        let sql = format!(
            "SELECT {COLUMNS} FROM {} WHERE substr(key, 1, length(?1)) = ?1 AND {} ORDER BY key",
            self.state,
            row::IS_ALIVE
        );
        let mut statement = connection.prepare(&sql).map_err(&failed)?;
        let mut rows = statement.query([&query.prefix]).map_err(&failed)?;
        let mut matcher = Matcher::new(query)?;
        while let Some(row) = rows.next().map_err(&failed)? {
            let row = Row::of(row).map_err(&failed)?;
            let key = row.key.clone();
            let Item { value, etag, .. } = row.item()?;
            matcher.offer(Found { key, value, etag });
        }
        Ok(matcher.page())
    }

    /// Deletes what has expired, if no other process did so lately; answers how many.
    fn clean(&self, connection: &Connection, interval: Duration) -> rusqlite::Result<Option<usize>> {
        if !claim_cleanup(connection, &self.metadata, LAST_CLEANUP, interval)? {
            return Ok(None);
        }
        let sql = format!(
            "DELETE FROM {} WHERE expiration_time IS NOT NULL AND NOT {}",
            self.state,
            row::IS_ALIVE
        );
        connection.execute(&sql, []).map(Some)
    }
}

async fn clean(shared: Arc<Shared>, interval: Duration) -> Result<Option<usize>> {
    let table = shared.table.clone();
    let work = move |connection: &mut Connection| {
        table
            .clean(connection, interval)
            .map_err(failed("cannot delete what has expired"))
    };
    shared.writer.run(shared.timeout, work).await
}

#[cfg(test)]
mod tests;
