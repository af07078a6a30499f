//! The sidecars of this machine, whoever started them: processes named `daprd`, their arguments, and what their
//! metadata says.
//!
//! COMPAT(dapr/cli pkg/standalone/list.go): found the same way, so sidecars of both programs are seen by both tools.

use crate::commands::Context;
use crate::home::{self, Home};
use crate::http::{Place, Sidecar};
use crate::run::resolve::socket;
use anyhow::{Context as _, Result};
use outrigger_sidecar::config::Environment;
use serde::Serialize;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const HTTP_PORT: u16 = 3500;
const GRPC_PORT: u16 = 50001;
/// A sidecar that takes longer is listed without what only it knows.
const ANSWER: Duration = Duration::from_secs(2);

/// One sidecar, in the form the reference's `list -o json` has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Instance {
    pub(crate) app_id: String,
    pub(crate) http_port: u16,
    pub(crate) grpc_port: u16,
    pub(crate) app_port: u16,
    pub(crate) metrics_enabled: bool,
    pub(crate) command: String,
    pub(crate) age: String,
    pub(crate) created: String,
    pub(crate) daprd_pid: u32,
    pub(crate) cli_pid: u32,
    pub(crate) app_pid: u32,
    pub(crate) run_template_path: String,
    pub(crate) app_log_path: String,
    pub(crate) daprd_log_path: String,
    pub(crate) run_template_name: String,
    #[serde(skip)]
    pub(crate) place: Place,
    /// The home it was started with, if `outrigger run` did that and we may know.
    #[serde(skip)]
    pub(crate) home: Option<PathBuf>,
    /// Whether its metadata could be read.
    #[serde(skip)]
    pub(crate) answers: bool,
}

/// Every sidecar, in the order of their process ids.
pub(crate) async fn list(environment: &Environment) -> Result<Vec<Instance>> {
    let now = SystemTime::now();
    let boot = boot_time();
    let found = processes()?
        .into_iter()
        .filter_map(|process| read(process, now, boot));
    let asked = found.map(|instance| async {
        let mut instance = instance;
        let sidecar = Sidecar::new(instance.place.clone(), environment);
        if let Ok(answer) = sidecar.get("/v1.0/metadata", ANSWER).await
            && answer.is_success()
            && let Ok(metadata) = serde_json::from_slice(&answer.body)
        {
            instance.add(&metadata);
        }
        instance
    });
    Ok(futures::future::join_all(asked).await)
}

/// The one sidecar of an app, for commands that need it.
pub(crate) async fn of(app_id: &str, context: &Context) -> Result<Instance> {
    let all = list(&context.environment).await?;
    pick(&all, app_id, &context.home).cloned().with_context(|| {
        let known: Vec<&str> = all.iter().map(|instance| instance.app_id.as_str()).collect();
        let known = match known.is_empty() {
            true => "no app runs".to_owned(),
            false => format!("running: {}", known.join(", ")),
        };
        format!(
            "no sidecar of app {app_id:?} runs on this machine ({known}); start it with `outrigger run --app-id {app_id}`"
        )
    })
}

/// Of several sidecars of one app, the one of our home: another home may have an app of the same name.
pub(crate) fn pick<'i>(instances: &'i [Instance], app_id: &str, ours: &Home) -> Option<&'i Instance> {
    let named = instances.iter().filter(|instance| instance.app_id == app_id);
    named.min_by_key(|instance| instance.home.as_deref() != Some(ours.path()))
}

/// Ids in use.
pub(crate) fn ids() -> Result<Vec<String>> {
    Ok(processes()?
        .iter()
        .filter_map(|process| value(&process.args, "app-id"))
        .collect())
}

/// A process named `daprd`.
struct Process {
    pid: u32,
    /// Without the program's name.
    args: Vec<String>,
}

fn processes() -> Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot read the list of processes")? {
        let name = entry.context("cannot read the list of processes")?.file_name();
        // Processes come and go while we look: what cannot be read any more is not there.
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Some(process) = process(pid) {
            found.push(process);
        }
    }
    found.sort_by_key(|process| process.pid);
    Ok(found)
}

fn process(pid: u32) -> Option<Process> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut args: Vec<String> = line
        .split(|byte| *byte == 0)
        .filter(|arg| !arg.is_empty())
        .skip(1)
        .map(|arg| String::from_utf8_lossy(arg).into_owned())
        .collect();
    // `outrigger daprd …`, where the home folder allows no link.
    let role = args.first().is_some_and(|first| first == "daprd");
    if name.trim_end() != "daprd" && !role {
        return None;
    }
    if role {
        args.remove(0);
    }
    Some(Process { pid, args })
}

fn read(process: Process, now: SystemTime, boot: Option<SystemTime>) -> Option<Instance> {
    let Process { pid, args } = process;
    let app_id = value(&args, "app-id").filter(|id| !id.is_empty())?;
    let port = |name, default| {
        value(&args, name)
            .and_then(|port| port.parse().ok())
            .unwrap_or(default)
    };
    let http_port = port("dapr-http-port", HTTP_PORT);
    let started = boot.and_then(|boot| started(pid, boot));
    let place = match value(&args, "unix-domain-socket").filter(|folder| !folder.is_empty()) {
        Some(folder) => Place::Socket(socket(&working_directory(pid).join(folder), &app_id, "http")),
        None => Place::Port(http_port),
    };
    Some(Instance {
        http_port,
        grpc_port: port("dapr-grpc-port", GRPC_PORT),
        app_port: port("app-port", 0),
        metrics_enabled: value(&args, "enable-metrics").as_deref() != Some("false"),
        command: String::new(),
        age: started
            .and_then(|started| now.duration_since(started).ok())
            .map(age)
            .unwrap_or_default(),
        created: started.map(created).unwrap_or_default(),
        daprd_pid: pid,
        cli_pid: 0,
        app_pid: 0,
        run_template_path: String::new(),
        app_log_path: String::new(),
        daprd_log_path: String::new(),
        run_template_name: String::new(),
        place,
        home: home(pid),
        answers: false,
        app_id,
    })
}

