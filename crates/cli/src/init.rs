//! `outrigger init`: writes the default folder.

use crate::commands::Context;
use crate::home::{self, DEFAULTS};
use anyhow::{Context as _, Result};
use clap::Args;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::Path;

const CONFIGURATION: &str = include_str!("home/config.yaml");

/// Write the default resources, to be changed at will
#[derive(Debug, Args)]
#[command(
    long_about = "Write the default resources, to be changed at will.\n\n\
        Not needed before `run`: without it, the same resources are built in. Nothing is downloaded, no service is \
        installed, and a file that exists already is left as it is.",
    after_help = "Examples:\n  outrigger init\n  outrigger init --home ./my-home"
)]
pub(crate) struct Flags {}

pub(crate) fn run(_: &Flags, context: &Context) -> Result<u8> {
    let components = context.home.components();
    home::create(&components)?;
    for (name, text) in DEFAULTS {
        write(&components.join(name), text, context)?;
    }
    write(&context.home.path().join("config.yaml"), CONFIGURATION, context)?;
    let sidecar = context.home.sidecar()?;
    context.screen.info(&format!(
        "the sidecar is {}, a link to this executable",
        sidecar.path.display()
    ));
    context.screen.success(
        "Done; nothing was downloaded. Next: outrigger run --app-id my-app --app-port 8080 -- my-command",
    );
    Ok(0)
}

fn write(path: &Path, text: &str, context: &Context) -> Result<()> {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => {
            file.write_all(text.as_bytes())
                .with_context(|| format!("cannot write {}", path.display()))?;
            context.screen.info(&format!("wrote {}", path.display()));
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            context
                .screen
                .info(&format!("kept {}, which is there already", path.display()));
            Ok(())
        }
        Err(error) => Err(error).with_context(|| format!("cannot create {}", path.display())),
    }
}
