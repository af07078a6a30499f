//! `state.memcached`: values as they are, under their keys.
//!
//! COMPAT(components-contrib state/memcached): layout, the host of a key (CRC-32 of the key modulo the number of hosts), and
//! that entity tags and transactions do not exist. A lifetime of 30 days and more is written as a date. Unlike there, a value
//! lives at least as long as it was asked to: Memcached counts whole seconds, so the last one may be shorter.

use crate::config::Config;
use crate::connection::{self, Handle, Lost};
use crate::protocol::{Answer, Request};
use outrigger_component::Component;
use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::metadata::Metadata;
use outrigger_component::setup::Setup;
use outrigger_component::state::{Delete, Features, Get, Item, Set, StateStore, Ttl, ttl};
use outrigger_daemon::drain;
use outrigger_daemon::tasks::{OnExit, Tasks};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

const LONGEST_KEY: usize = 250;
/// From here on, an expiry is a date.
const THIRTY_DAYS: u32 = 60 * 60 * 24 * 30;

pub(crate) struct Store {
    /// In the order in which they were written, which decides who has which key.
    hosts: Vec<Host>,
    /// Owns the connections.
    _tasks: Tasks,
}

struct Host {
    name: String,
    connections: Vec<Handle>,
    turn: AtomicUsize,
}

impl Store {
    /// Connects to all hosts.
    ///
    /// # Errors
    /// `Invalid` for metadata, otherwise what kept a host from answering.
    pub(crate) async fn connect(setup: Setup<Config>) -> Result<Self> {
        let Setup { config, log, .. } = setup;
        let (timeout, count) = (config.timeout()?, config.connections());
        let tasks = Tasks::new(&log, drain::channel().0);
        let mut hosts = Vec::new();
        for name in config.hosts()? {
            let mut connections = Vec::with_capacity(count);
            for _ in 0..count {
                let (handle, run) = connection::new(name.clone(), timeout);
                tasks.spawn("memcached connection", OnExit::Log, run);
                connections.push(handle);
            }
            hosts.push(Host {
                name,
                connections,
                turn: AtomicUsize::new(0),
            });
        }
        let this = Self { hosts, _tasks: tasks };
        this.ping().await?;
        Ok(this)
    }

    fn host(&self, key: &str) -> Result<&Host> {
        legal(key)?;
        let index = match self.hosts.len() {
            1 => 0,
            several => usize::try_from(checksum(key.as_bytes())).unwrap_or_default() % several,
        };
        self.hosts
            .get(index)
            .ok_or_else(|| Error::internal("memcached: no hosts"))
    }
}

impl Host {
    /// Asks, once more if the connection was lost meanwhile: all requests may be done twice.
    async fn ask(&self, what: &str, request: Request) -> Result<Answer> {
        let answer = match self.connection()?.ask(request.clone()).await {
            Err(Lost::Broken(_)) => self.connection()?.ask(request).await,
            answer => answer,
        };
        match answer {
            Ok(Answer::Refused(reason)) => Err(refused(what, &reason)),
            Ok(answer) => Ok(answer),
            Err(lost) => {
                let kind = match lost {
                    Lost::Timeout(_) => Kind::Timeout,
                    Lost::Garbage(_) => Kind::Internal,
                    Lost::NoConnection(_) | Lost::Broken(_) | Lost::Closed => Kind::Unavailable,
                };
                Err(Error::caused(
                    kind,
                    &format!("{what}: memcached at {}", self.name),
                    lost,
                ))
            }
        }
    }

    fn connection(&self) -> Result<&Handle> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.connections
            .get(turn % self.connections.len().max(1))
            .ok_or_else(|| Error::internal("memcached: no connections"))
    }
}

#[async_trait::async_trait]
impl Component for Store {
    async fn ping(&self) -> Result<()> {
        for host in &self.hosts {
            host.ask("memcached store", Request::Version).await?;
        }
        Ok(())
    }
}

#[async_trait::async_trait]
impl StateStore for Store {
    fn features(&self) -> Features {
        Features {
            ttl: true,
            ..Features::default()
        }
    }

    async fn get(&self, get: &Get) -> Result<Option<Item>> {
        let key = get.key.clone();
        let what = format!("failed to get key {key}");
        match self.host(&key)?.ask(&what, Request::Get { key }).await? {
            Answer::Value(value) => Ok(Some(Item {
                value,
                ..Item::default()
            })),
            Answer::Absent => Ok(None),
            _ => Err(Error::internal(format!("{what}: unexpected answer"))),
        }
    }

