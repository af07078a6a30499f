//! An app that speaks gRPC: the `AppCallback` services.
//!
//! COMPAT(pkg/channel/grpc/grpc_channel.go, pkg/runtime/subscription/postman/grpc/grpc.go).

use super::bulk::{self, BulkEvent, Payload, Verdict};
use super::{AppChannel, Bulk, Outcome, Rule, Subscription, TopicEvent, binding};
use crate::body::Body;
use crate::call::{Call, Reply, Status};
use crate::error::{Error, code_name};
use crate::grpc::{self, Answer};
use crate::h2::Pool;
use crate::peer::{insert_trace, trace_of};
use crate::wire;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Request, Response};
use outrigger_component::metadata::Metadata;
use outrigger_daemon::metrics;
use outrigger_daemon::tasks::Spawner;
use outrigger_daemon::trace::Context;
use outrigger_proto::any::Any;
use outrigger_proto::dapr::common::v1 as common;
use outrigger_proto::dapr::runtime::v1 as runtime;
use prost_types::value::Kind;
use runtime::topic_event_response::TopicEventResponseStatus;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

const ON_INVOKE: &str = "/dapr.proto.runtime.v1.AppCallback/OnInvoke";
const LIST_TOPIC_SUBSCRIPTIONS: &str = "/dapr.proto.runtime.v1.AppCallback/ListTopicSubscriptions";
const ON_TOPIC_EVENT: &str = "/dapr.proto.runtime.v1.AppCallback/OnTopicEvent";
const ON_BULK_TOPIC_EVENT: &str = "/dapr.proto.runtime.v1.AppCallback/OnBulkTopicEvent";
/// For apps of older SDKs.
const ON_BULK_TOPIC_EVENT_ALPHA: &str = "/dapr.proto.runtime.v1.AppCallbackAlpha/OnBulkTopicEventAlpha1";
const LIST_INPUT_BINDINGS: &str = "/dapr.proto.runtime.v1.AppCallback/ListInputBindings";
const ON_BINDING_EVENT: &str = "/dapr.proto.runtime.v1.AppCallback/OnBindingEvent";
const HEALTH_CHECK: &str = "/dapr.proto.runtime.v1.AppCallbackHealthCheck/HealthCheck";
const UNIMPLEMENTED: i32 = 12;

/// How to reach the app.
#[derive(Clone)]
pub struct Config {
    pub host: String,
    pub port: u16,
    /// With TLS: `grpcs`.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Sent as `dapr-api-token` with every call; empty means none.
    pub token: String,
    /// Calls to the app at once; `None` is no limit.
    pub max_concurrency: Option<usize>,
    /// Largest message in either direction, in bytes.
    pub limit: usize,
    pub health_timeout: Duration,
    /// `None`: metrics are off.
    pub metrics: Option<Arc<metrics::Grpc>>,
}

pub struct GrpcApp {
    pool: Pool,
    token: Option<HeaderValue>,
    permits: Option<Arc<Semaphore>>,
    limit: usize,
    health_timeout: Duration,
    metrics: Option<Arc<metrics::Grpc>>,
}

impl GrpcApp {
    /// Connects lazily: the app may start after the sidecar.
    pub fn new(config: Config, spawner: Spawner) -> Result<Self, Error> {
        let dial = super::dial(&config.host, config.port, config.tls)?;
        let mut token = (!config.token.is_empty())
            .then(|| HeaderValue::from_str(&config.token))
            .transpose()
            .map_err(|_| {
                Error::Invalid("APP_API_TOKEN has characters that cannot be in gRPC metadata".to_owned())
            })?;
        if let Some(token) = token.as_mut() {
            token.set_sensitive(true);
        }
        Ok(Self {
            pool: Pool::new(dial, "the app".to_owned(), spawner),
            token,
            permits: config.max_concurrency.map(|most| Arc::new(Semaphore::new(most))),
            limit: config.limit,
            health_timeout: config.health_timeout,
            metrics: config.metrics,
        })
    }

    fn add_token(&self, headers: &mut HeaderMap) {
        if let Some(token) = &self.token {
            headers.insert(HeaderName::from_static("dapr-api-token"), token.clone());
        }
    }

