//! Chores of the repository: `cargo xtask <task>`.

mod codegen;

use std::process::ExitCode;

use anyhow::{Result, bail};

#[expect(
    clippy::print_stderr,
    reason = "a command-line tool reports its failure there"
)]
fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.split_first() {
        Some((task, rest)) if task == "codegen" => codegen::run(rest),
        Some((task, _)) => bail!("unknown task {task:?}; known: codegen"),
        None => bail!("usage: cargo xtask <codegen> [options]"),
    }
}
