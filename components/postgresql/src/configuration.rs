//! `configuration.postgresql`: values in a table that somebody else writes, with a trigger that tells of changes.
//!
//! A change that comes with the new row is told as it came. What comes without, what is deleted, and what may have happened
//! while nobody listened ([`channel`]) is found by reading the table again: no change is lost with a connection.
//!
//! COMPAT(components-contrib configuration/postgres): columns (`key`, `value`, `version`, `metadata`), of several rows with a key
//! the one with the greatest number as version, the form of notifications, texts. Unlike there, a deleted key is told as
//! empty, and one listening connection serves all watches of a channel.

mod channel;

use crate::config::{Target, table};
use crate::pool::{Pool, Sql, failed, within};
use channel::{Channels, Event};
use futures::stream;
use outrigger_component::Component;
use outrigger_component::configuration::{Changes, ConfigurationStore, Get, Item, Items};
use outrigger_component::error::{Error, Result};
use outrigger_component::metadata::Metadata;
use outrigger_component::options::{NONE, Opt, REQUIRED, opt};
use outrigger_component::setup::Setup;
use outrigger_daemon::drain;
use outrigger_daemon::log::Log;
use outrigger_daemon::tasks::Tasks;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

/// After a read that failed, until the next one.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_NAME: usize = 64;

pub(crate) const OPTIONS: &[Opt] = &[
    opt("table", REQUIRED, "table of the values, in lower case"),
    opt(
        "notifyChannel",
        NONE,
        "channel to which the trigger of the table notifies; without it, whoever subscribes names it with the request",
    )
    .or(&["pgNotifyChannel"]),
    opt("connMaxIdleTime", NONE, "an older name of `connectionMaxIdleTime`"),
];

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Config {
    table: String,
    #[serde(alias = "pgNotifyChannel")]
    notify_channel: String,
    conn_max_idle_time: String,
}

pub(crate) struct Store {
    shared: Arc<Shared>,
    channels: Channels,
    notify_channel: String,
    /// Owns connections; its end ends the watches.
    _tasks: Tasks,
}

struct Shared {
    pool: Pool,
    table: String,
    all: Sql,
    some: Sql,
    log: Log,
}

impl Store {
    pub(crate) async fn connect(setup: Setup<Config>) -> Result<Self> {
        let Setup {
            config,
            mut metadata,
            log,
            ..
        } = setup;
        if metadata.get_any_case("connectionMaxIdleTime").is_none() && !config.conn_max_idle_time.is_empty() {
            metadata.insert("connectionMaxIdleTime", config.conn_max_idle_time.clone());
        }
        config.check()?;
        let name = table("table", &config.table)?;
        let tasks = Tasks::new(&log, drain::channel().0);
        let pool = Pool::connect(Target::read(&metadata, &log)?, tasks.spawner(), &log).await?;
        let select = format!("SELECT key::text, value::text, version::text, metadata::text FROM {name}");
        let shared = Arc::new(Shared {
            all: Sql::new(select.as_str(), []),
            some: Sql::new(format!("{select} WHERE key = ANY($1)"), [Type::TEXT_ARRAY]),
            table: name,
            pool: pool.clone(),
            log: log.clone(),
        });
        shared.check_table().await?;
        Ok(Self {
            shared,
            channels: Channels::new(pool, tasks.spawner(), log),
            notify_channel: config.notify_channel,
            _tasks: tasks,
        })
    }

    /// What the component says comes first; the request is asked for older apps.
    fn channel(&self, metadata: &Metadata) -> Result<String> {
        let channel = match self.notify_channel.as_str() {
            "" => metadata.get_any_case("pgNotifyChannel").unwrap_or_default(),
            channel => channel,
        };
        if channel.is_empty() {
            return Err(Error::invalid(format!(
                "unable to subscribe to {:?}. notifyChannel must be set in component metadata or request metadata",
                self.shared.table
            )));
        }
        check_channel(channel)?;
        Ok(channel.to_owned())
    }
}

impl Config {
    fn check(&self) -> Result<()> {
        let table = &self.table;
        if table.is_empty() {
            return Err(Error::invalid("missing postgreSQL configuration table name"));
        }
        if table.len() > LONGEST_NAME {
            return Err(Error::invalid(format!(
                "table name is too long - tableName : '{table}'. max allowed field length is {LONGEST_NAME}"
            )));
        }
        if !is_lower(table) {
            return Err(Error::invalid(format!(
                "invalid table name '{table}'. non-alphanumerics or upper cased table names are not supported"
            )));
        }
        match self.notify_channel.as_str() {
            "" => Ok(()),
            channel => check_channel(channel),
        }
    }
}

