//! `bindings.rabbitmq`: one queue, written to and read from.
//!
//! COMPAT(components-contrib bindings/rabbitmq): arguments of the queue, persistent messages, headers as metadata both
//! ways, one message after the other, and again until the app takes it. Unlike there, writing returns when the broker
//! has taken responsibility for the message.

use crate::amqp::Failure;
use crate::amqp::content::{Delivery, Properties};
use crate::amqp::wire::{Table, Value};
use crate::client::{Broker, Message, Publisher};
use crate::config::Binding as Config;
use crate::consumer::{Consumer, Held, Plan, declare};
use crate::failure::failure;
use crate::message;
use futures::{FutureExt as _, StreamExt as _};
use outrigger_component::Component;
use outrigger_component::binding::{
    Answer, Event, Failed, InputBinding, Invoke, Output as Answered, OutputBinding, Reading,
};
use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::metadata::Metadata;
use outrigger_component::pubsub::{Outcome, Settle as _};
use outrigger_component::setup::Setup;
use outrigger_daemon::drain::{self, Trigger};
use outrigger_daemon::log::Log;
use outrigger_daemon::tasks::Tasks;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::sync::Arc;
use std::time::Duration;

/// Messages that the broker sends before any is settled, when the metadata do not say.
const WINDOW: u16 = 256;
/// COMPAT: messages of bindings are persistent.
const PERSISTENT: u8 = 2;
/// How long closing waits for the broker to agree.
const FAREWELL: Duration = Duration::from_secs(3);
/// What Go leaves as it is in the names of a query.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// What both sides share.
struct Queue {
    plan: Plan,
    broker: Arc<Broker>,
    closing: Trigger,
    /// Owns the connections.
    tasks: Tasks,
    log: Log,
}

pub(crate) struct Output {
    queue: Queue,
    publisher: Publisher,
}

pub(crate) struct Input {
    queue: Queue,
}

impl Queue {
    fn new(setup: Setup<Config>) -> Result<Self> {
        let Setup { config, log, .. } = setup;
        let access = config.access(&log)?;
        let plan = plan(&config)?;
        let tasks = Tasks::new(&log, drain::channel().0);
        Ok(Self {
            plan,
            broker: Arc::new(Broker::new(access, tasks.spawner())?),
            closing: drain::channel().0,
            tasks,
            log,
        })
    }

    /// Declares the queue, on a connection that ends with it.
    async fn declare(&self) -> Result<(), Failure> {
        let connection = self.broker.connect().await?;
        let mut channel = connection.channel().await?;
        declare(&mut channel, &self.plan).await
    }

    fn failed(&self, cause: Failure) -> Error {
        let Self { plan, broker, .. } = self;
        failure(
            &format!("rabbitmq binding: queue {} at {}", plan.queue, broker.address),
            cause,
        )
    }

    async fn close(&self) {
        self.closing.fire();
        if let Err(unfinished) = self.tasks.join(FAREWELL).await {
            self.log.warn(format_args!(
                "rabbitmq binding: messages may be delivered again: {unfinished}"
            ));
        }
    }
}

impl Output {
    /// Connects and declares the queue.
    ///
    /// # Errors
    /// `Invalid` for metadata, otherwise what the broker has against it.
    pub(crate) async fn connect(setup: Setup<Config>) -> Result<Self> {
        let queue = Queue::new(setup)?;
        let publisher = Publisher::start(&queue.broker, true, queue.closing.watch(), &queue.log)
            .await
            .map_err(|cause| queue.failed(cause))?;
        publisher
            .prepare(&queue.plan)
            .await
            .map_err(|cause| queue.failed(cause))?;
        Ok(Self { queue, publisher })
    }
}

#[async_trait::async_trait]
impl Component for Output {
    async fn ping(&self) -> Result<()> {
        self.publisher.check().map_err(|cause| self.queue.failed(cause))
    }

    async fn close(&self) {
        self.queue.close().await;
    }
}

#[async_trait::async_trait]
impl OutputBinding for Output {
    fn operations(&self) -> &[&'static str] {
        &["create"]
    }

