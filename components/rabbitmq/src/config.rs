//! What users write under `metadata`.
//!
//! COMPAT(components-contrib pubsub/rabbitmq/metadata.go, bindings/rabbitmq/rabbitmq.go): names and defaults of the code,
//! where they differ from those of the documentation.

#[cfg(test)]
mod tests;

use crate::amqp::connection::{Login, Proof};
use crate::uri::{self, Uri};
use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::metadata::{self, Hidden};
use outrigger_component::options::{NONE, Opt, REQUIRED, opt};
use outrigger_daemon::log::Log;
use outrigger_daemon::tls;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

/// COMPAT(rabbitmq/amqp091-go): how long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
const HEARTBEAT: Duration = Duration::from_secs(10);
const RECONNECT_WAIT: Duration = Duration::from_secs(3);
const BINDING_RECONNECT_WAIT: Duration = Duration::from_secs(5);

pub(crate) const PUBSUB: &[Opt] = &[
    opt(
        "connectionString",
        NONE,
        "`amqp://user:password@host:port/vhost`, or `amqps://` for TLS; `guest:guest@localhost`, the usual port and the virtual host `/` where left out",
    )
    .or(&["host"]),
    opt("protocol", "amqp", "`amqp` or `amqps`, with `hostname`"),
    opt(
        "hostname",
        "localhost",
        "host, or `host:port`, instead of a connection string",
    ),
    opt("username", "guest", "user, with `hostname`"),
    opt("password", "guest", "password, with `hostname`"),
    opt("durable", "true", "exchanges and queues survive a restart of the broker"),
    opt(
        "deletedWhenUnused",
        "true",
        "the broker deletes exchanges and queues, and what is in them, when the last subscriber leaves",
    ),
    opt(
        "deliveryMode",
        "0",
        "2 keeps messages on disk; 0 and 1 lose them when the broker restarts",
    ),
    opt(
        "publisherConfirm",
        "false",
        "publishing waits until the broker has taken responsibility for the message",
    ),
    opt(
        "exchangeKind",
        "fanout",
        "kind of the exchanges: `fanout`, `topic`, `direct` or `headers`",
    ),
    opt(
        "autoAck",
        "false",
        "messages count as handled when they are sent: what fails, or is under way when a side dies, is lost",
    ),
    opt(
        "requeueInFailure",
        NONE,
        "what becomes of a message that the app refuses: `true` delivers it again, `false` sends it to the dead-letter queue or drops it; without it, `false` with `enableDeadLetter` and `true` otherwise",
    ),
    opt(
        "enableDeadLetter",
        "false",
        "declares an exchange `dlx-QUEUE` and a queue `dlq-QUEUE` for refused messages",
    ),
    opt(
        "prefetchCount",
        "0",
        "messages that the broker sends before any is acknowledged, 1 to 255; 0 leaves it to Outrigger (512)",
    ),
    opt(
        "concurrencyMode",
        "parallel",
        "`single` hands messages to the app one after the other and in order, `parallel` as many as were sent",
    )
    .or(&["concurrency"]),
    opt("reconnectWaitSeconds", "3", "longest pause between attempts to connect"),
    opt("heartBeat", "10s", "how often both sides say that they are still there"),
    opt("maxLen", NONE, "most messages in a queue and in its dead-letter queue"),
    opt("maxLenBytes", NONE, "most bytes in a queue and in its dead-letter queue"),
    opt(
        "ttlInSeconds",
        NONE,
        "time to live of messages that have none of their own, in seconds or as `1m30s`",
    )
    .or(&["ttl"]),
    opt("clientName", NONE, "what the broker calls our connections"),
    opt(
        "saslExternal",
        "false",
        "logs in by the client certificate; needs `caCert`, `clientCert` and `clientKey`",
    ),
    opt(
        "publishMessagePropertiesToMetadata",
        "false",
        "properties and headers of a message reach the app as `metadata.NAME`",
    ),
];

pub(crate) const TLS: &[Opt] = &[
    opt(
        "caCert",
        "the machine's",
        "certificate authority of the broker, in PEM form; with `amqps`",
    ),
    opt("clientCert", NONE, "our certificate, in PEM form"),
    opt("clientKey", NONE, "its private key, in PEM form"),
];

