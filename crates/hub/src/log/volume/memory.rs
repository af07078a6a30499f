//! A volume for tests: in memory, with a limited size, failing syncs, and crashes that lose or tear whatever was
//! not synced.

use super::{Media, Volume};
use rand::Rng;
use rand::RngExt;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

/// Unsynced data survives a crash page by page.
const PAGE: usize = 64;

#[derive(Default, Clone)]
pub(crate) struct Memory(Arc<Mutex<State>>);

#[derive(Default)]
pub(crate) struct State {
    pub(crate) files: BTreeMap<String, Arc<Mutex<File>>>,
    /// Bytes of all files together.
    pub(crate) limit: Option<usize>,
    pub(crate) fail_sync: bool,
}

#[derive(Default, Clone)]
pub(crate) struct File {
    pub(crate) data: Vec<u8>,
    synced: Vec<u8>,
}

struct Open {
    volume: Memory,
    file: Arc<Mutex<File>>,
}

impl Memory {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn edit(&self, name: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let file = self.state().files[name].clone();
        edit(&mut file.lock().unwrap().data);
    }

    pub(crate) fn data(&self, name: &str) -> Vec<u8> {
        self.state().files[name].lock().unwrap().data.clone()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.state().files.keys().cloned().collect()
    }

    /// A copy that shares nothing: what another process would find.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self::default();
        for (name, file) in &self.state().files {
            let file = file.lock().unwrap().clone();
            copy.state()
                .files
                .insert(name.clone(), Arc::new(Mutex::new(file)));
        }
        copy
    }

    /// What is left after loss of power: everything synced, and any of the pages that were not.
    pub(crate) fn crash(&self, random: &mut impl Rng) -> Self {
        let copy = self.copy();
        for file in copy.state().files.values() {
            let mut file = file.lock().unwrap();
            let mut left = file.synced.clone();
            let grown = random.random_bool(0.5);
            if grown && file.data.len() > left.len() {
                left.resize(file.data.len(), 0);
            }
            for (start, page) in file
                .data
                .chunks(PAGE)
                .enumerate()
                .map(|(n, page)| (n * PAGE, page))
            {
                if random.random_bool(0.5) && start + page.len() <= left.len() {
                    left[start..start + page.len()].copy_from_slice(page);
                }
            }
            file.data = left.clone();
            file.synced = left;
        }
        copy
    }

    fn used(&self) -> usize {
        self.state()
            .files
            .values()
            .map(|file| file.lock().unwrap().data.len())
            .sum()
    }
}

impl Volume for Memory {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn Media>> {
        let file = Arc::<Mutex<File>>::default();
        let old = self.state().files.insert(name.to_owned(), file.clone());
        assert!(old.is_none(), "{name} exists");
        Ok(Arc::new(Open {
            volume: self.clone(),
            file,
        }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn Media>> {
        let file = self
            .state()
            .files
            .get(name)
            .cloned()
            .ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(Open {
            volume: self.clone(),
            file,
        }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.state()
            .files
            .remove(name)
            .map(drop)
            .ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn place(&self) -> String {
        "memory".to_owned()
    }
}

impl Open {
    fn grow(&self, length: usize) -> io::Result<()> {
        let have = self.file.lock().unwrap().data.len();
        let limit = self.volume.state().limit;
        let more = length.saturating_sub(have);
        if more > 0 && limit.is_some_and(|limit| self.volume.used() + more > limit) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if more > 0 {
            self.file.lock().unwrap().data.resize(length, 0);
        }
        Ok(())
    }
}

impl Media for Open {
    fn read(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let file = self.file.lock().unwrap();
        let rest = file.data.get(at as usize..).unwrap_or(&[]);
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write(&self, data: &[u8], at: u64) -> io::Result<()> {
        let at = at as usize;
        self.grow(at + data.len())?;
        self.file.lock().unwrap().data[at..at + data.len()].copy_from_slice(data);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        if self.volume.state().fail_sync {
            return Err(io::Error::other("the disk is broken"));
        }
        let mut file = self.file.lock().unwrap();
        file.synced = file.data.clone();
        Ok(())
    }

    fn reserve(&self, length: u64) -> io::Result<()> {
        // Steps of a megabyte would make tests slow; a little more than needed shows the zeros all the same.
        let have = self.file.lock().unwrap().data.len() as u64;
        self.grow(length.min(have + 4096) as usize)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let mut file = self.file.lock().unwrap();
        file.data.truncate(length as usize);
        file.synced.truncate(length as usize);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.lock().unwrap().data.len() as u64)
    }
}
