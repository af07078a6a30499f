//! What each service of the demo did, one line per deed, appended to a file of its own.
//!
//! INVARIANT: a line is one write of a few dozen bytes, so what a service did before it was killed is there, whole: the
//! operating system keeps what a process has written. No fsync: the demo kills processes, not the machine.

use anyhow::{Context, Result};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// One deed. Times are microseconds since 1970, all from this machine's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Deed {
    /// The broker has acknowledged an order.
    Placed { order: String, at: u64 },
    /// An event was handled: an order, or a bill that is back at the order service.
    Handled {
        order: String,
        event: String,
        placed: u64,
        at: u64,
    },
}

/// Appends deeds.
pub(crate) struct Pen {
    file: File,
}

/// Reads a ledger on from where it stopped.
pub(crate) struct Reader {
    path: PathBuf,
    at: u64,
}

impl Pen {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Ok(Self {
            file: file.with_context(|| format!("cannot open the ledger {}", path.display()))?,
        })
    }

    pub(crate) fn note(&self, deed: &Deed) -> Result<()> {
        (&self.file)
            .write_all(format!("{deed}\n").as_bytes())
            .context("cannot write to the ledger")
    }
}

impl Reader {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, at: 0 }
    }

    /// What was noted since the last call.
    pub(crate) fn read(&mut self) -> Result<Vec<Deed>> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            // Nothing was done yet.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read the ledger {}", self.path.display()));
            }
        };
        let mut text = String::new();
        file.seek(SeekFrom::Start(self.at))?;
        file.read_to_string(&mut text)?;
        // The rest of a line that is being written is for the next time.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        self.at += u64::try_from(whole)?;
        let lines = text.get(..whole).unwrap_or_default().lines();
        lines
            .map(|line| parse(line).with_context(|| format!("not a line of a ledger: {line:?}")))
            .collect()
    }
}

impl std::fmt::Display for Deed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Placed { order, at } => write!(f, "placed {order} {at}"),
            Self::Handled {
                order,
                event,
                placed,
                at,
            } => write!(f, "handled {order} {event} {placed} {at}"),
        }
    }
}

fn parse(line: &str) -> Option<Deed> {
    let words: Vec<&str> = line.split(' ').collect();
    match words.as_slice() {
        ["placed", order, at] => Some(Deed::Placed {
            order: (*order).to_owned(),
            at: at.parse().ok()?,
        }),
        ["handled", order, event, placed, at] => Some(Deed::Handled {
            order: (*order).to_owned(),
            event: (*event).to_owned(),
            placed: placed.parse().ok()?,
            at: at.parse().ok()?,
        }),
        _ => None,
    }
}

/// Microseconds since 1970.
pub(crate) fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Deed, Pen, Reader};
    use std::io::Write;

    #[test]
    fn what_is_noted_is_read_once_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let mut reader = Reader::new(path.clone());
        assert_eq!(reader.read().unwrap(), []);
        let placed = Deed::Placed {
            order: "a-1".into(),
            at: 7,
        };
        let handled = Deed::Handled {
            order: "a-1".into(),
            event: "e".into(),
            placed: 7,
            at: 9,
        };
        let pen = Pen::open(&path).unwrap();
        pen.note(&placed).unwrap();
        assert_eq!(reader.read().unwrap(), std::slice::from_ref(&placed));
        pen.note(&handled).unwrap();
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"placed a-").unwrap();
        assert_eq!(reader.read().unwrap(), [handled]);
        file.write_all(b"1 7\nnonsense\n").unwrap();
        assert!(reader.read().unwrap_err().to_string().contains("nonsense"));
    }
}
