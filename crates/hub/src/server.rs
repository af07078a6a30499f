//! The hub's gRPC services: decode, one call, encode.

mod control;
pub(crate) mod door;
mod names;
mod state;
mod topics;

use crate::broker::Broker;
use crate::commit::{Failure, Reason};
use door::{Connection, Door};
use hyper_util::service::TowerToHyperService;
use outrigger_daemon::drain::{self, serve};
use outrigger_daemon::log::Log;
use outrigger_daemon::tasks::Spawner;
use outrigger_proto::hub::v1;
use std::sync::Arc;
use std::time::Duration;
use tonic::service::Routes;
use tonic::{Code, Status};

/// Beside the largest message: field tags, keys, a batch's small change.
const MESSAGE_SLACK: usize = 1 << 20;
/// Longest name of a topic, group, space or app, and longest key, bytes.
const NAME: usize = 1 << 10;
const KEY: usize = 16 << 10;

/// Serves until `watch` drains.
pub(crate) async fn serve(door: Door, broker: Arc<Broker>, watch: drain::Watch, spawner: Spawner, log: Log) {
    let config = &broker.parts().config;
    let limit = config.limits.message_bytes + MESSAGE_SLACK;
    let options = serve::Options {
        protocol: serve::Protocol::Http2,
        deadline: Duration::from_secs(3),
        max_connections: config.limits.connections,
        ..serve::Options::default()
    };
    let topics = v1::topics_server::TopicsServer::new(topics::Service(broker.clone()))
        .max_decoding_message_size(limit)
        .max_encoding_message_size(usize::MAX);
    let state = v1::state_server::StateServer::new(state::Service(broker.clone()))
        .max_decoding_message_size(limit)
        .max_encoding_message_size(usize::MAX);
    let names = v1::names_server::NamesServer::new(names::Service(broker.clone()));
    let control = v1::control_server::ControlServer::new(control::Service(broker));
    let routes = Routes::new(topics)
        .add_service(state)
        .add_service(names)
        .add_service(control)
        .prepare();
    let service = move |_: &Connection| TowerToHyperService::new(routes.clone());
    serve::serve(door, service, watch, options, &spawner, &log).await;
}

/// For a call of which nothing was done.
fn status(failure: &Failure) -> Status {
    let code = match failure.reason {
        Reason::Conflict => Code::Aborted,
        Reason::InvalidEtag | Reason::Invalid => Code::InvalidArgument,
        Reason::Limit | Reason::DiskFull => Code::ResourceExhausted,
        Reason::DiskFailed => Code::Internal,
        Reason::Closing => Code::Unavailable,
    };
    Status::new(code, failure.message.clone())
}

/// For one part of a call.
fn wire(failure: Failure) -> v1::Failure {
    use v1::failure::Reason as Wire;
    let reason = match failure.reason {
        Reason::Conflict => Wire::Conflict,
        Reason::InvalidEtag => Wire::InvalidEtag,
        Reason::Invalid => Wire::Invalid,
        Reason::Limit => Wire::Limit,
        Reason::DiskFull => Wire::DiskFull,
        Reason::DiskFailed => Wire::DiskFailed,
        Reason::Closing => Wire::Closing,
    };
    v1::Failure {
        reason: reason.into(),
        message: failure.message,
    }
}

fn closing() -> Status {
    Status::unavailable("the hub is ending")
}

/// A name of something: not empty, not too long, no control characters.
fn check_name(what: &str, name: &str) -> Result<(), Failure> {
    let wrong = |problem: &str| {
        Err(Failure::new(
            Reason::Invalid,
            format!("the name of the {what} {problem}"),
        ))
    };
    if name.is_empty() {
        return wrong("is empty");
    }
    if name.len() > NAME {
        return wrong("is longer than 1,024 bytes");
    }
    if name.chars().any(char::is_control) {
        return wrong("has a control character in it");
    }
    Ok(())
}
