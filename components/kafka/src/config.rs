//! What users write under `metadata`, and what it means once it is checked.
//!
//! COMPAT(components-contrib common/component/kafka/metadata.go): names, defaults and the texts of what is refused.

#[cfg(test)]
mod tests;

use crate::avro::Json;
use crate::consumer::assign::Strategy;
use crate::dial::{Login, Mechanism};
use crate::oauth::assertion::Assertion;
use crate::oauth::{self, Proof};
use crate::registry;
use crate::values;
use crate::wire::compress::Compression;
use crate::wire::data::End;
use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::metadata::{self, Hidden};
use outrigger_daemon::log::Log;
use outrigger_daemon::tls::{self, Identity, Pem, Trust};
use regex::Regex;
use serde::de::value::{Error as Fault, StrDeserializer};
use serde::{Deserialize, Deserializer, de};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

const CLIENT_ID: &str = "sarama";
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3);
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);
/// Below the nine minutes after which brokers close idle connections.
const REFRESH_INTERVAL: Duration = Duration::from_mins(8);
const NET_TIMEOUT: Duration = Duration::from_secs(30);
const BUFFER: usize = 256;
const FETCH_MIN: i32 = 1;
const FETCH_DEFAULT: i32 = 1 << 20;
const MESSAGE_BYTES: usize = 1 << 20;
/// How long the newest schema of a subject counts as the newest.
const LATEST_SCHEMA: Duration = Duration::from_mins(5);
const PRODUCER_RETRIES: u32 = 5;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Config {
    brokers: String,
    pub consumer_group: String,
    #[serde(rename = "consumerID")]
    pub consumer_id: String,
    #[serde(rename = "clientID")]
    client_id: String,
    auth_type: String,
    auth_required: String,
    sasl_username: String,
    sasl_password: Hidden,
    sasl_mechanism: String,
    initial_offset: String,
    max_message_bytes: Option<usize>,
    oidc_token_endpoint: String,
    #[serde(rename = "oidcClientID")]
    oidc_client_id: String,
    oidc_client_secret: Hidden,
    oidc_client_assertion_cert: String,
    oidc_client_assertion_key: Hidden,
    oidc_resource: String,
    oidc_audience: String,
    oidc_kid: String,
    oidc_scopes: String,
    oidc_extensions: String,
    disable_tls: bool,
    skip_verify: bool,
    ca_cert: String,
    client_cert: String,
    client_key: Hidden,
    consume_retry_enabled: Option<bool>,
    consume_retry_interval: Milliseconds,
    heartbeat_interval: Span,
    session_timeout: Span,
    version: String,
    escape_headers: bool,
    client_connection_topic_metadata_refresh_interval: Span,
    client_connection_keep_alive_interval: Span,
    dial_timeout: Span,
    read_timeout: Span,
    write_timeout: Span,
    metadata_timeout: Span,
    channel_buffer_size: Option<usize>,
    consumer_fetch_min: Option<i32>,
    consumer_fetch_default: Option<i32>,
    consumer_group_rebalance_strategy: String,
    compression: String,
    producer_required_acks: String,
    producer_retry_max: Option<i64>,
    #[serde(rename = "schemaRegistryURL")]
    schema_registry_url: String,
    #[serde(rename = "schemaRegistryAPIKey")]
    schema_registry_api_key: String,
    #[serde(rename = "schemaRegistryAPISecret")]
    schema_registry_api_secret: Hidden,
    schema_caching_enabled: Option<bool>,
    #[serde(rename = "schemaLatestVersionCacheTTL")]
    schema_latest_version_cache_ttl: Span,
    #[serde(rename = "useAvroJSON")]
    use_avro_json: bool,
    exclude_header_meta_regex: String,

    /// Binding only: where events are published.
    pub publish_topic: String,
    /// Binding only: what is read, with commas between.
    pub topics: String,
}

