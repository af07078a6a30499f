//! Apache Kafka: `pubsub.kafka` and `bindings.kafka`, over a client of our own (docs/adr/0003-kafka-client.md).
//!
//! From the wire up: [`wire`] is bytes and layouts, [`connection`] requests and answers, [`cluster`] who leads what,
//! [`producer`] and [`consumer`] one task per component and per subscription.
//!
//! Beside them, [`values`] writes and reads Avro by schemas of a [`registry`].
//!
//! Deliberately absent for now, with an error that names it: AWS IAM. Never to come: transactions, and exactly-once across
//! topics, which the runtime's seam cannot express.

mod avro;
mod binding;
mod client;
mod cluster;
mod config;
mod connection;
mod consumer;
mod dial;
mod failure;
mod headers;
mod oauth;
mod options;
mod producer;
mod pubsub;
mod registry;
mod scram;
mod values;
mod wire;

use options::{BINDING, CLIENT, CONSUMER, LOGIN, PRODUCER};
use outrigger_component::registry::Registry;

/// Adds `pubsub.kafka` and `bindings.kafka`.
///
/// # Panics
/// When one of them is registered already.
pub fn register(registry: &mut Registry) {
    registry
        .pubsub("kafka", pubsub::Kafka::connect)
        .options(&[CLIENT, LOGIN, PRODUCER, CONSUMER]);
    registry
        .input_binding("kafka", binding::Binding::connect)
        .options(&[BINDING, CLIENT, LOGIN, PRODUCER, CONSUMER]);
    registry
        .output_binding("kafka", binding::Binding::connect)
        .options(&[BINDING, CLIENT, LOGIN, PRODUCER, CONSUMER]);
}