impl Instance {
    fn add(&mut self, metadata: &Value) {
        let extended = metadata.get("extended");
        let text = |key| {
            extended
                .and_then(|values| values.get(key))
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let pid = |key| text(key).parse().unwrap_or(0);
        self.command = shorten(text("appCommand"));
        self.cli_pid = pid("cliPID");
        self.app_pid = pid("appPID");
        self.run_template_path = text("runTemplatePath").to_owned();
        self.run_template_name = text("runTemplateName").to_owned();
        self.app_log_path = text("appLogPath").to_owned();
        self.daprd_log_path = text("daprdLogPath").to_owned();
        self.answers = true;
    }
}

/// The value of a flag in `--name value`, `--name=value` or either with one dash. The last one counts.
fn value(args: &[String], name: &str) -> Option<String> {
    let mut found = None;
    for (index, arg) in args.iter().enumerate() {
        let Some(flag) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) else {
            continue;
        };
        match flag.split_once('=') {
            Some((flag, value)) if flag == name => found = Some(value.to_owned()),
            None if flag == name => found = args.get(index + 1).cloned(),
            _ => {}
        }
    }
    found
}

/// From the environment of a process of ours.
fn home(pid: u32) -> Option<PathBuf> {
    let variables = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let start = format!("{}=", home::VARIABLE);
    let value = variables
        .split(|byte| *byte == 0)
        .find_map(|variable| variable.strip_prefix(start.as_bytes()))?;
    Some(PathBuf::from(OsStr::from_bytes(value)))
}

fn working_directory(pid: u32) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_else(|_| Path::new("/").to_owned())
}

fn boot_time() -> Option<SystemTime> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let seconds = stat
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()?;
    Some(UNIX_EPOCH + Duration::from_secs(seconds))
}

fn started(pid: u32, boot: SystemTime) -> Option<SystemTime> {
    /// Of `/proc/<pid>/stat`, counted behind the name in parentheses: the 22nd field of the line.
    const START_TIME: usize = 19;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks: u64 = fields.split(' ').nth(START_TIME)?.parse().ok()?;
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Some(boot + Duration::from_secs(ticks / per_second))
}

fn created(started: SystemTime) -> String {
    let Ok(time) = jiff::Timestamp::try_from(started) else {
        return String::new();
    };
    time.to_zoned(jiff::tz::TimeZone::system())
        .strftime("%Y-%m-%d %H:%M.%S")
        .to_string()
}

/// COMPAT(dapr/cli pkg/age): the largest unit alone, each up to and including its limit.
fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..=60 => format!("{seconds}s"),
        61..=3600 => format!("{}m", seconds / 60),
        3601..=86400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

/// COMPAT(dapr/cli utils): at most 20 characters.
fn shorten(command: &str) -> String {
    if command.chars().count() <= 20 {
        return command.to_owned();
    }
    let start: String = command.chars().take(17).collect();
    format!("{start}...")
}

#[cfg(test)]
mod tests {
    use super::{Instance, Process, age, pick, read, shorten, value};
    use crate::home::Home;
    use std::path::PathBuf;
    use std::time::{Duration, SystemTime};

    fn instance(pid: u32, args: &str) -> Instance {
        let args = args.split(' ').map(str::to_owned).collect();
        read(Process { pid, args }, SystemTime::now(), None).unwrap()
    }

    #[test]
    fn what_the_arguments_say() {
        let found = instance(
            1,
            "--app-id=a --dapr-grpc-port 7 --enable-metrics=false -app-port 8",
        );
        assert_eq!((found.http_port, found.grpc_port, found.app_port), (3500, 7, 8));
        assert!(!found.metrics_enabled && !found.answers);
        let nameless = Process {
            pid: 1,
            args: vec!["--app-port=1".to_owned()],
        };
        assert_eq!(read(nameless, SystemTime::now(), None), None);
    }

    #[test]
    fn our_home_comes_first() {
        let mut all = [
            instance(1, "--app-id a"),
            instance(2, "--app-id a"),
            instance(3, "--app-id b"),
        ];
        all[1].home = Some(PathBuf::from("/ours"));
        all[2].home = Some(PathBuf::from("/theirs"));
        let found = |id, home: &str| pick(&all, id, &Home::at(home.into())).map(|found| found.daprd_pid);
        assert_eq!(found("a", "/ours"), Some(2));
        assert_eq!(found("a", "/else"), Some(1));
        assert_eq!(found("b", "/ours"), Some(3));
        assert_eq!(found("c", "/ours"), None);
    }

    #[test]
    fn flags_in_all_their_spellings() {
        let args = [
            "--app-id",
            "a",
            "-app-port=1",
            "--config",
            "x",
            "--app-id=b",
            "--last",
        ]
        .map(str::to_owned);
        for (name, expected) in [
            ("app-id", Some("b")),
            ("app-port", Some("1")),
            ("config", Some("x")),
            ("id", None),
            ("last", None),
        ] {
            assert_eq!(value(&args, name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn ages() {
        for (seconds, expected) in [
            (0, "0s"),
            (60, "60s"),
            (61, "1m"),
            (3600, "60m"),
            (7300, "2h"),
            (200_000, "2d"),
        ] {
            assert_eq!(age(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn commands_are_shortened() {
        assert_eq!(shorten("python3 app.py"), "python3 app.py");
        assert_eq!(shorten("python3 a-long-program.py"), "python3 a-long-pr...");
    }
}