    async fn set(&self, set: Set) -> Result<()> {
        let host = self.host(&set.key)?;
        let what = format!("failed to set key {}", set.key);
        let request = Request::Set {
            expires: expires(&set.metadata)?,
            key: set.key,
            value: set.value,
        };
        match host.ask(&what, request).await? {
            Answer::Done => Ok(()),
            _ => Err(Error::internal(format!("{what}: unexpected answer"))),
        }
    }

    async fn delete(&self, delete: Delete) -> Result<()> {
        let key = delete.key;
        let what = format!("failed to delete key {key}");
        match self.host(&key)?.ask(&what, Request::Delete { key }).await? {
            Answer::Done | Answer::Absent => Ok(()),
            _ => Err(Error::internal(format!("{what}: unexpected answer"))),
        }
    }
}

/// # Errors
/// `Invalid` for keys that Memcached would take for something else.
fn legal(key: &str) -> Result<()> {
    let refused = |why: String| {
        Err(Error::invalid(format!(
            "memcached cannot keep key {key:?}: {why}"
        )))
    };
    if key.is_empty() {
        return refused("it is empty".to_owned());
    }
    if key.len() > LONGEST_KEY {
        let length = key.len();
        return refused(format!(
            "it has {length} bytes with its prefix, at most {LONGEST_KEY} are possible"
        ));
    }
    if key.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return refused("spaces and control characters are not possible".to_owned());
    }
    Ok(())
}

/// As [`Request::Set`] wants it.
fn expires(metadata: &Metadata) -> Result<u32> {
    let seconds = match ttl(metadata)? {
        Ttl::Unset | Ttl::Never => return Ok(0),
        Ttl::Seconds(seconds) => seconds,
    };
    let lasting = seconds.saturating_add(1);
    if lasting < THIRTY_DAYS {
        return Ok(lasting);
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let date = now.saturating_add(u64::from(seconds));
    // Memcached reads a number of 32 bits with a sign.
    i32::try_from(date)
        .ok()
        .and_then(|date| u32::try_from(date).ok())
        .ok_or_else(|| {
            Error::invalid(format!(
                "metadata ttlInSeconds is out of range: memcached keeps nothing for {seconds} seconds"
            ))
        })
}

fn refused(what: &str, reason: &str) -> Error {
    let message = format!("{what}: {reason}");
    if reason.contains("too large") {
        let hint = "the value is larger than the server allows (its option -I, 1 MiB unless set)";
        return Error::new(Kind::Exhausted, format!("{message}: {hint}"));
    }
    if reason.starts_with("SERVER_ERROR out of memory") {
        let hint = "the server may not forget (its option -M) and needs more memory (-m)";
        return Error::new(Kind::Exhausted, format!("{message}: {hint}"));
    }
    Error::internal(message)
}

/// CRC-32 as of Ethernet and zip.
fn checksum(bytes: &[u8]) -> u32 {
    let sum = bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            if sum & 1 == 0 {
                sum >> 1
            } else {
                (sum >> 1) ^ 0xedb8_8320
            }
        })
    });
    !sum
}

#[cfg(test)]
mod tests {
    use super::{checksum, expires, legal};

    #[test]
    fn checksums() {
        for (text, expected) in [("", 0), ("123456789", 0xcbf4_3926), ("a", 0xe8b7_be43)] {
            assert_eq!(checksum(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn keys() {
        for (key, expected) in [
            ("app||\u{e9}", true),
            (&"k".repeat(250), true),
            (&"k".repeat(251), false),
            ("", false),
            ("a b", false),
            ("a\nb", false),
            ("a\u{7f}", false),
        ] {
            assert_eq!(legal(key).is_ok(), expected, "{key:?}");
        }
    }

    #[test]
    fn lifetimes() {
        let of = |text: &str| expires(&[("ttlInSeconds", text)].into_iter().collect());
        for (text, expected) in [("", 0), ("-1", 0), ("0", 0), ("1", 2), ("2591998", 2_591_999)] {
            assert_eq!(of(text).unwrap(), expected, "{text}");
        }
        assert!(of("2592000").unwrap() > 1_700_000_000, "a date");
        for text in ["4294967295", "soon"] {
            assert!(of(text).is_err(), "{text}");
        }
    }
}
