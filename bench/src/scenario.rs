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
use tempfile::TempDir;
use tokio::process::Command;

use crate::brokers;
use crate::client::{connect, drain, once};
use crate::clock::{nanos, now};
use crate::contender::{Contender, PUBSUB, Sidecar, Stage};
use crate::load::Pace;
use crate::meter::{Member, resident};
use crate::process::{Process, free_ports, local};
use crate::report::{
    ADDED_P50, ADDED_P99, EVENTS, GROWTH, IDLE, PER_CORE, READY, Row, SIZE, STREAMED, millis,
};
use crate::request::{BULK, LARGE, Source};
use crate::round::{Case, Cast, Round, Settings};
use crate::server::{Broker, Servers};
use crate::subscriber::App;

/// Connections of every load but the one-at-a-time and the group-commit ones.
pub(crate) const CONNECTIONS: usize = 16;
/// Connections of loads whose answers share a sync of the disk.
pub(crate) const GROUP: usize = 64;
/// Heading of the cases that call the app without anything between; their medians show whether the machine kept still.
pub(crate) const DIRECT: &str = "B0 directly:";
/// How long a contender may need until the first call or event goes through.
pub(crate) const FIRST_WITHIN: Duration = Duration::from_secs(20);

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
    servers: &Servers,
    contenders: &[Contender],
    number: usize,
    rows: &mut Vec<Row>,
) -> Result<()> {
    let round = |name| Round {
        settings,
        servers,
        name,
        number,
    };
    match scenario {
        Scenario::B0 => {
            rows.extend(floor(&round("bare hops")).await.context("B0")?);
            return Ok(());
        }
        Scenario::B4 | Scenario::B7 => {
            let ran = brokers::run(scenario == Scenario::B4, round, contenders, rows).await;
            return ran.with_context(|| format!("{scenario:?}"));
        }
        _ => {}
    }
    for contender in contenders {
        let round = round(&contender.name);
        let measured = match scenario {
            Scenario::B0 | Scenario::B4 | Scenario::B7 => continue, // above: they have an order of their own
            Scenario::B1 => round.invocation(contender).await,
            Scenario::B2 => round.grpc(contender).await,
            Scenario::B3 => round.large(contender).await,
            Scenario::B6 => round.bulk(contender).await,
            Scenario::B15 => round.footprint(contender).await,
            Scenario::B16 => round.overload(contender).await,
        };
        rows.extend(measured.with_context(|| format!("{scenario:?} of {}", contender.name))?);
    }
    Ok(())
}

/// Measures the bare pair of proxies, which is nobody's and stands beside the contenders of B1.
async fn floor(round: &Round<'_>) -> Result<Vec<Row>> {
    let folder = TempDir::with_prefix("outrigger-bench-")?;
    let app = App::start(None, folder.path()).await?;
    let [egress, ingress] = free_ports()?;
    let second = hop("callee", "egress", egress, app.address, folder.path()).await?;
    let first = hop("caller", "ingress", ingress, local(egress), folder.path()).await?;
    let rows = round
        .echo(
            "/echo",
            local(ingress),
            vec![first.member(), second.member()],
            &app,
        )
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

    fn processes(&self) -> Vec<Member> {
        vec![self.caller.process.member(), self.callee.process.member()]
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
        let stage = Stage::new(contender, Broker::InMemory, self.servers).await?;
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
        processes: Vec<Member>,
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
        processes: Vec<Member>,
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
        for sidecar in [&pair.caller, &pair.callee] {
            before = before.max(resident(sidecar.process.pid())?);
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

    /// In-memory and to nobody, so that it is the publishing that is measured.
    async fn bulk(&self, contender: &Contender) -> Result<Vec<Row>> {
        let stage = Stage::new(contender, Broker::InMemory, self.servers).await?;
        let sidecar = stage.sidecar("sidecar", &self.app_id("bulk"), None).await?;
        let source = Source::publish_bulk(PUBSUB, "bench");
        let cast = Cast {
            target: sidecar.http,
            contender: vec![sidecar.process.member()],
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

    async fn footprint(&self, contender: &Contender) -> Result<Vec<Row>> {
        let stage = Stage::new(contender, Broker::InMemory, self.servers).await?;
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
