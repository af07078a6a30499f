//! `state.mysql`: keys and values in a table.
//!
//! COMPAT(components-contrib state/mysql): the table, meaning of the statements, texts. Unlike there, keys of a table made here
//! differ by the case of their letters, times in it have fractions of seconds, and a value that is written again keeps its row
//! (`insertDate`, `row_id`).

mod table;
mod write;

use crate::client::{Client, Habits, failed};
use crate::dsn::Dsn;
use futures::future::join_all;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Params, Value};
use outrigger_component::Component;
use outrigger_component::error::{Error, Result};
use outrigger_component::metadata::{Hidden, Metadata};
use outrigger_component::options::{NONE, Opt, REQUIRED, opt};
use outrigger_component::setup::Setup;
use outrigger_component::state::{
    Delete, Features, Get, Item, Keys, KeysLike, Set, StateStore, Write, cleanup,
};
use outrigger_daemon::drain;
use outrigger_daemon::tasks::{OnExit, Tasks};
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use table::Table;
use write::Step;

const TIMEOUT: u64 = 20;
const CONNECTIONS: usize = 32;
/// Keys read by one statement.
const BULK: usize = 500;
const WRITE: &str = "cannot write";

pub(crate) const OPTIONS: &[Opt] = &[
    opt(
        "connectionString",
        REQUIRED,
        "`user:password@tcp(host:port)/?tls=…`, without a database",
    ),
    opt(
        "schemaName",
        "`dapr_state_store`",
        "database of the tables; made if it is not there",
    ),
    opt(
        "tableName",
        "`state`",
        "table of keys and values; made if it is not there",
    ),
    opt(
        "metadataTableName",
        "`dapr_metadata`",
        "table for when the expired was deleted last; made if it is not there",
    ),
    opt("timeoutInSeconds", "20", "for each operation"),
    opt(
        "cleanupInterval",
        "1h",
        "how often what has expired is deleted; of all sidecars on a database one does it; 0 and below: never",
    ),
    opt(
        "pemPath",
        NONE,
        "file with the authority's certificate, for `tls=custom`",
    ),
];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Config {
    connection_string: Hidden,
    schema_name: String,
    table_name: String,
    metadata_table_name: String,
    timeout_in_seconds: i64,
    cleanup_interval: String,
    pem_path: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connection_string: Hidden::default(),
            schema_name: "dapr_state_store".to_owned(),
            table_name: "state".to_owned(),
            metadata_table_name: "dapr_metadata".to_owned(),
            timeout_in_seconds: 0,
            cleanup_interval: String::new(),
            pem_path: String::new(),
        }
    }
}

impl Config {
    /// # Errors
    /// `Invalid`: what is wrong.
    fn check(&self) -> Result<()> {
        for (what, name) in [
            ("table name", &self.table_name),
            ("metadata table name", &self.metadata_table_name),
            ("schema name", &self.schema_name),
        ] {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            if name.is_empty() || !name.bytes().all(fits) {
                return Err(Error::invalid(format!("{what} '{name}' is not valid")));
            }
        }
        if self.connection_string.0.is_empty() {
            return Err(Error::invalid("missing connection string"));
        }
        Ok(())
    }

    fn timeout(&self) -> Duration {
        let seconds = u64::try_from(self.timeout_in_seconds)
            .ok()
            .filter(|seconds| *seconds > 0);
        Duration::from_secs(seconds.unwrap_or(TIMEOUT))
    }
}

pub(crate) struct Store {
    shared: Arc<Shared>,
    /// Owns the clean-up.
    _tasks: Tasks,
}

struct Shared {
    client: Client,
    table: Table,
}

impl Store {
    pub(crate) async fn connect(setup: Setup<Config>) -> Result<Self> {
        let Setup { config, log, .. } = setup;
        config.check()?;
        let cleanup = cleanup::interval(&config.cleanup_interval)?;
        let mut dsn = Dsn::parse(&config.connection_string.0, &log)?;
        if let Some(database) = &dsn.database {
            return Err(Error::invalid(format!(
                "the connection string names the database {database:?}: leave it out, and set schemaName"
            )));
        }
        let habits = Habits::new(CONNECTIONS, config.timeout());
        let table = Table::new(&config.table_name, &config.metadata_table_name);
        let outside = Client::connect(&dsn, &config.pem_path, &habits).await?;
        table::make_database(&outside, &config.schema_name).await?;
        outside.close().await;
        dsn.database = Some(config.schema_name.clone());
        let client = Client::connect(&dsn, &config.pem_path, &habits).await?;
        table.make(&client, &config.schema_name).await?;
        let shared = Arc::new(Shared { client, table });
        let tasks = Tasks::new(&log, drain::channel().0);
        if let Some(interval) = cleanup {
            let shared = Arc::clone(&shared);
            let clean = cleanup::every(interval, log, move || clean(Arc::clone(&shared), interval));
            tasks.spawn("state.mysql clean-up", OnExit::Log, clean);
        }
        Ok(Self {
            shared,
            _tasks: tasks,
        })
    }

