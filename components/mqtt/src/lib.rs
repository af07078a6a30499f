//! MQTT 3.1.1: `pubsub.mqtt3` and `bindings.mqtt3`, with the client ids, sessions and topics of the reference's components.
//!
//! The client is our own: [`packet`] is the bytes, [`session`] what outlives a connection, [`connection`] the task that
//! reads and writes and connects anew.
//!
//! Deliberately absent: MQTT 5, and MQTT over WebSocket.

mod binding;
mod config;
mod connection;
mod filter;
mod packet;
mod pubsub;
mod session;
mod url;

use outrigger_component::registry::Registry;
use std::time::Duration;

/// Adds `pubsub.mqtt3` and `bindings.mqtt3`, also as `mqtt`.
///
/// # Panics
/// When one of them is registered already.
pub fn register(registry: &mut Registry) {
    registry
        .pubsub("mqtt3", pubsub::Topics::connect)
        .options(&[config::CLIENT, config::PUBSUB])
        .also("mqtt");
    registry
        .output_binding("mqtt3", binding::Output::connect)
        .options(&[config::CLIENT, config::BINDING])
        .also("mqtt");
    registry
        .input_binding("mqtt3", binding::Input::connect)
        .options(&[config::CLIENT, config::BINDING])
        .also("mqtt");
}

/// Why there is no connection, or why a request came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Lost(String),
    #[error("{0}")]
    Refused(Refusal),
    #[error("what answers does not speak MQTT 3.1.1; is this the port of the broker, and is TLS right?")]
    NotMqtt,
    #[error("the broker broke the protocol: {0}")]
    Malformed(&'static str),
    #[error("no answer within {0:?}")]
    Silent(Duration),
    #[error("{0}")]
    Invalid(String),
    /// A message that is the first to be sent, again and again.
    #[error(
        "the broker ended the connection {0} times in a row while it had this message before it: it may be larger than the broker \
         takes (max_packet_size of Mosquitto)"
    )]
    Fatal(u32),
    #[error("the broker does not allow the subscription")]
    Forbidden,
    #[error("the connection was closed")]
    Ended,
}

/// What a broker says instead of "welcome".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error("the broker does not take MQTT 3.1.1")]
    Version,
    #[error("the broker does not take this client id (consumerID)")]
    Client,
    #[error("the broker is not available")]
    Unavailable,
    #[error("bad user name or password")]
    Password,
    #[error("not authorized")]
    Forbidden,
    #[error("the broker refuses with code {0}")]
    Other(u8),
}

impl Refusal {
    /// Of the reply codes of the standard, section 3.2.2.3.
    pub(crate) const fn of(code: u8) -> Self {
        match code {
            1 => Self::Version,
            2 => Self::Client,
            3 => Self::Unavailable,
            4 => Self::Password,
            5 => Self::Forbidden,
            other => Self::Other(other),
        }
    }
}

impl Failure {
    fn kind(&self) -> outrigger_component::error::Kind {
        use outrigger_component::error::Kind;
        match self {
            Self::Lost(_) | Self::Ended | Self::Refused(Refusal::Unavailable) => Kind::Unavailable,
            Self::Silent(_) => Kind::Timeout,
            Self::Fatal(_) => Kind::Exhausted,
            Self::Refused(Refusal::Password | Refusal::Forbidden) | Self::Forbidden => Kind::PermissionDenied,
            Self::Refused(_) | Self::NotMqtt | Self::Invalid(_) => Kind::Invalid,
            Self::Malformed(_) => Kind::Internal,
        }
    }

    /// `what` begins the sentence.
    fn error(self, what: &str) -> outrigger_component::error::Error {
        outrigger_component::error::Error::caused(self.kind(), what, self)
    }
}
