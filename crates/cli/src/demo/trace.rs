//! One order's trace: a small Zipkin collector and a tree of what it got.

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// No span for this long: the trace is whole. Sidecars send theirs about once a second.
const QUIET: Duration = Duration::from_millis(2500);
const PATIENCE: Duration = Duration::from_secs(10);

/// A span as Zipkin's second version of JSON has it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Span {
    trace_id: String,
    id: String,
    #[serde(default)]
    parent_id: Option<String>,
    #[serde(default)]
    name: String,
    #[serde(default)]
    kind: Option<String>,
    /// Microseconds since 1970, and how many it took.
    #[serde(default)]
    timestamp: u64,
    #[serde(default)]
    duration: u64,
    #[serde(default)]
    local_endpoint: Endpoint,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    #[serde(default)]
    service_name: String,
}

/// Collects spans until it is dropped.
pub(crate) struct Collector {
    address: String,
    /// The id whose spans are kept.
    trace: String,
    spans: Arc<Mutex<Vec<Span>>>,
    _serving: JoinSet<()>,
}

impl Collector {
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("cannot listen for traces")?;
        let address = format!("http://{}/api/v2/spans", listener.local_addr()?);
        let random = || RandomState::new().build_hasher().finish();
        let collector = Self {
            address,
            trace: format!("{:016x}{:016x}", random(), random() | 1),
            spans: Arc::default(),
            _serving: JoinSet::new(),
        };
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, collector.trace.clone(), collector.spans.clone()));
        Ok(Self {
            _serving: serving,
            ..collector
        })
    }

    /// Where sidecars send spans to.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The W3C header that makes an order this trace.
    pub(crate) fn traceparent(&self) -> String {
        format!("00-{}-{:016x}-01", self.trace, 1)
    }

    /// Waits until nothing more comes; the trace as a tree.
    pub(crate) async fn tree(&self) -> String {
        let (mut known, mut since, start) = (0, Instant::now(), Instant::now());
        while since.elapsed() < QUIET && start.elapsed() < PATIENCE {
            sleep(Duration::from_millis(100)).await;
            let count = self.spans.lock().unwrap_or_else(PoisonError::into_inner).len();
            if count != known || count == 0 {
                (known, since) = (count, Instant::now());
            }
        }
        let spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if spans.is_empty() {
            return format!("No span of trace {} arrived within {PATIENCE:?}.\n", self.trace);
        }
        format!(
            "Trace {} of one order, {} spans:\n{}",
            self.trace,
            spans.len(),
            render(&spans)
        )
    }
}

async fn serve(listener: TcpListener, trace: String, spans: Arc<Mutex<Vec<Span>>>) {
    let mut connections = JoinSet::new();
    // A listener that fails for good shows as a trace without spans.
    while let Ok((stream, _)) = listener.accept().await {
        let (trace, spans) = (trace.clone(), spans.clone());
        let service = service_fn(move |request| {
            let (trace, spans) = (trace.clone(), spans.clone());
            async move { Ok::<_, Infallible>(take(request, &trace, &spans).await) }
        });
        while connections.try_join_next().is_some() {}
        connections.spawn(async move {
            http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await
        });
    }
}

async fn take(request: Request<Incoming>, trace: &str, spans: &Mutex<Vec<Span>>) -> Response<Full<Bytes>> {
    let body = request
        .into_body()
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let mut response = Response::new(Full::default());
    *response.status_mut() = match serde_json::from_slice::<Vec<Span>>(&body) {
        Ok(new) => {
            let new = new.into_iter().filter(|span| span.trace_id == trace);
            spans.lock().unwrap_or_else(PoisonError::into_inner).extend(new);
            StatusCode::ACCEPTED
        }
        Err(_) => StatusCode::BAD_REQUEST,
    };
    response
}

fn render(spans: &[Span]) -> String {
    let ids: HashSet<&str> = spans.iter().map(|span| span.id.as_str()).collect();
    let mut children: BTreeMap<&str, Vec<&Span>> = BTreeMap::new();
    for span in spans {
        // Whose parent nobody sent is a root: the first one's is the order app itself.
        let parent = span
            .parent_id
            .as_deref()
            .filter(|parent| ids.contains(parent) && *parent != span.id);
        children.entry(parent.unwrap_or_default()).or_default().push(span);
    }
    for siblings in children.values_mut() {
        siblings.sort_by_key(|span| (span.timestamp, span.id.as_str()));
    }
    let start = spans.iter().map(|span| span.timestamp).min().unwrap_or(0);
    let mut text = String::new();
    branch("", "", start, &children, &mut text);
    text
}

/// The children of a span, each with its own. Terminates: each span stands under one parent, and roots under none.
fn branch(parent: &str, indent: &str, start: u64, children: &BTreeMap<&str, Vec<&Span>>, text: &mut String) {
    let siblings = children.get(parent).map(Vec::as_slice).unwrap_or_default();
    for (index, span) in siblings.iter().enumerate() {
        let last = index + 1 == siblings.len();
        let (lead, below) = if last {
            ("└─ ", "   ")
        } else {
            ("├─ ", "│  ")
        };
        let kind = span
            .kind
            .as_deref()
            .map(|kind| format!(" ({})", kind.to_lowercase()))
            .unwrap_or_default();
        let name = format!(
            "{indent}{lead}{}: {}{kind}",
            span.local_endpoint.service_name, span.name
        );
        let (after, took) = (
            span.timestamp.saturating_sub(start) as f64 / 1e3,
            span.duration as f64 / 1e3,
        );
        text.push_str(&format!("{name:<70} +{after:.2} ms, took {took:.2} ms\n"));
        branch(&span.id, &format!("{indent}{below}"), start, children, text);
    }
}

#[cfg(test)]
mod tests {
    use super::{Span, render};

    #[test]
    fn a_tree_in_the_order_of_time() {
        let span = |id: &str, parent: &str, service: &str, at: u64| {
            serde_json::from_value::<Span>(serde_json::json!({
                "traceId": "t", "id": id, "parentId": parent, "name": "n", "kind": "SERVER", "timestamp": at,
                "duration": 1500, "localEndpoint": {"serviceName": service}
            }))
            .unwrap()
        };
        let spans = [
            span("c", "a", "shipping", 3000),
            span("b", "a", "billing", 2000),
            span("a", "app", "order", 1000),
            span("d", "b", "order", 4000),
        ];
        let text = render(&spans);
        let lines: Vec<&str> = text
            .lines()
            .map(|line| line.split("  +").next().unwrap().trim_end())
            .collect();
        assert_eq!(
            lines,
            [
                "└─ order: n (server)",
                "   ├─ billing: n (server)",
                "   │  └─ order: n (server)",
                "   └─ shipping: n (server)"
            ]
        );
        assert!(text.contains("+1.00 ms, took 1.50 ms"), "{text}");
    }
}
