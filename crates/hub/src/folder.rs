//! The hub's folder and the lock on it: one hub per folder.

use crate::error::{Error, Result};
use rustix::fs::FlockOperation;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

pub(crate) const LOCK: &str = "lock";

/// Held as long as it lives; the system gives it back however the process ends.
pub(crate) struct Lock {
    _file: File,
}

/// Makes the folder (for its owner only) and locks it.
///
/// # Errors
/// [`Error::Held`] when another process has it.
pub(crate) fn lock(folder: &Path) -> Result<Lock> {
    create(folder)?;
    let path = folder.join(LOCK);
    let shown = path.display().to_string();
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|source| Error::io("cannot open", &shown, source))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            // Whoever holds it may be about to write its number.
            let known = file.read_to_string(&mut holder).is_ok() && !holder.trim().is_empty();
            return Err(Error::Held {
                folder: folder.display().to_string(),
                holder: if known {
                    holder.trim().to_owned()
                } else {
                    "(unknown)".to_owned()
                },
            });
        }
        Err(error) => return Err(Error::io("cannot lock", &shown, error.into())),
    }
    let write = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    write.map_err(|source| Error::io("cannot write", &shown, source))?;
    Ok(Lock { _file: file })
}

/// Makes a folder and those above it, for their owner only.
pub(crate) fn create(folder: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|source| Error::io("cannot create the folder", &folder.display().to_string(), source))
}
