//! `bindings.redis`: plain values by key.
//!
//! COMPAT(components-contrib bindings/redis): operations, the metadata `key`, `delete` and `ttlInSeconds`, and answers.
//! Unlike there, a value and its lifetime are written in one step, and `increment` is never done twice.

use crate::client::{Client, Pauses, Repeat};
use crate::config::Config;
use crate::failure::failure;
use crate::script::Script;
use outrigger_component::Component;
use outrigger_component::binding::{Failed, Invoke, Output, OutputBinding};
use outrigger_component::error::{Error, Result};
use outrigger_component::metadata::{self, Metadata};
use outrigger_component::setup::Setup;
use redis::{RedisResult, Value};
use serde::de::value::{Error as Fault, StrDeserializer};

const INCREMENT: &str = r#"
local number = redis.call("INCR", KEYS[1])
if tonumber(ARGV[1]) > 0 then redis.call("PEXPIRE", KEYS[1], ARGV[1]) end
return number
"#;

pub(crate) struct Binding {
    client: Client,
    increment: Script,
}

impl Binding {
    /// # Errors
    /// What [`Config::check`] and [`Client::connect`] say.
    pub(crate) async fn connect(setup: Setup<Config>) -> Result<Self> {
        let Setup { config, log, .. } = setup;
        config.check(&log)?;
        Ok(Self {
            client: Client::connect(&config, Pauses::SHORT, &log)
                .await
                .map_err(prefixed)?,
            increment: Script::new(INCREMENT),
        })
    }

    async fn create(&self, key: &str, invoke: &Invoke) -> Result<()> {
        let mut cmd = redis::cmd("SET");
        cmd.arg(key).arg(&invoke.data[..]);
        if let Some(ttl) = ttl(&invoke.metadata)? {
            cmd.arg("PX").arg(ttl);
        }
        let done: RedisResult<()> = self.client.query(&cmd, Repeat::Yes).await;
        done.map_err(|error| failure(&format!("redis binding: failed to create {key}"), error))
    }

    async fn get(&self, key: &str, delete: bool) -> Result<Output> {
        let (verb, repeat) = if delete {
            ("GETDEL", Repeat::IfUnsent)
        } else {
            ("GET", Repeat::Yes)
        };
        let value: RedisResult<Option<Vec<u8>>> = self.client.query(redis::cmd(verb).arg(key), repeat).await;
        let value = value.map_err(|error| failure(&format!("redis binding: failed to get {key}"), error))?;
        Ok(Output {
            data: value.unwrap_or_default().into(),
            ..Output::default()
        })
    }

    async fn increment(&self, key: &str, metadata: &Metadata) -> Result<()> {
        let ttl = ttl(metadata)?.unwrap_or(0).to_string();
        let number: RedisResult<Value> = self
            .increment
            .run_on(&self.client, Repeat::IfUnsent, key, &[&ttl])
            .await;
        number
            .map(drop)
            .map_err(|error| failure(&format!("redis binding: failed to increment {key}"), error))
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let count: RedisResult<Value> = self.client.query(redis::cmd("DEL").arg(key), Repeat::Yes).await;
        count
            .map(drop)
            .map_err(|error| failure(&format!("redis binding: failed to delete {key}"), error))
    }
}

#[async_trait::async_trait]
impl Component for Binding {
    async fn ping(&self) -> Result<()> {
        self.client.ping().await.map_err(prefixed)
    }
}

#[async_trait::async_trait]
impl OutputBinding for Binding {
    fn operations(&self) -> &[&'static str] {
        &["create", "delete", "get", "increment"]
    }

    async fn invoke(&self, invoke: Invoke) -> Result<Option<Output>, Failed> {
        let key = invoke.metadata.get("key").filter(|key| !key.is_empty());
        let key = key.ok_or_else(|| Error::invalid("redis binding: missing key in request metadata"))?;
        match invoke.operation.as_str() {
            "create" => self.create(key, &invoke).await?,
            "get" => {
                let delete = invoke.metadata.get("delete") == Some("true");
                return Ok(Some(self.get(key, delete).await?));
            }
            "increment" => self.increment(key, &invoke.metadata).await?,
            "delete" => self.delete(key).await?,
            other => return Err(Error::invalid(format!("invalid operation type: {other}")).into()),
        }
        Ok(None)
    }
}

/// Milliseconds, at least 1.
///
/// COMPAT(components-contrib metadata): `ttl` or `ttlInSeconds`, seconds or a duration of Go.
fn ttl(metadata: &Metadata) -> Result<Option<u64>> {
    let named = ["ttl", "ttlInSeconds"]
        .into_iter()
        .filter_map(|name| metadata.get_any_case(name));
    let Some(text) = named.map(str::trim).find(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let span = metadata::duration(StrDeserializer::<Fault>::new(text));
    let milliseconds = span.ok().and_then(|span| u64::try_from(span.as_millis()).ok());
    milliseconds
        .filter(|milliseconds| *milliseconds > 0)
        .map(Some)
        .ok_or_else(|| {
            Error::invalid(format!(
                "ttlInSeconds must be a whole number of seconds above zero, or a duration such as 1m30s: actual is {text:?}"
            ))
        })
}

fn prefixed(error: Error) -> Error {
    Error {
        message: format!("redis binding: {}", error.message),
        ..error
    }
}

#[cfg(test)]
mod tests {
    use super::ttl;

    #[test]
    fn lifetimes() {
        for (name, text, expected) in [
            ("other", "1", Ok(None)),
            ("ttlInSeconds", "", Ok(None)),
            ("ttlInSeconds", "5", Ok(Some(5000))),
            ("ttlinseconds", "1m30s", Ok(Some(90_000))),
            ("ttl", "250ms", Ok(Some(250))),
            ("ttl", "0", Err(())),
            ("ttl", "-1", Err(())),
            ("ttl", "soon", Err(())),
        ] {
            let found = ttl(&[(name, text)].into_iter().collect()).map_err(drop);
            assert_eq!(found, expected, "{name}: {text}");
        }
    }
}
