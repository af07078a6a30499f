//! A log that tests can read.

use outrigger_daemon::log::{Config, Format, Level, Log, Output};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// What a log has written.
#[derive(Clone)]
pub struct Lines {
    bytes: Arc<Mutex<Vec<u8>>>,
    log: Log,
}

/// A log of text lines from level debug on, and what it writes.
pub fn captured() -> (Log, Lines) {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let log = Log::open(Config {
        level: Level::Debug,
        format: Format::Text,
        output: Output::Writer(Box::new(Sink(Arc::clone(&bytes)))),
        app_id: Some("test".to_owned()),
        instance: "test".to_owned(),
        version: "test".to_owned(),
        scope: "test".to_owned(),
    })
    .expect("a log into memory opens");
    (log.clone(), Lines { bytes, log })
}

impl Lines {
    /// Everything written so far.
    pub fn text(&self) -> String {
        self.log.flush();
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
