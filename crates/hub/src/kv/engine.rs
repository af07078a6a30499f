//! The sorted store below the key/value layers: one redb file that is written at checkpoints only.
//!
//! INVARIANT: a checkpoint is one engine transaction, and it names the log sequence number up to which it is
//! complete. The engine is therefore always some earlier, consistent state; the log holds the rest. It needs
//! no sync per write and is never ahead of a durable log.
//!
//! After an I/O error the engine's library refuses all work until the file is opened anew; [`Engine::flush`]
//! does that, so that a full disk heals without a restart.

use super::{Item, Key, Layer};
use crate::error::{Error, Result};
use bytes::{Buf, BufMut, Bytes};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// Key (space, NUL, key) to version, expiry, content type and value.
const ITEMS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("items");
/// Expiry (big-endian) and key. May name items that were since written again.
const EXPIRY: TableDefinition<&[u8], ()> = TableDefinition::new("expiry");
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const CHECKPOINT: &str = "checkpoint";
const CATALOG: &str = "catalog";

/// Memory for pages, bytes.
const CACHE: usize = 16 << 20;
/// Expired items removed by one checkpoint; more wait for the next.
const SWEEP: usize = 20_000;

pub(crate) struct Engine {
    path: PathBuf,
    /// `None` only while a reopen failed.
    database: RwLock<Option<Arc<Database>>>,
}

/// What the last checkpoint said.
pub(crate) struct Checkpoint {
    /// Every record below this sequence number is in the engine and the catalog.
    pub(crate) sequence: u64,
    pub(crate) catalog: Bytes,
}

impl Engine {
    /// Opens or creates the file. `None` when there was no checkpoint yet.
    pub(crate) fn open(path: &Path) -> Result<(Self, Option<Checkpoint>)> {
        let engine = Self {
            path: path.to_owned(),
            database: RwLock::new(None),
        };
        let database = engine.reopen().map_err(|error| engine.error(error))?;
        let checkpoint = read_checkpoint(&database).map_err(|error| engine.error(error))?;
        Ok((engine, checkpoint))
    }

    pub(crate) fn bytes(&self) -> u64 {
        // For the status only: a file that cannot be asked for its size counts as empty.
        std::fs::metadata(&self.path).map_or(0, |found| found.len())
    }

