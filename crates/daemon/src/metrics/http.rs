//! `http/…`: requests that arrive by HTTP and requests made to the app.
//!
//! The `path` label is where cardinality gets out of hand, hence [`HttpConfig`]: with increased cardinality paths are
//! shown with keys and ids cut out; without, only paths that match a configured template are. Either way a family
//! is bounded by its registry.
//!
//! COMPAT(pkg/diagnostics/http_monitoring.go): names, help texts, labels, and which label is empty when.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::paths::{self, PathError, Paths};
use super::table::Table;
use super::{Buckets, Counter, Family, Histogram, Label, Registry, Timed};

/// Which paths and verbs become labels (`spec.metrics.http`).
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Show paths that match no template, with what varies cut out. The reference's default.
    pub increased_cardinality: bool,
    /// Templates such as `/orders/{id}`; they also apply behind `/v1.0/invoke/{app_id}/method`.
    pub path_matching: Vec<String>,
    /// Leave the `method` label empty.
    pub exclude_verbs: bool,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            increased_cardinality: true,
            path_matching: Vec::new(),
            exclude_verbs: false,
        }
    }
}

/// Families of HTTP servers and clients.
pub struct Http {
    increased_cardinality: bool,
    exclude_verbs: bool,
    paths: Paths,
    served: Served,
    request_bytes: Family<Histogram, 0>,
    response_bytes: Family<Histogram, 0>,
    client: Timed<3>,
    client_sent: Family<Histogram, 3>,
    client_received: Family<Histogram, 0>,
    probes: Timed<1>,
}

/// What is recorded per method, path and status, found with one look.
struct Served {
    requests: Family<Counter, 3>,
    /// COMPAT: exists only with increased cardinality.
    responses: Option<Family<Counter, 3>>,
    latency: Family<Histogram, 3>,
    series: Table<ServedSeries, 3>,
    rules: bool,
}

struct ServedSeries {
    requests: Arc<Counter>,
    responses: Option<Arc<Counter>>,
    latency: Arc<Histogram>,
}

const METHOD: Label = Label::closed("method");
const PATH: Label = Label::open("path");
const STATUS: Label = Label::closed("status");

impl Http {
    /// # Errors
    /// Templates that cannot be told apart, or that are malformed.
    pub fn new(registry: &Registry, config: &HttpConfig) -> Result<Self, PathError> {
        let bytes = |name: &str, help: &str| registry.histogram(name, help, [], Buckets::bytes());
        Ok(Self {
            increased_cardinality: config.increased_cardinality,
            exclude_verbs: config.exclude_verbs,
            paths: Paths::new(&config.path_matching)?,
            served: Served::new(registry, config.increased_cardinality),
            request_bytes: bytes(
                "http/server/request_bytes",
                "HTTP request body size if set as ContentLength (uncompressed) in server.",
            ),
            response_bytes: bytes(
                "http/server/response_bytes",
                "HTTP response body size (uncompressed) in server.",
            ),
            client: Timed::new(
                registry.counter(
                    "http/client/completed_count",
                    "Count of completed requests",
                    [METHOD, PATH, STATUS],
                ),
                registry.latency(
                    "http/client/roundtrip_latency",
                    "Time between first byte of request headers sent to last byte of response received, or terminal error",
                    [METHOD, PATH, STATUS],
                ),
            ),
            client_sent: registry.histogram(
                "http/client/sent_bytes",
                "Total bytes sent in request body (not including headers)",
                [METHOD, PATH, STATUS],
                Buckets::bytes(),
            ),
            client_received: bytes(
                "http/client/received_bytes",
                "Total bytes received in response bodies (not including headers but including error responses with bodies)",
            ),
            probes: Timed::new(
                registry.counter(
                    "http/healthprobes/completed_count",
                    "Count of completed health probes",
                    [STATUS],
                ),
                registry.latency(
                    "http/healthprobes/roundtrip_latency",
                    "Time between first byte of health probes headers sent to last byte of response received, or terminal error",
                    [STATUS],
                ),
            ),
        })
    }

