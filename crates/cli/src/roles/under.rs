//! Processes that must not outlive the one that started them, even when that is killed with SIGKILL.
//!
//! The kernel signals a process when its parent ends, but only the process itself can ask for that. Our own roles
//! do so when [`PARENT`] is in their environment; a foreign app is started through [`exec`], which asks first and
//! then becomes the app, under the same process id.

use anyhow::{Context, Result, bail};
use outrigger_sidecar::config::Environment;
use rustix::process::{Pid, Signal};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// The process to end with.
pub(crate) const PARENT: &str = "OUTRIGGER_PARENT";
/// First argument that selects [`exec`].
pub(crate) const EXEC: &str = "exec-under";

/// Ends this process with `signal` as soon as the process named in the environment does, if there is one.
///
/// # Errors
/// When it has ended already.
pub(crate) fn parent(environment: &Environment, signal: Signal) -> Result<()> {
    match environment.get(PARENT) {
        Some(pid) => end_with(&pid, signal),
        None => Ok(()),
    }
}

/// `exec-under PID COMMAND…`: becomes the command.
pub(crate) fn exec(args: &[OsString]) -> ExitCode {
    let [pid, command, rest @ ..] = args else {
        eprintln!("outrigger: {EXEC} needs a process id and a command");
        return ExitCode::from(2);
    };
    if let Err(error) = end_with(&pid.to_string_lossy(), Signal::KILL) {
        eprintln!("outrigger: {error:#}");
        return ExitCode::from(125);
    }
    let error = Command::new(command).args(rest).env_remove(PARENT).exec();
    eprintln!("outrigger: cannot start {}: {error}", command.display());
    ExitCode::from(if error.kind() == std::io::ErrorKind::NotFound {
        127
    } else {
        126
    })
}

fn end_with(pid: &str, signal: Signal) -> Result<()> {
    let expected = pid
        .parse()
        .ok()
        .and_then(Pid::from_raw)
        .with_context(|| format!("{pid:?} is not a process id"))?;
    rustix::process::set_parent_process_death_signal(Some(signal))
        .context("cannot ask to be ended with the parent process")?;
    // It may have ended before we asked; then somebody else is our parent by now.
    if rustix::process::getppid() != Some(expected) {
        bail!("process {pid}, which started this one, has ended");
    }
    Ok(())
}
