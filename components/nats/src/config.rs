//! What users write under `metadata`.
//!
//! COMPAT(components-contrib pubsub/jetstream/metadata.go, state/jetstream): names, defaults and texts. Certificates may be
//! files, as the reference's code wants them, or PEM, as its documentation says.

#[cfg(test)]
mod tests;

use async_nats::ServerAddr;
use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::metadata::{self, Hidden};
use outrigger_component::options::{NONE, Opt, REQUIRED, opt};
use outrigger_daemon::tls;
use percent_encoding::percent_decode_str;
use serde::de::value::{Error as Fault, StrDeserializer};
use serde::{Deserialize, Deserializer, de};
use std::time::Duration;

pub(crate) const CLIENT: &[Opt] = &[
    opt(
        "natsURL",
        REQUIRED,
        "servers, with commas between: `nats://host:4222`, `tls://host:4222`, `nats://user:password@host:4222`, \
         `nats://token@host:4222`",
    ),
    opt(
        "name",
        "dapr.io - pubsub.jetstream",
        "name of the connection at the server",
    ),
    opt("jwt", NONE, "JWT of a user; needs `seedKey`"),
    opt(
        "seedKey",
        NONE,
        "seed (`SU…`) of the user's key, with which the server's challenge is signed",
    ),
    opt("token", NONE, "token, where the server wants one"),
    opt(
        "tls_client_cert",
        NONE,
        "client certificate: PEM, or a file with it",
    ),
    opt(
        "tls_client_key",
        NONE,
        "key of the client certificate: PEM, or a file with it",
    ),
];
pub(crate) const PUBSUB: &[Opt] = &[
    opt(
        "streamName",
        "the one that has the topic among its subjects",
        "stream to subscribe at",
    ),
    opt(
        "durableName",
        NONE,
        "name of a durable consumer, which outlives its subscribers; without it, each subscription has its own consumer, which \
         begins as `deliverPolicy` says",
    ),
    opt(
        "queueGroupName",
        NONE,
        "name of a group: the sidecars of one durable consumer share its messages",
    ),
    opt(
        "deliverPolicy",
        "all",
        "where a new consumer begins: `all`, `last`, `new`, `sequence` or `time`",
    ),
    opt(
        "startSequence",
        NONE,
        "first message of a new consumer, for `deliverPolicy: sequence`",
    ),
    opt(
        "startTime",
        NONE,
        "time of its first message in Unix seconds, for `deliverPolicy: time`",
    ),
    opt(
        "ackPolicy",
        "explicit",
        "`explicit`: each message is acknowledged; `all`: with each, all before it; `none`: none, messages may get lost",
    ),
    opt(
        "ackWait",
        "the server's, 30s",
        "time after which the server delivers again what nobody works on, and after which a refused message comes again",
    ),
    opt(
        "maxDeliver",
        "no limit",
        "how often a message is delivered at most",
    ),
    opt(
        "backOff",
        NONE,
        "instead of `ackWait`, times for the first, second, … delivery, with commas between; needs a larger `maxDeliver`",
    ),
    opt(
        "maxAckPending",
        "the server's, 1000",
        "messages that may be unacknowledged at once",
    ),
    opt(
        "flowControl",
        "false",
        "flow control by the server; needs `heartbeat`",
    ),
    opt(
        "heartbeat",
        NONE,
        "how often an idle server says that it is there; its absence is noticed",
    ),
    opt(
        "rateLimit",
        NONE,
        "most that the server sends, in bits per second",
    ),
    opt("replicas", "the stream's", "replicas of a new consumer"),
    opt(
        "memoryStorage",
        "false",
        "a new consumer keeps its state in memory",
    ),
    opt("domain", NONE, "JetStream domain"),
    opt(
        "apiPrefix",
        NONE,
        "subject of JetStream's API instead of `$JS.API`",
    ),
    opt(
        "concurrency",
        "single",
        "`single`: one message at a time, in order; `parallel`: as many as may be unacknowledged",
    )
    .or(&["concurrencyMode"]),
];
pub(crate) const STATE: &[Opt] = &[opt("bucket", REQUIRED, "key-value bucket, which must exist")];

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Config {
    #[serde(rename = "natsURL")]
    nats_url: Hidden,
    name: String,
    pub jwt: Hidden,
    pub seed_key: Hidden,
    token: Hidden,
    #[serde(rename = "tls_client_cert")]
    tls_client_cert: String,
    #[serde(rename = "tls_client_key")]
    tls_client_key: Hidden,

    pub stream_name: String,
    pub durable_name: String,
    pub queue_group_name: String,
    deliver_policy: String,
    pub start_sequence: Option<u64>,
    pub start_time: Option<i64>,
    ack_policy: String,
    #[serde(deserialize_with = "metadata::duration_opt")]
    pub ack_wait: Option<Duration>,
    pub max_deliver: Option<i64>,
    #[serde(deserialize_with = "durations")]
    pub back_off: Vec<Duration>,
    pub max_ack_pending: Option<i64>,
    pub flow_control: bool,
    #[serde(deserialize_with = "metadata::duration_opt")]
    pub heartbeat: Option<Duration>,
    pub rate_limit: Option<u64>,
    pub replicas: Option<u32>,
    pub memory_storage: bool,
    domain: String,
    api_prefix: String,
    concurrency: String,
    concurrency_mode: String,

    pub bucket: String,
}

