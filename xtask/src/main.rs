//! Chores of the repository: `cargo xtask <task>`.

mod codegen;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.split_first() {
        Some((task, rest)) if task == "codegen" => codegen::run(rest),
        Some((task, _)) => bail!("unknown task {task:?}; known: codegen"),
        None => bail!("usage: cargo xtask <codegen> [options]"),
    }
}
