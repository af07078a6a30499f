//! RabbitMQ: `pubsub.rabbitmq` and `bindings.rabbitmq`, with the exchanges, queues and arguments of the reference's
//! components, so both can work on one broker side by side.
//!
//! The client is our own ([`amqp`]): each confirm must reach the publisher of its message even when many publish at
//! once on one channel, and every queue must be bounded.
//!
//! One connection per component publishes; each subscription has one of its own. Lost connections come back by themselves.
//!
//! Deliberately absent: AMQP 1.0, streams, and several hosts in one connection string.

mod amqp;
mod binding;
mod client;
mod config;
mod consumer;
mod failure;
mod message;
mod pubsub;
mod uri;

use outrigger_component::registry::Registry;

/// Adds `pubsub.rabbitmq` and `bindings.rabbitmq`.
///
/// # Panics
/// When one of them is registered already.
pub fn register(registry: &mut Registry) {
    registry
        .pubsub("rabbitmq", pubsub::Exchanges::connect)
        .options(&[config::PUBSUB, config::TLS]);
    registry
        .output_binding("rabbitmq", binding::Output::connect)
        .options(&[config::BINDING, config::TLS]);
    registry
        .input_binding("rabbitmq", binding::Input::connect)
        .options(&[config::BINDING, config::TLS]);
}
