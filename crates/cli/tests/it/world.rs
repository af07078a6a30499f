//! A home of one's own, and processes that end with the test.

use rustix::process::{Pid, Signal};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A temporary home; its hub ends with it.
pub(crate) struct World {
    folder: tempfile::TempDir,
}

/// `outrigger` in the background, its output in a file.
pub(crate) struct Running {
    child: Child,
    output: PathBuf,
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("o-cli-")
            .tempdir_in("/tmp")
            .unwrap();
        // Sidecars of tests must not need a broker.
        let world = Self { folder };
        fs::create_dir(world.path("resources")).unwrap();
        fs::write(world.path("resources/state.yaml"), STATE).unwrap();
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger"));
        command
            .args(args)
            .current_dir(self.folder.path())
            .env("OUTRIGGER_HOME", self.path("home"))
            .env_remove("OUTRIGGER_PARENT")
            .stdin(Stdio::null());
        command
    }

    /// Runs to the end.
    pub(crate) fn outrigger(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs to the end and answers the exit code.
    pub(crate) fn code(&self, args: &[&str]) -> i32 {
        self.outrigger(args).status.code().unwrap()
    }

    pub(crate) fn start(&self, name: &str, args: &[&str]) -> Running {
        self.start_with(name, args, &[])
    }

    pub(crate) fn start_with(&self, name: &str, args: &[&str], environment: &[(&str, &str)]) -> Running {
        let output = self.path(&format!("{name}.out"));
        let file = fs::File::create(&output).unwrap();
        let child = self
            .command(args)
            .envs(environment.iter().copied())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Running { child, output }
    }

    /// `outrigger run --app-id ID --resources-path … -- sh -c SCRIPT`, without a hub.
    pub(crate) fn run(&self, id: &str, script: &str) -> Running {
        let args = [
            "run",
            "--no-hub",
            "--app-id",
            id,
            "--resources-path",
            "resources",
            "--",
            "sh",
            "-c",
            script,
        ];
        self.start(id, &args)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ended = self.command(&["down"]).output();
    }
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn output(&self) -> String {
        fs::read_to_string(&self.output).unwrap()
    }

    /// Waits until a text appears in the output.
    pub(crate) fn says(&mut self, text: &str) {
        until(
            &format!("{text:?} in the output"),
            || self.output().contains(text),
            || self.output(),
        );
    }

    /// The exit code, once it has ended.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let mut status = None;
        until(
            "the end",
            || {
                status = self.child.try_wait().unwrap();
                status.is_some()
            },
            || fs::read_to_string(&self.output).unwrap(),
        );
        status.unwrap().code()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _dead = self.child.kill();
        let _dead = self.child.wait();
    }
}

/// The process ids of sidecars of an app.
pub(crate) fn sidecars(id: &str) -> Vec<u32> {
    processes(|words| {
        words.iter().any(|word| word.ends_with("daprd"))
            && words.windows(2).any(|pair| pair == ["--app-id", id])
    })
}

/// Processes whose command line has a text.
pub(crate) fn with_text(text: &str) -> Vec<u32> {
    let own = std::process::id();
    let mut found = processes(|words| words.iter().any(|word| word.contains(text)));
    found.retain(|pid| *pid != own);
    found
}

fn processes(is: impl Fn(&[String]) -> bool) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<String> = line
            .split(|byte| *byte == 0)
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        if is(&words) {
            found.push(pid);
        }
    }
    found
}

pub(crate) fn send(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Waits for something; panics with what `explain` says when it does not come.
pub(crate) fn until(what: &str, mut is: impl FnMut() -> bool, explain: impl Fn() -> String) {
    let start = Instant::now();
    while !is() {
        assert!(
            start.elapsed() < PATIENCE,
            "no {what} within {PATIENCE:?}:\n{}",
            explain()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a tool is there; says so when not.
pub(crate) fn has(tool: &str) -> bool {
    let found = Command::new(tool)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    if !found {
        println!("SKIPPED: {tool} is not installed");
    }
    found
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

const STATE: &str = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: statestore\nspec:\n  type: \
                     state.in-memory\n  version: v1\n";