pub(crate) const BINDING: &[Opt] = &[
    opt(
        "host",
        REQUIRED,
        "`amqp://user:password@host:port/vhost`, or `amqps://` for TLS",
    ),
    opt("queueName", REQUIRED, "queue, which is declared"),
    opt("durable", "false", "the queue survives a restart of the broker"),
    opt(
        "deleteWhenUnused",
        "false",
        "the broker deletes the queue, and what is in it, when the last reader leaves",
    ),
    opt(
        "exclusive",
        "false",
        "the queue is for this connection only, and ends with it",
    ),
    opt(
        "ttl",
        NONE,
        "time to live of messages in the queue, in seconds or as `1m30s`",
    )
    .or(&["ttlInSeconds"]),
    opt(
        "maxPriority",
        NONE,
        "makes it a priority queue with priorities up to this, at most 255",
    ),
    opt(
        "prefetchCount",
        "0",
        "messages that the broker sends before any is acknowledged; 0 leaves it to Outrigger (256)",
    ),
    opt(
        "reconnectWaitInSeconds",
        "5",
        "longest pause between attempts to connect",
    ),
    opt(
        "contentType",
        "text/plain",
        "without effect here; write it in the metadata of a request",
    ),
    opt(
        "externalSasl",
        "false",
        "logs in by the client certificate; needs `caCert`, `clientCert` and `clientKey`",
    )
    .or(&["saslExternal"]),
];

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PubSub {
    #[serde(rename = "consumerID")]
    pub consumer_id: String,
    connection_string: Hidden,
    host: Hidden,
    protocol: String,
    hostname: String,
    username: String,
    password: Hidden,
    durable: Option<bool>,
    deleted_when_unused: Option<bool>,
    pub delivery_mode: u8,
    pub publisher_confirm: bool,
    exchange_kind: String,
    pub auto_ack: bool,
    requeue_in_failure: Option<bool>,
    pub enable_dead_letter: bool,
    pub prefetch_count: u8,
    concurrency_mode: String,
    concurrency: String,
    #[serde(deserialize_with = "metadata::duration_opt")]
    reconnect_wait_seconds: Option<Duration>,
    #[serde(deserialize_with = "metadata::duration_opt")]
    heart_beat: Option<Duration>,
    pub max_len: Option<i64>,
    pub max_len_bytes: Option<i64>,
    #[serde(deserialize_with = "metadata::duration_opt")]
    ttl: Option<Duration>,
    #[serde(deserialize_with = "metadata::duration_opt")]
    ttl_in_seconds: Option<Duration>,
    client_name: String,
    sasl_external: bool,
    pub publish_message_properties_to_metadata: bool,
    ca_cert: String,
    client_cert: String,
    client_key: Hidden,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Binding {
    host: Hidden,
    queue_name: String,
    pub durable: bool,
    pub delete_when_unused: bool,
    pub exclusive: bool,
    #[serde(deserialize_with = "metadata::duration_opt")]
    ttl: Option<Duration>,
    #[serde(deserialize_with = "metadata::duration_opt")]
    ttl_in_seconds: Option<Duration>,
    pub max_priority: Option<u64>,
    pub prefetch_count: u16,
    #[serde(deserialize_with = "metadata::duration_opt")]
    reconnect_wait_in_seconds: Option<Duration>,
    external_sasl: bool,
    sasl_external: bool,
    ca_cert: String,
    client_cert: String,
    client_key: Hidden,
}

/// How to get a connection.
#[derive(Debug)]
pub(crate) struct Access {
    pub uri: Uri,
    pub login: Login,
    /// Only for `amqps`.
    pub tls: Option<Arc<tls::Config>>,
    /// Time for one connection.
    pub timeout: Duration,
    /// Longest pause between attempts.
    pub reconnect_wait: Duration,
}

/// How messages are handed to the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Concurrency {
    Single,
    Parallel,
}

impl PubSub {
    /// # Errors
    /// `Invalid`, in the reference's words where it has some.
    pub(crate) fn access(&self, log: &Log) -> Result<Access> {
        let (name, text) = match (&self.connection_string.0, &self.host.0) {
            (text, host) if text.is_empty() && !host.is_empty() => {
                log.warn(
                    "rabbitmq pub/sub: metadata host is deprecated: use connectionString, or protocol, hostname, username and \
                     password",
                );
                ("host", host)
            }
            (text, _) => ("connectionString", text),
        };
        let uri = if text.is_empty() {
            self.uri_of_parts()?
        } else {
            let uri = Uri::parse(text).map_err(|error| {
                invalid(format!(
                    "invalid connection string in metadata {name}: {}",
                    error.message
                ))
            })?;
            let matches = match self.protocol.as_str() {
                "" => true,
                protocol => uri::scheme_is_secure(protocol).is_ok_and(|secure| secure == uri.secure),
            };
            if !matches {
                return Err(invalid(format!(
                    "protocol does not match connection string, protocol: {}",
                    self.protocol
                )));
            }
            uri
        };
        if self.delivery_mode > 2 {
            return Err(invalid(
                "invalid RabbitMQ delivery mode, accepted values are between 0 and 2",
            ));
        }
        if !["fanout", "topic", "direct", "headers"].contains(&self.exchange_kind()) {
            return Err(invalid(format!(
                "invalid RabbitMQ exchange kind {}",
                self.exchange_kind
            )));
        }
        let certificates = tls::Texts {
            authority: &self.ca_cert,
            certificate: &self.client_cert,
            key: &self.client_key.0,
        };
        let tls = secured(certificates, uri.secure, log)?;
        if self.sasl_external && !certificates.all() {
            return Err(Error::invalid(
                "saslExternal can only be set to true, when all these properties are set: caCert, clientCert, clientKey",
            ));
        }
        let login = Login {
            vhost: uri.vhost.clone(),
            // COMPAT: without TLS, the password it is.
            proof: proof(&uri, self.sasl_external && uri.secure),
            name: (!self.client_name.is_empty()).then(|| self.client_name.clone()),
            heartbeat: uri.heartbeat.or(self.heart_beat).unwrap_or(HEARTBEAT),
        };
        Ok(Access {
            login,
            tls,
            timeout: uri.timeout.unwrap_or(CONNECT_TIMEOUT),
            reconnect_wait: self.reconnect_wait_seconds.unwrap_or(RECONNECT_WAIT),
            uri,
        })
    }

