//! A `daprd` under test: how its sidecars are started, on which brokers, with which resources.
//!
//! Each contender gets the reference's own flags, the same resources and the same environment. A contender with a hub
//! also takes part in the embedded loads; nobody else has an embedded broker.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http::StatusCode;
use tempfile::TempDir;
use tokio::process::Command;

use crate::clock::now;
use crate::meter::Member;
use crate::process::{Process, free_ports, local};
use crate::server::{Broker, Component, Servers};

/// Name of the one pub/sub component, and of the one state store.
pub(crate) const PUBSUB: &str = "pubsub";
pub(crate) const STORE: &str = "statestore";
/// Of the topics that are made here.
pub(crate) const PARTITIONS: u8 = 8;

/// A program to measure, given as `name=path`.
#[derive(Clone, Debug)]
pub(crate) struct Contender {
    pub(crate) name: String,
    pub(crate) daprd: PathBuf,
    /// The executable that is its hub when called with `hub`.
    pub(crate) hub: Option<PathBuf>,
    /// Folder with components on servers that run already; the same for all contenders.
    pub(crate) resources: Option<PathBuf>,
}

/// `name=path` of the command line.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok(Self {
                name: name.to_owned(),
                path: PathBuf::from(path),
            }),
            _ => Err(format!("{text:?} is not of the form name=path")),
        }
    }
}

impl Contender {
    pub(crate) fn has(&self, broker: Broker) -> bool {
        match broker {
            Broker::Embedded => self.hub.is_some(),
            Broker::Resources => self.resources.is_some(),
            _ => true,
        }
    }

    /// What `daprd --version` says.
    pub(crate) async fn version(&self) -> Result<String> {
        let output = self.command().arg("--version").kill_on_drop(true).output();
        let output = tokio::time::timeout(Duration::from_secs(10), output)
            .await
            .context("--version did not end")??;
        ensure!(
            output.status.success(),
            "{} --version ended with {}",
            self.daprd.display(),
            output.status
        );
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Whether `daprd --help` mentions this flag.
    pub(crate) async fn knows(&self, flag: &str) -> Result<bool> {
        let output = self.command().arg("--help").kill_on_drop(true).output();
        let output = tokio::time::timeout(Duration::from_secs(10), output)
            .await
            .context("--help did not end")??;
        Ok([output.stdout, output.stderr]
            .iter()
            .any(|text| String::from_utf8_lossy(text).contains(flag)))
    }

    /// Size of the executable in bytes.
    pub(crate) fn size(&self) -> Result<u64> {
        Ok(std::fs::metadata(&self.daprd)
            .with_context(|| format!("look at {}", self.daprd.display()))?
            .len())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.daprd);
        if self.daprd.file_name().is_some_and(|name| name == "outrigger") {
            command.arg("daprd"); // the one executable, called by its own name
        }
        command
    }
}

/// What a round of one contender runs in: a temporary folder with resources, and the broker if it is a process.
pub(crate) struct Stage<'a> {
    contender: &'a Contender,
    folder: TempDir,
    /// Redis or the hub.
    process: Option<Process>,
    /// Of the broker, whoever has started it.
    pub(crate) server: Option<Member>,
    /// Nobody else's.
    pub(crate) topic: String,
    /// Another, for what nobody has subscribed to.
    pub(crate) lone_topic: String,
    has_hub: bool,
}

pub(crate) struct Sidecar {
    pub(crate) process: Process,
    pub(crate) http: SocketAddr,
    pub(crate) grpc: SocketAddr,
    /// From its start to the first 204 of `/v1.0/healthz`.
    pub(crate) ready_after: Duration,
}

impl<'a> Stage<'a> {
    pub(crate) async fn new(contender: &'a Contender, broker: Broker, servers: &Servers) -> Result<Self> {
        let folder = TempDir::with_prefix("outrigger-bench-")?;
        let path = folder.path();
        std::fs::create_dir(path.join("resources"))?;
        std::fs::write(path.join("config.yaml"), CONFIGURATION)?;
        let memory = || Component::plain("in-memory");
        let unique = now();
        let (topic, lone_topic) = (format!("bench-{unique}"), format!("alone-{unique}"));
        let mut process = None;
        let components = match broker {
            Broker::InMemory => Some([memory(), memory()]),
            Broker::Sqlite => {
                let file = path.join("state.db").display().to_string();
                Some([memory(), Component::of("sqlite", [("connectionString", file)])])
            }
            Broker::Redis => {
                let (server, address) = redis(path).await?;
                process = Some(server);
                let redis = || {
                    let settings = [
                        ("redisHost", address.to_string()),
                        ("redisPassword", String::new()),
                    ];
                    Component::of("redis", settings)
                };
                Some([redis(), redis()])
            }
            Broker::Kafka => {
                let kafka = servers.kafka.as_ref().context("Kafka was not started")?;
                for topic in [&topic, &lone_topic] {
                    kafka.create(topic, PARTITIONS).await;
                }
                let settings = [("brokers", kafka.plain()), ("authType", "none".to_owned())];
                Some([Component::of("kafka", settings), memory()])
            }
            Broker::Rabbitmq => {
                let rabbitmq = servers.rabbitmq.as_ref().context("RabbitMQ was not started")?;
                let settings = [
                    ("connectionString", rabbitmq.uri()),
                    ("publisherConfirm", "true".to_owned()),
                    ("deliveryMode", "2".to_owned()),
                ];
                Some([Component::of("rabbitmq", settings), memory()])
            }
            Broker::Postgresql => {
                let postgresql = servers
                    .postgresql
                    .as_ref()
                    .context("PostgreSQL was not started")?;
                let settings = [
                    ("connectionString", postgresql.connection_string()),
                    ("tableName", format!("state_{unique}")),
                    ("metadataTableName", format!("metadata_{unique}")),
                ];
                Some([memory(), Component::of("postgresql", settings)])
            }
            Broker::Embedded => {
                process = Some(hub(contender, path).await?);
                Some([Component::plain("outrigger"), Component::plain("outrigger")])
            }
            Broker::Resources => {
                let from = contender
                    .resources
                    .as_ref()
                    .context("there is no folder of resources")?;
                copy(from, &path.join("resources"))?;
                None
            }
        };
        if let Some([pubsub, store]) = components {
            write(path, PUBSUB, "pubsub", &pubsub)?;
            write(path, STORE, "state", &store)?;
        }
        let server = match &process {
            Some(process) => Some(process.member()),
            None => servers.member(broker),
        };
        Ok(Self {
            contender,
            folder,
            process,
            server,
            topic,
            lone_topic,
            has_hub: broker == Broker::Embedded,
        })
    }

