//! `state.jetstream`: each value is the last message of its subject in the stream of a key-value bucket.
//!
//! COMPAT(components-contrib state/jetstream): [keys](key), subjects, how a deletion is marked, and that there are neither
//! tags nor lifetimes nor transactions: a bucket's own settings say how long values live. Unlike there, a key that does not
//! exist is no error.

mod key;

use crate::api;
use crate::client::Client;
use crate::config::Config;
use crate::failure::Fault;
use async_nats::{HeaderMap, HeaderValue, Message, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use outrigger_component::Component;
use outrigger_component::error::{Error, Result};
use outrigger_component::setup::Setup;
use outrigger_component::state::{Consistency, Delete, Features, Get, Item, Set, StateStore};
use std::time::Duration;

const NAME: &str = "dapr.io - statestore.jetstream";
/// Header of a message that marks a deletion, and what stands in it.
const OPERATION: &str = "KV-Operation";
const DELETE: &str = "DEL";
const PURGE: &str = "PURGE";
/// How long closing waits for what was sent.
const FAREWELL: Duration = Duration::from_secs(2);

pub(crate) struct Bucket {
    client: Client,
    /// Of the bucket.
    stream: String,
    /// What stands before a key.
    subjects: String,
    /// Whether values can be had without JSON around them.
    direct: bool,
}

impl Bucket {
    /// Connects, and looks for the bucket.
    ///
    /// # Errors
    /// What [`Client::connect`] says; `Invalid` if there is no such bucket.
    pub(crate) async fn connect(setup: Setup<Config>) -> Result<Self> {
        let Setup { config, log, .. } = setup;
        config.check()?;
        let bucket = &config.bucket;
        if bucket.is_empty() {
            return Err(Error::invalid("missing bucket"));
        }
        if !bucket
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        {
            return Err(Error::invalid(format!(
                "metadata bucket: {bucket:?} can be no bucket: letters, digits, - and _ are possible"
            )));
        }
        let client = Client::connect(&config, NAME, &log).await?;
        let stream = format!("KV_{bucket}");
        let found: Result<api::Stream, _> = client.look_up(&format!("STREAM.INFO.{stream}")).await;
        let direct = match found {
            Ok(found) => found.config.allow_direct,
            Err(Fault::Refused(refusal)) if refusal.err_code == api::STREAM_NOT_FOUND => {
                return Err(Error::invalid(format!(
                    "there is no bucket {bucket} at {}: make it first, with `nats kv add {bucket}`",
                    client.address()
                )));
            }
            Err(fault) => return Err(fault.because(&format!("jetstream: cannot find bucket {bucket}"))),
        };
        Ok(Self {
            client,
            stream,
            subjects: format!("$KV.{bucket}."),
            direct,
        })
    }

    fn subject(&self, key: &str) -> String {
        format!("{}{}", self.subjects, key::encode(key))
    }

    /// From any replica, which may be a moment behind.
    async fn read_direct(&self, subject: &str) -> Result<Option<Bytes>, Fault> {
        let request = self
            .client
            .api_subject(&format!("DIRECT.GET.{}.{subject}", self.stream));
        let answer = self.client.ask(&request, None, Bytes::new(), true).await?;
        match answer.status {
            Some(StatusCode::NOT_FOUND) => Ok(None),
            Some(status) if !status.is_success() => Err(Fault::Unexpected(format!(
                "{status} {}",
                answer.description.unwrap_or_default()
            ))),
            _ => Ok(value(answer)),
        }
    }

    /// From the leader of the stream.
    async fn read(&self, subject: &str) -> Result<Option<Bytes>, Fault> {
        let request = api::LastMessage {
            last_by_subj: subject,
        };
        let name = format!("STREAM.MSG.GET.{}", self.stream);
        let stored: Result<api::Stored, _> = self.client.api(&name, &request).await;
        let message = match stored {
            Ok(stored) => stored.message,
            Err(Fault::Refused(refusal))
                if refusal.code == 404 && refusal.err_code != api::STREAM_NOT_FOUND =>
            {
                return Ok(None);
            }
            Err(fault) => return Err(fault),
        };
        let decode = |text: &str| {
            STANDARD
                .decode(text)
                .map_err(|error| Fault::Unexpected(error.to_string()))
        };
        let headers = decode(&message.hdrs)?;
        if String::from_utf8_lossy(&headers).lines().any(is_deletion) {
            return Ok(None);
        }
        Ok(Some(Bytes::from(decode(&message.data)?)))
    }
}

#[async_trait::async_trait]
impl Component for Bucket {
    async fn ping(&self) -> Result<()> {
        self.client.ping().await
    }

    async fn close(&self) {
        self.client.flush(FAREWELL).await;
    }
}

#[async_trait::async_trait]
impl StateStore for Bucket {
    fn features(&self) -> Features {
        Features::default()
    }

    async fn get(&self, get: &Get) -> Result<Option<Item>> {
        let subject = self.subject(&get.key);
        let value = if self.direct && get.consistency != Consistency::Strong {
            self.read_direct(&subject).await
        } else {
            self.read(&subject).await
        };
        let value = value.map_err(|fault| fault.because(&format!("failed to get key {}", get.key)))?;
        Ok(value.map(|value| Item {
            value,
            ..Item::default()
        }))
    }

    async fn set(&self, set: Set) -> Result<()> {
        self.client
            .store(&self.subject(&set.key), HeaderMap::new(), set.value)
            .await
            .map_err(|fault| fault.because(&format!("failed to set key {}", set.key)))
    }

    async fn delete(&self, delete: Delete) -> Result<()> {
        let mut headers = HeaderMap::new();
        headers.insert(OPERATION, DELETE);
        self.client
            .store(&self.subject(&delete.key), headers, Bytes::new())
            .await
            .map_err(|fault| fault.because(&format!("failed to delete key {}", delete.key)))
    }
}

/// `None` for the mark of a deletion.
fn value(message: Message) -> Option<Bytes> {
    let operation = message
        .headers
        .as_ref()
        .and_then(|headers| headers.get(OPERATION));
    let deleted = matches!(operation.map(HeaderValue::as_str), Some(DELETE | PURGE));
    (!deleted).then_some(message.payload)
}

/// A line of headers as they are stored.
fn is_deletion(line: &str) -> bool {
    line.split_once(':')
        .is_some_and(|(name, value)| name == OPERATION && matches!(value.trim(), DELETE | PURGE))
}
