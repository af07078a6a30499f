//! Deliveries whose values are Avro: they have their schemas' JSON instead.
//!
//! A value that cannot be read is refused before anybody sees it. It comes again like anything refused, since the registry may
//! be back by then, or know the schema; meanwhile its partition waits, and others do not.

use super::deliver;
use crate::client::Client;
use crate::consumer::Received;
use crate::failure::Failure;
use crate::headers::Headers;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use outrigger_component::pubsub::{Delivery, Outcome};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Values that are read at once, since schemas may have to be fetched.
const AT_ONCE: usize = 16;

pub(super) fn deliveries(
    received: BoxStream<'static, Received>,
    client: Arc<Client>,
) -> BoxStream<'static, Delivery> {
    let complaints = Arc::new(Complaints::default());
    let read = move |received: Received| {
        let (client, complaints) = (Arc::clone(&client), Arc::clone(&complaints));
        async move {
            let data = match received.message.record.value.clone() {
                Some(value) => client.values.decode(value).await,
                None => Ok(Headers::data(&received.message)),
            };
            settled(received, data, &client, &complaints)
        }
    };
    // In order, which those of one partition are to keep.
    let read = received.map(read).buffered(AT_ONCE);
    read.filter_map(std::future::ready).boxed()
}

fn settled(
    received: Received,
    data: Result<Bytes, Failure>,
    client: &Client,
    complaints: &Complaints,
) -> Option<Delivery> {
    match data {
        Ok(data) => Some(deliver(&client.headers, received, data)),
        Err(failure) => {
            if complaints.is_new(&received) {
                client.log.error(format_args!(
                    "message {} of partition {} of topic {} cannot be read and is not delivered: {failure}",
                    received.message.offset, received.partition, received.topic
                ));
            }
            received.outcomes.settle(received.token, Outcome::Nack);
            None
        }
    }
}

/// The last message of each partition that could not be read: it is spoken of once, however often it is tried.
#[derive(Default)]
struct Complaints(Mutex<HashMap<i32, i64>>);

impl Complaints {
    fn is_new(&self, received: &Received) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let offset = received.message.offset;
        last.insert(received.partition, offset) != Some(offset)
    }
}
