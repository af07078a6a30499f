//! An app that speaks HTTP: HTTP/1.1, with TLS (`https`) or without, or HTTP/2 without TLS (`h2c`).
//!
//! COMPAT(pkg/channel/http/http_channel.go, pkg/runtime/subscription/postman/http): routes, headers and status rules.

mod piped;

use super::bulk::{self, BulkEvent, Verdict};
use super::http1;
use super::{AppChannel, Bulk, Outcome, Rule, Subscription, TopicEvent, binding};
use crate::body::Body;
use crate::call::{Call, Reply, Status};
use crate::error::Error;
use crate::h2;
use crate::json::{Object, or_default, texts};
use crate::path;
use crate::wire;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use outrigger_component::metadata::Metadata;
use outrigger_component::middleware::Pipeline;
use outrigger_daemon::metrics;
use outrigger_daemon::tasks::Spawner;
use outrigger_daemon::trace::Context;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Largest answer that is read whole: subscription lists and event answers.
const ANSWER_LIMIT: usize = 4 << 20;

/// How to reach the app.
#[derive(Clone)]
pub struct Config {
    pub host: String,
    pub port: u16,
    /// HTTP/2 instead of HTTP/1.1.
    pub http2: bool,
    /// With TLS.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Sent as `dapr-api-token` with every request; empty means none.
    pub token: String,
    /// Requests to the app at once; `None` is no limit.
    pub max_concurrency: Option<usize>,
    pub health_path: String,
    pub health_timeout: Duration,
    /// `spec.appHttpPipeline`; health probes do not pass it.
    pub pipeline: Option<Pipeline>,
    /// `None`: metrics are off.
    pub metrics: Option<Arc<metrics::Http>>,
}

pub struct HttpApp {
    metrics: Option<Arc<metrics::Http>>,
    pipeline: Option<Pipeline>,
    transport: Transport,
    authority: HeaderValue,
    token: Option<HeaderValue>,
    permits: Option<Arc<Semaphore>>,
    health_path: String,
    health_timeout: Duration,
    app_id: HeaderValue,
}

enum Transport {
    Http1(http1::Pool),
    Http2(Box<h2::Pool>),
}

impl HttpApp {
    /// Connects lazily: the app may start after the sidecar. `app_id` goes out with `GET /dapr/subscribe`.
    pub fn new(config: Config, app_id: &str, spawner: Spawner) -> Result<Self, Error> {
        let dial = super::dial(&config.host, config.port, config.tls)?;
        let value = |text: &str, what: &str| {
            HeaderValue::from_str(text).map_err(|_| {
                Error::Invalid(format!("{what} has characters that cannot be in an HTTP header"))
            })
        };
        let mut token = (!config.token.is_empty())
            .then(|| value(&config.token, "APP_API_TOKEN"))
            .transpose()?;
        if let Some(token) = token.as_mut() {
            token.set_sensitive(true);
        }
        Ok(Self {
            metrics: config.metrics,
            pipeline: config.pipeline,
            authority: value(dial.address(), "the app's address")?,
            token,
            permits: config.max_concurrency.map(|most| Arc::new(Semaphore::new(most))),
            health_path: format!("/{}", config.health_path.trim_start_matches('/')),
            health_timeout: config.health_timeout,
            app_id: value(app_id, "the app id")?,
            transport: if config.http2 {
                Transport::Http2(Box::new(h2::Pool::new(dial, "the app".to_owned(), spawner)))
            } else {
                Transport::Http1(http1::Pool::new(dial))
            },
        })
    }

    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, Error> {
        let permit = self.permit().await;
        let sent = self
            .metrics
            .as_deref()
            .map(|metrics| Sent::note(metrics, &request));
        let outcome = match &self.pipeline {
            None => self.transfer(request).await,
            // Boxed: in place every request without a pipeline would make room for it.
            Some(pipeline) => Box::pin(piped::send(self, pipeline, request)).await,
        };
        if let Some(sent) = sent {
            sent.answered(&outcome);
        }
        let response = outcome?;
        Ok(match permit {
            None => response,
            Some(permit) => response.map(|body| held(body, permit)),
        })
    }

