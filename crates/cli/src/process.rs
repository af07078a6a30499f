//! Processes we start and signal.

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal};
use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// What a shell would answer: the exit code, or 128 and the signal.
pub(crate) fn code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    // Neither is outside of a byte on Linux; anything else must not look like success.
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// `exit code 3` or `signal 9`.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// Signals one process. Answers whether it was there.
pub(crate) fn signal(pid: u32, signal: Signal) -> Result<bool> {
    with(pid, signal, |pid, signal| {
        rustix::process::kill_process(pid, signal)
    })
}

/// Signals a process and everything it started that stayed in its group.
pub(crate) fn signal_group(pid: u32, signal: Signal) -> Result<bool> {
    with(pid, signal, |pid, signal| {
        rustix::process::kill_process_group(pid, signal)
    })
}

fn with(pid: u32, signal: Signal, kill: impl Fn(Pid, Signal) -> rustix::io::Result<()>) -> Result<bool> {
    let known = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let known = known.with_context(|| format!("{pid} is not a process id"))?;
    match kill(known, signal) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::SRCH) => Ok(false),
        Err(error) => {
            Err(error).with_context(|| format!("cannot send signal {} to process {pid}", signal.as_raw()))
        }
    }
}

/// Whether a process exists and is not merely waiting to be collected.
pub(crate) fn is_alive(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    // The name in parentheses may hold anything; the state follows the last one.
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

/// The file a command names: a path, or a name looked for in `PATH`.
pub(crate) fn which(command: &str, folder: &Path, path: Option<&str>) -> Option<PathBuf> {
    if command.contains('/') {
        return Some(folder.join(command)).filter(|file| file.exists());
    }
    let path = path.unwrap_or("/usr/local/bin:/usr/bin:/bin");
    std::env::split_paths(OsStr::new(path))
        .map(|each| folder.join(each).join(command))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::{code, is_alive, which};
    use std::os::unix::process::ExitStatusExt;
    use std::path::Path;
    use std::process::ExitStatus;

    #[test]
    fn codes_are_those_of_a_shell() {
        for (raw, expected) in [(0, 0), (3 << 8, 3), (255 << 8, 255), (9, 137), (15, 143)] {
            assert_eq!(code(ExitStatus::from_raw(raw)), expected);
        }
    }

    #[test]
    fn commands_are_found_as_a_shell_finds_them() {
        let found = which("sh", Path::new("/"), Some("/nowhere:/bin:/usr/bin"));
        assert_eq!(found.as_deref(), Some(Path::new("/bin/sh")));
        assert_eq!(which("sh", Path::new("/"), Some("/nowhere")), None);
        assert_eq!(
            which("./sh", Path::new("/bin"), None).as_deref(),
            Some(Path::new("/bin/./sh"))
        );
        assert_eq!(which("./no-such-thing", Path::new("/bin"), None), None);
    }

    #[test]
    fn we_are_alive() {
        assert!(is_alive(std::process::id()));
        assert!(!is_alive(u32::MAX));
    }
}
