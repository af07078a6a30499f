//! `cargo xtask bench`: builds the sidecar and the load generator in release form and hands over to the generator's `run`.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// Runs `outrigger-bench run` with `args`; our own executable is added as contender `outrigger`, with its hub, unless
/// some `--daprd` of that name is given.
///
/// # Errors
/// When a build or the benchmark fails; it has printed why.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let target = crate::build(&[
        "--release",
        "--package",
        "outrigger-cli",
        "--package",
        "outrigger-bench",
    ])?;
    let ours = target.join("release/outrigger");
    let mut command = Command::new(target.join("release/outrigger-bench"));
    command.arg("run");
    if !args
        .iter()
        .any(|arg| arg.starts_with("outrigger=") || arg.starts_with("--daprd=outrigger="))
    {
        for option in ["--daprd", "--hub"] {
            command.arg(format!("{option}=outrigger={}", ours.display()));
        }
    }
    let status = command
        .args(args)
        .status()
        .context("cannot start the load generator")?;
    if !status.success() {
        bail!("outrigger-bench: {status}");
    }
    Ok(())
}
