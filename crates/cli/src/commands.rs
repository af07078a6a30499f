//! The people's commands: what there is, and how each ends.

use crate::demo;
use crate::home::Home;
use crate::roles;
use crate::screen::Screen;
use crate::{
    completion, components, configuration, down, explain, init, invoke, list, logs, publish, run, status,
    stop, version,
};
use anyhow::Context as _;
use clap::{Parser, Subcommand};
use outrigger_sidecar::config::Environment;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// What every command is given.
pub(crate) struct Context {
    pub(crate) home: Home,
    pub(crate) environment: Environment,
    pub(crate) screen: Screen,
}

#[derive(Debug, Parser)]
#[command(
    name = "outrigger",
    version,
    about = "A distributed application runtime: state, messages and calls between apps, over a sidecar on localhost",
    long_about = "A distributed application runtime: state, messages and calls between apps, over a sidecar on localhost.\n\n\
        An app speaks HTTP or gRPC to its own sidecar and knows nothing else; which broker and which database are behind \
        it is said in YAML, or not at all: then all apps of this user share a durable broker, a store and a name registry \
        in one local process, the hub. The APIs, the YAML and most of these commands are those of Dapr.",
    after_help = "Examples:\n  \
        outrigger demo\n  \
        outrigger run --app-id shop --app-port 8080 -- node app.js\n  \
        outrigger list\n\n\
        Exit codes: 0 done, 1 failed (the message says what), 2 wrong usage; `run` answers with its app's, see \
        `outrigger run --help`."
)]
pub(crate) struct Outrigger {
    /// Where default resources and the hub's data are [env: OUTRIGGER_HOME] [default: ~/.outrigger]
    #[arg(long, global = true, value_name = "DIR")]
    home: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<run::Flags>),
    Demo(demo::Flags),
    List(list::Flags),
    Stop(stop::Flags),
    Invoke(invoke::Flags),
    Publish(publish::Flags),
    Configuration(configuration::Flags),
    Status(status::Flags),
    Components(components::Flags),
    Explain(explain::Flags),
    Down(down::Flags),
    Logs(logs::Flags),
    Init(init::Flags),
    Version(version::Flags),
    Completion(completion::Flags),
    Hub(Box<roles::hub::Flags>),
    /// The sidecar itself; `outrigger daprd --help` lists its flags
    #[command(disable_help_flag = true)]
    Daprd {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

pub(crate) fn run(args: Vec<OsString>, environment: Environment) -> ExitCode {
    let parsed = Outrigger::try_parse_from(std::iter::once(OsString::from("outrigger")).chain(args));
    let Outrigger { home, command } = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return usage(&error),
    };
    match command {
        Command::Hub(flags) => return roles::hub::from_flags(flags.with_home(home), &environment),
        Command::Daprd { args } => return roles::sidecar(args),
        _ => {}
    }
    match people(home, command, environment) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("outrigger: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints what clap has to say: help and version to standard output with code 0, mistakes with code 2.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    // A reader that has gone away has read what it wanted.
    let _unread = error.print();
    ExitCode::from(if error.use_stderr() { 2 } else { 0 })
}

fn people(home: Option<PathBuf>, command: Command, environment: Environment) -> anyhow::Result<u8> {
    // Neither needs a home.
    match &command {
        Command::Version(flags) => return version::run(flags),
        Command::Completion(flags) => return completion::run(flags),
        _ => {}
    }
    // One thread: the kernel ties what we start to the thread that started it.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    let context = Context {
        home: Home::find(home, &environment)?,
        screen: Screen::open(environment.get("NO_COLOR").is_some()),
        environment,
    };
    let done = runtime.block_on(async {
        match command {
            Command::Run(flags) => run::run(*flags, &context).await,
            Command::Demo(flags) => demo::run(flags, &context).await,
            Command::List(flags) => list::run(&flags, &context).await,
            Command::Stop(flags) => stop::run(&flags, &context).await,
            Command::Invoke(flags) => invoke::run(flags, &context).await,
            Command::Publish(flags) => publish::run(flags, &context).await,
            Command::Configuration(flags) => configuration::run(flags, &context).await,
            Command::Status(flags) => status::run(&flags, &context).await,
            Command::Components(flags) => components::run(&flags, &context),
            Command::Explain(flags) => explain::run(flags, &context).await,
            Command::Down(flags) => down::run(&flags, &context).await,
            Command::Logs(flags) => logs::run(&flags, &context).await,
            Command::Init(flags) => init::run(&flags, &context),
            Command::Version(_) | Command::Completion(_) | Command::Hub(_) | Command::Daprd { .. } => Ok(0),
        }
    });
    // A thread that still waits for output of somebody's grandchild must not keep us.
    runtime.shutdown_background();
    done
}

#[cfg(test)]
mod tests {
    use super::Outrigger;
    use clap::{CommandFactory, Parser};

    #[test]
    fn the_definition_is_consistent() {
        Outrigger::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        for command in Outrigger::command().get_subcommands() {
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            let known = command.get_name() == "daprd" || help.contains("Example");
            assert!(known, "{} has no example", command.get_name());
        }
    }

    #[test]
    fn spellings_of_the_reference_are_understood() {
        let lines = [
            "run --app-id a --app-port 1 -- python3 app.py --flag",
            "run -a a -p 1 -H 3500 -G 50001 -I 5 -M 9 -P grpc -c config.yaml -u /tmp node app.js",
            "run --app-port -1 --dapr-http-port=-1 --enable-api-logging --enable-app-health-check=true -- x",
            "run --app-id a --placement-host-address=",
            "run -f dapr.yaml",
            "stop a b",
            "stop --app-id a",
            "stop -f .",
            "list -o json",
            "invoke -a a -m method/x -d {} -v GET",
            "publish -i a -p pubsub -t topic -d {} -m {}",
            "version -o json",
            "completion zsh",
            "--home /x demo --json",
            "demo --home /x",
        ];
        for line in lines {
            let parsed = Outrigger::try_parse_from(std::iter::once("outrigger").chain(line.split(' ')));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }
}
