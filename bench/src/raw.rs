//! The same loads without a sidecar between, by each server's own load generator: `redis-benchmark`, Kafka's
//! `ProducerPerformance` and `EndToEndLatency`, RabbitMQ's PerfTest, `pgbench`. They are the floor that a sidecar is set against.
//!
//! No tool of Redis measures from end to end; [`stream`] is a client of ours for that. What a tool prints is read strictly: what is not
//! understood is an error, not a missing figure.

mod output;
mod stream;

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use outrigger_testkit::servers::postgresql::{PASSWORD, Postgresql, USER};
use outrigger_testkit::servers::{kafka, rabbitmq};
use tempfile::TempDir;
use tokio::process::Command;

use crate::brokers::{Act, Load};
use crate::clock::now;
use crate::contender::{PARTITIONS, redis};
use crate::load::Pace;
use crate::meter::Member;
use crate::process::Process;
use crate::report::Figure;
use crate::request::{KEYS, PAYLOAD};
use crate::round::Round;
use crate::server::Broker;

/// Longer than this no tool may take over the measured time.
const PATIENCE: Duration = Duration::from_secs(60);
/// Requests a second that let `redis-benchmark` run about as long as it should; it knows no duration.
const REDIS_RATE: u64 = 40_000;
/// The same of `ProducerPerformance` …
const KAFKA_RATE: u64 = 40_000;
/// … and of `EndToEndLatency`.
const KAFKA_ROUND_TRIPS: u64 = 800;

/// Raw clients of one server.
pub(crate) struct Raw<'a> {
    round: &'a Round<'a>,
    broker: Broker,
    /// Redis, which is nobody else's.
    process: Option<Process>,
    server: Member,
    address: String,
    folder: TempDir,
}

/// Why there is no raw client for `broker`, if its server has one that cannot be had.
pub(crate) fn missing(broker: Broker) -> Option<String> {
    let why = match broker {
        Broker::Kafka => kafka::tools().err()?,
        Broker::Rabbitmq => rabbitmq::perf_test().err()?,
        _ => return None,
    };
    Some(format!("the raw client of {broker}: {why}"))
}

impl<'a> Raw<'a> {
    /// Whether there is a raw client for `broker`.
    pub(crate) fn has(broker: Broker) -> bool {
        match broker {
            Broker::Redis | Broker::Postgresql => true,
            Broker::Kafka | Broker::Rabbitmq => missing(broker).is_none(),
            Broker::InMemory | Broker::Embedded | Broker::Sqlite | Broker::Resources => false,
        }
    }

    pub(crate) async fn start(round: &'a Round<'a>, broker: Broker) -> Result<Self> {
        let folder = TempDir::with_prefix("outrigger-bench-")?;
        let servers = round.servers;
        let mut process = None;
        let address = match broker {
            Broker::Redis => {
                let (server, address) = redis(folder.path()).await?;
                process = Some(server);
                address.to_string()
            }
            Broker::Kafka => servers.kafka.as_ref().context("Kafka was not started")?.plain(),
            Broker::Rabbitmq => servers
                .rabbitmq
                .as_ref()
                .context("RabbitMQ was not started")?
                .uri(),
            Broker::Postgresql => {
                let postgresql = servers
                    .postgresql
                    .as_ref()
                    .context("PostgreSQL was not started")?;
                postgresql.sql(TABLE).await;
                postgresql.port().to_string()
            }
            other => anyhow::bail!("{other} has no raw client"),
        };
        let server = match &process {
            Some(process) => process.member(),
            None => servers.member(broker).context("the server has ended")?,
        };
        Ok(Self {
            round,
            broker,
            process,
            server,
            address,
            folder,
        })
    }

