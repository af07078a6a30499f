//! The hub from a command's point of view: the one that runs, or a new one in the background.

use crate::home::{self, Home};
use crate::roles::under;
use crate::screen::Screen;
use anyhow::{Context, Result, anyhow};
use outrigger_hub::client::{self, Client, Gone};
use outrigger_hub::config;
use std::convert::Infallible;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Recovery reads the whole log, so this is not short.
const PATIENCE: Duration = Duration::from_secs(30);
/// One may fail because another hub was still ending; more do for a reason that stays.
const STARTS: usize = 3;
/// A log of a background hub that is larger is put aside when the next one starts.
const LOG_BYTES: u64 = 8 << 20;
/// Before a lost hub is started again after that has failed, at first and at most.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Lines of it that an error shows.
const SHOWN: usize = 10;

/// Whether a hub that is started here outlives us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// Until it is idle.
    OfItsOwn,
    /// It ends with this process.
    Ours,
}

/// The hub of this home, started if need be.
pub(crate) async fn ensure(home: &Home, life: Life) -> Result<Client> {
    let path = home.hub_log();
    let mut starts = 0;
    let found = client::ensure(home.path(), PATIENCE, || {
        starts += 1;
        match starts > STARTS {
            true => Err(io::Error::other(format!("it has ended at once {STARTS} times"))),
            false => start(home, life, &path),
        }
    });
    let found = found.await;
    found.map_err(|error| {
        let said = last_lines(&path, SHOWN);
        let said = if said.is_empty() {
            String::new()
        } else {
            format!("\nThe end of its log, {}:\n{said}", path.display())
        };
        anyhow!("{error}{said}")
    })
}

/// Keeps a hub there for as long as this is polled: one that was killed is started again. One that was ended on purpose is
/// left so (`outrigger down --hub-only`), and the next one is waited for.
pub(crate) async fn keep(home: &Home, mut hub: Client, screen: Screen) -> Infallible {
    loop {
        hub = match hub.ended().await {
            Gone::Lost => again(home, screen).await,
            Gone::Ended => {
                screen.warning(
                    "the hub was ended: its state store, broker and names are away until there is one again \
                     (the next `outrigger run` starts it)",
                );
                next(home).await
            }
        };
    }
}

/// A new hub in place of one that is lost, however long that takes.
async fn again(home: &Home, screen: Screen) -> Client {
    screen.warning("the hub is gone without having been asked to end; starting it again");
    let mut pause = PAUSE;
    loop {
        match ensure(home, Life::OfItsOwn).await {
            Ok(hub) => {
                screen.success("the hub is there again");
                return hub;
            }
            Err(error) => screen.failure(&format!("{error:#}")),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The hub that somebody else starts.
async fn next(home: &Home) -> Client {
    loop {
        if let Ok(Some(hub)) = find(home).await {
            return hub;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The hub of this home if one runs.
pub(crate) async fn find(home: &Home) -> Result<Option<Client>> {
    let socket = config::socket(home.path())?;
    match Client::connect(&socket).await {
        Ok(client) => Ok(Some(client)),
        Err(outrigger_hub::error::Error::Unreachable { .. }) => Ok(None),
        Err(error) => Err(error).context("cannot look for the hub"),
    }
}

fn start(home: &Home, life: Life, log: &Path) -> io::Result<Child> {
    let log = open_log(log)?;
    let mut command = Command::new(home::itself());
    command.arg("hub").arg("--home").arg(home.path());
    match life {
        Life::OfItsOwn => command.arg("--detached").env_remove(under::PARENT),
        Life::Ours => command.env(under::PARENT, std::process::id().to_string()),
    };
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}

fn open_log(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    if fs::metadata(path).is_ok_and(|log| log.len() > LOG_BYTES) {
        fs::rename(path, path.with_extension("log.old"))?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

/// The end of a text file; empty when there is none.
pub(crate) fn last_lines(path: &Path, count: usize) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<&str> = text.lines().rev().take(count).collect();
    lines.reverse();
    lines.join("\n")
}
