//! Codes of pub/sub.

use super::Category::Pubsub;
use super::{Code, grpc, row};
use crate::error::{ApiError, Detail};
use std::collections::BTreeMap;
use std::fmt::Display;

pub const ROWS: &[&Code] = &[
    &NOT_CONFIGURED,
    &NOT_FOUND,
    &NAME_EMPTY,
    &TOPIC_EMPTY,
    &FORBIDDEN,
    &TOPIC_UNKNOWN,
    &REQUEST_METADATA,
    &CLOUD_EVENT,
    &ENVELOPE,
    &MARSHAL_EVENTS,
    &UNMARSHAL_EVENTS,
    &PUBLISH,
    &SUBSCRIBE,
    &OUTBOX,
];

pub static NOT_CONFIGURED: Code = row(
    Pubsub,
    "ERR_PUBSUB_NOT_CONFIGURED",
    "DAPR_PUBSUB_NOT_CONFIGURED",
    400,
    grpc::FAILED_PRECONDITION,
);
pub static NOT_FOUND: Code = row(
    Pubsub,
    "ERR_PUBSUB_NOT_FOUND",
    "DAPR_PUBSUB_NOT_FOUND",
    404,
    grpc::INVALID_ARGUMENT,
);
pub static NAME_EMPTY: Code = row(
    Pubsub,
    "ERR_PUBSUB_EMPTY",
    "DAPR_PUBSUB_NAME_EMPTY",
    404,
    grpc::INVALID_ARGUMENT,
);
pub static TOPIC_EMPTY: Code = row(
    Pubsub,
    "ERR_TOPIC_NAME_EMPTY",
    "DAPR_PUBSUB_TOPIC_NAME_EMPTY",
    404,
    grpc::INVALID_ARGUMENT,
);
pub static FORBIDDEN: Code = row(
    Pubsub,
    "ERR_PUBSUB_FORBIDDEN",
    "DAPR_PUBSUB_FORBIDDEN",
    403,
    grpc::PERMISSION_DENIED,
);
/// The broker does not know the topic.
/// COMPAT(pkg/api/errors/pubsub.go): 400 with the tag of an unknown component.
pub static TOPIC_UNKNOWN: Code = row(
    Pubsub,
    "ERR_PUBSUB_NOT_FOUND",
    "DAPR_PUBSUB_TEST_NOT_FOUND",
    400,
    grpc::NOT_FOUND,
);
pub static REQUEST_METADATA: Code = row(
    Pubsub,
    "ERR_PUBSUB_REQUEST_METADATA",
    "DAPR_PUBSUB_METADATA_DESERIALIZATION",
    400,
    grpc::INVALID_ARGUMENT,
);
pub static CLOUD_EVENT: Code = row(
    Pubsub,
    "ERR_PUBSUB_CLOUD_EVENTS_SER",
    "DAPR_PUBSUB_CLOUD_EVENT_CREATION",
    500,
    grpc::INVALID_ARGUMENT,
);
const EVENTS_TAG: &str = "ERR_PUBSUB_EVENTS_SER";
pub static ENVELOPE: Code = row(
    Pubsub,
    EVENTS_TAG,
    "DAPR_PUBSUB_MARSHAL_ENVELOPE",
    400,
    grpc::INVALID_ARGUMENT,
);
pub static MARSHAL_EVENTS: Code = row(
    Pubsub,
    EVENTS_TAG,
    "DAPR_PUBSUB_MARSHAL_EVENTS",
    400,
    grpc::INVALID_ARGUMENT,
);
pub static UNMARSHAL_EVENTS: Code = row(
    Pubsub,
    EVENTS_TAG,
    "DAPR_PUBSUB_UNMARSHAL_EVENTS",
    400,
    grpc::INVALID_ARGUMENT,
);
pub static PUBLISH: Code = row(
    Pubsub,
    "ERR_PUBSUB_PUBLISH_MESSAGE",
    "DAPR_PUBSUB_PUBLISH_MESSAGE",
    500,
    grpc::INTERNAL,
);
/// A stream could not subscribe. The reference answers it without a code; only gRPC has streams.
pub static SUBSCRIBE: Code = row(
    Pubsub,
    "ERR_PUBSUB_SUBSCRIBE",
    "DAPR_PUBSUB_SUBSCRIBE",
    500,
    grpc::UNKNOWN,
);
pub static OUTBOX: Code = row(
    Pubsub,
    "ERR_PUBLISH_OUTBOX",
    "DAPR_PUBSUB_OUTBOX",
    500,
    grpc::INTERNAL,
);

/// What the `ErrorInfo` of a pub/sub error carries; by default the request's metadata.
pub type Info = BTreeMap<String, String>;

pub fn not_configured(pubsub: &str, info: Info) -> ApiError {
    ApiError::rich(
        &NOT_CONFIGURED,
        format!("pubsub {pubsub} is not configured"),
        info,
    )
}

