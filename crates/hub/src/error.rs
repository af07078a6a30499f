//! Why a hub cannot be opened, served or reached.

use std::io;
use std::path::PathBuf;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{what} {path}: {source}")]
    Io {
        what: &'static str,
        path: String,
        source: io::Error,
    },
    /// Another hub has the folder.
    #[error(
        "the hub folder {folder} is held by process {holder}; stop it with `outrigger down`, or use another --home"
    )]
    Held { folder: String, holder: String },
    /// Something that was durable cannot be read any more.
    #[error(
        "{path} is damaged at byte {at}: {what}. Nothing was changed. Restore the hub folder from a backup; or, to go on \
         without what is lost, stop the hub, move the hub folder away and start anew"
    )]
    Damaged { path: String, at: u64, what: String },
    #[error(
        "the log in {place} has a gap: {expected} is missing before {found}. Nothing was changed. Restore the file or \
         the whole hub folder from a backup"
    )]
    Missing {
        place: String,
        expected: String,
        found: String,
    },
    #[error(
        "the log and the key/value file of {home} do not belong together: {what}. Nothing was changed. Restore the whole \
         hub folder from one backup"
    )]
    Mismatch { home: String, what: String },
    #[error("the key/value file {path}: {source}")]
    Engine { path: String, source: redb::Error },
    #[error("the socket path {path} has {length} bytes, the system allows {limit}: choose a shorter --home")]
    SocketPath {
        path: String,
        length: usize,
        limit: usize,
    },
    #[error("no hub answers at {}: {cause}; start one with `outrigger hub` or `outrigger run`", socket.display())]
    Unreachable { socket: PathBuf, cause: String },
    #[error("the hub for {} did not become ready within {waited:?}: {cause}", home.display())]
    NotReady {
        home: PathBuf,
        waited: std::time::Duration,
        cause: String,
    },
    #[error("the hub answered: {0}")]
    Refused(String),
    #[error("{0}")]
    Config(String),
}

impl Error {
    pub(crate) fn io(what: &'static str, path: &str, source: io::Error) -> Self {
        Self::Io {
            what,
            path: path.to_owned(),
            source,
        }
    }
}
