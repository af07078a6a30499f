//! `outrigger completion`.

use crate::commands::Outrigger;
use crate::screen::Screen;
use anyhow::Result;
use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::Shell;

/// Print a script that completes commands and options in a shell
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  source <(outrigger completion bash)\n  \
    outrigger completion zsh > ~/.zsh/completions/_outrigger\n  outrigger completion fish > ~/.config/fish/completions/outrigger.fish")]
pub(crate) struct Flags {
    /// Which shell
    #[arg(value_enum)]
    shell: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Bash,
    Zsh,
    Fish,
    Powershell,
}

pub(crate) fn run(flags: &Flags) -> Result<u8> {
    let shell = match flags.shell {
        Kind::Bash => Shell::Bash,
        Kind::Zsh => Shell::Zsh,
        Kind::Fish => Shell::Fish,
        Kind::Powershell => Shell::PowerShell,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Outrigger::command(), "outrigger", &mut script);
    Screen::open(true).write(&script);
    Ok(0)
}
