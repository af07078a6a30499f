//! `pubsub.jetstream`: topics are subjects of streams, subscriptions are push consumers.
//!
//! Publishing waits until the stream has the message; any number may be in flight. Delivery is at least once: a message is
//! acknowledged when it is settled, and until then the server is told that it is being worked on, however long the app takes
//! and however many wait before it. What is refused comes again after a while and holds up nothing else.
//!
//! COMPAT(components-contrib pubsub/jetstream): subjects, the event's id as the message's, the consumer's settings, what the
//! times mean. Unlike there, metadata travel as headers, a lost consumer is made again, and a durable name serves any number
//! of topics.

mod book;
mod consumer;
mod feed;
mod reply;

use crate::client::{Client, MESSAGE_ID};
use crate::config::{Acks, Begin, Concurrency, Config};
use async_nats::{HeaderMap, HeaderName, HeaderValue};
use feed::Feed;
use futures::StreamExt;
use outrigger_component::Component;
use outrigger_component::error::{Error, Result};
use outrigger_component::metadata::Metadata;
use outrigger_component::pubsub::{Features, Outgoing, PubSub, Subscribe, Subscription};
use outrigger_component::setup::Setup;
use outrigger_daemon::log::Log;
use outrigger_daemon::tasks::OnExit;
use serde::Deserialize;
use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

const NAME: &str = "dapr.io - pubsub.jetstream";
/// What headers of the server's own begin with.
const RESERVED: &str = "Nats-";
/// How long closing waits for the last acknowledgements.
const FAREWELL: Duration = Duration::from_secs(2);

pub(crate) struct JetStream {
    shared: Arc<Shared>,
    closed: watch::Sender<bool>,
    /// Each feed holds one until it has ended. `None` when the component is closed.
    feeds: Mutex<Option<mpsc::Sender<()>>>,
    ended: tokio::sync::Mutex<mpsc::Receiver<()>>,
}

/// What the subscriptions of a component share.
struct Shared {
    client: Client,
    config: Config,
    begin: Begin,
    acks: Acks,
    concurrency: Concurrency,
    log: Log,
}

/// The one thing that is read of an event.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
}

impl JetStream {
    /// # Errors
    /// What [`Client::connect`] says; `Invalid` for policies.
    pub(crate) async fn connect(setup: Setup<Config>) -> Result<Self> {
        let Setup { config, log, .. } = setup;
        config.check()?;
        let (begin, acks, concurrency) = (config.begin()?, config.acks(), config.concurrency()?);
        if acks == Acks::All && !config.queue_group_name.is_empty() {
            log.warn(
                "jetstream: with ackPolicy all in a group, each member acknowledges messages of the others as well: they are \
                 lost if those fail",
            );
        }
        let client = Client::connect(&config, NAME, &log).await?;
        let (feeds, ended) = mpsc::channel(1);
        Ok(Self {
            shared: Arc::new(Shared {
                client,
                config,
                begin,
                acks,
                concurrency,
                log,
            }),
            closed: watch::channel(false).0,
            feeds: Mutex::new(Some(feeds)),
            ended: tokio::sync::Mutex::new(ended),
        })
    }

    /// # Errors
    /// `Unavailable` when the component is closed.
    fn open(&self) -> Result<mpsc::Sender<()>> {
        let feeds = self.feeds.lock().unwrap_or_else(PoisonError::into_inner).clone();
        feeds.ok_or_else(Error::closed)
    }
}

#[async_trait::async_trait]
impl Component for JetStream {
    async fn ping(&self) -> Result<()> {
        self.shared.client.ping().await
    }

    async fn close(&self) {
        self.closed.send_replace(true);
        drop(self.feeds.lock().unwrap_or_else(PoisonError::into_inner).take());
        let mut ended = self.ended.lock().await;
        // Nobody sends; it ends when all have ended.
        if tokio::time::timeout(FAREWELL, ended.recv()).await.is_err() {
            self.shared.log.warn(
                "jetstream: messages may be delivered again: not all acknowledgements were sent in time",
            );
        }
        self.shared.client.flush(FAREWELL).await;
    }
}

#[async_trait::async_trait]
impl PubSub for JetStream {
    fn features(&self) -> Features {
        Features::default()
    }

    async fn publish(&self, message: Outgoing) -> Result<()> {
        drop(self.open()?);
        let headers = self.shared.headers(&message);
        self.shared
            .client
            .store(&message.topic, headers, message.data)
            .await
            .map_err(|fault| fault.because(&format!("jetstream: error from publish to {}", message.topic)))
    }

    async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription> {
        let alive = self.open()?;
        let joined = consumer::join(&self.shared, &subscribe.topic, None).await?;
        let limit = joined.limit();
        let concurrency = match self.shared.concurrency {
            Concurrency::Single => 1,
            Concurrency::Parallel => limit,
        };
        let (feed, inbox) = Feed::new(
            &self.shared,
            subscribe.topic,
            joined,
            alive,
            self.closed.subscribe(),
        );
        self.shared
            .client
            .spawner()
            .named("pubsub.jetstream subscription", OnExit::Log, feed.run());
        let deliveries = futures::stream::unfold(inbox, |mut inbox| async move {
            let delivery = inbox.next().await?;
            Some((delivery, inbox))
        });
        Ok(Subscription {
            deliveries: deliveries.boxed(),
            concurrency: concurrency
                .max(subscribe.batch.saturating_mul(2))
                .min(limit.max(1)),
        })
    }
}

impl Shared {
    /// The metadata, and the event's id, by which the stream knows that it has it already.
    fn headers(&self, message: &Outgoing) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in message.metadata.iter() {
            if name.starts_with(RESERVED) && name != MESSAGE_ID {
                self.log.warn(format_args!(
                    "jetstream: metadata {name} is not sent: the name is the server's own"
                ));
                continue;
            }
            match (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
                (Ok(name), Ok(value)) => headers.insert(name, value),
                _ => self.log.warn(format_args!(
                    "jetstream: metadata {name:?} is not sent: no header can have that name or value"
                )),
            }
        }
        let event: Option<Event<'_>> = serde_json::from_slice(&message.data).ok();
        let id = event.and_then(|event| event.id).filter(|id| !id.is_empty());
        if let (None, Some(Ok(id))) = (headers.get(MESSAGE_ID), id.map(|id| id.parse::<HeaderValue>())) {
            headers.insert(MESSAGE_ID, id);
        }
        headers
    }
}

/// What the app is told of a message beside its contents.
fn metadata(subject: &str, headers: Option<&HeaderMap>) -> Metadata {
    let mut metadata = Metadata::new();
    for (name, values) in headers.into_iter().flat_map(HeaderMap::iter) {
        let name: &str = name.as_ref();
        if !name.starts_with(RESERVED) {
            let values: Vec<&str> = values.iter().map(HeaderValue::as_str).collect();
            metadata.insert(name, values.join(","));
        }
    }
    metadata.insert("Topic", subject);
    metadata
}
