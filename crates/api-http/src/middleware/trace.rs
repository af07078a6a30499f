//! The span of a request, and the trace headers of its answer.
//!
//! COMPAT(pkg/diagnostics/http_tracing.go): names, attributes, which requests have none, and that the answer repeats
//! `baggage` and gets a `traceparent` unless the app sent its own.

use super::token;
use crate::endpoint::Endpoint;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, Response, StatusCode};
use outrigger_channel::app::insert_trace;
use outrigger_channel::body::Body;
use outrigger_daemon::trace::baggage::{Baggage, Invalid};
use outrigger_daemon::trace::{Context, Kind, Span, Tracer};
use std::net::SocketAddr;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const BAGGAGE: HeaderName = HeaderName::from_static("baggage");

/// A request under way, as tracing sees it.
pub(crate) struct Trace {
    span: Span,
    baggage: Option<HeaderValue>,
}

impl Trace {
    /// No span: health checks, and everything while tracing is switched off.
    pub(crate) fn none() -> Self {
        Self {
            span: Span::none(),
            baggage: None,
        }
    }

    /// Begins the request's span. `path` is decoded; it names the span.
    ///
    /// # Errors
    /// Baggage that cannot be read; the request is then refused.
    pub(crate) fn start(tracer: &Tracer, path: &str, headers: &HeaderMap) -> Result<Self, Invalid> {
        // COMPAT(pkg/diagnostics/utils, IsTracingEnabled): off is only a sampling rate of zero. Without any configuration
        // there are no spans of ours, and the trace that comes in is passed on.
        let off = tracer.sampler().is_some() && !tracer.enabled();
        if off || path.contains("/healthz") {
            return Ok(Self::none());
        }
        // First: a refused request leaves no span.
        let baggage = baggage(headers)?;
        let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let parent =
            text(&TRACEPARENT).and_then(|traceparent| Context::from_headers(traceparent, text(&TRACESTATE)));
        let span = tracer.start(path, Kind::Client, parent.as_ref());
        Ok(Self { span, baggage })
    }

    /// What the next hop gets.
    pub(crate) fn context(&self) -> Option<&Context> {
        self.span.context()
    }

    /// Attributes that are known from the request alone.
    pub(crate) fn describe(&mut self, request: &Described<'_>) {
        if !self.span.is_recording() {
            return;
        }
        let api = format!("{} {}", request.method, request.path);
        for (name, value) in request.headers {
            // What callers add for their own use; tokens and addresses are none of it.
            if name.as_str().starts_with("dapr-")
                && !matches!(name.as_str(), token::HEADER | "dapr-app-id")
                && let Ok(value) = value.to_str()
            {
                self.span.set(name.as_str().to_owned(), value);
            }
        }
        match request.endpoint {
            Some(endpoint) if matches!(endpoint.group(), "state" | "secrets" | "bindings") => {
                self.span.text("db.system", endpoint.group());
                self.span.text("db.connection_string", endpoint.group());
                self.span.text("db.statement", &api);
                self.span.text("db.name", request.component);
            }
            Some(Endpoint::PublishEvent | Endpoint::BulkPublishEvent) => {
                self.span.text("messaging.system", "pubsub");
                self.span.text("messaging.destination.name", request.topic);
            }
            _ => {}
        }
        self.span.text("dapr.protocol", "http");
        self.span.text("dapr.api", &api);
        self.span.text("http.request.method", request.method.as_str());
        self.span.text("url.full", request.target);
        if let Some(peer) = request.peer {
            self.span.text("server.address", &peer.ip().to_string());
            self.span.text("server.port", &peer.port().to_string());
        }
    }

    /// An invocation is named after what it calls.
    pub(crate) fn invokes(&mut self, app: &str, method: &str) {
        if self.span.is_recording() {
            self.span.text("rpc.service", "ServiceInvocation");
            self.span.text("net.peer.name", app);
            self.span.rename(&format!("CallLocal/{app}/{method}"));
        }
    }

    /// Ends the span with the head of the answer, and completes that head.
    pub(crate) fn finish(mut self, response: &mut Response<Body>) {
        let status = response.status();
        if self.span.is_recording() {
            self.span.text("dapr.status_code", status.as_str());
            if status >= StatusCode::BAD_REQUEST {
                let reason = status.canonical_reason().unwrap_or("Unknown");
                self.span
                    .fail(format_args!("Code({}): {reason}", status.as_u16()));
            }
        }
        let headers = response.headers_mut();
        if let Some(baggage) = self.baggage
            && !headers.contains_key(BAGGAGE)
        {
            headers.insert(BAGGAGE, baggage);
        }
        if let Some(context) = self.span.context()
            && !headers.contains_key(TRACEPARENT)
        {
            insert_trace(headers, context);
        }
    }
}

/// What [`Trace::describe`] may show.
pub(crate) struct Described<'r> {
    pub(crate) method: &'r Method,
    /// Decoded.
    pub(crate) path: &'r str,
    /// Path and query as sent.
    pub(crate) target: &'r str,
    pub(crate) headers: &'r HeaderMap,
    pub(crate) endpoint: Option<Endpoint>,
    pub(crate) component: &'r str,
    pub(crate) topic: &'r str,
    pub(crate) peer: Option<SocketAddr>,
}

/// The request's baggage as one value, unchanged, if it is readable.
pub(crate) fn baggage(headers: &HeaderMap) -> Result<Option<HeaderValue>, Invalid> {
    let mut values = headers.get_all(BAGGAGE).iter();
    let Some(first) = values.next() else {
        return Ok(None);
    };
    let mut joined = first.clone();
    for value in values {
        let text = [joined.as_bytes(), b",", value.as_bytes()].concat();
        joined = HeaderValue::from_bytes(&text).expect("two header values and a comma make a header value");
    }
    Baggage::parse(&String::from_utf8_lossy(joined.as_bytes()))?;
    Ok(Some(joined).filter(|joined| !joined.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::baggage;
    use http::{HeaderMap, HeaderValue};

    #[test]
    fn baggage_is_checked_and_kept() {
        for (values, expected) in [
            (&[][..], Ok(None)),
            (&["a=1,b=2"], Ok(Some("a=1,b=2"))),
            (&["a=1", "b=%20x"], Ok(Some("a=1,b=%20x"))),
            (&["nonsense"], Err(())),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("baggage", HeaderValue::from_static(value));
            }
            let found = baggage(&headers).map_err(drop);
            assert_eq!(
                found,
                expected.map(|value: Option<&str>| value.map(|value| value.parse().unwrap())),
                "{values:?}"
            );
        }
    }
}
