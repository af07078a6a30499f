//! The demo's apps: four services that know only a sidecar on a local port.
//!
//! Order stores and publishes orders on `orders`; billing, notification and shipping receive them; billing publishes
//! bills on `bills`, which order receives. The same system as `examples/orders`, in this executable.

use super::ledger::{Deed, Pen, now};
use crate::environment;
use crate::roles::under;
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clap::{Parser, ValueEnum};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

/// Orders that are on their way to the broker at once.
const IN_FLIGHT: usize = 256;
/// How often an order is tried again, and how long in between, before the order service gives up on it.
const ATTEMPTS: usize = 100;
const PAUSE: Duration = Duration::from_millis(100);
const ANSWER: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum Service {
    Order,
    Billing,
    Notification,
    Shipping,
}

/// How a service is started.
#[derive(Debug, Clone, Parser)]
pub(crate) struct Args {
    #[arg(value_enum)]
    pub(crate) service: Service,
    /// Where the app listens.
    #[arg(long)]
    pub(crate) port: u16,
    /// Where its sidecar does.
    #[arg(long)]
    pub(crate) sidecar: u16,
    #[arg(long)]
    pub(crate) ledger: PathBuf,
    /// Begins the id of every order of this run; others are from an earlier one.
    #[arg(long)]
    pub(crate) run: String,
    #[arg(long, default_value_t = 0)]
    pub(crate) orders: u32,
    /// Per second.
    #[arg(long, default_value_t = 1)]
    pub(crate) rate: u32,
    /// Of the order that is traced: its number and its W3C header.
    #[arg(long, default_value_t = 0)]
    pub(crate) traced: u32,
    #[arg(long, default_value = "")]
    pub(crate) traceparent: String,
}

/// A service at work.
struct Work {
    args: Args,
    ledger: Pen,
    client: Client<HttpConnector, Full<Bytes>>,
    start: Semaphore,
}

impl Service {
    pub(crate) const ALL: [Self; 4] = [Self::Order, Self::Billing, Self::Notification, Self::Shipping];

    /// Its app id.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Billing => "billing",
            Self::Notification => "notification",
            Self::Shipping => "shipping",
        }
    }
}

impl Args {
    /// The words that give these arguments again.
    pub(crate) fn words(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec![self.service.id().into()];
        let values: [(&str, OsString); 8] = [
            ("--port", self.port.to_string().into()),
            ("--sidecar", self.sidecar.to_string().into()),
            ("--ledger", self.ledger.clone().into()),
            ("--run", self.run.clone().into()),
            ("--orders", self.orders.to_string().into()),
            ("--rate", self.rate.to_string().into()),
            ("--traced", self.traced.to_string().into()),
            ("--traceparent", self.traceparent.clone().into()),
        ];
        words.extend(values.into_iter().flat_map(|(name, value)| [name.into(), value]));
        words
    }
}

/// `demo-app SERVICE …`
pub(crate) fn main(args: Vec<OsString>) -> ExitCode {
    let args = match Args::try_parse_from(std::iter::once("demo-app".into()).chain(args)) {
        Ok(args) => args,
        Err(error) => return crate::commands::usage(&error),
    };
    match under::parent(&environment::current(), rustix::process::Signal::KILL).and_then(|()| run(args)) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<Infallible> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.port)).await;
        let listener = listener.with_context(|| format!("cannot listen on port {}", args.port))?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let work = Arc::new(Work {
            ledger: Pen::open(&args.ledger)?,
            client: Client::builder(TokioExecutor::new()).build(connector),
            start: Semaphore::new(0),
            args,
        });
        tokio::select! {
            served = serve(listener, work.clone()) => served,
            placed = place_orders(work) => placed,
        }
    })
}

async fn serve(listener: TcpListener, work: Arc<Work>) -> Result<Infallible> {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.context("cannot accept a connection")?;
        stream.set_nodelay(true)?;
        let work = work.clone();
        let service = service_fn(move |request| {
            let work = work.clone();
            async move { Ok::<_, Infallible>(work.answer(request).await) }
        });
        // Those that have ended leave the set.
        while connections.try_join_next().is_some() {}
        connections.spawn(async move {
            http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await
        });
    }
}

