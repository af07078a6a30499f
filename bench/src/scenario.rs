//! The benchmark set: what is started, what is sent, what is written down. One call measures one contender for one round.
//!
//! B0 direct call of the app · B1 invocation through two sidecars · B4 publish · B5 publish to delivery · B7 state ·
//! B15 footprint. Fixed rates and one-at-a-time run with generator and app on the first core and the contender on the second;
//! the closed loops that look for the maximum run unpinned.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Method, StatusCode};

use crate::app::{Expect, ROUTE};
use crate::client::once;
use crate::clock::{nanos, now};
use crate::contender::{Broker, Contender, PUBSUB, STORE, Sidecar, Stage, TOPIC};
use crate::load::{self, Aim, Load, Outcome, Pace};
use crate::meter::{Meter, resident};
use crate::process::{Process, cores, pin_self};
use crate::report::{
    ADDED_P50, ADDED_P99, CPU, CPU_SIDECARS, DUPLICATES, E2E_P50, E2E_P90, E2E_P99, E2E_P999, ERRORS,
    FOREIGN, IDLE, LAG, LOST, P50, P90, P99, P999, RATE, READY, RESIDENT, Row, SIZE, millis, quantiles,
};
use crate::request::Source;
use crate::subscriber::App;

/// Connections of every load but the one-at-a-time and the group-commit ones.
const CONNECTIONS: usize = 16;
/// Undelivered events that the sustained load allows.
const WINDOW: u64 = 256;
/// How long a contender may need until the first call or event goes through.
const FIRST_WITHIN: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// Invocation through two sidecars, with the direct call (B0) as its floor
    B1,
    /// Publish, and delivery end to end (B5)
    B4,
    /// State get and set
    B7,
    /// Start, size and memory
    B15,
}

/// How long and on which cores.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) warmup: Duration,
    pub(crate) measured: Duration,
    pub(crate) brokers: Vec<Broker>,
    pub(crate) pin: bool,
}

/// One contender in one round.
pub(crate) struct Round<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) contender: &'a Contender,
    pub(crate) number: usize,
}

/// A load under its name in the table.
struct Case<'a> {
    scenario: &'static str,
    name: String,
    source: &'a Source,
    pace: Pace,
    connections: usize,
}

/// The processes of a case.
struct Cast<'a> {
    target: std::net::SocketAddr,
    contender: Vec<&'a Process>,
    app: Option<&'a App>,
}