/// What holds for a component.
#[derive(Debug)]
pub(crate) struct Settings {
    pub brokers: Vec<String>,
    pub client_id: String,
    pub tls: Option<tls::Config>,
    pub login: Login,
    pub group: String,
    pub initial: End,
    pub retry_refused: bool,
    pub retry_interval: Duration,
    pub heartbeat_interval: Duration,
    pub session_timeout: Duration,
    pub refresh_interval: Duration,
    pub keep_alive: Option<Duration>,
    pub dial_timeout: Duration,
    pub read_timeout: Duration,
    pub write_timeout: Duration,
    pub metadata_timeout: Option<Duration>,
    /// Messages of a partition that wait to be handed out.
    pub buffer: usize,
    pub fetch_min: i32,
    pub fetch_default: i32,
    pub strategy: Strategy,
    pub compression: Compression,
    /// -1 all, 1 the leader, 0 none.
    pub acks: i16,
    pub retries: u32,
    pub max_message_bytes: usize,
    pub escape_headers: bool,
    pub exclude: Option<Regex>,
    pub values: values::Settings,
}

impl Config {
    /// Checks everything that can be checked without a broker. `retry_refused` is what holds unless metadata says
    /// otherwise; `app_id` is the group if there is no other.
    ///
    /// # Errors
    /// `Invalid` or `Unsupported`, naming the metadata.
    pub(crate) fn check(&self, app_id: &str, retry_refused: bool, log: &Log) -> Result<Settings> {
        if self.brokers.is_empty() {
            return Err(Error::invalid("kafka error: missing 'brokers' attribute"));
        }
        let brokers = self
            .brokers
            .split(',')
            .map(|broker| with_port(broker.trim()))
            .collect();
        let auth = self.auth(log)?;
        let tls = self.tls(&auth)?;
        let login = self.login(&auth, log)?;
        self.check_version(log)?;
        let named = |value: &str, default: &str| if value.is_empty() { default } else { value }.to_owned();
        let group = named(&self.consumer_group, &named(&self.consumer_id, app_id));
        let exclude = Some(self.exclude_header_meta_regex.as_str()).filter(|regex| !regex.is_empty());
        let exclude = exclude.map(Regex::new).transpose().map_err(|error| {
            Error::caused(
                Kind::Invalid,
                "metadata excludeHeaderMetaRegex is no regular expression",
                error,
            )
        })?;
        Ok(Settings {
            brokers,
            client_id: named(&self.client_id, CLIENT_ID),
            tls,
            login,
            group,
            initial: initial(&self.initial_offset)?,
            retry_refused: self.consume_retry_enabled.unwrap_or(retry_refused),
            retry_interval: self.consume_retry_interval.0.unwrap_or(RETRY_INTERVAL),
            heartbeat_interval: self.heartbeat_interval.or(HEARTBEAT_INTERVAL),
            session_timeout: self.session_timeout.or(SESSION_TIMEOUT),
            refresh_interval: self
                .client_connection_topic_metadata_refresh_interval
                .or(REFRESH_INTERVAL),
            keep_alive: self.client_connection_keep_alive_interval.0,
            dial_timeout: self.dial_timeout.or(NET_TIMEOUT),
            read_timeout: self.read_timeout.or(NET_TIMEOUT),
            write_timeout: self.write_timeout.or(NET_TIMEOUT),
            metadata_timeout: self.metadata_timeout.0,
            buffer: self.channel_buffer_size.unwrap_or(BUFFER).max(1),
            fetch_min: self.consumer_fetch_min.unwrap_or(FETCH_MIN).max(1),
            fetch_default: self.consumer_fetch_default.unwrap_or(FETCH_DEFAULT).max(1),
            strategy: self.strategy(log),
            compression: Compression::named(&named(&self.compression, "none")).ok_or_else(|| {
                Error::invalid(format!("kafka error: invalid compression: {}", self.compression))
            })?,
            acks: acks(&self.producer_required_acks, log)?,
            retries: retries(self.producer_retry_max)?,
            max_message_bytes: self
                .max_message_bytes
                .filter(|bytes| *bytes > 0)
                .unwrap_or(MESSAGE_BYTES),
            escape_headers: self.escape_headers,
            exclude,
            values: values::Settings {
                registry: self.registry()?,
                json: if self.use_avro_json {
                    Json::Avro
                } else {
                    Json::Plain
                },
            },
        })
    }

