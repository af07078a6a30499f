//! State: read, write, delete, several at once.
//!
//! COMPAT(pkg/api/http/http.go): the store is looked up before the body is read; metadata of the query wins over metadata of
//! the body.

mod item;

use crate::json;
use crate::middleware::limit;
use crate::query;
use crate::reply;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::header::{ETAG, HeaderValue, IF_MATCH};
use http::{HeaderMap, Response, StatusCode};
use item::Item;
use outrigger_channel::body::Body;
use outrigger_channel::json::{Object, or_default, texts};
use outrigger_component::metadata::Metadata;
use outrigger_component::state::{Concurrency, Consistency, Delete, Get, Write};
use outrigger_daemon::trace::Context;
use outrigger_runtime::catalogue::{common, state as catalogue};
use outrigger_runtime::error::Result;
use outrigger_runtime::state::State;
use outrigger_runtime::state::bulk::{BulkGet, Entry};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// `GET /v1.0/state/{store}/{key}`
pub(crate) async fn get(
    state: &State,
    store: &str,
    key: &str,
    query: Option<&str>,
) -> Result<Response<Body>> {
    let get = Get {
        key: key.to_owned(),
        consistency: query::value(query, "consistency").map_or(Consistency::Unspecified, |text| {
            consistency(&text).unwrap_or_default()
        }),
        metadata: query::metadata(query),
    };
    let Some(item) = state.store(store)?.get(get).await? else {
        return Ok(reply::empty());
    };
    let mut response = reply::json_bytes(StatusCode::OK, item.value);
    let headers = response.headers_mut();
    if let Some(Ok(etag)) = item.etag.map(HeaderValue::try_from) {
        headers.insert(ETAG, etag);
    }
    reply::add_metadata(headers, &item.metadata);
    Ok(response)
}

/// `POST /v1.0/state/{store}`
pub(crate) async fn save(
    state: &State,
    store: &str,
    query: Option<&str>,
    body: Body,
) -> Result<Response<Body>> {
    let store = state.store(store)?;
    let body = limit::read(body).await.map_err(common::malformed)?;
    let items: Option<Vec<Option<Item<'_>>>> =
        json::first(&body, "[]state.SetRequest").map_err(common::malformed)?;
    let metadata = query::metadata(query);
    let mut sets = Vec::with_capacity(items.as_ref().map_or(0, Vec::len));
    for item in items.unwrap_or_default() {
        let item = item.unwrap_or_default();
        if item.key.is_empty() {
            return Err(catalogue::key_missing());
        }
        let set = item.into_set(&body, &metadata);
        sets.push(set.map_err(|cause| catalogue::save_failed(&catalogue::SAVE, store.name(), cause))?);
    }
    store.save(sets).await?;
    Ok(reply::empty())
}

/// `DELETE /v1.0/state/{store}/{key}`
pub(crate) async fn delete(
    state: &State,
    store: &str,
    key: &str,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Result<Response<Body>> {
    let store = state.store(store)?;
    let option = |name| query::value(query, name).unwrap_or_default();
    let failed = |cause| catalogue::delete_failed(&catalogue::DELETE, key, cause);
    let delete = Delete {
        key: key.to_owned(),
        etag: headers
            .get(IF_MATCH)
            .map(|tag| String::from_utf8_lossy(tag.as_bytes()).into_owned()),
        concurrency: concurrency(&option("concurrency")).map_err(failed)?,
        consistency: consistency(&option("consistency")).map_err(failed)?,
        metadata: query::metadata(query),
    };
    store.delete(delete).await?;
    Ok(reply::empty())
}

/// `POST /v1.0/state/{store}/bulk`
pub(crate) async fn bulk(
    state: &State,
    store: &str,
    query: Option<&str>,
    body: Body,
) -> Result<Response<Body>> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Request {
        #[serde(deserialize_with = "or_default")]
        keys: Vec<String>,
        #[serde(deserialize_with = "or_default")]
        parallelism: i32,
        #[serde(deserialize_with = "texts")]
        metadata: BTreeMap<String, String>,
    }

    let store = state.store(store)?;
    let body = limit::read(body).await.map_err(common::malformed_body)?;
    let Object(request): Object<Request> =
        json::first(&body, "http.BulkGetRequest").map_err(common::malformed_body)?;
    let request = BulkGet {
        keys: request.keys,
        parallelism: request.parallelism,
        metadata: merged(request.metadata, &query::metadata(query)),
    };
    let entries = store.bulk_get(request).await?;
    let shown: Vec<Shown> = entries.into_iter().map(Shown::from).collect();
    Ok(reply::json(StatusCode::OK, &shown))
}

