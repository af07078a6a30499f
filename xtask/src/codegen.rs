//! `cargo xtask codegen [--check]`: hands over to the `outrigger-codegen` package.
//!
//! The generator pulls in a protobuf compiler, which other tasks should not wait for.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// Runs the generator with `args`.
///
/// # Errors
/// When cargo cannot be started or the generator fails; it has printed why.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let status = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--package", "outrigger-codegen", "--"])
        .args(args)
        .status()
        .context("cannot start cargo for the code generator")?;
    if !status.success() {
        bail!("codegen: {status}");
    }
    Ok(())
}
