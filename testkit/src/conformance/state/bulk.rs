//! Many values in one call, where the store has such calls; and the largest transaction.

use outrigger_component::error::Kind;
use outrigger_component::metadata::Metadata;
use outrigger_component::state::{Delete, Get, Set, StateStore, Write};

const COUNT: usize = 100;

pub(super) async fn all(store: &dyn StateStore, prefix: &str) {
    writing(store, prefix).await;
    if store.features().etag {
        some_fail(store, prefix).await;
    }
    if store.features().transactional {
        largest_transaction(store, prefix).await;
    }
}

fn set(prefix: &str, number: usize) -> Set {
    Set {
        key: format!("{prefix}{number}"),
        value: number.to_string().into(),
        ..Set::default()
    }
}

fn get(prefix: &str, number: usize) -> Get {
    Get {
        key: format!("{prefix}{number}"),
        ..Get::default()
    }
}

/// Writes in bulk, or one by one as the runtime does where there is no such call.
async fn write(store: &dyn StateStore, sets: Vec<Set>) -> Vec<outrigger_component::error::Result<()>> {
    match store.bulk_set(sets).await {
        Ok(results) => results,
        Err(sets) => {
            let mut results = Vec::new();
            for set in sets {
                results.push(store.set(set).await);
            }
            results
        }
    }
}

async fn writing(store: &dyn StateStore, prefix: &str) {
    let results = write(store, (0..COUNT).map(|number| set(prefix, number)).collect()).await;
    assert_eq!(results.len(), COUNT, "one answer for each value");
    for result in results {
        result.expect("a plain write");
    }
    let gets: Vec<Get> = (0..=COUNT).rev().map(|number| get(prefix, number)).collect();
    let Some(found) = store.bulk_get(&gets).await else {
        return;
    };
    let found: Vec<Option<String>> = found
        .into_iter()
        .map(|found| found.expect("a plain read"))
        .map(|item| item.map(|item| String::from_utf8(item.value.to_vec()).expect("as it was written")))
        .collect();
    let mut expected = vec![None];
    expected.extend((0..COUNT).rev().map(|number| Some(number.to_string())));
    assert_eq!(found, expected, "in the order of the keys");
    let none = store.bulk_get(&[]).await.expect("as before");
    assert!(none.is_empty(), "no keys, no answers");
}

/// COMPAT(components-contrib tests/conformance/state): one tag is wrong, the others are written nevertheless.
async fn some_fail(store: &dyn StateStore, prefix: &str) {
    let prefix = format!("{prefix}tag-");
    for number in 0..2 {
        store.set(set(&prefix, number)).await.expect("a plain write");
    }
    let item = store.get(&get(&prefix, 1)).await.expect("a plain read");
    let tag = item.expect("it was written").etag;
    let guarded = |number, etag: Option<String>| Set {
        value: "new".into(),
        etag,
        ..set(&prefix, number)
    };
    let stale = Some("999999999".to_owned());
    let results = write(store, vec![guarded(0, stale), guarded(1, tag), guarded(2, None)]).await;
    let kinds: Vec<Option<Kind>> = results
        .into_iter()
        .map(|result| result.err().map(|error| error.kind))
        .collect();
    assert_eq!(kinds, [Some(Kind::EtagMismatch), None, None], "of a bulk write");
    for (number, value) in [(0, "0"), (1, "new"), (2, "new")] {
        let item = store.get(&get(&prefix, number)).await.expect("a plain read");
        let item = item.expect("it is there");
        assert_eq!(item.value, value, "value {number} after a bulk write");
    }
}

async fn largest_transaction(store: &dyn StateStore, prefix: &str) {
    let prefix = format!("{prefix}transaction-");
    let count = store
        .features()
        .max_transaction
        .map_or(COUNT, |most| most.min(COUNT));
    let sets = (0..count).map(|number| Write::Set(set(&prefix, number)));
    store
        .transact(sets.collect(), &Metadata::new())
        .await
        .expect("a large transaction");
    for number in [0, count - 1] {
        let item = store.get(&get(&prefix, number)).await.expect("a plain read");
        assert_eq!(item.map(|item| item.value), Some(number.to_string().into()));
    }
    let deletes = (0..count).map(|number| {
        Write::Delete(Delete {
            key: format!("{prefix}{number}"),
            ..Delete::default()
        })
    });
    store
        .transact(deletes.collect(), &Metadata::new())
        .await
        .expect("a large transaction");
    let item = store.get(&get(&prefix, count - 1)).await.expect("a plain read");
    assert_eq!(item, None, "deleted");
}