    /// The request itself.
    async fn transfer(&self, mut request: Request<Body>) -> Result<Response<Body>, Error> {
        if let Some(token) = &self.token {
            request
                .headers_mut()
                .insert(HeaderName::from_static("dapr-api-token"), token.clone());
        }
        match &self.transport {
            Transport::Http1(pool) => {
                request.headers_mut().insert(HOST, self.authority.clone());
                pool.send(request).await
            }
            Transport::Http2(pool) => Ok(pool.send(request).await?.map(Body::from)),
        }
    }

    /// A slot under `--app-max-concurrency`, held until the answer's body was read.
    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        match &self.permits {
            None => None,
            Some(permits) => permits.clone().acquire_owned().await.ok(),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Body,
    ) -> Result<Response<Body>, Error> {
        self.send(request(method, path, headers, body)?).await
    }

    /// Asks the app for something it may say of itself; answers status and body.
    async fn ask(&self, path: &str) -> Result<(u16, Bytes), Error> {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static("dapr-app-id"), self.app_id.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let response = self.exchange(Method::GET, path, headers, Body::Empty).await?;
        let status = response.status().as_u16();
        let body = response
            .into_body()
            .collect(ANSWER_LIMIT)
            .await
            .map_err(|error| Error::Malformed(error.to_string()))?;
        Ok((status, body))
    }

    /// Sends events; answers status and body.
    async fn post(&self, path: &str, headers: HeaderMap, body: Bytes) -> Result<(u16, Bytes), Error> {
        let path = format!("/{}", path.trim_start_matches('/'));
        let response = self
            .exchange(Method::POST, &path, headers, Body::Full(body))
            .await?;
        let status = response.status().as_u16();
        let body = response
            .into_body()
            .collect(ANSWER_LIMIT)
            .await
            .map_err(|error| Error::Unavailable(error.to_string()))?;
        Ok((status, body))
    }
}

/// The fields of a delivery, trace included.
fn delivery(
    metadata: &Metadata,
    content_type: &'static str,
    trace: Option<&Context>,
) -> Result<HeaderMap, Error> {
    let mut headers = super::fields(metadata, |name| *name == CONTENT_LENGTH)?;
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    match trace {
        Some(trace) => super::insert_trace(&mut headers, trace),
        None => drop(
            headers
                .entry(HeaderName::from_static("traceparent"))
                .or_insert(super::NO_TRACE),
        ),
    }
    Ok(headers)
}

/// A request under way, for metrics.
struct Sent<'m> {
    metrics: &'m metrics::Http,
    method: Method,
    uri: Uri,
    started: Instant,
}

impl<'m> Sent<'m> {
    fn note(metrics: &'m metrics::Http, request: &Request<Body>) -> Self {
        let this = Self {
            metrics,
            method: request.method().clone(),
            uri: request.uri().clone(),
            started: Instant::now(),
        };
        let length = request.body().length().unwrap_or(0);
        metrics.sending(this.method.as_str(), this.path(), length);
        this
    }

    /// COMPAT(pkg/channel/http/http_channel.go): the time is that to the head of the answer; no answer counts as 500.
    fn answered(self, outcome: &Result<Response<Body>, Error>) {
        let (status, length) = match outcome {
            Ok(response) => (response.status(), response.body().length().unwrap_or(0)),
            Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, 0),
        };
        let elapsed = self.started.elapsed();
        self.metrics
            .called(self.method.as_str(), self.path(), status, length, elapsed);
    }

    fn path(&self) -> &str {
        self.uri.path()
    }
}

