use super::State;
use super::bulk::BulkGet;
use super::encryption::Keys;
use super::keys::Prefix;
use crate::components::snapshot::{Live, Loaded, Snapshot, StateStore};
use crate::error::ApiError;
use crate::fakes::{Bench, document, load};
use bytes::Bytes;
use outrigger_component::metadata::Metadata;
use outrigger_component::state::{Concurrency, Delete, Get, Set, Write};
use outrigger_testkit::setup::setup;
use std::sync::Arc;

async fn state(bench: &Bench) -> State {
    let documents = vec![
        document("s", "state.fake", &[]),
        document("plain", "state.fake", &[("plain", "true"), ("keyPrefix", "none")]),
        document("small", "state.fake", &[("max", "1")]),
    ];
    let components = load(&bench.settings(), documents).await.unwrap();
    bench.journal.take();
    bench.state(components.live(), 1)
}

fn set(key: &str) -> Set {
    Set {
        key: key.to_owned(),
        value: Bytes::from_static(b"{\"a\": 1}"),
        ..Set::default()
    }
}

fn delete(key: &str) -> Delete {
    Delete {
        key: key.to_owned(),
        ..Delete::default()
    }
}

fn get(key: &str) -> Get {
    Get {
        key: key.to_owned(),
        ..Get::default()
    }
}

/// Tag, HTTP status and message.
fn seen(error: ApiError) -> (&'static str, u16, String) {
    (error.code.tag, error.code.http, error.message)
}

#[tokio::test]
async fn values_come_back_as_they_went_in() {
    let bench = Bench::new();
    let state = state(&bench).await;
    let store = state.store("s").unwrap();
    assert_eq!(store.get(get("k")).await.unwrap(), None);
    store.save(vec![set("k")]).await.unwrap();
    let item = store.get(get("k")).await.unwrap().expect("it was just written");
    assert_eq!(item.value, set("k").value);
    assert_eq!(item.etag.as_deref(), Some("1"));
    store.delete(delete("k")).await.unwrap();
    assert_eq!(store.get(get("k")).await.unwrap(), None);
    assert_eq!(
        bench.journal.take(),
        [
            "get shop||k",
            "set shop||k",
            "get shop||k",
            "delete shop||k",
            "get shop||k"
        ]
    );
    let metrics = bench.registry.expose();
    let line = r#"dapr_component_state_count{app_id="shop",component="s",namespace="",operation="get",success="true"} 3"#;
    assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
}

#[tokio::test]
async fn stores_are_found_by_name() {
    let bench = Bench::new();
    let state = state(&bench).await;
    let error = state.store("other").err().map(seen).unwrap();
    assert_eq!(
        error,
        (
            "ERR_STATE_STORE_NOT_FOUND",
            400,
            "state store other is not found".to_owned()
        )
    );

    let bench = Bench::new();
    let components = load(&bench.settings(), Vec::new()).await.unwrap();
    let state = bench.state(components.live(), 0);
    let error = state.store("other").err().map(seen).unwrap();
    assert_eq!(
        error,
        (
            "ERR_STATE_STORE_NOT_CONFIGURED",
            500,
            "state store other is not configured".to_owned()
        )
    );
}

/// Tag, HTTP status and message of the error, if there is to be one.
type Expected = Option<(&'static str, u16, &'static str)>;

