//! The file seam of the log: a folder of segment files, as few operations as the log needs.
//!
//! It exists so that tests can lose what was not synced, tear a write and fill the disk.
//! [`Folder`] is the real one.

#[cfg(test)]
pub(crate) mod memory;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;

/// A folder. Names are plain file names.
pub(crate) trait Volume: Send + Sync {
    fn list(&self) -> io::Result<Vec<String>>;
    /// A new file for reading and writing. An existing one is an error.
    fn create(&self, name: &str) -> io::Result<Arc<dyn Media>>;
    fn open(&self, name: &str) -> io::Result<Arc<dyn Media>>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations and removals durable.
    fn sync(&self) -> io::Result<()>;
    /// Where it is, for messages.
    fn place(&self) -> String;
}

/// An open file. Positions are absolute, so that readers and the writer share it.
pub(crate) trait Media: Send + Sync {
    /// Like `pread`: fewer bytes than asked for only at the end of the file.
    fn read(&self, buffer: &mut [u8], at: u64) -> io::Result<usize>;
    fn write(&self, data: &[u8], at: u64) -> io::Result<()>;
    fn sync(&self) -> io::Result<()>;
    /// Makes room up to `length`, so that later writes neither grow the file nor run out of disk.
    fn reserve(&self, length: u64) -> io::Result<()>;
    fn truncate(&self, length: u64) -> io::Result<()>;
    fn len(&self) -> io::Result<u64>;
}

/// A folder of the file system. Files are for their owner only.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Volume for Folder {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.0)? {
            // A name that is not text is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn Media>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.0.join(name))?;
        Ok(Arc::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn Media>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.0.join(name))?;
        Ok(Arc::new(file))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.0.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }

    fn place(&self) -> String {
        self.0.display().to_string()
    }
}

impl Media for File {
    fn read(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.read_at(rest, at + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write(&self, data: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(data, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn reserve(&self, length: u64) -> io::Result<()> {
        let have = self.metadata()?.len();
        if have >= length {
            return Ok(());
        }
        match rustix::fs::fallocate(self, rustix::fs::FallocateFlags::empty(), have, length - have) {
            Ok(()) => Ok(()),
            // The file system cannot reserve: writes then grow the file, which is only slower.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}
