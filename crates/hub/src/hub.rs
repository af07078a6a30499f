//! Opening a hub (recovery) and serving it until it ends.

#[cfg(test)]
mod tests;

use crate::broker::Broker;
use crate::catalog::Catalog;
use crate::clock;
use crate::commit::writer::{Parts, Writer};
use crate::commit::{self, Handle};
use crate::config::{Config, Fsync};
use crate::error::{Error, Result};
use crate::folder::{self, Lock};
use crate::health::Health;
use crate::kv::engine::{Checkpoint, Engine};
use crate::kv::{Item, Kv};
use crate::log::frame::Frame;
use crate::log::record::{Change, Malformed, Raw, Record};
use crate::log::segment::Segment;
use crate::log::volume::{Folder, Volume};
use crate::log::{Log, Segments};
use crate::names::Names;
use crate::server;
use crate::topics::Topics;
use futures::future::BoxFuture;
use outrigger_daemon::drain;
use outrigger_daemon::tasks::{OnExit, Tasks};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long members and tasks may take to end.
const ENDING: Duration = Duration::from_secs(5);

/// An open hub: the folder is locked, the state recovered, the commit thread at work. Dropping it without
/// [`Hub::serve`] loses nothing, but leaves the last checkpoint to the next start.
pub struct Hub {
    config: Config,
    log: outrigger_daemon::log::Log,
    store: Store,
}

/// The state of a hub and the thread that changes it.
pub(crate) struct Store {
    pub(crate) commit: Handle,
    pub(crate) kv: Arc<Kv>,
    pub(crate) topics: Arc<Topics>,
    pub(crate) segments: Arc<Segments>,
    pub(crate) health: Arc<Health>,
    /// Ends when the last handle is dropped. It holds the folder's lock.
    pub(crate) writer: JoinHandle<()>,
    /// Closed when it has ended, however.
    pub(crate) writing: oneshot::Receiver<()>,
}

/// Why a hub ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Somebody asked for it, by [`Control`](outrigger_proto::hub::v1::control_server::Control) or a signal.
    Asked,
    /// Nobody was connected for [`Config::idle_after`].
    Idle,
    /// A part that is needed ended by itself; the log says which.
    Failed,
}

impl Hub {
    /// Locks the folder and recovers the state. Blocks: reads the log from the oldest segment on.
    ///
    /// # Errors
    /// Another hub has the folder, it cannot be read or written, or something durable in it is damaged.
    pub fn open(config: Config, log: outrigger_daemon::log::Log) -> Result<Self> {
        config.check()?;
        let folder = config.folder();
        let lock = folder::lock(&folder)?;
        let logs = folder.join("log");
        folder::create(&logs)?;
        let volume = Arc::new(Folder(logs));
        let store = open_store(&config, &log, volume, &folder.join("kv.redb"), Some(lock))?;
        Ok(Self { config, log, store })
    }

