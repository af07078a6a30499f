//! Reading topics as a consumer group.
//!
//! Each subscription is a member of the group by itself, with a [task](member::Member) of its own: it ends without the others
//! noticing more than a new distribution.

pub(crate) mod assign;
mod fetch;
mod marks;
mod member;
mod positions;
mod shelf;

use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::wire::batch::Found;
use crate::wire::data::End;
use assign::Strategy;
use futures::stream::BoxStream;
use member::Member;
use outrigger_component::pubsub::{Outcome, Settle};
use outrigger_daemon::log::Log;
use outrigger_daemon::tasks::{OnExit, Spawner};
use shelf::Shelf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// What all subscriptions of a component share.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub group: String,
    pub strategy: Strategy,
    pub initial: End,
    pub session_timeout: Duration,
    pub heartbeat_interval: Duration,
    pub refresh_interval: Duration,
    pub fetch_min: i32,
    pub fetch_default: i32,
    /// Messages of a partition that wait to be handed out.
    pub buffer: usize,
    /// How long a refused message rests before it is handed out again; `None` hands it out once only.
    pub retry: Option<Duration>,
}

/// Reads topics of one cluster.
pub(crate) struct Consumer {
    cluster: Arc<Cluster>,
    settings: Arc<Settings>,
    /// True when the component closes.
    stop: watch::Sender<bool>,
    spawner: Spawner,
    log: Log,
}

/// A message, and what its outcome is told to.
pub(crate) struct Received {
    pub topic: Arc<str>,
    pub partition: i32,
    pub message: Found,
    pub outcomes: Arc<dyn Settle>,
    pub token: u64,
}

impl Consumer {
    pub(crate) fn new(cluster: &Arc<Cluster>, settings: Settings, spawner: &Spawner, log: &Log) -> Self {
        Self {
            cluster: Arc::clone(cluster),
            settings: Arc::new(settings),
            stop: watch::channel(false).0,
            spawner: spawner.clone(),
            log: log.clone(),
        }
    }

    /// Joins the group, and returns when it is known where to begin. Up to `depth` messages of a partition are
    /// handed out before the first is settled.
    ///
    /// # Errors
    /// What keeps us from joining, if it will not go away or has lasted for half a minute.
    pub(crate) async fn subscribe(
        &self,
        topics: Vec<String>,
        depth: usize,
    ) -> Result<BoxStream<'static, Received>, Failure> {
        let settings = &self.settings;
        let buffer = settings.buffer.max(depth);
        let shelf = Arc::new(Shelf::new(buffer, depth, settings.retry));
        let (gone, stop) = watch::channel(*self.stop.borrow());
        let (first, joined) = oneshot::channel();
        let name = format!("kafka consumer of {}", topics.join(", "));
        let member = Member::new(&self.cluster, settings, topics, &shelf, stop, first, &self.log);
        let reader = Reader {
            outcomes: Arc::new(Outcomes {
                shelf: Arc::clone(&shelf),
                log: self.log.clone(),
            }),
            shelf,
            _gone: Gone(gone.clone()),
        };
        let mut closing = self.stop.subscribe();
        self.spawner.named(name, OnExit::Log, async move {
            let closed = async {
                // That nobody can say so any more is the end of the component, too.
                let _over = closing.wait_for(|stop| *stop).await.is_ok();
                gone.send_replace(true);
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = member.run() => {}
                () = closed => {}
            }
        });
        joined.await.unwrap_or(Err(Failure::Closed))?;
        Ok(Box::pin(futures::stream::unfold(reader, |reader| async move {
            let received = reader.next().await?;
            Some((received, reader))
        })))
    }

    /// Ends all subscriptions.
    pub(crate) fn close(&self) {
        self.stop.send_replace(true);
    }
}

/// One subscription's end of the shelf.
struct Reader {
    shelf: Arc<Shelf>,
    outcomes: Arc<Outcomes>,
    _gone: Gone,
}

impl Reader {
    async fn next(&self) -> Option<Received> {
        let taken = self.shelf.take().await?;
        let (topic, partition) = taken.part;
        Some(Received {
            topic,
            partition,
            message: taken.message,
            outcomes: Arc::clone(&self.outcomes) as Arc<dyn Settle>,
            token: taken.token,
        })
    }
}

/// Dropping it ends the member.
struct Gone(watch::Sender<bool>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

struct Outcomes {
    shelf: Arc<Shelf>,
    log: Log,
}

impl Settle for Outcomes {
    fn settle(&self, token: u64, outcome: Outcome) {
        if let Some(((topic, number), offset)) = self.shelf.settle(token, outcome) {
            self.log.error(format_args!(
                "kafka: message {offset} of partition {number} of topic {topic} was refused and is not tried again, because \
                 consumeRetryEnabled is false"
            ));
        }
    }
}
