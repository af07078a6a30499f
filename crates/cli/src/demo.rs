//! `outrigger demo`: the order system with apps inside this executable, one service killed in the middle, every order
//! accounted for.

mod audit;
mod ledger;
mod service;
mod show;
mod trace;
mod world;

use crate::commands::Context;
use crate::http::{Call, Sidecar, encode};
use crate::run::wish::{self, Wish};
use anyhow::{Context as _, Result, bail};
use audit::{Audit, Outage};
use bytes::Bytes;
use clap::Args;
use ledger::Reader;
use serde_json::{Value, json};
use service::Service;
use show::Progress;
use std::ffi::OsString;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use trace::Collector;
use world::{Plan, World};

/// First argument that selects one of the demo's apps.
pub(crate) const APP: &str = "demo-app";
/// Who is killed: in the middle of the chain, it both receives and publishes.
const VICTIM: Service = Service::Billing;
/// How long it stays away before it is started again.
const AWAY: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(100);
/// Nothing new for this long: what is missing then is lost. Other brokers than ours give a message that a killed service
/// held to somebody else after a minute or more.
const PATIENCE: Duration = Duration::from_secs(30);
const PATIENCE_WITH_OTHERS: Duration = Duration::from_secs(100);
const ANSWER: Duration = Duration::from_secs(30);
/// Keys that the state store is asked for at once.
const KEYS: usize = 500;
/// As a shell reports a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Run four services, kill one in the middle, and see that nothing is lost
#[derive(Debug, Args)]
#[command(
    long_about = "Run four services, kill one in the middle, and see that nothing is lost.\n\n\
        Order takes orders, stores them and publishes them; billing, notification and shipping receive them; billing \
        publishes bills, which order receives. Each is a process of its own with its own sidecar, and all share a hub in \
        a temporary home. In the middle, billing and its sidecar are killed with SIGKILL and started again. At the end \
        every order is accounted for: each service notes what it did, and the state store is asked for each order.",
    after_help = "Examples:\n  outrigger demo\n  outrigger demo --orders 500 --rate 100 --trace\n  \
        outrigger demo --resources examples/orders/redis    (the same over Redis)\n\n\
        Exit codes: 0 nothing was lost, 1 something was lost or the demo could not run, 2 wrong usage, 130 interrupted."
)]
pub(crate) struct Flags {
    /// How many orders are placed
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    orders: u32,

    /// Orders per second
    #[arg(long, value_name = "R", default_value_t = 250, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,

    /// Folder with the components `pubsub` and `statestore` and the subscriptions to use instead of the embedded ones
    #[arg(long, value_name = "DIR")]
    resources: Option<PathBuf>,

    /// Kill nobody
    #[arg(long)]
    no_kill: bool,

    /// Print one order's trace as a tree
    #[arg(long)]
    trace: bool,

    /// End with one line of JSON
    #[arg(long)]
    json: bool,
}

/// `demo-app SERVICE …`: one of the apps.
pub(crate) fn app(args: Vec<OsString>) -> ExitCode {
    service::main(args)
}

pub(crate) async fn run(flags: Flags, context: &Context) -> Result<u8> {
    let (sender, mut wish) = watch::channel(Wish::Run);
    tokio::select! {
        done = shown(&flags, context) => done,
        // Dropping the world ends its processes and removes its folder.
        _ = wish::stopped(&mut wish) => Ok(INTERRUPTED),
        Err(error) = wish::listen(sender) => Err(error),
    }
}

async fn shown(flags: &Flags, context: &Context) -> Result<u8> {
    let screen = context.screen;
    let collector = match flags.trace {
        true => Some(Collector::start().await?),
        false => None,
    };
    let plan = Plan {
        orders: flags.orders,
        rate: flags.rate,
        resources: flags
            .resources
            .as_ref()
            .map(|path| Path::new(&context.environment.working_directory).join(path)),
        run: format!("{:08x}", RandomState::new().build_hasher().finish() >> 32),
        // After the middle, so that the killed service has time to send its spans.
        trace: collector.as_ref().map(|collector| {
            (
                (flags.orders * 3).div_ceil(4),
                collector.traceparent(),
                collector.address().to_owned(),
            )
        }),
    };
    let what = match &plan.resources {
        None => "the embedded hub".to_owned(),
        Some(path) => format!("the resources in {}", path.display()),
    };
    screen.info(&format!(
        "Starting order, billing, notification and shipping, each with its sidecar, on {what}"
    ));
    let started = Instant::now();
    let mut world = World::start(&plan, context).await?;
    screen.info(&format!(
        "All ready after {} ms; placing {} orders, {} per second",
        started.elapsed().as_millis(),
        plan.orders,
        plan.rate
    ));
    let mut audit = Audit::default();
    let killed = observe(&mut world, &mut audit, flags, context).await?;
    audit.stored = Some(stored(&world.sidecar(Service::Order)?, &audit).await?);
    if let Some(collector) = &collector {
        screen.line(&format!("\n{}", collector.tree().await.trim_end()));
    }
    let orders = usize::try_from(flags.orders)?;
    screen.write(show::verdict(screen, &audit, orders, killed).as_bytes());
    let well = audit.lost() == 0 && audit.placed() == orders;
    if !well {
        for service in Service::ALL {
            screen.line(&world.said(service));
        }
    }
    world.end().await?;
    if flags.json {
        screen.line(&audit.json(killed).to_string());
    }
    Ok(u8::from(!well))
}

