//! Events of input bindings: what goes to the app, and what its answer asks for.
//!
//! An app may ask that state is saved and that output bindings are called with data. A gRPC app says so in its message,
//! an HTTP app in a JSON object: `{"storeName": …, "state": [{"key": …, "value": …}], "to": […], "concurrency": "parallel",
//! "data": …}`. Any other answer of an HTTP app asks for nothing.

use crate::error::Error;
use crate::json::{Object, or_default, texts};
use bytes::Bytes;
use outrigger_component::metadata::Metadata;
use outrigger_component::state::{Concurrency, Consistency, Set};
use outrigger_daemon::trace::Context;
use outrigger_proto::dapr::common::v1::state_options::{StateConcurrency, StateConsistency};
use outrigger_proto::dapr::common::v1::{StateItem, StateOptions};
use outrigger_proto::dapr::runtime::v1::BindingEventResponse;
use outrigger_proto::dapr::runtime::v1::binding_event_response::BindingEventConcurrency;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// One event on its way to the app.
#[derive(Debug, Clone)]
pub struct Event {
    /// Of the component.
    pub name: String,
    /// Where an HTTP app wants it.
    pub route: String,
    pub data: Bytes,
    pub metadata: Metadata,
    /// Trace of this delivery, when there is one.
    pub trace: Option<Context>,
}

/// The app took the event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    /// Of an HTTP app, 200 to 299; policies count 200 only as a success.
    pub status: Option<u16>,
    /// For the source of the event.
    pub data: Bytes,
    pub follow_up: FollowUp,
}

/// What the app wants to be done with the event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FollowUp {
    /// State to save in `store`.
    pub states: Vec<Set>,
    pub store: String,
    /// Output bindings to call with `data`.
    pub to: Vec<String>,
    /// All at once, instead of one after the other up to the first that fails.
    pub parallel: bool,
    pub data: Bytes,
}

impl FollowUp {
    pub fn is_empty(&self) -> bool {
        self.states.is_empty() && self.to.is_empty()
    }
}

/// An HTTP app's answer.
///
/// # Errors
/// A status that is no success.
pub(super) fn of_http(status: u16, body: Bytes) -> Result<Reply, Error> {
    if !(200..=299).contains(&status) {
        return Err(Error::Http {
            status,
            message: format!(
                "fails to send binding event to http app channel, status code: {status} body: {}",
                String::from_utf8_lossy(&body)
            ),
        });
    }
    Ok(Reply {
        status: Some(status),
        follow_up: Asked::read(&body).unwrap_or_default(),
        data: body,
    })
}

/// A gRPC app's answer.
pub(super) fn of_grpc(answer: BindingEventResponse) -> Reply {
    let parallel = answer.concurrency == i32::from(BindingEventConcurrency::Parallel);
    Reply {
        status: None,
        follow_up: FollowUp {
            states: answer.states.into_iter().map(set).collect(),
            store: answer.store_name,
            to: answer.to,
            parallel,
            data: answer.data.clone(),
        },
        data: answer.data,
    }
}

fn set(item: StateItem) -> Set {
    let options = item.options.unwrap_or_default();
    Set {
        key: item.key,
        value: item.value,
        is_json: item
            .metadata
            .get("contentType")
            .is_some_and(|kind| kind == "application/json"),
        etag: item.etag.map(|etag| etag.value),
        concurrency: concurrency(&options),
        consistency: consistency(&options),
        content_type: item.metadata.get("contentType").cloned(),
        metadata: item.metadata.into_iter().collect(),
    }
}

fn concurrency(options: &StateOptions) -> Concurrency {
    match StateConcurrency::try_from(options.concurrency) {
        Ok(StateConcurrency::ConcurrencyFirstWrite) => Concurrency::FirstWrite,
        Ok(StateConcurrency::ConcurrencyLastWrite) => Concurrency::LastWrite,
        Ok(StateConcurrency::ConcurrencyUnspecified) | Err(_) => Concurrency::Unspecified,
    }
}

fn consistency(options: &StateOptions) -> Consistency {
    match StateConsistency::try_from(options.consistency) {
        Ok(StateConsistency::ConsistencyEventual) => Consistency::Eventual,
        Ok(StateConsistency::ConsistencyStrong) => Consistency::Strong,
        Ok(StateConsistency::ConsistencyUnspecified) | Err(_) => Consistency::Unspecified,
    }
}

