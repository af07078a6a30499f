//! What users write under `metadata`.
//!
//! COMPAT(components-contrib pubsub/mqtt3/metadata.go, bindings/mqtt3/metadata.go): names, defaults of the code, texts.

#[cfg(test)]
mod tests;

use crate::connection::{Broker, KEEP_ALIVE_SECONDS};
use crate::packet::{Hello, Qos};
use crate::url::Url;
use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::metadata::Hidden;
use outrigger_component::options::{NONE, Opt, REQUIRED, opt};
use outrigger_daemon::dial::Dial;
use outrigger_daemon::log::Log;
use outrigger_daemon::tls;
use serde::Deserialize;
use std::sync::Arc;

pub(crate) const CLIENT: &[Opt] = &[
    opt(
        "url",
        REQUIRED,
        "`tcp://user:password@host:1883`, or `ssl://` for TLS; also `mqtt`, and `mqtts`, `tls`, `tcps`",
    ),
    opt(
        "retain",
        "false",
        "the broker keeps the last message of each topic for those who subscribe later",
    ),
    opt(
        "cleanSession",
        "false",
        "the broker forgets subscriptions, and keeps no messages, while the sidecar is away",
    ),
    opt(
        "caCert",
        "the machine's",
        "certificate authority of the broker, in PEM form; with `ssl`",
    ),
    opt("clientCert", NONE, "our certificate, in PEM form"),
    opt("clientKey", NONE, "its private key, in PEM form"),
];

pub(crate) const PUBSUB: &[Opt] = &[opt(
    "qos",
    "1",
    "how hard both sides try: 0 at most once, 1 at least once, 2 exactly once",
)];

pub(crate) const BINDING: &[Opt] = &[
    opt("topic", REQUIRED, "topic; wildcards are for reading only"),
    opt(
        "consumerID",
        REQUIRED,
        "client id; `-producer` and `-consumer` are added",
    ),
    opt(
        "backOffMaxRetries",
        NONE,
        "how often an event that the app did not take is tried again, every 5 s, before it waits for the next connection; for ever unless set",
    ),
    opt("qos", "1", "without effect: it is 1"),
];

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PubSub {
    url: Hidden,
    #[serde(rename = "consumerID")]
    pub consumer_id: String,
    qos: Option<u8>,
    pub retain: bool,
    pub clean_session: bool,
    ca_cert: String,
    client_cert: String,
    client_key: Hidden,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Binding {
    url: Hidden,
    #[serde(rename = "consumerID")]
    consumer_id: String,
    topic: String,
    pub retain: bool,
    pub clean_session: bool,
    back_off_max_retries: Option<i64>,
    qos: String,
    ca_cert: String,
    client_cert: String,
    client_key: Hidden,
}

impl PubSub {
    /// # Errors
    /// `Invalid`, naming the metadata.
    pub(crate) fn broker(&self, client: &str, log: &Log) -> Result<Broker> {
        let access = Access {
            url: &self.url.0,
            client,
            clean: self.clean_session,
            certificates: tls::Texts {
                authority: &self.ca_cert,
                certificate: &self.client_cert,
                key: &self.client_key.0,
            },
        };
        access.broker("mqtt pubsub error", log)
    }

    /// # Errors
    /// `Invalid` for a number that MQTT does not know.
    pub(crate) fn qos(&self) -> Result<Qos> {
        let number = self.qos.unwrap_or(1);
        Qos::of(number)
            .ok_or_else(|| Error::invalid(format!("invalid qos {number}: metadata qos is 0, 1 or 2")))
    }
}

impl Binding {
    /// `role` is added to the client id: a broker knows each id once.
    ///
    /// # Errors
    /// `Invalid`, naming the metadata.
    pub(crate) fn broker(&self, role: &str, log: &Log) -> Result<Broker> {
        if self.topic.is_empty() {
            return Err(Error::invalid("missing topic"));
        }
        if self.consumer_id.is_empty() {
            return Err(Error::invalid("missing consumerID"));
        }
        if !self.qos.is_empty() {
            log.warn(
                "mqtt binding: metadata property 'qos' has been deprecated and is ignored; qos is set to 1",
            );
        }
        let client = format!("{}-{role}", self.consumer_id);
        let access = Access {
            url: &self.url.0,
            client: &client,
            clean: self.clean_session,
            certificates: tls::Texts {
                authority: &self.ca_cert,
                certificate: &self.client_cert,
                key: &self.client_key.0,
            },
        };
        access.broker("mqtt binding error", log)
    }

    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    /// `None` is for ever.
    pub(crate) fn retries(&self) -> Option<u64> {
        u64::try_from(self.back_off_max_retries?).ok()
    }
}

/// What both have in common.
struct Access<'a> {
    url: &'a str,
    client: &'a str,
    clean: bool,
    certificates: tls::Texts<'a>,
}

impl Access<'_> {
    fn broker(&self, what: &str, log: &Log) -> Result<Broker> {
        if self.url.is_empty() {
            return Err(Error::invalid("missing url"));
        }
        let url = Url::parse(self.url).map_err(|error| Error {
            message: format!("{what}: invalid metadata url: {}", error.message),
            ..error
        })?;
        let address = url.address();
        let dial = if url.secure {
            let certificates = self.certificates;
            let config = certificates.client(certificates.trust()).map_err(|error| {
                Error::caused(
                    Kind::Invalid,
                    &format!("{what}: invalid TLS configuration: metadata"),
                    error,
                )
            })?;
            Dial::secure(address, &url.host, Arc::new(config))
                .map_err(|error| Error::invalid(format!("{what}: {error}")))?
        } else {
            if self.certificates.any() {
                log.warn(format_args!(
                    "{what}: metadata caCert, clientCert and clientKey have no effect without ssl:// in url"
                ));
            }
            Dial::plain(address)
        };
        Ok(Broker {
            dial,
            hello: Hello {
                client: self.client.to_owned(),
                // MQTT has no password without a user.
                password: url.user.as_ref().and(url.password),
                user: url.user,
                clean: self.clean,
                keep_alive_seconds: KEEP_ALIVE_SECONDS,
            },
        })
    }
}
