//! `state.redis`: each value is a hash with the fields `data` and `version`, the entity tag.
//!
//! Every write is one run of one [script](script), whatever it consists of: the server does all of it or nothing.
//!
//! COMPAT(components-contrib state/redis): layout, tags and defaults. A tag is ignored where the last write wins, and
//! guards nothing if the key is absent. A value that was written once with "first write wins" takes no write without a
//! tag. Unlike there, a first write without a tag never replaces anything, and a transaction in which a tag does not
//! match changes nothing.

pub(crate) mod keys;
mod script;

use crate::client::{Client, Pauses, Repeat, unexpected};
use crate::config::Config;
use crate::failure::failure;
use crate::script::Script;
use bytes::Bytes;
use outrigger_component::Component;
use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::metadata::Metadata;
use outrigger_component::setup::Setup;
use outrigger_component::state::query::{Page, Query};
use outrigger_component::state::{
    Consistency, Delete, Features, Get, Item, Keys, KeysLike, Set, StateStore, Write,
};
use outrigger_daemon::log::Log;
use redis::{RedisError, RedisResult};
use script::Step;
use std::time::Duration;

/// How long a strong write waits for the replicas.
const REPLICAS_PATIENCE: Duration = Duration::from_secs(1);

pub(crate) struct Store {
    client: Client,
    script: Script,
    /// Lifetime in seconds of values that have none of their own; 0 and below is for ever.
    default_ttl: Option<i64>,
    /// For strong writes; `None` if the server has no replicas.
    strong: Option<Strong>,
    log: Log,
}

/// Connections of its own: waiting for replicas keeps waiting whoever shares it, and counts what it wrote itself.
struct Strong {
    client: Client,
    replicas: u32,
}

impl Store {
    /// Connects, and asks how many replicas the server has.
    ///
    /// # Errors
    /// What [`Config::check`] and [`Client::connect`] say.
    pub(crate) async fn connect(setup: Setup<Config>) -> Result<Self> {
        let Setup { config, log, .. } = setup;
        config.check(&log)?;
        let client = Client::connect(&config, Pauses::LONG, &log)
            .await
            .map_err(|error| prefixed("redis store", error))?;
        let replicas = replicas(&client)
            .await
            .map_err(|error| failure("redis store: cannot read the number of replicas", error))?;
        let strong = match replicas {
            0 => None,
            replicas => Some(Strong {
                client: client.apart(REPLICAS_PATIENCE),
                replicas,
            }),
        };
        Ok(Self {
            client,
            script: Script::new(script::SCRIPT),
            default_ttl: config.ttl_in_seconds,
            strong,
            log,
        })
    }

    async fn write(&self, steps: Vec<Step>, strong: bool) -> Result<()> {
        let Some(first) = steps.first() else { return Ok(()) };
        let what = match steps.len() {
            1 => format!("failed to {} key {}", first.verb(), first.key()),
            count => format!("failed to write {count} keys"),
        };
        // A guarded write that was done once fails the second time, and would report a conflict with itself.
        let repeat = if steps.iter().any(Step::is_guarded) {
            Repeat::IfUnsent
        } else {
            Repeat::Yes
        };
        let strong = self.strong.as_ref().filter(|_| strong);
        let client = strong.map_or(&self.client, |strong| &strong.client);
        match script::run(&self.script, client, &steps, repeat)
            .await
            .map_err(|error| refused(&what, error))?
        {
            0 => {}
            refused => {
                let step = usize::try_from(refused - 1)
                    .ok()
                    .and_then(|index| steps.get(index));
                let step = step.ok_or_else(|| unexpected("EVALSHA"))?;
                return Err(Error::new(
                    Kind::EtagMismatch,
                    format!("failed to {} key {}", step.verb(), step.key()),
                ));
            }
        }
        match strong {
            Some(strong) => self.wait_for(strong, first.key()).await,
            None => Ok(()),
        }
    }

