//! One app and its sidecar, from start to end.
//!
//! INVARIANT: they end together. Whichever ends first takes the other with it; a stop goes to the app first, so that
//! it can still use its sidecar; and neither outlives us, however we end.

use super::resolve::App;
use super::voice::{Readers, Voice};
use super::wish::{self, Wish};
use crate::home::{self, Program};
use crate::http::{Call, Sidecar, encode, until};
use crate::process;
use crate::roles::under;
use crate::screen::Screen;
use anyhow::{Context, Result};
use bytes::Bytes;
use outrigger_sidecar::config::Environment;
use rustix::process::Signal;
use std::io::{self, IsTerminal};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// Our own failure, and an app that cannot be started, as a shell reports them.
pub(crate) const FAILED: u8 = 125;
const NOT_FOUND: u8 = 127;

/// How long a sidecar may take until it can be used; the app is started then in any case.
const READY: Duration = Duration::from_secs(60);
/// How long app and sidecar may each take to end in good order.
const GRACE: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(5);

/// What is needed to run one pair.
pub(crate) struct Pair<'a> {
    pub(crate) app: &'a App,
    pub(crate) home: &'a Path,
    pub(crate) program: &'a Program,
    pub(crate) environment: &'a Environment,
    pub(crate) hub: Option<&'a Path>,
    pub(crate) screen: Screen,
    pub(crate) app_voice: Voice,
    pub(crate) sidecar_voice: Voice,
    /// Said before each status line, when there are several pairs.
    pub(crate) label: String,
    /// What else the sidecar's metadata shall say.
    pub(crate) metadata: Vec<(&'static str, String)>,
    /// Where the sidecar's log can be read, for errors.
    pub(crate) sidecar_log: Option<PathBuf>,
    /// The address under which others find the sidecar, where the environment does not say.
    pub(crate) host: Option<&'static str>,
}

