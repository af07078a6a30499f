//! `outrigger hub`: the local broker, store and name registry, as a process.

use crate::home::Home;
use crate::roles::under;
use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, Parser};
use outrigger_daemon::log::{self, Log, Output};
use outrigger_daemon::signals::Signals;
use outrigger_daemon::tasks::{OnExit, Tasks};
use outrigger_daemon::{drain, version};
use outrigger_hub::config::{Config, Fsync};
use outrigger_hub::{Ended, Hub};
use outrigger_resources::go;
use outrigger_sidecar::config::Environment;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::sync::watch;

/// How long acknowledged writes may wait for the disk with `--fsync interval`.
const INTERVAL: Duration = Duration::from_millis(50);

/// Serve topics, state and names to this machine's sidecars, until nobody is connected any more
#[derive(Debug, Args)]
#[command(
    long_about = "The hub: one process per user and machine with durable topics, keys and values, and the names of \
        the apps that run. `outrigger run` starts it when there is none, and it ends by itself when nobody is \
        connected; start it by hand to see its log or to set its options.\n\n\
        It listens on a unix socket in its home folder and never beyond this machine. Whoever outgrows it names a \
        real broker or database in the resources instead.",
    after_help = "Example:\n  outrigger hub --home /srv/outrigger --idle-after 0 --fsync interval=20ms\n\n\
        Exit codes: 0 ended on request or idle, 1 could not start or a part of it failed, 2 wrong usage."
)]
pub(crate) struct Flags {
    // Not an option here: as a command of `outrigger` it is global. See `Alone`.
    #[arg(skip)]
    home: Option<PathBuf>,

    /// End when nobody was connected for this long; 0 is never [default: 5m]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    idle_after: Option<Duration>,

    /// When an acknowledged write is on disk: `always` is before it is acknowledged, `interval` or `interval=50ms`
    /// is at most that long after (survives the end of any process, but not loss of power)
    #[arg(long, value_name = "POLICY", default_value = "always", value_parser = fsync)]
    fsync: Fsync,

    /// Keep messages that everybody has handled for this long, for groups that are yet to come
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    keep_age: Option<Duration>,

    /// … unless the log has more bytes than this
    #[arg(long, value_name = "BYTES")]
    keep_bytes: Option<u64>,

    /// Never let the log grow beyond this: the oldest messages go, handled or not, and the log says so
    #[arg(long, value_name = "BYTES")]
    max_bytes: Option<u64>,

    /// debug, info, warn, error or fatal
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: log::Level,

    /// Log one JSON object per line
    #[arg(long)]
    log_as_json: bool,

    /// Leave the terminal's session, as a hub that was started in the background does
    #[arg(long, hide = true)]
    pub(crate) detached: bool,
}

// `outrigger hub` as a program. No doc comment: it would stand in the help instead of that of `Flags`.
#[derive(Debug, Parser)]
#[command(name = "outrigger hub")]
struct Alone {
    /// Where everything is kept [env: OUTRIGGER_HOME] [default: ~/.outrigger]
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,

    #[command(flatten)]
    flags: Flags,
}

impl Flags {
    /// `outrigger --home DIR hub`.
    pub(crate) fn with_home(mut self, home: Option<PathBuf>) -> Self {
        self.home = self.home.or(home);
        self
    }
}

pub(crate) fn from_args(args: Vec<OsString>, environment: &Environment) -> ExitCode {
    match Alone::try_parse_from(std::iter::once("outrigger hub".into()).chain(args)) {
        Ok(Alone { home, flags }) => from_flags(flags.with_home(home), environment),
        Err(error) => crate::commands::usage(&error),
    }
}

pub(crate) fn from_flags(flags: Flags, environment: &Environment) -> ExitCode {
    match serve(flags, environment) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("outrigger hub: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(flags: Flags, environment: &Environment) -> Result<ExitCode> {
    if flags.detached {
        rustix::process::setsid().context("cannot leave the terminal's session")?;
    }
    under::parent(environment, rustix::process::Signal::TERM)?;
    let home = Home::find(flags.home.clone(), environment)?;
    let log = Log::open(log::Config {
        level: flags.log_level,
        format: log::format_for(flags.log_as_json, &Output::Stdout),
        output: Output::Stdout,
        app_id: None,
        instance: environment.host_name.clone(),
        version: version::COMPAT_VERSION.to_owned(),
        scope: "outrigger.hub".to_owned(),
    })?;
    let config = config(&flags, &home);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the threads of the hub")?;
    // The hub's errors name their cause themselves.
    let hub = Hub::open(config, log.clone()).map_err(|error| anyhow!("{error}"))?;
    let ended = runtime.block_on(async {
        let (stop, stopped) = drain::channel();
        let tasks = Tasks::new(&log, stop.clone());
        let (reloads, _) = watch::channel(0);
        let signals = Signals::listen().context("cannot listen to signals")?;
        tasks.spawn("signals", OnExit::Log, signals.run(log.clone(), stop, reloads));
        hub.serve(stopped).await.map_err(|error| anyhow!("{error}"))
    })?;
    log.flush();
    match ended {
        Ended::Asked | Ended::Idle => Ok(ExitCode::SUCCESS),
        Ended::Failed => bail!("a part of the hub failed; its log says which"),
    }
}

fn config(flags: &Flags, home: &Home) -> Config {
    let mut config = Config::new(home.path());
    let retention = &mut config.retention;
    config.fsync = flags.fsync;
    config.idle_after = flags.idle_after.unwrap_or(config.idle_after);
    retention.keep_age = flags.keep_age.unwrap_or(retention.keep_age);
    retention.keep_bytes = flags.keep_bytes.unwrap_or(retention.keep_bytes);
    retention.max_bytes = flags.max_bytes.unwrap_or(retention.max_bytes);
    config
}

fn duration(text: &str) -> Result<Duration, String> {
    go::duration(text).map_err(|error| format!("{error}; write for example 500ms, 10s or 1m30s"))
}

fn fsync(text: &str) -> Result<Fsync, String> {
    match text.split_once('=') {
        None if text == "always" => Ok(Fsync::Always),
        None if text == "interval" => Ok(Fsync::Interval(INTERVAL)),
        Some(("interval", interval)) => match duration(interval)? {
            Duration::ZERO => {
                Err("the interval must be above zero; `always` waits for the disk each time".to_owned())
            }
            interval => Ok(Fsync::Interval(interval)),
        },
        _ => Err("say always, interval or interval=50ms".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Alone, INTERVAL, fsync};
    use clap::Parser;
    use outrigger_hub::config::Fsync;
    use std::time::Duration;

    #[test]
    fn policies() {
        let cases = [
            ("always", Some(Fsync::Always)),
            ("interval", Some(Fsync::Interval(INTERVAL))),
            ("interval=2s", Some(Fsync::Interval(Duration::from_secs(2)))),
            ("interval=0", None),
            ("interval=soon", None),
            ("never", None),
        ];
        for (text, expected) in cases {
            assert_eq!(fsync(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn defaults_are_the_hubs_own() {
        let flags = Alone::try_parse_from(["hub"]).unwrap().flags;
        let home = crate::home::Home::at("/x".into());
        let (ours, theirs) = (
            super::config(&flags, &home),
            outrigger_hub::config::Config::new("/x"),
        );
        assert_eq!(ours.idle_after, theirs.idle_after);
        assert_eq!(ours.fsync, theirs.fsync);
        assert_eq!(ours.retention, theirs.retention);
    }
}