    fn registry(&self) -> Result<Option<registry::Settings>> {
        let url = self.schema_registry_url.trim_end_matches('/');
        if url.is_empty() {
            return Ok(None);
        }
        let wrong = |what| Error::invalid(format!("kafka error: metadata schemaRegistryURL {what}"));
        let uri: http::Uri = url.parse().map_err(|_| wrong("is no URL"))?;
        let trust = match uri.scheme_str() {
            Some("http") => Trust::Nobody,
            Some("https") if self.ca_cert.is_empty() => Trust::System,
            Some("https") => Trust::SystemAnd(ca(&self.ca_cert)),
            _ => return Err(wrong("must begin with http:// or https://")),
        };
        if uri
            .authority()
            .is_none_or(|authority| authority.as_str().contains('@'))
            || uri.query().is_some()
        {
            return Err(wrong(
                "must be a host and a path: who we are belongs into schemaRegistryAPIKey and schemaRegistryAPISecret",
            ));
        }
        let tls = tls::client(&tls::Client {
            trust,
            identity: None,
            protocols: &[],
        });
        let key = Some(self.schema_registry_api_key.clone()).filter(|key| !key.is_empty());
        Ok(Some(registry::Settings {
            url: url.to_owned(),
            login: key.map(|key| (key, self.schema_registry_api_secret.clone())),
            caching: self.schema_caching_enabled.unwrap_or(true),
            latest_lasts: self.schema_latest_version_cache_ttl.or(LATEST_SCHEMA),
            tls: tls.map_err(|error| Error::caused(Kind::Invalid, "kafka error: schema registry", error))?,
        }))
    }

    /// The kind of authentication, in lower case.
    fn auth(&self, log: &Log) -> Result<String> {
        if self.auth_type.is_empty() && !self.auth_required.is_empty() {
            log.warn("kafka: metadata authRequired is deprecated, use authType instead");
            return match self.auth_required.as_str() {
                "1" | "t" | "T" | "true" | "TRUE" | "True" if self.sasl_password.0.is_empty() => {
                    Ok("mtls".to_owned())
                }
                "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok("password".to_owned()),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok("none".to_owned()),
                _ => Err(Error::invalid(
                    "kafka error: invalid value for 'authRequired' attribute",
                )),
            };
        }
        if self.auth_type.is_empty() {
            return Err(Error::invalid(
                "kafka error: 'authType' attribute was missing or empty",
            ));
        }
        Ok(self.auth_type.to_ascii_lowercase())
    }

    fn login(&self, auth: &str, log: &Log) -> Result<Login> {
        let needed = |value: &str, what: &str| {
            if value.is_empty() {
                return Err(Error::invalid(format!(
                    "kafka error: missing {what} for authType '{auth}'"
                )));
            }
            Ok(())
        };
        match auth {
            "none" | "mtls" | "certificate" => Ok(Login::None),
            "password" => {
                needed(&self.sasl_username, "SASL Username")?;
                needed(&self.sasl_password.0, "SASL Password")?;
                let mechanism = match self.sasl_mechanism.as_str() {
                    "SHA-256" => Mechanism::Sha256,
                    "SHA-512" => Mechanism::Sha512,
                    _ => Mechanism::Plain,
                };
                Ok(Login::Password {
                    mechanism,
                    user: self.sasl_username.clone(),
                    password: self.sasl_password.clone(),
                })
            }
            "oidc" | "oidc_private_key_jwt" => {
                needed(&self.oidc_token_endpoint, "OIDC Token Endpoint")?;
                needed(&self.oidc_client_id, "OIDC Client ID")?;
                let proof = if auth == "oidc" {
                    needed(&self.oidc_client_secret.0, "OIDC Client Secret")?;
                    Proof::Secret(self.oidc_client_secret.clone())
                } else {
                    needed(&self.oidc_client_assertion_cert, "OIDC Client Assertion Cert")?;
                    needed(&self.oidc_client_assertion_key.0, "OIDC Client Assertion Key")?;
                    Proof::Assertion(self.assertion()?)
                };
                if self.oidc_scopes.is_empty() {
                    log.warn(
                        "kafka: no oidcScopes are set, the scope is \"openid\" only: a token can be used elsewhere, too",
                    );
                }
                let scopes = match self.oidc_scopes.as_str() {
                    "" => "openid".to_owned(),
                    scopes => scopes.replace(',', " "),
                };
                Ok(Login::Token(Box::new(oauth::Settings {
                    endpoint: self.oidc_token_endpoint.clone(),
                    client_id: self.oidc_client_id.clone(),
                    proof,
                    scopes,
                    extensions: extensions(&self.oidc_extensions, auth)?,
                    tls: self.client_tls(None, Trust::SystemAnd(ca(&self.ca_cert)))?,
                })))
            }
            "awsiam" => Err(missing(
                "metadata authType awsiam: AWS IAM authentication to Kafka",
            )),
            _ => Err(Error::invalid(
                "kafka error: invalid value for 'authType' attribute",
            )),
        }
    }

