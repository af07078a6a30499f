//! Deliveries whose values are Avro: they have their schemas' JSON instead.
//!
//! A value that cannot be read is refused before anybody sees it. It comes again like anything refused, since the registry may
//! be back by then, or know the schema; meanwhile its partition waits, and others do not.

use super::deliver;
use crate::client::Client;
use crate::consumer::Received;
use crate::headers::Headers;
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
        let (partition, offset) = (received.partition, received.message.offset);
        let value = received.message.record.value.clone();
        let data = Headers::data(&received.message);
        // From here on it gives itself back if the subscription ends meanwhile.
        let mut delivery = deliver(&client.headers, received, data);
        async move {
            let Some(value) = value else {
                return Some(delivery);
            };
            match client.values.decode(value).await {
                Ok(data) => {
                    delivery.message.data = data;
                    Some(delivery)
                }
                Err(failure) => {
                    if complaints.is_new(partition, offset) {
                        client.log.error(format_args!(
                            "message {offset} of partition {partition} of topic {} cannot be read and is not delivered: \
                             {failure}",
                            delivery.message.topic
                        ));
                    }
                    delivery.settle(Outcome::Nack);
                    None
                }
            }
        }
    };
    // In order, which those of one partition are to keep.
    let read = received.map(read).buffered(AT_ONCE);
    read.filter_map(std::future::ready).boxed()
}

/// The last message of each partition that could not be read: it is spoken of once, however often it is tried.
#[derive(Default)]
struct Complaints(Mutex<HashMap<i32, i64>>);

impl Complaints {
    fn is_new(&self, partition: i32, offset: i64) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.insert(partition, offset) != Some(offset)
    }
}
