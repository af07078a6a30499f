//! `pubsub.redis`: topics are streams, subscribers are consumer groups.
//!
//! Delivery is at least once. A message stays in the group's list of pending messages until it is acknowledged, so
//! nothing is lost when either side dies: what has been pending for `processingTimeout` is claimed by whoever looks next,
//! every `redeliverInterval`. What the app refuses, and what an ending subscription still holds, is marked as if it had
//! been pending that long, and comes back with the next look.
//!
//! COMPAT(components-contrib pubsub/redis): fields `data` and `metadata` (JSON), group and consumer named by
//! `consumerID`, times and trimming. Unlike there, a message that the app refuses is not acknowledged.

mod acknowledge;
mod entry;
mod reader;

use crate::client::{Client, Pauses, Repeat};
use crate::config::{Config, Span};
use crate::failure::failure;
use acknowledge::Ledger;
use futures::StreamExt;
use outrigger_component::Component;
use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::metadata::Metadata;
use outrigger_component::pubsub::{Features, Outgoing, PubSub, Subscribe, Subscription};
use outrigger_component::setup::Setup;
use outrigger_daemon::drain;
use outrigger_daemon::log::Log;
use outrigger_daemon::tasks::{OnExit, Tasks};
use reader::Reader;
use redis::Cmd;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const PROCESSING_TIMEOUT: Duration = Duration::from_secs(60);
const REDELIVER_INTERVAL: Duration = Duration::from_secs(15);
const QUEUE_DEPTH: usize = 100;
const CONCURRENCY: usize = 10;
/// How long closing waits for the last acknowledgements.
const FAREWELL: Duration = Duration::from_secs(2);

pub(crate) struct Streams {
    group: Arc<Group>,
    trim: Trim,
    concurrency: usize,
    ledger: Arc<Ledger>,
    /// Owns the acknowledging.
    tasks: Tasks,
}

/// What the subscriptions of a component share.
struct Group {
    client: Client,
    /// Of the group and of its consumer.
    name: String,
    /// Messages read in one go.
    depth: usize,
    redelivery: Option<Redelivery>,
    log: Log,
}

#[derive(Debug, Clone, Copy)]
struct Redelivery {
    /// How long a message must have been pending.
    after: Duration,
    every: Duration,
}

/// How streams are kept short.
enum Trim {
    Not,
    Length(u64),
    Age(Duration),
}

impl Streams {
    /// Connects.
    ///
    /// # Errors
    /// What [`Config::check`] and [`Client::connect`] say; `Invalid` for sizes of zero.
    pub(crate) async fn connect(setup: Setup<Config>) -> Result<Self> {
        let Setup {
            config, log, app_id, ..
        } = setup;
        config.check(&log)?;
        let (depth, concurrency) = (
            config.queue_depth.unwrap_or(QUEUE_DEPTH),
            config.concurrency.unwrap_or(CONCURRENCY),
        );
        for (name, size) in [("queueDepth", depth), ("concurrency", concurrency)] {
            if size == 0 {
                return Err(Error::invalid(format!("metadata {name} must be at least 1")));
            }
        }
        let name = if config.consumer_id.is_empty() {
            app_id
        } else {
            config.consumer_id.clone()
        };
        let trim = trim(&config, &log);
        let client = Client::connect(&config, Pauses::SHORT, &log)
            .await
            .map_err(|error| Error {
                message: format!("redis streams: {}", error.message),
                ..error
            })?;
        let redelivery = redelivery(&config);
        let group = Arc::new(Group {
            client,
            name,
            depth,
            redelivery,
            log: log.clone(),
        });
        let ledger = Arc::new(Ledger::default());
        let tasks = Tasks::new(&log, drain::channel().0);
        tasks.spawn(
            "pubsub.redis acknowledgements",
            OnExit::Log,
            acknowledge::run(Arc::clone(&group), Arc::clone(&ledger)),
        );
        Ok(Self {
            group,
            trim,
            concurrency,
            ledger,
            tasks,
        })
    }

