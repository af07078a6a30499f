//! What the tests of this crate share.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use crate::log::{Config, Format, Level, Log, Output};

/// Lines that a log has written.
#[derive(Clone)]
pub(crate) struct Captured {
    bytes: Arc<Mutex<Vec<u8>>>,
    log: Log,
}

impl Captured {
    pub(crate) fn text(&self) -> String {
        self.log.flush();
        String::from_utf8(self.bytes.lock().unwrap().clone()).unwrap()
    }
}

/// A log of text lines at level info, and what it writes.
pub(crate) fn log() -> (Log, Captured) {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let log = Log::open(Config {
        level: Level::Info,
        format: Format::Text,
        output: Output::Writer(Box::new(Sink(Arc::clone(&bytes)))),
        app_id: None,
        instance: "test".to_owned(),
        version: "0".to_owned(),
        scope: "test".to_owned(),
    })
    .unwrap();
    (log.clone(), Captured { bytes, log })
}

struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs the other side of a test; the test awaits the handle or drops its runtime.
#[expect(clippy::disallowed_methods, reason = "a test is the owner of its tasks")]
pub(crate) fn spawn<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::spawn(future)
}
