//! One contender in one round: runs a load with the processes where they belong, and writes down what it showed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;

use crate::app::Expect;
use crate::clock::{nanos, now};
use crate::load::{self, Aim, Load, Outcome, Pace};
use crate::meter::{Member, Meter, Usage};
use crate::process::{cores, pin_self};
use crate::report::{
    CPU, CPU_SIDECARS, ERRORS, FOREIGN, P50, P90, P99, P999, RATE, RESIDENT, Row, quantiles,
};
use crate::request::Source;
use crate::server::{Broker, Servers};
use crate::subscriber::App;

/// Open loops up to this rate are about latency and run pinned; faster ones may need every core.
const PINNED_UP_TO: u32 = 1000;
/// Processes that are the contender's, but not a sidecar.
const BROKERS: [&str; 5] = ["redis", "hub", "kafka", "rabbitmq", "postgresql"];

/// How long and on which cores.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) warmup: Duration,
    pub(crate) measured: Duration,
    pub(crate) brokers: Vec<Broker>,
    /// Only cases of B4 and B7 whose name holds this.
    pub(crate) case: String,
    pub(crate) pin: bool,
    /// Of the machine, counted before anything was pinned: afterwards the generator sees its own cores alone.
    pub(crate) cores: usize,
}

/// One contender in one round.
pub(crate) struct Round<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) servers: &'a Servers,
    /// Name of the contender.
    pub(crate) name: &'a str,
    pub(crate) number: usize,
}

/// A load under its name in the table.
pub(crate) struct Case<'a> {
    pub(crate) scenario: &'static str,
    pub(crate) name: String,
    pub(crate) source: &'a Source,
    pub(crate) pace: Pace,
    pub(crate) connections: usize,
}

/// The processes of a case.
pub(crate) struct Cast<'a> {
    pub(crate) target: SocketAddr,
    pub(crate) contender: Vec<Member>,
    pub(crate) app: Option<&'a App>,
}

impl Round<'_> {
    /// Puts generator and app on the first core and the contender on the second if it is `latency` that is measured, and
    /// all of them on all cores otherwise. Whatever the generator starts from then on is where it is.
    pub(crate) fn place(&self, latency: bool, contender: &[Member], app: Option<&App>) -> Result<()> {
        let all = self.settings.cores;
        let (ours, theirs) = if self.settings.pin && latency && all > 1 {
            (cores([0]), cores([1]))
        } else {
            (cores(0..all), cores(0..all))
        };
        pin_self(&ours)?;
        if let Some(app) = app {
            app.process.member().pin(&ours)?;
        }
        contender.iter().try_for_each(|process| process.pin(&theirs))
    }

    /// Runs one case and counts what the processes used.
    pub(crate) async fn load(&self, case: &Case<'_>, cast: &Cast<'_>, first: u64) -> Result<Seen> {
        let latency = case.connections == 1 || matches!(case.pace, Pace::Rate(rate) if rate <= PINNED_UP_TO);
        self.place(latency, &cast.contender, cast.app)?;

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
            cast.app.map(|app| app.process.member()).into_iter().collect(),
        );
        let outcome = load::run(load, aim, &mut meter).await?;
        Ok(Seen {
            outcome,
            usage: meter.usage(),
        })
    }

    /// The figures that every load has.
    pub(crate) fn row(&self, case: &Case<'_>, seen: &Seen) -> Row {
        let Seen { outcome, usage } = seen;
        let mut row = self.empty_row(case.scenario, case.name.clone());
        row.figures.push((RATE, outcome.rate));
        row.figures
            .extend(quantiles(&outcome.latency, [P50, P90, P99, P999]));
        if !usage.cpu.is_empty() {
            let per = 10_000.0 / (outcome.completed.max(1) as f64);
            let all: f64 = usage.cpu.values().sum();
            let brokers: f64 = BROKERS.iter().filter_map(|name| usage.cpu.get(*name)).sum();
            row.figures.push((CPU, all * per));
            if brokers > 0.0 {
                row.figures.push((CPU_SIDECARS, (all - brokers) * per));
            }
            let sidecars = usage
                .resident
                .iter()
                .filter(|(name, _)| !BROKERS.contains(&name.as_str()));
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

    pub(crate) fn empty_row(&self, scenario: &'static str, case: String) -> Row {
        Row {
            scenario,
            case,
            contender: self.name.to_owned(),
            round: self.number,
            figures: Vec::new(),
            errors: BTreeMap::new(),
            cpu_seconds: BTreeMap::new(),
            histograms: BTreeMap::new(),
        }
    }

    /// An app id that nobody's name cache has seen before.
    pub(crate) fn app_id(&self, role: &str) -> String {
        format!("bench-{role}-{}-{}", self.number, now())
    }
}

/// What the generator and the process table say of one load.
pub(crate) struct Seen {
    pub(crate) outcome: Outcome,
    pub(crate) usage: Usage,
}