/// Where a new consumer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    All,
    Last,
    New,
    Sequence,
    Time,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acks {
    Explicit,
    All,
    None,
}

/// How many messages are with the app at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Concurrency {
    Single,
    Parallel,
}

/// Servers, and how one logs in with a secret.
pub(crate) struct Servers {
    pub addresses: Vec<ServerAddr>,
    pub secret: Option<Secret>,
}

pub(crate) enum Secret {
    Password(String, String),
    Token(String),
}

impl Config {
    /// What both components want of their settings.
    ///
    /// # Errors
    /// `Invalid`, in the reference's words.
    pub(crate) fn check(&self) -> Result<()> {
        let halves = [
            (&self.jwt.0, &self.seed_key.0, "missing seed key"),
            (&self.seed_key.0, &self.jwt.0, "missing jwt"),
            (
                &self.tls_client_cert,
                &self.tls_client_key.0,
                "missing tls client key",
            ),
            (
                &self.tls_client_key.0,
                &self.tls_client_cert,
                "missing tls client cert",
            ),
        ];
        if self.nats_url.0.is_empty() {
            return Err(Error::invalid("missing nats URL"));
        }
        for (given, other, message) in halves {
            if !given.is_empty() && other.is_empty() {
                return Err(Error::invalid(message));
            }
        }
        Ok(())
    }

    /// The name of the connection.
    pub(crate) fn name(&self, default: &str) -> String {
        if self.name.is_empty() { default } else { &self.name }.to_owned()
    }

    /// # Errors
    /// `Invalid` for what is no URL of a server; passwords in it are not repeated.
    pub(crate) fn servers(&self) -> Result<Servers> {
        let mut secret = (!self.token.0.is_empty()).then(|| Secret::Token(self.token.0.clone()));
        let mut addresses = Vec::new();
        for text in self.nats_url.0.split(',').map(str::trim) {
            let (scheme, rest) = text.split_once("://").unwrap_or(("nats", text));
            if !matches!(scheme, "nats" | "tls") {
                return Err(Error::invalid(format!(
                    "metadata natsURL: {scheme}:// is not available: write nats:// or tls://"
                )));
            }
            let (user, host) = rest
                .rsplit_once('@')
                .map_or((None, rest), |(user, host)| (Some(user), host));
            let address: ServerAddr = format!("{scheme}://{host}").parse().map_err(|_| {
                Error::invalid(format!("metadata natsURL: {host:?} is no address of a server"))
            })?;
            if address.host().is_empty() {
                return Err(Error::invalid("metadata natsURL has no host"));
            }
            addresses.push(address);
            if let (None, Some(user)) = (&secret, user) {
                let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
                secret = Some(match user.split_once(':') {
                    Some((user, password)) => Secret::Password(plain(user), plain(password)),
                    None => Secret::Token(plain(user)),
                });
            }
        }
        Ok(Servers { addresses, secret })
    }

