//! Ports for processes that are killed and started again on the same port.
//!
//! They lie below the range from which the kernel takes ports for outgoing connections, so that nobody gets one by
//! accident while its process is down. Tests that run at the same time do not get the same port: a lock on a file
//! says that it is taken, for as long as the [`Port`] lives.

use rustix::fs::FlockOperation;
use std::fs::{File, OpenOptions};
use std::net::TcpListener;

const FIRST: u16 = 20_000;
const LAST: u16 = 32_000;

/// A port of the loopback interface that is ours.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// # Panics
    /// When none is free.
    pub fn take() -> Self {
        let folder = std::env::temp_dir().join("outrigger-test-ports");
        std::fs::create_dir_all(&folder).expect("a folder for locks");
        // Processes begin at different places.
        let offset = u16::try_from(std::process::id() % u32::from(LAST - FIRST)).expect("a remainder");
        (FIRST + offset..LAST)
            .chain(FIRST..FIRST + offset)
            .find_map(|number| {
                let lock = OpenOptions::new()
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(folder.join(number.to_string()))
                    .ok()?;
                rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
                TcpListener::bind(("127.0.0.1", number)).ok()?;
                Some(Self { number, _lock: lock })
            })
            .expect("a free port")
    }

    pub fn number(&self) -> u16 {
        self.number
    }
}
