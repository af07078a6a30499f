//! The demo's processes: a hub, and four services each with its sidecar, in a temporary home.
//!
//! INVARIANT: nothing of it outlives the demo. Processes end with this one even when it is killed; the folder is
//! removed when the world is dropped.

use super::ledger::Reader;
use super::service::{Args, Service};
use crate::commands::Context;
use crate::home::{self, Home, Program};
use crate::http::{Place, Sidecar, until};
use crate::hub::{self, Life};
use crate::process;
use crate::roles::under;
use crate::run::options::{Shared, Single};
use crate::run::resolve::{self, App, Chosen};
use anyhow::{Context as _, Result, bail};
use outrigger_hub::client::{self, Client};
use outrigger_sidecar::config::Environment;
use rustix::process::Signal;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::process::{Child, Command};

const READY: Duration = Duration::from_secs(30);
const ANSWER: Duration = Duration::from_secs(2);
const GRACE: Duration = Duration::from_secs(6);
/// `examples/orders/embedded`, so that the demo runs without that folder.
const RESOURCES: [(&str, &str); 2] = [
    (
        "components.yaml",
        include_str!("../../../../examples/orders/embedded/components.yaml"),
    ),
    (
        "subscriptions.yaml",
        include_str!("../../../../examples/orders/embedded/subscriptions.yaml"),
    ),
];

pub(crate) struct World {
    folder: TempDir,
    home: Home,
    hub: Client,
    program: Program,
    environment: Environment,
    members: Vec<Member>,
}

/// A service: its sidecar and its app.
struct Member {
    app: App,
    args: Args,
    processes: Option<Processes>,
}

struct Processes {
    sidecar: Child,
    app: Child,
}

/// What differs from one demo to another.
pub(crate) struct Plan {
    pub(crate) orders: u32,
    pub(crate) rate: u32,
    pub(crate) resources: Option<PathBuf>,
    pub(crate) run: String,
    /// Number and W3C header of the order that is traced, and where its spans go.
    pub(crate) trace: Option<(u32, String, String)>,
}

impl World {
    /// Starts everything and waits until every subscription is served.
    pub(crate) async fn start(plan: &Plan, context: &Context) -> Result<Self> {
        let folder = temporary()?;
        let home = Home::at(folder.path().join("home"));
        let hub = hub::ensure(&home, Life::Ours).await?;
        let program = home.sidecar()?;
        let mut world = Self {
            folder,
            home,
            hub,
            program,
            environment: context.environment.clone(),
            members: Vec::new(),
        };
        world.enrol(plan)?;
        for service in Service::ALL {
            world.launch(service)?;
        }
        futures::future::try_join_all(Service::ALL.map(|service| world.ready(service))).await?;
        Ok(world)
    }

    /// A ledger to read for each service.
    pub(crate) fn ledgers(&self) -> Vec<(Service, Reader)> {
        Service::ALL
            .map(|service| (service, Reader::new(self.ledger(service))))
            .into()
    }

    /// The sidecar of a service.
    pub(crate) fn sidecar(&self, service: Service) -> Result<Sidecar> {
        Ok(Sidecar::new(self.member(service)?.app.place(), &self.environment))
    }

    /// The app of a service itself.
    pub(crate) fn app(&self, service: Service) -> Result<Sidecar> {
        Ok(Sidecar::new(
            Place::Port(self.member(service)?.args.port),
            &self.environment,
        ))
    }

    /// SIGKILL to an app and its sidecar. Answers how many processes that were.
    pub(crate) async fn kill(&mut self, service: Service) -> Result<usize> {
        let member = self.member_mut(service)?;
        let Some(Processes { mut sidecar, mut app }) = member.processes.take() else {
            return Ok(0);
        };
        let mut killed = 0;
        for child in [&mut sidecar, &mut app] {
            if let Some(pid) = child.id() {
                killed += usize::from(process::signal(pid, Signal::KILL)?);
            }
        }
        sidecar.wait().await?;
        app.wait().await?;
        Ok(killed)
    }

