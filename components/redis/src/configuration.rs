//! `configuration.redis`: values are plain texts, `value` or `value||version`.
//!
//! A watch has a connection of its own to each server, on which Redis says which keys were touched (keyspace
//! notifications, which are switched on where they are off). What has changed is then read and compared with what the
//! watch has told before. A lost connection loses no change: all is read and compared again when it is back.
//!
//! COMPAT(components-contrib configuration/redis): the format, which kinds of notifications are asked for, and that keys of
//! another type than text are passed over. Unlike there, an empty value is a value, a touched key whose value stays the
//! same is not told, and other kinds of notifications that are switched on stay on.

mod ear;

use crate::client::{Client, Pauses, Repeat, backoff};
use crate::config::Config;
use crate::failure::failure;
use crate::state::keys::scan;
use ear::{Ear, News};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use outrigger_component::Component;
use outrigger_component::configuration::{Changes, ConfigurationStore, Get, Item, Items};
use outrigger_component::error::{Error, Result};
use outrigger_component::setup::Setup;
use outrigger_daemon::backoff::Backoff;
use outrigger_daemon::log::Log;
use redis::{RedisError, RedisResult};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Values asked for at once.
const AT_ONCE: usize = 64;

pub(crate) struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    database: i64,
    log: Log,
}

/// A watch under way.
struct Watch {
    shared: Arc<Shared>,
    /// Empty: all.
    keys: Vec<String>,
    /// What the watcher knows.
    seen: Items,
    /// `None` after a connection was lost.
    ear: Option<Ear>,
    backoff: Backoff,
}

impl Store {
    /// # Errors
    /// What [`Config::check`] and [`Client::connect`] say.
    pub(crate) async fn connect(setup: Setup<Config>) -> Result<Self> {
        let Setup { config, log, .. } = setup;
        config.check(&log)?;
        let client = Client::connect(&config, Pauses::WIDE, &log)
            .await
            .map_err(prefixed)?;
        Ok(Self {
            shared: Arc::new(Shared {
                database: client.database(),
                client,
                log,
            }),
        })
    }
}

#[async_trait::async_trait]
impl Component for Store {
    async fn ping(&self) -> Result<()> {
        self.shared.client.ping().await.map_err(prefixed)
    }
}

#[async_trait::async_trait]
impl ConfigurationStore for Store {
    async fn get(&self, get: &Get) -> Result<Items> {
        let read = self.shared.read(&get.keys).await;
        read.map_err(|error| failure("fail to get configuration from redis", error))
    }

    async fn watch(&self, get: &Get) -> Result<Changes> {
        let failed = |error| failure("fail to subscribe to configuration in redis", error);
        let ear = self.shared.listen(&get.keys).await.map_err(failed)?;
        let watch = Watch {
            // Read after listening: whatever changes from here on is heard.
            seen: self.shared.read(&get.keys).await.map_err(failed)?,
            shared: Arc::clone(&self.shared),
            keys: get.keys.clone(),
            ear: Some(ear),
            backoff: backoff(),
        };
        Ok(stream::unfold(watch, |mut watch| async {
            let items = watch.next().await;
            Some((items, watch))
        })
        .boxed())
    }
}

impl Shared {
    async fn listen(&self, keys: &[String]) -> RedisResult<Ear> {
        Ear::open(&self.client, self.database, keys, &self.log).await
    }

    /// No keys are all.
    async fn read(&self, keys: &[String]) -> RedisResult<Items> {
        if !keys.is_empty() {
            return self.values(keys.iter().cloned()).await;
        }
        let mut all = BTreeSet::new();
        scan(&self.client, "*", &mut all).await?;
        self.values(all.into_iter()).await
    }

    async fn values(&self, keys: impl Iterator<Item = String> + Send) -> RedisResult<Items> {
        stream::iter(keys)
            .map(|key| async { Ok(self.value(&key).await?.map(|item| (key, item))) })
            .buffer_unordered(AT_ONCE)
            .try_filter_map(|found| async { Ok(found) })
            .try_collect()
            .await
    }

