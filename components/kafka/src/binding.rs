//! `bindings.kafka`: publishes to one topic, and hands over what is published to others.

use crate::client::{Client, published};
use crate::config::Config;
use crate::consumer::Received;
use crate::headers::Headers;
use futures::StreamExt as _;
use outrigger_component::Component;
use outrigger_component::binding::{Event, Failed, InputBinding, Invoke, Output, OutputBinding, Reading};
use outrigger_component::error::{Error, Result};
use outrigger_component::pubsub::Outcome;
use outrigger_component::setup::Setup;
use outrigger_daemon::log::Log;
use std::sync::Arc;

/// Events that the runtime may hold; of one partition it is given one at a time.
const CONCURRENCY: usize = 256;

pub(crate) struct Binding {
    client: Arc<Client>,
    name: String,
    publish_topic: String,
    topics: Vec<String>,
    log: Log,
}

impl Binding {
    /// # Errors
    /// What is wrong with metadata, or why no broker can be asked.
    pub(crate) async fn connect(setup: Setup<Config>) -> Result<Self> {
        let Setup {
            name,
            app_id,
            config,
            log,
            ..
        } = setup;
        let settings = config.check(&app_id, false, &log)?;
        let topics = config.topics.split(',').filter(|topic| !topic.is_empty());
        Ok(Self {
            client: Arc::new(Client::connect(settings, &log).await?),
            name,
            topics: topics.map(str::to_owned).collect(),
            publish_topic: config.publish_topic,
            log,
        })
    }
}

#[async_trait::async_trait]
impl Component for Binding {
    async fn ping(&self) -> Result<()> {
        self.client.ping().await
    }

    async fn close(&self) {
        self.client.close().await;
    }
}

#[async_trait::async_trait]
impl OutputBinding for Binding {
    fn operations(&self) -> &[&'static str] {
        &["create"]
    }

    async fn invoke(&self, invoke: Invoke) -> Result<Option<Output>, Failed> {
        if self.publish_topic.is_empty() {
            return Err(Failed::from(Error::invalid(format!(
                "kafka binding {}: set metadata publishTopic to publish",
                self.name
            ))));
        }
        let sent = self
            .client
            .send(&self.publish_topic, invoke.data, invoke.metadata.iter());
        let answer = sent.await.map_err(Error::from)?;
        published(answer).await.map_err(Error::from)?;
        Ok(None)
    }
}

#[async_trait::async_trait]
impl InputBinding for Binding {
    async fn read(&self) -> Result<Reading> {
        if self.topics.is_empty() {
            self.log.warn(format_args!(
                "kafka binding {}: no topic defined (metadata topics), so no events will come",
                self.name
            ));
            return Ok(Reading {
                events: futures::stream::pending().boxed(),
                concurrency: 1,
            });
        }
        let client = Arc::clone(&self.client);
        let received = client.consumer.subscribe(self.topics.clone(), 1).await?;
        Ok(Reading {
            events: received.map(move |received| event(received, &client)).boxed(),
            concurrency: CONCURRENCY,
        })
    }
}

/// An event, and a task that waits for the app's answer, also after the reading has ended.
fn event(received: Received, client: &Client) -> Event {
    let Received {
        topic,
        partition,
        message,
        outcomes,
        token,
    } = received;
    let metadata = client.headers.metadata(&topic, partition, &message);
    let (event, answer) = Event::answered(Headers::data(&message), metadata);
    client.spawner.spawn("answer to an event of kafka", async move {
        let outcome = match answer.outcome().await {
            Ok(_) => Outcome::Ack,
            Err(_) => Outcome::Nack,
        };
        outcomes.settle(token, outcome);
    });
    event
}
