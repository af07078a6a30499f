//! Runs a page: an empty home, a folder, free ports, and processes that end with it.

use super::page::{self, Block, Command, How, Kind, Page};
use outrigger_testkit::process;
use outrigger_testkit::servers::redis::{self, Redis};
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Child;
use tokio::time::{Instant, sleep, timeout};

/// How long a command may take that is waited for.
const COMMAND: Duration = Duration::from_secs(60);
/// How long something may take to appear.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause before looking again.
const AGAIN: Duration = Duration::from_millis(100);
/// How long what runs in the background is given to end in good order.
const FAREWELL: Duration = Duration::from_secs(10);
/// Ports that pages may name; Redis has its own.
const PORTS: [&str; 10] = [
    "3500", "3501", "3502", "3503", "50001", "8000", "8001", "8080", "9090", "9411",
];
const REDIS_PORT: &str = "6379";
/// Programs that pages use; without one of them, a page is skipped.
const PROGRAMS: [&str; 2] = ["python3", "curl"];

/// Runs every block of a page.
///
/// # Panics
/// When something is not as the page says.
pub(super) async fn play(path: &'static str) {
    let page = Page::read(path);
    if variable("OUTRIGGER_QUICK_TESTS").is_some() {
        return skipped(&format!("the examples of {path} are not run by quick tests"));
    }
    for program in PROGRAMS {
        if page.mentions(program) && !is_installed(program) {
            return skipped(&format!(
                "the examples of {path} need {program}, which is not installed"
            ));
        }
    }
    let mut stage = Stage::new(path, &page);
    let mut run = 0;
    for block in &page.blocks {
        if block.needs_redis && stage.redis.is_none() {
            // Says itself that it is skipped.
            let Some(redis) = redis::start(&[]).await else {
                break;
            };
            stage.add_redis(redis);
        }
        run += stage.block(block).await;
    }
    stage.end().await;
    assert!(run > 0, "{path}: no example was run");
}

#[expect(clippy::print_stdout, reason = "what is skipped must be seen and counted")]
fn skipped(why: &str) {
    println!("\nSKIPPED: {why}");
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test run is told by the environment what to do"
)]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

fn is_installed(program: &str) -> bool {
    std::env::split_paths(&variable("PATH").unwrap_or_default()).any(|folder| folder.join(program).is_file())
}

/// Where a page is run.
struct Stage {
    page: &'static str,
    folder: TempDir,
    /// What stands here for words of the page.
    words: BTreeMap<String, String>,
    background: Vec<Background>,
    redis: Option<Redis>,
}

/// A process that goes on, with its own group, and what it has said so far.
struct Background {
    line: usize,
    child: Child,
    group: Pid,
    said: Said,
}

type Said = Arc<Mutex<Vec<u8>>>;

