//! The process of a server: at most one at a time, started again and again on the same ports and files.
//!
//! It is killed with its value. It stands first among the fields of a server: those are dropped in their order, so
//! that its folder and its ports are its own to the end.

use crate::until::{answered, until};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The end of what a server that does not start has printed.
const LINES: usize = 30;

pub(super) struct Life {
    /// In messages.
    name: &'static str,
    child: Option<Child>,
    /// Sends what ends it at once.
    kill: fn(Pid) -> rustix::io::Result<()>,
    /// Both standard streams of all its lives.
    log: Option<PathBuf>,
}

/// Whether there is such a program; said loudly if not.
pub(super) fn installed(program: &str, package: &str) -> bool {
    // That it does not know the option does not matter.
    let ran = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let missing = ran.is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    if missing {
        super::skipped(&format!("{package} is not installed ({program})"));
    }
    !missing
}

impl Life {
    /// Nothing runs yet. SIGKILL ends it, and what it prints is thrown away.
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            child: None,
            kill: |pid| kill_process(pid, Signal::KILL),
            log: None,
        }
    }

    #[must_use]
    pub(super) fn killed_by(mut self, kill: fn(Pid) -> rustix::io::Result<()>) -> Self {
        self.kill = kill;
        self
    }

    #[must_use]
    pub(super) fn logs_to(mut self, file: PathBuf) -> Self {
        self.log = Some(file);
        self
    }

    /// # Panics
    /// When it runs already, or cannot be started.
    pub(super) fn begin(&mut self, command: &mut Command) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        command.stdin(Stdio::null());
        if let Some(log) = &self.log {
            let log = File::options().create(true).append(true).open(log);
            let log = log.expect("the folder takes files");
            command
                .stdout(log.try_clone().expect("a second handle"))
                .stderr(log);
        } else {
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
        let child = command.spawn();
        self.child = Some(child.unwrap_or_else(|error| panic!("{} starts: {error}", self.name)));
    }

    /// Asks until the server says that it is ready.
    ///
    /// # Panics
    /// When it does not in time, or ends.
    pub(super) async fn ready(&self, patience: Duration, ask: impl AsyncFn() -> io::Result<bool>) {
        if let Err(why) = self.started(patience, ask).await {
            panic!("{why}");
        }
    }

    /// The same.
    ///
    /// # Errors
    /// What happened instead, with the end of what it has printed.
    pub(super) async fn started(
        &self,
        patience: Duration,
        ask: impl AsyncFn() -> io::Result<bool>,
    ) -> Result<(), String> {
        let child = self.child.as_ref().expect("the server runs");
        let pid = WaitId::Pid(Pid::from_child(child));
        // Whoever kills it waits for it.
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let ready = answered(patience, async || {
            match waitid(pid.clone(), look).expect("ours to wait for") {
                Some(_) => Some(Err("it has ended".to_owned())),
                None => ask().await.unwrap_or(false).then_some(Ok(())),
            }
        });
        let late = || Err(format!("not after {patience:?}"));
        let Err(why) = ready.await.unwrap_or_else(late) else {
            return Ok(());
        };
        let output = self.output();
        let lines: Vec<&str> = output.lines().collect();
        let end = lines[lines.len().saturating_sub(LINES)..].join("\n");
        Err(format!("{} is not ready: {why}\n{end}", self.name))
    }

    /// No farewell.
    ///
    /// # Panics
    /// When it is not running.
    pub(super) fn kill(&mut self) {
        let mut child = self.child.take().expect("the server runs");
        (self.kill)(Pid::from_child(&child)).expect("ours to kill");
        child.wait().expect("ours to wait for");
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Panics
    /// When it is not running, or does not end in time.
    pub(super) async fn stop(&mut self, patience: Duration) {
        self.signal(Signal::TERM);
        let mut child = self.child.take().expect("the server runs");
        let ended = async || child.try_wait().expect("ours to wait for").is_some();
        until("the server ends", patience, ended).await;
    }

    /// # Panics
    /// When it is not running.
    pub(super) fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("the server runs");
        kill_process(Pid::from_child(child), signal).expect("ours to signal");
    }

    /// `None` when it is not running.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// What it has printed, in all its lives.
    pub(super) fn output(&self) -> String {
        let output = self.log.as_ref().map(std::fs::read);
        String::from_utf8_lossy(&output.and_then(Result::ok).unwrap_or_default()).into_owned()
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}
