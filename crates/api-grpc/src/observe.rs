//! What is noted of every call: its span, its metrics, its line in the access log.
//!
//! A unary call is complete when its answer is; a stream is followed to its end, or to where the client hangs up. Streams
//! that nobody asked to note pass through untouched.
//!
//! COMPAT(pkg/diagnostics/grpc_tracing.go, pkg/diagnostics/grpc_monitoring.go, pkg/api/grpc/server.go).

mod describe;
mod follow;

pub(crate) use describe::Describe;

use crate::error::{GRPC, Status, code};
use crate::token;
use crate::unary::{Answer, Whole};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use follow::Followed;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use http::{HeaderMap, Response, Uri};
use outrigger_channel::body::Body;
use outrigger_channel::error::code_name;
use outrigger_channel::peer::trace_of;
use outrigger_channel::wire;
use outrigger_daemon::log::{Field, Level, Log, Value};
use outrigger_daemon::metrics;
use outrigger_daemon::trace::baggage::{Baggage, Invalid};
use outrigger_daemon::trace::{Context, Kind, Span, Tracer};
use std::sync::Arc;
use tokio::time::Instant;

const BAGGAGE: HeaderName = HeaderName::from_static("baggage");
const TRACE: HeaderName = HeaderName::from_static("grpc-trace-bin");

/// Where what is learned goes.
pub(crate) struct Sinks {
    pub(crate) tracer: Tracer,
    pub(crate) metrics: Option<Arc<metrics::Grpc>>,
    /// Scope `dapr.runtime.grpc.api-info`; `None`: no access log.
    pub(crate) access: Option<Log>,
}

/// What a call is, for its span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    /// A method of ours.
    Api,
    /// Passed on to our own app.
    ProxiedHere,
    ProxiedAway,
}

/// A call under way.
pub(crate) struct Observed {
    started: Instant,
    uri: Uri,
    agent: Option<HeaderValue>,
    span: Span,
    baggage: Option<HeaderValue>,
    /// Size of the request message, in bytes.
    received: usize,
}

impl Observed {
    /// # Errors
    /// Baggage that cannot be read; the call is then refused.
    pub(crate) fn start(sinks: &Sinks, uri: &Uri, headers: &HeaderMap, sort: Sort) -> Result<Self, Status> {
        let mut this = Self {
            started: Instant::now(),
            uri: uri.clone(),
            agent: sinks
                .access
                .as_ref()
                .and_then(|_| headers.get(USER_AGENT).cloned()),
            span: Span::none(),
            baggage: None,
            received: 0,
        };
        if is_on(&sinks.tracer) {
            this.baggage = baggage(headers).map_err(|error| {
                Status::new(code::INVALID_ARGUMENT, format!("invalid baggage header: {error}"))
            })?;
            let kind = if sort == Sort::ProxiedHere {
                Kind::Server
            } else {
                Kind::Client
            };
            this.span = sinks.tracer.start(uri.path(), kind, trace_of(headers).as_ref());
            if this.span.is_recording() {
                this.attributes(headers, sort);
            }
        }
        Ok(this)
    }

    fn attributes(&mut self, headers: &HeaderMap, sort: Sort) {
        for (name, value) in headers {
            // What callers add for their own use; tokens and addresses are none of it.
            let name = name.as_str();
            if name.starts_with("dapr-")
                && !name.ends_with("-bin")
                && !matches!(name, token::HEADER | "dapr-app-id")
                && let Ok(value) = value.to_str()
            {
                self.span.set(name.to_owned(), value);
            }
        }
        if sort == Sort::Api {
            self.span.text("dapr.protocol", "grpc");
            self.span.text("dapr.api", self.uri.path());
        }
    }

    /// What the next hop gets.
    pub(crate) fn context(&self) -> Option<&Context> {
        self.span.context()
    }

    /// The request is there.
    pub(crate) fn received(&mut self, request: &impl Describe, size: usize) {
        self.received = size;
        if self.span.is_recording() {
            request.describe(&mut self.span, self.uri.path());
        }
    }