impl Stage {
    fn new(name: &'static str, page: &Page) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["bin", "home", "here"] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder in a temporary folder");
        }
        std::os::unix::fs::symlink(process::outrigger(), folder.path().join("bin/outrigger"))
            .expect("a link");
        // All are held until all are known, so that they differ.
        let listeners = PORTS.map(|port| {
            let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
            (port, listener)
        });
        let free = |listener: &TcpListener| listener.local_addr().expect("a bound address").port();
        let mut words: BTreeMap<String, String> = listeners
            .iter()
            .map(|(port, listener)| ((*port).to_owned(), free(listener).to_string()))
            .collect();
        // Commands see every app of the machine: what else runs here has other ids.
        let suffix = free(&listeners[0].1);
        words.extend(
            page.app_ids()
                .into_iter()
                .map(|id| (id.to_owned(), format!("{id}{suffix}"))),
        );
        Self {
            page: name,
            folder,
            words,
            background: Vec::new(),
            redis: None,
        }
    }

    fn add_redis(&mut self, redis: Redis) {
        let host = redis.host();
        let port = host.rsplit(':').next().expect("host:port");
        self.words.insert(REDIS_PORT.to_owned(), port.to_owned());
        self.redis = Some(redis);
    }

    /// Runs one block; the number of commands in it.
    async fn block(&mut self, block: &Block) -> usize {
        match &block.kind {
            Kind::File { name, text } => {
                self.write(&self.here(name), &self.here(text));
                0
            }
            Kind::Run { commands, how } => {
                for command in commands {
                    match how {
                        How::Once => self.once(block.line, command).await,
                        How::Eventually => self.eventually(block.line, command).await,
                        How::Background => self.start(block.line, command).await,
                    }
                }
                commands.len()
            }
            Kind::Appears(lines) => {
                self.appears(block.line, lines, 0).await;
                0
            }
        }
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.working().join(name);
        let folder = path.parent().expect("a file is in a folder");
        std::fs::create_dir_all(folder).expect("a folder in a temporary folder");
        std::fs::write(&path, text).expect("a file in a temporary folder");
    }

    async fn once(&self, line: usize, command: &Command) {
        let (succeeded, output) = self.output(&command.line).await;
        let right = page::matches(&self.all_here(&command.output), &output);
        assert!(succeeded && right, "{}", self.wrong(line, command, &output));
    }

    async fn eventually(&self, line: usize, command: &Command) {
        let expected = self.all_here(&command.output);
        let until = Instant::now() + PATIENCE;
        loop {
            let (succeeded, output) = self.output(&command.line).await;
            if succeeded && page::matches(&expected, &output) {
                return;
            }
            assert!(Instant::now() < until, "{}", self.wrong(line, command, &output));
            sleep(AGAIN).await;
        }
    }

    async fn start(&mut self, line: usize, command: &Command) {
        let mut child = self.spawn(&command.line);
        let said = Said::default();
        listen(child.stdout.take(), &said);
        listen(child.stderr.take(), &said);
        let group = group(&child);
        self.background.push(Background {
            line,
            child,
            group,
            said,
        });
        let started = self.background.len() - 1;
        self.appears(line, &command.output, started).await;
    }

    /// Waits until some process of the background, of those from the `first` on, has said these lines.
    async fn appears(&self, line: usize, lines: &[String], first: usize) {
        let among = self.background.get(first..).unwrap_or_default();
        let expected = self.all_here(lines);
        let until = Instant::now() + PATIENCE;
        while !among
            .iter()
            .any(|background| page::appeared(&expected, &background.said()))
        {
            assert!(
                Instant::now() < until,
                "{}:{line}: this did not appear:\n{}\n{}",
                self.page,
                expected.join("\n"),
                self.everything_said()
            );
            sleep(AGAIN).await;
        }
    }

    /// Whether a command succeeded, and what it wrote.
    async fn output(&self, line: &str) -> (bool, String) {
        let mut child = self.spawn(line);
        let said = Said::default();
        let readers = [
            listen(child.stdout.take(), &said),
            listen(child.stderr.take(), &said),
        ];
        let group = group(&child);
        let Ok(status) = timeout(COMMAND, child.wait()).await else {
            end(group, Signal::KILL);
            return (false, format!("{}\n(no end after {COMMAND:?})", text(&said)));
        };
        for reader in readers {
            // What the command left behind may hold its output open for ever.
            let _still_open = timeout(Duration::from_secs(1), reader).await;
        }
        (status.is_ok_and(|status| status.success()), text(&said))
    }

    fn spawn(&self, line: &str) -> Child {
        let bin = self.folder.path().join("bin");
        let mut path = OsString::from(bin);
        path.push(":");
        path.push(variable("PATH").unwrap_or_default());
        let mut command = tokio::process::Command::new("bash");
        command.arg("-c").arg(self.here(line)).env_clear();
        command
            .env("PATH", path)
            .env("HOME", self.folder.path().join("home"))
            .current_dir(self.working())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        command.spawn().expect("bash starts")
    }

    fn working(&self) -> PathBuf {
        self.folder.path().join("here")
    }

    /// A text of the page as it is meant here.
    fn here(&self, text: &str) -> String {
        page::with_words(text, &self.words)
    }

    fn all_here(&self, lines: &[String]) -> Vec<String> {
        lines.iter().map(|line| self.here(line)).collect()
    }

    fn wrong(&self, line: usize, command: &Command, output: &str) -> String {
        format!(
            "{}:{line}: $ {}\nexpected:\n{}\n\ngot:\n{output}\n{}",
            self.page,
            self.here(&command.line),
            self.all_here(&command.output).join("\n"),
            self.everything_said()
        )
    }

    fn everything_said(&self) -> String {
        let one =
            |background: &Background| format!("\nsaid by line {}:\n{}", background.line, background.said());
        self.background.iter().map(one).collect()
    }

    /// Ends what runs, the hub last.
    async fn end(mut self) {
        for background in self.background.iter_mut().rev() {
            end(background.group, Signal::TERM);
            let _patience_is_over = timeout(FAREWELL, background.child.wait()).await;
        }
        let (succeeded, output) = self.output("outrigger down").await;
        assert!(succeeded, "{}: outrigger down: {output}", self.page);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for background in &self.background {
            end(background.group, Signal::KILL);
        }
        // After a failure the hub still runs; it is in a group of its own.
        stop_hub(self.folder.path());
    }
}

impl Background {
    fn said(&self) -> String {
        text(&self.said)
    }
}

fn listen(pipe: Option<impl AsyncRead + Unpin + Send + 'static>, said: &Said) -> tokio::task::JoinHandle<()> {
    let mut pipe = pipe.expect("output is piped");
    let said = Arc::clone(said);
    #[expect(clippy::disallowed_methods, reason = "ends with the pipe it reads")]
    tokio::spawn(async move {
        let mut bytes = vec![0; 8192];
        while let Ok(length @ 1..) = pipe.read(&mut bytes).await {
            said.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend_from_slice(&bytes[..length]);
        }
    })
}

fn text(said: &Said) -> String {
    String::from_utf8_lossy(&said.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}

fn group(child: &Child) -> Pid {
    let id = child.id().expect("a child that was not waited for has an id");
    Pid::from_raw(id.try_into().expect("a process id fits")).expect("no process has the id 0")
}

fn end(group: Pid, signal: Signal) {
    // It may have ended by itself.
    let _gone = kill_process_group(group, signal);
}

fn stop_hub(folder: &Path) {
    let stopped = std::process::Command::new(folder.join("bin/outrigger"))
        .args(["down", "--home"])
        .arg(folder.join("home/.outrigger"))
        .env_clear()
        .output();
    // Its folder goes away now; a hub that is left has nothing to serve and ends when idle.
    drop(stopped);
}
