//! `pubsub.outrigger`: durable topics in the hub.
//!
//! Metadata: `consumerID` (default: the app id) is the group; apps of one group share the messages.
//! `concurrency` (default 16) is how many deliveries an app handles at once, 1 keeps the order. `prefetch` (default:
//! twice that, at least 64) is how many the hub sends ahead; it bounds `concurrency`. `redeliverInterval` (default 5s)
//! is the longest pause before a message that was not handled comes again, reached by doubling from 100 ms.
//! `processingTimeout` (default: the hub's, 5m) is when a delivery that is not settled is given to another member.
//! `initialOffset` (`oldest`, the default, or `newest`) is where a group begins that does not exist yet: an app that starts
//! late misses nothing of what the hub still has, as with streams of Redis.

use crate::batch::Batcher;
use crate::failure;
use crate::link::{self, Link, Verdict};
use crate::subscription;
use futures::FutureExt;
use outrigger_component::Component;
use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::metadata::Metadata;
use outrigger_component::options::{Opt, opt};
use outrigger_component::pubsub::{Entry, Failed, Features, Outgoing, PubSub, Subscribe, Subscription};
use outrigger_component::setup::Setup;
use outrigger_component::state::{Ttl, ttl};
use outrigger_daemon::drain;
use outrigger_daemon::log::Log;
use outrigger_daemon::tasks::Tasks;
use outrigger_proto::hub::v1;
use serde::Deserialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Under this name a message's content type is kept among its metadata.
pub(crate) const CONTENT_TYPE: &str = "content-type";
/// Deliveries that the hub sends ahead at most.
const LARGEST_WINDOW: usize = 1_024;
/// How long closing waits for the last acknowledgements.
const CLOSING: Duration = Duration::from_secs(2);