    /// Listens and serves until `stop` drains, somebody asks the hub to end, or nobody was connected for long.
    /// Then lets members go, has cursors and a checkpoint written, and removes the socket.
    ///
    /// # Errors
    /// The socket cannot be made, or somebody else listens on it.
    ///
    /// Boxed and unnamed, or whoever calls this would compile the whole hub again.
    pub fn serve(self, stop: drain::Watch) -> BoxFuture<'static, Result<Ended>> {
        Box::pin(self.live(stop))
    }

    async fn live(self, stop: drain::Watch) -> Result<Ended> {
        let Self { config, log, store } = self;
        let Store {
            commit,
            kv,
            topics,
            segments,
            health,
            writer,
            writing,
        } = store;
        let door = server::door::Door::bind(&config.socket()?).await?;
        let (doors, doors_watch) = drain::channel();
        let (work, work_watch) = drain::channel();
        let (end, end_watch) = drain::channel();
        let tasks = Tasks::new(&log, end.clone());
        let idle = door.idle(config.idle_after);
        let broker = Arc::new(Broker::new(crate::broker::Parts {
            config: config.clone(),
            commit,
            kv,
            topics,
            segments,
            health,
            names: Names::new(),
            log: log.clone(),
            spawner: tasks.spawner(),
            doors: doors.clone(),
            work: work_watch,
            end: end.clone(),
            connections: door.connections(),
        }));
        let path = door.path().to_owned();
        let serving = server::serve(door, broker.clone(), doors_watch, tasks.spawner(), log.clone());
        tasks.spawn("hub server", OnExit::Shutdown, serving);
        log.info(format_args!(
            "hub is ready on {}, keeps its data in {}, {}; it serves this machine only",
            path.display(),
            config.folder().display(),
            describe(config.fsync)
        ));
        let ended = tokio::select! {
            () = stop.draining() => Ended::Asked,
            () = end_watch.draining() => if tasks.casualty().is_some() { Ended::Failed } else { Ended::Asked },
            () = idle => Ended::Idle,
            _ = writing => Ended::Failed,
        };
        log.info(match ended {
            Ended::Asked => "hub is ending: asked to",
            Ended::Idle => "hub is ending: nobody is connected",
            Ended::Failed => "hub is ending: a part of it failed",
        });
        // First nobody new and no request any more, then the cursors, then the log and its checkpoint.
        end.fire();
        doors.fire();
        if tokio::time::timeout(ENDING, doors.drained()).await.is_err() {
            log.warn("some connections did not end in time and are cut");
        }
        work.fire();
        if let Err(unfinished) = tasks.join(ENDING).await {
            log.warn(&unfinished);
        }
        drop(tasks);
        drop(broker);
        // Before the writer gives the folder back: then the name may be another hub's.
        remove_socket(&path, &log);
        match tokio::task::spawn_blocking(move || writer.join()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => {
                log.error("the commit thread panicked; the next start recovers from the log")
            }
        }
        remove_socket(&path, &log);
        log.info("hub has ended");
        Ok(ended)
    }
}

fn remove_socket(path: &Path, log: &outrigger_daemon::log::Log) {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            log.warn(format_args!("cannot remove {}: {error}", path.display()));
        }
        _ => {}
    }
}

fn describe(fsync: Fsync) -> String {
    match fsync {
        Fsync::Always => "acknowledges what is on disk".to_owned(),
        Fsync::Interval(interval) => format!("syncs to disk every {interval:?}, after acknowledging"),
    }
}

/// Recovers the state and starts the commit thread, which keeps the lock until it ends.
pub(crate) fn open_store(
    config: &Config,
    log: &outrigger_daemon::log::Log,
    volume: Arc<dyn Volume>,
    engine: &Path,
    lock: Option<Lock>,
) -> Result<Store> {
    let (engine, checkpoint) = Engine::open(engine)?;
    let mut recovery = Recovery::new(config, engine, checkpoint)?;
    let fresh = RandomState::new().build_hasher().finish();
    let (opened, torn) = Log::open(
        volume,
        config.segment_bytes,
        fresh,
        clock::wall(),
        &mut |segment, frame| recovery.frame(segment, frame),
    )?;
    if let Some(torn) = torn {
        log.warn(format_args!(
            "log segment {} ended in {} bytes at byte {} that were never acknowledged as durable (the hub or the machine \
             stopped while writing): cut off",
            torn.segment, torn.bytes, torn.at
        ));
    }
    recovery.check(&opened)?;
    let Recovery {
        catalog,
        topics,
        kv,
        checkpoint,
        ..
    } = recovery;
    let health = Arc::new(Health::default());
    let segments = opened.segments().clone();
    let (commit, queue) = commit::queue(config.limits.queue_bytes);
    let writer = Writer::new(Parts {
        log: opened,
        kv: kv.clone(),
        catalog,
        topics: topics.clone(),
        config: config.clone(),
        health: health.clone(),
        output: log.clone(),
        checkpoint,
    });
    let (ends, writing) = oneshot::channel();
    let thread = writer.and_then(|writer| {
        let run = move || {
            // Dropped last, also by a panic.
            let _held: (oneshot::Sender<()>, Option<Lock>) = (ends, lock);
            writer.run(&queue);
        };
        std::thread::Builder::new()
            .name("hub-commit".to_owned())
            .spawn(run)
    });
    let writer = thread.map_err(|source| Error::io("cannot start a thread for", "the hub's log", source))?;
    Ok(Store {
        commit,
        kv,
        topics,
        segments,
        health,
        writer,
        writing,
    })
}