    /// Starts the sidecar and the app of a service, at the same ports each time.
    pub(crate) fn launch(&mut self, service: Service) -> Result<()> {
        let (program, socket) = (self.program.clone(), self.hub.socket().to_owned());
        let home = self.home.path().to_owned();
        let log = |kind: &str| self.log(service, kind);
        let (sidecar_log, app_log) = (log("daprd")?, log("app")?);
        let member = self.member_mut(service)?;
        let sidecar = Command::new(&program.path)
            .args(&program.first)
            .args(member.app.arguments())
            .env(under::PARENT, std::process::id().to_string())
            .env("OUTRIGGER_HUB_SOCKET", socket)
            .env(home::VARIABLE, home)
            .stdin(Stdio::null())
            .stdout(sidecar_log.try_clone()?)
            .stderr(sidecar_log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start a sidecar")?;
        let app = Command::new(home::itself())
            .arg(super::APP)
            .args(member.args.words())
            .env(under::PARENT, std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(app_log.try_clone()?)
            .stderr(app_log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start an app")?;
        member.processes = Some(Processes { sidecar, app });
        Ok(())
    }

    /// Waits until a service's sidecar delivers to its app.
    pub(crate) async fn ready(&self, service: Service) -> Result<()> {
        let sidecar = self.sidecar(service)?;
        let ready = until(READY, || async {
            sidecar
                .get("/v1.0/healthz", ANSWER)
                .await
                .is_ok_and(|answer| answer.is_success())
                .then_some(())
        });
        if ready.await.is_some() {
            return Ok(());
        }
        let said = |kind: &str| hub::last_lines(&self.log_path(service, kind), 10);
        bail!(
            "{} was not ready within {READY:?}. The end of its sidecar's log:\n{}\nThe end of its own:\n{}",
            service.id(),
            said("daprd"),
            said("app")
        )
    }

    /// The end of what a service and its sidecar have said, for a failure.
    pub(crate) fn said(&self, service: Service) -> String {
        let said = |kind: &str| hub::last_lines(&self.log_path(service, kind), 5);
        format!(
            "{} (sidecar):\n{}\n{} (app):\n{}",
            service.id(),
            said("daprd"),
            service.id(),
            said("app")
        )
    }

    /// Whether one of the processes that should run has ended.
    pub(crate) fn casualty(&mut self) -> Option<Service> {
        let ended = |child: &mut Child| !matches!(child.try_wait(), Ok(None));
        self.members.iter_mut().find_map(|member| {
            let processes = member.processes.as_mut()?;
            (ended(&mut processes.sidecar) || ended(&mut processes.app)).then_some(member.args.service)
        })
    }

    /// Ends everything in good order: apps, sidecars, the hub.
    pub(crate) async fn end(mut self) -> Result<()> {
        for member in &mut self.members {
            let Some(Processes { sidecar, app }) = &mut member.processes else {
                continue;
            };
            for child in [app, sidecar] {
                if let Some(pid) = child.id() {
                    process::signal(pid, Signal::TERM)?;
                }
            }
        }
        let children = self
            .members
            .iter_mut()
            .filter_map(|member| member.processes.as_mut());
        let waits = children.map(|processes| async {
            processes.app.wait().await?;
            processes.sidecar.wait().await
        });
        // Who does not end in time is killed when the members are dropped.
        let _in_time = tokio::time::timeout(GRACE, futures::future::join_all(waits)).await;
        self.members.clear();
        self.hub.shutdown().await?;
        let path = self.home.path().to_owned();
        drop(self.hub);
        if !client::gone(&path, GRACE).await? {
            bail!("the demo's hub did not end within {GRACE:?}");
        }
        self.folder.close().context("cannot remove the demo's folder")
    }

    fn enrol(&mut self, plan: &Plan) -> Result<()> {
        let folder = self.folder.path().to_owned();
        for name in ["ledgers", "logs"] {
            home::create(&folder.join(name))?;
        }
        let resources = match &plan.resources {
            Some(resources) => resources.clone(),
            None => write_resources(&folder.join("resources"))?,
        };
        let config = match &plan.trace {
            Some((_, _, collector)) => Some(write_configuration(&folder, collector)?),
            None => None,
        };
        let mut chosen = Chosen::default();
        for service in Service::ALL {
            let mut port = || chosen.lasting().map(|port| Some(i64::from(port)));
            let single = Single {
                app_id: Some(service.id().to_owned()),
                app_port: port()?,
                dapr_http_port: port()?,
                dapr_grpc_port: port()?,
                dapr_internal_grpc_port: port()?,
                metrics_port: port()?,
                ..Single::default()
            };
            let shared = Shared {
                resources_paths: vec![resources.clone()],
                config: config.clone(),
                ..Shared::default()
            };
            let app = resolve::app(single, shared, &folder, &self.home, &[], &mut chosen)?;
            let (traced, traceparent) = match &plan.trace {
                Some((number, traceparent, _)) => (*number, traceparent.clone()),
                None => (0, String::new()),
            };
            let args = Args {
                service,
                port: app.ports.app,
                sidecar: app.ports.http,
                ledger: self.ledger(service),
                run: plan.run.clone(),
                orders: plan.orders,
                rate: plan.rate,
                traced,
                traceparent,
            };
            self.members.push(Member {
                app,
                args,
                processes: None,
            });
        }
        Ok(())
    }

    fn member(&self, service: Service) -> Result<&Member> {
        self.members
            .iter()
            .find(|member| member.args.service == service)
            .context("the service is not enrolled")
    }

    fn member_mut(&mut self, service: Service) -> Result<&mut Member> {
        self.members
            .iter_mut()
            .find(|member| member.args.service == service)
            .context("the service is not enrolled")
    }

    fn ledger(&self, service: Service) -> PathBuf {
        self.folder.path().join("ledgers").join(service.id())
    }

    fn log_path(&self, service: Service, kind: &str) -> PathBuf {
        self.folder
            .path()
            .join("logs")
            .join(format!("{}.{kind}.log", service.id()))
    }

    fn log(&self, service: Service, kind: &str) -> Result<File> {
        let path = self.log_path(service, kind);
        let file = OpenOptions::new().create(true).append(true).open(&path);
        file.with_context(|| format!("cannot create {}", path.display()))
    }
}

/// A folder whose path leaves room for the hub's socket below it.
fn temporary() -> Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix("outrigger-");
    let folder = builder.tempdir().context("cannot create a temporary folder")?;
    if outrigger_hub::config::socket(&folder.path().join("home")).is_ok() {
        return Ok(folder);
    }
    builder
        .tempdir_in("/tmp")
        .context("cannot create a temporary folder in /tmp")
}

fn write_resources(folder: &Path) -> Result<PathBuf> {
    home::create(folder)?;
    for (name, text) in RESOURCES {
        fs::write(folder.join(name), text).with_context(|| format!("cannot write {name}"))?;
    }
    Ok(folder.to_owned())
}

/// Traces only what comes with a sampled header: one order.
fn write_configuration(folder: &Path, collector: &str) -> Result<PathBuf> {
    let text = format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata:\n  name: demo\nspec:\n  tracing:\n    \
         samplingRate: \"0.00001\"\n    zipkin:\n      endpointAddress: {collector}\n"
    );
    let path = folder.join("config.yaml");
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
