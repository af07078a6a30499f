//! Checkpoints: a thread that writes what the log has into the engine, so that the log may be cut off before it.
//!
//! A checkpoint that fails (a full disk, mostly) is repeated every second until it succeeds; meanwhile everything
//! is still in the log and in memory, and writes go on until `unwritten_bytes` is reached.

use crate::health::Health;
use crate::kv::{Kv, Layer};
use outrigger_daemon::log::Log;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

const RETRY: Duration = Duration::from_secs(1);
/// Room that must be free beside twice the layer, so that the engine does not meet the end of the disk.
const SPARE: u64 = 8 << 20;

pub(super) struct Job {
    pub(super) layer: Arc<Layer>,
    pub(super) bytes: usize,
    pub(super) sequence: u64,
    pub(super) catalog: Vec<u8>,
}

/// The commit thread's end.
pub(super) struct Checkpointer {
    jobs: Option<SyncSender<Job>>,
    done: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// `sequence` is that of the checkpoint the engine has.
    pub(super) fn start(kv: Arc<Kv>, health: Arc<Health>, log: Log, sequence: u64) -> std::io::Result<Self> {
        let (jobs, queue) = sync_channel::<Job>(1);
        let done = Arc::new(AtomicU64::new(sequence));
        let (said, worker) = (done.clone(), Worker { kv, health, log });
        let thread = std::thread::Builder::new()
            .name("hub-checkpoint".to_owned())
            .spawn(move || worker.run(&queue, &said))?;
        Ok(Self {
            jobs: Some(jobs),
            done,
            thread: Some(thread),
        })
    }

    /// Every record below this is in the engine, durably.
    pub(super) fn done(&self) -> u64 {
        self.done.load(Ordering::Acquire)
    }

    /// Only one job may be under way: the caller asks the key/value layers for that.
    pub(super) fn begin(&self, job: Job) -> bool {
        self.jobs.as_ref().is_some_and(|jobs| jobs.try_send(job).is_ok())
    }

    /// Whether the thread has ended although nobody told it to: it panicked.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the attempt that is under way and ends the thread. Answers whether it ended well.
    pub(super) fn finish(&mut self) -> bool {
        self.jobs = None;
        self.thread.take().is_none_or(|thread| thread.join().is_ok())
    }
}

struct Worker {
    kv: Arc<Kv>,
    health: Arc<Health>,
    log: Log,
}

impl Worker {
    fn run(&self, queue: &Receiver<Job>, done: &AtomicU64) {
        while let Ok(job) = queue.recv() {
            while let Err(cause) = self.attempt(&job) {
                if self.health.engine.set(&cause) {
                    self.log.error(format_args!(
                        "a checkpoint failed and is repeated every second: {cause}"
                    ));
                }
                // Nobody sends a second job meanwhile: this waits, and learns when the hub ends.
                if let Err(RecvTimeoutError::Disconnected) = queue.recv_timeout(RETRY) {
                    self.log
                        .warn("ending without a checkpoint; the next start reads the log from the last one");
                    return;
                }
            }
            self.kv.unseal();
            done.store(job.sequence, Ordering::Release);
            if self.health.engine.clear() {
                self.log.info("checkpoints work again");
            }
        }
    }

    fn attempt(&self, job: &Job) -> Result<(), String> {
        let engine = self.kv.engine();
        let need = (job.bytes as u64).saturating_mul(2).saturating_add(SPARE);
        match engine.free() {
            Ok(free) if free < need => {
                return Err(format!(
                    "no room on the disk: {free} bytes are free, {need} are wanted"
                ));
            }
            Ok(_) => {}
            Err(error) => return Err(format!("cannot ask for free disk space: {error}")),
        }
        engine
            .flush(&job.layer, job.sequence, &job.catalog, crate::clock::wall())
            .map_err(|error| error.to_string())
    }
}
