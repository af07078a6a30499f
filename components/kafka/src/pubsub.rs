//! `pubsub.kafka`.
//!
//! Messages of a partition are handed out one at a time, in order; those of different partitions side by side. For a
//! subscription in bulk, as many of a partition as fill two batches.

mod avro;

use crate::client::{Client, published};
use crate::config::Config;
use crate::consumer::Received;
use crate::failure::Failure;
use crate::headers::Headers;
use crate::values::{Format, VALUE_SCHEMA_TYPE};
use bytes::Bytes;
use futures::StreamExt as _;
use outrigger_component::Component;
use outrigger_component::error::{Error, Result};
use outrigger_component::metadata::Metadata;
use outrigger_component::pubsub::{
    Delivery, Entry, Failed, Features, Incoming, Outgoing, PubSub, Subscribe, Subscription,
};
use outrigger_component::setup::Setup;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Messages that the runtime may hold; of one partition it is given one at a time.
const CONCURRENCY: usize = 256;

pub(crate) struct Kafka {
    client: Arc<Client>,
}

impl Kafka {
    /// # Errors
    /// What is wrong with metadata, or why no broker can be asked.
    pub(crate) async fn connect(setup: Setup<Config>) -> Result<Self> {
        let settings = setup.config.check(&setup.app_id, true, &setup.log)?;
        let client = Client::connect(settings, &setup.log).await?;
        Ok(Self {
            client: Arc::new(client),
        })
    }
}

#[async_trait::async_trait]
impl Component for Kafka {
    async fn ping(&self) -> Result<()> {
        self.client.ping().await
    }

    async fn close(&self) {
        self.client.close().await;
    }
}

#[async_trait::async_trait]
impl PubSub for Kafka {
    fn features(&self) -> Features {
        Features {
            bulk: true,
            ..Features::default()
        }
    }

    async fn publish(&self, message: Outgoing) -> Result<()> {
        let answer = self
            .client
            .send(&message.topic, message.data, message.metadata.iter())
            .await?;
        published(answer).await?;
        Ok(())
    }

    /// COMPAT(components-contrib common/component/kafka/producer.go): the metadata of the request wins over an entry's.
    async fn publish_bulk(
        &self,
        topic: &str,
        entries: Vec<Entry>,
        metadata: &Metadata,
    ) -> Result<Vec<Failed>, Vec<Entry>> {
        let mut failed = Vec::new();
        let mut answers = Vec::with_capacity(entries.len());
        let mut fail = |id: String, failure: Failure| {
            failed.push(Failed {
                id,
                error: Error::from(failure),
            });
        };
        for Entry {
            id,
            data,
            metadata: own,
            ..
        } in entries
        {
            let both: BTreeMap<&str, &str> = own.iter().chain(metadata.iter()).collect();
            match self.client.send(topic, data, both.into_iter()).await {
                Ok(answer) => answers.push((id, answer)),
                Err(failure) => fail(id, failure),
            }
        }
        for (id, answer) in answers {
            if let Err(failure) = published(answer).await {
                fail(id, failure);
            }
        }
        Ok(failed)
    }

    async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription> {
        let format = subscribe
            .metadata
            .get_any_case(VALUE_SCHEMA_TYPE)
            .unwrap_or_default();
        let format = Format::named(format)?;
        self.client.values.check(format)?;
        let most = subscribe.batch.saturating_mul(2).max(1);
        let client = Arc::clone(&self.client);
        let received = client.consumer.subscribe(vec![subscribe.topic], most).await?;
        let deliveries = match format {
            Format::Plain => received
                .map(move |received| {
                    let data = Headers::data(&received.message);
                    deliver(&client.headers, received, data)
                })
                .boxed(),
            Format::Avro => avro::deliveries(received, client),
        };
        Ok(Subscription {
            deliveries,
            concurrency: CONCURRENCY.max(most),
        })
    }
}

fn deliver(headers: &Headers, received: Received, data: Bytes) -> Delivery {
    let Received {
        topic,
        partition,
        message,
        outcomes,
        token,
    } = received;
    let metadata = headers.metadata(&topic, partition, &message);
    let incoming = Incoming {
        topic: topic.to_string(),
        data,
        content_type: None,
        metadata,
    };
    Delivery::new(incoming, outcomes, token)
}