/// `POST /v1.0/state/{store}/transaction`
pub(crate) async fn transact(
    state: &State,
    store: &str,
    query: Option<&str>,
    body: Body,
    trace: Option<&Context>,
) -> Result<Response<Body>> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Request<'b> {
        #[serde(borrow, deserialize_with = "or_default")]
        operations: Vec<Object<Operation<'b>>>,
        #[serde(deserialize_with = "texts")]
        metadata: BTreeMap<String, String>,
    }

    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Operation<'b> {
        #[serde(deserialize_with = "or_default")]
        operation: String,
        #[serde(borrow)]
        request: Option<&'b RawValue>,
    }

    let store = state.store(store)?.transactional()?;
    let body = limit::read(body).await.map_err(common::malformed_body)?;
    let Object(request): Object<Request<'_>> =
        json::first(&body, "http.stateTransactionRequestBody").map_err(common::malformed_body)?;
    let metadata = query::metadata(query);
    let mut writes = Vec::new();
    for Object(Operation { operation, request }) in request.operations {
        let item = || -> Result<Item<'_>> {
            let text = request.map_or("null", RawValue::get);
            serde_json::from_str::<Option<Item<'_>>>(text)
                .map(Option::unwrap_or_default)
                .map_err(common::malformed_body)
        };
        let write = match operation.as_str() {
            "upsert" => item()?.into_set(&body, &metadata).map(Write::Set),
            "delete" => item()?.into_delete(&metadata).map(Write::Delete),
            other => return Err(catalogue::operation_unsupported(other)),
        };
        writes.push(write.map_err(catalogue::transaction_failed)?);
    }
    store
        .transact(writes, merged(request.metadata, &metadata), trace)
        .await?;
    Ok(reply::empty())
}

/// `POST /v1.0-alpha1/state/{store}/query`. Without results 204.
pub(crate) async fn query(
    state: &State,
    store: &str,
    query: Option<&str>,
    body: Body,
) -> Result<Response<Body>> {
    #[derive(Serialize)]
    struct Told<'p> {
        results: Vec<Match<'p>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        token: Option<&'p str>,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        metadata: BTreeMap<&'p str, &'p str>,
    }

    #[derive(Serialize)]
    struct Match<'p> {
        key: &'p str,
        data: Option<Box<RawValue>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        etag: Option<&'p str>,
    }

    let body = limit::read(body).await.map_err(common::body_read)?;
    let page = state.store(store)?.query(&body, query::metadata(query)).await?;
    if page.results.is_empty() {
        return Ok(reply::empty());
    }
    let told = Told {
        results: page
            .results
            .iter()
            .map(|found| Match {
                key: &found.key,
                data: raw(&found.value),
                etag: found.etag.as_deref(),
            })
            .collect(),
        token: page.token.as_deref(),
        metadata: page.metadata.iter().collect(),
    };
    Ok(reply::json(StatusCode::OK, &told))
}

/// An entry of a bulk read.
#[derive(Serialize)]
struct Shown {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
}

impl From<Entry> for Shown {
    fn from(entry: Entry) -> Self {
        let mut shown = Self {
            key: entry.key,
            data: None,
            etag: None,
            metadata: BTreeMap::new(),
            error: String::new(),
        };
        match entry.outcome {
            Ok(Some(item)) => {
                shown.data = raw(&item.value);
                shown.etag = item.etag;
                shown.metadata = item.metadata.into_inner();
            }
            Ok(None) => {}
            Err(error) => shown.error = error,
        }
        shown
    }
}

/// A stored value within JSON. What is no JSON itself is shown as text, or in base64 if it is no text either.
/// COMPAT: the reference then answers 200 with an empty body.
fn raw(value: &Bytes) -> Option<Box<RawValue>> {
    if value.is_empty() {
        return None;
    }
    if let Ok(value) = serde_json::from_slice::<&RawValue>(value) {
        return Some(value.to_owned());
    }
    let text = std::str::from_utf8(value).map_or_else(|_| BASE64.encode(value), str::to_owned);
    serde_json::value::to_raw_value(&text).ok()
}

fn merged(body: BTreeMap<String, String>, query: &Metadata) -> Metadata {
    let mut metadata: Metadata = body.into_iter().collect();
    metadata.extend(query.iter());
    metadata
}

/// COMPAT(components-contrib state/request_options.go): the words and the texts.
fn concurrency(text: &str) -> Result<Concurrency, String> {
    match text {
        "" => Ok(Concurrency::Unspecified),
        "first-write" => Ok(Concurrency::FirstWrite),
        "last-write" => Ok(Concurrency::LastWrite),
        other => Err(format!("unrecognized concurrency model '{other}'")),
    }
}

fn consistency(text: &str) -> Result<Consistency, String> {
    match text {
        "" => Ok(Consistency::Unspecified),
        "eventual" => Ok(Consistency::Eventual),
        "strong" => Ok(Consistency::Strong),
        other => Err(format!("unrecognized consistency model '{other}'")),
    }
}