    async fn change(&self, step: Step) -> Result<()> {
        let Shared { client, table } = &*self.shared;
        client.within(WRITE, write::one(client, table, &step)).await
    }
}

impl Shared {
    async fn many(&self, keys: &[&str]) -> Result<HashMap<String, Item>> {
        let mut found = HashMap::with_capacity(keys.len());
        for page in keys.chunks(BULK) {
            let statement = self.table.select(page.len());
            let values: Vec<Value> = page.iter().map(|&key| Value::from(key)).collect();
            let mut again = true;
            let rows: Vec<table::Row> = loop {
                let mut lane = self.client.lane().await?;
                match lane.exec(&statement, Params::Positional(values.clone())).await {
                    // The connection was lost since it was used last; reading twice does no harm.
                    Err(error) if again && error.is_fatal() => again = false,
                    rows => break rows.map_err(failed("cannot read"))?,
                }
            };
            for row in rows {
                let (key, item) = table::item(row)?;
                found.insert(key, item);
            }
        }
        Ok(found)
    }
}

#[async_trait::async_trait]
impl Component for Store {
    async fn ping(&self) -> Result<()> {
        self.shared.client.ping().await
    }

    async fn close(&self) {
        self.shared.client.close().await;
    }
}

#[async_trait::async_trait]
impl StateStore for Store {
    fn features(&self) -> Features {
        Features {
            etag: true,
            transactional: true,
            ttl: true,
            query: false,
            delete_with_prefix: false,
            keys_like: true,
            max_transaction: None,
        }
    }

    async fn get(&self, get: &Get) -> Result<Option<Item>> {
        if get.key.is_empty() {
            return Err(Error::invalid("missing key in get operation"));
        }
        let shared = &self.shared;
        let mut found = shared
            .client
            .within("cannot read", shared.many(&[&get.key]))
            .await?;
        Ok(found.remove(&get.key))
    }

    async fn set(&self, set: Set) -> Result<()> {
        self.change(Step::set(set)?).await
    }

    async fn delete(&self, delete: Delete) -> Result<()> {
        self.change(Step::delete(delete)?).await
    }

    async fn transact(&self, writes: Vec<Write>, _metadata: &Metadata) -> Result<()> {
        let mut steps = Vec::with_capacity(writes.len());
        for write in writes {
            steps.push(match write {
                Write::Set(set) => Step::set(set)?,
                Write::Delete(delete) => Step::delete(delete)?,
            });
        }
        let Shared { client, table } = &*self.shared;
        match steps.as_slice() {
            [] => Ok(()),
            [step] => client.within(WRITE, write::one(client, table, step)).await,
            steps => {
                client
                    .within(WRITE, write::transaction(client, table, steps))
                    .await
            }
        }
    }

    async fn bulk_get(&self, gets: &[Get]) -> Option<Vec<Result<Option<Item>>>> {
        let keys: Vec<&str> = gets.iter().map(|get| get.key.as_str()).collect();
        let shared = &self.shared;
        Some(
            match shared.client.within("cannot read", shared.many(&keys)).await {
                Ok(found) => gets.iter().map(|get| Ok(found.get(&get.key).cloned())).collect(),
                Err(error) => gets.iter().map(|_| Err(error.copy())).collect(),
            },
        )
    }

    async fn bulk_set(&self, sets: Vec<Set>) -> std::result::Result<Vec<Result<()>>, Vec<Set>> {
        Ok(join_all(sets.into_iter().map(|set| self.set(set))).await)
    }

    /// In the order of first writes.
    async fn keys_like(&self, like: &KeysLike) -> Result<Keys> {
        if like.pattern.is_empty() {
            return Err(Error::invalid("pattern must not be empty: write % for all keys"));
        }
        let after: u64 = match like.continuation.as_deref() {
            None | Some("") => 0,
            Some(token) => token.parse().map_err(|_| {
                Error::invalid(format!(
                    "invalid continue token {token:?}: use the one of the page before"
                ))
            })?,
        };
        let size = like.page_size.filter(|size| *size > 0);
        // One more, to know whether there is another page.
        let limit = size.map_or(u64::MAX, |size| u64::from(size) + 1);
        let Shared { client, table } = &*self.shared;
        let what = "cannot list keys";
        client
            .within(what, async {
                let mut lane = client.lane().await?;
                let rows: Vec<(Vec<u8>, u64)> = lane
                    .exec(table.keys_like(), (&like.pattern, after, limit))
                    .await
                    .map_err(failed(what))?;
                let full = size
                    .and_then(|size| usize::try_from(size).ok())
                    .filter(|size| rows.len() > *size);
                let mut keys = Keys::default();
                for (key, number) in rows.into_iter().take(full.unwrap_or(usize::MAX)) {
                    keys.keys.push(table::text(key)?);
                    keys.continuation = (full == Some(keys.keys.len())).then(|| number.to_string());
                }
                Ok(keys)
            })
            .await
    }
}

async fn clean(shared: Arc<Shared>, interval: Duration) -> Result<Option<u64>> {
    shared.table.clean(&shared.client, interval).await
}
