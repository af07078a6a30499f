//! `pubsub.mqtt3`: topics are MQTT's, and may have wildcards (`+`, `#`) and `$share/GROUP/` in subscriptions.
//!
//! One connection, whose client id is `consumerID`, publishes and reads. Unless `cleanSession` is set, the broker remembers
//! subscriptions under that id and keeps messages while the sidecar is away; therefore a subscription that ends is not
//! cancelled at the broker (unless `unsubscribeOnClose` is written for it).
//!
//! Delivery is at least once with `qos` 1 and 2: a message is acknowledged when the app has taken it. MQTT 3.1.1 has no way
//! to refuse one; what the app refuses is delivered again from memory, while the broker keeps it.
//!
//! COMPAT(components-contrib pubsub/mqtt3): client id, session, quality of service, metadata `retained`. Unlike there, a
//! refused message does not wait for the next connection.

use crate::config::PubSub as Config;
use crate::connection::{Broker, PATIENCE};
use crate::filter;
use crate::session::{Inbox, Line, Outgoing, Session};
use futures::StreamExt as _;
use outrigger_component::Component;
use outrigger_component::error::{Error, Result};
use outrigger_component::metadata::Metadata;
use outrigger_component::pubsub::{self, Delivery, Features, Incoming, PubSub, Subscribe, Subscription};
use outrigger_component::setup::Setup;
use outrigger_daemon::drain::{self, Trigger};
use outrigger_daemon::log::Log;
use outrigger_daemon::tasks::Tasks;
use std::sync::Arc;
use std::time::Duration;

/// Messages in the hands of one subscription. Most brokers send fewer before the first is acknowledged.
const CONCURRENCY: usize = 100;
/// How long closing waits for what is to be written.
const FAREWELL: Duration = Duration::from_secs(3);

pub(crate) struct Topics {
    session: Arc<Session>,
    broker: Arc<Broker>,
    retain: bool,
    clean: bool,
    closing: Trigger,
    /// Owns the connection.
    tasks: Tasks,
    log: Log,
}

impl Topics {
    /// Connects.
    ///
    /// # Errors
    /// `Invalid` for metadata, otherwise what kept the broker from letting us in.
    pub(crate) async fn connect(setup: Setup<Config>) -> Result<Self> {
        let Setup {
            config, log, app_id, ..
        } = setup;
        let client = if config.consumer_id.is_empty() {
            &app_id
        } else {
            &config.consumer_id
        };
        let broker = Arc::new(config.broker(client, &log)?);
        let session = Arc::new(Session::new(config.qos()?));
        let tasks = Tasks::new(&log, drain::channel().0);
        Arc::clone(&broker)
            .run(&session, &tasks, &log)
            .await
            .map_err(|failure| {
                failure.error(&format!(
                    "mqtt: failed to establish connection to broker {}",
                    broker.address()
                ))
            })?;
        Ok(Self {
            session,
            broker,
            retain: config.retain,
            clean: config.clean_session,
            closing: drain::channel().0,
            tasks,
            log,
        })
    }

    fn is_open(&self) -> Result<()> {
        if self.closing.fired() {
            return Err(Error::closed());
        }
        Ok(())
    }
}

#[async_trait::async_trait]
impl Component for Topics {
    async fn ping(&self) -> Result<()> {
        let line = self.session.line().borrow().clone();
        match line {
            Line::Up => Ok(()),
            Line::Down(failure) => {
                Err(failure.error(&format!("mqtt: no connection to {}", self.broker.address())))
            }
        }
    }

    async fn close(&self) {
        self.closing.fire();
        self.session.close();
        if let Err(unfinished) = self.tasks.join(FAREWELL).await {
            self.log.warn(format_args!(
                "mqtt: messages may be delivered again: {unfinished}"
            ));
        }
    }
}

#[async_trait::async_trait]
impl PubSub for Topics {
    fn features(&self) -> Features {
        Features {
            subscribe_wildcards: true,
            ..Features::default()
        }
    }

    async fn publish(&self, message: pubsub::Outgoing) -> Result<()> {
        self.is_open()?;
        if let Some(fault) = filter::fault(&message.topic) {
            return Err(Error::invalid(format!("mqtt: {fault}")));
        }
        let retain = match message.metadata.get("retain").filter(|text| !text.is_empty()) {
            None => self.retain,
            Some(text) => flag(text)
                .ok_or_else(|| Error::invalid(format!("mqtt invalid retain {text}: write true or false")))?,
        };
        let outgoing = Outgoing {
            topic: &message.topic,
            payload: message.data,
            retain,
        };
        let published = self.session.publish(outgoing, PATIENCE).await;
        published.map_err(|failure| failure.error(&format!("mqtt: failed to publish to {}", message.topic)))
    }

    async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription> {
        self.is_open()?;
        let Subscribe {
            topic,
            metadata,
            batch,
        } = subscribe;
        if topic.is_empty() {
            return Err(Error::invalid("mqtt: topic name is empty"));
        }
        let unsubscribes = self.clean || metadata.is_true("unsubscribeOnClose");
        let inbox = Inbox::open(&self.session, &topic, unsubscribes, PATIENCE)
            .await
            .map_err(|failure| failure.error(&format!("mqtt error from subscribe: {topic}")))?;
        let closed = self.closing.watch();
        let deliveries = futures::stream::unfold((inbox, closed), |(inbox, closed)| async move {
            let (message, token) = tokio::select! {
                () = closed.draining() => return None,
                next = inbox.next() => next,
            };
            let incoming = Incoming {
                topic: message.topic,
                data: message.payload,
                content_type: None,
                metadata: Metadata::from_iter([("retained", message.retained.to_string())]),
            };
            let delivery = Delivery::new(incoming, Arc::clone(inbox.settle()), token);
            Some((delivery, (inbox, closed)))
        });
        Ok(Subscription {
            deliveries: deliveries.boxed(),
            concurrency: CONCURRENCY.max(batch.saturating_mul(2)),
        })
    }
}

/// COMPAT(Go strconv.ParseBool).
fn flag(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}
