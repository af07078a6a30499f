//! B4, B5 and B7: brokers and databases. On each of them the raw client comes first, if its server has one, and then the
//! contenders take their turns; so that what is set against each other was measured within a minute.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use http::Method;
use http_body_util::BodyExt;

use crate::app::ROUTE;
use crate::client::once;
use crate::clock::{nanos, now};
use crate::contender::{Contender, PUBSUB, STORE, Sidecar, Stage};
use crate::load::Pace;
use crate::raw::Raw;
use crate::report::{
    CPU_SIDECARS, DUPLICATES, E2E_P50, E2E_P90, E2E_P99, E2E_P999, Figure, LAG, LOST, OF_RAW, OF_RAW_P99,
    OF_REFERENCE, OF_REFERENCE_CPU, RATE, Row, quantiles,
};
use crate::request::{KEYS, Source};
use crate::round::{Case, Cast, Round, Seen};
use crate::scenario::{CONNECTIONS, FIRST_WITHIN, GROUP};
use crate::server::Broker;
use crate::subscriber::App;

/// Undelivered events that the sustained load allows.
const WINDOW: u64 = 256;
/// Name of the raw clients among the contenders.
const RAW: &str = "raw client";
/// The contender by this name is what the others are set against.
const REFERENCE: &str = "reference";

/// One load on a broker or a database.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Load {
    scenario: &'static str,
    pub(crate) act: Act,
    pub(crate) pace: Pace,
    pub(crate) connections: usize,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// To a topic that somebody has subscribed to.
    Deliver,
    /// To a topic that nobody has subscribed to.
    Publish,
    Get,
    Set,
}

impl Load {
    const fn new(scenario: &'static str, act: Act, pace: Pace, connections: usize) -> Self {
        Self {
            scenario,
            act,
            pace,
            connections,
        }
    }

    /// What a raw client that only publishes does instead of this.
    fn lone(self) -> Option<Self> {
        let fast = !matches!(self.pace, Pace::Rate(_) | Pace::Window(1));
        (self.act == Act::Deliver && fast).then_some(Self {
            act: Act::Publish,
            pace: Pace::Max,
            ..self
        })
    }

    fn name(self, broker: Broker) -> String {
        let act = match self.act {
            Act::Deliver => "publish and deliver",
            Act::Publish => "publish alone",
            Act::Get => "state get",
            Act::Set => "state set",
        };
        let pace = match self.pace {
            Pace::Rate(rate) => format!("at {},{:03}/s", rate / 1000, rate % 1000),
            Pace::Max => "maximum".to_owned(),
            Pace::Window(1) => "one at a time from end to end".to_owned(),
            Pace::Window(most) => format!("maximum with at most {most} undelivered"),
        };
        let connections = match self.connections {
            1 => "1 connection".to_owned(),
            more => format!("{more} connections"),
        };
        format!("{act}, {broker}, 1 KiB, {pace}, {connections}")
    }
}

/// The loads that publish.
fn publishing(broker: Broker) -> Vec<Load> {
    let mut loads = Vec::new();
    let grouped = matches!(broker, Broker::Embedded | Broker::Kafka | Broker::Rabbitmq);
    if !matches!(broker, Broker::InMemory | Broker::Embedded) {
        loads.push(Load::new("B4", Act::Publish, Pace::Max, CONNECTIONS));
    }
    if grouped && broker != Broker::Embedded {
        loads.push(Load::new("B4", Act::Publish, Pace::Max, GROUP));
        loads.push(Load::new("B5", Act::Deliver, Pace::Window(1), 1));
    }
    loads.extend([
        Load::new("B4", Act::Deliver, Pace::Rate(1000), CONNECTIONS),
        Load::new("B5", Act::Deliver, Pace::Rate(3700), CONNECTIONS),
        Load::new("B4", Act::Deliver, Pace::Max, CONNECTIONS),
        Load::new("B5", Act::Deliver, Pace::Window(WINDOW), CONNECTIONS),
    ]);
    if grouped {
        loads.push(Load::new("B4", Act::Deliver, Pace::Max, GROUP));
    }
    loads
}

