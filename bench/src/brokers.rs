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

    /// Whether the rate is what shows, and not what was asked for.
    fn is_fast(self) -> bool {
        !matches!(self.pace, Pace::Rate(_) | Pace::Window(1))
    }

    /// The loads of which a raw client may have a figure that this one can be set against, the nearest first.
    fn alike(self) -> impl Iterator<Item = Self> {
        let acts = [self.act, Act::Publish].into_iter();
        let others = acts.filter(move |_| self.act == Act::Deliver && self.is_fast());
        std::iter::once(self).chain(others.map(move |act| Self {
            act,
            pace: Pace::Max,
            ..self
        }))
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

/// Measures everybody on every broker (`messages`) or store; what was measured before something fails is in `rows`.
pub(crate) async fn run<'a>(
    messages: bool,
    round: impl Fn(&'a str) -> Round<'a>,
    contenders: &'a [Contender],
    rows: &mut Vec<Row>,
) -> Result<()> {
    let raw = round(RAW);
    for &broker in &raw.settings.brokers {
        let loads = match messages {
            true if broker.carries_messages() => raw.wanted(broker, publishing(broker)),
            false if broker.keeps_state() => raw.wanted(broker, keeping(broker)),
            _ => continue,
        };
        if loads.is_empty() {
            continue;
        }
        let first = rows.len();
        raw.raw(broker, &loads, rows).await?;
        for contender in contenders.iter().filter(|contender| contender.has(broker)) {
            let round = round(&contender.name);
            let measured = match messages {
                true => round.publish(contender, broker, &loads, rows).await,
                false => round.keep(contender, broker, &loads, rows).await,
            };
            measured.with_context(|| format!("{broker} with {}", contender.name))?;
        }
        compare(&mut rows[first..], broker, &loads);
    }
    Ok(())
}

impl Round<'_> {
    fn wanted(&self, broker: Broker, mut loads: Vec<Load>) -> Vec<Load> {
        loads.retain(|load| load.name(broker).contains(&self.settings.case));
        loads
    }

    /// The same loads without a sidecar between, as far as there is a program for it.
    async fn raw(&self, broker: Broker, loads: &[Load], rows: &mut Vec<Row>) -> Result<()> {
        if !Raw::has(broker) {
            return Ok(());
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
        raw.end().await
    }

    async fn publish(
        &self,
        contender: &Contender,
        broker: Broker,
        loads: &[Load],
        rows: &mut Vec<Row>,
    ) -> Result<()> {
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
        stage.end().await
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

    async fn keep(
        &self,
        contender: &Contender,
        broker: Broker,
        loads: &[Load],
        rows: &mut Vec<Row>,
    ) -> Result<()> {
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
        stage.end().await
    }
}

/// Sets rows of one round and one broker against those of the raw client and of the reference.
fn compare(rows: &mut [Row], broker: Broker, loads: &[Load]) {
    let mut more = Vec::new();
    for (index, row) in rows.iter().enumerate().filter(|(_, row)| row.contender != RAW) {
        let Some(load) = loads.iter().find(|load| load.name(broker) == row.case) else {
            continue;
        };
        for (name, figure, ratio) in [
            (RAW, RATE, OF_RAW),
            (RAW, E2E_P99, OF_RAW_P99),
            (REFERENCE, RATE, OF_REFERENCE),
            (REFERENCE, CPU_SIDECARS, OF_REFERENCE_CPU),
        ] {
            if figure == RATE && !load.is_fast() {
                continue;
            }
            let of = |load: Load| {
                let case = load.name(broker);
                let mut others = rows
                    .iter()
                    .filter(|other| other.contender == name && other.case == case);
                others.find_map(|other| value(other, figure))
            };
            // The contenders have all loads; and how long events take depends on which it is.
            let theirs = match (name, figure) {
                (RAW, RATE) => load.alike().find_map(of),
                _ => of(*load),
            };
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Act, CONNECTIONS, Load, RAW, REFERENCE, compare, publishing, value};
    use crate::load::Pace;
    use crate::report::{CPU_SIDECARS, OF_RAW, OF_REFERENCE, OF_REFERENCE_CPU, RATE, Row};
    use crate::server::Broker;

    #[test]
    fn ratios() {
        let broker = Broker::Kafka;
        let row = |contender: &str, load: Load, rate, cpu| Row {
            scenario: load.scenario,
            case: load.name(broker),
            contender: contender.to_owned(),
            round: 1,
            figures: vec![(RATE, rate), (CPU_SIDECARS, cpu)],
            errors: BTreeMap::new(),
            cpu_seconds: BTreeMap::new(),
            histograms: BTreeMap::new(),
        };
        let alone = Load::new("B4", Act::Publish, Pace::Max, CONNECTIONS);
        let window = Load::new("B5", Act::Deliver, Pace::Window(256), CONNECTIONS);
        let fixed = Load::new("B4", Act::Deliver, Pace::Rate(1000), CONNECTIONS);
        let mut rows = [
            row(RAW, alone, 100.0, 0.0),
            row("ours", alone, 40.0, 1.0),
            row("ours", window, 30.0, 1.0),
            row("ours", fixed, 1000.0, 1.0),
            row(REFERENCE, window, 10.0, 4.0),
            row(REFERENCE, fixed, 1000.0, 4.0),
        ];
        compare(&mut rows, broker, &publishing(broker));
        let expect = [
            (None, None, None),
            (Some(0.4), None, None),
            // Nothing raw delivers like that, so publishing alone stands in.
            (Some(0.3), Some(3.0), Some(0.25)),
            // A rate that was asked for is no result.
            (None, None, Some(0.25)),
            (Some(0.1), None, None),
            (None, None, None),
        ];
        for (row, expect) in rows.iter().zip(expect) {
            let seen = (
                value(row, OF_RAW),
                value(row, OF_REFERENCE),
                value(row, OF_REFERENCE_CPU),
            );
            assert_eq!(seen, expect, "{} {}", row.contender, row.case);
        }
    }
}
