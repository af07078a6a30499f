//! Keys of state stores: the prefix of any configuration, before any keys.
//!
//! Input, line by line: `keyPrefix`, app id, namespace, store, then keys. What is written under a key is read under it
//! and no other, nothing lands outside of the prefix, and a key with the separator is refused before anything happens.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use outrigger_component::metadata::Metadata;
use outrigger_component::state::{Delete, Get, Set, Write};
use outrigger_fuzz::Bench;
use outrigger_runtime::state::bulk::BulkGet;
use outrigger_runtime::state::keys::{Prefix, SEPARATOR};
use std::collections::BTreeSet;

fuzz_target!(|text: &str| {
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let (strategy, app_id, namespace, store) = (line(), line(), line(), line());
    let keys: BTreeSet<&str> = lines.take(16).collect();
    let metadata: Metadata = [("KeyPrefix", strategy)].into_iter().collect();
    let Ok(prefix) = Prefix::parse(&metadata, store, app_id, namespace) else {
        assert!(strategy.to_lowercase().contains(SEPARATOR));
        return;
    };
    let start = prefix.apply("").expect("nothing in it");
    assert!(start.is_empty() || start.ends_with(SEPARATOR));
    Bench::with(|bench| {
        bench.prefix(prefix);
        bench.run(round(bench, &start, &keys));
    });
});

async fn round(bench: &Bench, start: &str, keys: &BTreeSet<&str>) {
    let store = || bench.state.store("s").expect("there is one");
    let legal = |key: &&&str| !key.contains(SEPARATOR);
    for key in keys {
        let set = Set {
            key: (*key).to_owned(),
            value: Bytes::copy_from_slice(key.as_bytes()),
            ..Set::default()
        };
        let saved = store().save(vec![set]).await;
        assert_eq!(saved.is_ok(), legal(&key) && !key.is_empty(), "{key}");
    }
    let kept: Vec<String> = keys
        .iter()
        .filter(legal)
        .filter(|key| !key.is_empty())
        .map(|key| format!("{start}{key}"))
        .collect();
    assert_eq!(bench.shared.keys(), kept);

    let get = |key: &str| Get {
        key: key.to_owned(),
        ..Get::default()
    };
    for key in keys {
        match store().get(get(key)).await {
            Ok(item) => assert_eq!(
                item.map(|item| item.value),
                (!key.is_empty()).then(|| Bytes::copy_from_slice(key.as_bytes()))
            ),
            Err(error) => assert!(!legal(&key), "{key}: {error}"),
        }
    }
    let asked = BulkGet {
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        ..BulkGet::default()
    };
    match store().bulk_get(asked).await {
        Ok(entries) => assert!(
            entries
                .iter()
                .map(|entry| entry.key.as_str())
                .eq(keys.iter().copied())
        ),
        Err(error) => assert!(keys.iter().any(|key| !legal(&key)), "{error}"),
    }

    // A transaction with one illegal key does nothing at all.
    let delete = |key: &&str| Delete {
        key: (*key).to_owned(),
        ..Delete::default()
    };
    let deletes = keys.iter().map(delete).map(Write::Delete).collect();
    let transaction = store().transactional().expect("it has transactions");
    match transaction.transact(deletes, Metadata::new(), None).await {
        Ok(()) => assert!(bench.shared.keys().is_empty()),
        Err(error) => {
            assert!(keys.iter().any(|key| !legal(&key)), "{error}");
            assert_eq!(bench.shared.keys(), kept);
        }
    }
    let deletes = keys.iter().filter(legal).map(delete).collect();
    store().delete_bulk(deletes).await.expect("legal keys");
    assert!(bench.shared.keys().is_empty());
}
