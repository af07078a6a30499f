//! `state.outrigger`: keys and values in the hub.
//!
//! Metadata: `space` (default: the component's name) separates stores; two components of one space share their keys.
//! Entity tags are whole numbers that only grow. First write without a tag means that the key must be absent.

use crate::batch::Batcher;
use crate::failure;
use crate::link::{self, Link, Verdict};
use crate::space::{Config, Space};
use futures::FutureExt;
use outrigger_component::Component;
use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::metadata::Metadata;
use outrigger_component::setup::Setup;
use outrigger_component::state::like::Pattern;
use outrigger_component::state::{
    Concurrency, Delete, Features, Get, Item, Keys, KeysLike, Set, StateStore, Ttl, Write, ttl,
};
use outrigger_daemon::drain;
use outrigger_daemon::tasks::Tasks;
use outrigger_proto::hub::v1;
use std::path::PathBuf;
use std::sync::Arc;

pub(crate) struct Store {
    space: Space,
    writes: Batcher<v1::Transaction, v1::WriteResult>,
    _tasks: Tasks,
}

/// Keys deleted by one transaction of a prefix.
const PAGE: u32 = 500;

impl Store {
    pub(crate) async fn connect(setup: Setup<Config>, socket: Option<PathBuf>) -> Result<Self> {
        let (shutdown, _) = drain::channel();
        let tasks = Tasks::new(&setup.log, shutdown);
        let space = Space::connect(setup, socket, "state.outrigger").await?;
        let sender = space.link.clone();
        let send = move |transactions| write(sender.clone(), transactions).boxed();
        Ok(Self {
            space,
            writes: Batcher::start(&tasks, "state writes", Arc::new(send)),
            _tasks: tasks,
        })
    }

    async fn submit(&self, operations: Vec<v1::Operation>) -> Result<v1::WriteResult> {
        let bytes = operations.iter().map(bytes).sum();
        let transaction = v1::Transaction {
            space: self.space.name.clone(),
            operations,
        };
        self.writes.submit(transaction, bytes).await
    }

    async fn read(&self, keys: Vec<String>) -> Result<Vec<Option<Item>>> {
        let found = self.space.get(keys).await?.into_iter();
        Ok(found.map(|found| found.map(item)).collect())
    }
}

#[async_trait::async_trait]
impl Component for Store {
    async fn ping(&self) -> Result<()> {
        self.space.link.ping().await
    }
}

#[async_trait::async_trait]
impl StateStore for Store {
    fn features(&self) -> Features {
        Features {
            etag: true,
            transactional: true,
            ttl: true,
            query: false,
            delete_with_prefix: true,
            keys_like: true,
            max_transaction: None,
        }
    }

    async fn get(&self, get: &Get) -> Result<Option<Item>> {
        Ok(self.read(vec![get.key.clone()]).await?.pop().flatten())
    }

    async fn set(&self, set: Set) -> Result<()> {
        self.submit(vec![set_operation(set)?]).await.map(drop)
    }

    async fn delete(&self, delete: Delete) -> Result<()> {
        self.submit(vec![delete_operation(delete)]).await.map(drop)
    }

    async fn transact(&self, writes: Vec<Write>, _metadata: &Metadata) -> Result<()> {
        let operations: Result<Vec<_>> = writes
            .into_iter()
            .map(|write| match write {
                Write::Set(set) => set_operation(set),
                Write::Delete(delete) => Ok(delete_operation(delete)),
            })
            .collect();
        self.submit(operations?).await.map(drop)
    }

    async fn bulk_get(&self, gets: &[Get]) -> Option<Vec<Result<Option<Item>>>> {
        let keys = gets.iter().map(|get| get.key.clone()).collect();
        Some(match self.read(keys).await {
            Ok(items) => items.into_iter().map(Ok).collect(),
            Err(error) => gets.iter().map(|_| Err(error.copy())).collect(),
        })
    }

    async fn bulk_set(&self, sets: Vec<Set>) -> std::result::Result<Vec<Result<()>>, Vec<Set>> {
        let writes = sets.into_iter().map(|set| async { self.set(set).await });
        Ok(futures::future::join_all(writes).await)
    }

    /// In pages, each of them all or nothing. Keys written meanwhile may stay.
    /// COMPAT(components-contrib state/in-memory): keys with a further `||` after the prefix belong to somebody below.
    async fn delete_with_prefix(&self, prefix: &str) -> Result<u64> {
        let mut deleted = 0;
        let mut after = String::new();
        loop {
            let page = self.space.keys(prefix, &after, PAGE).await?;
            let Some(last) = page.keys.last() else {
                return Ok(deleted);
            };
            after.clone_from(last);
            let ours = |key: &String| key.strip_prefix(prefix).is_some_and(|rest| !rest.contains("||"));
            let keys = page.keys.into_iter().filter(ours);
            let operations: Vec<_> = keys.map(|key| operation_delete(key, None)).collect();
            if !operations.is_empty() {
                deleted += self.submit(operations).await?.deleted;
            }
            if !page.more {
                return Ok(deleted);
            }
        }
    }