impl Work {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let done = match (request.method(), path.as_str(), self.args.service) {
            (&Method::POST, "/start", Service::Order) => {
                self.start.add_permits(1);
                Ok(())
            }
            (&Method::POST, "/bills", Service::Order) => self.handle(request).await,
            (&Method::POST, "/orders", Service::Billing | Service::Notification | Service::Shipping) => {
                self.handle(request).await
            }
            _ => return status(StatusCode::NOT_FOUND),
        };
        match done {
            Ok(()) => status(StatusCode::OK),
            // Not acknowledged: the event comes again.
            Err(error) => {
                eprintln!("{path}: {error:#}");
                status(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }

    async fn handle(&self, request: Request<Incoming>) -> Result<()> {
        let traceparent = request.headers().get("traceparent").cloned();
        let body = request.into_body().collect().await?.to_bytes();
        let event: Value = serde_json::from_slice(&body).context("the event is not JSON")?;
        let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        let data = event.get("data").context("the event has no data")?;
        let order = text(data, "orderId").context("the event has no orderId")?;
        let placed = data
            .get("placedMicros")
            .and_then(Value::as_u64)
            .context("the event has no placedMicros")?;
        if !order.starts_with(&self.args.run) {
            return Ok(());
        }
        if self.args.service == Service::Billing {
            let bill = json!({"orderId": order, "total": 12.5, "placedMicros": placed});
            let traceparent = traceparent
                .as_ref()
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default();
            self.post("/v1.0/publish/pubsub/bills", &bill, traceparent)
                .await?;
        }
        let event = text(&event, "id")
            .context("the event has no id")?
            .replace([' ', '\n'], "_");
        self.ledger.note(&Deed::Handled {
            order,
            event,
            placed,
            at: now(),
        })
    }

    async fn place(&self, number: u32) -> Result<()> {
        let order = format!("{}-{number:06}", self.args.run);
        let traceparent = if number == self.args.traced {
            self.args.traceparent.as_str()
        } else {
            ""
        };
        let item = json!({"orderId": order, "item": "paddle", "quantity": number % 5 + 1});
        self.insist(
            "/v1.0/state/statestore",
            || json!([{"key": order, "value": item}]),
            traceparent,
        )
        .await?;
        let event = || {
            let mut event = item.clone();
            event["placedMicros"] = now().into();
            event
        };
        self.insist("/v1.0/publish/pubsub/orders", event, traceparent)
            .await?;
        self.ledger.note(&Deed::Placed { order, at: now() })
    }

    /// Tries again until it is acknowledged.
    async fn insist(&self, path: &str, value: impl Fn() -> Value, traceparent: &str) -> Result<()> {
        let mut last = Ok(());
        for _ in 0..ATTEMPTS {
            last = self.post(path, &value(), traceparent).await;
            match &last {
                Ok(()) => return last,
                Err(error) => eprintln!("{path}: {error:#}"),
            }
            sleep(PAUSE).await;
        }
        last
    }

    async fn post(&self, path: &str, value: &Value, traceparent: &str) -> Result<()> {
        let mut request = Request::post(format!("http://127.0.0.1:{}{path}", self.args.sidecar))
            .header("content-type", "application/json");
        if !traceparent.is_empty() {
            request = request.header("traceparent", traceparent);
        }
        let request = request.body(Full::new(Bytes::from(value.to_string())))?;
        let exchange = async {
            let response = self.client.request(request).await?;
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            if !status.is_success() {
                bail!("status {status}: {}", String::from_utf8_lossy(&body));
            }
            Ok(())
        };
        timeout(ANSWER, exchange)
            .await
            .context("the sidecar does not answer")?
    }
}

/// Places every order at its time, whether or not earlier ones are acknowledged yet. Only the order service has any.
async fn place_orders(work: Arc<Work>) -> Result<Infallible> {
    let permit = work.start.acquire().await?;
    permit.forget();
    let mut tick = interval(Duration::from_secs(1) / work.args.rate.max(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let room = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut placing = JoinSet::new();
    let started = Instant::now();
    for number in 1..=work.args.orders {
        tick.tick().await;
        let permit = room.clone().acquire_owned().await?;
        let work = work.clone();
        placing.spawn(async move {
            let _permit = permit;
            work.place(number).await
        });
        while let Some(done) = placing.try_join_next() {
            done??;
        }
    }
    while let Some(done) = placing.join_next().await {
        done??;
    }
    println!("placed {} orders in {:?}", work.args.orders, started.elapsed());
    std::future::pending().await
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::{Args, Service};
    use clap::Parser;

    #[test]
    fn words_are_understood_again() {
        let args = Args {
            service: Service::Order,
            port: 1,
            sidecar: 2,
            ledger: "/x".into(),
            run: "r".into(),
            orders: 3,
            rate: 4,
            traced: 5,
            traceparent: "00-a-b-01".into(),
        };
        let again = Args::try_parse_from(std::iter::once("demo-app".into()).chain(args.words())).unwrap();
        assert_eq!(format!("{again:?}"), format!("{args:?}"));
    }
}