    /// A request served: sizes are those of the bodies, the request's being its declared length.
    pub fn served(
        &self,
        method: &str,
        path: &str,
        status: StatusCode,
        request_bytes: u64,
        response_bytes: u64,
        elapsed: Duration,
    ) {
        let path = if self.increased_cardinality || self.paths.any() {
            self.path(path)
        } else {
            Cow::Borrowed("")
        };
        self.served
            .record([self.method(method), &path, status.as_str()], elapsed);
        self.request_bytes.with([]).observe_count(request_bytes);
        self.response_bytes.with([]).observe_count(response_bytes);
    }

    /// A request about to be sent to the app.
    pub fn sending(&self, method: &str, path: &str, bytes: u64) {
        // COMPAT(ClientRequestStarted): `status` is declared and never set.
        self.client_sent
            .with([self.method(method), &self.client_path(path), ""])
            .observe_count(bytes);
    }

    /// A request to the app answered, or failed with the status that its caller will see.
    pub fn called(&self, method: &str, path: &str, status: StatusCode, received: u64, elapsed: Duration) {
        self.client.record(
            [self.method(method), &self.client_path(path), status.as_str()],
            elapsed,
        );
        self.client_received.with([]).observe_count(received);
    }

    /// A probe of the app's health.
    pub fn probed(&self, status: StatusCode, elapsed: Duration) {
        self.probes.record([status.as_str()], elapsed);
    }

    fn method<'a>(&self, method: &'a str) -> &'a str {
        match method {
            _ if self.exclude_verbs => "",
            "GET" | "PUT" | "POST" | "PATCH" | "DELETE" | "HEAD" | "OPTIONS" | "CONNECT" | "TRACE" => method,
            _ => "UNKNOWN",
        }
    }

    /// The `path` label: a template that matches, else what cardinality allows.
    fn path<'a>(&'a self, path: &'a str) -> Cow<'a, str> {
        if matches!(
            path,
            "/dapr/config" | "/dapr/metrics" | "/dapr/subscribe" | "/healthz"
        ) {
            return Cow::Borrowed(path);
        }
        let path = paths::normalised(path);
        if self.paths.any() {
            if let Some(template) = self.paths.find(&path) {
                return Cow::Borrowed(template);
            }
            // A template may be written for the path with its ids already cut out.
            let reduced = paths::reduced(path.clone());
            if reduced != path
                && let Some(template) = self.paths.find(&reduced).filter(|template| *template != "/")
            {
                return Cow::Borrowed(template);
            }
        }
        if self.increased_cardinality {
            paths::reduced(path)
        } else {
            Cow::Borrowed("")
        }
    }

    fn client_path<'a>(&'a self, path: &'a str) -> Cow<'a, str> {
        let label = self.path(path);
        // COMPAT(ClientRequestCompleted): the label is reduced once more, templates included.
        if self.increased_cardinality || self.paths.any() {
            paths::reduced(label)
        } else {
            label
        }
    }
}

impl Served {
    fn new(registry: &Registry, increased_cardinality: bool) -> Self {
        let labels = [METHOD, PATH, STATUS];
        let requests = registry.counter(
            "http/server/request_count",
            "Count of HTTP requests processed by the server.",
            labels,
        );
        let latency = registry.latency(
            "http/server/latency",
            "HTTP request end-to-end latency in server.",
            labels,
        );
        let responses = increased_cardinality.then(|| {
            registry.counter(
                "http/server/response_count",
                "The number of HTTP responses",
                labels,
            )
        });
        let rules =
            requests.has_rules() || latency.has_rules() || responses.as_ref().is_some_and(Family::has_rules);
        Self {
            requests,
            responses,
            latency,
            series: registry.table(labels),
            rules,
        }
    }

    fn record(&self, labels: [&str; 3], elapsed: Duration) {
        if self.rules {
            // Rules may fold many values into one: the values before them must not fill the table.
            self.resolve(labels).record(elapsed);
        } else {
            self.series.with(
                labels,
                |labels| self.resolve(labels),
                |series| series.record(elapsed),
            );
        }
    }

    fn resolve(&self, labels: [&str; 3]) -> ServedSeries {
        ServedSeries {
            requests: self.requests.with(labels),
            responses: self.responses.as_ref().map(|responses| responses.with(labels)),
            latency: self.latency.with(labels),
        }
    }
}

impl ServedSeries {
    fn record(&self, elapsed: Duration) {
        self.requests.increment();
        if let Some(responses) = &self.responses {
            responses.increment();
        }
        self.latency.observe_duration(elapsed);
    }
}