    /// For servers that want TLS, whether we said so or not.
    ///
    /// # Errors
    /// `Invalid` for certificates that cannot be read or are none.
    pub(crate) async fn tls(&self) -> Result<tls::Config> {
        let certificate = pem("tls_client_cert", &self.tls_client_cert).await?;
        let key = pem("tls_client_key", &self.tls_client_key.0).await?;
        let given = |text: &str| !text.is_empty();
        let identity = (given(&certificate) && given(&key)).then_some(tls::Identity {
            certificate: tls::Pem {
                field: "tls_client_cert",
                text: &certificate,
            },
            key: tls::Pem {
                field: "tls_client_key",
                text: &key,
            },
        });
        let settings = tls::Client {
            trust: tls::Trust::System,
            identity,
            protocols: &[],
        };
        match tls::client(&settings) {
            // It will be said when a server wants TLS.
            Err(tls::Error::System(_)) if identity.is_none() => tls::client(&tls::Client {
                trust: tls::Trust::Nobody,
                ..settings
            }),
            result => result,
        }
        .map_err(|error| Error::caused(Kind::Invalid, "jetstream: TLS", error))
    }

    /// What requests to JetStream's API begin with, the last dot included.
    pub(crate) fn api(&self) -> String {
        if !self.api_prefix.is_empty() {
            format!("{}.", self.api_prefix.trim_end_matches('.'))
        } else if !self.domain.is_empty() {
            format!("$JS.{}.API.", self.domain)
        } else {
            "$JS.API.".to_owned()
        }
    }

    /// # Errors
    /// `Invalid`, naming what there is.
    pub(crate) fn begin(&self) -> Result<Begin> {
        Ok(match self.deliver_policy.as_str() {
            "" | "all" => Begin::All,
            "last" => Begin::Last,
            "new" => Begin::New,
            "sequence" => Begin::Sequence,
            "time" => Begin::Time,
            other => {
                return Err(Error::invalid(format!(
                    "deliver policy {other} is not one of: all, last, new, sequence, time"
                )));
            }
        })
    }

    /// COMPAT(components-contrib pubsub/jetstream): what is not known is `explicit`.
    pub(crate) fn acks(&self) -> Acks {
        match self.ack_policy.as_str() {
            "all" => Acks::All,
            "none" => Acks::None,
            _ => Acks::Explicit,
        }
    }

    /// # Errors
    /// `Invalid` for anything else.
    pub(crate) fn concurrency(&self) -> Result<Concurrency> {
        let text = if self.concurrency_mode.is_empty() {
            &self.concurrency
        } else {
            &self.concurrency_mode
        };
        match text.as_str() {
            "" | "single" => Ok(Concurrency::Single),
            "parallel" => Ok(Concurrency::Parallel),
            other => Err(Error::invalid(format!(
                "invalid concurrencyMode {other}: write single or parallel"
            ))),
        }
    }
}

/// The text itself, or what is in the file that it names.
async fn pem(field: &str, text: &str) -> Result<String> {
    if text.is_empty() || text.contains("-----BEGIN") {
        return Ok(text.to_owned());
    }
    tokio::fs::read_to_string(text).await.map_err(|error| {
        Error::caused(
            Kind::Invalid,
            &format!("metadata {field} is neither PEM nor a file that can be read"),
            error,
        )
    })
}

/// Durations with commas between; brackets around them do no harm.
fn durations<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Duration>, D::Error> {
    let text = String::deserialize(from)?;
    text.trim()
        .trim_start_matches('[')
        .trim_end_matches(']')
        .split(',')
        .map(str::trim)
        .filter(|one| !one.is_empty())
        .map(|one| {
            metadata::duration(StrDeserializer::<Fault>::new(one))
                .map_err(|error| de::Error::custom(format!("metadata \"backOff\": {error}")))
        })
        .collect()
}
