//! The benchmark set: what is started, what is sent, what is written down. One call is one round of all contenders.
//!
//! B0 direct call of the app, and a pair of bare proxies · B1 invocation through two sidecars · B2 gRPC passed on · B3 large bodies · B4 publish · B5 publish to
//! delivery · B6 bulk publish · B7 state · B15 footprint · B16 overload. Loads that are about latency run with generator and app on the first core and the
//! contender on the second; those that are about throughput have every core.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures::future::{Either, select};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use tempfile::TempDir;
use tokio::process::Command;

use crate::app::ROUTE;
use crate::client::{connect, drain, once};
use crate::clock::{nanos, now};
use crate::contender::{Broker, Contender, PUBSUB, STORE, Sidecar, Stage, TOPIC};
use crate::load::Pace;
use crate::meter::resident;
use crate::process::{Process, free_ports, local};
use crate::report::{
    ADDED_P50, ADDED_P99, DUPLICATES, E2E_P50, E2E_P90, E2E_P99, E2E_P999, EVENTS, GROWTH, IDLE, LAG, LOST,
    PER_CORE, READY, Row, SIZE, STREAMED, millis, quantiles,
};
use crate::request::{BULK, KEYS, LARGE, Source};
use crate::round::{Case, Cast, Round, Settings};
use crate::subscriber::App;

/// Connections of every load but the one-at-a-time and the group-commit ones.
const CONNECTIONS: usize = 16;
/// Connections of loads whose answers share a sync of the disk.
const GROUP: usize = 64;
/// Heading of the cases that call the app without anything between; their medians show whether the machine kept still.
pub(crate) const DIRECT: &str = "B0 directly:";
/// Undelivered events that the sustained load allows.
const WINDOW: u64 = 256;
/// How long a contender may need until the first call or event goes through.
const FIRST_WITHIN: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// A pair of bare proxies in place of the two sidecars: the floor of B1
    B0,
    /// Invocation through two sidecars
    B1,
    /// Unary gRPC, passed on through two sidecars
    B2,
    /// Bodies of 100 MiB through two sidecars
    B3,
    /// Publish, and delivery end to end (B5)
    B4,
    /// Bulk publish
    B6,
    /// State get and set
    B7,
    /// Start, size and memory
    B15,
    /// Three times what an app can do, for a minute
    B16,
}

/// Measures each contender once, one after the other.
pub(crate) async fn run(
    scenario: Scenario,
    settings: &Settings,
    contenders: &[Contender],
    number: usize,
) -> Result<Vec<Row>> {
    if scenario == Scenario::B0 {
        return floor(settings, number).await.context("B0");
    }
    let mut rows = Vec::new();
    for contender in contenders {
        let round = Round {
            settings,
            name: &contender.name,
            number,
        };
        let measured = match scenario {
            Scenario::B0 => continue, // above: it has no contender
            Scenario::B1 => round.invocation(contender).await,
            Scenario::B2 => round.grpc(contender).await,
            Scenario::B3 => round.large(contender).await,
            Scenario::B4 => round.messaging(contender).await,
            Scenario::B6 => round.bulk(contender).await,
            Scenario::B7 => round.state(contender).await,
            Scenario::B15 => round.footprint(contender).await,
            Scenario::B16 => round.overload(contender).await,
        };
        rows.extend(measured.with_context(|| format!("{scenario:?} of {}", contender.name))?);
    }
    Ok(rows)
}

/// Measures the bare pair of proxies, which is nobody's and stands beside the contenders of B1.
async fn floor(settings: &Settings, number: usize) -> Result<Vec<Row>> {
    let folder = TempDir::with_prefix("outrigger-bench-")?;
    let app = App::start(None, folder.path()).await?;
    let [egress, ingress] = free_ports()?;
    let second = hop("callee", "egress", egress, app.address, folder.path()).await?;
    let first = hop("caller", "ingress", ingress, local(egress), folder.path()).await?;
    let round = Round {
        settings,
        name: "bare hops",
        number,
    };
    let rows = round
        .echo("/echo", local(ingress), vec![&first, &second], &app)
        .await?;
    for process in [first, second, app.process] {
        process.kill().await?;
    }
    Ok(rows)
}

