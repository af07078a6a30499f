//! State: read, write, delete, several at once.
//!
//! COMPAT(pkg/api/grpc/grpc.go): unknown numbers of options count as unspecified.

use outrigger_component::state::{Concurrency, Consistency, Delete, Get, Set, Write};
use outrigger_daemon::trace::Context;
use outrigger_proto::dapr::common::v1::state_options::{StateConcurrency, StateConsistency};
use outrigger_proto::dapr::common::v1::{StateItem, StateOptions};
use outrigger_proto::dapr::runtime::v1 as proto;
use outrigger_runtime::catalogue::state as catalogue;
use outrigger_runtime::error::Result;
use outrigger_runtime::state::State;
use outrigger_runtime::state::bulk::{BulkGet, Entry};

pub(crate) async fn get(state: &State, request: proto::GetStateRequest) -> Result<proto::GetStateResponse> {
    let get = Get {
        key: request.key,
        consistency: consistency(request.consistency),
        metadata: request.metadata.into_iter().collect(),
    };
    let item = state
        .store(&request.store_name)?
        .get(get)
        .await?
        .unwrap_or_default();
    Ok(proto::GetStateResponse {
        data: item.value,
        etag: item.etag.unwrap_or_default(),
        metadata: item.metadata.into_inner().into_iter().collect(),
    })
}

pub(crate) async fn bulk(
    state: &State,
    request: proto::GetBulkStateRequest,
) -> Result<proto::GetBulkStateResponse> {
    let store = state.store(&request.store_name)?;
    let get = BulkGet {
        keys: request.keys,
        parallelism: request.parallelism,
        metadata: request.metadata.into_iter().collect(),
    };
    let entries = store.bulk_get(get).await?;
    Ok(proto::GetBulkStateResponse {
        items: entries.into_iter().map(entry).collect(),
    })
}

pub(crate) async fn save(state: &State, request: proto::SaveStateRequest) -> Result<()> {
    let store = state.store(&request.store_name)?;
    let sets: Result<Vec<Set>, _> = request.states.into_iter().map(checked_set).collect();
    let sets = sets.map_err(|cause| catalogue::save_failed(&catalogue::SAVE, store.name(), cause))?;
    store.save(sets).await
}

pub(crate) async fn delete(state: &State, request: proto::DeleteStateRequest) -> Result<()> {
    let store = state.store(&request.store_name)?;
    let item = StateItem {
        key: request.key,
        etag: request.etag,
        options: request.options,
        metadata: request.metadata,
        ..StateItem::default()
    };
    store.delete(item_delete(item)).await
}

pub(crate) async fn delete_bulk(state: &State, request: proto::DeleteBulkStateRequest) -> Result<()> {
    let store = state.store(&request.store_name)?;
    store
        .delete_bulk(request.states.into_iter().map(item_delete).collect())
        .await
}

pub(crate) async fn transact(
    state: &State,
    request: proto::ExecuteStateTransactionRequest,
    trace: Option<&Context>,
) -> Result<()> {
    let store = state.store(&request.store_name)?.transactional()?;
    let write = |operation: proto::TransactionalStateOperation| {
        let item = operation.request.unwrap_or_default();
        match operation.operation_type.as_str() {
            "upsert" => Ok(Write::Set(item_set(item))),
            "delete" => Ok(Write::Delete(item_delete(item))),
            other => Err(catalogue::operation_unsupported(other)),
        }
    };
    let writes: Result<Vec<Write>> = request.operations.into_iter().map(write).collect();
    store
        .transact(writes?, request.metadata.into_iter().collect(), trace)
        .await
}

pub(crate) async fn query(
    state: &State,
    request: proto::QueryStateRequest,
) -> Result<proto::QueryStateResponse> {
    let page = state
        .store(&request.store_name)?
        .query(request.query.as_bytes(), request.metadata.into_iter().collect())
        .await?;
    let results = page.results.into_iter().map(|found| proto::QueryStateItem {
        key: found.key,
        data: found.value,
        etag: found.etag.unwrap_or_default(),
        error: String::new(),
    });
    Ok(proto::QueryStateResponse {
        results: results.collect(),
        token: page.token.unwrap_or_default(),
        metadata: page.metadata.into_inner().into_iter().collect(),
    })
}

fn entry(entry: Entry) -> proto::BulkStateItem {
    let mut shown = proto::BulkStateItem {
        key: entry.key,
        ..Default::default()
    };
    match entry.outcome {
        Ok(None) => {}
        Ok(Some(item)) => {
            shown.data = item.value;
            shown.etag = item.etag.unwrap_or_default();
            shown.metadata = item.metadata.into_inner().into_iter().collect();
        }
        Err(error) => shown.error = error,
    }
    shown
}

/// What is said to be JSON must be JSON.
fn checked_set(item: StateItem) -> Result<Set, serde_json::Error> {
    let set = item_set(item);
    if set.is_json {
        serde_json::from_slice::<serde::de::IgnoredAny>(&set.value)?;
    }
    Ok(set)
}

fn item_set(item: StateItem) -> Set {
    let (concurrency, consistency) = options(item.options);
    let content_type = item.metadata.get("contentType").cloned();
    Set {
        key: item.key,
        value: item.value,
        is_json: content_type.as_deref() == Some("application/json"),
        etag: item.etag.map(|etag| etag.value),
        concurrency,
        consistency,
        content_type,
        metadata: item.metadata.into_iter().collect(),
    }
}

fn item_delete(item: StateItem) -> Delete {
    let (concurrency, consistency) = options(item.options);
    Delete {
        key: item.key,
        etag: item.etag.map(|etag| etag.value),
        concurrency,
        consistency,
        metadata: item.metadata.into_iter().collect(),
    }
}

fn options(options: Option<StateOptions>) -> (Concurrency, Consistency) {
    let options = options.unwrap_or_default();
    let concurrency = match StateConcurrency::try_from(options.concurrency) {
        Ok(StateConcurrency::ConcurrencyFirstWrite) => Concurrency::FirstWrite,
        Ok(StateConcurrency::ConcurrencyLastWrite) => Concurrency::LastWrite,
        Ok(StateConcurrency::ConcurrencyUnspecified) | Err(_) => Concurrency::Unspecified,
    };
    (concurrency, consistency(options.consistency))
}

fn consistency(number: i32) -> Consistency {
    match StateConsistency::try_from(number) {
        Ok(StateConsistency::ConsistencyEventual) => Consistency::Eventual,
        Ok(StateConsistency::ConsistencyStrong) => Consistency::Strong,
        Ok(StateConsistency::ConsistencyUnspecified) | Err(_) => Consistency::Unspecified,
    }
}
