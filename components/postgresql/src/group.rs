//! Work of many callers, done together: what waits while everybody is busy goes in one piece to whoever is free first.
//!
//! Nobody waits for company: a job that finds somebody free starts at once. Nor does a piece of work that takes long (it waits
//! for a row that somebody holds) keep others from beginning: it goes on beside them.

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use outrigger_component::error::{Error, Result};
use outrigger_daemon::tasks::{OnExit, Tasks};
use std::future::Future;
use std::time::Duration;
use tokio::sync::mpsc;

/// Jobs that wait; further callers wait for room.
const QUEUE: usize = 4096;
/// Bytes in one piece; one job always fits.
const BYTES: usize = 4 << 20;

/// Work that takes longer than this no longer counts as one of the lanes.
const LONG: Duration = Duration::from_millis(300);
/// Pieces of such work.
const SLOW: usize = 256;

pub(crate) struct Group<J> {
    queue: mpsc::Sender<J>,
}

/// A job that waits with others.
pub(crate) trait Job: Send + 'static {
    /// About what it carries.
    fn bytes(&self) -> usize;
}

impl<J: Job> Group<J> {
    /// `work` does up to `most` jobs at once and is under way `lanes` times at most, not counting what takes long.
    pub(crate) fn start<F>(
        tasks: &Tasks,
        name: &'static str,
        lanes: usize,
        most: usize,
        work: impl Fn(Vec<J>) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (queue, mut waiting) = mpsc::channel(QUEUE);
        tasks.spawn(name, OnExit::Log, async move {
            let mut running = FuturesUnordered::new();
            let mut slow = FuturesUnordered::new();
            loop {
                tokio::select! {
                    Some(left) = running.next(), if !running.is_empty() => slow.extend(left),
                    Some(()) = slow.next(), if !slow.is_empty() => {}
                    first = waiting.recv(), if running.len() < lanes && slow.len() < SLOW => {
                        let Some(first) = first else { break };
                        let mut work = Box::pin(work(together(first, &mut waiting, most)));
                        running.push(async move {
                            let done = tokio::time::timeout(LONG, &mut work).await;
                            done.is_err().then_some(work)
                        });
                    }
                }
            }
            while let Some(left) = running.next().await {
                slow.extend(left);
            }
            while slow.next().await.is_some() {}
        });
        Self { queue }
    }

    /// # Errors
    /// `Unavailable` once the group is no more.
    pub(crate) async fn submit(&self, job: J) -> Result<()> {
        self.queue.send(job).await.map_err(|_| Error::closed())
    }
}

fn together<J: Job>(first: J, waiting: &mut mpsc::Receiver<J>, most: usize) -> Vec<J> {
    let mut bytes = first.bytes();
    let mut jobs = vec![first];
    while jobs.len() < most && bytes < BYTES {
        let Ok(job) = waiting.try_recv() else { break };
        bytes += job.bytes();
        jobs.push(job);
    }
    jobs
}
