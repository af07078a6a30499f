//! The apps of `examples/sdk`: the SDKs as they are in their registries, against the real executable.
//!
//! What a language needs is installed into a cache outside the repository, once for each change of its manifest. A
//! language or registry that is absent skips its test loudly; an app that does not build or does not end well fails it.

use crate::cluster::quick;
use outrigger_testkit::port::Port;
use outrigger_testkit::process::outrigger;
use outrigger_testkit::servers::skipped;
use rustix::fs::FlockOperation;
use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A registry that takes longer counts as absent.
const INSTALL: Duration = Duration::from_secs(300);
const BUILD: Duration = Duration::from_secs(600);
const RUN: Duration = Duration::from_secs(180);
/// How often long work says that it goes on.
const PROGRESS: Duration = Duration::from_secs(20);
/// Pause before looking again.
const AGAIN: Duration = Duration::from_millis(50);

/// One language. The commands are for bash, in `examples/sdk`, with a folder of their own in `$CACHE`.
struct Sdk {
    name: &'static str,
    programs: &'static [&'static str],
    /// Says what is installed, in the folder of the example.
    manifest: &'static str,
    /// Gets what the registry has.
    install: &'static str,
    /// Makes the app of that, without the registry.
    build: &'static str,
    app: &'static str,
    protocols: &'static [&'static str],
    /// What the SDK does not have.
    lacks: &'static [&'static str],
}

const FEATURES: [&str; 11] = [
    "health",
    "metadata",
    "state",
    "transactions",
    "invocation",
    "pubsub",
    "streaming",
    "bindings",
    "secrets",
    "configuration",
    "lock",
];

#[test]
fn python() {
    attempt(&Sdk {
        name: "python",
        programs: &["python3"],
        manifest: "requirements.txt",
        install: "python3 -m venv --clear $CACHE/venv \
            && $CACHE/venv/bin/pip install --disable-pip-version-check -r python/requirements.txt",
        build: "true",
        app: "$CACHE/venv/bin/python python/app.py",
        protocols: &["grpc"],
        lacks: &[],
    });
}

#[test]
fn javascript() {
    attempt(&Sdk {
        name: "javascript",
        programs: &["node", "npm"],
        manifest: "package.json",
        install: "cp javascript/package.json $CACHE && npm install --prefix $CACHE --no-package-lock --no-audit --no-fund",
        build: "true",
        app: "NODE_PATH=$CACHE/node_modules exec node javascript/app.js",
        protocols: &["http", "grpc"],
        lacks: &["streaming"],
    });
}

#[test]
fn go() {
    attempt(&Sdk {
        name: "go",
        programs: &["go"],
        manifest: "go.sum",
        install: "go mod download -C go",
        build: "go build -C go -o $CACHE/app .",
        app: "$CACHE/app",
        protocols: &["http", "grpc"],
        lacks: &[],
    });
}

#[test]
fn java() {
    attempt(&Sdk {
        name: "java",
        programs: &["java", "mvn"],
        manifest: "pom.xml",
        install: "mvn -q -B -f java dependency:copy-dependencies -DoutputDirectory=$CACHE/lib",
        build: "javac -nowarn -cp \"$CACHE/lib/*\" -d $CACHE/classes java/App.java",
        app: "java -XX:TieredStopAtLevel=1 -cp \"$CACHE/classes:$CACHE/lib/*\" App",
        protocols: &["http"],
        lacks: &[],
    });
}

#[test]
fn rust() {
    attempt(&Sdk {
        name: "rust",
        programs: &["cargo"],
        manifest: "Cargo.lock",
        install: "cargo fetch --locked --manifest-path rust/Cargo.toml",
        build: "cargo build --locked --offline --manifest-path rust/Cargo.toml --target-dir $CACHE/target",
        app: "$CACHE/target/debug/sdk-example",
        protocols: &["grpc"],
        lacks: &[],
    });
}

fn attempt(sdk: &Sdk) {
    if quick() {
        return skipped(&format!("the {} SDK is not tried by quick tests", sdk.name));
    }
    for program in sdk.programs {
        if !is_installed(program) {
            return skipped(&format!(
                "the {} SDK needs {program}, which is not installed",
                sdk.name
            ));
        }
    }
    let cache = Cache::of(sdk);
    let output = TempDir::new().expect("a temporary folder");
    if !cache.is_current(sdk) {
        let installed = cache.work("install", sdk, sdk.install, INSTALL, output.path());
        if let Err(why) = installed {
            return skipped(&format!("the {} SDK could not be installed: {why}", sdk.name));
        }
        cache.installed(sdk);
    }
    if let Err(why) = cache.work("build", sdk, sdk.build, BUILD, output.path()) {
        panic!("the {} example does not build: {why}", sdk.name);
    }
    for protocol in sdk.protocols {
        run(sdk, protocol, &cache);
    }
}

