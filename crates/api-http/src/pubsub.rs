//! Publishing, one event or several.
//!
//! COMPAT(pkg/api/http/http.go onPublish, onBulkPublish).

use crate::json;
use crate::middleware::limit;
use crate::query;
use crate::reply;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap};
use http::{Response, StatusCode};
use outrigger_channel::body::Body;
use outrigger_channel::json::{Object, or_default, texts};
use outrigger_component::metadata::Metadata;
use outrigger_daemon::trace::Context;
use outrigger_runtime::catalogue::pubsub as catalogue;
use outrigger_runtime::error::Result;
use outrigger_runtime::pubsub::Pubsub;
use outrigger_runtime::pubsub::bulk::{Entry, Event, PublishBulk, Rejected};
use outrigger_runtime::pubsub::publish::{Door, Publish};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// `POST /v1.0/publish/{pubsub}/{topic}`
pub(crate) async fn publish(
    block: &Pubsub,
    (pubsub, topic): (&str, &str),
    query: Option<&str>,
    headers: &HeaderMap,
    body: Body,
    trace: Option<&Context>,
) -> Result<Response<Body>> {
    let data = limit::read(body)
        .await
        .map_err(|cause| catalogue::publish_failed(pubsub, topic, cause))?;
    let publish = Publish {
        pubsub: pubsub.to_owned(),
        topic: topic.to_owned(),
        data,
        content_type: content_type(headers),
        metadata: query::metadata(query),
        trace: trace.cloned(),
        door: Door::Http,
    };
    block.publish(publish).await?;
    Ok(reply::empty())
}

/// `POST /v1.0/publish/bulk/{pubsub}/{topic}`
pub(crate) async fn publish_bulk(
    block: &Pubsub,
    (pubsub, topic): (&str, &str),
    query: Option<&str>,
    body: Body,
    trace: Option<&Context>,
) -> Result<Answer> {
    let metadata = query::metadata(query);
    block.check(pubsub, topic, &metadata)?;
    let undecodable = |cause: String| block.undecodable(pubsub, topic, &cause);
    let body = limit::read(body).await.map_err(undecodable)?;
    let entries: Option<Vec<Object<Given<'_>>>> =
        json::first(&body, "[]http.bulkPublishMessageEntry").map_err(undecodable)?;
    let publish = PublishBulk {
        pubsub: pubsub.to_owned(),
        topic: topic.to_owned(),
        entries: entries
            .unwrap_or_default()
            .into_iter()
            .map(|Object(given)| given.into_entry(&body))
            .collect(),
        metadata,
        trace: trace.cloned(),
        door: Door::Http,
    };
    match block.publish_bulk(publish).await {
        Ok(()) => Ok(Answer::All),
        Err(rejected) if rejected.failed.is_empty() => Err(rejected.error),
        Err(rejected) => Ok(Answer::Some(rejected)),
    }
}

/// How a bulk publish ended.
pub(crate) enum Answer {
    All,
    /// Some entries failed; the answer names them.
    Some(Rejected),
}

impl Answer {
    pub(crate) fn response(&self) -> Response<Body> {
        let rejected = match self {
            Self::All => return reply::empty(),
            Self::Some(rejected) => rejected,
        };
        let failed = rejected.failed.iter();
        let shown = serde_json::to_string(&Failed {
            entries: failed
                .map(|entry| FailedEntry {
                    id: &entry.id,
                    error: &entry.error,
                })
                .collect(),
            code: rejected.error.code.tag,
        })
        .expect("texts can be written as JSON");
        let status =
            StatusCode::from_u16(rejected.error.code.http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // COMPAT: both are repeated in headers.
        let metadata: Metadata = [
            ("responseData", shown.as_str()),
            ("error", rejected.error.message.as_str()),
        ]
        .into_iter()
        .collect();
        let mut response = reply::json_bytes(status, shown);
        reply::add_metadata(response.headers_mut(), &metadata);
        response
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Given<'b> {
    #[serde(alias = "entryID", alias = "entryid", deserialize_with = "or_default")]
    entry_id: String,
    #[serde(borrow)]
    event: Option<&'b RawValue>,
    #[serde(deserialize_with = "or_default")]
    content_type: String,
    #[serde(deserialize_with = "texts")]
    metadata: BTreeMap<String, String>,
}

impl Given<'_> {
    fn into_entry(self, body: &Bytes) -> Entry {
        Entry {
            id: self.entry_id,
            event: Event::Json(
                self.event
                    .map_or(Bytes::from_static(b"null"), |event| json::value(body, event)),
            ),
            content_type: self.content_type,
            metadata: self.metadata.into_iter().collect(),
        }
    }
}

#[derive(Serialize)]
struct Failed<'r> {
    #[serde(rename = "failedEntries")]
    entries: Vec<FailedEntry<'r>>,
    #[serde(rename = "errorCode")]
    code: &'r str,
}

#[derive(Serialize)]
struct FailedEntry<'r> {
    #[serde(rename = "entryId")]
    id: &'r str,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'r str,
}

fn content_type(headers: &HeaderMap) -> String {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned()
}