/// Builds the state from the last checkpoint and the log after it.
struct Recovery {
    home: String,
    catalog: Catalog,
    topics: Arc<Topics>,
    kv: Arc<Kv>,
    /// Sequence number from which on the log is applied.
    checkpoint: u64,
    first: Option<u64>,
}

impl Recovery {
    fn new(config: &Config, engine: Engine, checkpoint: Option<Checkpoint>) -> Result<Self> {
        let home = config.folder().display().to_string();
        let (sequence, catalog) = match checkpoint {
            None => (0, Catalog::default()),
            Some(found) => {
                let catalog = Catalog::decode(found.catalog).ok_or_else(|| Error::Mismatch {
                    home: home.clone(),
                    what: "the list of topics and groups cannot be read; a newer program may have written it"
                        .to_owned(),
                })?;
                (found.sequence, catalog)
            }
        };
        let topics = Topics::default();
        for (id, topic) in &catalog.topics {
            topics.obtain(*id, &topic.name, topic.next);
        }
        Ok(Self {
            home,
            catalog,
            topics: Arc::new(topics),
            kv: Arc::new(Kv::new(engine)),
            checkpoint: sequence,
            first: None,
        })
    }

    fn frame(&mut self, segment: &Arc<Segment>, frame: &Frame) -> Result<()> {
        self.first.get_or_insert(frame.header.sequence);
        let malformed = |error: Malformed| Error::Damaged {
            path: segment.name.clone(),
            at: frame.at,
            what: error.to_string(),
        };
        let mut payload = frame.payload.clone();
        let mut sequence = frame.header.sequence;
        while let Some(raw) = Raw::next(&mut payload).map_err(malformed)? {
            if let Some((topic, offset)) = raw.message() {
                // Also below the checkpoint: the bytes are here and nowhere else.
                if let Some(topic) = self.topics.get(topic) {
                    topic.found(segment.base, frame.at, offset);
                }
                self.catalog.found(topic, offset);
            } else if sequence >= self.checkpoint {
                self.record(frame, sequence, raw.decode().map_err(malformed)?);
            }
            sequence += 1;
        }
        Ok(())
    }

    fn record(&mut self, frame: &Frame, sequence: u64, record: Record) {
        self.catalog.apply(&record, frame.header.written);
        match record {
            Record::Topic { id, name } => {
                self.topics.obtain(id, &name, 1);
            }
            Record::Write(changes) => self.kv.put(changes.into_iter().map(|change| match change {
                Change::Put {
                    key,
                    value,
                    content_type,
                    expires,
                } => {
                    let item = Item {
                        version: sequence,
                        expires,
                        content_type,
                        // Slices would keep whole windows of the log in memory.
                        value: bytes::Bytes::copy_from_slice(&value),
                    };
                    (bytes::Bytes::copy_from_slice(&key), Some(item))
                }
                Change::Delete { key } => (bytes::Bytes::copy_from_slice(&key), None),
            })),
            Record::Message(_) | Record::Group { .. } | Record::Cursor { .. } | Record::GroupGone { .. } => {}
        }
    }

    /// The log must reach from the checkpoint or before to the checkpoint or beyond.
    fn check(&self, log: &Log) -> Result<()> {
        let mismatch = |what: String| {
            Err(Error::Mismatch {
                home: self.home.clone(),
                what,
            })
        };
        let checkpoint = self.checkpoint;
        let begins = self.first.unwrap_or_else(|| log.next());
        if begins > checkpoint {
            return mismatch(format!(
                "the log begins with record {begins}, the key/value file ends with record {checkpoint}"
            ));
        }
        if log.next() < checkpoint {
            return mismatch(format!(
                "the log ends with record {}, the key/value file with record {checkpoint}",
                log.next()
            ));
        }
        Ok(())
    }
}
