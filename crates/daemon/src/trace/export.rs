//! From the queue of ended spans to collectors.
//!
//! One task, the [`Pump`], gathers spans into batches and hands each batch to every exporter at the same time. A batch
//! that cannot be delivered after a few tries is dropped with a log line: collectors are allowed to be away.
//!
//! `https://` endpoints are spoken to over TLS. An authority or client certificate that cannot be read is an error at start
//! ([`Error::Tls`]), never a reason to go on in clear.

mod client;
mod otlp;
mod protobuf;
mod zipkin;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use futures::future::join_all;
use tokio::sync::mpsc;

use super::{Finished, Settings as TracerSettings, Sink};
use crate::drain::Watch;
use crate::log::Log;
use crate::tls;

/// An exporter to set up.
#[derive(Clone)]
pub enum Settings {
    /// A log line per span.
    Stdout,
    /// Zipkin v2 JSON, posted to this URL.
    Zipkin {
        endpoint: String,
    },
    Otlp(Otlp),
}

/// The OpenTelemetry protocol.
#[derive(Clone)]
pub struct Otlp {
    pub protocol: Protocol,
    /// `host:port`, or a URL.
    pub endpoint: String,
    /// Whether to use TLS. A URL's scheme takes precedence.
    pub secure: bool,
    /// Sent with each request; values may be secrets.
    pub headers: Vec<(String, String)>,
    /// For one try.
    pub timeout: Duration,
    /// Certificate authorities in PEM form, accepted instead of the machine's.
    pub authorities: Option<String>,
    /// Certificate chain and private key in PEM form, for collectors that ask who we are.
    pub identity: Option<(String, String)>,
}

/// How OTLP travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Grpc,
    /// Protobuf bodies over HTTP.
    Http,
}

/// An exporter that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("tracing endpoint \"{0}\" is no URL or host:port")]
    Endpoint(String),
    #[error("TLS for tracing endpoint \"{endpoint}\": {source}")]
    Tls {
        endpoint: String,
        source: Box<tls::Error>,
    },
    #[error("tracing header \"{0}\" is not a valid HTTP header")]
    Header(String),
}

/// Moves spans from the queue to the exporters; the composition root runs it as a task.
pub struct Pump {
    spans: mpsc::Receiver<Box<Finished>>,
    exporters: Vec<Exporter>,
    resource: Resource,
    sink: Arc<Sink>,
    log: Log,
}

/// Who made the spans.
struct Resource {
    service: String,
    attributes: Vec<(String, String)>,
}

enum Exporter {
    Stdout,
    Zipkin(client::Endpoint),
    OtlpHttp(client::Endpoint),
    OtlpGrpc(client::Endpoint),
}

/// Spans that leave together. COMPAT(OpenTelemetry SDK): its default size.
const BATCH: usize = 512;
/// How long a span may wait for company. Shorter than the SDK's five seconds, so that traces show up while one looks.
const DELAY: Duration = Duration::from_secs(1);
/// Tries per batch and exporter, and the pause before the second; it doubles.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);
const ZIPKIN_TIMEOUT: Duration = Duration::from_secs(5);
/// The instrumentation scope. COMPAT(pkg/diagnostics/tracing.go)
const SCOPE: &str = "dapr-diagnostics";

impl Pump {
    pub(super) fn new(
        settings: &TracerSettings,
        spans: mpsc::Receiver<Box<Finished>>,
        sink: Arc<Sink>,
        log: Log,
    ) -> Result<Self, Error> {
        let exporters = settings
            .exporters
            .iter()
            .map(Exporter::new)
            .collect::<Result<_, _>>()?;
        let resource = Resource {
            service: settings.service.clone(),
            attributes: settings.resource.clone(),
        };
        Ok(Self {
            spans,
            exporters,
            resource,
            sink,
            log,
        })
    }

