//! `outrigger version`.

use crate::screen::Screen;
use anyhow::Result;
use clap::{Args, ValueEnum};
use outrigger_daemon::version::{COMPAT_VERSION, VERSION};
use serde_json::json;

/// Print which version this is, and which version of Dapr it speaks like
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  outrigger version -o json")]
pub(crate) struct Flags {
    /// How to print it
    #[arg(long, short = 'o', value_enum, default_value = "text")]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// COMPAT(dapr/cli cmd/version.go): labels and keys.
pub(crate) fn run(flags: &Flags) -> Result<u8> {
    Screen::open(true).line(&match flags.output {
        Output::Text => format!("CLI version: {VERSION}\nRuntime version: {COMPAT_VERSION}"),
        Output::Json => json!({"Cli version": VERSION, "Runtime version": COMPAT_VERSION}).to_string(),
    });
    Ok(0)
}
