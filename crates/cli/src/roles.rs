//! What the one executable can be: a sidecar, the hub, an app's parent guard, or a tool for people.
//!
//! Each role gets its arguments and the environment as values and answers with an exit code.

pub(crate) mod hub;
pub(crate) mod under;

use crate::commands;
use crate::environment;
use outrigger_components_all::Options;
use outrigger_sidecar::Exit;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

/// `daprd …`: the sidecar with every component this build has.
pub(crate) fn sidecar(args: Vec<OsString>) -> ExitCode {
    let environment = environment::current();
    if let Err(error) = under::parent(&environment, rustix::process::Signal::TERM) {
        eprintln!("outrigger: {error:#}");
        return ExitCode::FAILURE;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("outrigger: cannot start the threads of the sidecar: {error}");
            return ExitCode::FAILURE;
        }
    };
    let variable = environment.lookup();
    let register = |wanted: &outrigger_sidecar::Wanted| {
        let mut registry = Default::default();
        let options = Options {
            variable: variable.clone(),
            variables: Arc::new(environment::variables),
            hub_socket: wanted.hub_socket.clone(),
        };
        outrigger_components_all::register_all(&mut registry, options);
        registry
    };
    let exit = runtime.block_on(outrigger_sidecar::main(args, environment, register));
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

/// `outrigger hub …` in the foreground.
pub(crate) fn hub(args: Vec<OsString>) -> ExitCode {
    hub::from_args(args, &environment::current())
}

/// Everything else.
pub(crate) fn people(args: Vec<OsString>) -> ExitCode {
    commands::run(args, environment::current())
}
