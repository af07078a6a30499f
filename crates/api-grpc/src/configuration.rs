//! Configuration: read, subscribe, unsubscribe.
//!
//! A subscription is the body of its answer: it waits for a change when the client can take one, and ends when it is dropped,
//! unsubscribed, or the sidecar drains. Nothing is queued and no task is spawned.
//!
//! COMPAT(pkg/api/grpc/grpc.go): the first message of a stream has the subscription's id and no items; keys are sorted for
//! subscribing; an unsubscription that fails is told in its message.

use crate::error::{Failure, GRPC, Status, code};
use crate::observe::Observed;
use crate::public::Blocks;
use crate::subscribe::Pieces;
use crate::unary::{self, Inbound};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::Response;
use http::header::CONTENT_TYPE;
use http_body::Frame;
use outrigger_channel::body::Body;
use outrigger_channel::wire;
use outrigger_component::configuration::{Get, Items};
use outrigger_daemon::drain;
use outrigger_daemon::log::Log;
use outrigger_proto::dapr::common::v1::ConfigurationItem;
use outrigger_proto::dapr::runtime::v1 as proto;
use outrigger_runtime::configuration::Configuration;
use outrigger_runtime::configuration::watch::Watch;
use outrigger_runtime::error::Result;
use prost::Message as _;
use std::collections::HashMap;

pub(crate) async fn get(
    configuration: &Configuration,
    request: proto::GetConfigurationRequest,
) -> Result<proto::GetConfigurationResponse> {
    let get = Get {
        keys: request.keys,
        metadata: request.metadata.into_iter().collect(),
    };
    let found = configuration.get(&request.store_name, &get).await?;
    Ok(proto::GetConfigurationResponse { items: items(found) })
}

pub(crate) fn unsubscribe(
    configuration: &Configuration,
    request: &proto::UnsubscribeConfigurationRequest,
    log: &Log,
) -> proto::UnsubscribeConfigurationResponse {
    match configuration.unsubscribe_id(&request.id) {
        Ok(()) => {
            log.warn(
                "Unsubscribing using UnsubscribeConfiguration is deprecated. Disconnect from the SubscribeConfiguration RPC instead.",
            );
            proto::UnsubscribeConfigurationResponse {
                ok: true,
                message: String::new(),
            }
        }
        Err(error) => proto::UnsubscribeConfigurationResponse {
            ok: false,
            message: error.message,
        },
    }
}

/// A subscription in progress.
struct Session {
    watch: Watch,
    drain: drain::Watch,
    limit: usize,
    progress: Progress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Begun,
    Running,
    Ended,
}

/// `SubscribeConfiguration`. On `Ok` no later change is missed.
pub(crate) async fn subscribe(
    blocks: &Blocks,
    inbound: Inbound,
    seen: &mut Observed,
) -> Result<Response<Body>, Failure> {
    let Inbound { body, limit, .. } = inbound;
    let request = unary::read::<proto::SubscribeConfigurationRequest>(body, limit).await?;
    seen.received(&request.message, request.size);
    let request = request.message;
    let mut get = Get {
        keys: request.keys,
        metadata: request.metadata.into_iter().collect(),
    };
    get.keys.sort();
    let session = Session {
        watch: blocks.configuration.watch(&request.store_name, &get).await?,
        drain: blocks.drain.watch(),
        limit,
        progress: Progress::Begun,
    };
    let pieces = stream::unfold(session, |mut session| async {
        let frame = session.next().await?;
        Some((frame, session))
    });
    let mut response = Response::new(Body::stream(Pieces::new(pieces)));
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    Ok(response)
}

impl Session {
    /// The next piece of the answer; `None` after the last.
    async fn next(&mut self) -> Option<Frame<Bytes>> {
        let changed = match self.progress {
            Progress::Ended => return None,
            Progress::Begun => Items::new(),
            Progress::Running => {
                let next = tokio::select! {
                    next = self.watch.next() => next,
                    () = self.drain.draining() => None,
                };
                match next {
                    Some(items) => items,
                    None => return Some(self.end(wire::grpc_trailers(0, ""))),
                }
            }
        };
        self.progress = Progress::Running;
        let message = proto::SubscribeConfigurationResponse {
            id: self.watch.id().to_owned(),
            items: items(changed),
        };
        let size = message.encoded_len();
        if size > self.limit {
            let text = format!(
                "grpc: trying to send message larger than max ({size} vs. {})",
                self.limit
            );
            let status = Status::new(code::RESOURCE_EXHAUSTED, text);
            return Some(self.end(status.trailers()));
        }
        Some(Frame::data(wire::frame(&message)))
    }

    fn end(&mut self, trailers: http::HeaderMap) -> Frame<Bytes> {
        self.progress = Progress::Ended;
        Frame::trailers(trailers)
    }
}

fn items(items: Items) -> HashMap<String, ConfigurationItem> {
    items
        .into_iter()
        .map(|(key, item)| {
            let item = ConfigurationItem {
                value: item.value,
                version: item.version,
                metadata: item.metadata.into_inner().into_iter().collect(),
            };
            (key, item)
        })
        .collect()
}