fn check_channel(channel: &str) -> Result<()> {
    if channel.len() > LONGEST_NAME {
        return Err(Error::invalid(format!(
            "notifyChannel name is too long - {channel:?}. max allowed length is {LONGEST_NAME}"
        )));
    }
    if !is_lower(channel) {
        return Err(Error::invalid(format!(
            "invalid notifyChannel name {channel:?}. non-alphanumerics or upper cased names are not supported"
        )));
    }
    Ok(())
}

fn is_lower(name: &str) -> bool {
    name.bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'/' | b'_'))
}

impl Shared {
    async fn check_table(&self) -> Result<()> {
        let table = &self.table;
        let what = format!("error in checking if configtable '{table}' exists");
        let exists = Sql::new("SELECT to_regclass($1) IS NOT NULL", [Type::TEXT]);
        within(self.pool.timeout(), &what, async {
            let mut lane = self.pool.lane().await?;
            let rows = lane.rows(&exists, &[table]).await.map_err(failed(&what))?;
            lane.give_back();
            let exists = rows.first().map(|row| row.try_get::<_, bool>(0));
            match exists.transpose().map_err(failed(&what))? {
                Some(true) => Ok(()),
                _ => Err(Error::invalid(format!(
                    "postgreSQL configuration table '{table}' does not exist"
                ))),
            }
        })
        .await
    }

    async fn read(&self, keys: &[String]) -> Result<Items> {
        let what = "error in querying configuration store";
        within(self.pool.timeout(), what, async {
            let mut lane = self.pool.lane().await?;
            let rows = if keys.is_empty() {
                lane.rows(&self.all, &[]).await
            } else {
                lane.rows(&self.some, &[&keys]).await
            };
            lane.give_back();
            let mut items = Items::new();
            for row in rows.map_err(failed(what))? {
                let (key, item) = item(&row)?;
                match items.get(&key) {
                    Some(other) if number(&other.version) >= number(&item.version) => {}
                    _ => {
                        items.insert(key, item);
                    }
                }
            }
            Ok(items)
        })
        .await
    }
}

/// Versions that are no numbers come before those that are.
fn number(version: &str) -> i64 {
    version.parse().unwrap_or(-1)
}

fn item(row: &Row) -> Result<(String, Item)> {
    let failed = failed("unable to parse response from configuration store");
    let text = |number| {
        row.try_get::<_, Option<String>>(number)
            .map(Option::unwrap_or_default)
    };
    let metadata = text(3).map_err(&failed)?;
    let metadata = match metadata.as_str() {
        "" => Value::Null,
        json => serde_json::from_str(json).map_err(|error| {
            Error::internal(format!(
                "unable to parse response from configuration store: {error}"
            ))
        })?,
    };
    let item = Item {
        value: text(1).map_err(&failed)?,
        version: text(2).map_err(&failed)?,
        metadata: labels(metadata),
    };
    Ok((text(0).map_err(&failed)?, item))
}

/// Texts by name; what is no text stands there as JSON.
fn labels(metadata: Value) -> Metadata {
    match metadata {
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| (name, plain(value)))
            .collect(),
        _ => Metadata::new(),
    }
}

