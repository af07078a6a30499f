//! The thread between callers and the output.
//!
//! Callers append rendered lines to one bounded buffer under a short lock; the thread takes the whole buffer and
//! writes it in one system call, at once. Under load lines gather while a write is under way, so that the number
//! of system calls falls just when it matters; when idle a line is out after one wake-up.
//!
//! INVARIANT: bytes leave in the order they were appended; a caller waits only while `LIMIT` bytes are pending.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Bytes that may wait for the output. About five thousand lines.
const LIMIT: usize = 1 << 20;
/// Pause before trying again where the output is non-blocking and full.
const RETRY: Duration = Duration::from_millis(5);

pub(super) struct Writer {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

struct Queue {
    state: Mutex<State>,
    /// Signalled to the thread: bytes are pending, or the writer is closing.
    pending: Condvar,
    /// Signalled to callers: the thread has taken or has written the pending bytes.
    progress: Condvar,
}

#[derive(Default)]
struct State {
    buffer: Vec<u8>,
    /// Bytes ever appended, and of those the ones the output has accepted or refused.
    appended: u64,
    settled: u64,
    lost: u64,
    closing: bool,
}

impl Writer {
    pub(super) fn start(output: Box<dyn io::Write + Send>) -> io::Result<Self> {
        let queue = Arc::new(Queue {
            state: Mutex::default(),
            pending: Condvar::new(),
            progress: Condvar::new(),
        });
        let ours = Arc::clone(&queue);
        let thread = std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || ours.run(output))?;
        Ok(Self {
            queue,
            thread: Some(thread),
        })
    }

    pub(super) fn append(&self, line: &[u8]) {
        let mut state = self.queue.lock();
        // A line longer than the whole buffer is taken when nothing else waits.
        while !state.buffer.is_empty() && state.buffer.len().saturating_add(line.len()) > LIMIT {
            state = wait(&self.queue.progress, state);
        }
        let idle = state.buffer.is_empty();
        state.buffer.extend_from_slice(line);
        state.appended += line.len() as u64;
        drop(state);
        if idle {
            self.queue.pending.notify_one();
        }
    }

    pub(super) fn flush(&self) {
        let mut state = self.queue.lock();
        let target = state.appended;
        while state.settled < target {
            state = wait(&self.queue.progress, state);
        }
    }

    pub(super) fn lost(&self) -> u64 {
        self.queue.lock().lost
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.lock().closing = true;
        self.queue.pending.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            // The thread panicked inside the output's `write`; there is nowhere left to say so.
        }
    }
}

impl Queue {
    fn run(&self, mut output: Box<dyn io::Write + Send>) {
        let mut batch = Vec::new();
        loop {
            let mut state = self.lock();
            while state.buffer.is_empty() {
                if state.closing {
                    return;
                }
                state = wait(&self.pending, state);
            }
            std::mem::swap(&mut state.buffer, &mut batch);
            drop(state);
            self.progress.notify_all();

            let written = write(&mut *output, &batch);

            let mut state = self.lock();
            state.settled += batch.len() as u64;
            state.lost += (batch.len() - written) as u64;
            drop(state);
            self.progress.notify_all();
            batch.clear();
            batch.shrink_to(64 << 10);
        }
    }

    /// No code panics while holding the lock, and the state is valid after each statement in any case.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes as much as the output takes, waiting where somebody has made it non-blocking. Returns how much that was.
fn write(output: &mut dyn io::Write, batch: &[u8]) -> usize {
    let mut written = 0;
    while let Some(rest) = batch.get(written..).filter(|rest| !rest.is_empty()) {
        match output.write(rest) {
            Ok(0) => return written,
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(RETRY),
            Err(_) => return written,
        }
    }
    if output.flush().is_ok() { written } else { 0 }
}

fn wait<'a>(on: &Condvar, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
    on.wait(state).unwrap_or_else(PoisonError::into_inner)
}
