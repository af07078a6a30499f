//! Several keys in one call: read, written or deleted side by side, each with its own outcome.
//!
//! INVARIANT: a write that failed is never reported as done. Repeating touches only what failed and may succeed when
//! repeated; a failed entity tag stays failed.
//! COMPAT(pkg/components/state/bulk.go): the reference forgets such a tag when repeating the others succeeds.

use super::{INVALID, MISMATCH, Rows, Store, text};
use crate::catalogue::Code;
use crate::catalogue::state as catalogue;
use crate::error::{ApiError, Result};
use crate::outbound::{self, is_final};
use futures::stream::{self, StreamExt as _};
use outrigger_component::error::{Error, Kind};
use outrigger_component::metadata::Metadata;
use outrigger_component::state::{Delete, Get, Item, Set};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Most single requests under way at once for one bulk request, whatever the caller asks for.
const PARALLEL: usize = 100;

/// Several keys to read.
#[derive(Debug, Clone, Default)]
pub struct BulkGet {
    pub keys: Vec<String>,
    /// How many to read at once where the store has no call for many keys; 0 or less: as many as we allow.
    pub parallelism: i32,
    pub metadata: Metadata,
}

/// One key of a [`BulkGet`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As the app wrote it.
    pub key: String,
    /// `Ok(None)`: absent. `Err`: the store's sentence.
    pub outcome: Result<Option<Item>, String>,
}

/// Why a bulk write failed: the items that failed, in the order of the request; never empty.
pub(super) struct Failed(Vec<Error>);

impl Store<'_> {
    /// Reads all keys; entries come in the order of the request. A key that cannot be read fails alone.
    pub async fn bulk_get(&self, request: BulkGet) -> Result<Vec<Entry>> {
        let mut gets = Vec::with_capacity(request.keys.len());
        for key in &request.keys {
            gets.push(Get {
                key: self.stored(key)?,
                metadata: request.metadata.clone(),
                ..Get::default()
            });
        }
        if gets.is_empty() {
            return Ok(Vec::new());
        }
        let parallel = match usize::try_from(request.parallelism) {
            Ok(0) | Err(_) => PARALLEL,
            Ok(asked) => asked.min(PARALLEL),
        };
        let store = &self.store.store;
        let gets = &gets;
        let outcomes = self
            .call("bulk_get", &self.policy(), || async move {
                match store.bulk_get(gets).await {
                    Some(outcomes) => Ok(outcomes),
                    None => {
                        // Made beforehand: a closure inside the stream would cost this future its `Send`.
                        let reads: Vec<_> = gets.iter().map(|get| store.get(get)).collect();
                        Ok(stream::iter(reads).buffered(parallel).collect::<Vec<_>>().await)
                    }
                }
            })
            .await
            .map_err(|error| ApiError::new(&catalogue::BULK_GET, error.to_string()).caused_by(error))?;
        let outcomes = outcomes
            .into_iter()
            .chain(std::iter::repeat_with(|| Err(unanswered())));
        let keys = self.store.encryption.as_ref();
        let decrypted = |outcome: Result<Option<Item>, Error>| {
            let item = outcome.map_err(|error| error.message)?;
            match keys {
                None => Ok(item),
                Some(keys) => item
                    .map(|item| keys.decrypt(item))
                    .transpose()
                    .map_err(|error| error.to_string()),
            }
        };
        Ok(request
            .keys
            .into_iter()
            .zip(outcomes)
            .map(|(key, outcome)| Entry {
                key,
                outcome: decrypted(outcome),
            })
            .collect())
    }
}

/// Writes all; a single one by the store's plain call.
pub(super) async fn set(store: &Store<'_>, sets: Vec<Set>) -> Result<(), Failed> {
    let component = &store.store.store;
    run(store, "set", sets, |sets: Vec<Set>| async move {
        if sets.len() > 1 {
            return match component.bulk_set(sets).await {
                Ok(outcomes) => outcomes,
                Err(sets) => each(sets, |set| component.set(set)).await,
            };
        }
        each(sets, |set| component.set(set)).await
    })
    .await
}

pub(super) async fn delete(store: &Store<'_>, deletes: Vec<Delete>) -> Result<(), Failed> {
    let component = &store.store.store;
    run(store, "bulk_delete", deletes, |deletes: Vec<Delete>| {
        each(deletes, |delete| component.delete(delete))
    })
    .await
}

