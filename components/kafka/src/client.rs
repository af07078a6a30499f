//! What `pubsub.kafka` and `bindings.kafka` have in common: a producer and a consumer of one cluster.

use crate::cluster::Cluster;
use crate::config::Settings;
use crate::consumer::{self, Consumer};
use crate::dial::Dialer;
use crate::failure::Failure;
use crate::headers::Headers;
use crate::producer::{self, Answer, Producer};
use crate::values::{Format, Values};
use bytes::Bytes;
use outrigger_component::error::Result;
use outrigger_daemon::drain;
use outrigger_daemon::log::Log;
use outrigger_daemon::tasks::{OnExit, Spawner, Tasks};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long closing waits for messages that are under way, and for marks.
const FAREWELL: Duration = Duration::from_secs(12);

pub(crate) struct Client {
    cluster: Arc<Cluster>,
    /// `None` once it is closed.
    producer: Mutex<Option<Arc<Producer>>>,
    pub consumer: Consumer,
    pub headers: Headers,
    pub values: Values,
    pub spawner: Spawner,
    tasks: Tasks,
    /// Connections to those who are asked over HTTP, for tokens and schemas. They are no work that closing waits for.
    _asking: Tasks,
    pub log: Log,
}

impl Client {
    /// Asks a broker who else is there.
    ///
    /// # Errors
    /// When none can be asked.
    pub(crate) async fn connect(settings: Settings, log: &Log) -> Result<Self> {
        let tasks = Tasks::new(log, drain::channel().0);
        let spawner = tasks.spawner();
        let asking = Tasks::new(log, drain::channel().0);
        let dialer = Dialer::new(&settings, &spawner, &asking.spawner());
        let cluster = Arc::new(Cluster::new(dialer, settings.brokers, settings.metadata_timeout));
        cluster.learn(&[]).await?;
        let (producer, producing) = Producer::new(
            Arc::clone(&cluster),
            producer::Settings {
                acks: settings.acks,
                compression: settings.compression,
                max_message_bytes: settings.max_message_bytes,
                retries: settings.retries,
                refresh_interval: settings.refresh_interval,
            },
        );
        tasks.spawn("kafka producer", OnExit::Log, producing);
        let consumer = Consumer::new(
            &cluster,
            consumer::Settings {
                group: settings.group,
                strategy: settings.strategy,
                initial: settings.initial,
                session_timeout: settings.session_timeout,
                heartbeat_interval: settings.heartbeat_interval,
                refresh_interval: settings.refresh_interval,
                fetch_min: settings.fetch_min,
                fetch_default: settings.fetch_default,
                buffer: settings.buffer,
                retry: settings.retry_refused.then_some(settings.retry_interval),
            },
            &spawner,
            log,
        );
        Ok(Self {
            cluster,
            producer: Mutex::new(Some(Arc::new(producer))),
            consumer,
            headers: Headers {
                escape: settings.escape_headers,
                exclude: settings.exclude,
            },
            values: Values::new(settings.values, &asking.spawner()),
            spawner,
            tasks,
            _asking: asking,
            log: log.clone(),
        })
    }

    pub(crate) async fn ping(&self) -> Result<()> {
        self.cluster.learn(&[]).await?;
        Ok(())
    }

    /// Hands a message in. Those handed in one after the other keep their order within a partition.
    ///
    /// # Errors
    /// When it cannot be published whatever happens.
    pub(crate) async fn send<'a>(
        &self,
        topic: &str,
        data: Bytes,
        metadata: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<Answer, Failure> {
        let producer = self
            .producer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let producer = producer.ok_or(Failure::Closed)?;
        let (place, mut record, format) = self.headers.record(data, metadata)?;
        if format == Format::Avro
            && let Some(value) = &record.value
        {
            record.value = Some(self.values.encode(topic, value).await?);
        }
        producer.send(topic, place, record).await
    }

    /// Sends what is under way, settles what is held, leaves the groups.
    pub(crate) async fn close(&self) {
        self.consumer.close();
        drop(
            self.producer
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        // Connections end with the last who uses them, and the cluster keeps one.
        self.cluster.close();
        if let Err(unfinished) = self.tasks.join(FAREWELL).await {
            self.log.warn(format_args!(
                "kafka: messages may be delivered again: {unfinished}"
            ));
        }
    }
}

/// Waits for the answer to a message.
///
/// # Errors
/// Why it is not published, as far as anybody knows.
pub(crate) async fn published(answer: Answer) -> Result<(), Failure> {
    answer.await.unwrap_or(Err(Failure::Closed))
}
