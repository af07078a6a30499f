//! Publishing, one event or several. Subscriptions that apps hold open are in `subscribe.rs`.
//!
//! COMPAT(pkg/api/grpc/grpc.go bulkPublishEvent): a bulk publish that fails in part fails as a whole for the caller; the
//! list of failed entries in an answer is therefore always empty.

use outrigger_daemon::trace::Context;
use outrigger_proto::dapr::runtime::v1 as proto;
use outrigger_runtime::error::Result;
use outrigger_runtime::pubsub::Pubsub;
use outrigger_runtime::pubsub::bulk::{Entry, Event, PublishBulk};
use outrigger_runtime::pubsub::publish::{Door, Publish};

pub(crate) async fn publish(
    pubsub: &Pubsub,
    request: proto::PublishEventRequest,
    trace: Option<Context>,
) -> Result<()> {
    let publish = Publish {
        pubsub: request.pubsub_name,
        topic: request.topic,
        data: request.data,
        content_type: request.data_content_type,
        metadata: request.metadata.into_iter().collect(),
        trace,
        door: Door::Grpc,
    };
    pubsub.publish(publish).await
}

pub(crate) async fn publish_bulk(
    pubsub: &Pubsub,
    request: proto::BulkPublishRequest,
    trace: Option<Context>,
) -> Result<proto::BulkPublishResponse> {
    let entry = |entry: proto::BulkPublishRequestEntry| Entry {
        id: entry.entry_id,
        event: Event::Bytes(entry.event),
        content_type: entry.content_type,
        metadata: entry.metadata.into_iter().collect(),
    };
    let publish = PublishBulk {
        pubsub: request.pubsub_name,
        topic: request.topic,
        entries: request.entries.into_iter().map(entry).collect(),
        metadata: request.metadata.into_iter().collect(),
        trace,
        door: Door::Grpc,
    };
    pubsub
        .publish_bulk(publish)
        .await
        .map_err(|rejected| rejected.error)?;
    Ok(proto::BulkPublishResponse::default())
}
