//! `pubsub.rabbitmq`: topics are exchanges, subscribers are queues `CONSUMERID-TOPIC` bound to them.
//!
//! Delivery is at least once. The broker keeps a message until it is settled, and gives it to somebody else when the
//! connection is lost before. With `publisherConfirm`, publishing returns when the broker has taken responsibility, any
//! number of messages being under way at once; without, as in the reference, when the message is on its way.
//!
//! COMPAT(components-contrib pubsub/rabbitmq): names, kinds, arguments and defaults of all that is declared. Unlike there,
//! refused messages are not dropped unless the metadata say so, and a message that the broker refuses is an error.

mod plan;

use crate::amqp::method::Exchange;
use crate::client::{Broker, Message, Publisher};
use crate::config::{Concurrency, PubSub as Config};
use crate::consumer::{Consumer, Held};
use crate::failure::failure;
use crate::{amqp, message};
use futures::StreamExt as _;
use outrigger_component::Component;
use outrigger_component::error::{Error, Result};
use outrigger_component::metadata::Metadata;
use outrigger_component::pubsub::{
    Delivery, Features, Incoming, Outgoing, PubSub, Settle, Subscribe, Subscription,
};
use outrigger_component::setup::Setup;
use outrigger_daemon::drain::{self, Trigger};
use outrigger_daemon::log::Log;
use outrigger_daemon::tasks::Tasks;
use plan::plan;
use std::sync::Arc;
use std::time::Duration;

/// Messages in the hands of one subscription when the metadata do not say.
const CONCURRENCY: usize = 256;
/// How long closing waits for the broker to agree.
const FAREWELL: Duration = Duration::from_secs(3);

pub(crate) struct Exchanges {
    config: Arc<Config>,
    /// Name of the group.
    group: String,
    concurrency: Concurrency,
    broker: Arc<Broker>,
    publisher: Publisher,
    closing: Trigger,
    /// Owns the connections.
    tasks: Tasks,
    log: Log,
}

impl Exchanges {
    /// Connects.
    ///
    /// # Errors
    /// `Invalid` for metadata, otherwise what kept the broker from letting us in.
    pub(crate) async fn connect(setup: Setup<Config>) -> Result<Self> {
        let Setup {
            config, log, app_id, ..
        } = setup;
        let concurrency = config.concurrency()?;
        let access = config.access(&log)?;
        let tasks = Tasks::new(&log, drain::channel().0);
        let broker = Arc::new(Broker::new(access, tasks.spawner())?);
        let (closing, watch) = drain::channel();
        let publisher = Publisher::start(&broker, config.publisher_confirm, watch, &log)
            .await
            .map_err(|cause| {
                failure(
                    &format!("rabbitmq pub/sub: cannot connect to {}", broker.address),
                    cause,
                )
            })?;
        let group = if config.consumer_id.is_empty() {
            app_id
        } else {
            config.consumer_id.clone()
        };
        Ok(Self {
            config: Arc::new(config),
            group,
            concurrency,
            broker,
            publisher,
            closing,
            tasks,
            log,
        })
    }

    fn properties(&self, topic: &str, metadata: &Metadata) -> amqp::content::Properties {
        let mut properties = message::properties(metadata, self.config.delivery_mode);
        // COMPAT: what cannot be understood is said and ignored.
        let ignored = |what: String| {
            self.log.warn(format_args!(
                "rabbitmq pub/sub: publishing to {topic}: {what}, it is ignored"
            ));
        };
        let time_to_live = message::time_to_live(metadata).unwrap_or_else(|what| {
            ignored(what);
            None
        });
        if let Some(time) = time_to_live.or(self.config.time_to_live()) {
            properties.expiration = message::expiration(time);
        }
        properties.priority = message::priority(metadata).unwrap_or_else(|what| {
            ignored(what);
            0
        });
        properties
    }

    fn is_open(&self) -> Result<()> {
        if self.closing.fired() {
            return Err(Error::closed());
        }
        Ok(())
    }
}

#[async_trait::async_trait]
impl Component for Exchanges {
    async fn ping(&self) -> Result<()> {
        let up = self.publisher.check();
        up.map_err(|cause| {
            failure(
                &format!("rabbitmq pub/sub: no connection to {}", self.broker.address),
                cause,
            )
        })
    }

    async fn close(&self) {
        self.closing.fire();
        if let Err(unfinished) = self.tasks.join(FAREWELL).await {
            self.log.warn(format_args!(
                "rabbitmq pub/sub: messages may be delivered again: {unfinished}"
            ));
        }
    }
}

#[async_trait::async_trait]
impl PubSub for Exchanges {
    fn features(&self) -> Features {
        Features {
            message_ttl: true,
            ..Features::default()
        }
    }

    async fn publish(&self, outgoing: Outgoing) -> Result<()> {
        self.is_open()?;
        let Outgoing {
            topic,
            data,
            metadata,
            ..
        } = outgoing;
        let message = Message {
            exchange: Some(Exchange {
                name: &topic,
                kind: self.config.exchange_kind(),
                durable: self.config.durable(),
                auto_delete: self.config.deleted_when_unused(),
            }),
            key: metadata.get("routingKey").unwrap_or_default(),
            properties: self.properties(&topic, &metadata),
            body: data,
        };
        self.publisher
            .publish(&message)
            .await
            .map_err(|cause| failure(&format!("rabbitmq pub/sub: publishing to {topic} failed"), cause))
    }

    async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription> {
        self.is_open()?;
        let mut plan = plan(&self.config, &self.group, &subscribe)?;
        let concurrency = match self.concurrency {
            Concurrency::Single => 1,
            Concurrency::Parallel if self.config.prefetch_count > 0 => {
                usize::from(self.config.prefetch_count)
            }
            Concurrency::Parallel => CONCURRENCY,
        };
        let concurrency = concurrency.max(subscribe.batch.saturating_mul(2));
        plan.prefetch = plan.prefetch.max(u16::try_from(concurrency).unwrap_or(u16::MAX));
        let queue = plan.queue.clone();
        let consumer = Consumer::open(&self.broker, plan, self.closing.watch(), &self.log)
            .await
            .map_err(|cause| {
                failure(
                    &format!(
                        "rabbitmq pub/sub: cannot subscribe to {} with queue {queue}",
                        subscribe.topic
                    ),
                    cause,
                )
            })?;
        let reader = Reader {
            consumer,
            topic: subscribe.topic,
            with_properties: self.config.publish_message_properties_to_metadata,
            log: self.log.clone(),
        };
        let deliveries = futures::stream::unfold(reader, |mut reader| async move {
            let (delivery, held) = reader.consumer.next().await?;
            let delivery = reader.delivery(delivery, held);
            Some((delivery, reader))
        });
        Ok(Subscription {
            deliveries: deliveries.boxed(),
            concurrency,
        })
    }
}

struct Reader {
    consumer: Consumer,
    topic: String,
    with_properties: bool,
    log: Log,
}

impl Reader {
    fn delivery(&self, delivery: amqp::content::Delivery, held: Arc<Held>) -> Delivery {
        let metadata = if self.with_properties {
            match delivery.properties() {
                Ok(properties) => message::heard(&properties),
                Err(fault) => {
                    self.log.warn(format_args!(
                        "rabbitmq pub/sub: a message of {} has properties that cannot be read: {fault}",
                        self.topic
                    ));
                    Metadata::new()
                }
            }
        } else {
            Metadata::new()
        };
        let message = Incoming {
            topic: self.topic.clone(),
            data: delivery.body,
            content_type: None,
            metadata,
        };
        Delivery::new(message, held as Arc<dyn Settle>, delivery.tag)
    }
}