    /// In the order of keys. Reads every key that begins like the pattern.
    async fn keys_like(&self, like: &KeysLike) -> Result<Keys> {
        if like.pattern.is_empty() {
            return Err(Error::invalid(
                "the pattern must not be empty: write % for all keys",
            ));
        }
        let pattern = Pattern::new(&like.pattern);
        let most = like
            .page_size
            .map_or(usize::MAX, |size| usize::try_from(size).unwrap_or(usize::MAX))
            .max(1);
        let prefix = pattern.prefix();
        let mut after = like.continuation.clone().unwrap_or_default();
        let mut found = Keys::default();
        loop {
            let page = self.space.keys(&prefix, &after, 0).await?;
            let last = page.keys.last().cloned();
            for key in page.keys.into_iter().filter(|key| pattern.matches(key)) {
                if found.keys.len() == most {
                    // The next page begins after the last key of this one.
                    found.continuation = found.keys.last().cloned();
                    return Ok(found);
                }
                found.keys.push(key);
            }
            match last {
                Some(last) if page.more => after = last,
                _ => return Ok(found),
            }
        }
    }
}

/// Sends transactions, and those again that may be sent again when the hub was lost.
async fn write(link: Link, transactions: Vec<v1::Transaction>) -> Vec<Result<v1::WriteResult>> {
    let mut patience = link.patience();
    let mut results: Vec<Option<Result<v1::WriteResult>>> = transactions.iter().map(|_| None).collect();
    let mut open: Vec<(usize, v1::Transaction)> = transactions.into_iter().enumerate().collect();
    while !open.is_empty() {
        let request = v1::WriteRequest {
            transactions: open.iter().map(|(_, transaction)| transaction.clone()).collect(),
        };
        let status = match link::answered(link.state().write(request)).await {
            Ok(answer) => {
                let answers = answer.into_inner().results.into_iter();
                for ((index, _), mut answer) in open.drain(..).zip(answers) {
                    let result = match answer.failure.take() {
                        None => Ok(answer),
                        Some(failure) => Err(failure::refused(failure)),
                    };
                    settle(&mut results, index, result);
                }
                break;
            }
            Err(status) => status,
        };
        // A write with a condition that may have happened would now meet its own result.
        let unsent = failure::is_unsent(&status);
        let lost = |(index, transaction): (usize, v1::Transaction)| {
            if unsent || !is_conditional(&transaction) {
                return Some((index, transaction));
            }
            settle(&mut results, index, Err(failure::failed(&status)));
            None
        };
        open = open.into_iter().filter_map(lost).collect();
        if let Verdict::Give(error) = patience.judge(&status, true).await {
            for (index, _) in open.drain(..) {
                settle(&mut results, index, Err(error.copy()));
            }
        }
    }
    let unanswered = || {
        Err(Error::new(
            Kind::Unavailable,
            "the hub did not answer for this write",
        ))
    };
    results
        .into_iter()
        .map(|result| result.unwrap_or_else(unanswered))
        .collect()
}

fn settle(results: &mut [Option<Result<v1::WriteResult>>], index: usize, result: Result<v1::WriteResult>) {
    if let Some(slot) = results.get_mut(index) {
        *slot = Some(result);
    }
}

fn is_conditional(transaction: &v1::Transaction) -> bool {
    transaction
        .operations
        .iter()
        .any(|operation| match &operation.kind {
            Some(v1::operation::Kind::Set(set)) => set.condition.is_some(),
            Some(v1::operation::Kind::Delete(delete)) => delete.condition.is_some(),
            None => false,
        })
}

fn set_operation(set: Set) -> Result<v1::Operation> {
    let ttl_ms = match ttl(&set.metadata)? {
        Ttl::Unset | Ttl::Never => 0,
        Ttl::Seconds(seconds) => u64::from(seconds) * 1_000,
    };
    let condition = condition(set.etag, set.concurrency);
    Ok(v1::Operation {
        kind: Some(v1::operation::Kind::Set(v1::Set {
            key: set.key,
            value: set.value,
            condition,
            ttl_ms,
            content_type: set.content_type.unwrap_or_default(),
        })),
    })
}

fn delete_operation(delete: Delete) -> v1::Operation {
    operation_delete(delete.key, condition(delete.etag, delete.concurrency))
}

fn operation_delete(key: String, condition: Option<v1::Condition>) -> v1::Operation {
    v1::Operation {
        kind: Some(v1::operation::Kind::Delete(v1::Delete { key, condition })),
    }
}

fn condition(etag: Option<String>, concurrency: Concurrency) -> Option<v1::Condition> {
    let kind = match (etag.filter(|etag| !etag.is_empty()), concurrency) {
        (Some(etag), _) => v1::condition::Kind::Etag(etag),
        (None, Concurrency::FirstWrite) => v1::condition::Kind::Absent(true),
        (None, _) => return None,
    };
    Some(v1::Condition { kind: Some(kind) })
}

fn bytes(operation: &v1::Operation) -> usize {
    match &operation.kind {
        Some(v1::operation::Kind::Set(set)) => set.key.len() + set.value.len(),
        Some(v1::operation::Kind::Delete(delete)) => delete.key.len(),
        None => 0,
    }
}

fn item(item: v1::Item) -> Item {
    let mut metadata = Metadata::new();
    if let Some(time) = expiry(item.expires_ms) {
        metadata.insert("ttlExpireTime", time);
    }
    Item {
        value: item.value,
        etag: Some(item.etag),
        content_type: Some(item.content_type).filter(|text| !text.is_empty()),
        metadata,
    }
}

/// RFC 3339, whole seconds.
fn expiry(millis: u64) -> Option<String> {
    let seconds = i64::try_from(millis / 1_000)
        .ok()
        .filter(|seconds| *seconds > 0)?;
    let time = jiff::Timestamp::from_second(seconds).ok()?;
    Some(time.to_string())
}
