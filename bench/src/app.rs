//! The app behind a sidecar, as a process of its own: echoes, and counts what it is delivered.
//!
//! It answers `GET /dapr/subscribe`, `POST /echo`, and `POST /work` as an app with so many workers does; and for each `POST /events` finds the stamp of the generator in the body,
//! whatever envelope is around it. `GET /bench/report` tells what came, `POST /bench/expect` begins a new count. While events
//! come it writes the number of distinct ones to its standard output, eight bytes (little endian) at most once a millisecond.
//! It ends when its standard input does, so it cannot outlive the benchmark.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::Args;
use hdrhistogram::Histogram;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::WithTrailers;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};

use crate::clock::now;
use crate::hop::accept;
use crate::load::{DIGITS, histogram};
use crate::process::local;
use crate::request::{AT, GRPC_ECHO, SEQUENCE};

/// Path of the subscription's route.
pub(crate) const ROUTE: &str = "/events";
/// Path of work that takes [`WORK`] and one of [`WORKERS`].
pub(crate) const WORK_PATH: &str = "/work";
pub(crate) const WORK: Duration = Duration::from_millis(20);
pub(crate) const WORKERS: usize = 32;

#[derive(Args)]
pub(crate) struct Options {
    /// Port on 127.0.0.1
    #[arg(long)]
    port: u16,
    /// Answer gRPC instead: the echo method; all others are not there
    #[arg(long)]
    grpc: bool,
    /// Subscribe to this topic
    #[arg(long, requires = "pubsub")]
    topic: Option<String>,
    /// The pub/sub component that has the topic
    #[arg(long)]
    pubsub: Option<String>,
}

/// Body of `POST /bench/expect`: forgets what came so far.
#[derive(Serialize, Deserialize)]
pub(crate) struct Expect {
    /// Events with a lower number belong to an earlier load and are ignored.
    pub(crate) first: u64,
    /// Events due before this instant are counted, but not timed.
    pub(crate) since: u64,
    /// Nor those due at or after this one.
    pub(crate) until: u64,
}

/// Answer of `GET /bench/report`.
#[derive(Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) distinct: u64,
    pub(crate) duplicates: u64,
    /// Bodies without a readable stamp.
    pub(crate) malformed: u64,
    /// From the instant an event was due until it reached the app: nanoseconds and how often.
    pub(crate) latency: Vec<(u64, u64)>,
}

struct App {
    subscriptions: Bytes,
    seen: RefCell<Seen>,
    came: Notify,
    workers: Semaphore,
}

struct Seen {
    expect: Expect,
    /// One bit for each number from `expect.first`.
    numbers: Vec<u64>,
    distinct: u64,
    duplicates: u64,
    malformed: u64,
    latency: Histogram<u64>,
}

impl Seen {
    fn new(expect: Expect) -> Self {
        Self {
            expect,
            numbers: Vec::new(),
            distinct: 0,
            duplicates: 0,
            malformed: 0,
            latency: histogram(DIGITS),
        }
    }

    fn event(&mut self, body: &[u8], now: u64) {
        let (Some(at), Some(number)) = (stamp(body, AT), stamp(body, SEQUENCE)) else {
            self.malformed += 1;
            return;
        };
        let Some(offset) = number.checked_sub(self.expect.first) else {
            return;
        };
        let Ok(word) = usize::try_from(offset / 64) else {
            self.malformed += 1;
            return;
        };
        if word >= self.numbers.len() {
            self.numbers.resize(word + 1, 0);
        }
        let bit = 1 << (offset % 64);
        if self.numbers[word] & bit != 0 {
            self.duplicates += 1;
            return;
        }
        self.numbers[word] |= bit;
        self.distinct += 1;
        if (self.expect.since..self.expect.until).contains(&at) {
            self.latency.saturating_record(now.saturating_sub(at).max(1));
        }
    }

    fn report(&self) -> Report {
        Report {
            distinct: self.distinct,
            duplicates: self.duplicates,
            malformed: self.malformed,
            latency: buckets(&self.latency),
        }
    }
}

/// A histogram as its used buckets: their highest value and how often it occurred.
pub(crate) fn buckets(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    histogram
        .iter_recorded()
        .map(|step| (step.value_iterated_to(), step.count_at_value()))
        .collect()
}

/// Runs until standard input ends.
pub(crate) async fn run(options: Options) -> Result<()> {
    let subscriptions = match (options.pubsub, options.topic) {
        (Some(pubsub), Some(topic)) => serde_json::to_vec(
            &serde_json::json!([{ "pubsubname": pubsub, "topic": topic, "route": ROUTE }]),
        )?,
        _ => b"[]".to_vec(),
    };
    let app = App {
        subscriptions: subscriptions.into(),
        seen: RefCell::new(Seen::new(Expect {
            first: 0,
            since: 0,
            until: u64::MAX,
        })),
        came: Notify::new(),
        workers: Semaphore::new(WORKERS),
    };
    let listener = TcpListener::bind(local(options.port))
        .await
        .with_context(|| format!("listen on {}", options.port))?;
    if options.grpc {
        let serve = accept(listener, |stream| {
            http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service_fn(grpc))
        });
        return tokio::select! {
            served = serve => served,
            ended = parent_ends() => ended,
        };
    }
    tokio::select! {
        served = accept(listener, |stream| {
            let service = service_fn(|request| answer(&app, request));
            http1::Builder::new().serve_connection(TokioIo::new(stream), service)
        }) => served,
        told = tell(&app) => told,
        ended = parent_ends() => ended,
    }
}

