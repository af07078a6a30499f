//! Composition root of `daprd`: flags and environment → [`Config`](config::Config) → bound ports → run → drain. Links no
//! vendor: the executable hands a filled registry in.

mod app_watch;
mod assemble;
mod bind;
pub mod config;
pub mod explain;
mod flags;
mod grpc;
mod observe;
mod run;
mod tracing;
mod wait;

use config::{Config, Environment};
use flags::Flags;
use futures::future::LocalBoxFuture;
use outrigger_component::registry::Registry;
use outrigger_daemon::log::{self, Log};
use outrigger_daemon::signals::Signals;
use outrigger_daemon::tasks::{OnExit, Tasks};
use outrigger_daemon::{drain, version};
use run::{End, Outside};
use std::ffi::OsString;
use std::path::PathBuf;
use tokio::sync::watch;

/// What became of the process; the executable turns it into an exit code.
#[derive(Debug)]
pub enum Exit {
    /// 0.
    Clean,
    /// 0, with a text for standard output (`--version`).
    Said(String),
    /// 1; the log has said why.
    Failed,
    /// 1 or 2, with a text for standard error: the log was not open yet.
    Usage { code: u8, text: String },
}

/// What the registry is filled for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Where the hub listens, when there is one for this sidecar.
    pub hub_socket: Option<PathBuf>,
}

/// Fills a registry.
pub type Register<'r> = &'r dyn Fn(&Wanted) -> Registry;

/// Runs a sidecar until it ends. `args` are without the program's name; `register` is asked for each life.
///
/// Boxed and unnamed, or whoever calls this would compile the whole sidecar again.
pub fn main<'r>(
    args: Vec<OsString>,
    environment: Environment,
    register: Register<'r>,
) -> LocalBoxFuture<'r, Exit> {
    Box::pin(begin(args, environment, register))
}

async fn begin(args: Vec<OsString>, environment: Environment, register: Register<'_>) -> Exit {
    let flags = match Flags::parse_from_args(args.clone()) {
        Ok(flags) => flags,
        Err(error) if !error.use_stderr() => return Exit::Said(error.to_string()),
        Err(error) => {
            return Exit::Usage {
                code: 2,
                text: error.to_string(),
            };
        }
    };
    if flags.version {
        return Exit::Said(version::COMPAT_VERSION.to_owned());
    }
    if flags.build_info {
        return Exit::Said(format!(
            "Version: {}\nOutrigger: {}",
            version::COMPAT_VERSION,
            version::VERSION
        ));
    }
    if flags.wait {
        return wait::until_outbound_ready(&flags.dapr_http_port).await;
    }
    let log = match open_log(&flags, &environment) {
        Ok(log) => log,
        Err(text) => return Exit::Usage { code: 1, text },
    };
    log.info(format_args!(
        "Starting Dapr Runtime -- version {} -- Outrigger {}",
        version::COMPAT_VERSION,
        version::VERSION
    ));
    log.info(format_args!("Log level set to: {}", flags.log_level));
    let exit = lives(args, &environment, register, &log).await;
    if matches!(exit, Exit::Clean) {
        log.info("Daprd shutdown gracefully");
    }
    log.flush();
    exit
}

/// One life after the other: SIGHUP begins a new one in the same process.
async fn lives(args: Vec<OsString>, environment: &Environment, register: Register<'_>, log: &Log) -> Exit {
    let (stop, watch) = drain::channel();
    let (reload, reloads) = watch::channel(0);
    let tasks = Tasks::new(log, stop.clone());
    match Signals::listen() {
        Ok(signals) => tasks.spawn("signals", OnExit::Log, signals.run(log.clone(), stop, reload)),
        Err(error) => return fatal(log, &format_args!("cannot listen for signals: {error}")),
    }
    loop {
        let flags = match Flags::parse_from_args(args.clone()) {
            Ok(flags) => flags,
            Err(error) => {
                return Exit::Usage {
                    code: 2,
                    text: error.to_string(),
                };
            }
        };
        let (config, warnings) = match Config::resolve(flags, environment) {
            Ok(resolved) => resolved,
            Err(error) => return fatal(log, &error),
        };
        for warning in warnings {
            log.warn(warning);
        }
        let registry = register(&Wanted {
            hub_socket: config.hub_socket.clone(),
        });
        let outside = Outside {
            stop: watch.clone(),
            reloads: reloads.clone(),
        };
        match run::life(&config, environment, registry, log, outside).await {
            Ok(End::Stopped) => return Exit::Clean,
            Ok(End::Reload) => log.info("Reloading in place"),
            Ok(End::Forced) => return Exit::Failed,
            Ok(End::TimedOut) => {
                log.error("Graceful shutdown timeout exceeded, forcing shutdown");
                return Exit::Failed;
            }
            Ok(End::Casualty(reason)) => return fatal(log, &reason),
            Err(error) => return fatal(log, &error),
        }
    }
}

fn fatal(log: &Log, reason: &dyn std::fmt::Display) -> Exit {
    log.fatal(format_args!("Fatal error from runtime: {reason}"));
    Exit::Failed
}

fn open_log(flags: &Flags, environment: &Environment) -> Result<Log, String> {
    let level = flags
        .log_level
        .parse()
        .map_err(|error| format!("invalid value for --log-level: {error}"))?;
    Log::open(log::Config {
        level,
        format: if flags.log_as_json {
            log::Format::Json
        } else {
            log::Format::Text
        },
        output: if flags.log_file.is_empty() {
            log::Output::Stdout
        } else {
            log::Output::File(flags.log_file.clone().into())
        },
        app_id: Some(flags.app_id.clone()).filter(|id| !id.is_empty()),
        instance: environment.host_name.clone(),
        version: version::COMPAT_VERSION.to_owned(),
        scope: "dapr.runtime".to_owned(),
    })
    .map_err(|error| error.to_string())
}