#[tokio::test]
async fn saves() {
    let cases: [(&[&str], Expected, &[&str]); 10] = [
        (&[], None, &[]),
        (&["a", "b"], None, &["set shop||a", "set shop||b"]),
        (
            &["a", ""],
            Some(("ERR_MALFORMED_REQUEST", 400, "\"key\" is a required field")),
            &[],
        ),
        (
            &["a", "x||y"],
            Some((
                "ERR_MALFORMED_REQUEST",
                400,
                "input key/keyPrefix 'x||y' can't contain '||'",
            )),
            &[],
        ),
        (&["flaky"], None, &["set shop||flaky", "set shop||flaky"]),
        (
            &["a", "flaky", "b"],
            None,
            &["set shop||a", "set shop||flaky", "set shop||b", "set shop||flaky"],
        ),
        (
            &["a", "broken"],
            Some((
                "ERR_STATE_SAVE",
                500,
                "failed saving state in state store s: store is down",
            )),
            &["set shop||a", "set shop||broken", "set shop||broken"],
        ),
        (
            &["mismatch"],
            Some((
                "ERR_STATE_SAVE",
                409,
                "failed saving state in state store s: possible etag mismatch. error from state store: tag 1 is stored",
            )),
            &["set shop||mismatch"],
        ),
        (
            &["mismatch", "invalid"],
            Some((
                "ERR_STATE_SAVE",
                400,
                "failed saving state in state store s: invalid etag value: possible etag mismatch. error from state \
                 store: tag 1 is stored\ninvalid etag value: not a number",
            )),
            &["set shop||mismatch", "set shop||invalid"],
        ),
        (
            // The tag that did not match is still reported after the other was repeated with success.
            &["mismatch", "flaky"],
            Some((
                "ERR_STATE_SAVE",
                409,
                "failed saving state in state store s: possible etag mismatch. error from state store: tag 1 is stored",
            )),
            &["set shop||mismatch", "set shop||flaky", "set shop||flaky"],
        ),
    ];
    for (keys, expect, journal) in cases {
        let bench = Bench::new();
        let state = state(&bench).await;
        let sets = keys.iter().map(|key| set(key)).collect();
        let outcome = state.store("s").unwrap().save(sets).await.err().map(seen);
        let expect = expect.map(|(tag, status, message)| (tag, status, message.to_owned()));
        assert_eq!(outcome, expect, "{keys:?}");
        assert_eq!(bench.journal.take(), journal, "{keys:?}");
        let counted = format!("operation=\"set\",success=\"{}\"}} 1", expect.is_none());
        let asked = !journal.is_empty();
        assert_eq!(bench.registry.expose().contains(&counted), asked, "{keys:?}");
    }
}

#[tokio::test]
async fn first_write_wins() {
    let bench = Bench::new();
    let state = state(&bench).await;
    let store = state.store("plain").unwrap();
    let first = || Set {
        concurrency: Concurrency::FirstWrite,
        ..set("k")
    };
    store.save(vec![first()]).await.unwrap();
    let error = store.save(vec![first()]).await.map_err(seen).unwrap_err();
    assert_eq!((error.0, error.1), ("ERR_STATE_SAVE", 409));
    assert_eq!(bench.journal.take(), ["set k", "set k"]);
}

#[tokio::test]
async fn failed_reads_and_deletes() {
    let bench = Bench::new();
    let state = state(&bench).await;
    let store = state.store("s").unwrap();
    assert_eq!(
        seen(store.get(get("broken")).await.unwrap_err()),
        (
            "ERR_STATE_GET",
            500,
            "fail to get broken from state store s: store is down".to_owned()
        )
    );
    assert_eq!(
        seen(store.get(get("x||y")).await.unwrap_err()).1,
        400,
        "the separator is refused"
    );
    assert_eq!(
        seen(store.delete(delete("mismatch")).await.unwrap_err()),
        (
            "ERR_STATE_DELETE",
            409,
            "failed deleting state with key mismatch: possible etag mismatch. error from state store: tag 1 is stored"
                .to_owned()
        )
    );
    assert_eq!(
        seen(
            store
                .delete_bulk(vec![delete("a"), delete("broken")])
                .await
                .unwrap_err()
        ),
        (
            "ERR_STATE_BULK_DELETE",
            500,
            "failed deleting state in state store s: store is down".to_owned()
        )
    );
    store.delete_bulk(Vec::new()).await.unwrap();
    assert_eq!(
        seen(store.query(b"{}", Metadata::new()).await.unwrap_err()),
        (
            "ERR_STATE_STORE_NOT_SUPPORTED",
            500,
            "state store does not support querying".to_owned()
        )
    );
}

