//! The examples of README.md and docs/ are run as a reader would run them, against real processes in an empty home.
//!
//! Each page is one test, its blocks run in order in one folder. A code block takes part by its info string:
//!
//! | Info string | What happens |
//! |---|---|
//! | any language, `file=NAME` | the block is written to that file |
//! | `console` | lines that begin with `$ ` are run by bash and must succeed; the lines below are their output |
//! | `console background` | the command goes on running; the test waits until the lines below have appeared |
//! | `console eventually` | repeated until the output is as said |
//! | `text appears` | these lines appear in the output of what runs in the background |
//! | … `redis` | needs a Redis on port 6379; skipped, with all that follows, where none is installed |
//!
//! In expected output, `…` stands for any text, and alone on a line for any lines. Where a command has no output
//! below it, its output does not matter. Ports that pages name are replaced by free ones, app ids by ids that nobody else on
//! the machine has. Everything else, for instance `sh` blocks, is not run.

mod page;
mod play;

use page::Page;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// One test per page.
macro_rules! pages {
    ($($name:ident: $path:literal,)*) => {
        $(#[tokio::test]
        async fn $name() {
            play::play($path).await;
        })*

        /// Pages with examples that a test runs.
        const RUN: &[&str] = &[$($path),*];
    };
}

pages! {
    readme: "README.md",
    invocation: "docs/invocation.md",
    state: "docs/state.md",
    outbox: "docs/outbox.md",
    pubsub: "docs/pubsub.md",
    secrets: "docs/secrets.md",
    configuration_stores: "docs/configuration-stores.md",
    lock: "docs/lock.md",
    bindings: "docs/bindings.md",
    middleware: "docs/middleware.md",
    tracing: "docs/tracing.md",
    metrics: "docs/metrics.md",
    health: "docs/health.md",
    components: "docs/components.md",
    sqlite: "docs/components/state.sqlite.md",
    configuration: "docs/configuration.md",
    cli: "docs/cli.md",
}

#[test]
fn every_page_with_examples_is_run() {
    let run: BTreeSet<String> = RUN.iter().map(|&path| path.to_owned()).collect();
    let with_examples: BTreeSet<String> = paths()
        .into_iter()
        .filter(|path| Page::read(path).has_commands())
        .collect();
    assert_eq!(
        run, with_examples,
        "the list in tests/it/docs.rs differs from the pages that have `console` blocks"
    );
}

/// README.md and the pages under docs/, relative to the repository.
fn paths() -> Vec<String> {
    let mut paths = vec!["README.md".to_owned()];
    for folder in ["docs", "docs/components"] {
        for entry in std::fs::read_dir(repository().join(folder)).expect("docs/ can be read") {
            let name = entry.expect("docs/ can be read").file_name();
            let name = name.to_str().expect("our files have plain names");
            if name.ends_with(".md") {
                paths.push(format!("{folder}/{name}"));
            }
        }
    }
    paths
}

fn repository() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests
        .parent()
        .expect("this package is in the repository")
        .to_owned()
}