/// The loads on state.
fn keeping(broker: Broker) -> Vec<Load> {
    let mut loads = Vec::new();
    for act in [Act::Get, Act::Set] {
        loads.push(Load::new("B7", act, Pace::Rate(1000), CONNECTIONS));
        loads.push(Load::new("B7", act, Pace::Max, CONNECTIONS));
        // What shares one sync of the disk shows with many at once only.
        if matches!(broker, Broker::Embedded | Broker::Sqlite) {
            loads.push(Load::new("B7", act, Pace::Max, GROUP));
        }
    }
    loads
}

/// B4 and B5 on every broker.
pub(crate) async fn messaging<'a>(
    round: impl Fn(&'a str) -> Round<'a>,
    contenders: &'a [Contender],
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let raw = round(RAW);
    for &broker in raw
        .settings
        .brokers
        .iter()
        .filter(|broker| broker.carries_messages())
    {
        let loads = raw.wanted(broker, publishing(broker));
        let mut here = raw.raw(broker, &loads).await?;
        for contender in contenders
            .iter()
            .filter(|contender| contender.has(broker) && !loads.is_empty())
        {
            let measured = round(&contender.name).publish(contender, broker, &loads).await;
            here.extend(measured.with_context(|| format!("{broker} with {}", contender.name))?);
        }
        compare(&mut here, broker, &loads);
        rows.extend(here);
    }
    Ok(rows)
}

/// B7 on every store.
pub(crate) async fn state<'a>(
    round: impl Fn(&'a str) -> Round<'a>,
    contenders: &'a [Contender],
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let raw = round(RAW);
    for &broker in raw.settings.brokers.iter().filter(|broker| broker.keeps_state()) {
        let loads = raw.wanted(broker, keeping(broker));
        let mut here = raw.raw(broker, &loads).await?;
        for contender in contenders
            .iter()
            .filter(|contender| contender.has(broker) && !loads.is_empty())
        {
            let measured = round(&contender.name).keep(contender, broker, &loads).await;
            here.extend(measured.with_context(|| format!("{broker} with {}", contender.name))?);
        }
        compare(&mut here, broker, &loads);
        rows.extend(here);
    }
    Ok(rows)
}