impl Pair<'_> {
    /// Runs both until one of them ends or a stop is wanted. Answers the exit code: the app's; 0 when it was stopped
    /// on request; [`FAILED`] when the sidecar failed.
    pub(crate) async fn run(&self, mut wish: watch::Receiver<Wish>) -> u8 {
        let mut readers = Readers::default();
        let code = match self.start_sidecar(&mut readers) {
            Ok(sidecar) => self.with_sidecar(sidecar, &mut readers, &mut wish).await,
            Err(error) => self.failed(&format!("cannot start the sidecar: {error:#}"), FAILED),
        };
        readers.finish().await;
        code
    }

    async fn with_sidecar(
        &self,
        mut sidecar: Child,
        readers: &mut Readers,
        wish: &mut watch::Receiver<Wish>,
    ) -> u8 {
        let (http, grpc) = (self.app.ports.http, self.app.ports.grpc);
        self.info(&match &self.app.unix_socket {
            Some(folder) => format!(
                "Starting Dapr with id {}. Sockets in {}",
                self.app.id,
                folder.display()
            ),
            None => format!(
                "Starting Dapr with id {}. HTTP Port: {http}. gRPC Port: {grpc}",
                self.app.id
            ),
        });
        let client = Sidecar::new(self.app.place(), self.environment);
        tokio::select! {
            status = sidecar.wait() => return self.sidecar_failed(status),
            _ = wish::stopped(wish) => {
                self.end_sidecar(&mut sidecar, wish).await;
                return 0;
            }
            ready = until(READY, || usable(&client)) => {
                if ready.is_none() {
                    self.screen.warning(&format!("{}the sidecar cannot be used yet after {READY:?}; going on", self.label));
                }
            }
        }
        if self.app.command.is_empty() {
            self.describe(&client, None).await;
            self.success("You're up and running! Dapr logs will appear here.");
            let code = tokio::select! {
                status = sidecar.wait() => return self.sidecar_ended(status),
                _ = wish::stopped(wish) => 0,
            };
            self.end_sidecar(&mut sidecar, wish).await;
            return code;
        }
        let app = self.start_app(readers);
        let code = match app {
            Ok(app) => self.with_app(app, &mut sidecar, &client, wish).await,
            Err((error, code)) => self.failed(&error, code),
        };
        self.end_sidecar(&mut sidecar, wish).await;
        code
    }

    async fn with_app(
        &self,
        mut app: Child,
        sidecar: &mut Child,
        client: &Sidecar,
        wish: &mut watch::Receiver<Wish>,
    ) -> u8 {
        // Known as long as it has not been waited for.
        let group = app.id();
        let running = async {
            self.describe(client, group).await;
            self.success("You're up and running! Both Dapr and your app logs will appear here.");
            std::future::pending::<()>().await;
        };
        let code = tokio::select! {
            status = app.wait() => self.app_ended(status, None),
            status = sidecar.wait() => {
                let code = self.sidecar_ended(status);
                let status = end(&mut app, Signal::TERM, true, wish).await;
                let app = self.app_ended(status, Some(Signal::TERM));
                // A sidecar that ended in good order was asked to: the app's answer counts.
                if code == 0 { app } else { code }
            }
            wanted = wish::stopped(wish) => {
                let signal = match wanted {
                    Wish::Stop(signal) => signal,
                    Wish::Run | Wish::Kill => Signal::KILL,
                };
                self.info("terminated signal received: shutting down");
                let status = end(&mut app, signal, true, wish).await;
                self.app_ended(status, Some(signal))
            }
            () = running => FAILED,
        };
        // What the app has started and left behind.
        if let Some(Err(error)) = group.map(|group| process::signal_group(group, Signal::TERM)) {
            self.failed(&format!("{error:#}"), FAILED);
        }
        code
    }

    fn start_sidecar(&self, readers: &mut Readers) -> Result<Child> {
        let mut command = Command::new(&self.program.path);
        command
            .args(&self.program.first)
            .args(self.app.arguments())
            .current_dir(&self.app.folder)
            .env(under::PARENT, std::process::id().to_string())
            .env(home::VARIABLE, self.home)
            .stdin(Stdio::null())
            .stdout(self.sidecar_voice.pipe(readers)?)
            .stderr(self.sidecar_voice.pipe(readers)?)
            // Ctrl-C reaches us alone; we pass it on in the right order.
            .process_group(0)
            .kill_on_drop(true);
        if let Some(socket) = self.hub {
            command.env("OUTRIGGER_HUB_SOCKET", socket);
        }
        if let (Some(host), None) = (self.host, self.environment.get("DAPR_HOST_IP")) {
            command.env("DAPR_HOST_IP", host);
        }
        command
            .spawn()
            .with_context(|| self.program.path.display().to_string())
    }

    fn start_app(&self, readers: &mut Readers) -> Result<Child, (String, u8)> {
        let Some(name) = self.app.command.first() else {
            return Err(("there is no command".to_owned(), FAILED));
        };
        let own = |wanted: &str| {
            self.app
                .shared
                .env
                .get(wanted)
                .cloned()
                .or_else(|| self.environment.get(wanted))
        };
        if process::which(name, &self.app.folder, own("PATH").as_deref()).is_none() {
            let place = self.app.folder.display();
            return Err((
                format!("cannot find the command {name:?}: it is neither in PATH nor a file in {place}"),
                NOT_FOUND,
            ));
        }
        let pipes = self
            .app_voice
            .pipe(readers)
            .and_then(|out| Ok((out, self.app_voice.pipe(readers)?)));
        let (out, error) =
            pipes.map_err(|error| (format!("cannot make a pipe for the app: {error}"), FAILED))?;
        // A terminal belongs to us, and reading from it would stop the app; a pipe or file may be the app's input.
        let stdin = if io::stdin().is_terminal() {
            Stdio::null()
        } else {
            Stdio::inherit()
        };
        let started = Command::new(home::itself())
            .arg(under::EXEC)
            .arg(std::process::id().to_string())
            .args(&self.app.command)
            .current_dir(&self.app.folder)
            .env_remove(under::PARENT)
            .envs(self.app.environment())
            .stdin(stdin)
            .stdout(out)
            .stderr(error)
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        started.map_err(|error| (format!("cannot start the app: {error}"), FAILED))
    }

    /// Tells the sidecar what `list` and `stop`, ours and the reference's, want to know of it.
    async fn describe(&self, client: &Sidecar, app: Option<u32>) {
        let mut values = vec![("cliPID", std::process::id().to_string())];
        if let Some(app) = app {
            values.push(("appPID", app.to_string()));
            values.push(("appCommand", self.app.command.join(" ")));
        }
        values.extend(self.metadata.iter().cloned());
        for (key, value) in values {
            let path = format!("/v1.0/metadata/{}", encode(key));
            let call = Call {
                method: "PUT",
                path: &path,
                content_type: Some("text/plain"),
                body: Bytes::from(value),
            };
            let problem = match client.call(call, ANSWER).await {
                Ok(answer) if answer.is_success() => continue,
                Ok(answer) => answer.describe(),
                Err(error) => format!("{error:#}"),
            };
            self.screen.warning(&format!(
                "{}could not update the sidecar's metadata for {key}: {problem}",
                self.label
            ));
            return;
        }
    }

    /// The code of an app that has ended; `asked` is the signal we sent it.
    fn app_ended(&self, status: io::Result<ExitStatus>, asked: Option<Signal>) -> u8 {
        let status = match status {
            Ok(status) => status,
            Err(error) => return self.failed(&format!("cannot wait for the app: {error}"), FAILED),
        };
        let as_asked =
            asked.is_some_and(|signal| status.signal() == Some(signal.as_raw()) && signal != Signal::KILL);
        if status.success() || as_asked {
            self.success("Exited App successfully");
            return 0;
        }
        self.failed(
            &format!("the app ended with {}", process::describe(status)),
            process::code(status),
        )
    }

    fn sidecar_failed(&self, status: io::Result<ExitStatus>) -> u8 {
        let how = status.map_or_else(|error| error.to_string(), process::describe);
        let place = match &self.sidecar_log {
            Some(path) => format!(
                "the end of its log, {}:\n{}",
                path.display(),
                crate::hub::last_lines(path, 10)
            ),
            None => "its log above says why".to_owned(),
        };
        self.failed(&format!("the sidecar did not start ({how}); {place}"), FAILED)
    }

    /// A sidecar that ended although nobody here asked it to; `stop` of a single app of several does that.
    fn sidecar_ended(&self, status: io::Result<ExitStatus>) -> u8 {
        match status {
            Ok(status) if status.success() => {
                self.success("Exited Dapr successfully");
                0
            }
            Ok(status) => self.failed(
                &format!("the sidecar ended with {}", process::describe(status)),
                FAILED,
            ),
            Err(error) => self.failed(&format!("cannot wait for the sidecar: {error}"), FAILED),
        }
    }

    async fn end_sidecar(&self, sidecar: &mut Child, wish: &mut watch::Receiver<Wish>) {
        if let Ok(Some(_)) = sidecar.try_wait() {
            return;
        }
        match end(sidecar, Signal::TERM, false, wish).await {
            Ok(status) if status.success() => self.success("Exited Dapr successfully"),
            Ok(status) => self.screen.warning(&format!(
                "{}the sidecar ended with {}",
                self.label,
                process::describe(status)
            )),
            Err(error) => {
                self.failed(&format!("cannot wait for the sidecar: {error}"), FAILED);
            }
        }
    }

    fn info(&self, text: &str) {
        self.screen.info(&format!("{}{text}", self.label));
    }

    fn success(&self, text: &str) {
        self.screen.success(&format!("{}{text}", self.label));
    }

    fn failed(&self, text: &str, code: u8) -> u8 {
        self.screen.failure(&format!("{}{text}", self.label));
        code
    }
}

/// Whether the sidecar serves its app, which may not have been started yet.
pub(crate) async fn usable(sidecar: &Sidecar) -> Option<()> {
    let answer = sidecar.get("/v1.0/healthz/outbound", ANSWER).await;
    answer.is_ok_and(|answer| answer.is_success()).then_some(())
}

/// Signals a child, alone or with its group, and waits; kills it when it takes too long or somebody lost patience.
async fn end(
    child: &mut Child,
    signal: Signal,
    group: bool,
    wish: &mut watch::Receiver<Wish>,
) -> io::Result<ExitStatus> {
    let send = if group {
        process::signal_group
    } else {
        process::signal
    };
    let Some(pid) = child.id() else {
        return child.wait().await;
    };
    send(pid, signal).map_err(io::Error::other)?;
    tokio::select! {
        status = child.wait() => return status,
        () = tokio::time::sleep(GRACE) => {}
        () = wish::killed(wish) => {}
    }
    send(pid, Signal::KILL).map_err(io::Error::other)?;
    child.wait().await
}
