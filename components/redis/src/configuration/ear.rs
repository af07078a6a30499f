//! Connections on which the servers say which keys are touched.
//!
//! What is heard and not yet taken is a set of keys, or "anything" when they are too many: it does not grow with the number
//! of changes.

use crate::client::Client;
use crate::client::dial::Connection;
use outrigger_daemon::log::Log;
use redis::{PushInfo, PushKind, RedisResult, Value};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// COMPAT(components-contrib common/component/redis): keyspace events of keys in general, texts, expiry and eviction.
const KINDS: &str = "Kg$xe";
/// Keys that are remembered one by one.
const MOST: usize = 1000;
/// After that long without news the connections are asked whether they are still there.
const SILENCE: Duration = Duration::from_secs(10);

pub(super) struct Ear {
    heard: Arc<Heard>,
    connections: Vec<Connection>,
}

/// What may have changed.
pub(super) enum News {
    Keys(BTreeSet<String>),
    All,
}

#[derive(Default)]
struct Heard {
    waiting: Mutex<Waiting>,
    bell: Notify,
}

#[derive(Default)]
struct Waiting {
    keys: BTreeSet<String>,
    too_many: bool,
    lost: bool,
}

impl Ear {
    /// Once this answers, nothing is missed until [`Ear::news`] fails. No keys are all.
    ///
    /// # Errors
    /// Those of connecting.
    pub(super) async fn open(
        client: &Client,
        database: i64,
        keys: &[String],
        log: &Log,
    ) -> RedisResult<Self> {
        let space = format!("__keyspace@{database}__:");
        let heard = Arc::new(Heard::default());
        let mut connections = Vec::new();
        for part in client.parts().await? {
            let (hears, prefix) = (Arc::clone(&heard), space.clone());
            let listener = move |push: PushInfo| {
                hears.take(&push, &prefix);
                Ok::<(), Infallible>(())
            };
            let mut connection = part.listen(listener).await?;
            if let Err(error) = switch_on(&mut connection).await {
                log.warn(format_args!(
                    "redis configuration: notify-keyspace-events cannot be switched on: {error}. Changes are told only if the \
                     server has it set to {KINDS} or more"
                ));
            }
            if keys.is_empty() {
                connection.requests.psubscribe(format!("{space}*")).await?;
            } else {
                let channels: Vec<String> = keys.iter().map(|key| format!("{space}{key}")).collect();
                connection.requests.subscribe(channels).await?;
            }
            connections.push(connection);
        }
        Ok(Self { heard, connections })
    }

    /// Waits for news.
    ///
    /// # Errors
    /// When a connection is lost; changes may have been missed since the last news.
    pub(super) async fn news(&mut self) -> RedisResult<News> {
        loop {
            if tokio::time::timeout(SILENCE, self.heard.bell.notified())
                .await
                .is_err()
            {
                for connection in &mut self.connections {
                    redis::cmd("PING").exec_async(&mut connection.requests).await?;
                }
                // Slots of a cluster move to servers that are not listened to.
                if self.connections.len() > 1 {
                    return Ok(News::All);
                }
                continue;
            }
            let Waiting { keys, too_many, lost } = std::mem::take(&mut *self.heard.waiting());
            if lost {
                return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "connection lost").into());
            }
            return Ok(if too_many { News::All } else { News::Keys(keys) });
        }
    }
}

impl Heard {
    fn take(&self, push: &PushInfo, space: &str) {
        let mut waiting = self.waiting();
        match push.kind {
            PushKind::Disconnection => waiting.lost = true,
            PushKind::Message | PushKind::PMessage => {
                // The channel stands before the content, which is what was done to the key.
                let channel = push.data.iter().rev().nth(1);
                let Some(Value::BulkString(channel)) = channel else {
                    return;
                };
                let key = channel.strip_prefix(space.as_bytes());
                // What is not text is not ours.
                let Some(key) = key.and_then(|key| std::str::from_utf8(key).ok()) else {
                    return;
                };
                if waiting.too_many {
                    return;
                }
                waiting.keys.insert(key.to_owned());
                if waiting.keys.len() > MOST {
                    waiting.keys.clear();
                    waiting.too_many = true;
                }
            }
            _ => return,
        }
        drop(waiting);
        self.bell.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds the kinds of notifications that are missing.
async fn switch_on(connection: &mut Connection) -> RedisResult<()> {
    let mut cmd = redis::cmd("CONFIG");
    cmd.arg("GET").arg("notify-keyspace-events");
    let now: std::collections::BTreeMap<String, String> = cmd.query_async(&mut connection.requests).await?;
    let now = now.into_values().next().unwrap_or_default();
    let Some(wanted) = wanted(&now) else { return Ok(()) };
    let mut cmd = redis::cmd("CONFIG");
    cmd.arg("SET").arg("notify-keyspace-events").arg(wanted);
    cmd.exec_async(&mut connection.requests).await
}

/// What is to be set; `None` if nothing is missing. `A` stands for all kinds of events.
fn wanted(now: &str) -> Option<String> {
    let missing = KINDS
        .chars()
        .filter(|&kind| !now.contains(kind) && (kind == 'K' || !now.contains('A')));
    let wanted: String = now.chars().chain(missing).collect();
    (wanted != now).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::{Heard, MOST, Waiting, wanted};
    use redis::{PushInfo, PushKind, Value};

    #[test]
    fn kinds_are_added() {
        for (now, expected) in [
            ("", Some("Kg$xe")),
            ("Kg$xe", None),
            ("AKE", None),
            ("AE", Some("AEK")),
            ("Ex", Some("ExKg$e")),
        ] {
            assert_eq!(wanted(now).as_deref(), expected, "{now}");
        }
    }

    #[test]
    fn what_is_heard() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let heard = Heard::default();
        let hear = |kind, data: &[Value]| {
            let data = data.to_vec();
            heard.take(&PushInfo { kind, data }, "__keyspace@0__:");
            std::mem::take(&mut *heard.waiting())
        };
        let keys = |waiting: Waiting| waiting.keys.into_iter().collect::<Vec<_>>();
        let one = hear(PushKind::Message, &[text("__keyspace@0__:a:b"), text("set")]);
        assert_eq!(keys(one), ["a:b"]);
        let pattern = [text("__keyspace@0__:*"), text("__keyspace@0__:c"), text("del")];
        assert_eq!(keys(hear(PushKind::PMessage, &pattern)), ["c"]);
        assert!(keys(hear(PushKind::Message, &[text("other"), text("set")])).is_empty());
        assert!(hear(PushKind::Disconnection, &[]).lost);
        for number in 0..=MOST {
            let data = vec![text(&format!("__keyspace@0__:{number}")), text("set")];
            heard.take(
                &PushInfo {
                    kind: PushKind::Message,
                    data,
                },
                "__keyspace@0__:",
            );
        }
        assert!(heard.waiting().too_many && heard.waiting().keys.is_empty());
    }
}