    async fn value(&self, key: &str) -> RedisResult<Option<Item>> {
        let value: RedisResult<Option<Vec<u8>>> =
            self.client.query(redis::cmd("GET").arg(key), Repeat::Yes).await;
        match value {
            Ok(value) => Ok(value.map(|value| item(&value))),
            Err(error) if error.code() == Some("WRONGTYPE") => {
                self.log.debug(format_args!(
                    "redis key {key} 's type is not supported, ignore it"
                ));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl Watch {
    /// What has changed, when it has. Failures are logged and survived.
    async fn next(&mut self) -> Items {
        loop {
            match self.look().await {
                Ok(changed) => {
                    self.backoff.reset();
                    if !changed.is_empty() {
                        return changed;
                    }
                }
                Err(error) => {
                    self.ear = None;
                    // Said once, not with each attempt.
                    if self.backoff.is_fresh() {
                        self.shared.log.warn(format_args!(
                            "redis configuration: the watch is interrupted and tries again: {error}"
                        ));
                    }
                    self.backoff.wait().await;
                }
            }
        }
    }

    /// Waits for news and reads them.
    async fn look(&mut self) -> Result<Items, RedisError> {
        let Some(ear) = &mut self.ear else {
            self.ear = Some(self.shared.listen(&self.keys).await?);
            return self.read_all().await;
        };
        match ear.news().await? {
            News::All => self.read_all().await,
            News::Keys(keys) => {
                let now = self.shared.values(keys.iter().cloned()).await?;
                Ok(update(&mut self.seen, keys, &now))
            }
        }
    }

    async fn read_all(&mut self) -> RedisResult<Items> {
        let now = self.shared.read(&self.keys).await?;
        let keys = self.seen.keys().chain(now.keys()).cloned().collect();
        Ok(update(&mut self.seen, keys, &now))
    }
}

/// Brings `seen` up to date with what there is now under `keys`; answers what differs, empty for what is gone.
fn update(seen: &mut Items, keys: BTreeSet<String>, now: &Items) -> Items {
    let mut changed = Items::new();
    for key in keys {
        match now.get(&key) {
            Some(item) if seen.get(&key) != Some(item) => {
                seen.insert(key.clone(), item.clone());
                changed.insert(key, item.clone());
            }
            None if seen.remove(&key).is_some() => {
                changed.insert(key, Item::default());
            }
            _ => {}
        }
    }
    changed
}

/// What is no text is shown with replacement characters: configuration is text.
fn item(value: &[u8]) -> Item {
    let text = String::from_utf8_lossy(value);
    let mut parts = text.split("||").map(str::to_owned);
    Item {
        value: parts.next().unwrap_or_default(),
        version: parts.next().unwrap_or_default(),
        ..Item::default()
    }
}

fn prefixed(error: Error) -> Error {
    Error {
        message: format!("redis configuration: {}", error.message),
        ..error
    }
}

#[cfg(test)]
mod tests {
    use super::{Items, item, update};
    use std::collections::BTreeSet;

    fn items(of: &[(&str, &str)]) -> Items {
        of.iter()
            .map(|(key, text)| ((*key).to_owned(), item(text.as_bytes())))
            .collect()
    }

    #[test]
    fn values_and_versions() {
        for (text, value, version) in [
            ("", "", ""),
            ("v", "v", ""),
            ("v||1", "v", "1"),
            ("||1", "", "1"),
            ("v||1||x", "v", "1"),
            ("a|b", "a|b", ""),
        ] {
            let item = item(text.as_bytes());
            assert_eq!(
                (item.value.as_str(), item.version.as_str()),
                (value, version),
                "{text}"
            );
        }
    }

    #[test]
    fn differences() {
        let mut seen = items(&[("a", "1"), ("b", "1||1"), ("c", "1")]);
        let now = items(&[("a", "1"), ("b", "1||2"), ("d", "4")]);
        let keys: BTreeSet<String> = ["a", "b", "c", "d", "e"].map(str::to_owned).into();
        let changed = update(&mut seen, keys.clone(), &now);
        assert_eq!(changed, items(&[("b", "1||2"), ("c", ""), ("d", "4")]));
        assert_eq!(seen, now);
        assert!(update(&mut seen, keys, &now).is_empty());
    }
}