    fn add(&self, message: &Outgoing) -> Result<Cmd> {
        let mut cmd = Cmd::with_capacity(10, message.data.len() + message.topic.len() + 256);
        cmd.arg("XADD").arg(&message.topic);
        match self.trim {
            Trim::Not => {}
            Trim::Length(length) => {
                cmd.arg("MAXLEN").arg("~").arg(length);
            }
            Trim::Age(age) => {
                let oldest = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default()
                    .saturating_sub(age);
                cmd.arg("MINID").arg("~").arg(format!("{}-1", oldest.as_millis()));
            }
        }
        cmd.arg("*").arg("data").arg(&message.data[..]);
        if !message.metadata.is_empty() {
            cmd.arg("metadata").arg(json(&message.metadata)?);
        }
        Ok(cmd)
    }
}

#[async_trait::async_trait]
impl Component for Streams {
    async fn ping(&self) -> Result<()> {
        self.group.client.ping().await.map_err(|error| Error {
            message: format!("redis pubsub: {}", error.message),
            ..error
        })
    }

    async fn close(&self) {
        self.ledger.close();
        if let Err(unfinished) = self.tasks.join(FAREWELL).await {
            self.group.log.warn(format_args!(
                "redis streams: messages may be delivered again: {unfinished}"
            ));
        }
    }
}

#[async_trait::async_trait]
impl PubSub for Streams {
    fn features(&self) -> Features {
        Features::default()
    }

    async fn publish(&self, message: Outgoing) -> Result<()> {
        if self.ledger.is_closed() {
            return Err(Error::closed());
        }
        let cmd = self.add(&message)?;
        let id: Result<String, _> = self.group.client.query(&cmd, Repeat::Yes).await;
        id.map(drop)
            .map_err(|error| failure("redis streams: error from publish", error))
    }

    async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription> {
        if self.ledger.is_closed() {
            return Err(Error::closed());
        }
        self.group.create(&subscribe.topic).await?;
        let reader = Reader::new(&self.group, &self.ledger, &subscribe.topic);
        let deliveries = futures::stream::unfold(reader, |mut reader| async move {
            let delivery = reader.next().await?;
            Some((delivery, reader))
        });
        Ok(Subscription {
            deliveries: deliveries.boxed(),
            concurrency: self.concurrency.max(subscribe.batch.saturating_mul(2)),
        })
    }
}

impl Group {
    /// Makes the group on a stream, and the stream, unless they exist. A new group starts with the oldest message.
    async fn create(&self, topic: &str) -> Result<()> {
        let mut cmd = redis::cmd("XGROUP");
        cmd.arg("CREATE")
            .arg(topic)
            .arg(&self.name)
            .arg("0")
            .arg("MKSTREAM");
        let made: redis::RedisResult<()> = self.client.query(&cmd, Repeat::Yes).await;
        match made {
            Err(error) if error.code() != Some("BUSYGROUP") => Err(failure(
                &format!(
                    "redis streams: cannot create group {} of stream {topic}",
                    self.name
                ),
                error,
            )),
            _ => Ok(()),
        }
    }
}

/// COMPAT(components-contrib pubsub/redis): redelivery needs both times; zero for either switches it off.
fn redelivery(config: &Config) -> Option<Redelivery> {
    let span = |span: Span, default| span.or(default).filter(|span| !span.is_zero());
    Some(Redelivery {
        after: span(config.processing_timeout, PROCESSING_TIMEOUT)?,
        every: span(config.redeliver_interval, REDELIVER_INTERVAL)?,
    })
}

fn trim(config: &Config, log: &Log) -> Trim {
    match config.max_len_approx.filter(|length| *length > 0) {
        Some(_) if !config.stream_ttl.is_zero() => {
            log.warn("redis streams: maxLenApprox and streamTTL cannot be used together; streams are trimmed by maxLenApprox");
            Trim::Length(config.max_len_approx.unwrap_or_default())
        }
        Some(length) => Trim::Length(length),
        None if config.stream_ttl.is_zero() => Trim::Not,
        None => Trim::Age(config.stream_ttl),
    }
}

fn json(metadata: &Metadata) -> Result<String> {
    let map: BTreeMap<&str, &str> = metadata.iter().collect();
    serde_json::to_string(&map).map_err(|error| {
        Error::caused(
            Kind::Invalid,
            "redis streams: metadata cannot be written as JSON",
            error,
        )
    })
}