/// The JSON of an HTTP app that asks for something.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Asked<'b> {
    #[serde(deserialize_with = "or_default")]
    store_name: String,
    #[serde(borrow, deserialize_with = "or_default")]
    state: Vec<Object<Item<'b>>>,
    #[serde(deserialize_with = "or_default")]
    to: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    concurrency: String,
    #[serde(borrow)]
    data: Option<&'b RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Item<'b> {
    #[serde(deserialize_with = "or_default")]
    key: String,
    #[serde(borrow)]
    value: Option<&'b RawValue>,
    etag: Option<String>,
    #[serde(deserialize_with = "texts")]
    metadata: BTreeMap<String, String>,
    options: Object<Options>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Options {
    #[serde(deserialize_with = "or_default")]
    concurrency: String,
    #[serde(deserialize_with = "or_default")]
    consistency: String,
}

impl Asked<'_> {
    /// `None` for a body that is something else: apps answer what they like.
    fn read(body: &Bytes) -> Option<FollowUp> {
        if body.first() != Some(&b'{') {
            return None;
        }
        let asked: Asked<'_> = serde_json::from_slice(body).ok()?;
        let value = |raw: Option<&RawValue>| {
            raw.map_or(Bytes::from_static(b"null"), |raw| {
                body.slice_ref(raw.get().as_bytes())
            })
        };
        let states = asked.state.into_iter().map(|Object(item)| Set {
            key: item.key,
            value: value(item.value),
            is_json: true,
            etag: item.etag,
            concurrency: match item.options.0.concurrency.as_str() {
                "first-write" => Concurrency::FirstWrite,
                "last-write" => Concurrency::LastWrite,
                _ => Concurrency::Unspecified,
            },
            consistency: match item.options.0.consistency.as_str() {
                "strong" => Consistency::Strong,
                "eventual" => Consistency::Eventual,
                _ => Consistency::Unspecified,
            },
            content_type: item.metadata.get("contentType").cloned(),
            metadata: item.metadata.into_iter().collect(),
        });
        Some(FollowUp {
            // State for no store is not meant for us.
            states: if asked.store_name.is_empty() {
                Vec::new()
            } else {
                states.collect()
            },
            store: asked.store_name,
            to: asked.to,
            parallel: asked.concurrency == "parallel",
            data: value(asked.data),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{FollowUp, of_http};
    use bytes::Bytes;
    use outrigger_component::state::{Concurrency, Set};

    #[test]
    fn what_an_http_app_asks_for() {
        let full = r#"{"storeName":"s","state":[{"key":"k","value":{"a": 1},"options":{"concurrency":"first-write"}}],
            "to":["x","y"],"concurrency":"parallel","data":[1, 2]}"#;
        let expected = FollowUp {
            states: vec![Set {
                key: "k".to_owned(),
                value: Bytes::from_static(b"{\"a\": 1}"),
                is_json: true,
                concurrency: Concurrency::FirstWrite,
                ..Set::default()
            }],
            store: "s".to_owned(),
            to: vec!["x".to_owned(), "y".to_owned()],
            parallel: true,
            data: Bytes::from_static(b"[1, 2]"),
        };
        let reply = of_http(200, Bytes::from(full)).unwrap();
        assert_eq!(reply.follow_up, expected);
        assert_eq!(reply.data, full);
        let nulls = r#"{"storeName":"s","state":[{"key":"k","etag":null,"metadata":null,"options":null}],
            "to":null,"concurrency":null,"data":null}"#;
        let reply = of_http(200, Bytes::from(nulls)).unwrap();
        assert_eq!(reply.follow_up.states.len(), 1);
        for body in [
            "",
            "OK",
            "[]",
            r#"{"storeName":"s","state":[["k",1]]}"#,
            r#"{"storeName":"s","state":[{"key":"k","options":["first-write"]}]}"#,
            r#"{"to": "ann@example.org", "subject": "hi"}"#,
            r#"{"state": [{"key": "k", "value": 1}]}"#,
            r#"{"state": "open"}"#,
            r#"{"to": ["x"]"#,
        ] {
            let reply = of_http(204, Bytes::from(body)).unwrap();
            assert!(reply.follow_up.is_empty(), "{body}");
            assert_eq!(reply.data, body);
        }
        let error = of_http(404, Bytes::from_static(b"no")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "fails to send binding event to http app channel, status code: 404 body: no"
        );
    }
}
