//! Metrics and access log: what is known of a request only when its answer is complete.
//!
//! An answer of known length counts as complete when its head is handed over; one that streams is followed to its end,
//! or to where the client hangs up. Nothing is allocated for the former, nor for labels.

use crate::endpoint::Endpoint;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderValue, USER_AGENT};
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use http_body::{Body as HttpBody, Frame, SizeHint};
use outrigger_channel::body::{Body, Error};
use outrigger_daemon::log::{Field, Level, Log, Value};
use outrigger_daemon::metrics;
use outrigger_runtime::admission::Pass;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::time::Instant;

/// The access log, `spec.logging.apiLogging`.
#[derive(Debug)]
pub(crate) struct AccessLog {
    /// Scope `dapr.runtime.http-info`.
    pub(crate) log: Log,
    /// Names of endpoints instead of paths.
    pub(crate) obfuscate_urls: bool,
    pub(crate) omit_health_checks: bool,
}

/// Where what is learned goes.
pub(crate) struct Sinks {
    pub(crate) metrics: Option<Arc<metrics::Http>>,
    pub(crate) access: Option<AccessLog>,
}

/// A request under way.
pub(crate) struct Request {
    started: Instant,
    method: Method,
    uri: Uri,
    bytes: u64,
    line: Line,
    /// Given back with the answer.
    pass: Option<Pass>,
}

/// What the access log says of it.
pub(crate) enum Line {
    /// Nothing.
    Omitted,
    Of {
        endpoint: Option<Endpoint>,
        app: String,
        agent: Option<HeaderValue>,
    },
}

impl Request {
    /// `uri` is cheap to clone.
    pub(crate) fn start(method: &Method, uri: &Uri, headers: &HeaderMap) -> Self {
        let length = headers
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok());
        Self {
            started: Instant::now(),
            method: method.clone(),
            uri: uri.clone(),
            bytes: length.and_then(|length| length.parse().ok()).unwrap_or(0),
            line: Line::Omitted,
            pass: None,
        }
    }

    /// Keeps a place among the requests that are worked on, until this one is over.
    pub(crate) fn hold(&mut self, pass: Option<Pass>) {
        self.pass = pass;
    }

    /// Asks for a line in the access log, if there is one. Requests refused before this are not in it.
    pub(crate) fn log(&mut self, sinks: &Sinks, endpoint: Option<Endpoint>, headers: &HeaderMap) {
        let Some(access) = &sinks.access else { return };
        if access.omit_health_checks && endpoint.is_some_and(Endpoint::is_health_check) {
            return;
        }
        self.line = Line::Of {
            endpoint,
            app: String::new(),
            agent: headers.get(USER_AGENT).cloned(),
        };
    }

    /// An invocation: its line names the app.
    pub(crate) fn invokes(&mut self, target: &str) {
        if let Line::Of { app, .. } = &mut self.line {
            target.clone_into(app);
        }
    }

    /// Reports now if the answer's length is known, otherwise when its body has ended.
    pub(crate) fn finish(self, sinks: &Arc<Sinks>, response: Response<Body>) -> Response<Body> {
        if sinks.metrics.is_none() && matches!(self.line, Line::Omitted) && self.pass.is_none() {
            return response;
        }
        let status = response.status();
        if let Some(length) = response.body().length() {
            self.report(sinks, status, length);
            return response;
        }
        let sinks = Arc::clone(sinks);
        response.map(|body| {
            Body::stream(Followed {
                body,
                sent: 0,
                status,
                request: Some(self),
                sinks,
            })
        })
    }

    fn report(self, sinks: &Sinks, status: StatusCode, sent: u64) {
        let elapsed = self.started.elapsed();
        let path = crate::path::decode(self.uri.path()).unwrap_or_else(|_| self.uri.path().into());
        if let Some(metrics) = &sinks.metrics {
            metrics.served(self.method.as_str(), &path, status, self.bytes, sent, elapsed);
        }
        let (Some(access), Line::Of { endpoint, app, agent }) = (&sinks.access, self.line) else {
            return;
        };
        let name = endpoint.map_or("", Endpoint::name);
        let method = match endpoint {
            Some(Endpoint::InvokeService) if access.obfuscate_urls && !app.is_empty() => {
                format!("{name}/{app}")
            }
            _ if access.obfuscate_urls => name.to_owned(),
            _ => format!("{} {path}", self.method),
        };
        let agent = agent
            .as_ref()
            .and_then(|agent| agent.to_str().ok())
            .unwrap_or_default();
        let fields: [Field<'_>; 5] = [
            ("method", Value::Text(&method)),
            ("code", Value::Unsigned(status.as_u16().into())),
            (
                "duration",
                Value::Unsigned(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)),
            ),
            ("size", Value::Unsigned(sent)),
            ("useragent", Value::Text(agent)),
        ];
        let shown = if agent.is_empty() {
            &fields[..4]
        } else {
            &fields[..]
        };
        access.log.write(Level::Info, shown, "HTTP API Called");
    }
}

/// A body that reports when it has ended or is dropped.
struct Followed {
    body: Body,
    sent: u64,
    status: StatusCode,
    request: Option<Request>,
    sinks: Arc<Sinks>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        if let Some(request) = self.request.take() {
            request.report(&self.sinks, self.status, self.sent);
        }
    }
}

impl HttpBody for Followed {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            this.sent = this
                .sent
                .saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