/// Requests side by side, outcomes in order.
async fn each<T, F: Future<Output = Result<(), Error>>>(
    items: Vec<T>,
    request: impl Fn(T) -> F,
) -> Vec<Result<(), Error>> {
    stream::iter(items)
        .map(request)
        .buffered(PARALLEL)
        .collect()
        .await
}

/// What is left to do between two tries.
struct Work<T> {
    /// As requested; taken out by a try that is known to be the only one.
    items: Vec<Option<T>>,
    /// Positions of those that are to be tried.
    pending: Vec<usize>,
    /// The last failure of each item that is not written.
    failed: BTreeMap<usize, Error>,
}

/// Tries all items, then under the policy those again that failed and may succeed.
async fn run<T, F>(
    store: &Store<'_>,
    operation: &'static str,
    items: Vec<T>,
    attempt: impl Fn(Vec<T>) -> F,
) -> Result<(), Failed>
where
    T: Clone,
    F: Future<Output = Vec<Result<(), Error>>>,
{
    let policy = store.policy();
    let keep = policy.has_retries();
    let work = Mutex::new(Work {
        pending: (0..items.len()).collect(),
        items: items.into_iter().map(Some).collect(),
        failed: BTreeMap::new(),
    });
    let started = Instant::now();
    let outcome = {
        let (work, attempt) = (&work, &attempt);
        outbound::run(&policy, || async move {
            let items = locked(work).next(keep);
            let outcomes = attempt(items).await;
            locked(work).settle(outcomes)
        })
        .await
    };
    let Work { mut failed, .. } = work.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Err(error) = outcome
        && failed.is_empty()
    {
        // The policy gave up before the store answered at all.
        failed.insert(0, error);
    }
    store.measure(operation, failed.is_empty(), started);
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Failed(failed.into_values().collect()))
    }
}

impl<T: Clone> Work<T> {
    /// The items of the next try.
    fn next(&mut self, keep: bool) -> Vec<T> {
        let Self { items, pending, .. } = self;
        pending
            .iter()
            .filter_map(|&index| {
                let item = items.get_mut(index)?;
                if keep { item.clone() } else { item.take() }
            })
            .collect()
    }

    /// Takes note of one try; an error asks for another.
    fn settle(&mut self, outcomes: Vec<Result<(), Error>>) -> Result<(), Error> {
        let tried = std::mem::take(&mut self.pending);
        let outcomes = outcomes
            .into_iter()
            .chain(std::iter::repeat_with(|| Err(unanswered())));
        let mut again = None;
        for (index, outcome) in tried.into_iter().zip(outcomes) {
            match outcome {
                Ok(()) => {
                    self.failed.remove(&index);
                }
                Err(error) => {
                    if !is_final(error.kind) {
                        again.get_or_insert_with(|| error.copy());
                        self.pending.push(index);
                    }
                    self.failed.insert(index, error);
                }
            }
        }
        again.map_or(Ok(()), Err)
    }
}

fn locked<T>(work: &Mutex<Work<T>>) -> MutexGuard<'_, Work<T>> {
    work.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unanswered() -> Error {
    Error::internal("the state store did not answer for this key")
}

impl Failed {
    /// One answer for all: the row follows the entity tags, the text names every failure.
    pub(super) fn answer(
        self,
        rows: &Rows,
        build: impl FnOnce(&'static Code, String) -> ApiError,
    ) -> ApiError {
        let Self(errors) = self;
        let texts: Vec<_> = errors.iter().map(text).collect();
        let message = texts.join("\n");
        let has = |kind| errors.iter().any(|error| error.kind == kind);
        let of_tags = |error: &Error| matches!(error.kind, Kind::EtagMismatch | Kind::EtagInvalid);
        let (kind, message) = if errors.len() > 1 && errors.iter().all(of_tags) {
            // COMPAT(pkg/components/state/bulk.go): several are wrapped once more.
            if has(Kind::EtagInvalid) {
                (Kind::EtagInvalid, format!("{INVALID}: {message}"))
            } else {
                (Kind::EtagMismatch, format!("{MISMATCH}: {message}"))
            }
        } else {
            let kind = errors
                .iter()
                .find(|error| of_tags(error))
                .map_or(Kind::Internal, |error| error.kind);
            (kind, message)
        };
        build(rows.code(kind), message)
    }
}