    fn assertion(&self) -> Result<Assertion> {
        let mut assertion = Assertion::new(&self.oidc_client_assertion_key.0).map_err(|cause| {
            Error::invalid(format!("kafka error: metadata oidcClientAssertionKey {cause}"))
        })?;
        assertion.kid.clone_from(&self.oidc_kid);
        assertion.audience.clone_from(&self.oidc_audience);
        assertion.resource.clone_from(&self.oidc_resource);
        Ok(assertion)
    }

    fn tls(&self, auth: &str) -> Result<Option<tls::Config>> {
        if !self.ca_cert.is_empty() && !self.ca_cert.contains("-----BEGIN") {
            return Err(Error::invalid("kafka error: invalid ca certificate"));
        }
        if auth == "certificate" && self.ca_cert.is_empty() {
            return Err(Error::invalid(
                "missing CA certificate property 'caCert' for authType 'certificate'",
            ));
        }
        let mut identity = None;
        if auth == "mtls" {
            for (text, what) in [(&self.client_cert, "certificate"), (&self.client_key.0, "key")] {
                if !text.is_empty() && !text.contains("-----BEGIN") {
                    return Err(Error::invalid(format!("kafka error: invalid client {what}")));
                }
            }
            if self.client_cert.is_empty() != self.client_key.0.is_empty() {
                return Err(Error::invalid("kafka error: clientKey or clientCert is missing"));
            }
            if self.disable_tls {
                return Err(Error::invalid(
                    "kafka: cannot configure mTLS authentication when disableTls is 'true'",
                ));
            }
            if self.client_cert.is_empty() {
                return Err(Error::invalid(
                    "kafka: authType mtls needs clientCert and clientKey",
                ));
            }
            identity = Some(Identity {
                certificate: Pem {
                    field: "clientCert",
                    text: &self.client_cert,
                },
                key: Pem {
                    field: "clientKey",
                    text: &self.client_key.0,
                },
            });
        }
        if self.disable_tls || auth == "none" {
            return Ok(None);
        }
        self.client_tls(identity, Trust::Only(ca(&self.ca_cert)))
            .map(Some)
    }

    /// `trust` is what holds with a certificate of our own authority.
    fn client_tls(&self, identity: Option<Identity<'_>>, trust: Trust<'_>) -> Result<tls::Config> {
        let trust = match trust {
            _ if self.skip_verify => Trust::Anybody,
            _ if self.ca_cert.is_empty() => Trust::System,
            trust => trust,
        };
        let settings = tls::Client {
            trust,
            identity,
            protocols: &[],
        };
        tls::client(&settings).map_err(|error| Error::caused(Kind::Invalid, "kafka error", error))
    }

    /// COMPAT(IBM/sarama utils.go ParseKafkaVersion): four numbers, or three from version 1 on.
    fn check_version(&self, log: &Log) -> Result<()> {
        if self.version.is_empty() {
            return Ok(());
        }
        let numbers: Option<Vec<u32>> = self.version.split('.').map(|part| part.parse().ok()).collect();
        let old = match numbers.as_deref() {
            Some([0, _, _, _]) => true,
            Some([major, minor, _]) if *major > 0 => (*major, *minor) < (2, 1),
            _ => return Err(Error::invalid("kafka error: invalid kafka version")),
        };
        // 2.0.0 is the reference's default, often written out.
        if old && self.version != "2.0.0" {
            log.warn(format_args!(
                "kafka: metadata version is {}, but requests are those of Kafka 2.1, which all brokers since know",
                self.version
            ));
        }
        Ok(())
    }

