//! What users write under `metadata`.
//!
//! COMPAT(components-contrib common/component/redis/settings.go): names and defaults; most bare numbers are
//! milliseconds, negative ones switch the thing off.

pub(crate) mod options;
#[cfg(test)]
mod tests;

use crate::client::dial::Address;
use outrigger_component::error::{self, Error, Result};
use outrigger_component::metadata::{self, Hidden};
use outrigger_daemon::log::Log;
use outrigger_daemon::tls;
use serde::de::value::{Error as Fault, StrDeserializer};
use serde::{Deserialize, Deserializer, de};
use std::borrow::Cow;
use std::time::Duration;

const DEFAULT_PORT: u16 = 6379;
const ONE_CONNECTION: &str = "one connection carries all requests";

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
    pub failover: bool,
    pub sentinel_master_name: String,
    pub sentinel_username: String,
    pub sentinel_password: Hidden,
    /// Repetitions of a request whose connection was lost; -1 is none.
    redis_max_retries: Option<i64>,
    max_retries: Option<i64>,
    pub redis_min_retry_interval: Span,
    pub redis_max_retry_interval: Span,
    /// The older name of the shortest pause, in nanoseconds.
    max_retry_backoff: Option<u64>,
    pub dial_timeout: Span,
    pub read_timeout: Span,
    pub write_timeout: Span,
    #[serde(rename = "enableTLS")]
    enable_tls: bool,
    #[serde(rename = "insecureSkipTLSVerify")]
    insecure_skip_tls_verify: bool,
    ca_cert: String,
    client_cert: String,
    client_key: Hidden,
    #[serde(rename = "useEntraID")]
    use_entra_id: bool,
    #[serde(rename = "useAzureAD")]
    use_azure_ad: bool,
    #[serde(rename = "useOIDC")]
    use_oidc: bool,
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

/// A duration that can be left to us or switched off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Span {
    #[default]
    Unset,
    Off,
    Is(Duration),
}

/// How a server is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Server,
    /// Sentinels say which server is the master.
    Sentinel,
    Cluster,
}

impl Config {
    /// Refuses what is not available, and says what has no effect.
    ///
    /// # Errors
    /// `Unsupported` or `Invalid`, naming the metadata.
    pub(crate) fn check(&self, log: &Log) -> Result<()> {
        for (name, used, what) in [
            ("useEntraID", self.use_entra_id || self.use_azure_ad, "Entra ID"),
            ("useOIDC", self.use_oidc, "OIDC"),
        ] {
            if used {
                return Err(Error::new(
                    error::Kind::Unsupported,
                    format!(
                        "metadata {name}: {what} authentication to Redis is not available in this version of Outrigger; use \
                         redisUsername and redisPassword"
                    ),
                ));
            }
        }
        if self.kind()? == Kind::Sentinel && self.sentinel_master_name.is_empty() {
            return Err(Error::invalid(
                "metadata sentinelMasterName is missing: failover needs the name of the master",
            ));
        }
        self.addresses()?;
        for (name, value, why) in [
            ("poolSize", &self.pool_size, ONE_CONNECTION),
            ("minIdleConns", &self.min_idle_conns, ONE_CONNECTION),
            ("maxConnAge", &self.max_conn_age, ONE_CONNECTION),
            ("poolTimeout", &self.pool_timeout, ONE_CONNECTION),
            ("idleTimeout", &self.idle_timeout, ONE_CONNECTION),
            ("idleCheckFrequency", &self.idle_check_frequency, ONE_CONNECTION),
            (
                "queryIndexes",
                &self.query_indexes,
                "queries on Redis are refused",
            ),
        ] {
            if !value.is_empty() {
                log.warn(format_args!("redis: metadata {name} has no effect: {why}"));
            }
        }
        if self.kind()? == Kind::Cluster && self.redis_db.unwrap_or(0) != 0 {
            log.warn("redis: metadata redisDB has no effect: a cluster has one database");
        }
        Ok(())
    }

    /// # Errors
    /// `Invalid` for a type that nobody knows.
    pub(crate) fn kind(&self) -> Result<Kind> {
        match self.redis_type.as_str() {
            // COMPAT(components-contrib common/component/redis): failover outweighs the type.
            "" | "node" | "cluster" if self.failover => Ok(Kind::Sentinel),
            "" | "node" => Ok(Kind::Server),
            "cluster" => Ok(Kind::Cluster),
            other => Err(Error::invalid(format!(
                "metadata redisType must be node or cluster, not {other:?}"
            ))),
        }
    }

    /// The server, or those through which the cluster or the master is found; at least one.
    ///
    /// # Errors
    /// `Invalid` if there is no host, more than one where one is wanted, or two ports.
    pub(crate) fn addresses(&self) -> Result<Vec<Address>> {
        let hosts: Vec<&str> = self
            .redis_host
            .split(',')
            .map(str::trim)
            .filter(|host| !host.is_empty())
            .collect();
        if hosts.is_empty() {
            return Err(Error::invalid("metadata \"redisHost\" is missing"));
        }
        if hosts.len() > 1 && self.kind()? == Kind::Server {
            return Err(Error::invalid(format!(
                "metadata redisHost names several hosts ({}): they need redisType cluster, or failover",
                self.redis_host
            )));
        }
        hosts.into_iter().map(|host| self.address(host)).collect()
    }

    fn address(&self, host: &str) -> Result<Address> {
        let named = self.redis_port.filter(|port| *port != 0);
        // A bare IPv6 address has colons and no port.
        let split = match host.rsplit_once(':') {
            Some((name, port)) if !name.contains(':') || name.ends_with(']') => Some((name, port)),
            _ => None,
        };
        let Some((name, port)) = split else {
            return Ok(Address::new(host, named.unwrap_or(DEFAULT_PORT)));
        };
        let port: u16 = port.parse().map_err(|_| {
            Error::invalid(format!(
                "metadata redisHost has no port but {port:?} after the colon"
            ))
        })?;
        match named {
            Some(other) if other != port => Err(Error::invalid(format!(
                "redis host {host:?} already contains port {port}, but redisPort is set to {other}; either remove the \
                 port from redisHost or remove the redisPort setting"
            ))),
            _ => Ok(Address::new(name, port)),
        }
    }

    /// `None` without `enableTLS`.
    ///
    /// # Errors
    /// `Invalid` for certificates and keys that cannot be used, by name.
    pub(crate) fn tls(&self) -> Result<Option<tls::Config>> {
        if !self.enable_tls {
            return Ok(None);
        }
        let certificates = tls::Texts {
            authority: &self.ca_cert,
            certificate: &self.client_cert,
            key: &self.client_key.0,
        };
        let trust = if self.insecure_skip_tls_verify {
            tls::Trust::Anybody
        } else {
            certificates.trust()
        };
        certificates
            .client(trust)
            .map(Some)
            .map_err(|error| Error::caused(error::Kind::Invalid, "metadata for TLS to Redis", error))
    }

    /// The shortest pause between attempts.
    pub(crate) fn shortest_pause(&self, default: Duration) -> Duration {
        let default = self.max_retry_backoff.map_or(default, Duration::from_nanos);
        self.redis_min_retry_interval.or(default).unwrap_or_default()
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
