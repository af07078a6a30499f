//! A child process of the benchmark: started with its output in a file, pinned on demand, killed when dropped.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Method, StatusCode};
use rustix::thread::{CpuSet, sched_setaffinity};
use tokio::process::{Child, Command};

use crate::client::once;
use crate::clock::{Ticker, nanos, now};
use crate::meter::Member;

/// How long any process may take until it answers.
const READY_WITHIN: Duration = Duration::from_secs(30);

pub(crate) struct Process {
    name: String,
    pid: u32,
    log: PathBuf,
    started: u64,
    child: Child,
}

impl Process {
    /// Starts `command`; its output goes to `folder/name.log`. `name` also names it in the results.
    pub(crate) fn start(name: &str, mut command: Command, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        command.stderr(output.try_clone()?).stdout(output);
        Self::start_with_output(name, command, log)
    }

    /// The same for a command whose output is already directed somewhere.
    pub(crate) fn start_with_output(name: &str, mut command: Command, log: PathBuf) -> Result<Self> {
        let started = now();
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        let child = command
            .stdin(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {program}"))?;
        let pid = child.id().context("a process that has just started has an id")?;
        Ok(Self {
            name: name.to_owned(),
            pid,
            log,
            started,
            child,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Polls `GET path` each millisecond until it answers `status`; returns the time since the start of the process.
    pub(crate) async fn ready(
        &mut self,
        address: SocketAddr,
        path: &str,
        status: StatusCode,
    ) -> Result<Duration> {
        let ticker = Ticker::every(Duration::from_millis(1))?;
        loop {
            if let Ok((answer, _body)) = once(address, Method::GET, path, Bytes::new()).await
                && answer == status
            {
                return Ok(self.age());
            }
            self.alive_and_young(path)?;
            ticker.tick().await?;
        }
    }

    /// Polls each millisecond until something listens at `address`.
    pub(crate) async fn listening(&mut self, address: SocketAddr) -> Result<Duration> {
        let ticker = Ticker::every(Duration::from_millis(1))?;
        while tokio::net::TcpStream::connect(address).await.is_err() {
            self.alive_and_young("its port")?;
            ticker.tick().await?;
        }
        Ok(self.age())
    }

    /// Polls each millisecond until the file (or socket) is there.
    pub(crate) async fn created(&mut self, path: &Path) -> Result<Duration> {
        let ticker = Ticker::every(Duration::from_millis(1))?;
        while !path.exists() {
            self.alive_and_young(&path.display().to_string())?;
            ticker.tick().await?;
        }
        Ok(self.age())
    }

    /// For the meter.
    pub(crate) fn member(&self) -> Member {
        Member::single(&self.name, self.pid)
    }

    /// Ends it with SIGKILL and waits.
    pub(crate) async fn kill(mut self) -> Result<()> {
        self.child
            .kill()
            .await
            .with_context(|| format!("kill {}", self.name))
    }

    fn age(&self) -> Duration {
        Duration::from_nanos(now() - self.started)
    }

    fn alive_and_young(&mut self, awaited: &str) -> Result<()> {
        let what = match self.child.try_wait()? {
            Some(status) => format!("ended with {status}"),
            None if now() - self.started > nanos(READY_WITHIN) => {
                format!("gave no {awaited} within {READY_WITHIN:?}")
            }
            None => return Ok(()),
        };
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        bail!(
            "{} {what}; its last lines:\n{}",
            self.name,
            lines[lines.len().saturating_sub(15)..].join("\n")
        )
    }
}

/// Binds this process's own (only) thread.
pub(crate) fn pin_self(cores: &CpuSet) -> Result<()> {
    sched_setaffinity(None, cores).context("pin the generator")
}

pub(crate) fn cores(of: impl IntoIterator<Item = usize>) -> CpuSet {
    let mut set = CpuSet::new();
    for core in of {
        set.set(core);
    }
    set
}

/// Ports of 127.0.0.1 that were free just now.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let listeners: Vec<TcpListener> = (0..N)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<Result<_, _>>()?;
    let ports: Vec<u16> = listeners
        .iter()
        .map(|l| Ok(l.local_addr()?.port()))
        .collect::<std::io::Result<_>>()?;
    ports
        .try_into()
        .map_err(|_| anyhow::anyhow!("asked for {N} ports"))
}

pub(crate) fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