impl Round<'_> {
    pub(crate) async fn run(&self, scenario: Scenario) -> Result<Vec<Row>> {
        match scenario {
            Scenario::B1 => self.invocation().await,
            Scenario::B4 => self.publish().await,
            Scenario::B7 => self.state().await,
            Scenario::B15 => self.footprint().await,
        }
        .with_context(|| format!("{scenario:?} of {}", self.contender.name))
    }

    async fn invocation(&self) -> Result<Vec<Row>> {
        let stage = Stage::new(self.contender, Broker::InMemory).await?;
        let app = App::start(None, stage.folder()).await?;
        let callee_id = self.app_id("callee");
        let callee = stage.sidecar("callee", &callee_id, Some(app.address)).await?;
        let caller = stage.sidecar("caller", &self.app_id("caller"), None).await?;
        let path = format!("/v1.0/invoke/{callee_id}/method/echo");
        first_answer(&caller, &path).await?;

        let (direct, through) = (Source::echo("/echo"), Source::echo(&path));
        let paces = [
            ("at 1,000/s, 16 connections", Pace::Rate(1000), CONNECTIONS),
            ("one at a time", Pace::Max, 1),
            ("maximum, 16 connections", Pace::Max, CONNECTIONS),
        ];
        let mut rows = Vec::new();
        for (name, pace, connections) in paces {
            let case = Case {
                scenario: "B0",
                name: format!("direct call, 1 KiB, {name}"),
                source: &direct,
                pace,
                connections,
            };
            let floor = self
                .load(
                    &case,
                    &Cast {
                        target: app.address,
                        contender: Vec::new(),
                        app: Some(&app),
                    },
                    0,
                )
                .await?;
            rows.push(self.row(&case, &floor));

            let cast = Cast {
                target: caller.http,
                contender: vec![&caller.process, &callee.process],
                app: Some(&app),
            };
            let case = Case {
                scenario: "B1",
                name: format!("HTTP invoke, 1 KiB, {name}"),
                source: &through,
                pace,
                connections,
            };
            let seen = self.load(&case, &cast, 0).await?;
            let mut row = self.row(&case, &seen);
            if pace != Pace::Max || connections == 1 {
                for (figure, quantile) in [(ADDED_P50, 0.5), (ADDED_P99, 0.99)] {
                    row.figures.push((
                        figure,
                        millis(&seen.outcome.latency, quantile) - millis(&floor.outcome.latency, quantile),
                    ));
                }
            }
            rows.push(row);
        }
        for sidecar in [caller, callee] {
            sidecar.process.kill().await?;
        }
        app.process.kill().await?;
        Ok(rows)
    }

    async fn publish(&self) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for &broker in self
            .settings
            .brokers
            .iter()
            .filter(|broker| self.contender.has(**broker))
        {
            let stage = Stage::new(self.contender, broker).await?;
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
                    64,
                ));
            }
            let mut contender = vec![&sidecar.process];
            contender.extend(&stage.broker);
            let cast = Cast {
                target: sidecar.http,
                contender,
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

    async fn state(&self) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for &broker in self
            .settings
            .brokers
            .iter()
            .filter(|broker| self.contender.has(**broker))
        {
            let stage = Stage::new(self.contender, broker).await?;
            let sidecar = stage.sidecar("sidecar", &self.app_id("state"), None).await?;
            let (get, set) = (Source::get(STORE), Source::set(STORE));
            fill(&sidecar, &set).await?;
            let mut contender = vec![&sidecar.process];
            contender.extend(&stage.broker);
            let cast = Cast {
                target: sidecar.http,
                contender,
                app: None,
            };
            for (operation, source) in [("get", &get), ("set", &set)] {
                for (name, pace) in [
                    ("at 1,000/s, 16 connections", Pace::Rate(1000)),
                    ("maximum, 16 connections", Pace::Max),
                ] {
                    let name = format!("state {operation}, {broker}, 1 KiB, {name}");
                    let case = Case {
                        scenario: "B7",
                        name,
                        source,
                        pace,
                        connections: CONNECTIONS,
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

    async fn footprint(&self) -> Result<Vec<Row>> {
        let stage = Stage::new(self.contender, Broker::InMemory).await?;
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
            .push((SIZE, self.contender.size()? as f64 / f64::from(1 << 20)));
        sidecar.process.kill().await?;
        app.process.kill().await?;
        Ok(vec![row])
    }

    /// Runs one case and counts what the processes used.
    async fn load(&self, case: &Case<'_>, cast: &Cast<'_>, first: u64) -> Result<Seen> {
        let pinned = self.settings.pin && (matches!(case.pace, Pace::Rate(_)) || case.connections == 1);
        let (ours, theirs) = if pinned {
            (cores([0]), cores([1]))
        } else {
            (cores(0..all_cores()), cores(0..all_cores()))
        };
        pin_self(&ours)?;
        if let Some(app) = cast.app {
            app.process.pin(&ours)?;
        }
        for process in &cast.contender {
            process.pin(&theirs)?;
        }

        let load = Load {
            pace: case.pace,
            connections: case.connections,
            warmup: self.settings.warmup,
            measured: self.settings.measured,
        };
        let start = now() + nanos(Duration::from_millis(100));
        if let Some(app) = cast.app {
            let since = start + nanos(load.warmup);
            app.expect(&Expect {
                first,
                since,
                until: since + nanos(load.measured),
            })
            .await?;
        }
        let aim = Aim {
            target: cast.target,
            source: case.source,
            first,
            start,
            delivered: cast.app.map(|app| &app.delivered),
        };
        let mut meter = Meter::new(
            cast.contender.clone(),
            cast.app.map(|app| &app.process).into_iter().collect(),
        );
        let outcome = load::run(load, aim, &mut meter).await?;
        Ok(Seen {
            outcome,
            usage: meter.usage(),
        })
    }

    fn row(&self, case: &Case<'_>, seen: &Seen) -> Row {
        let Seen { outcome, usage } = seen;
        let mut row = self.empty_row(case.scenario, case.name.clone());
        row.figures.push((RATE, outcome.rate));
        row.figures
            .extend(quantiles(&outcome.latency, [P50, P90, P99, P999]));
        if !usage.cpu.is_empty() {
            let per = 10_000.0 / (outcome.completed.max(1) as f64);
            let all: f64 = usage.cpu.values().sum();
            let brokers: f64 = ["redis", "hub"]
                .iter()
                .filter_map(|name| usage.cpu.get(*name))
                .sum();
            row.figures.push((CPU, all * per));
            if brokers > 0.0 {
                row.figures.push((CPU_SIDECARS, (all - brokers) * per));
            }
            let sidecars = usage
                .resident
                .iter()
                .filter(|(name, _)| !matches!(name.as_str(), "redis" | "hub"));
            let largest = sidecars.map(|(_, kib)| *kib).max().unwrap_or_default();
            row.figures.push((RESIDENT, largest as f64 / 1024.0));
        }
        row.figures
            .push((ERRORS, outcome.errors.values().sum::<u64>() as f64));
        row.figures.push((FOREIGN, usage.foreign));
        row.errors.clone_from(&outcome.errors);
        row.cpu_seconds.clone_from(&usage.cpu);
        row.keep("latency", &outcome.latency);
        row
    }

    fn empty_row(&self, scenario: &'static str, case: String) -> Row {
        Row {
            scenario,
            case,
            contender: self.contender.name.clone(),
            round: self.number,
            figures: Vec::new(),
            errors: Default::default(),
            cpu_seconds: Default::default(),
            histograms: Default::default(),
        }
    }

    /// An app id that nobody's name cache has seen before.
    fn app_id(&self, role: &str) -> String {
        format!("bench-{role}-{}-{}", self.number, now())
    }
}

struct Seen {
    outcome: Outcome,
    usage: crate::meter::Usage,
}

fn all_cores() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2))
}

fn millis_of(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Calls until the callee is found and answers.
async fn first_answer(caller: &Sidecar, path: &str) -> Result<()> {
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

/// Publishes until something is delivered; returns the first unused number.
async fn first_delivery(sidecar: &Sidecar, app: &App) -> Result<u64> {
    let source = Source::publish(PUBSUB, TOPIC);
    let begun = now();
    let mut number = 0;
    while app.delivered.distinct() == 0 {
        let body = http_body_util::BodyExt::collect(source.request(number, now()).into_body())
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
    for key in 0..crate::request::KEYS {
        let request = set.request(key, 0);
        let path = request.uri().path().to_owned();
        let body = http_body_util::BodyExt::collect(request.into_body())
            .await?
            .to_bytes();
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
