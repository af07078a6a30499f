//! `lock.redis`: a lock is a key that holds its owner and expires by itself.
//!
//! COMPAT(components-contrib lock/redis): the layout, and what is refused: a cluster, and a server with replicas unless
//! Sentinels watch it, since a failover may give a lock to two.
//!
//! Beyond the reference, each grant has a fencing token: a counter of the server ([`TOKENS`]), as lasting as its data.
//! Users who may not touch that key get no tokens.

use crate::client::{Client, Pauses, Repeat, unexpected};
use crate::config::{Config, Kind};
use crate::failure::failure;
use crate::script::Script;
use crate::state::replicas;
use outrigger_component::Component;
use outrigger_component::error::{Error, Result};
use outrigger_component::lock::{Granted, LockStore, TryLock, Unlock, Unlocked};
use outrigger_component::metadata::Metadata;
use outrigger_component::setup::Setup;
use redis::RedisResult;

/// The key that counts grants.
const TOKENS: &str = "outrigger||fencing-tokens";

/// Answers nothing if the lock is held, else the token; 0 is none. The key of the counter is not declared: it must not
/// keep users from locking who have no right to it.
const TRY_LOCK: &str = r#"
if not redis.call("SET", KEYS[1], ARGV[1], "NX", "PX", ARGV[2]) then return false end
local token = redis.pcall("INCR", ARGV[3])
if type(token) == "number" then return token end
return 0
"#;
const UNLOCK: &str = r#"
local owner = redis.call("GET", KEYS[1])
if not owner then return 1 end
if owner ~= ARGV[1] then return 2 end
redis.call("DEL", KEYS[1])
return 0
"#;

pub(crate) struct Locks {
    client: Client,
    try_lock: Script,
    unlock: Script,
}

impl Locks {
    /// # Errors
    /// What [`Config::check`] and [`Client::connect`] say; `Invalid` for servers that cannot keep locks.
    pub(crate) async fn connect(setup: Setup<Config>) -> Result<Self> {
        let Setup { config, log, .. } = setup;
        config.check(&log)?;
        if config.kind()? == Kind::Cluster {
            return Err(Error::invalid(
                "this component does not support connecting to Redis Cluster",
            ));
        }
        let client = Client::connect(&config, Pauses::LONG, &log).await?;
        // Servers that do not say are taken as they are.
        let replicas = replicas(&client).await.unwrap_or(0);
        if replicas > 0 && config.kind()? != Kind::Sentinel {
            return Err(Error::invalid(
                "replication is not supported: a replica that takes over may not know of a lock; use a server of its own, or \
                 failover with Sentinels",
            ));
        }
        Ok(Self {
            client,
            try_lock: Script::new(TRY_LOCK),
            unlock: Script::new(UNLOCK),
        })
    }
}

#[async_trait::async_trait]
impl Component for Locks {
    async fn ping(&self) -> Result<()> {
        self.client.ping().await
    }
}

#[async_trait::async_trait]
impl LockStore for Locks {
    async fn try_lock(&self, lock: &TryLock) -> Result<Option<Granted>> {
        let milliseconds = lock.expiry.as_millis().to_string();
        let words = [lock.owner.as_str(), &milliseconds, TOKENS];
        // Not repeated when its answer is lost: the second try would meet what the first one did.
        let answer: RedisResult<Option<i64>> = self
            .try_lock
            .run_on(&self.client, Repeat::IfUnsent, &lock.resource, &words)
            .await;
        let token = answer.map_err(|error| failure(&format!("failed to lock {}", lock.resource), error))?;
        Ok(token.map(|token| Granted {
            metadata: match token {
                0 => Metadata::new(),
                token => [("fencingToken", token.to_string())].into_iter().collect(),
            },
        }))
    }

    async fn unlock(&self, unlock: &Unlock) -> Result<Unlocked> {
        let answer: RedisResult<i64> = self
            .unlock
            .run_on(&self.client, Repeat::IfUnsent, &unlock.resource, &[&unlock.owner])
            .await;
        match answer.map_err(|error| failure(&format!("failed to unlock {}", unlock.resource), error))? {
            0 => Ok(Unlocked::Done),
            1 => Ok(Unlocked::Absent),
            2 => Ok(Unlocked::HeldByOther),
            _ => Err(unexpected("EVALSHA")),
        }
    }
}
