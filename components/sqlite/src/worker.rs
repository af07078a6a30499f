//! A connection and the thread that it belongs to. What callers want done is queued, in order, and bounded.

use crate::failure::failure;
use outrigger_component::error::{Error, Kind, Result};
use rusqlite::Connection;
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Requests that wait; further callers wait for room.
const QUEUE: usize = 1024;

type Work = Box<dyn FnOnce(&mut Connection) + Send>;

/// Dropping it ends the thread once the queue is empty; [`Worker::close`] waits for that.
pub(crate) struct Worker {
    queue: Mutex<Option<mpsc::Sender<Work>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Worker {
    pub(crate) fn start(name: &str, mut connection: Connection) -> Result<Self> {
        let (queue, mut waiting) = mpsc::channel::<Work>(QUEUE);
        let run = move || {
            while let Some(work) = waiting.blocking_recv() {
                work(&mut connection);
            }
        };
        Ok(Self {
            queue: Mutex::new(Some(queue)),
            thread: Mutex::new(Some(thread(name, run)?)),
        })
    }

    /// Runs `work` on the thread. Giving up waiting does not take it back.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        timeout: Duration,
        work: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let work: Work = Box::new(move |connection| {
            // Whoever asked may have left.
            drop(reply.send(work(connection)));
        });
        let queue = self.queue();
        let done = async {
            let queue = queue.ok_or_else(Error::closed)?;
            queue.send(work).await.map_err(|_| Error::closed())?;
            answer.await.map_err(|_| Error::closed())?
        };
        within(timeout, done).await
    }

    pub(crate) async fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        join(thread).await;
    }

    fn queue(&self) -> Option<mpsc::Sender<Work>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(crate) async fn within<T>(timeout: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| {
        Err(Error::new(
            Kind::Timeout,
            format!("SQLite did not answer within {timeout:?}"),
        ))
    };
    tokio::time::timeout(timeout, work).await.unwrap_or_else(late)
}

pub(crate) fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|error| Error::caused(Kind::Exhausted, "cannot start a thread for SQLite", error))
}

/// Waits for a thread that has been told to end.
pub(crate) async fn join(thread: Option<JoinHandle<()>>) {
    if let Some(thread) = thread {
        // A thread that panicked has said so, and has ended all the same.
        drop(tokio::task::spawn_blocking(move || thread.join()).await);
    }
}

/// Runs what opens connections where it may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::caused(Kind::Internal, "SQLite", error))?
}

/// Shorthand for one statement's failure.
pub(crate) fn failed(what: &'static str) -> impl Fn(rusqlite::Error) -> Error {
    move |error| failure(what, error)
}