    async fn unary<Req: prost::Message, Res: prost::Message + Default>(
        &self,
        path: &'static str,
        mut headers: HeaderMap,
        message: &Req,
    ) -> Result<Answer<Res>, Error> {
        let _permit = match &self.permits {
            None => None,
            Some(permits) => permits.acquire().await.ok(),
        };
        self.add_token(&mut headers);
        let started = Instant::now();
        let outcome = grpc::unary(&self.pool, path, headers, message, self.limit).await;
        if let Some(metrics) = &self.metrics {
            let (code, received) = match &outcome {
                Ok(answer) => (0, Res::encoded_len(&answer.message)),
                Err(error) => (error.grpc_code(), 0),
            };
            let (status, elapsed) = (code_name(code), started.elapsed());
            if path == HEALTH_CHECK {
                metrics.probed(status, elapsed);
            } else {
                metrics.called(
                    path,
                    status,
                    bytes(message.encoded_len()),
                    bytes(received),
                    elapsed,
                );
            }
        }
        outcome
    }
}

#[async_trait::async_trait]
impl AppChannel for GrpcApp {
    async fn subscriptions(&self) -> Result<Vec<Subscription>, Error> {
        match self
            .unary::<(), runtime::ListTopicSubscriptionsResponse>(
                LIST_TOPIC_SUBSCRIPTIONS,
                HeaderMap::new(),
                &(),
            )
            .await
        {
            Ok(answer) => Ok(answer
                .message
                .subscriptions
                .into_iter()
                .map(subscription)
                .collect()),
            Err(Error::Status {
                code: UNIMPLEMENTED, ..
            }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    async fn invoke(&self, call: Call) -> Result<Reply, Error> {
        let content_type = call.content_type().to_owned();
        let verb = wire::verb_number(&call.verb);
        let mut headers = metadata_of(&call.headers);
        complete_trace(&mut headers);
        let value = call
            .body
            .collect(self.limit)
            .await
            .map_err(|error| Error::Invalid(error.to_string()))?;
        let message = common::InvokeRequest {
            method: call.method,
            data: Some(Any {
                type_url: call.type_url,
                value,
            }),
            content_type,
            http_extension: Some(common::HttpExtension {
                verb,
                querystring: call.query,
            }),
        };
        match self
            .unary::<_, common::InvokeResponse>(ON_INVOKE, headers, &message)
            .await
        {
            Ok(answer) => {
                let data = answer.message.data.unwrap_or_default();
                let mut headers = answer.headers;
                headers.remove(http::header::CONTENT_TYPE);
                wire::set_content_type(&mut headers, &answer.message.content_type, &data.type_url);
                Ok(Reply {
                    status: Status::Grpc {
                        code: 0,
                        message: String::new(),
                        details: Vec::new(),
                    },
                    headers,
                    trailers: answer.trailers,
                    body: data.value.into(),
                    type_url: data.type_url,
                })
            }
            Err(Error::Status {
                code,
                message,
                details,
            }) => Ok(Reply {
                status: Status::Grpc {
                    code,
                    message,
                    details: status_details(&details),
                },
                headers: HeaderMap::new(),
                trailers: HeaderMap::new(),
                body: Body::Empty,
                type_url: String::new(),
            }),
            Err(error) => Err(error),
        }
    }

    async fn deliver(&self, event: TopicEvent) -> Result<Outcome, Error> {
        let message = topic_event(&event)?;
        let headers = delivery(&event.metadata, event.trace.as_ref())?;
        match self
            .unary::<_, runtime::TopicEventResponse>(ON_TOPIC_EVENT, headers, &message)
            .await
        {
            Ok(answer) => outcome(answer.message.status),
            Err(Error::Status {
                code: UNIMPLEMENTED, ..
            }) => Err(Error::Unimplemented("OnTopicEvent")),
            Err(error) => Err(error),
        }
    }

    async fn deliver_bulk(&self, event: BulkEvent) -> Result<Vec<Verdict>, Error> {
        let (request, mut verdicts) = bulk_request(&event);
        if request.entries.is_empty() {
            return Ok(verdicts);
        }
        let unimplemented = |outcome: &Result<_, Error>| matches!(outcome, Err(Error::Status { code, .. }) if *code == UNIMPLEMENTED);
        let mut answer = None;
        for path in [ON_BULK_TOPIC_EVENT, ON_BULK_TOPIC_EVENT_ALPHA] {
            let headers = delivery(&event.metadata, event.trace.as_ref())?;
            let outcome = self
                .unary::<_, runtime::TopicEventBulkResponse>(path, headers, &request)
                .await;
            if !unimplemented(&outcome) {
                answer = Some(outcome?);
                break;
            }
        }
        let answer = answer.ok_or(Error::Unimplemented("OnBulkTopicEvent"))?;
        let verdict = |entry: runtime::TopicEventBulkResponseEntry| Verdict {
            outcome: outcome(entry.status).map_err(|_| bulk::unknown(&entry.entry_id, entry.status)),
            id: entry.entry_id,
        };
        verdicts.extend(answer.message.statuses.into_iter().map(verdict));
        Ok(verdicts)
    }

    async fn takes(&self, binding: &str, _route: &str) -> Result<bool, Error> {
        match self
            .unary::<(), runtime::ListInputBindingsResponse>(LIST_INPUT_BINDINGS, HeaderMap::new(), &())
            .await
        {
            Ok(answer) => Ok(answer.message.bindings.iter().any(|name| name == binding)),
            Err(Error::Status {
                code: UNIMPLEMENTED, ..
            }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn trigger(&self, event: binding::Event) -> Result<binding::Reply, Error> {
        let mut headers = HeaderMap::new();
        if let Some(trace) = &event.trace {
            insert_trace(&mut headers, trace);
        }
        let started = Instant::now();
        let sent = event.data.len();
        let message = runtime::BindingEventRequest {
            name: event.name,
            data: event.data,
            metadata: event.metadata.into_inner().into_iter().collect(),
        };
        let answer = self
            .unary::<_, runtime::BindingEventResponse>(ON_BINDING_EVENT, headers, &message)
            .await;
        if let Some(metrics) = &self.metrics {
            // COMPAT(pkg/runtime/processor/binding/send.go): also counted as if the app had called.
            let (code, received) = match &answer {
                Ok(answer) => (0, answer.message.data.len()),
                Err(error) => (error.grpc_code(), 0),
            };
            let elapsed = started.elapsed();
            metrics.served(
                ON_BINDING_EVENT,
                code_name(code),
                bytes(sent),
                bytes(received),
                elapsed,
            );
        }
        match answer {
            Ok(answer) => Ok(binding::of_grpc(answer.message)),
            Err(Error::Status {
                code: UNIMPLEMENTED, ..
            }) => Err(Error::Unimplemented("OnBindingEvent")),
            Err(error) => Err(error),
        }
    }

    /// The sidecar's own token is replaced by the app's.
    async fn proxy(&self, mut request: Request<Body>) -> Result<Response<Body>, Error> {
        request.headers_mut().remove("dapr-api-token");
        self.add_token(request.headers_mut());
        Ok(self.pool.send(request).await?.map(Body::from))
    }

    async fn healthy(&self) -> Result<(), Error> {
        let probe = self.unary::<(), ()>(HEALTH_CHECK, HeaderMap::new(), &());
        tokio::time::timeout(self.health_timeout, probe)
            .await
            .map_err(|_| Error::Timeout(self.health_timeout))??;
        Ok(())
    }
}

/// The binary form of a trace that is none, as [`super::NO_TRACE`].
const NO_TRACE_BINARY: HeaderValue = HeaderValue::from_static("AAAAAAAAAAAAAAAAAAAAAAAAAQAAAAAAAAAAAgA");

/// Both forms of the call's trace: libraries read the one or the other.
fn complete_trace(headers: &mut HeaderMap) {
    match trace_of(headers) {
        Some(trace) => insert_trace(headers, &trace),
        None => {
            headers.entry("traceparent").or_insert(super::NO_TRACE);
            headers.entry("grpc-trace-bin").or_insert(NO_TRACE_BINARY);
        }
    }
}

fn bytes(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// The metadata of a delivery, trace included.
fn delivery(metadata: &Metadata, trace: Option<&Context>) -> Result<HeaderMap, Error> {
    let mut headers = super::fields(metadata, |name| {
        matches!(name.as_str(), "content-type" | "content-length" | "te")
    })?;
    match trace {
        Some(trace) => insert_trace(&mut headers, trace),
        None => drop(headers.entry("traceparent").or_insert(super::NO_TRACE)),
    }
    Ok(headers)
}

/// The message of `OnBulkTopicEvent`, and the entries that cannot be in it.
fn bulk_request(event: &BulkEvent) -> (runtime::TopicEventBulkRequest, Vec<Verdict>) {
    use runtime::topic_event_bulk_request_entry::Event;
    let mut entries = Vec::with_capacity(event.entries.len());
    let mut unfit = Vec::new();
    for entry in &event.entries {
        let payload = match &entry.payload {
            Payload::Raw(bytes) => Ok(Event::Bytes(bytes.clone())),
            Payload::CloudEvent(json) => attributes(json).map(|it| {
                Event::CloudEvent(runtime::TopicEventCeRequest {
                    id: it.id,
                    source: it.source,
                    r#type: it.r#type,
                    spec_version: it.spec_version,
                    data_content_type: it.data_content_type,
                    data: it.data,
                    extensions: it.extensions,
                })
            }),
        };
        match payload {
            Ok(payload) => entries.push(runtime::TopicEventBulkRequestEntry {
                entry_id: entry.id.clone(),
                content_type: entry.content_type.clone(),
                metadata: strings(&entry.metadata),
                event: Some(payload),
            }),
            Err(error) => unfit.push(Verdict {
                id: entry.id.clone(),
                outcome: Err(error.to_string()),
            }),
        }
    }
    let request = runtime::TopicEventBulkRequest {
        id: event.id.clone(),
        entries,
        metadata: strings(&event.metadata),
        topic: event.topic.clone(),
        pubsub_name: event.pubsub.clone(),
        r#type: bulk::KIND.to_owned(),
        path: event.path.clone(),
    };
    (request, unfit)
}

fn strings(metadata: &Metadata) -> std::collections::HashMap<String, String> {
    metadata
        .iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// What an answer to `OnTopicEvent` means; also used for streaming subscribers.
pub fn outcome(status: i32) -> Result<Outcome, Error> {
    match TopicEventResponseStatus::try_from(status) {
        Ok(TopicEventResponseStatus::Success) => Ok(Outcome::Success),
        Ok(TopicEventResponseStatus::Retry) => Ok(Outcome::Retry),
        Ok(TopicEventResponseStatus::Drop) => Ok(Outcome::Drop),
        Err(_) => Err(Error::Malformed(format!(
            "unknown status returned from app while processing pub/sub event: {status}"
        ))),
    }
}

/// HTTP headers as gRPC metadata, of a caller for the app or of an answer for the caller: permanent HTTP names get the
/// prefix `dapr-`.
/// COMPAT(pkg/messaging/v1/util.go): the list of permanent names.
pub fn metadata_of(headers: &HeaderMap) -> HeaderMap {
    let mut metadata = HeaderMap::with_capacity(headers.keys_len());
    for (name, value) in headers {
        let text = name.as_str();
        if text == wire::DESTINATION_APP_ID {
            continue;
        }
        if is_permanent(text) {
            if let Ok(name) = HeaderName::try_from(format!("dapr-{text}")) {
                metadata.append(name, value.clone());
            }
        } else if !wire::is_hop_by_hop(name) {
            metadata.append(name.clone(), value.clone());
        }
    }
    metadata
}

fn is_permanent(name: &str) -> bool {
    matches!(
        name,
        "accept"
            | "accept-charset"
            | "accept-language"
            | "accept-ranges"
            | "connection"
            | "keep-alive"
            | "proxy-connection"
            | "transfer-encoding"
            | "upgrade"
            | "cache-control"
            | "content-type"
            | "content-length"
            | "cookie"
            | "date"
            | "expect"
            | "from"
            | "host"
            | "if-match"
            | "if-modified-since"
            | "if-none-match"
            | "if-schedule-tag-match"
            | "if-unmodified-since"
            | "max-forwards"
            | "origin"
            | "pragma"
            | "referer"
            | "via"
            | "warning"
    )
}

/// The details of an encoded `google.rpc.Status`.
fn status_details(encoded: &[u8]) -> Vec<Bytes> {
    use prost::Message as _;
    #[derive(Clone, PartialEq, prost::Message)]
    struct RpcStatus {
        #[prost(message, repeated, tag = "3")]
        details: Vec<Any>,
    }
    // Details that cannot be read are no details: code and message stand for themselves.
    let status = RpcStatus::decode(encoded).unwrap_or_default();
    status
        .details
        .iter()
        .map(|any| any.encode_to_vec().into())
        .collect()
}

fn subscription(declared: runtime::TopicSubscription) -> Subscription {
    let routes = declared.routes.unwrap_or_default();
    let mut rules: Vec<Rule> = routes
        .rules
        .into_iter()
        .map(|rule| Rule {
            expression: rule.r#match,
            path: rule.path,
        })
        .collect();
    if !routes.default.is_empty() || rules.is_empty() {
        rules.push(Rule {
            expression: String::new(),
            path: routes.default,
        });
    }
    let bulk = declared.bulk_subscribe.unwrap_or_default();
    Subscription {
        pubsub: declared.pubsub_name,
        topic: declared.topic,
        metadata: declared.metadata.into_iter().collect::<Metadata>(),
        rules,
        dead_letter_topic: declared.dead_letter_topic,
        bulk: Bulk {
            enabled: bulk.enabled,
            max_messages: bulk.max_messages_count,
            max_await_ms: bulk.max_await_duration_ms,
        },
    }
}

/// An event as the message of `OnTopicEvent`: known attributes as fields, all others as extensions.
pub fn topic_event(event: &TopicEvent) -> Result<runtime::TopicEventRequest, Error> {
    Ok(runtime::TopicEventRequest {
        topic: event.topic.clone(),
        pubsub_name: event.pubsub.clone(),
        path: event.path.clone(),
        ..attributes(&event.envelope)?
    })
}

fn attributes(envelope: &[u8]) -> Result<runtime::TopicEventRequest, Error> {
    let envelope: serde_json::Map<String, Value> = serde_json::from_slice(envelope)
        .map_err(|error| Error::Malformed(format!("the event is not a JSON object: {error}")))?;
    let mut message = runtime::TopicEventRequest::default();
    let mut data = None;
    let mut extensions = std::collections::BTreeMap::new();
    for (name, value) in envelope {
        let text = |value: Value| {
            if let Value::String(text) = value {
                text
            } else {
                String::new()
            }
        };
        match name.as_str() {
            "id" => message.id = text(value),
            "source" => message.source = text(value),
            "type" => message.r#type = text(value),
            "specversion" => message.spec_version = text(value),
            "datacontenttype" => message.data_content_type = text(value),
            "data_base64" if !value.is_null() => {
                let encoded = text(value);
                let decoded = BASE64.decode(encoded).map_err(|error| {
                    Error::Malformed(format!(
                        "unable to base64 decode cloudEvent field data_base64: {error}"
                    ))
                })?;
                message.data = decoded.into();
                data = None;
            }
            "data_base64" => {}
            "data" => data = Some(value),
            _ => {
                extensions.insert(name, struct_value(value));
            }
        }
    }
    if let Some(data) = data.filter(|data| !data.is_null())
        && message.data.is_empty()
    {
        message.data = payload(&message.data_content_type, data)?;
    }
    message.extensions = Some(prost_types::Struct { fields: extensions });
    Ok(message)
}

/// The bytes of a `data` member, by its content type.
fn payload(content_type: &str, data: Value) -> Result<Bytes, Error> {
    let kind = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let is_text = kind.starts_with("text/") || kind == "application/xml";
    let is_json = kind == "application/json" || kind.ends_with("+json");
    match data {
        Value::String(text) if is_text => Ok(text.into()),
        _ if is_text => Err(Error::Malformed(
            "unexpected data type encountered in envelope".to_owned(),
        )),
        data if is_json => Ok(data.to_string().into()),
        _ => Ok(Bytes::new()),
    }
}

fn struct_value(value: Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(flag) => Kind::BoolValue(flag),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text),
        Value::Array(items) => Kind::ListValue(prost_types::ListValue {
            values: items.into_iter().map(struct_value).collect(),
        }),
        Value::Object(members) => Kind::StructValue(prost_types::Struct {
            fields: members
                .into_iter()
                .map(|(name, value)| (name, struct_value(value)))
                .collect(),
        }),
    };
    prost_types::Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests;
