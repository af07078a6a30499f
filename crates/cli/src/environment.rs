//! The process's environment, read here and handed down as a value.

#![expect(clippy::disallowed_methods, reason = "the one place where variables are read")]

use outrigger_sidecar::config::Environment;

/// Variables and facts of this process.
pub(crate) fn current() -> Environment {
    let working_directory = std::env::current_dir()
        .map(|path| path.display().to_string())
        .unwrap_or_default();
    Environment::new(
        |name| std::env::var(name).ok(),
        working_directory,
        rustix::system::uname().nodename().to_string_lossy().into_owned(),
        rustix::process::getuid().as_raw(),
    )
}

/// Every variable that is text.
pub(crate) fn variables() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