/// Lets the orders run, kills in the middle, and watches until everything has arrived or nothing more does. Answers how
/// many processes were killed.
async fn observe(world: &mut World, audit: &mut Audit, flags: &Flags, context: &Context) -> Result<usize> {
    let orders = usize::try_from(flags.orders)?;
    let mut progress = Progress::new(context.screen, orders);
    let mut ledgers = world.ledgers();
    start(&world.app(Service::Order)?).await?;
    let mut killed = None;
    let mut last = Instant::now();
    let patience = if flags.resources.is_some() {
        PATIENCE_WITH_OTHERS
    } else {
        PATIENCE
    };
    loop {
        let new = read(&mut ledgers, audit)?;
        progress.update(audit);
        if audit.complete(orders) && (flags.no_kill || killed.is_some()) {
            return Ok(killed.unwrap_or(0));
        }
        if new > 0 {
            last = Instant::now();
        }
        if last.elapsed() > patience {
            return Ok(killed.unwrap_or(0));
        }
        if let Some(service) = world.casualty() {
            bail!(
                "{} or its sidecar has ended by itself:\n{}",
                service.id(),
                world.said(service)
            );
        }
        // In the middle; of few orders, as soon as there are some.
        if !flags.no_kill && killed.is_none() && audit.placed() * 5 >= orders * 2 {
            killed = Some(kill(world, audit, &mut progress, &mut ledgers).await?);
            last = Instant::now();
        }
        sleep(LOOK).await;
    }
}

async fn kill(
    world: &mut World,
    audit: &mut Audit,
    progress: &mut Progress,
    ledgers: &mut [(Service, Reader)],
) -> Result<usize> {
    let from = ledger::now();
    let killed = world.kill(VICTIM).await?;
    audit.outage = Some(Outage {
        service: VICTIM,
        from,
        to: None,
    });
    progress.event(&format!(
        "Killed {} and its sidecar with SIGKILL after {} orders",
        VICTIM.id(),
        audit.placed()
    ));
    let back = Instant::now() + AWAY;
    while Instant::now() < back {
        sleep(LOOK).await;
        read(ledgers, audit)?;
        progress.update(audit);
    }
    world.launch(VICTIM)?;
    world.ready(VICTIM).await?;
    let to = ledger::now();
    audit.outage = Some(Outage {
        service: VICTIM,
        from,
        to: Some(to),
    });
    progress.event(&format!(
        "{} is back after {} ms",
        VICTIM.id(),
        (to - from) / 1000
    ));
    Ok(killed)
}

/// Takes over what is new in the ledgers. Answers how many deeds.
fn read(ledgers: &mut [(Service, Reader)], audit: &mut Audit) -> Result<usize> {
    let mut count = 0;
    for (service, reader) in ledgers {
        for deed in reader.read()? {
            count += 1;
            audit.add(*service, deed);
        }
    }
    Ok(count)
}

async fn start(app: &Sidecar) -> Result<()> {
    let call = Call {
        method: "POST",
        path: "/start",
        content_type: None,
        body: Bytes::new(),
    };
    let answer = app.call(call, ANSWER).await.context("cannot start the orders")?;
    if !answer.is_success() {
        bail!("cannot start the orders: {}", answer.describe());
    }
    Ok(())
}

/// How many of the acknowledged orders the state store gives back.
async fn stored(sidecar: &Sidecar, audit: &Audit) -> Result<usize> {
    let ids: Vec<&str> = audit.placed_ids().collect();
    let mut stored = 0;
    for keys in ids.chunks(KEYS) {
        let body = json!({"keys": keys, "parallelism": 10}).to_string();
        let path = format!("/v1.0/state/{}/bulk", encode("statestore"));
        let call = Call {
            method: "POST",
            path: &path,
            content_type: Some("application/json"),
            body: body.into(),
        };
        let answer = sidecar
            .call(call, ANSWER)
            .await
            .context("cannot read the orders back")?;
        if !answer.is_success() {
            bail!("cannot read the orders back: {}", answer.describe());
        }
        let found: Vec<Value> =
            serde_json::from_slice(&answer.body).context("cannot read the orders back")?;
        stored += found
            .iter()
            .filter(|item| item["data"]["orderId"] == item["key"])
            .count();
    }
    Ok(stored)
}
