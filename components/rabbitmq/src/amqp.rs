//! A client of AMQP 0-9-1 as RabbitMQ speaks it: as much of it as publishing with confirms and consuming need.
//!
//! [`connection`] runs one connection in one task, [`channel`] is what callers hold; [`frame`], [`method`], [`content`]
//! and [`wire`] are the bytes, without any input or output.
//!
//! Invariants
//! - A confirm belongs to its message: the number is taken and the message queued under one lock.
//! - All queues are bounded: what waits to be written or confirmed by credit, what was delivered by the prefetch window
//!   (and by back-pressure on the socket where there is none).
//! - A body is copied once at most, into the buffer that is written, and only if it is small.
//!
//! Deliberately absent: transactions, `basic.get`, returned messages (nothing is published as mandatory), several consumers
//! on one channel, and reconnection, which is the business of who opens connections.

pub(crate) mod channel;
pub(crate) mod connection;
pub(crate) mod content;
mod frame;
pub(crate) mod method;
mod state;
#[cfg(test)]
mod tests;
pub(crate) mod wire;

use std::time::Duration;

/// Why there is no connection or channel any more, or why there never was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Lost(String),
    /// The server's own words and number.
    #[error("Exception ({code}) Reason: {text:?}")]
    Closed { code: u16, text: String },
    #[error(
        "the server hung up during login: user, password and virtual host may be wrong, or it offers none of the ways to log in"
    )]
    Login,
    #[error("what answers does not speak AMQP 0-9-1; is this the port of RabbitMQ, and is TLS right?")]
    NotAmqp,
    #[error("the server broke the protocol: {0}")]
    Malformed(&'static str),
    #[error("no answer within {0:?}")]
    Silent(Duration),
    #[error("{0} is longer than the 255 bytes that AMQP allows")]
    TooLong(&'static str),
    /// The server took no responsibility for a message.
    #[error(
        "did not receive confirmation of publishing: the broker refused the message (a queue that takes no more has the \
         overflow reject-publish; the broker's log says whether it is something else)"
    )]
    Refused,
    /// In the server's own words.
    #[error(
        "the broker takes no messages at present: {0} (it goes on by itself when it has memory and disk again; \
         rabbitmq-diagnostics alarms says what is missing)"
    )]
    Blocked(String),
    #[error("the connection was closed")]
    Ended,
}