/// The app with a sidecar, a hub and a home of its own.
fn run(sdk: &Sdk, protocol: &str, cache: &Cache) {
    let home = Home::new();
    let port = Port::take();
    let app_id = format!("sdk-{}-{}", sdk.name, port.number());
    let mut command = home.command();
    command
        .args(["run", "--app-id", &app_id, "--app-protocol", protocol])
        .args(["--app-port", &port.number().to_string()])
        .args(["--resources-path", "resources", "--", "bash", "-c", sdk.app])
        .env("CACHE", &cache.folder);
    let said = home.0.path().join("said");
    let ended = Job::start(&mut command, &said).wait(RUN, &format!("{} ({protocol})", sdk.name));
    let said = read(&said);
    let expected: Vec<&str> = FEATURES
        .into_iter()
        .filter(|feature| !sdk.lacks.contains(feature))
        .collect();
    let done: Vec<&str> = said
        .lines()
        .filter_map(|line| line.strip_prefix("== APP == ok "))
        .collect();
    assert!(
        ended.is_some_and(|status| status.success()) && done == expected,
        "the {} SDK ({protocol}) did {done:?} of {expected:?} and ended with {ended:?}:\n{said}",
        sdk.name
    );
}

/// The folder of one language; nobody else uses it meanwhile.
struct Cache {
    folder: PathBuf,
    _lock: File,
}

impl Cache {
    fn of(sdk: &Sdk) -> Self {
        let home = variable("HOME").map_or_else(std::env::temp_dir, PathBuf::from);
        let folder = home.join(".cache/outrigger-sdk").join(sdk.name);
        std::fs::create_dir_all(&folder).expect("a folder for what is installed");
        let lock = File::create(folder.join("lock")).expect("a file in our folder");
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).expect("a lock on our file");
        Self { folder, _lock: lock }
    }

    fn is_current(&self, sdk: &Sdk) -> bool {
        std::fs::read(self.folder.join("installed")).is_ok_and(|installed| installed == manifest(sdk))
    }

    fn installed(&self, sdk: &Sdk) {
        std::fs::write(self.folder.join("installed"), manifest(sdk)).expect("a file in our folder");
    }

    /// Runs a command to its end; why it failed, if it did.
    fn work(
        &self,
        what: &str,
        sdk: &Sdk,
        line: &str,
        patience: Duration,
        output: &Path,
    ) -> Result<(), String> {
        let mut command = Command::new("bash");
        command.args(["-c", line]).env("CACHE", &self.folder);
        let said = output.join(what);
        let ended = Job::start(&mut command, &said).wait(patience, &format!("{} ({what})", sdk.name));
        let why = match ended {
            Some(status) if status.success() => return Ok(()),
            Some(status) => status.to_string(),
            None => format!("no end after {patience:?}"),
        };
        let said = read(&said);
        let last = said.lines().rev().take(10).collect::<Vec<_>>();
        Err(format!(
            "{why}: {}",
            last.into_iter().rev().collect::<Vec<_>>().join(" / ")
        ))
    }
}

/// A home with a hub, which ends with it.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(TempDir::new().expect("a temporary folder"))
    }

    fn command(&self) -> Command {
        let program = outrigger();
        let mut path = program
            .parent()
            .expect("the executable is in a folder")
            .as_os_str()
            .to_owned();
        path.push(":");
        path.push(variable("PATH").unwrap_or_default());
        let mut command = Command::new(program);
        // The apps call `outrigger configuration set`.
        command.env("PATH", path).env("OUTRIGGER_HOME", self.0.path());
        command
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Its folder goes away now; a hub that is left has nothing to serve and ends when idle.
        let _stopped = self.command().arg("down").output();
    }
}

/// A process and what it starts.
struct Job {
    child: Child,
    group: Pid,
}

impl Job {
    /// In `examples/sdk`; all that it says goes to a file.
    fn start(command: &mut Command, said: &Path) -> Self {
        let output = File::create(said).expect("a file in a temporary folder");
        let child = command
            .current_dir(examples())
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a second handle"))
            .stderr(output)
            .process_group(0)
            .spawn()
            .expect("bash and outrigger can be started");
        let group = Pid::from_raw(child.id().try_into().expect("a process id fits"));
        Self {
            child,
            group: group.expect("no process has the id 0"),
        }
    }

    /// How it ended, if it did in time.
    #[expect(clippy::print_stdout, reason = "long work says that it goes on")]
    fn wait(mut self, patience: Duration, what: &str) -> Option<ExitStatus> {
        let started = Instant::now();
        let mut said = Duration::ZERO;
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return Some(status);
            }
            let passed = started.elapsed();
            if passed > patience {
                return None;
            }
            if passed > said + PROGRESS {
                said = passed;
                println!("the SDK for {what}: {} s", passed.as_secs());
            }
            std::thread::sleep(AGAIN);
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _gone = kill_process_group(self.group, Signal::KILL);
        let _reaped = self.child.wait();
    }
}

fn manifest(sdk: &Sdk) -> Vec<u8> {
    std::fs::read(examples().join(sdk.name).join(sdk.manifest)).expect("a file of the example")
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/sdk")
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

fn is_installed(program: &str) -> bool {
    std::env::split_paths(&variable("PATH").unwrap_or_default()).any(|folder| folder.join(program).is_file())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test run is told by the environment what to do"
)]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}