    pub(crate) async fn end(self) -> Result<()> {
        match self.process {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// The figures of this load; `None` where the tool has nothing like it.
    pub(crate) async fn measure(&self, load: Load) -> Result<Option<Vec<(Figure, f64)>>> {
        let latency = matches!(load.pace, Pace::Rate(_) | Pace::Window(1));
        self.round
            .place(latency, std::slice::from_ref(&self.server), None)?;
        let figures = match (self.broker, load.act, load.pace) {
            (Broker::Redis, Act::Deliver, Pace::Rate(rate)) => {
                stream::measure(&self.address, rate, self.seconds()).await?
            }
            (Broker::Redis, Act::Publish | Act::Get | Act::Set, Pace::Max) => {
                self.redis_benchmark(load).await?
            }
            (Broker::Kafka, Act::Publish, Pace::Max) => self.producer_performance().await?,
            (Broker::Kafka, Act::Deliver, Pace::Window(1)) => self.end_to_end_latency().await?,
            (Broker::Rabbitmq, _, Pace::Max | Pace::Rate(_)) => self.perf_test(load).await?,
            (Broker::Postgresql, Act::Get | Act::Set, Pace::Max) => self.pgbench(load).await?,
            _ => return Ok(None),
        };
        Ok(Some(figures))
    }

    /// Warm-up and measured time.
    fn seconds(&self) -> (Duration, Duration) {
        (self.round.settings.warmup, self.round.settings.measured)
    }

    async fn redis_benchmark(&self, load: Load) -> Result<Vec<(Figure, f64)>> {
        let (host, port) = self.address.split_once(':').context("an address has a port")?;
        let requests = REDIS_RATE * self.round.settings.measured.as_secs();
        let mut command = Command::new("redis-benchmark");
        command
            .args(["-h", host, "-p", port, "--csv", "--precision", "3"])
            .args(["-c", &load.connections.to_string(), "-n", &requests.to_string()]);
        match load.act {
            Act::Get | Act::Set => {
                // Keys that are there, and as many as ours.
                let test = if load.act == Act::Get { "get" } else { "set" };
                command.args(["-d", &PAYLOAD.to_string(), "-r", &KEYS.to_string(), "-t", test]);
            }
            Act::Publish | Act::Deliver => {
                command.args(["XADD", "raw", "*", "data", &"x".repeat(PAYLOAD)]);
            }
        }
        if load.act == Act::Get {
            let mut fill = Command::new("redis-benchmark");
            fill.args(["-h", host, "-p", port, "--csv", "-n", "20000", "-t", "set"])
                .args(["-d", &PAYLOAD.to_string(), "-r", &KEYS.to_string()]);
            self.said(fill).await?;
        }
        output::redis_benchmark(&self.said(command).await?)
    }

    async fn producer_performance(&self) -> Result<Vec<(Figure, f64)>> {
        let topic = self.topic().await?;
        let (warmup, measured) = self.seconds();
        let warmup = (KAFKA_RATE * warmup.as_secs()).max(1);
        let records = warmup + KAFKA_RATE * measured.as_secs();
        let mut command = self.kafka("ProducerPerformance")?;
        command
            .args(["--topic", &topic, "--num-records", &records.to_string()])
            .args([
                "--warmup-records",
                &warmup.to_string(),
                "--record-size",
                &PAYLOAD.to_string(),
            ])
            .args(["--throughput", "-1", "--bootstrap-server", &self.address])
            .args(["--command-property", "acks=all", "enable.idempotence=true"]);
        output::producer_performance(&self.said(command).await?)
    }

    async fn end_to_end_latency(&self) -> Result<Vec<(Figure, f64)>> {
        let topic = self.topic().await?;
        let messages = KAFKA_ROUND_TRIPS * self.round.settings.measured.as_secs();
        let mut command = self.kafka("EndToEndLatency")?;
        command
            .args(["--bootstrap-server", &self.address, "--topic", &topic])
            .args(["--num-records", &messages.to_string(), "--producer-acks", "all"])
            .args(["--record-size", &PAYLOAD.to_string()]);
        output::end_to_end_latency(&self.said(command).await?)
    }

    /// A topic like those of the contenders.
    async fn topic(&self) -> Result<String> {
        let topic = format!("raw-{}", now());
        let kafka = self
            .round
            .servers
            .kafka
            .as_ref()
            .context("Kafka was not started")?;
        kafka.create(&topic, PARTITIONS).await;
        Ok(topic)
    }

    fn kafka(&self, tool: &str) -> Result<Command> {
        let jars = kafka::tools().map_err(anyhow::Error::msg)?;
        let mut command = java(jars);
        command.arg(format!("org.apache.kafka.tools.{tool}"));
        Ok(command)
    }

    async fn perf_test(&self, load: Load) -> Result<Vec<(Figure, f64)>> {
        let jars = rabbitmq::perf_test().map_err(anyhow::Error::msg)?;
        let (warmup, measured) = self.seconds();
        let interval = warmup.max(measured).as_secs().max(1);
        let seconds = 2 * interval + 1;
        let name = format!("raw-{}", now());
        let deliver = load.act == Act::Deliver;
        let mut command = java(jars);
        command
            .args([
                "com.rabbitmq.perf.PerfTest",
                "--uri",
                &self.address,
                "--time",
                &seconds.to_string(),
            ])
            .args([
                "--size",
                &PAYLOAD.to_string(),
                "--flag",
                "persistent",
                "--interval",
                &interval.to_string(),
            ])
            .args(["--type", "fanout", "--exchange", &name, "--auto-delete", "true"])
            .args(["--producers", "1", "--confirm", &load.connections.to_string()])
            .args(["--consumers", if deliver { "1" } else { "0" }]);
        if let Pace::Rate(rate) = load.pace {
            command.args(["--rate", &rate.to_string()]);
        }
        output::perf_test(&self.said(command).await?, deliver)
    }

    async fn pgbench(&self, load: Load) -> Result<Vec<(Figure, f64)>> {
        let postgresql: &Postgresql = self
            .round
            .servers
            .postgresql
            .as_ref()
            .context("PostgreSQL was not started")?;
        let script = self.folder.path().join("script.sql");
        let value = "v".repeat(PAYLOAD);
        let statement = match load.act {
            Act::Get => GET.to_owned(),
            _ => format!(
                "INSERT INTO raw (key, value, isbinary) VALUES ('bench-' || :key, '\"{value}\"', false) ON CONFLICT (key) DO \
                 UPDATE SET value = excluded.value, isbinary = excluded.isbinary, updatedate = CURRENT_TIMESTAMP;"
            ),
        };
        std::fs::write(
            &script,
            format!("\\set key random(0, {})\n{statement}\n", KEYS - 1),
        )?;
        postgresql.sql(&format!("{TABLE} {}", filled(&value))).await;
        let connections = load.connections.to_string();
        let seconds = self.round.settings.measured.as_secs().to_string();
        let mut command = Command::new(postgresql.programs().join("pgbench"));
        command
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &self.address,
                "-U",
                USER,
                "-n",
                "-M",
                "prepared",
            ])
            .args(["-c", &connections, "-j", "2", "-T", &seconds, "-f"])
            .arg(&script)
            .arg("postgres")
            .env("PGPASSWORD", PASSWORD);
        output::pgbench(&self.said(command).await?)
    }