impl Round<'_> {
    fn wanted(&self, broker: Broker, mut loads: Vec<Load>) -> Vec<Load> {
        loads.retain(|load| load.name(broker).contains(&self.settings.case));
        loads
    }

    /// The same loads without a sidecar between, as far as there is a program for it.
    async fn raw(&self, broker: Broker, loads: &[Load]) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        if loads.is_empty() || !Raw::has(broker) {
            return Ok(rows);
        }
        let raw = Raw::start(self, broker).await?;
        for &load in loads {
            if let Some(figures) = raw
                .measure(load)
                .await
                .with_context(|| format!("{RAW}, {}", load.name(broker)))?
            {
                let mut row = self.empty_row(load.scenario, load.name(broker));
                row.figures = figures;
                rows.push(row);
            }
        }
        raw.end().await?;
        Ok(rows)
    }

    async fn publish(&self, contender: &Contender, broker: Broker, loads: &[Load]) -> Result<Vec<Row>> {
        let stage = Stage::new(contender, broker, self.servers).await?;
        let app = App::start(Some((PUBSUB, &stage.topic)), stage.folder()).await?;
        let sidecar = stage
            .sidecar("sidecar", &self.app_id("publisher"), Some(app.address))
            .await?;
        let mut next = first_delivery(&sidecar, &app, &stage.topic).await?;
        let delivered = Source::publish(PUBSUB, &stage.topic);
        let undelivered = Source::publish(PUBSUB, &stage.lone_topic);

        let mut contending = vec![sidecar.process.member()];
        contending.extend(stage.server.clone());
        let mut rows = Vec::new();
        for &load in loads {
            let deliver = load.act == Act::Deliver;
            let cast = Cast {
                target: sidecar.http,
                contender: contending.clone(),
                app: deliver.then_some(&app),
            };
            let case = Case {
                scenario: load.scenario,
                name: load.name(broker),
                source: if deliver { &delivered } else { &undelivered },
                pace: load.pace,
                connections: load.connections,
            };
            let seen = self.load(&case, &cast, next).await?;
            next = seen.outcome.next;
            let mut row = self.row(&case, &seen);
            if deliver {
                self.delivered(&mut row, &app, &seen).await?;
            }
            rows.push(row);
        }
        sidecar.process.kill().await?;
        app.process.kill().await?;
        stage.end().await?;
        Ok(rows)
    }

    async fn delivered(&self, row: &mut Row, app: &App, seen: &Seen) -> Result<()> {
        let arrived = app.arrived(seen.outcome.accepted).await?;
        row.figures
            .extend(quantiles(&arrived.latency, [E2E_P50, E2E_P90, E2E_P99, E2E_P999]));
        row.figures.push((LAG, arrived.lag.as_secs_f64()));
        row.figures.push((LOST, arrived.lost as f64));
        row.figures.push((DUPLICATES, arrived.duplicates as f64));
        row.keep("end to end", &arrived.latency);
        Ok(())
    }

    async fn keep(&self, contender: &Contender, broker: Broker, loads: &[Load]) -> Result<Vec<Row>> {
        let stage = Stage::new(contender, broker, self.servers).await?;
        let sidecar = stage.sidecar("sidecar", &self.app_id("state"), None).await?;
        let (get, set) = (Source::get(STORE), Source::set(STORE));
        fill(&sidecar, &set).await?;
        let mut contending = vec![sidecar.process.member()];
        contending.extend(stage.server.clone());
        let cast = Cast {
            target: sidecar.http,
            contender: contending,
            app: None,
        };
        let mut rows = Vec::new();
        for &load in loads {
            let case = Case {
                scenario: load.scenario,
                name: load.name(broker),
                source: if load.act == Act::Get { &get } else { &set },
                pace: load.pace,
                connections: load.connections,
            };
            rows.push(self.row(&case, &self.load(&case, &cast, 0).await?));
        }
        sidecar.process.kill().await?;
        stage.end().await?;
        Ok(rows)
    }
}

/// Sets rows of one round and one broker against those of the raw client and of the reference.
fn compare(rows: &mut [Row], broker: Broker, loads: &[Load]) {
    let mut more = Vec::new();
    for (index, row) in rows.iter().enumerate().filter(|(_, row)| row.contender != RAW) {
        let Some(load) = loads.iter().find(|load| load.name(broker) == row.case) else {
            continue;
        };
        let lone = load.lone().map(|lone| lone.name(broker));
        for (name, figure, ratio) in [
            (RAW, RATE, OF_RAW),
            (RAW, E2E_P99, OF_RAW_P99),
            (REFERENCE, RATE, OF_REFERENCE),
            (REFERENCE, CPU_SIDECARS, OF_REFERENCE_CPU),
        ] {
            let of = |case: &str| {
                let mut others = rows
                    .iter()
                    .filter(|other| other.contender == name && other.case == case);
                others.find_map(|other| value(other, figure))
            };
            let theirs = of(&row.case).or_else(|| of(lone.as_ref().filter(|_| name == RAW)?));
            if let (Some(ours), Some(theirs)) = (value(row, figure), theirs)
                && row.contender != name
                && theirs > 0.0
            {
                more.push((index, (ratio, ours / theirs)));
            }
        }
    }
    for (index, figure) in more {
        rows[index].figures.push(figure);
    }
}

fn value(row: &Row, wanted: Figure) -> Option<f64> {
    let mut figures = row.figures.iter();
    figures
        .find(|(figure, _)| *figure == wanted)
        .map(|(_, value)| *value)
}

/// Publishes until something is delivered; returns the first unused number.
async fn first_delivery(sidecar: &Sidecar, app: &App, topic: &str) -> Result<u64> {
    let source = Source::publish(PUBSUB, topic);
    let begun = now();
    let mut number = 0;
    while app.delivered.distinct() == 0 {
        let body = source
            .request(number, now())
            .into_body()
            .collect()
            .await?
            .to_bytes();
        let path = format!("/v1.0/publish/{PUBSUB}/{topic}");
        let (status, answer) = once(sidecar.http, Method::POST, &path, body).await?;
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