    /// The answer is there.
    pub(crate) fn answered(mut self, sinks: &Sinks, answer: Answer) -> Response<Body> {
        let Answer {
            mut headers,
            message,
            trailers,
        } = answer;
        let (code, text) = wire::grpc_status(&trailers).unwrap_or_default();
        if let Some(metrics) = &sinks.metrics {
            let sent = message
                .as_ref()
                .map_or(0, |message| message.len().saturating_sub(wire::PREFIX));
            metrics.served(
                self.uri.path(),
                code_name(code),
                bytes(self.received),
                bytes(sent),
                self.started.elapsed(),
            );
        }
        self.conclude(sinks, code, &text);
        if !headers.contains_key(TRACE)
            && let Some(context) = self.span.context()
        {
            let encoded = STANDARD_NO_PAD.encode(context.binary());
            headers.insert(
                TRACE,
                HeaderValue::try_from(encoded).expect("base64 is a valid header value"),
            );
        }
        self.decorate(&mut headers);
        let bare = headers.is_empty() && message.is_none();
        headers.insert(CONTENT_TYPE, GRPC);
        let mut response = if bare {
            headers.extend(trailers);
            Response::new(Body::Empty)
        } else {
            Response::new(Body::stream(Whole {
                message,
                trailers: Some(trailers),
            }))
        };
        *response.headers_mut() = headers;
        response
    }

    /// The head of a stream's answer is there; what is noted is noted at its end.
    pub(crate) fn streaming(
        self,
        sinks: &Arc<Sinks>,
        mut response: Response<Body>,
        counted: bool,
    ) -> Response<Body> {
        self.decorate(response.headers_mut());
        if sinks.access.is_none() && !(counted && sinks.metrics.is_some()) && !self.span.is_recording() {
            return response;
        }
        if let Some((code, text)) = wire::grpc_status(response.headers()) {
            self.ended(sinks, counted, code, &text);
            return response;
        }
        let followed = Followed::new(self, Arc::clone(sinks), counted);
        response.map(|body| followed.body(body))
    }

    /// A stream has ended.
    fn ended(mut self, sinks: &Sinks, counted: bool, code: i32, text: &str) {
        if let Some(metrics) = sinks.metrics.as_ref().filter(|_| counted) {
            metrics.served_stream(self.uri.path(), code_name(code), self.started.elapsed());
        }
        self.conclude(sinks, code, text);
    }

    fn decorate(&self, headers: &mut HeaderMap) {
        if let Some(baggage) = &self.baggage {
            headers.entry(BAGGAGE).or_insert_with(|| baggage.clone());
        }
    }

    fn conclude(&mut self, sinks: &Sinks, code: i32, text: &str) {
        if code != 0 {
            self.span.fail(text);
        }
        let Some(log) = &sinks.access else { return };
        let agent = self
            .agent
            .as_ref()
            .and_then(|agent| agent.to_str().ok())
            .unwrap_or_default();
        let millis = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let fields: [Field<'_>; 4] = [
            ("method", Value::Text(self.uri.path())),
            ("code", Value::Signed(code.into())),
            ("duration", Value::Unsigned(millis)),
            ("useragent", Value::Text(agent)),
        ];
        let shown = if agent.is_empty() {
            fields.split_last().map_or(&fields[..], |(_, rest)| rest)
        } else {
            &fields[..]
        };
        log.write(Level::Info, shown, "gRPC API Called");
    }
}

/// Off is only a sampling rate of zero. Without any configuration there are no spans of ours, and the trace that comes in is
/// passed on. COMPAT(pkg/diagnostics/utils, IsTracingEnabled).
fn is_on(tracer: &Tracer) -> bool {
    tracer.enabled() || tracer.sampler().is_none()
}

/// The request's baggage in its normal form, if it is readable and there is any.
fn baggage(headers: &HeaderMap) -> Result<Option<HeaderValue>, Invalid> {
    if !headers.contains_key(BAGGAGE) {
        return Ok(None);
    }
    let values: Vec<_> = headers
        .get_all(BAGGAGE)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()))
        .collect();
    let text = Baggage::parse(&values.join(","))?.to_string();
    Ok(HeaderValue::try_from(text).ok().filter(|text| !text.is_empty()))
}

fn bytes(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
