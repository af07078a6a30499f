//! Many writers at once: of those who have the same tag, exactly one writes.

use futures::future::join_all;
use outrigger_component::error::{Kind, Result};
use outrigger_component::metadata::Metadata;
use outrigger_component::state::{Concurrency, Delete, Get, Item, Set, StateStore, Write};

const WRITERS: usize = 64;
const ROUNDS: usize = 5;

pub(super) async fn all(store: &dyn StateStore, prefix: &str) {
    tags(store, &format!("{prefix}tags")).await;
    first_writes(store, &format!("{prefix}first")).await;
    deletes(store, &format!("{prefix}deletes")).await;
    counter(store, &format!("{prefix}counter")).await;
    if store.features().transactional {
        transactions(store, &format!("{prefix}transactions")).await;
    }
}

fn set(key: &str, value: usize, etag: Option<String>) -> Set {
    Set {
        key: key.to_owned(),
        value: value.to_string().into(),
        etag,
        ..Set::default()
    }
}

async fn read(store: &dyn StateStore, key: &str) -> Option<Item> {
    let get = Get {
        key: key.to_owned(),
        ..Get::default()
    };
    store.get(&get).await.expect("a plain read")
}

async fn tag(store: &dyn StateStore, key: &str) -> Option<String> {
    let item = read(store, key).await.expect("it was written");
    assert!(item.etag.is_some(), "{key} has a tag");
    item.etag
}

/// The only one that succeeded; all others met another tag.
fn winner(results: &[Result<()>]) -> usize {
    let winners = winners(results);
    assert_eq!(winners.len(), 1, "writers that won: {winners:?}");
    winners[0]
}

fn winners(results: &[Result<()>]) -> Vec<usize> {
    for result in results {
        if let Err(error) = result {
            assert_eq!(error.kind, Kind::EtagMismatch, "a writer that lost: {error}");
        }
    }
    (0..results.len())
        .filter(|&number| results[number].is_ok())
        .collect()
}

async fn tags(store: &dyn StateStore, key: &str) {
    store.set(set(key, 0, None)).await.expect("a plain write");
    for _ in 0..ROUNDS {
        let tag = tag(store, key).await;
        let writers = (0..WRITERS).map(|writer| store.set(set(key, writer, tag.clone())));
        let winner = winner(&join_all(writers).await);
        let item = read(store, key).await.expect("it was written");
        assert_eq!(item.value, winner.to_string(), "what the winner wrote");
    }
}

async fn first_writes(store: &dyn StateStore, key: &str) {
    for _ in 0..ROUNDS {
        let writers = (0..WRITERS).map(|writer| {
            store.set(Set {
                concurrency: Concurrency::FirstWrite,
                ..set(key, writer, None)
            })
        });
        let winner = winner(&join_all(writers).await);
        let item = read(store, key).await.expect("it was written");
        assert_eq!(item.value, winner.to_string(), "what the winner wrote");
        let delete = Delete {
            key: key.to_owned(),
            ..Delete::default()
        };
        store.delete(delete).await.expect("a plain delete");
    }
}

/// COMPAT(components-contrib state/redis): who deletes what is gone already may be told that it is done.
async fn deletes(store: &dyn StateStore, key: &str) {
    store.set(set(key, 0, None)).await.expect("a plain write");
    let etag = tag(store, key).await;
    let deleters = (0..WRITERS).map(|_| {
        store.delete(Delete {
            key: key.to_owned(),
            etag: etag.clone(),
            ..Delete::default()
        })
    });
    assert!(
        !winners(&join_all(deleters).await).is_empty(),
        "nobody deleted it"
    );
    assert_eq!(read(store, key).await, None, "deleted");
}

/// Read, add one, write if nobody was faster: no addition is lost.
async fn counter(store: &dyn StateStore, key: &str) {
    const ADDERS: usize = 8;
    const EACH: usize = 5;
    store.set(set(key, 0, None)).await.expect("a plain write");
    let adders = (0..ADDERS).map(|_| async {
        let mut left = EACH;
        while left > 0 {
            let item = read(store, key).await.expect("it was written");
            let text = std::str::from_utf8(&item.value).expect("as it was written");
            let value: usize = text.parse().expect("as it was written");
            match store.set(set(key, value + 1, item.etag)).await {
                Ok(()) => left -= 1,
                Err(error) => assert_eq!(error.kind, Kind::EtagMismatch, "{error}"),
            }
        }
    });
    join_all(adders).await;
    let item = read(store, key).await.expect("it was written");
    assert_eq!(item.value, (ADDERS * EACH).to_string(), "the count");
}

/// Transactions that write two keys, guarded by the tag of one: the losers leave no trace on the other.
async fn transactions(store: &dyn StateStore, key: &str) {
    let other = format!("{key}-other");
    store.set(set(key, 0, None)).await.expect("a plain write");
    for _ in 0..ROUNDS {
        let tag = tag(store, key).await;
        let metadata = Metadata::new();
        let writers = (0..WRITERS).map(|writer| {
            let writes = vec![
                Write::Set(set(&other, writer, None)),
                Write::Set(set(key, writer, tag.clone())),
            ];
            store.transact(writes, &metadata)
        });
        let winner = winner(&join_all(writers).await).to_string();
        for key in [key, &other] {
            let item = read(store, key).await.expect("it was written");
            assert_eq!(item.value, winner, "{key} after the race");
        }
    }
}