    /// Ends the broker if it is this contender's alone.
    pub(crate) async fn end(self) -> Result<()> {
        match self.process {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// The folder alone; its broker ends.
    pub(crate) fn into_folder(self) -> TempDir {
        self.folder
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a sidecar and waits until it is ready. `name` distinguishes it in the results.
    pub(crate) async fn sidecar(&self, name: &str, app_id: &str, app: Option<SocketAddr>) -> Result<Sidecar> {
        self.sidecar_of(name, app_id, app, "http").await
    }

    /// The same for an app that speaks `protocol`.
    pub(crate) async fn sidecar_of(
        &self,
        name: &str,
        app_id: &str,
        app: Option<SocketAddr>,
        protocol: &str,
    ) -> Result<Sidecar> {
        self.sidecar_with(name, app_id, app, &[format!("--app-protocol={protocol}")])
            .await
    }

    /// The same with more flags.
    pub(crate) async fn sidecar_with(
        &self,
        name: &str,
        app_id: &str,
        app: Option<SocketAddr>,
        flags: &[String],
    ) -> Result<Sidecar> {
        let [http, grpc, internal, metrics] = free_ports()?;
        let mut command = self.contender.command();
        command
            .arg(format!("--app-id={app_id}"))
            .args(flags)
            .arg("--max-body-size=256Mi")
            .arg(format!("--dapr-http-port={http}"))
            .arg(format!("--dapr-grpc-port={grpc}"))
            .arg(format!("--dapr-internal-grpc-port={internal}"))
            .arg("--dapr-internal-grpc-listen-address=127.0.0.1")
            .arg("--dapr-listen-addresses=127.0.0.1")
            .arg(format!("--metrics-port={metrics}"))
            .arg("--metrics-listen-address=127.0.0.1")
            .arg("--mode=standalone")
            .arg("--log-level=info")
            .arg("--resources-path")
            .arg(self.folder().join("resources"))
            .arg("--config")
            .arg(self.folder().join("config.yaml"))
            .env("DAPR_HOST_IP", "127.0.0.1");
        if self.has_hub {
            command.env("OUTRIGGER_HUB_SOCKET", hub_socket(self.folder()));
        }
        if let Some(app) = app {
            command.arg(format!("--app-port={}", app.port()));
        }
        let mut process = Process::start(name, command, self.folder())?;
        let ready_after = process
            .ready(local(http), "/v1.0/healthz", StatusCode::NO_CONTENT)
            .await?;
        Ok(Sidecar {
            process,
            http: local(http),
            grpc: local(grpc),
            ready_after,
        })
    }
}

/// Metrics on and a tenth of the calls traced, as in the reference's own performance tests; no exporter.
const CONFIGURATION: &str = r#"apiVersion: dapr.io/v1alpha1
kind: Configuration
metadata:
  name: bench
spec:
  metric:
    enabled: true
  tracing:
    samplingRate: "0.1"
"#;

fn write(folder: &Path, name: &str, block: &str, component: &Component) -> Result<()> {
    let settings: Vec<String> = component
        .settings
        .iter()
        .map(|(name, value)| format!(r#"{{"name":"{name}","value":"{value}"}}"#))
        .collect();
    let document = format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: {name}\nspec:\n  type: {block}.{}\n  version: v1\n  metadata: [{}]\n",
        component.kind,
        settings.join(",")
    );
    std::fs::write(folder.join("resources").join(format!("{name}.yaml")), document)?;
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let entries = std::fs::read_dir(from).with_context(|| format!("read the folder {}", from.display()))?;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Debian's Redis without persistence, on a free port.
pub(crate) async fn redis(folder: &Path) -> Result<(Process, SocketAddr)> {
    let [port] = free_ports()?;
    let mut command = Command::new("redis-server");
    command
        .args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--dir",
        ])
        .arg(folder);
    let mut process =
        Process::start("redis", command, folder).context("is Debian's redis-server installed?")?;
    process.listening(local(port)).await?;
    Ok((process, local(port)))
}

/// The contender's hub with a home of its own below `folder`; sidecars find it by `OUTRIGGER_HUB_SOCKET`.
async fn hub(contender: &Contender, folder: &Path) -> Result<Process> {
    let program = contender
        .hub
        .as_ref()
        .with_context(|| format!("{} has no hub", contender.name))?;
    let mut command = Command::new(program);
    command.arg("hub").arg("--home").arg(home(folder));
    let mut process = Process::start("hub", command, folder)?;
    process.created(&hub_socket(folder)).await?;
    Ok(process)
}

fn home(folder: &Path) -> PathBuf {
    folder.join("home")
}

fn hub_socket(folder: &Path) -> PathBuf {
    home(folder).join("hub").join("hub.sock")
}
