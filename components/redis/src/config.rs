//! What users write under `metadata`.
//!
//! COMPAT(components-contrib common/component/redis/settings.go): names and defaults; most bare numbers are
//! milliseconds, negative ones switch the thing off.

#[cfg(test)]
mod tests;

use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::metadata;
use outrigger_daemon::log::Log;
use serde::de::value::{Error as Fault, StrDeserializer};
use serde::{Deserialize, Deserializer, de};
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

const DEFAULT_PORT: u16 = 6379;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Config {
    redis_host: String,
    redis_port: Option<u16>,
    pub redis_username: String,
    pub redis_password: Hidden,
    #[serde(rename = "redisDB")]
    pub redis_db: Option<i64>,
    redis_type: String,
    /// Repetitions of a request whose connection was lost; -1 is none.
    redis_max_retries: Option<i64>,
    max_retries: Option<i64>,
    pub redis_min_retry_interval: Span,
    pub redis_max_retry_interval: Span,
    pub dial_timeout: Span,
    pub read_timeout: Span,
    pub write_timeout: Span,
    #[serde(rename = "enableTLS")]
    enable_tls: bool,
    #[serde(rename = "useEntraID")]
    use_entra_id: bool,
    #[serde(rename = "useAzureAD")]
    use_azure_ad: bool,
    failover: bool,
    query_indexes: String,

    // Of a pool of connections, which there is none of here.
    pool_size: String,
    min_idle_conns: String,
    max_conn_age: String,
    pool_timeout: String,
    idle_timeout: String,
    idle_check_frequency: String,

    /// State only: lifetime of values that have none of their own; 0 and below is for ever.
    pub ttl_in_seconds: Option<i64>,

    /// Pub/sub only: the consumer group.
    #[serde(rename = "consumerID")]
    pub consumer_id: String,
    pub processing_timeout: Span,
    pub redeliver_interval: Span,
    pub queue_depth: Option<usize>,
    pub concurrency: Option<usize>,
    pub max_len_approx: Option<u64>,
    #[serde(rename = "streamTTL", deserialize_with = "metadata::duration")]
    pub stream_ttl: Duration,
}

/// A text that is never printed.
#[derive(Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct Hidden(pub String);

/// A duration that can be left to us or switched off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Span {
    #[default]
    Unset,
    Off,
    Is(Duration),
}

impl Config {
    /// Refuses what is not available, and says what has no effect.
    ///
    /// # Errors
    /// `Unsupported` or `Invalid`, naming the metadata.
    pub(crate) fn check(&self, log: &Log) -> Result<()> {
        let missing = |what: &str| {
            Err(Error::new(
                Kind::Unsupported,
                format!("{what} is not available in this version of Outrigger"),
            ))
        };
        if self.enable_tls {
            return missing("metadata enableTLS: TLS to Redis");
        }
        if self.failover {
            return missing("metadata failover: Redis Sentinel");
        }
        if self.use_entra_id || self.use_azure_ad {
            return missing("metadata useEntraID: Entra ID authentication to Redis");
        }
        if !self.query_indexes.is_empty() {
            return missing("metadata queryIndexes: the query API on Redis");
        }
        match self.redis_type.as_str() {
            "" | "node" => {}
            "cluster" => return missing("metadata redisType: a Redis cluster"),
            other => {
                return Err(Error::invalid(format!(
                    "metadata redisType must be node or cluster, not {other:?}"
                )));
            }
        }
        for (name, value) in [
            ("poolSize", &self.pool_size),
            ("minIdleConns", &self.min_idle_conns),
            ("maxConnAge", &self.max_conn_age),
            ("poolTimeout", &self.pool_timeout),
            ("idleTimeout", &self.idle_timeout),
            ("idleCheckFrequency", &self.idle_check_frequency),
        ] {
            if !value.is_empty() {
                log.warn(format_args!(
                    "redis: metadata {name} has no effect: one connection carries all requests"
                ));
            }
        }
        Ok(())
    }

    /// Host and port.
    ///
    /// # Errors
    /// `Invalid` if there is no host, more than one, or two ports.
    pub(crate) fn address(&self) -> Result<(String, u16)> {
        let host = self.redis_host.trim();
        if host.is_empty() {
            return Err(Error::invalid("metadata \"redisHost\" is missing"));
        }
        if host.contains(',') {
            return Err(Error::invalid(format!(
                "metadata redisHost names several hosts ({host}): only a single server is available"
            )));
        }
        // A bare IPv6 address has colons and no port.
        let split = match host.rsplit_once(':') {
            Some((name, port)) if !name.contains(':') || name.ends_with(']') => Some((name, port)),
            _ => None,
        };
        let Some((name, port)) = split else {
            return Ok((
                bare(host),
                self.redis_port.filter(|port| *port != 0).unwrap_or(DEFAULT_PORT),
            ));
        };
        let number: u16 = port.parse().map_err(|_| {
            Error::invalid(format!(
                "metadata redisHost has no port but {port:?} after the colon"
            ))
        })?;
        match self.redis_port {
            Some(other) if other != 0 && other != number => Err(Error::invalid(format!(
                "redis host {host:?} already contains port {number}, but redisPort is set to {other}; either remove the \
                 port from redisHost or remove the redisPort setting"
            ))),
            _ => Ok((bare(name), number)),
        }
    }

    /// Repetitions of a request whose connection was lost.
    pub(crate) fn retries(&self) -> u32 {
        let configured = self
            .redis_max_retries
            .or(self.max_retries)
            .filter(|retries| *retries != 0);
        u32::try_from(configured.unwrap_or(3)).unwrap_or(0)
    }
}

impl Span {
    /// `None` if switched off.
    pub(crate) fn or(self, default: Duration) -> Option<Duration> {
        match self {
            Self::Unset => Some(default),
            Self::Off => None,
            Self::Is(span) => Some(span),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(from)?;
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self::Unset);
        }
        if let Ok(number) = text.parse::<i64>() {
            return Ok(u64::try_from(number).map_or(Self::Off, |milliseconds| {
                Self::Is(Duration::from_millis(milliseconds))
            }));
        }
        metadata::duration(StrDeserializer::<Fault>::new(text))
            .map(Self::Is)
            .map_err(de::Error::custom)
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Without the brackets of an IPv6 address.
fn bare(host: &str) -> String {
    host.trim_start_matches('[').trim_end_matches(']').to_owned()
}