    /// What a tool prints.
    async fn said(&self, mut command: Command) -> Result<String> {
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
        let (warmup, measured) = self.seconds();
        let output = tokio::time::timeout(warmup + measured * 4 + PATIENCE, output)
            .await
            .with_context(|| format!("{program} does not end"))?
            .with_context(|| format!("start {program}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "{program} ended with {}: {text}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(text)
    }
}

/// Without the limits of the test servers: a client that is short of memory or compiled lightly would be no floor.
fn java(jars: PathBuf) -> Command {
    let mut command = Command::new("java");
    command
        .args(["-Xmx512m", "-cp"])
        .arg(format!("{}/*", jars.display()));
    command
}

/// With the columns of the component's table.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS raw (key text NOT NULL PRIMARY KEY, value jsonb NOT NULL, isbinary boolean NOT NULL, \
    insertdate TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(), updatedate TIMESTAMP WITH TIME ZONE NULL, \
    expiredate TIMESTAMP WITH TIME ZONE NULL);";
const GET: &str = "SELECT key, value, isbinary, xmin AS etag, expiredate FROM raw WHERE key = 'bench-' || :key \
    AND (expiredate IS NULL OR expiredate >= CURRENT_TIMESTAMP);";

fn filled(value: &str) -> String {
    format!(
        "INSERT INTO raw (key, value, isbinary) SELECT 'bench-' || key, '\"{value}\"', false FROM generate_series(0, {}) AS key \
         ON CONFLICT DO NOTHING;",
        KEYS - 1
    )
}
