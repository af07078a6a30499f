//! The benchmark's side of the app: starts it, asks it, and follows how much was delivered to it.

use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use http::{Method, StatusCode};
use tokio::process::Command;
use tokio::sync::Notify;

use crate::app::{Expect, Report};
use crate::client::once;
use crate::clock::now;
use crate::load::{DIGITS, histogram};
use crate::process::{Process, free_ports, local};

/// With no further delivery for this long, what is missing counts as lost.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) struct App {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    pub(crate) delivered: Delivered,
    /// It speaks HTTP/1.1 and counts what it is delivered.
    counts: bool,
}

/// How many distinct events the app has counted, as it tells by itself.
#[derive(Clone, Default)]
pub(crate) struct Delivered(Arc<Told>);

#[derive(Default)]
struct Told {
    distinct: AtomicU64,
    changed: Notify,
}

/// What came of a load that published.
pub(crate) struct Arrived {
    pub(crate) duplicates: u64,
    /// Accepted, but not delivered within [`PATIENCE`] of the delivery before.
    pub(crate) lost: u64,
    /// How long after the call of [`App::arrived`] the last delivery came.
    pub(crate) lag: Duration,
    /// Nanoseconds from due to delivered.
    pub(crate) latency: Histogram<u64>,
}

impl App {
    /// Starts this same executable as the app, subscribed to `subscription` (component, topic).
    pub(crate) async fn start(subscription: Option<(&str, &str)>, folder: &Path) -> Result<Self> {
        match subscription {
            Some((pubsub, topic)) => Self::run(&["--pubsub", pubsub, "--topic", topic], folder, true).await,
            None => Self::run(&[], folder, true).await,
        }
    }

    /// The app that speaks gRPC.
    pub(crate) async fn start_grpc(folder: &Path) -> Result<Self> {
        Self::run(&["--grpc"], folder, false).await
    }

    async fn run(args: &[&str], folder: &Path, counts: bool) -> Result<Self> {
        let [port] = free_ports()?;
        let program = std::env::current_exe().context("find this executable")?;
        let mut command = Command::new(program);
        command.args(["app", "--port", &port.to_string()]).args(args);
        let log = folder.join("app.log");
        command
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log)?);
        let mut process = Process::start_with_output("app", command, log)?;
        let output = process
            .child()
            .stdout
            .take()
            .context("the app's output is a pipe")?
            .into_owned_fd()?;
        let delivered = Delivered::default();
        let told = delivered.clone();
        std::thread::spawn(move || told.follow(std::fs::File::from(output)));
        process.listening(local(port)).await?;
        Ok(Self {
            process,
            address: local(port),
            delivered,
            counts,
        })
    }

    /// Begins a new count, if it counts at all.
    pub(crate) async fn expect(&self, expect: &Expect) -> Result<()> {
        if !self.counts {
            return Ok(());
        }
        let body = Bytes::from(serde_json::to_vec(expect)?);
        let (status, _body) = once(self.address, Method::POST, "/bench/expect", body).await?;
        ensure!(
            status == StatusCode::NO_CONTENT,
            "the app answered {status} to a new count"
        );
        while self.delivered.distinct() > 0 {
            self.delivered.wait(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Waits until `accepted` events have come, or no more do, and takes the count.
    pub(crate) async fn arrived(&self, accepted: u64) -> Result<Arrived> {
        let asked = now();
        let mut last = (self.delivered.distinct(), asked);
        while last.0 < accepted && Duration::from_nanos(now() - last.1) < PATIENCE {
            self.delivered.wait(Duration::from_millis(50)).await;
            if self.delivered.distinct() != last.0 {
                last = (self.delivered.distinct(), now());
            }
        }
        let report = self.report().await?;
        ensure!(
            report.malformed == 0,
            "{} events came without the generator's stamp",
            report.malformed
        );
        let mut latency = histogram(DIGITS);
        for (value, count) in report.latency {
            latency.saturating_record_n(value, count);
        }
        Ok(Arrived {
            duplicates: report.duplicates,
            lost: accepted.saturating_sub(report.distinct),
            lag: Duration::from_nanos(last.1 - asked),
            latency,
        })
    }

    pub(crate) async fn report(&self) -> Result<Report> {
        let (status, body) = once(self.address, Method::GET, "/bench/report", Bytes::new()).await?;
        ensure!(
            status == StatusCode::OK,
            "the app answered {status} instead of its count"
        );
        Ok(serde_json::from_slice(&body)?)
    }
}

impl Delivered {
    pub(crate) fn distinct(&self) -> u64 {
        self.0.distinct.load(Ordering::Relaxed)
    }

    /// Waits for the next change, but no longer than `most`.
    pub(crate) async fn wait(&self, most: Duration) {
        // Elapsed is as good as changed: the caller looks again either way.
        let _looked = tokio::time::timeout(most, self.0.changed.notified()).await;
    }

    /// Reads the app's pipe until it ends with the app.
    fn follow(&self, mut pipe: impl Read) {
        let mut count = [0; 8];
        while pipe.read_exact(&mut count).is_ok() {
            self.0
                .distinct
                .store(u64::from_le_bytes(count), Ordering::Relaxed);
            self.0.changed.notify_waiters();
        }
    }
}