/// An app behind its sidecar, and another sidecar that calls it.
struct Pair {
    app: App,
    callee_id: String,
    callee: Sidecar,
    caller: Sidecar,
    /// Removed with the pair.
    _folder: TempDir,
}

impl Pair {
    /// Path by which the caller has the app echo.
    fn echo(&self) -> String {
        format!("/v1.0/invoke/{}/method/echo", self.callee_id)
    }

    fn processes(&self) -> Vec<&Process> {
        vec![&self.caller.process, &self.callee.process]
    }

    async fn end(self) -> Result<()> {
        for process in [self.caller.process, self.callee.process, self.app.process] {
            process.kill().await?;
        }
        Ok(())
    }
}

impl Round<'_> {
    /// Starts a pair whose app speaks `protocol`, `http` or `grpc`.
    async fn pair(&self, contender: &Contender, protocol: &str) -> Result<Pair> {
        let stage = Stage::new(contender, Broker::InMemory).await?;
        let app = match protocol {
            "grpc" => App::start_grpc(stage.folder()).await?,
            _ => App::start(None, stage.folder()).await?,
        };
        let callee_id = self.app_id("callee");
        let callee = stage
            .sidecar_of("callee", &callee_id, Some(app.address), protocol)
            .await?;
        let caller = stage.sidecar("caller", &self.app_id("caller"), None).await?;
        Ok(Pair {
            app,
            callee_id,
            callee,
            caller,
            _folder: stage.into_folder(),
        })
    }

    async fn invocation(&self, contender: &Contender) -> Result<Vec<Row>> {
        let pair = self.pair(contender, "http").await?;
        let path = pair.echo();
        first_answer(&pair.caller, &path).await?;
        let rows = self
            .echo(&path, pair.caller.http, pair.processes(), &pair.app)
            .await?;
        pair.end().await?;
        Ok(rows)
    }

    /// The echo directly and then through `processes`, whose first takes requests for `path` at `target`.
    async fn echo(
        &self,
        path: &str,
        target: SocketAddr,
        processes: Vec<&Process>,
        app: &App,
    ) -> Result<Vec<Row>> {
        let (direct, through) = (Source::echo("/echo"), Source::echo(path));
        let title = ("B1 through two sidecars:", "HTTP call");
        self.compare(title, &direct, &through, target, processes, app)
            .await
    }

    /// One-KiB calls directly and then through `processes`, whose first takes them at `target`.
    async fn compare(
        &self,
        (scenario, title): (&'static str, &str),
        direct: &Source,
        through: &Source,
        target: SocketAddr,
        processes: Vec<&Process>,
        app: &App,
    ) -> Result<Vec<Row>> {
        let straight = Cast {
            target: app.address,
            contender: Vec::new(),
            app: Some(app),
        };
        let cast = Cast {
            target,
            contender: processes,
            app: Some(app),
        };
        let mut rows = Vec::new();
        for (name, pace, connections) in [
            ("at 1,000/s, 16 connections", Pace::Rate(1000), CONNECTIONS),
            ("one at a time", Pace::Max, 1),
            ("maximum, 16 connections", Pace::Max, CONNECTIONS),
        ] {
            let name = format!("{title}, 1 KiB, {name}");
            let case = Case {
                scenario: DIRECT,
                name: name.clone(),
                source: direct,
                pace,
                connections,
            };
            let floor = self.load(&case, &straight, 0).await?;
            rows.push(self.row(&case, &floor));

            let case = Case {
                scenario,
                name,
                source: through,
                pace,
                connections,
            };
            let seen = self.load(&case, &cast, 0).await?;
            let mut row = self.row(&case, &seen);
            for (figure, quantile) in [(ADDED_P50, 0.5), (ADDED_P99, 0.99)] {
                let added =
                    millis(&seen.outcome.latency, quantile) - millis(&floor.outcome.latency, quantile);
                row.figures.push((figure, added));
            }
            rows.push(row);
        }
        Ok(rows)
    }

    async fn grpc(&self, contender: &Contender) -> Result<Vec<Row>> {
        let pair = self.pair(contender, "grpc").await?;
        let (direct, through) = (Source::grpc(None), Source::grpc(Some(&pair.callee_id)));
        first_grpc_answer(&pair.caller, &through).await?;
        let title = ("B2 through two sidecars:", "gRPC call");
        let rows = self
            .compare(
                title,
                &direct,
                &through,
                pair.caller.grpc,
                pair.processes(),
                &pair.app,
            )
            .await?;
        pair.end().await?;
        Ok(rows)
    }

    async fn large(&self, contender: &Contender) -> Result<Vec<Row>> {
        let pair = self.pair(contender, "http").await?;
        let path = pair.echo();
        // Small calls first: what they need does not count as growth.
        for _ in 0..100 {
            first_answer(&pair.caller, &path).await?;
        }
        let source = Source::large(&path);
        let processes = pair.processes();
        let mut before = 0;
        for process in &processes {
            before = before.max(resident(process.pid())?);
        }
        let cast = Cast {
            target: pair.caller.http,
            contender: processes,
            app: Some(&pair.app),
        };
        let case = Case {
            scenario: "B3 through two sidecars:",
            name: "HTTP call, 100 MiB there and back, one at a time".to_owned(),
            source: &source,
            pace: Pace::Max,
            connections: 1,
        };
        let seen = self.load(&case, &cast, 0).await?;
        let mut row = self.row(&case, &seen);
        // Each sidecar takes in and gives out the body of the request and that of the answer.
        let moved = 2.0 * (LARGE >> 20) as f64;
        row.figures.push((STREAMED, seen.outcome.rate * moved));
        let cpu: f64 = seen.usage.cpu.values().sum();
        let per_core = 2.0 * moved * seen.outcome.completed as f64 / cpu.max(f64::MIN_POSITIVE);
        row.figures.push((PER_CORE, per_core));
        let most = seen.usage.resident.values().max().copied().unwrap_or_default();
        row.figures
            .push((GROWTH, most.saturating_sub(before) as f64 / 1024.0));
        pair.end().await?;
        Ok(vec![row])
    }

    async fn messaging(&self, contender: &Contender) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for &broker in self
            .settings
            .brokers
            .iter()
            .filter(|broker| contender.has(**broker) && **broker != Broker::Sqlite)
        {
            let stage = Stage::new(contender, broker).await?;
            let app = App::start(Some((PUBSUB, TOPIC)), stage.folder()).await?;
            let sidecar = stage
                .sidecar("sidecar", &self.app_id("publisher"), Some(app.address))
                .await?;
            let mut next = first_delivery(&sidecar, &app).await?;

            let source = Source::publish(PUBSUB, TOPIC);
            let mut cases = vec![
                ("B4", "at 1,000/s, 16 connections", Pace::Rate(1000), CONNECTIONS),
                ("B5", "at 3,700/s, 16 connections", Pace::Rate(3700), CONNECTIONS),
                ("B4", "maximum, 16 connections", Pace::Max, CONNECTIONS),
                (
                    "B5",
                    "maximum with at most 256 undelivered",
                    Pace::Window(WINDOW),
                    CONNECTIONS,
                ),
            ];
            if broker == Broker::Embedded {
                cases.push((
                    "B4",
                    "maximum, 64 connections, each answer after fsync",
                    Pace::Max,
                    GROUP,
                ));
            }
            let mut processes = vec![&sidecar.process];
            processes.extend(&stage.broker);
            let cast = Cast {
                target: sidecar.http,
                contender: processes,
                app: Some(&app),
            };
            for (scenario, name, pace, connections) in cases {
                let case = Case {
                    scenario,
                    name: format!("publish and deliver, {broker}, 1 KiB, {name}"),
                    source: &source,
                    pace,
                    connections,
                };
                let seen = self.load(&case, &cast, next).await?;
                next = seen.outcome.next;
                let arrived = app.arrived(seen.outcome.accepted).await?;
                let mut row = self.row(&case, &seen);
                row.figures
                    .extend(quantiles(&arrived.latency, [E2E_P50, E2E_P90, E2E_P99, E2E_P999]));
                row.figures.push((LAG, arrived.lag.as_secs_f64()));
                row.figures.push((LOST, arrived.lost as f64));
                row.figures.push((DUPLICATES, arrived.duplicates as f64));
                row.keep("end to end", &arrived.latency);
                rows.push(row);
            }
            sidecar.process.kill().await?;
            app.process.kill().await?;
            if let Some(broker) = stage.broker {
                broker.kill().await?;
            }
        }
        Ok(rows)
    }

    /// In-memory and to nobody, so that it is the publishing that is measured.
    async fn bulk(&self, contender: &Contender) -> Result<Vec<Row>> {
        let stage = Stage::new(contender, Broker::InMemory).await?;
        let sidecar = stage.sidecar("sidecar", &self.app_id("bulk"), None).await?;
        let source = Source::publish_bulk(PUBSUB, TOPIC);
        let cast = Cast {
            target: sidecar.http,
            contender: vec![&sidecar.process],
            app: None,
        };
        let case = Case {
            scenario: "B6",
            name: format!("bulk publish, in-memory, {BULK} × 1 KiB, maximum, 16 connections"),
            source: &source,
            pace: Pace::Max,
            connections: CONNECTIONS,
        };
        let seen = self.load(&case, &cast, 0).await?;
        let mut row = self.row(&case, &seen);
        row.figures.push((EVENTS, seen.outcome.rate * BULK as f64));
        sidecar.process.kill().await?;
        Ok(vec![row])
    }

    async fn state(&self, contender: &Contender) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for &broker in self
            .settings
            .brokers
            .iter()
            .filter(|broker| contender.has(**broker))
        {
            let stage = Stage::new(contender, broker).await?;
            let sidecar = stage.sidecar("sidecar", &self.app_id("state"), None).await?;
            let (get, set) = (Source::get(STORE), Source::set(STORE));
            fill(&sidecar, &set).await?;
            let mut processes = vec![&sidecar.process];
            processes.extend(&stage.broker);
            let cast = Cast {
                target: sidecar.http,
                contender: processes,
                app: None,
            };
            for (operation, source) in [("get", &get), ("set", &set)] {
                // What shares one sync of the disk shows with many at once only.
                for (pace, connections) in [
                    (Pace::Rate(1000), CONNECTIONS),
                    (Pace::Max, CONNECTIONS),
                    (Pace::Max, GROUP),
                ] {
                    let durable = matches!(broker, Broker::Embedded | Broker::Sqlite);
                    if connections == GROUP && !durable {
                        continue;
                    }
                    let rate = match pace {
                        Pace::Rate(_) => "at 1,000/s",
                        Pace::Max | Pace::Window(_) => "maximum",
                    };
                    let name =
                        format!("state {operation}, {broker}, 1 KiB, {rate}, {connections} connections");
                    let case = Case {
                        scenario: "B7",
                        name,
                        source,
                        pace,
                        connections,
                    };
                    rows.push(self.row(&case, &self.load(&case, &cast, 0).await?));
                }
            }
            sidecar.process.kill().await?;
            if let Some(broker) = stage.broker {
                broker.kill().await?;
            }
        }
        Ok(rows)
    }

    async fn footprint(&self, contender: &Contender) -> Result<Vec<Row>> {
        let stage = Stage::new(contender, Broker::InMemory).await?;
        let app = App::start(None, stage.folder()).await?;
        let mut row = self.empty_row(
            "B15",
            "footprint of one sidecar with an app, a state store and a pub/sub".to_owned(),
        );
        // Ten starts, whose median stands for the round.
        let mut starts = Vec::new();
        for _ in 0..9 {
            let sidecar = stage
                .sidecar("sidecar", &self.app_id("start"), Some(app.address))
                .await?;
            starts.push(millis_of(sidecar.ready_after));
            sidecar.process.kill().await?;
        }
        let sidecar = stage
            .sidecar("sidecar", &self.app_id("idle"), Some(app.address))
            .await?;
        starts.push(millis_of(sidecar.ready_after));
        starts.sort_by(f64::total_cmp);
        row.figures.push((READY, starts[starts.len() / 2]));
        tokio::time::sleep(self.settings.measured.max(Duration::from_secs(3))).await;
        row.figures
            .push((IDLE, resident(sidecar.process.pid())? as f64 / 1024.0));
        row.figures
            .push((SIZE, contender.size()? as f64 / f64::from(1 << 20)));
        sidecar.process.kill().await?;
        app.process.kill().await?;
        Ok(vec![row])
    }
}