    /// Bytes this user may still write where the file is.
    pub(crate) fn free(&self) -> std::io::Result<u64> {
        let folder = self.path.parent().unwrap_or(&self.path);
        let found = rustix::fs::statvfs(folder)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Item>> {
        self.with(|database| {
            let items = database.begin_read()?.open_table(ITEMS)?;
            let found = items.get(key)?;
            Ok(found.and_then(|found| decode(found.value())))
        })
    }

    /// Calls `each` with keys from `from` on, in order, and when they expire, until it answers `false`.
    pub(crate) fn walk(&self, from: &[u8], each: &mut dyn FnMut(&[u8], u64) -> bool) -> Result<()> {
        self.with(|database| {
            let items = database.begin_read()?.open_table(ITEMS)?;
            for entry in items.range::<&[u8]>(from..)? {
                let (key, value) = entry?;
                let expires = decode(value.value()).map_or(0, |item| item.expires);
                if !each(key.value(), expires) {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Writes a layer and a catalog, both complete up to `sequence`, and removes what has expired.
    pub(crate) fn flush(&self, layer: &Layer, sequence: u64, catalog: &[u8], now: u64) -> Result<()> {
        let result = self.with(|database| write(database, layer, sequence, catalog, now));
        if result.is_err() {
            // Whatever it was, the next attempt begins with an open file; if this fails too, that says so.
            self.reopen().map_err(|error| self.error(error))?;
        }
        result
    }

    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T> {
        let open = self
            .database
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let database = match open {
            Some(database) => database,
            None => self.reopen().map_err(|error| self.error(error))?,
        };
        work(&database).map_err(|error| self.error(error))
    }

    fn reopen(&self) -> Result<Arc<Database>, redb::Error> {
        let mut slot = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // Dropping the old one first: the file is locked by whoever has it open. A reader that still holds it
        // makes this fail, and the next call tries again.
        *slot = None;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.path)?;
        let database = Database::builder().set_cache_size(CACHE).create_file(file)?;
        // Only a new file needs a write: an existing one must open on a full disk as well.
        if database.begin_read()?.open_table(META).is_err() {
            let write = database.begin_write()?;
            write.open_table(ITEMS)?;
            write.open_table(EXPIRY)?;
            write.open_table(META)?;
            write.commit()?;
        }
        let database = Arc::new(database);
        *slot = Some(database.clone());
        Ok(database)
    }

    fn error(&self, source: redb::Error) -> Error {
        Error::Engine {
            path: self.path.display().to_string(),
            source,
        }
    }
}

fn read_checkpoint(database: &Database) -> Result<Option<Checkpoint>, redb::Error> {
    let meta = database.begin_read()?.open_table(META)?;
    let sequence = meta
        .get(CHECKPOINT)?
        .and_then(|found| found.value().try_into().ok().map(u64::from_le_bytes));
    let catalog = meta
        .get(CATALOG)?
        .map(|found| Bytes::copy_from_slice(found.value()));
    Ok(sequence
        .zip(catalog)
        .map(|(sequence, catalog)| Checkpoint { sequence, catalog }))
}

fn write(
    database: &Database,
    layer: &Layer,
    sequence: u64,
    catalog: &[u8],
    now: u64,
) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    // Costs a little per checkpoint, and makes opening after a kill independent of the file's size.
    transaction.set_quick_repair(true);
    {
        let mut items = transaction.open_table(ITEMS)?;
        let mut expiry = transaction.open_table(EXPIRY)?;
        let mut value = Vec::new();
        for (key, item) in layer {
            match item {
                Some(item) if !item.expired(now) => {
                    value.clear();
                    encode(item, &mut value);
                    items.insert(key.as_ref(), value.as_slice())?;
                    if item.expires > 0 {
                        expiry.insert(due(item.expires, key).as_slice(), ())?;
                    }
                }
                _ => {
                    items.remove(key.as_ref())?;
                }
            }
        }
        let until = due(now.saturating_add(1), &Key::new());
        let mut overdue = Vec::new();
        for entry in expiry.range::<&[u8]>(..until.as_slice())?.take(SWEEP) {
            overdue.push(entry?.0.value().to_vec());
        }
        for row in overdue {
            expiry.remove(row.as_slice())?;
            let (mut when, key) = row.split_at(8);
            let same = items
                .get(key)?
                .and_then(|found| decode(found.value()))
                .is_some_and(|item| item.expires == when.get_u64());
            if same {
                items.remove(key)?;
            }
        }
        let mut meta = transaction.open_table(META)?;
        meta.insert(CHECKPOINT, sequence.to_le_bytes().as_slice())?;
        meta.insert(CATALOG, catalog)?;
    }
    transaction.commit()?;
    Ok(())
}

fn due(expires: u64, key: &Key) -> Vec<u8> {
    let mut row = Vec::with_capacity(8 + key.len());
    row.put_u64(expires);
    row.put_slice(key);
    row
}

fn encode(item: &Item, out: &mut Vec<u8>) {
    out.put_u64_le(item.version);
    out.put_u64_le(item.expires);
    crate::log::record::put_blob(out, item.content_type.as_bytes());
    out.put_slice(&item.value);
}

/// `None` for bytes that this program did not write.
fn decode(from: &[u8]) -> Option<Item> {
    let mut from = Bytes::copy_from_slice(from);
    Some(Item {
        version: from.try_get_u64_le().ok()?,
        expires: from.try_get_u64_le().ok()?,
        content_type: crate::log::record::take_text(&mut from)?,
        value: from,
    })
}