    fn uri_of_parts(&self) -> Result<Uri> {
        let secure = match self.protocol.as_str() {
            "" => false,
            protocol => uri::scheme_is_secure(protocol)
                .map_err(|error| invalid(format!("metadata protocol is {protocol:?}: {}", error.message)))?,
        };
        let mut uri = Uri::of(secure, &self.hostname)
            .map_err(|error| invalid(format!("invalid metadata hostname: {}", error.message)))?;
        // COMPAT: a password without a user counts for nothing.
        if !self.username.is_empty() {
            uri.user.clone_from(&self.username);
            if !self.password.0.is_empty() {
                uri.password.clone_from(&self.password.0);
            }
        }
        Ok(uri)
    }

    /// # Errors
    /// `Invalid` for another word.
    pub(crate) fn concurrency(&self) -> Result<Concurrency> {
        let text = if self.concurrency_mode.is_empty() {
            &self.concurrency
        } else {
            &self.concurrency_mode
        };
        match text.as_str() {
            "" | "parallel" => Ok(Concurrency::Parallel),
            "single" => Ok(Concurrency::Single),
            other => Err(Error::invalid(format!("invalid concurrencyMode {other}"))),
        }
    }

    pub(crate) fn durable(&self) -> bool {
        self.durable.unwrap_or(true)
    }

    pub(crate) fn deleted_when_unused(&self) -> bool {
        self.deleted_when_unused.unwrap_or(true)
    }

    pub(crate) fn exchange_kind(&self) -> &str {
        if self.exchange_kind.is_empty() {
            "fanout"
        } else {
            &self.exchange_kind
        }
    }

    /// What becomes of refused messages. Unlike in the reference, they are not dropped unless somebody says so.
    pub(crate) fn requeues(&self) -> bool {
        self.requeue_in_failure.unwrap_or(!self.enable_dead_letter)
    }

    /// Of messages without one of their own.
    pub(crate) fn time_to_live(&self) -> Option<Duration> {
        self.ttl.or(self.ttl_in_seconds)
    }
}

impl Binding {
    /// # Errors
    /// `Invalid`, in the reference's words where it has some.
    pub(crate) fn access(&self, log: &Log) -> Result<Access> {
        if self.host.0.is_empty() {
            return Err(Error::invalid("missing host address: metadata host"));
        }
        let uri = Uri::parse(&self.host.0).map_err(|error| {
            Error::invalid(format!(
                "rabbitmq binding: invalid metadata host: {}",
                error.message
            ))
        })?;
        let certificates = tls::Texts {
            authority: &self.ca_cert,
            certificate: &self.client_cert,
            key: &self.client_key.0,
        };
        let tls = secured(certificates, uri.secure, log)?;
        let external = (self.external_sasl || self.sasl_external) && uri.secure;
        let login = Login {
            vhost: uri.vhost.clone(),
            proof: proof(&uri, external),
            name: None,
            heartbeat: uri.heartbeat.unwrap_or(HEARTBEAT),
        };
        Ok(Access {
            login,
            tls,
            timeout: uri.timeout.unwrap_or(CONNECT_TIMEOUT),
            reconnect_wait: self.reconnect_wait_in_seconds.unwrap_or(BINDING_RECONNECT_WAIT),
            uri,
        })
    }

    /// # Errors
    /// `Invalid` when there is none.
    pub(crate) fn queue_name(&self) -> Result<&str> {
        match self.queue_name.as_str() {
            "" => Err(Error::invalid("missing queue Name: metadata queueName")),
            name => Ok(name),
        }
    }

    /// Of the queue.
    pub(crate) fn time_to_live(&self) -> Option<Duration> {
        self.ttl.or(self.ttl_in_seconds)
    }
}

/// `None` without TLS.
fn secured(certificates: tls::Texts<'_>, secure: bool, log: &Log) -> Result<Option<Arc<tls::Config>>> {
    if !secure {
        if certificates.any() {
            log.warn("rabbitmq: metadata caCert, clientCert and clientKey have no effect without amqps://");
        }
        return Ok(None);
    }
    certificates
        .client(certificates.trust())
        .map(|config| Some(Arc::new(config)))
        .map_err(|error| {
            Error::caused(
                Kind::Invalid,
                "rabbitmq: invalid TLS configuration: metadata",
                error,
            )
        })
}

fn proof(uri: &Uri, external: bool) -> Proof {
    if external {
        Proof::External
    } else {
        Proof::Password {
            user: uri.user.clone(),
            password: uri.password.clone(),
        }
    }
}

fn invalid(message: impl AsRef<str>) -> Error {
    Error::invalid(format!("rabbitmq pub/sub error: {}", message.as_ref()))
}
