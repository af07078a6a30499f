//! Chores of the repository: `cargo xtask <task>`.

mod bench;
mod codegen;
mod components;
mod test;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

const USAGE: &str = "usage: cargo xtask <task> [options]

tasks:
  test               everything CI runs: format, lints, tidy, unit, integration and conformance tests
  tidy               the rules of CONTRIBUTING.md that a program can check
  bench [options]    the benchmarks of docs/performance.md (cargo xtask bench --help)
  components         regenerates the tables of options in docs/components
  codegen [--check]  regenerates crates/proto/src/gen from proto/";

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
        Some((task, rest)) => match task.as_str() {
            "test" => test::run(rest),
            "tidy" => tidy::run(),
            "bench" => bench::run(rest),
            "components" => components::run(),
            "codegen" => codegen::run(rest),
            other => bail!("unknown task {other:?}\n\n{USAGE}"),
        },
        None => bail!("{USAGE}"),
    }
}

/// The repository's root: the folder above this package.
fn root() -> Result<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_owned)
        .context("xtask is not in the repository")
}

/// Builds something and says where cargo puts what it builds.
#[expect(
    clippy::disallowed_methods,
    reason = "cargo's own variable says where its output is"
)]
fn build(args: &[&str]) -> Result<PathBuf> {
    let status = Command::new(env!("CARGO"))
        .arg("build")
        .args(args)
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("cargo build {}: {status}", args.join(" "));
    }
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root().map(|root| root.join("target")), |dir| Ok(dir.into()))
}