fn request(method: Method, path: &str, headers: HeaderMap, body: Body) -> Result<Request<Body>, Error> {
    let uri: Uri = path
        .parse()
        .map_err(|_| Error::Invalid(format!("{path:?} is not a valid URL path")))?;
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

/// Keeps the concurrency slot until the body ends or is dropped.
fn held(body: Body, permit: OwnedSemaphorePermit) -> Body {
    match body {
        Body::Empty | Body::Full(_) => body,
        other => Body::stream(Held {
            body: other,
            _permit: permit,
        }),
    }
}

struct Held {
    body: Body,
    _permit: OwnedSemaphorePermit,
}

impl http_body::Body for Held {
    type Data = bytes::Bytes;
    type Error = crate::body::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, Self::Error>>> {
        std::pin::Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

#[async_trait::async_trait]
impl AppChannel for HttpApp {
    async fn subscriptions(&self) -> Result<Vec<Subscription>, Error> {
        let (status, body) = self.ask("/dapr/subscribe").await?;
        match status {
            200..=299 if body.is_empty() => Ok(Vec::new()),
            200..=299 => Declared::parse(&body),
            404 => Ok(Vec::new()),
            other => Err(Error::Unavailable(format!(
                "app answered GET /dapr/subscribe with status {other}"
            ))),
        }
    }

    /// COMPAT(pkg/channel/http/http_channel.go GetAppConfig): any status but 200 is no answer.
    async fn hosted(&self) -> Result<Vec<String>, Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Config {
            entities: Option<Vec<String>>,
        }
        let (status, body) = self.ask("/dapr/config").await?;
        if status != 200 || body.is_empty() {
            return Ok(Vec::new());
        }
        let Object(config): Object<Config> = serde_json::from_slice(&body).map_err(|error| {
            Error::Malformed(format!(
                "the app's answer to GET /dapr/config is not a configuration: {error}"
            ))
        })?;
        Ok(config.entities.unwrap_or_default())
    }

    async fn invoke(&self, call: Call) -> Result<Reply, Error> {
        if call.verb == Method::CONNECT {
            return Err(Error::Invalid("invalid HTTP verb".to_owned()));
        }
        let path = path::and_query(&call.method, &call.query)?;
        let length = call.headers.get(CONTENT_LENGTH).cloned();
        let mut headers = call.headers;
        headers.remove(CONTENT_LENGTH);
        if let (Some(length), true) = (length, call.body.at_hand().is_none()) {
            // The length the caller announced goes on, so that the app sees no chunked body where there was none.
            headers.insert(CONTENT_LENGTH, length);
        }
        headers
            .entry(HeaderName::from_static("traceparent"))
            .or_insert(super::NO_TRACE);
        let response = self.exchange(call.verb, &path, headers, call.body).await?;
        let (head, body) = response.into_parts();
        let mut headers = head.headers;
        wire::strip_hop_by_hop(&mut headers);
        headers.remove(CONTENT_LENGTH);
        Ok(Reply {
            status: Status::Http(head.status.as_u16()),
            headers,
            trailers: HeaderMap::new(),
            body,
            type_url: String::new(),
        })
    }

    async fn deliver(&self, event: TopicEvent) -> Result<Outcome, Error> {
        let headers = delivery(&event.metadata, event.content_type, event.trace.as_ref())?;
        let (status, body) = self.post(&event.path, headers, event.envelope).await?;
        outcome(status, &body)
    }

    async fn deliver_bulk(&self, event: BulkEvent) -> Result<Vec<Verdict>, Error> {
        let headers = delivery(&event.metadata, "application/json", event.trace.as_ref())?;
        let (status, body) = self.post(&event.path, headers, bulk::envelope(&event)).await?;
        bulk::verdicts(status, &body, &event.entries)
    }

    async fn takes(&self, _binding: &str, route: &str) -> Result<bool, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let path = format!("/{}", route.trim_start_matches('/'));
        let response = self
            .exchange(Method::OPTIONS, &path, headers, Body::Empty)
            .await?;
        // An app without a handler for OPTIONS still has the path.
        Ok(matches!(response.status().as_u16(), 200..=299 | 405))
    }

    async fn trigger(&self, event: binding::Event) -> Result<binding::Reply, Error> {
        let headers = delivery(&event.metadata, "application/json", event.trace.as_ref())?;
        let (status, body) = self.post(&event.route, headers, event.data).await?;
        binding::of_http(status, body)
    }

    async fn proxy(&self, _request: Request<Body>) -> Result<Response<Body>, Error> {
        Err(Error::Invalid("the app speaks HTTP: a gRPC call cannot be passed on to it; start the sidecar with --app-protocol grpc".to_owned()))
    }

    async fn healthy(&self) -> Result<(), Error> {
        let probe = async {
            let _permit = self.permit().await;
            let probe = request(Method::GET, &self.health_path, HeaderMap::new(), Body::Empty)?;
            self.transfer(probe).await
        };
        let started = Instant::now();
        let outcome = tokio::time::timeout(self.health_timeout, probe)
            .await
            .unwrap_or(Err(Error::Timeout(self.health_timeout)));
        if let Some(metrics) = &self.metrics {
            let status = outcome
                .as_ref()
                .map_or(StatusCode::INTERNAL_SERVER_ERROR, Response::status);
            metrics.probed(status, started.elapsed());
        }
        let response = outcome?;
        match response.status().as_u16() {
            200..=299 => Ok(()),
            other => Err(Error::Unavailable(format!(
                "Health check failed with status code: {other}"
            ))),
        }
    }
}

/// What an HTTP app's answer to an event means.
/// COMPAT(pkg/runtime/subscription/postman/http/http.go).
fn outcome(status: u16, body: &[u8]) -> Result<Outcome, Error> {
    #[derive(Default, Deserialize)]
    struct Answer<'a> {
        #[serde(default, borrow)]
        status: std::borrow::Cow<'a, str>,
    }
    match status {
        200..=299 => match serde_json::from_slice::<Object<Answer<'_>>>(body) {
            // An answer that is no JSON object is a success: the status code already said so.
            Err(_) => Ok(Outcome::Success),
            Ok(Object(answer)) => match &*answer.status {
                "" | "SUCCESS" => Ok(Outcome::Success),
                "RETRY" => Ok(Outcome::Retry),
                "DROP" => Ok(Outcome::Drop),
                other => Err(Error::Malformed(format!(
                    "unknown status returned from app while processing pub/sub event: {other}"
                ))),
            },
        },
        404 => Ok(Outcome::Drop),
        other => Err(Error::Http {
            status: other,
            message: format!(
                "retriable error returned from app while processing pub/sub event: {}. status code returned: {other}",
                String::from_utf8_lossy(body)
            ),
        }),
    }
}