#[tokio::test]
async fn bulk_reads_fail_one_by_one() {
    for parallelism in [-1, 0, 1, 2, 10_000] {
        let bench = Bench::new();
        let state = state(&bench).await;
        let store = state.store("s").unwrap();
        store.save(vec![set("a")]).await.unwrap();
        let entries = store
            .bulk_get(BulkGet {
                keys: ["a", "absent", "broken"].map(str::to_owned).to_vec(),
                parallelism,
                metadata: Metadata::new(),
            })
            .await
            .unwrap();
        let seen: Vec<_> = entries
            .iter()
            .map(|entry| {
                let outcome = entry.outcome.as_ref();
                (
                    entry.key.as_str(),
                    outcome.map(Option::is_some).map_err(String::as_str),
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("a", Ok(true)),
                ("absent", Ok(false)),
                ("broken", Err("store is down"))
            ]
        );
    }
    let bench = Bench::new();
    let state = state(&bench).await;
    let none = state
        .store("s")
        .unwrap()
        .bulk_get(BulkGet::default())
        .await
        .unwrap();
    assert!(none.is_empty() && bench.journal.take().is_empty());
}

#[tokio::test]
async fn transactions() {
    let writes = |keys: &[&str]| -> Vec<Write> {
        keys.iter()
            .map(|key| match key.strip_prefix('-') {
                Some(key) => Write::Delete(delete(key)),
                None => Write::Set(set(key)),
            })
            .collect()
    };
    let cases: [(&str, &[&str], Expected); 7] = [
        ("s", &[], None),
        ("s", &["a", "-a", "b"], None),
        ("small", &["a"], None),
        (
            "small",
            &["a", "-a"],
            Some((
                "ERR_STATE_STORE_TOO_MANY_TRANSACTIONS",
                400,
                "the transaction contains 2 operations, which is more than what the state store supports: 1",
            )),
        ),
        (
            "plain",
            &["a"],
            Some((
                "ERR_STATE_STORE_NOT_SUPPORTED",
                500,
                "state store plain doesn't support transactions",
            )),
        ),
        (
            "s",
            &["a", "x||y"],
            Some((
                "ERR_MALFORMED_REQUEST",
                400,
                "input key/keyPrefix 'x||y' can't contain '||'",
            )),
        ),
        (
            "s",
            &["mismatch"],
            Some((
                "ERR_STATE_TRANSACTION",
                500,
                "error while executing state transaction: possible etag mismatch. error from state store: tag 1 is \
                 stored",
            )),
        ),
    ];
    for (name, keys, expect) in cases {
        let bench = Bench::new();
        let state = state(&bench).await;
        let outcome = match state.store(name).unwrap().transactional() {
            Ok(store) => store.transact(writes(keys), Metadata::new(), None).await,
            Err(error) => Err(error),
        };
        let expect = expect.map(|(tag, status, message)| (tag, status, message.to_owned()));
        assert_eq!(outcome.err().map(seen), expect, "{name} {keys:?}");
    }
}

#[tokio::test]
async fn what_the_store_gets_is_encrypted() {
    let bench = Bench::new();
    let registry = bench.settings().registry;
    let kinds = registry.state_stores();
    let raw = kinds.build("fake", "v1", setup(&[])).await.unwrap();
    let document = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "s"},
        "spec": {"type": "state.fake", "version": "v1", "metadata": [
            {"name": "primaryEncryptionKey", "secretKeyRef": {"name": "one"}},
        ]},
    }))
    .unwrap();
    let key = "000102030405060708090a0b0c0d0e0f";
    let mut metadata: Metadata = [("primaryEncryptionKey", key)].into_iter().collect();
    let mut snapshot = Snapshot::default();
    let loaded = StateStore {
        name: "s".to_owned(),
        features: raw.features(),
        store: raw.clone(),
        prefix: Prefix::parse(&Metadata::new(), "s", "shop", "").unwrap(),
        outbox: None,
        encryption: Keys::take(&document, &mut metadata).unwrap(),
    };
    snapshot.insert("state.fake", "v1", Loaded::State(Arc::new(loaded)));
    let state = bench.state(Live::new(snapshot), 0);

    let plain = set("a").value;
    state
        .store("s")
        .unwrap()
        .save(vec![set("a"), set("b")])
        .await
        .unwrap();
    let transaction = vec![Write::Set(set("c")), Write::Delete(delete("b"))];
    let transactional = state.store("s").unwrap().transactional().unwrap();
    transactional
        .transact(transaction, Metadata::new(), None)
        .await
        .unwrap();
    let store = state.store("s").unwrap();
    for key in ["a", "c"] {
        let stored = raw.get(&get(&format!("shop||{key}"))).await.unwrap().unwrap();
        assert!(stored.value.ends_with(b"||one"), "{key}");
        assert_eq!(store.get(get(key)).await.unwrap().unwrap().value, plain, "{key}");
    }
    let damaged = Set {
        value: Bytes::from_static(b"AAAA||other"),
        ..set("shop||d")
    };
    raw.set(damaged).await.unwrap();
    assert_eq!(
        seen(store.get(get("d")).await.unwrap_err()).2,
        "fail to get d from state store s: could not decrypt data: the record was encrypted with key \"other\", which \
         the component does not have"
    );
    let keys = ["a", "b", "d"].map(str::to_owned).to_vec();
    let request = BulkGet {
        keys,
        ..BulkGet::default()
    };
    let entries = store.bulk_get(request).await.unwrap();
    let read = |index: usize| {
        let item = entries[index].outcome.as_ref().ok()?.as_ref()?;
        Some(item.value.clone())
    };
    assert_eq!((read(0), read(1)), (Some(plain), None));
    assert!(
        entries[2]
            .outcome
            .as_ref()
            .is_err_and(|error| error.contains("\"other\""))
    );
}