    async fn invoke(&self, invoke: Invoke) -> Result<Option<Answered>, Failed> {
        if self.queue.closing.fired() {
            return Err(Error::new(Kind::Unavailable, "component is stopped").into());
        }
        if invoke.operation != "create" {
            return Err(Error::new(
                Kind::Unsupported,
                format!(
                    "rabbitmq binding: there is no operation {:?}, only create",
                    invoke.operation
                ),
            )
            .into());
        }
        let Invoke { data, metadata, .. } = invoke;
        let message = Message {
            exchange: None,
            key: &self.queue.plan.queue,
            properties: properties(&metadata)?,
            body: data,
        };
        let published = self.publisher.publish(&message).await;
        published.map_err(|cause| self.queue.failed(cause))?;
        Ok(None)
    }
}

impl Input {
    /// Connects and declares the queue.
    ///
    /// # Errors
    /// `Invalid` for metadata, otherwise what the broker has against it.
    pub(crate) async fn connect(setup: Setup<Config>) -> Result<Self> {
        let queue = Queue::new(setup)?;
        queue.declare().await.map_err(|cause| queue.failed(cause))?;
        Ok(Self { queue })
    }
}

#[async_trait::async_trait]
impl Component for Input {
    async fn close(&self) {
        self.queue.close().await;
    }
}

#[async_trait::async_trait]
impl InputBinding for Input {
    async fn read(&self) -> Result<Reading> {
        let Queue {
            plan,
            broker,
            closing,
            log,
            ..
        } = &self.queue;
        if closing.fired() {
            return Err(Error::new(Kind::Unavailable, "binding already closed"));
        }
        let consumer = Consumer::open(broker, plan.clone(), closing.watch(), log)
            .await
            .map_err(|cause| self.queue.failed(cause))?;
        let reader = Reader {
            consumer,
            under_way: None,
        };
        let events = futures::stream::unfold(reader, |mut reader| async move {
            let event = reader.next().await?;
            Some((event, reader))
        });
        Ok(Reading {
            events: events.boxed(),
            concurrency: 1,
        })
    }
}

struct Reader {
    consumer: Consumer,
    under_way: Option<UnderWay>,
}

/// The message whose answer is awaited. Dropped without one, it is given back.
struct UnderWay {
    answer: Option<Answer>,
    tag: u64,
    held: Arc<Held>,
}

impl Reader {
    async fn next(&mut self) -> Option<Event> {
        if let Some(last) = &mut self.under_way {
            last.settled().await;
            self.under_way = None;
        }
        let (delivery, held) = self.consumer.next().await?;
        let tag = delivery.tag;
        let metadata = heard(&delivery);
        let (event, answer) = Event::answered(delivery.body, metadata);
        self.under_way = Some(UnderWay {
            answer: Some(answer),
            tag,
            held,
        });
        Some(event)
    }
}

impl UnderWay {
    async fn settled(&mut self) {
        if let Some(answer) = &mut self.answer {
            let outcome = answer.heard().await;
            self.answer = None;
            self.settle(outcome.is_ok());
        }
    }

    fn settle(&self, taken: bool) {
        let outcome = if taken { Outcome::Ack } else { Outcome::Nack };
        self.held.settle(self.tag, outcome);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(answer) = self.answer.take() {
            match answer.outcome().now_or_never() {
                Some(outcome) => self.settle(outcome.is_ok()),
                None => self.held.give_back(self.tag),
            }
        }
    }
}

/// # Errors
/// `Invalid` without a name.
fn plan(config: &Config) -> Result<Plan> {
    let mut arguments = Table::new();
    if let Some(time) = config.time_to_live() {
        let milliseconds = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        arguments.insert("x-message-ttl".to_owned(), Value::Int(milliseconds));
    }
    if let Some(most) = config.max_priority {
        let most = i64::try_from(most.min(255)).unwrap_or(255);
        arguments.insert("x-max-priority".to_owned(), Value::Int(most));
    }
    Ok(Plan {
        queue: config.queue_name()?.to_owned(),
        durable: config.durable,
        exclusive: config.exclusive,
        auto_delete: config.delete_when_unused,
        arguments,
        prefetch: match config.prefetch_count {
            0 => WINDOW,
            count => count,
        },
        requeue: true,
        ..Plan::default()
    })
}