/// `GET /dapr/subscribe`: both forms of routes (`route` text, `routes` object) in one list.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Declared {
    #[serde(rename = "pubsubname", alias = "pubsubName", deserialize_with = "or_default")]
    pubsub: String,
    #[serde(deserialize_with = "or_default")]
    topic: String,
    #[serde(deserialize_with = "or_default")]
    dead_letter_topic: String,
    #[serde(deserialize_with = "texts")]
    metadata: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    route: String,
    routes: Object<Routes>,
    bulk_subscribe: Object<DeclaredBulk>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Routes {
    #[serde(deserialize_with = "or_default")]
    rules: Vec<Object<DeclaredRule>>,
    #[serde(deserialize_with = "or_default")]
    default: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DeclaredRule {
    #[serde(rename = "match", deserialize_with = "or_default")]
    expression: String,
    #[serde(deserialize_with = "or_default")]
    path: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DeclaredBulk {
    #[serde(deserialize_with = "or_default")]
    enabled: bool,
    #[serde(deserialize_with = "or_default")]
    max_messages_count: i32,
    #[serde(deserialize_with = "or_default")]
    max_await_duration_ms: i32,
}

impl Declared {
    fn parse(body: &[u8]) -> Result<Vec<Subscription>, Error> {
        let declared: Option<Vec<Object<Self>>> = serde_json::from_slice(body).map_err(|error| {
            Error::Malformed(format!(
                "the app's answer to GET /dapr/subscribe is not a list of subscriptions: {error}"
            ))
        })?;
        Ok(declared
            .unwrap_or_default()
            .into_iter()
            .map(|Object(declared)| declared.into_subscription())
            .collect())
    }

    fn into_subscription(self) -> Subscription {
        let (Object(routes), Object(bulk)) = (self.routes, self.bulk_subscribe);
        let mut rules: Vec<Rule> = routes
            .rules
            .into_iter()
            .map(|Object(rule)| Rule {
                expression: rule.expression,
                path: rule.path,
            })
            .collect();
        let default = if routes.default.is_empty() {
            self.route
        } else {
            routes.default
        };
        if !default.is_empty() {
            rules.push(Rule {
                expression: String::new(),
                path: default,
            });
        }
        Subscription {
            pubsub: self.pubsub,
            topic: self.topic,
            metadata: self.metadata.into_iter().collect::<Metadata>(),
            rules,
            dead_letter_topic: self.dead_letter_topic,
            bulk: Bulk {
                enabled: bulk.enabled,
                max_messages: bulk.max_messages_count,
                max_await_ms: bulk.max_await_duration_ms,
            },
        }
    }
}

#[cfg(test)]
mod tests;