/// Tells the parent how far it is, at most once a millisecond.
async fn tell(app: &App) -> Result<()> {
    let mut output = std::io::stdout();
    loop {
        app.came.notified().await;
        let distinct = app.seen.borrow().distinct;
        // A blocking write of eight bytes into a pipe whose reader is a thread that does nothing else.
        output.write_all(&distinct.to_le_bytes())?;
        output.flush()?;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn parent_ends() -> Result<()> {
    let mut input = tokio::io::stdin();
    let mut buffer = [0; 64];
    while input.read(&mut buffer).await? > 0 {}
    Ok(())
}

async fn answer(app: &App, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return Ok(response(StatusCode::BAD_REQUEST, Bytes::new()));
    };
    let body = body.to_bytes();
    let answer = match (parts.method, parts.uri.path()) {
        (Method::POST, ROUTE) => {
            app.seen.borrow_mut().event(&body, now());
            app.came.notify_one();
            response(StatusCode::OK, Bytes::new())
        }
        (Method::POST, "/echo") => response(StatusCode::OK, body),
        (Method::POST, WORK_PATH) => {
            let _worker = app.workers.acquire().await;
            tokio::time::sleep(WORK).await;
            response(StatusCode::OK, body)
        }
        (Method::GET, "/dapr/subscribe") => json(app.subscriptions.clone()),
        (Method::GET, "/bench/report") => match serde_json::to_vec(&app.seen.borrow().report()) {
            Ok(report) => json(report.into()),
            Err(error) => response(StatusCode::INTERNAL_SERVER_ERROR, error.to_string().into()),
        },
        (Method::POST, "/bench/expect") => match serde_json::from_slice(&body) {
            Ok(expect) => {
                *app.seen.borrow_mut() = Seen::new(expect);
                app.came.notify_one();
                response(StatusCode::NO_CONTENT, Bytes::new())
            }
            Err(error) => response(StatusCode::BAD_REQUEST, error.to_string().into()),
        },
        _ => response(StatusCode::NOT_FOUND, Bytes::new()),
    };
    Ok(answer)
}

/// Gives a message back as it is, whatever it means.
async fn grpc(request: Request<Incoming>) -> Result<Response<GrpcBody>, Infallible> {
    let found = request.uri().path() == GRPC_ECHO;
    let mut status = HeaderMap::new();
    status.insert(
        "grpc-status",
        HeaderValue::from_static(if found { "0" } else { "12" }),
    );
    let body = match request.into_body().collect().await {
        Ok(body) if found => body.to_bytes(),
        _ => Bytes::new(),
    };
    let body = Full::new(body).with_trailers(std::future::ready(Some(Ok(status))) as Trailers);
    let mut answer = Response::new(body);
    answer.headers_mut().insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    Ok(answer)
}

type Trailers = std::future::Ready<Option<Result<HeaderMap, Infallible>>>;
type GrpcBody = WithTrailers<Full<Bytes>, Trailers>;

fn json(body: Bytes) -> Response<Full<Bytes>> {
    let mut answer = response(StatusCode::OK, body);
    answer.headers_mut().insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    answer
}

fn response(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer
}

/// The number after `key`, which is written as a string of digits.
fn stamp(body: &[u8], key: &str) -> Option<u64> {
    let key = key.as_bytes();
    let from = body.windows(key.len()).position(|window| window == key)? + key.len();
    let digits = body[from..].split(|byte| *byte == b'"').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{AT, Expect, SEQUENCE, Seen, stamp};

    fn event(number: u64, at: u64) -> Vec<u8> {
        format!(r#"{{"specversion":"1.0","data":{{{AT}{at}",{SEQUENCE}{number}"}}}}"#).into_bytes()
    }

    #[test]
    fn stamps_are_found_in_any_envelope() {
        assert_eq!(stamp(&event(7, 99), AT), Some(99));
        assert_eq!(stamp(&event(u64::MAX, 1), SEQUENCE), Some(u64::MAX));
        for odd in [
            "",
            "{}",
            r#"{"bench_at":"x"}"#,
            r#"{"bench_at":17}"#,
            r#"{"bench_at":""#,
        ] {
            assert_eq!(stamp(odd.as_bytes(), AT), None, "{odd}");
        }
    }

    #[test]
    fn events_count_once_and_only_within_the_load() {
        let mut seen = Seen::new(Expect {
            first: 100,
            since: 1_000,
            until: 2_000,
        });
        for (number, at) in [
            (99, 1_500),
            (100, 999),
            (101, 1_000),
            (101, 1_000),
            (300, 1_999),
            (301, 2_000),
        ] {
            seen.event(&event(number, at), at + 50);
        }
        seen.event(b"{}", 0);
        let report = seen.report();
        assert_eq!((report.distinct, report.duplicates, report.malformed), (4, 1, 1));
        assert_eq!(report.latency.iter().map(|(_, count)| count).sum::<u64>(), 2);
    }
}