fn plain(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// What a notification says: the row that is there now, or only that something has happened.
fn told(payload: &str) -> Option<(String, Item)> {
    let Ok(Value::Object(mut payload)) = serde_json::from_str(payload) else {
        return None;
    };
    let deleted =
        matches!(payload.get("action"), Some(Value::String(action)) if action.eq_ignore_ascii_case("delete"));
    let Some(Value::Object(row)) = payload.remove("data") else {
        return None;
    };
    let mut row: Map<String, Value> = row
        .into_iter()
        .map(|(name, value)| (name.to_lowercase(), value))
        .collect();
    if deleted || !row.contains_key("value") {
        return None;
    }
    let mut text = |name: &str| row.remove(name).map(plain).unwrap_or_default();
    let (key, value, version) = (text("key"), text("value"), text("version"));
    let item = Item {
        value,
        version,
        metadata: labels(row.remove("metadata").unwrap_or_default()),
    };
    Some((key, item)).filter(|(key, _)| !key.is_empty())
}

/// A watch under way.
struct Session {
    shared: Arc<Shared>,
    keys: Vec<String>,
    seen: Items,
    events: broadcast::Receiver<Event>,
    /// Keeps the channel listening.
    _channel: Arc<channel::Channel>,
    /// The table may differ from what was seen.
    doubtful: bool,
}

impl Session {
    async fn next(&mut self) -> Option<Items> {
        loop {
            if self.doubtful {
                match self.compare().await {
                    Ok(changes) => {
                        self.doubtful = false;
                        if !changes.is_empty() {
                            return Some(changes);
                        }
                    }
                    Err(error) => {
                        self.shared.log.warn(format_args!(
                            "configuration.postgresql: values cannot be read again, which is tried on: {error}"
                        ));
                        tokio::time::sleep(PAUSE).await;
                    }
                }
                continue;
            }
            match self.events.recv().await {
                Ok(Event::Payload(payload)) => match told(&payload) {
                    Some((key, item)) => {
                        let is_asked = self.keys.is_empty() || self.keys.contains(&key);
                        // What was found in the table may be told once more by its notification.
                        if is_asked && self.seen.get(&key) != Some(&item) {
                            self.seen.insert(key.clone(), item.clone());
                            return Some(Items::from([(key, item)]));
                        }
                    }
                    None => self.doubtful = true,
                },
                Ok(Event::Again) | Err(broadcast::error::RecvError::Lagged(_)) => self.doubtful = true,
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    async fn compare(&mut self) -> Result<Items> {
        let now = self.shared.read(&self.keys).await?;
        let mut changes: Items = now
            .iter()
            .filter(|(key, item)| self.seen.get(*key) != Some(item))
            .map(|(key, item)| (key.clone(), item.clone()))
            .collect();
        let gone = self.seen.keys().filter(|key| !now.contains_key(*key));
        changes.extend(gone.map(|key| (key.clone(), Item::default())));
        self.seen = now;
        Ok(changes)
    }
}

#[async_trait::async_trait]
impl Component for Store {
    async fn ping(&self) -> Result<()> {
        self.shared.pool.ping().await
    }

    async fn close(&self) {
        self.channels.close();
        self.shared.pool.close();
    }
}

#[async_trait::async_trait]
impl ConfigurationStore for Store {
    async fn get(&self, get: &Get) -> Result<Items> {
        for key in &get.keys {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/' | b'_');
            if !key.bytes().all(fits) {
                return Err(Error::invalid(format!("invalid key : '{key}'")));
            }
        }
        self.shared.read(&get.keys).await
    }

    async fn watch(&self, get: &Get) -> Result<Changes> {
        let channel = self.channel(&get.metadata)?;
        // Listening before reading: what happens between is told twice rather than not at all.
        let (channel, events) = self.channels.listen(channel).await?;
        let session = Session {
            seen: self.shared.read(&get.keys).await?,
            shared: Arc::clone(&self.shared),
            keys: get.keys.clone(),
            events,
            _channel: channel,
            doubtful: false,
        };
        Ok(Box::pin(stream::unfold(session, |mut session| async move {
            let items = session.next().await?;
            Some((items, session))
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::{is_lower, told};

    #[test]
    fn notifications() {
        for (payload, expected) in [
            (
                r#"{"table":"t","action":"UPDATE","data":{"KEY":"k","Value":"v","version":"1","metadata":{"a":"b"}}}"#,
                Some("k v 1 [\"a=b\"]"),
            ),
            (
                r#"{"data":{"key":"k","value":"v","version":2,"metadata":null}}"#,
                Some("k v 2 []"),
            ),
            (
                r#"{"data":{"key":"k","value":"","version":null}}"#,
                Some("k   []"),
            ),
            (
                r#"{"action":"DELETE","data":{"key":"k","value":"v","version":"1"}}"#,
                None,
            ),
            (r#"{"data":{"key":"k"}}"#, None),
            (r#"{"data":[1]}"#, None),
            ("changed", None),
            ("", None),
        ] {
            let seen = told(payload).map(|(key, item)| {
                let labels: Vec<String> = item
                    .metadata
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                format!("{key} {} {} {labels:?}", item.value, item.version)
            });
            assert_eq!(seen.as_deref(), expected, "{payload}");
        }
    }

    #[test]
    fn names() {
        for (name, fits) in [
            ("config_1", true),
            ("a.b/c", true),
            ("Config", false),
            ("a;b", false),
            ("a\"", false),
        ] {
            assert_eq!(is_lower(name), fits, "{name}");
        }
    }
}
