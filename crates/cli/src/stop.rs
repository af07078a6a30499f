//! `outrigger stop`: ends apps and their sidecars, by id or by run file.

use crate::commands::Context;
use crate::http::until;
use crate::instances::{self, Instance};
use crate::process;
use crate::run::file;
use anyhow::Result;
use clap::Args;
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A bit longer than app and sidecar are given to end in good order.
const PATIENCE: Duration = Duration::from_secs(25);

/// Stop apps together with their sidecars
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  outrigger stop --app-id shop\n  outrigger stop shop billing\n  outrigger stop -f dapr.yaml\n\n\
    Exit codes: 0 everything named has ended, 1 something was not found or did not end, 2 wrong usage."
)]
pub(crate) struct Flags {
    /// The app to stop
    #[arg(long, short = 'a', value_name = "ID")]
    app_id: Option<String>,

    /// Stop every app that was started from this run file
    #[arg(long, short = 'f', value_name = "FILE|DIR")]
    run_file: Option<PathBuf>,

    /// Apps to stop
    #[arg(value_name = "ID")]
    ids: Vec<String>,
}

/// What to signal, and what has to be gone then.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    name: String,
    signal: u32,
    gone: Vec<u32>,
}

pub(crate) async fn run(flags: &Flags, context: &Context) -> Result<u8> {
    let ids: Vec<&String> = flags.ids.iter().chain(&flags.app_id).collect();
    if ids.is_empty() && flags.run_file.is_none() {
        context.screen.failure(
            "nothing to stop: say which app with --app-id, or which run file with -f; see `outrigger list`",
        );
        return Ok(2);
    }
    let instances = instances::list(&context.environment).await?;
    let mut code = 0;
    let mut targets = Vec::new();
    for id in ids {
        match instances::pick(&instances, id, &context.home) {
            Some(instance) => targets.push(target(instance, &instances)),
            None => {
                context
                    .screen
                    .failure(&format!("no sidecar of app {id:?} runs; see `outrigger list`"));
                code = 1;
            }
        }
    }
    if let Some(given) = &flags.run_file {
        let path = file::find(&Path::new(&context.environment.working_directory).join(given))?;
        let found = of_run_file(&path, &instances);
        if found.is_empty() {
            context.screen.failure(&format!(
                "no app of the run file {} runs; see `outrigger list`",
                path.display()
            ));
            code = 1;
        }
        targets.extend(found);
    }
    Ok(if end(&targets, context).await? { code } else { 1 })
}

/// Ends every instance given, through whoever started it. Answers whether all have ended.
pub(crate) async fn all(instances: &[Instance], context: &Context) -> Result<bool> {
    let targets: Vec<Target> = instances
        .iter()
        .map(|instance| Target {
            name: format!("app {:?}", instance.app_id),
            signal: commander(instance).unwrap_or(instance.daprd_pid),
            gone: vec![instance.daprd_pid],
        })
        .collect();
    end(&targets, context).await
}

async fn end(targets: &[Target], context: &Context) -> Result<bool> {
    let mut signalled = Vec::new();
    for target in targets {
        // Several apps of one command must not make it lose patience.
        if !signalled.contains(&target.signal) {
            process::signal(target.signal, Signal::TERM)?;
            signalled.push(target.signal);
        }
    }
    let mut all = true;
    for target in targets {
        let gone = until(PATIENCE, || async {
            (!target.gone.iter().any(|pid| process::is_alive(*pid))).then_some(())
        })
        .await;
        match gone {
            Some(()) => context.screen.success(&format!("{} stopped", target.name)),
            None => {
                context.screen.failure(&format!(
                    "{} was asked to stop but still runs after {PATIENCE:?}",
                    target.name
                ));
                all = false;
            }
        }
    }
    Ok(all)
}

/// COMPAT(dapr/cli pkg/standalone/stop.go): through the command that started it, unless that one runs other apps too
/// or there is none; then the sidecar alone, which takes its app with it.
fn target(instance: &Instance, all: &[Instance]) -> Target {
    let siblings = all
        .iter()
        .filter(|other| other.cli_pid == instance.cli_pid)
        .count();
    let signal = match commander(instance) {
        Some(pid) if siblings == 1 => pid,
        _ => instance.daprd_pid,
    };
    Target {
        name: format!("app {:?}", instance.app_id),
        signal,
        gone: vec![instance.daprd_pid],
    }
}

fn of_run_file(path: &Path, instances: &[Instance]) -> Vec<Target> {
    let mut by_command: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for instance in instances
        .iter()
        .filter(|instance| Path::new(&instance.run_template_path) == path)
    {
        let signal = commander(instance).unwrap_or(instance.daprd_pid);
        by_command.entry(signal).or_default().push(instance.daprd_pid);
    }
    let name = |gone: &Vec<u32>| {
        format!(
            "{} of {}",
            if gone.len() == 1 { "the app" } else { "all apps" },
            path.display()
        )
    };
    by_command
        .into_iter()
        .map(|(signal, gone)| Target {
            name: name(&gone),
            signal,
            gone,
        })
        .collect()
}

/// The command that started an instance, if it still runs: process ids are used again.
fn commander(instance: &Instance) -> Option<u32> {
    let pid = Some(instance.cli_pid).filter(|pid| *pid > 1)?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    matches!(name.trim_end(), "outrigger" | "dapr").then_some(pid)
}
