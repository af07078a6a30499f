//! Moving what is in the write-ahead log into the file, beside the writer instead of within its commits.
//!
//! SQLite would do it within every commit that finds 1,000 pages in the log, and whoever waits for that commit waits for it
//! too. Here a thread of its own does it whenever the writer has done as much; the log begins anew once everything in
//! it is in the file. While writes never pause that moment never comes by itself, so the writer makes it when the
//! log has grown to [`LARGE`]: little is left to move then.

use crate::worker::{failed, thread};
use outrigger_component::error::Result;
use rusqlite::Connection;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Writes after which the log is moved; each is about two pages.
const OFTEN: usize = 1000;
/// Pages in the log at which the writer itself moves what is left, so that the log begins anew.
const LARGE: i64 = 16_384;

pub(super) struct Checkpoints {
    /// Dropped to end the thread; before `thread`.
    bell: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    /// Pages in the log when it was moved last.
    pages: Arc<AtomicI64>,
    writes: usize,
}

impl Checkpoints {
    /// `writer` commits from here on without moving anything; `beside` is another connection to the same file.
    pub(super) fn start(writer: &Connection, beside: Connection) -> Result<Self> {
        writer
            .pragma_update(None, "wal_autocheckpoint", 0)
            .map_err(failed("cannot set how often the log is moved"))?;
        let (bell, rings) = sync_channel(1);
        let pages = Arc::new(AtomicI64::new(0));
        let seen = Arc::clone(&pages);
        Ok(Self {
            bell: Some(bell),
            thread: Some(thread("sqlite-checkpoint", move || run(&beside, &rings, &seen))?),
            pages,
            writes: 0,
        })
    }

    /// The writer has committed that many writes and nobody's answer is waiting.
    pub(super) fn committed(&mut self, writer: &Connection, writes: usize) {
        if self.pages.load(Ordering::Relaxed) > LARGE {
            self.pages.store(0, Ordering::Relaxed);
            self.writes = 0;
            move_log(writer);
            return;
        }
        self.writes += writes;
        if self.writes >= OFTEN
            && let Some(bell) = &self.bell
        {
            self.writes = 0;
            // It has not begun with the last one: then it will see these writes as well.
            let _rung = bell.try_send(());
        }
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.bell = None;
        if let Some(thread) = self.thread.take() {
            // Had it panicked, the last connection to close would do what is left.
            drop(thread.join());
        }
    }
}

fn run(connection: &Connection, rings: &Receiver<()>, pages: &AtomicI64) {
    while rings.recv().is_ok() {
        if let Some(count) = move_log(connection) {
            pages.store(count, Ordering::Relaxed);
        }
    }
}

/// Pages that are in the log; `None` when it could not be moved now: the next time will do it.
fn move_log(connection: &Connection) -> Option<i64> {
    connection
        .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))
        .ok()
}