/// Starts one half of the bare pair, and waits until it listens.
async fn hop(name: &str, side: &str, port: u16, to: SocketAddr, folder: &std::path::Path) -> Result<Process> {
    let mut command = Command::new(std::env::current_exe().context("find this executable")?);
    command.args([
        "hop",
        "--port",
        &port.to_string(),
        "--to",
        &to.to_string(),
        "--side",
        side,
    ]);
    let mut process = Process::start(name, command, folder)?;
    process.listening(local(port)).await?;
    Ok(process)
}

fn millis_of(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Calls until the callee is found and answers.
pub(crate) async fn first_answer(caller: &Sidecar, path: &str) -> Result<()> {
    let begun = now();
    loop {
        let (status, body) = once(caller.http, Method::POST, path, Bytes::from_static(b"first")).await?;
        if status == StatusCode::OK && body == "first" {
            return Ok(());
        }
        if now() - begun > nanos(FIRST_WITHIN) {
            bail!(
                "the first call still answers {status} {}",
                String::from_utf8_lossy(&body)
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Calls until the callee is found and answers.
async fn first_grpc_answer(caller: &Sidecar, source: &Source) -> Result<()> {
    let begun = now();
    loop {
        let (mut sender, driver) = connect(caller.grpc, source.protocol()).await?;
        let exchange = std::pin::pin!(async {
            let response = sender.send(source.request(0, 0)).await?;
            let status = response.status();
            hyper::Result::Ok((status, drain(response).await?))
        });
        let answer = match select(exchange, driver).await {
            Either::Left((answer, _driver)) => answer,
            Either::Right((_closed, exchange)) => exchange.await,
        };
        let (status, length) = answer?;
        if source.accepts(status, length) {
            return Ok(());
        }
        if now() - begun > nanos(FIRST_WITHIN) {
            bail!("the first gRPC call still answers {status} with {length} bytes");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Publishes until something is delivered; returns the first unused number.
async fn first_delivery(sidecar: &Sidecar, app: &App) -> Result<u64> {
    let source = Source::publish(PUBSUB, TOPIC);
    let begun = now();
    let mut number = 0;
    while app.delivered.distinct() == 0 {
        let body = source
            .request(number, now())
            .into_body()
            .collect()
            .await?
            .to_bytes();
        let (status, answer) = once(
            sidecar.http,
            Method::POST,
            &format!("/v1.0/publish/{PUBSUB}/{TOPIC}"),
            body,
        )
        .await?;
        number += 1;
        if now() - begun > nanos(FIRST_WITHIN) {
            bail!(
                "nothing is delivered to {ROUTE}; publish answers {status} {}",
                String::from_utf8_lossy(&answer)
            );
        }
        app.delivered.wait(Duration::from_millis(100)).await;
    }
    Ok(number)
}

/// Writes every key that the get loads read.
async fn fill(sidecar: &Sidecar, set: &Source) -> Result<()> {
    for key in 0..KEYS {
        let request = set.request(key, 0);
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await?.to_bytes();
        let (status, answer) = once(sidecar.http, Method::POST, &path, body).await?;
        if !status.is_success() {
            bail!(
                "setting a key answers {status} {}",
                String::from_utf8_lossy(&answer)
            );
        }
    }
    Ok(())
}