    /// COMPAT(components-contrib common/component/kafka/kafka.go): what is not known counts as `range`.
    /// `cooperative-sticky` is ours.
    fn strategy(&self, log: &Log) -> Strategy {
        let name = self.consumer_group_rebalance_strategy.to_ascii_lowercase();
        match name.as_str() {
            "" => Strategy::Range,
            name => Strategy::named(name).unwrap_or_else(|| {
                log.warn(format_args!(
                    "kafka: metadata consumerGroupRebalanceStrategy {name:?} is not known (range, roundrobin, sticky, \
                     cooperative-sticky); it is taken as range"
                ));
                Strategy::Range
            }),
        }
    }
}

fn missing(what: &str) -> Error {
    Error::new(
        Kind::Unsupported,
        format!("{what} is not available in this version of Outrigger"),
    )
}

fn ca(text: &str) -> Pem<'_> {
    Pem {
        field: "caCert",
        text,
    }
}

fn with_port(broker: &str) -> String {
    let has_port = broker.rsplit_once(':').is_some_and(|(host, port)| {
        port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']'))
    });
    if has_port {
        broker.to_owned()
    } else {
        format!("{broker}:9092")
    }
}

fn initial(text: &str) -> Result<End> {
    match text.to_ascii_lowercase().as_str() {
        "" | "newest" => Ok(End::Newest),
        "oldest" => Ok(End::Oldest),
        _ => Err(Error::invalid(format!(
            "kafka error: invalid initialOffset: {text}"
        ))),
    }
}

fn acks(text: &str, log: &Log) -> Result<i16> {
    match text.to_ascii_lowercase().as_str() {
        "" | "all" => Ok(-1),
        "local" => Ok(1),
        "none" => {
            log.warn("kafka: producerRequiredAcks is none: messages may be lost, and nobody learns of it");
            Ok(0)
        }
        _ => Err(Error::invalid(format!(
            "kafka error: invalid value for 'producerRequiredAcks': {text:?} (must be \"all\", \"local\", or \"none\")"
        ))),
    }
}

fn retries(configured: Option<i64>) -> Result<u32> {
    let Some(retries) = configured else {
        return Ok(PRODUCER_RETRIES);
    };
    u32::try_from(retries).map_err(|_| {
        Error::invalid(format!(
            "kafka error: invalid value for 'producerRetryMax': {retries} (must be >= 0)"
        ))
    })
}

fn extensions(text: &str, auth: &str) -> Result<BTreeMap<String, String>> {
    if text.is_empty() {
        return Ok(BTreeMap::new());
    }
    serde_json::from_str(text)
        .ok()
        .filter(|extensions: &BTreeMap<_, _>| !extensions.is_empty())
        .ok_or_else(|| {
            Error::invalid(format!(
                "kafka error: improper OIDC Extensions format for authType '{auth}'"
            ))
        })
}

/// A duration whose bare numbers are seconds; what is empty, zero or below is left to us.
#[derive(Debug, Clone, Copy, Default)]
struct Span(Option<Duration>);

/// A duration whose bare numbers are milliseconds.
#[derive(Debug, Clone, Copy, Default)]
struct Milliseconds(Option<Duration>);

impl Span {
    fn or(self, default: Duration) -> Duration {
        self.0.unwrap_or(default)
    }
}

/// Reads within the value's own deserializer, which names the metadata if the text is wrong.
struct Text<T>(fn(&str) -> Result<T, Fault>);

impl<T> de::Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text.trim()).map_err(E::custom)
    }
}

impl Span {
    fn read(text: &str) -> Result<Self, Fault> {
        if text.is_empty() || text.starts_with('-') {
            return Ok(Self(None));
        }
        let span = metadata::duration(StrDeserializer::new(text))?;
        Ok(Self(Some(span).filter(|span| !span.is_zero())))
    }
}

impl Milliseconds {
    fn read(text: &str) -> Result<Self, Fault> {
        match text.parse() {
            Ok(milliseconds) => Ok(Self(Some(Duration::from_millis(milliseconds)))),
            Err(_) => Span::read(text).map(|Span(span)| Self(span)),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(Text(Self::read))
    }
}

impl<'de> Deserialize<'de> for Milliseconds {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(Text(Self::read))
    }
}