/// # Errors
/// `Invalid` for a time or a priority that is none.
fn properties(metadata: &Metadata) -> Result<Properties> {
    let invalid = |what: &str| {
        let what = what.to_owned();
        move |cause: String| Error::invalid(format!("rabbitmq binding: {what}{cause}"))
    };
    let mut properties = message::properties(metadata, PERSISTENT);
    properties.headers = metadata
        .iter()
        .map(|(name, value)| (name.to_owned(), Value::from(value)))
        .collect();
    if let Some(time) = message::time_to_live(metadata).map_err(invalid("failed to get TTL: "))? {
        properties.expiration = message::expiration(time);
    }
    properties.priority = message::priority(metadata).map_err(invalid(""))?;
    Ok(properties)
}

/// Headers that are text; their names as they are written in a query, which is how they may reach the app.
fn heard(delivery: &Delivery) -> Metadata {
    // Headers that cannot be read are none.
    let headers = delivery
        .properties()
        .map(|properties| properties.headers)
        .unwrap_or_default();
    headers
        .into_iter()
        .filter_map(|(name, value)| match value {
            Value::Text(text) => Some((escaped(&name), String::from_utf8_lossy(&text).into_owned())),
            _ => None,
        })
        .collect()
}

fn escaped(name: &str) -> String {
    utf8_percent_encode(name, QUERY).to_string().replace("%20", "+")
}

#[cfg(test)]
mod tests {
    use super::{escaped, plan, properties};
    use crate::amqp::wire::Value;
    use outrigger_component::metadata::{self, Metadata};

    #[test]
    fn the_queue_is_the_references() {
        for (pairs, expected) in [
            (&[("queueName", "q")][..], &[][..]),
            (
                &[("queueName", "q"), ("ttlInSeconds", "60"), ("maxPriority", "999")],
                &[("x-max-priority", 255), ("x-message-ttl", 60_000)],
            ),
            (
                &[("queueName", "q"), ("ttl", "1500ms")],
                &[("x-message-ttl", 1500)],
            ),
        ] {
            let config = metadata::decode(&Metadata::from_iter(pairs.iter().copied())).unwrap();
            let plan = plan(&config).unwrap();
            let found: Vec<(&str, &Value)> = plan
                .arguments
                .iter()
                .map(|(name, value)| (name.as_str(), value))
                .collect();
            let expected: Vec<(&str, Value)> = expected
                .iter()
                .map(|(name, value)| (*name, Value::Int(*value)))
                .collect();
            assert_eq!(
                found,
                expected
                    .iter()
                    .map(|(name, value)| (*name, value))
                    .collect::<Vec<_>>()
            );
            assert_eq!(
                (plan.durable, plan.auto_delete, plan.exclusive, plan.requeue),
                (false, false, false, true)
            );
        }
        let error = plan(&metadata::decode(&Metadata::new()).unwrap()).unwrap_err();
        assert!(error.message.contains("missing queue Name"), "{}", error.message);
    }

    #[test]
    fn metadata_are_headers() {
        let metadata = Metadata::from_iter([
            ("a b", "c"),
            ("ttlInSeconds", "2"),
            ("priority", "9"),
            ("contentType", "x/y"),
        ]);
        let properties = properties(&metadata).unwrap();
        assert_eq!(properties.headers.get("a b"), Some(&Value::from("c")));
        assert_eq!(
            (
                properties.expiration.as_str(),
                properties.priority,
                properties.delivery_mode
            ),
            ("2000", 9, 2)
        );
        assert_eq!(properties.content_type, "x/y");
        assert_eq!(escaped("a b/\u{e9}~"), "a+b%2F%C3%A9~");
        for (name, value) in [("ttl", "x"), ("priority", "x")] {
            assert!(
                super::properties(&Metadata::from_iter([(name, value)])).is_err(),
                "{name}"
            );
        }
    }
}