pub fn not_found(pubsub: &str, info: Info) -> ApiError {
    ApiError::rich(&NOT_FOUND, format!("pubsub {pubsub} is not found"), info)
}

pub fn name_empty(info: Info) -> ApiError {
    about("", &NAME_EMPTY, "pubsub name is empty".to_owned(), info)
}

pub fn topic_empty(pubsub: &str, info: Info) -> ApiError {
    about(
        pubsub,
        &TOPIC_EMPTY,
        format!("topic is empty in pubsub {pubsub}"),
        info,
    )
}

/// `rawPayload` and the like could not be read.
pub fn metadata_unreadable(pubsub: &str, cause: impl Display, info: Info) -> ApiError {
    about(
        pubsub,
        &REQUEST_METADATA,
        format!("failed deserializing metadata. Error: {cause}"),
        info,
    )
}

/// `cause` goes into the details only.
pub fn cloud_event(pubsub: &str, app_id: &str, cause: impl Display) -> ApiError {
    about(
        pubsub,
        &CLOUD_EVENT,
        "cannot create cloudevent".to_owned(),
        of_app(app_id, Some(&cause)),
    )
}

pub fn envelope(pubsub: &str, topic: &str, app_id: &str, cause: impl Display) -> ApiError {
    about(
        pubsub,
        &ENVELOPE,
        format!("error when marshalling cloud event envelope for topic {topic} pubsub {pubsub}: {cause}"),
        of_app(app_id, Some(&cause)),
    )
}

/// For example an entry id that is empty or used twice.
pub fn marshal_events(pubsub: &str, topic: &str, app_id: &str, cause: impl Display) -> ApiError {
    about(
        pubsub,
        &MARSHAL_EVENTS,
        format!("error marshaling events to bytes for topic {topic} pubsub {pubsub}. error: {cause}"),
        of_app(app_id, Some(&cause)),
    )
}

/// The body of a bulk publish could not be read.
pub fn unmarshal_events(pubsub: &str, topic: &str, app_id: &str, cause: impl Display) -> ApiError {
    about(
        pubsub,
        &UNMARSHAL_EVENTS,
        format!("error when unmarshaling the request for topic {topic} pubsub {pubsub}: {cause}"),
        of_app(app_id, None::<&str>),
    )
}

pub fn publish_failed(pubsub: &str, topic: &str, cause: impl Display) -> ApiError {
    about(
        pubsub,
        &PUBLISH,
        format!("error when publishing to topic {topic} in pubsub {pubsub}: {cause}"),
        of_topic(topic, &cause),
    )
}

/// COMPAT(pkg/runtime/processor/subscriber): the text.
pub fn subscribe_failed(pubsub: &str, topic: &str, cause: impl Display) -> ApiError {
    about(
        pubsub,
        &SUBSCRIBE,
        format!("failed to create subscription for {pubsub}: {cause}"),
        of_topic(topic, &cause),
    )
}

pub fn forbidden(pubsub: &str, topic: &str, app_id: &str) -> ApiError {
    let message = format!("topic {topic} is not allowed for app id {app_id}");
    let info = of_topic(topic, &message);
    about(pubsub, &FORBIDDEN, message, info)
}

/// The broker says that there is no such topic.
pub fn topic_unknown(pubsub: &str, topic: &str, cause: impl Display) -> ApiError {
    about(
        pubsub,
        &TOPIC_UNKNOWN,
        format!("pubsub '{pubsub}' not found"),
        of_topic(topic, &cause),
    )
}

/// The event of a transaction could not be announced; the transaction was not made.
pub fn outbox(app_id: &str, cause: impl Display) -> ApiError {
    ApiError::rich(
        &OUTBOX,
        format!("error while publishing outbox message: {cause}"),
        of_app(app_id, Some(&cause)),
    )
}

fn of_topic(topic: &str, cause: &(impl Display + ?Sized)) -> Info {
    Info::from([
        ("topic".to_owned(), topic.to_owned()),
        ("error".to_owned(), cause.to_string()),
    ])
}

fn of_app(app_id: &str, cause: Option<&(impl Display + ?Sized)>) -> Info {
    let mut info = Info::from([("appID".to_owned(), app_id.to_owned())]);
    if let Some(cause) = cause {
        info.insert("error".to_owned(), cause.to_string());
    }
    info
}

/// An error with the component as `ResourceInfo` (which repeats the message), then the `ErrorInfo`.
fn about(pubsub: &str, code: &'static Code, message: String, info: Info) -> ApiError {
    ApiError::new(code, message.clone())
        .with(Detail::ResourceInfo {
            resource_type: "pubsub".to_owned(),
            resource_name: pubsub.to_owned(),
            owner: String::new(),
            description: message,
        })
        .with(Detail::ErrorInfo {
            reason: code.reason.to_owned(),
            metadata: info,
        })
}
