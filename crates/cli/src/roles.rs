//! What the one executable can be: a sidecar, the hub, an app's parent guard, or a tool for people.
//!
//! Each role gets its arguments and the environment as values and answers with an exit code.

pub(crate) mod hub;
pub(crate) mod under;

use crate::commands;
use crate::environment;
use outrigger_component::registry::Registry;
use outrigger_components_all::Options;
use outrigger_sidecar::Exit;
use outrigger_sidecar::config::Environment;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// `daprd …`: the sidecar with every component this build has.
pub(crate) fn sidecar(args: Vec<OsString>) -> ExitCode {
    let environment = environment::current();
    if let Err(error) = under::parent(&environment, rustix::process::Signal::TERM) {
        eprintln!("outrigger: {error:#}");
        return ExitCode::FAILURE;
    }
    let threads = match worker_threads(environment.get(WORKER_THREADS).as_deref()) {
        Ok(threads) => threads,
        Err(text) => {
            eprintln!("outrigger: {text}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("outrigger: cannot start the threads of the sidecar: {error}");
            return ExitCode::FAILURE;
        }
    };
    let lookup = environment.clone();
    let register = |wanted: &outrigger_sidecar::Wanted| registry(&lookup, wanted.hub_socket.clone());
    let exit = runtime.block_on(outrigger_sidecar::main(args, environment, &register));
    // Whatever still runs has had its time: draining is over.
    runtime.shutdown_background();
    match exit {
        Exit::Clean => ExitCode::SUCCESS,
        Exit::Said(text) => {
            println!("{}", text.trim_end());
            ExitCode::SUCCESS
        }
        Exit::Failed => ExitCode::FAILURE,
        Exit::Usage { code, text } => {
            eprintln!("{}", text.trim_end());
            ExitCode::from(code)
        }
    }
}

/// Every component type of this build.
pub(crate) fn registry(environment: &Environment, hub_socket: Option<PathBuf>) -> Registry {
    let mut registry = Registry::default();
    let options = Options {
        variable: environment.lookup(),
        variables: Arc::new(environment::variables),
        hub_socket,
    };
    outrigger_components_all::register_all(&mut registry, options);
    registry
}

/// How many threads carry requests; the environment's name for it.
const WORKER_THREADS: &str = "OUTRIGGER_WORKER_THREADS";

/// Half of the cores this process may use (cgroup quota and affinity counted), at least one: a sidecar shares the machine
/// with its app. On two cores one thread is 20 % quicker and cheaper than two, because a call does not wander between them.
fn worker_threads(wish: Option<&str>) -> Result<usize, String> {
    let Some(wish) = wish else {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        return Ok((cores / 2).max(1));
    };
    match wish.trim().parse() {
        Ok(threads @ 1..=256) => Ok(threads),
        _ => Err(format!(
            "{WORKER_THREADS} is {wish:?}: give a number of threads from 1 to 256"
        )),
    }
}

/// `outrigger hub …` in the foreground.
pub(crate) fn hub(args: Vec<OsString>) -> ExitCode {
    hub::from_args(args, &environment::current())
}

/// Everything else.
pub(crate) fn people(args: Vec<OsString>) -> ExitCode {
    commands::run(args, environment::current())
}

#[cfg(test)]
mod tests {
    use super::worker_threads;

    #[test]
    fn threads_are_a_number_from_1_to_256() {
        for (wish, threads) in [
            ("1", Some(1)),
            (" 8 ", Some(8)),
            ("0", None),
            ("257", None),
            ("", None),
            ("two", None),
        ] {
            assert_eq!(worker_threads(Some(wish)).ok(), threads, "{wish:?}");
        }
        assert!(worker_threads(None).is_ok_and(|threads| threads >= 1));
    }
}
