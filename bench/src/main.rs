//! The benchmark set of this project, with a load generator of its own; runs any number of `daprd`s side by side.
//!
//! `cargo xtask bench` calls it. Contenders take turns within each round (A-B-A-B …), so a drift of the machine meets all
//! of them. Figures count only when they were taken in one run and the run did not call itself unpublishable.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command of the developers"
)]

mod app;
mod brokers;
mod client;
mod clock;
mod contender;
mod hop;
mod load;
mod meter;
mod overload;
mod process;
mod raw;
mod report;
mod request;
mod round;
mod scenario;
mod server;
mod subscriber;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use contender::{Contender, Named};
use report::{ERRORS, FOREIGN, LOST, Machine, P50, Program, RATE, Report, Row, Spread};
use round::Settings;
use scenario::{DIRECT, Scenario};
use server::{Broker, Servers};

/// Other work on the machine, in cores, from which on figures are not for publication.
const MOST_FOREIGN: f64 = 0.3;
/// How far the direct call's median may wander between rounds.
const MOST_DRIFT: f64 = 0.10;

#[derive(Parser)]
#[command(name = "outrigger-bench", about = "Measures sidecars side by side in one run")]
struct Cli {
    #[command(subcommand)]
    command: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// Measure, print a table, and keep the raw figures if asked
    Run(Run),
    /// The app behind the sidecars; started by `run`
    #[command(hide = true)]
    App(app::Options),
    /// Half of the bare pair of proxies that is the floor of an invocation; started by `run`
    #[command(hide = true)]
    Hop(hop::Options),
}

#[derive(clap::Args)]
struct Run {
    /// A program to measure, as name=path; repeat it to compare
    #[arg(long, required = true)]
    daprd: Vec<Named>,
    /// The executable whose `hub` is the embedded broker of the contender of that name, as name=path
    #[arg(long)]
    hub: Vec<Named>,
    /// Only these scenarios
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "b0,b1,b2,b3,b4,b7,b15",
        ignore_case = true
    )]
    only: Vec<Scenario>,
    /// Only these brokers and stores; embedded needs --hub, resources needs --resources
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "in-memory,embedded,redis,sqlite"
    )]
    brokers: Vec<Broker>,
    /// Only loads of B4 and B7 whose name holds this text ("maximum", "get, kafka")
    #[arg(long, default_value = "")]
    case: String,
    /// Folder with the components `pubsub` and `statestore` on servers that run already, for the broker `resources`
    #[arg(long, value_name = "DIR")]
    resources: Option<PathBuf>,
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Measured seconds of each load
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    seconds: u16,
    /// Seconds of each load before measuring
    #[arg(long, default_value_t = 1)]
    warmup: u16,
    /// What publication asks for: 5 rounds of 30 s after 5 s
    #[arg(long, conflicts_with_all = ["rounds", "seconds", "warmup"])]
    full: bool,
    /// Leave all processes on all cores at fixed rates too
    #[arg(long)]
    no_pin: bool,
    /// Write raw histograms to <date>.json in this folder
    #[arg(long, num_args = 0..=1, default_missing_value = "bench/results")]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // One thread: the generator's own work stays on the core it is bound to.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(async {
        match cli.command {
            Mode::App(options) => app::run(options).await,
            Mode::Hop(options) => hop::run(options).await,
            // Dropping what runs kills every process it has started.
            Mode::Run(run) => tokio::select! {
                ended = measure(run) => ended,
                signal = interrupted() => signal,
            },
        }
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn interrupted() -> Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {}, _ = hangup.recv() => {} }
    bail!("interrupted; every process that was started is ended")
}

