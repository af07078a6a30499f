//! What a hub is opened with. Everything has a default but the home folder.

use crate::error::{Error, Result};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest path a unix socket address holds on Linux, without its final NUL.
const SOCKET_PATH: usize = 107;

#[derive(Debug, Clone)]
pub struct Config {
    /// The user's folder (`~/.outrigger`); the hub keeps everything in `hub/` below it.
    pub home: PathBuf,
    /// Where to listen; `None` is `hub/hub.sock` below home.
    pub socket: Option<PathBuf>,
    /// The hub ends when nobody was connected for this long; zero is never.
    pub idle_after: Duration,
    pub fsync: Fsync,
    /// A segment file is ended at this size. At least 64 KiB; one frame may exceed it.
    pub segment_bytes: u64,
    pub retention: Retention,
    pub limits: Limits,
    /// A delivery nobody settled is given to another member after this; a subscription may say otherwise.
    pub settle_timeout: Duration,
    /// A checkpoint is made when this much time has passed since the last one and something was written.
    pub checkpoint_after: Duration,
}

/// When an acknowledged publish or write is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsync {
    /// Before it is acknowledged. Survives loss of power.
    Always,
    /// At most this long after. Survives the end of the process at any time, but not loss of power.
    Interval(Duration),
}

/// What is kept. Messages that a group has not settled are only touched by `max_bytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Settled messages are kept for this long, so that a new group may begin with them …
    pub keep_age: Duration,
    /// … unless the log is larger than this.
    pub keep_bytes: u64,
    /// The hard limit: above it the oldest messages go, settled or not, which is logged and counted.
    pub max_bytes: u64,
    /// A group without members for this long is removed, and no longer holds messages back.
    pub group_expiry: Duration,
    /// How often these rules are applied.
    pub every: Duration,
}

/// Bounds. Beyond them a request is refused with a message that names the limit, or waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one message or value, metadata included.
    pub message_bytes: usize,
    pub topics: usize,
    pub groups_per_topic: usize,
    /// Unsettled messages of one group, and their bytes.
    pub group_messages: usize,
    pub group_bytes: usize,
    pub connections: u32,
    /// Bytes of requests that wait for the log; more wait at the client.
    pub queue_bytes: usize,
    /// Bytes of keys and values that wait in memory for a checkpoint; writes wait or fail beyond it.
    pub unwritten_bytes: usize,
}

impl Config {
    pub fn new(home: impl Into<PathBuf>) -> Self {
        Self {
            home: home.into(),
            socket: None,
            idle_after: Duration::from_secs(5 * 60),
            fsync: Fsync::Always,
            segment_bytes: 64 << 20,
            retention: Retention {
                keep_age: Duration::from_secs(60 * 60),
                keep_bytes: 256 << 20,
                max_bytes: 8 << 30,
                group_expiry: Duration::from_secs(7 * 24 * 60 * 60),
                every: Duration::from_secs(5),
            },
            limits: Limits {
                message_bytes: 32 << 20,
                topics: 10_000,
                groups_per_topic: 1_000,
                group_messages: 1_024,
                group_bytes: 16 << 20,
                connections: 4_096,
                queue_bytes: 64 << 20,
                unwritten_bytes: 64 << 20,
            },
            settle_timeout: Duration::from_secs(5 * 60),
            checkpoint_after: Duration::from_secs(60),
        }
    }

    /// The folder with everything the hub keeps.
    pub fn folder(&self) -> PathBuf {
        folder(&self.home)
    }

    /// Where this hub listens.
    ///
    /// # Errors
    /// When the path is too long for a socket address.
    pub fn socket(&self) -> Result<PathBuf> {
        match &self.socket {
            Some(path) => checked(path.clone()),
            None => socket(&self.home),
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        let wrong = |what: &str| Err(Error::Config(what.to_owned()));
        if self.segment_bytes < 64 << 10 {
            return wrong("the hub's segment size must be at least 64 KiB");
        }
        if self.retention.max_bytes < self.segment_bytes.saturating_mul(2) {
            return wrong("the hub's hard size limit must be at least two segments");
        }
        if self.limits.message_bytes == 0 || self.limits.message_bytes > 64 << 20 {
            return wrong("the hub's largest message must be between 1 byte and 64 MiB");
        }
        if self.limits.queue_bytes < self.limits.message_bytes * 2 {
            return wrong("the hub's queue must hold at least two of the largest messages");
        }
        if self.limits.group_messages == 0 {
            return wrong("the hub's groups must hold at least one message");
        }
        Ok(())
    }
}

/// The hub's folder below a home.
pub fn folder(home: &Path) -> PathBuf {
    home.join("hub")
}

/// Where the hub of a home listens, unless it was configured otherwise.
///
/// # Errors
/// When the path is too long for a socket address.
pub fn socket(home: &Path) -> Result<PathBuf> {
    checked(folder(home).join("hub.sock"))
}

fn checked(path: PathBuf) -> Result<PathBuf> {
    let length = path.as_os_str().len();
    if length > SOCKET_PATH {
        return Err(Error::SocketPath {
            path: path.display().to_string(),
            length,
            limit: SOCKET_PATH,
        });
    }
    Ok(path)
}
