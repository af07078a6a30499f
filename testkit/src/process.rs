//! The real executable as processes: started, killed with SIGKILL, started again, watched.
//!
//! A process ends with its value. It also ends when the thread that started it does (the executable asks the kernel
//! for that, see `OUTRIGGER_PARENT`), so that an aborted test run leaves nothing behind.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(5);

/// How to start something, and what runs now.
pub struct Process {
    name: String,
    program: PathBuf,
    args: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    /// Both standard streams of all its lives.
    output: PathBuf,
    child: Option<Child>,
}

/// The executable `outrigger` of the same build as the running test.
///
/// # Panics
/// When it has not been built.
pub fn outrigger() -> PathBuf {
    let test = std::env::current_exe().expect("the test is a file");
    let folder = test
        .parent()
        .and_then(Path::parent)
        .expect("target/PROFILE/deps/test");
    let path = folder.join("outrigger");
    assert!(
        path.is_file(),
        "{} is missing: build it first, with the same profile and target folder: `cargo build -p outrigger-cli`",
        path.display()
    );
    path
}

impl Process {
    /// Nothing runs yet. What it prints goes to a file `NAME.log` in `folder`.
    pub fn new(name: &str, program: impl Into<PathBuf>, folder: &Path) -> Self {
        Self {
            name: name.to_owned(),
            program: program.into(),
            args: Vec::new(),
            environment: Vec::new(),
            output: folder.join(format!("{name}.log")),
            child: None,
        }
    }

    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.into(), value.as_ref().to_owned()));
        self
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// # Panics
    /// When it runs already or cannot be started.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let output = OpenOptions::new().create(true).append(true).open(&self.output);
        let output: File = output.expect("a file for the output");
        let child = Command::new(&self.program)
            .args(&self.args)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("OUTRIGGER_PARENT", std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a second handle"))
            .stderr(output)
            .spawn();
        self.child = Some(child.unwrap_or_else(|error| panic!("{} starts: {error}", self.program.display())));
    }

    /// SIGKILL: no farewell, no flush.
    ///
    /// # Panics
    /// When it is not running, that is also when it has ended by itself.
    pub fn kill(&mut self) {
        if let Some(status) = self.ended() {
            panic!(
                "{} has ended by itself with {status}:\n{}",
                self.name,
                self.tail()
            );
        }
        self.end();
    }

    /// SIGTERM.
    ///
    /// # Panics
    /// When it is not running.
    pub fn terminate(&mut self) {
        let pid = rustix::process::Pid::from_child(self.child.as_ref().expect("it runs"));
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("ours to end");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it still runs after `patience`.
    pub async fn exit(&mut self, patience: Duration) -> ExitStatus {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.ended() {
                self.child = None;
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "{} still runs after {patience:?}:\n{}",
                self.name,
                self.tail()
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child
            .as_mut()
            .expect("it was started")
            .try_wait()
            .expect("ours to wait for")
    }

    /// # Panics
    /// When it is not running.
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Resident memory in bytes.
    ///
    /// # Panics
    /// When it is not running.
    pub fn resident(&self) -> u64 {
        let pid = self.id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .expect("a line of the kernel");
        let kilobytes = line.trim().trim_end_matches(" kB");
        kilobytes.parse::<u64>().expect("a number") * 1024
    }

    /// Everything it has printed, in all its lives.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// The same, once it holds `text`: log lines are written a moment after what they tell of.
    ///
    /// # Panics
    /// When that does not come within `patience`.
    pub async fn says(&self, text: &str, patience: Duration) -> String {
        let deadline = Instant::now() + patience;
        loop {
            let output = self.output();
            if output.contains(text) {
                return output;
            }
            assert!(
                Instant::now() < deadline,
                "{text:?} is not in what {} says:\n{output}",
                self.name
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// The last of what it has printed, for messages of failed tests.
    pub fn tail(&self) -> String {
        let output = self.output();
        let lines: Vec<&str> = output.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already.
            let _ended = child.kill();
            child.wait().expect("ours to wait for");
        }
    }
}

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "a failed test shows what its processes said")]
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            eprintln!("--- {} ({})\n{}", self.name, self.output.display(), self.tail());
        }
    }
}