async fn measure(mut run: Run) -> Result<()> {
    if run.full {
        (run.rounds, run.seconds, run.warmup) = (5, 30, 5);
    }
    let contenders = contenders(&run)?;
    let mut programs = Vec::new();
    for contender in &contenders {
        let version = contender.version().await?;
        programs.push(Program {
            name: contender.name.clone(),
            version,
            bytes: contender.size()?,
        });
    }
    let mut scenarios = run.only.clone();
    scenarios.sort_unstable();
    scenarios.dedup();
    let machine = machine()?;
    let used = |broker: &Broker| {
        scenarios.contains(&Scenario::B4) && broker.carries_messages()
            || scenarios.contains(&Scenario::B7) && broker.keeps_state()
    };
    let wanted: Vec<Broker> = run.brokers.iter().copied().filter(used).collect();
    let servers = Servers::start(&wanted).await;
    let (brokers, missing): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|broker| servers.have(*broker));
    let mut left_out: Vec<String> = missing
        .iter()
        .map(|broker| format!("{broker}: its server cannot be had"))
        .collect();
    left_out.extend(brokers.iter().filter_map(|broker| raw::missing(*broker)));
    let settings = Settings {
        warmup: Duration::from_secs(run.warmup.into()),
        measured: Duration::from_secs(run.seconds.into()),
        brokers,
        case: run.case.clone(),
        pin: !run.no_pin,
        cores: machine.cores,
    };
    let busy_before = machine.load_average_before;

    let mut rows: Vec<Row> = Vec::new();
    // A load that cannot be run does not cost what was measured before it.
    let mut failed = None;
    'scenarios: for scenario in scenarios {
        for number in 1..=usize::from(run.rounds) {
            eprintln!("{scenario:?} round {number}/{}", run.rounds);
            if let Err(error) =
                scenario::run(scenario, &settings, &servers, &contenders, number, &mut rows).await
            {
                failed = Some(error);
                break 'scenarios;
            }
        }
    }
    let mut unpublishable = doubts(&rows);
    if failed.is_some() {
        unpublishable.push("the run ended before its end".to_owned());
    }
    if busy_before > MOST_FOREIGN {
        unpublishable.push(format!(
            "the load average was {busy_before:.2} when the run began"
        ));
    }
    let report = Report {
        date: jiff::Zoned::now().strftime("%Y-%m-%dT%H%M%S").to_string(),
        machine,
        settings: BTreeMap::from([
            ("rounds", run.rounds.to_string()),
            ("seconds", run.seconds.to_string()),
            ("warm-up seconds", run.warmup.to_string()),
            ("pinned at fixed rates", settings.pin.to_string()),
            ("table", "median of the rounds (least–most)".to_owned()),
        ]),
        contenders: programs,
        left_out,
        unpublishable,
        rows,
    };
    println!("{}", report.table());
    if let Some(folder) = &run.out {
        println!("raw figures: {}", report.write(folder)?.display());
    }
    for what in &report.left_out {
        println!("left out: {what}");
    }
    if report.unpublishable.is_empty() {
        println!("publishable: nothing disturbed this run");
    } else {
        println!("NOT PUBLISHABLE:");
        for reason in &report.unpublishable {
            println!("  - {reason}");
        }
    }
    failed.map_or(Ok(()), Err)
}

fn contenders(run: &Run) -> Result<Vec<Contender>> {
    ensure!(
        run.resources.is_some() || !run.brokers.contains(&Broker::Resources),
        "the broker `resources` needs --resources DIR"
    );
    let mut contenders: Vec<Contender> = Vec::new();
    for Named { name, path } in &run.daprd {
        if contenders.iter().any(|contender| contender.name == *name) {
            bail!("two contenders are called {name:?}");
        }
        let daprd = path
            .canonicalize()
            .with_context(|| format!("contender {name:?}: find {}", path.display()))?;
        contenders.push(Contender {
            name: name.clone(),
            daprd,
            hub: None,
            resources: run.resources.clone(),
        });
    }
    for Named { name, path } in &run.hub {
        let Some(contender) = contenders.iter_mut().find(|contender| contender.name == *name) else {
            bail!("--hub names {name:?}, which no --daprd does");
        };
        contender.hub = Some(
            path.canonicalize()
                .with_context(|| format!("hub of {name:?}: find {}", path.display()))?,
        );
    }
    Ok(contenders)
}

fn machine() -> Result<Machine> {
    let system = rustix::system::uname();
    Ok(Machine {
        kernel: format!(
            "{} {}",
            system.sysname().to_string_lossy(),
            system.release().to_string_lossy()
        ),
        cores: std::thread::available_parallelism()?.get(),
        load_average_before: meter::load_average()?,
    })
}

/// Why these figures must not be published.
fn doubts(rows: &[Row]) -> Vec<String> {
    let value = |row: &Row, wanted| {
        row.figures
            .iter()
            .find(|(figure, _)| *figure == wanted)
            .map(|(_, value)| *value)
    };
    let mut doubts = Vec::new();
    for row in rows {
        let at = format!(
            "{} {} of {} in round {}",
            row.scenario, row.case, row.contender, row.round
        );
        if let Some(foreign) = value(row, FOREIGN).filter(|foreign| *foreign > MOST_FOREIGN) {
            doubts.push(format!("{at}: other work kept {foreign:.2} cores busy"));
        }
        for (figure, what) in [(ERRORS, "requests failed"), (LOST, "events were lost")] {
            if let Some(count) = value(row, figure).filter(|count| *count > 0.0) {
                doubts.push(format!("{at}: {count:.0} {what}"));
            }
        }
        if value(row, RATE) == Some(0.0) {
            doubts.push(format!("{at}: nothing was answered"));
        }
    }
    let mut floors: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for row in rows
        .iter()
        .filter(|row| row.scenario == DIRECT && row.case.contains("/s,"))
    {
        floors.entry(&row.case).or_default().extend(value(row, P50));
    }
    for (case, medians) in floors {
        if let Some(spread) = Spread::of(medians)
            && (spread.most - spread.least) > MOST_DRIFT * spread.median
        {
            doubts.push(format!(
                "{case}: the median wandered from {:.3} to {:.3} ms",
                spread.least, spread.most
            ));
        }
    }
    doubts
}