    /// COMPAT(components-contrib state/redis): replicas that are late do not fail the write, which has been done.
    async fn wait_for(&self, Strong { client, replicas }: &Strong, key: &str) -> Result<()> {
        let mut cmd = redis::cmd("WAIT");
        cmd.arg(replicas).arg(REPLICAS_PATIENCE.as_millis());
        let reached: u32 = client
            .query_beside(key, &cmd, Repeat::IfUnsent)
            .await
            .map_err(|error| {
                failure(
                    &format!("redis waiting for {replicas} replicas to acknowledge write"),
                    error,
                )
            })?;
        if reached < *replicas {
            self.log.warn(format_args!(
                "redis: {reached} of {replicas} replicas acknowledged a strong write in time"
            ));
        }
        Ok(())
    }

    /// A value that was written as plain text by somebody else.
    async fn plain(&self, key: &str) -> Result<Option<Item>> {
        let value: Option<Vec<u8>> = self
            .client
            .query(redis::cmd("GET").arg(key), Repeat::Yes)
            .await
            .map_err(|error| failure(&format!("failed to get key {key}"), error))?;
        Ok(value.map(|value| Item {
            value: Bytes::from(value),
            ..Item::default()
        }))
    }
}

#[async_trait::async_trait]
impl Component for Store {
    async fn ping(&self) -> Result<()> {
        self.client
            .ping()
            .await
            .map_err(|error| prefixed("redis store", error))
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
        let key = &get.key;
        let mut cmd = redis::cmd("HMGET");
        cmd.arg(key).arg("data").arg("version");
        let fields: Result<[Option<Vec<u8>>; 2], RedisError> = self.client.query(&cmd, Repeat::Yes).await;
        match fields {
            Ok([Some(data), Some(version)]) => Ok(Some(Item {
                value: Bytes::from(data),
                etag: Some(String::from_utf8_lossy(&version).into_owned()),
                ..Item::default()
            })),
            Ok([None, None]) => Ok(None),
            Ok(_) => Err(Error::internal(format!(
                "key {key}: required hash field 'data' or 'version' was not found"
            ))),
            Err(error) if error.code() == Some("WRONGTYPE") => self.plain(key).await,
            Err(error) => Err(failure(&format!("failed to get key {key}"), error)),
        }
    }

    async fn set(&self, set: Set) -> Result<()> {
        let strong = set.consistency == Consistency::Strong;
        self.write(vec![Step::set(set, self.default_ttl)?], strong).await
    }

    async fn delete(&self, delete: Delete) -> Result<()> {
        self.write(vec![Step::delete(delete)], false).await
    }

    async fn transact(&self, writes: Vec<Write>, _metadata: &Metadata) -> Result<()> {
        let step = |write| match write {
            Write::Set(set) => Step::set(set, self.default_ttl),
            Write::Delete(delete) => Ok(Step::delete(delete)),
        };
        self.write(writes.into_iter().map(step).collect::<Result<_>>()?, false)
            .await
    }

    /// COMPAT(components-contrib state/redis): the text. A server with the modules is not asked either: see the docs.
    async fn query(&self, _query: &Query) -> Result<Page> {
        Err(Error::invalid(
            "redis-json server support is required for query capability",
        ))
    }

    async fn keys_like(&self, like: &KeysLike) -> Result<Keys> {
        keys::like(&self.client, like).await
    }
}

/// Replicas of the server; of that of a cluster's masters which has the fewest.
///
/// # Errors
/// The server's.
pub(crate) async fn replicas(client: &Client) -> RedisResult<u32> {
    let mut fewest = None;
    for part in client.parts().await? {
        let answer: String = part
            .query(redis::cmd("INFO").arg("replication"), Repeat::Yes)
            .await?;
        let count = answer
            .lines()
            .find_map(|line| line.strip_prefix("connected_slaves:"));
        let count: u32 = count.and_then(|count| count.trim().parse().ok()).unwrap_or(0);
        fewest = Some(fewest.map_or(count, |fewest: u32| fewest.min(count)));
    }
    Ok(fewest.unwrap_or(0))
}

/// A write that the server did not do.
fn refused(what: &str, error: RedisError) -> Error {
    match error.code() {
        Some("CROSSSLOT") => Error::invalid(format!(
            "{what}: the keys of a transaction belong to different slots of the cluster; give them a common part in braces, as \
             in {{order-7}}"
        )),
        _ => failure(what, error),
    }
}

fn prefixed(with: &str, error: Error) -> Error {
    Error {
        message: format!("{with}: {}", error.message),
        ..error
    }
}