    /// Exports until every tracer is gone or `watch` is draining; then exports what is queued, without second tries, and
    /// returns. Whoever drains should drain this last, so that the spans of the end are seen.
    pub async fn run(mut self, watch: Watch) {
        let mut draining = std::pin::pin!(watch.draining());
        let mut reported = 0;
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                received = self.spans.recv_many(&mut batch, BATCH) => if received == 0 { return },
                () = &mut draining => break,
            }
            if batch.len() < BATCH {
                let company = async {
                    while batch.len() < BATCH {
                        let room = BATCH - batch.len();
                        if self.spans.recv_many(&mut batch, room).await == 0 {
                            return;
                        }
                    }
                };
                // Reaching the deadline is the usual way for a batch to be complete.
                tokio::select! {
                    () = company => {}
                    () = tokio::time::sleep(DELAY) => {}
                    () = &mut draining => {
                        self.export(&batch, &watch).await;
                        break;
                    }
                }
            }
            self.export(&batch, &watch).await;
            let dropped = self.sink.dropped.load(Ordering::Relaxed);
            if dropped > reported {
                self.log.warn(format_args!(
                    "{} spans dropped: the trace queue was full",
                    dropped - reported
                ));
                reported = dropped;
            }
        }
        self.spans.close();
        loop {
            let mut batch = Vec::new();
            if self.spans.recv_many(&mut batch, BATCH).await == 0 {
                return;
            }
            self.export(&batch, &watch).await;
        }
    }

    async fn export(&self, batch: &[Box<Finished>], watch: &Watch) {
        join_all(
            self.exporters
                .iter()
                .map(|exporter| self.deliver(exporter, batch, watch)),
        )
        .await;
    }

    async fn deliver(&self, exporter: &Exporter, batch: &[Box<Finished>], watch: &Watch) {
        let mut pause = PAUSE;
        for last in (0..TRIES).map(|n| n + 1 == TRIES) {
            match exporter.export(batch, &self.resource, &self.log).await {
                Ok(()) => return,
                Err(failure) if failure.retry && !last && !watch.is_draining() => {
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = watch.draining() => {}
                    }
                }
                Err(failure) => {
                    self.log.warn(format_args!(
                        "{} spans not exported to {exporter}: {failure}",
                        batch.len()
                    ));
                    return;
                }
            }
            pause *= 2;
        }
    }
}

impl Exporter {
    fn new(settings: &Settings) -> Result<Self, Error> {
        Ok(match settings {
            Settings::Stdout => Self::Stdout,
            Settings::Zipkin { endpoint } => {
                let url = client::url(endpoint, false, "/api/v2/spans")?;
                let endpoint = client::Endpoint::new(url, ZIPKIN_TIMEOUT, &[], &tls::Client::default())?;
                Self::Zipkin(endpoint.over_http("application/json"))
            }
            Settings::Otlp(otlp) => {
                let path = match otlp.protocol {
                    Protocol::Http => "/v1/traces",
                    Protocol::Grpc => "",
                };
                let url = client::url(&otlp.endpoint, otlp.secure, path)?;
                let endpoint = client::Endpoint::new(url, otlp.timeout, &otlp.headers, &otlp.tls())?;
                match otlp.protocol {
                    Protocol::Http => Self::OtlpHttp(endpoint.over_http("application/x-protobuf")),
                    Protocol::Grpc => Self::OtlpGrpc(endpoint.over_grpc(otlp::EXPORT)?),
                }
            }
        })
    }

    async fn export(
        &self,
        batch: &[Box<Finished>],
        resource: &Resource,
        log: &Log,
    ) -> Result<(), client::Failure> {
        match self {
            Self::Stdout => {
                for span in batch {
                    log.info(Line(span));
                }
                Ok(())
            }
            Self::Zipkin(endpoint) => endpoint.post(zipkin::encode(batch, resource).into()).await,
            Self::OtlpHttp(endpoint) => endpoint.post(otlp::encode(batch, resource).into()).await,
            Self::OtlpGrpc(endpoint) => endpoint.call(&otlp::encode(batch, resource)).await,
        }
    }
}

impl Otlp {
    fn tls(&self) -> tls::Client<'_> {
        let pem = |field, text| tls::Pem { field, text };
        let identity = self.identity.as_ref().map(|(certificate, key)| tls::Identity {
            certificate: pem("the client certificate", certificate),
            key: pem("the client key", key),
        });
        tls::Client {
            trust: match &self.authorities {
                Some(text) => tls::Trust::Only(pem("the collector's authority", text)),
                None => tls::Trust::System,
            },
            identity,
            protocols: &[],
        }
    }
}

impl std::fmt::Display for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stdout => f.write_str("the log"),
            Self::Zipkin(endpoint) | Self::OtlpHttp(endpoint) | Self::OtlpGrpc(endpoint) => endpoint.fmt(f),
        }
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stdout => f.write_str("Stdout"),
            Self::Zipkin { endpoint } => f.debug_tuple("Zipkin").field(&client::shown(endpoint)).finish(),
            Self::Otlp(otlp) => otlp.fmt(f),
        }
    }
}

impl std::fmt::Debug for Otlp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Otlp")
            .field("protocol", &self.protocol)
            .field("endpoint", &client::shown(&self.endpoint))
            .field("secure", &self.secure)
            .field("headers", &names)
            .field("timeout", &self.timeout)
            .field("authorities", &self.authorities.is_some())
            .field("identity", &self.identity.is_some())
            .finish()
    }
}

/// A span as the reference's stdout exporter shows it.
struct Line<'a>(&'a Finished);

impl std::fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let span = self.0;
        let time = |at: SystemTime| jiff::Timestamp::try_from(at).unwrap_or_default();
        write!(
            f,
            "[{}] Trace: {:032x} Span: {:016x}/{:016x} Time: [{} ->  {}] Annotations: []",
            span.name,
            span.context.trace_id(),
            span.parent,
            span.context.span_id(),
            time(span.start),
            time(span.start + span.duration),
        )
    }
}

fn nanoseconds(at: SystemTime) -> u64 {
    let since_epoch = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}
