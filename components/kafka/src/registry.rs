//! A schema registry that speaks Confluent's protocol: schemas by their number, and the newest of a subject.
//!
//! A number means the same schema for ever; which schema is the newest is asked again when `schemaLatestVersionCacheTTL` is
//! over. While the registry is away, publishing goes on with the newest that was known. Everybody who wants the same at
//! the same time shares one request.

mod cache;

use crate::avro::Schema;
use crate::failure::Failure;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use bytes::Bytes;
use cache::{Cache, Lasts};
use http_body_util::{BodyExt as _, Full, Limited};
use outrigger_component::error::Kind;
use outrigger_component::metadata::Hidden;
use outrigger_daemon::tasks::Spawner;
use outrigger_daemon::tls::{self, Web};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// For one answer. COMPAT(riferrei/srclient schemaRegistryClient.go): this, and as many requests at once.
const PATIENCE: Duration = Duration::from_secs(5);
const AT_ONCE: usize = 16;
/// Of an answer; Confluent's own limit for a schema is a megabyte.
const LONGEST: usize = 4 << 20;
/// Of what a registry says about itself in our errors.
const LONGEST_WORDS: usize = 200;
const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";
/// What a part of a path may hold as it is.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Without a slash at the end.
    pub url: String,
    /// Key and secret.
    pub login: Option<(String, Hidden)>,
    /// Whether anything is remembered at all.
    pub caching: bool,
    /// How long the newest schema of a subject counts as the newest.
    pub latest_lasts: Duration,
    pub tls: tls::Config,
}

pub(crate) struct Registry {
    source: Arc<Source>,
    caching: bool,
    latest_lasts: Duration,
    by_number: Cache<u32, Arc<Schema>>,
    latest: Cache<String, Numbered>,
}

/// A schema and its number.
pub(crate) type Numbered = (u32, Arc<Schema>);

impl Registry {
    pub(crate) fn new(settings: Settings, spawner: &Spawner) -> Self {
        let Settings {
            url,
            login,
            caching,
            latest_lasts,
            tls,
        } = settings;
        let login = login.map(|(key, Hidden(secret))| {
            Hidden(format!("Basic {}", BASE64.encode(format!("{key}:{secret}"))))
        });
        let source = Source {
            url,
            login,
            web: Web::new(tls, spawner.clone()),
            permits: Semaphore::new(AT_ONCE),
        };
        Self {
            source: Arc::new(source),
            caching,
            latest_lasts,
            by_number: Cache::default(),
            latest: Cache::default(),
        }
    }

    /// # Errors
    /// Why it cannot be had, or that it is no Avro schema.
    pub(crate) async fn schema(&self, number: u32) -> Result<Arc<Schema>, Failure> {
        let source = Arc::clone(&self.source);
        let fetch = async move {
            let answer = source.get(&format!("/schemas/ids/{number}")).await?;
            source
                .schema(answer, &format!("schema {number}"))
                .map(|(_, schema)| schema)
        };
        if self.caching {
            self.by_number.get(number, Lasts::Ever, fetch).await
        } else {
            fetch.await
        }
    }

    /// The newest schema of the values of a topic. COMPAT(components-contrib common/component/kafka/kafka.go): its subject is
    /// the topic with `-value` behind it.
    ///
    /// # Errors
    /// Why it cannot be had, or that it is no Avro schema.
    pub(crate) async fn latest(&self, topic: &str) -> Result<Numbered, Failure> {
        let source = Arc::clone(&self.source);
        let subject = format!("{topic}-value");
        let name = subject.clone();
        let fetch = async move {
            let path = format!(
                "/subjects/{}/versions/latest",
                utf8_percent_encode(&name, ESCAPED)
            );
            let answer = source.get(&path).await?;
            let (number, schema) = source.schema(answer, &format!("the newest schema of subject {name}"))?;
            let number = number.ok_or_else(|| {
                source.failed(
                    Kind::Invalid,
                    "its answer holds no id: check that schemaRegistryURL leads to a schema registry",
                )
            })?;
            Ok((number, schema))
        };
        if self.caching {
            self.latest
                .get(subject, Lasts::For(self.latest_lasts), fetch)
                .await
        } else {
            fetch.await
        }
    }
}

/// The registry itself, without memory.
struct Source {
    url: String,
    /// The header's value.
    login: Option<Hidden>,
    web: Web,
    permits: Semaphore,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    id: Option<u32>,
    schema: String,
    schema_type: Option<String>,
}

#[derive(Deserialize)]
struct Refusal {
    message: String,
}

impl Source {
    async fn get(&self, path: &str) -> Result<Bytes, Failure> {
        let asking = async {
            // It is never closed.
            let _permit = self.permits.acquire().await;
            self.ask(path).await
        };
        tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| {
            let words = format!(
                "no answer within {} s: check schemaRegistryURL",
                PATIENCE.as_secs()
            );
            Err(self.failed(Kind::Timeout, words))
        })
    }

    async fn ask(&self, path: &str) -> Result<Bytes, Failure> {
        let mut request =
            http::Request::get(format!("{}{path}", self.url)).header(http::header::ACCEPT, MEDIA_TYPE);
        if let Some(Hidden(login)) = &self.login {
            request = request.header(http::header::AUTHORIZATION, login);
        }
        let request = request
            .body(Full::default())
            .map_err(|error| self.failed(Kind::Invalid, format!("check schemaRegistryURL: {error}")))?;
        let answer = self.web.request(request).await.map_err(|error| {
            let words = format!("{}: check schemaRegistryURL", tls::failure(&error));
            self.failed(Kind::Unavailable, words)
        })?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LONGEST).collect().await;
        let body = body
            .map_err(|error| self.failed(Kind::Unavailable, error.to_string()))?
            .to_bytes();
        if status.is_success() {
            return Ok(body);
        }
        let said = serde_json::from_slice(&body)
            .map(|Refusal { message }| message)
            .unwrap_or_default();
        let said: String = said.chars().take(LONGEST_WORDS).collect();
        let (kind, next) = match status.as_u16() {
            401 | 403 => (
                Kind::PermissionDenied,
                "check schemaRegistryAPIKey and schemaRegistryAPISecret",
            ),
            404 => (
                Kind::NotFound,
                "register a schema (its subject is the topic with -value behind it), and check schemaRegistryURL",
            ),
            408 | 429 | 500.. => (Kind::Unavailable, "trying again may help"),
            _ => (Kind::Invalid, "check schemaRegistryURL"),
        };
        Err(self.failed(
            kind,
            format!("it answered {status} to GET {path} ({said}): {next}"),
        ))
    }

    fn schema(&self, answer: Bytes, what: &str) -> Result<(Option<u32>, Arc<Schema>), Failure> {
        let answer: Answer = serde_json::from_slice(&answer).map_err(|_| {
            let words = "its answer holds no schema: check that schemaRegistryURL leads to a schema registry";
            self.failed(Kind::Invalid, words)
        })?;
        if let Some(kind) = answer
            .schema_type
            .filter(|kind| !kind.eq_ignore_ascii_case("avro"))
        {
            return Err(self.failed(Kind::Invalid, format!("{what} is {kind}, and not Avro")));
        }
        let schema = Schema::parse(&answer.schema)
            .map_err(|fault| self.failed(Kind::Invalid, format!("{what} cannot be used: {fault}")))?;
        Ok((answer.id, Arc::new(schema)))
    }

    fn failed(&self, kind: Kind, cause: impl Into<String>) -> Failure {
        Failure::Registry {
            url: self.url.clone(),
            kind,
            cause: cause.into(),
        }
    }
}