/// What can be written under its `metadata`.
pub(crate) const OPTIONS: &[Opt] = &[
    opt(
        "concurrency",
        "16",
        "events the app holds at once; 1 keeps the order",
    ),
    opt(
        "prefetch",
        "twice `concurrency`, at least 64",
        "events the hub sends ahead, 1 to 1024; bounds `concurrency`",
    ),
    opt(
        "redeliverInterval",
        "5s",
        "longest pause before an event comes again; begins with 100 ms and doubles",
    ),
    opt(
        "processingTimeout",
        "5m",
        "an event that was not answered by then goes to another member of the group",
    ),
    opt(
        "initialOffset",
        "oldest",
        "where a new group begins: with the `oldest` event that the hub [still has](../hub.md#limits-and-defaults), or with the next one (`newest`)",
    ),
];

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Config {
    #[serde(rename = "consumerID")]
    consumer_id: Option<String>,
    concurrency: Option<usize>,
    prefetch: Option<u32>,
    #[serde(deserialize_with = "outrigger_component::metadata::duration_opt")]
    redeliver_interval: Option<Duration>,
    #[serde(deserialize_with = "outrigger_component::metadata::duration_opt")]
    processing_timeout: Option<Duration>,
    initial_offset: Option<Offset>,
    socket: Option<PathBuf>,
    #[serde(deserialize_with = "outrigger_component::metadata::duration_opt")]
    wait_for_hub: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Offset {
    Newest,
    Oldest,
}

pub(crate) struct Broker {
    link: Link,
    log: Log,
    group: String,
    concurrency: usize,
    prefetch: u32,
    longest_pause: Duration,
    settle_timeout: Duration,
    start: v1::Start,
    publishes: Batcher<v1::Message, ()>,
    subscriptions: Tasks,
    _publishing: Tasks,
}

impl Broker {
    pub(crate) async fn connect(setup: Setup<Config>, socket: Option<PathBuf>) -> Result<Self> {
        let config = setup.config;
        let of = link::Config::of(config.socket, config.wait_for_hub);
        let concurrency = config.concurrency.unwrap_or(16);
        let doubled = u32::try_from(concurrency.saturating_mul(2)).unwrap_or(u32::MAX);
        let prefetch = config.prefetch.unwrap_or_else(|| doubled.clamp(64, 1_024));
        if concurrency == 0 || !(1..=1_024).contains(&prefetch) {
            return Err(Error::invalid(
                "concurrency must be at least 1, and prefetch between 1 and 1024",
            ));
        }
        let link = Link::connect(&of, socket.as_deref(), "pubsub.outrigger").await?;
        let (shutdown, _) = drain::channel();
        let subscriptions = Tasks::new(&setup.log, shutdown.clone());
        let publishing = Tasks::new(&setup.log, shutdown);
        let sender = link.clone();
        let send = move |messages| publish(sender.clone(), messages).boxed();
        Ok(Self {
            link,
            log: setup.log,
            group: config
                .consumer_id
                .filter(|group| !group.is_empty())
                .unwrap_or(setup.app_id),
            concurrency: concurrency.min(usize::try_from(prefetch).unwrap_or(usize::MAX)),
            prefetch,
            longest_pause: config.redeliver_interval.unwrap_or(Duration::from_secs(5)),
            settle_timeout: config.processing_timeout.unwrap_or_default(),
            start: match config.initial_offset {
                Some(Offset::Oldest) | None => v1::Start::Earliest,
                Some(Offset::Newest) => v1::Start::Now,
            },
            publishes: Batcher::start(&publishing, "publishes", Arc::new(send)),
            subscriptions,
            _publishing: publishing,
        })
    }
}

#[async_trait::async_trait]
impl Component for Broker {
    async fn ping(&self) -> Result<()> {
        self.link.ping().await
    }

    /// Waits until the hub has been told what was acknowledged last.
    async fn close(&self) {
        if let Err(unfinished) = self.subscriptions.join(CLOSING).await {
            self.log
                .warn(format_args!("messages may be delivered again: {unfinished}"));
        }
    }
}

#[async_trait::async_trait]
impl PubSub for Broker {
    fn features(&self) -> Features {
        Features {
            message_ttl: true,
            subscribe_wildcards: false,
            bulk: true,
        }
    }

    async fn publish(&self, message: Outgoing) -> Result<()> {
        let bytes = message.data.len();
        let message = wire(
            message.topic,
            message.data,
            message.content_type,
            message.metadata,
        )?;
        self.publishes.submit(message, bytes).await
    }

    async fn publish_bulk(
        &self,
        topic: &str,
        entries: Vec<Entry>,
        metadata: &Metadata,
    ) -> std::result::Result<Vec<Failed>, Vec<Entry>> {
        let mut failed = Vec::new();
        let (mut ids, mut messages) = (Vec::new(), Vec::new());
        for entry in entries {
            // What the entry says comes before what the request says.
            let mut all = metadata.clone();
            all.extend(entry.metadata.iter());
            let content_type = Some(entry.content_type).filter(|text| !text.is_empty());
            let bytes = entry.data.len();
            match wire(topic.to_owned(), entry.data, content_type, all) {
                Ok(message) => {
                    ids.push(entry.id);
                    messages.push((message, bytes));
                }
                Err(error) => failed.push(Failed { id: entry.id, error }),
            }
        }
        let results = self.publishes.in_order(messages).await;
        let refused = ids.into_iter().zip(results);
        failed.extend(refused.filter_map(|(id, result)| result.err().map(|error| Failed { id, error })));
        Ok(failed)
    }

    async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription> {
        let group = subscribe
            .metadata
            .get_any_case("consumerID")
            .filter(|group| !group.is_empty());
        let concurrency = self
            .concurrency
            .max(subscribe.batch.saturating_mul(2))
            .min(LARGEST_WINDOW);
        let open = v1::Open {
            topic: subscribe.topic,
            group: group.unwrap_or(&self.group).to_owned(),
            start: self.start.into(),
            window: self.prefetch.max(u32::try_from(concurrency).unwrap_or(u32::MAX)),
            settle_timeout_ms: u64::try_from(self.settle_timeout.as_millis()).unwrap_or(u64::MAX),
        };
        let deliveries = subscription::open(
            self.link.clone(),
            open,
            self.longest_pause,
            self.log.clone(),
            &self.subscriptions,
        )
        .await?;
        Ok(Subscription {
            deliveries,
            concurrency,
        })
    }
}

/// Publishes messages, all of them again when the hub was lost: subscribers know a duplicate by its event id.
async fn publish(link: Link, messages: Vec<v1::Message>) -> Vec<Result<()>> {
    let count = messages.len();
    let request = v1::PublishRequest { messages };
    let mut patience = link.patience();
    loop {
        match link::answered(link.topics().publish(request.clone())).await {
            Ok(answer) => {
                let mut results: Vec<Result<()>> = answer
                    .into_inner()
                    .results
                    .into_iter()
                    .map(|result| {
                        result
                            .failure
                            .map_or(Ok(()), |failure| Err(failure::refused(failure)))
                    })
                    .collect();
                results.resize_with(count, || {
                    Err(Error::new(
                        Kind::Unavailable,
                        "the hub did not answer for this message",
                    ))
                });
                return results;
            }
            Err(status) => {
                if let Verdict::Give(error) = patience.judge(&status, true).await {
                    let each = || Err(error.copy());
                    return (0..count).map(|_| each()).collect();
                }
            }
        }
    }
}

fn wire(
    topic: String,
    data: bytes::Bytes,
    content_type: Option<String>,
    metadata: Metadata,
) -> Result<v1::Message> {
    let ttl_ms = match ttl(&metadata)? {
        Ttl::Unset | Ttl::Never => 0,
        Ttl::Seconds(seconds) => u64::from(seconds) * 1_000,
    };
    let mut metadata: std::collections::HashMap<String, String> = metadata.into_inner().into_iter().collect();
    if let Some(content_type) = content_type {
        metadata.insert(CONTENT_TYPE.to_owned(), content_type);
    }
    Ok(v1::Message {
        topic,
        data,
        metadata,
        ttl_ms,
    })
}
