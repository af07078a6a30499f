//! Transactions that publish: what goes out, when, and what becomes of it when something fails in between.

use super::fakes::broker::FakeBroker;
use super::fakes::{Plan, World, world};
use crate::error::ApiError;
use crate::pubsub::outbox::Settings;
use crate::state::encryption;
use bytes::Bytes;
use outrigger_component::Component;
use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::metadata::Metadata;
use outrigger_component::pubsub::Outcome::{Ack, Nack};
use outrigger_component::pubsub::{Incoming, Outgoing};
use outrigger_component::state::{Delete, Features, Get, Item, Keys, KeysLike, Set, StateStore, Write};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

const INTERNAL: &str = "nsshopeventsoutbox";

/// A store whose transactions can be held up and refused.
struct Store {
    values: Mutex<BTreeMap<String, Bytes>>,
    refuse: Mutex<VecDeque<Kind>>,
    /// A permit for each transaction.
    gate: Semaphore,
}

impl Store {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            values: Mutex::default(),
            refuse: Mutex::default(),
            gate: Semaphore::new(1_000),
        })
    }

    fn keys(&self) -> Vec<String> {
        self.values.lock().unwrap().keys().cloned().collect()
    }

    fn put(&self, key: &str, value: &str) {
        let value = Bytes::from(value.to_owned());
        self.values.lock().unwrap().insert(key.to_owned(), value);
    }
}

#[async_trait::async_trait]
impl Component for Store {}

#[async_trait::async_trait]
impl StateStore for Store {
    fn features(&self) -> Features {
        Features {
            transactional: true,
            keys_like: true,
            ..Features::default()
        }
    }

    async fn get(&self, get: &Get) -> Result<Option<Item>> {
        let value = self.values.lock().unwrap().get(&get.key).cloned();
        Ok(value.map(|value| Item {
            value,
            ..Item::default()
        }))
    }

    async fn set(&self, set: Set) -> Result<()> {
        self.values.lock().unwrap().insert(set.key, set.value);
        Ok(())
    }

    async fn delete(&self, delete: Delete) -> Result<()> {
        self.values.lock().unwrap().remove(&delete.key);
        Ok(())
    }

    async fn transact(&self, writes: Vec<Write>, _metadata: &Metadata) -> Result<()> {
        self.gate.acquire().await.unwrap().forget();
        if let Some(kind) = self.refuse.lock().unwrap().pop_front() {
            return Err(Error::new(kind, "no"));
        }
        for write in writes {
            match write {
                Write::Set(set) => self.set(set).await?,
                Write::Delete(delete) => self.delete(delete).await?,
            }
        }
        Ok(())
    }

    async fn keys_like(&self, like: &KeysLike) -> Result<Keys> {
        let prefix = like.pattern.trim_end_matches('%');
        let keys = self.keys();
        Ok(Keys {
            keys: keys.into_iter().filter(|key| key.starts_with(prefix)).collect(),
            continuation: None,
        })
    }
}

fn settings(discard: bool) -> Settings {
    let discard = if discard { "true" } else { "false" };
    let metadata: Metadata = [
        ("outboxPublishPubsub", "orders"),
        ("outboxPublishTopic", "events"),
        ("outboxDiscardWhenMissingState", discard),
    ]
    .into_iter()
    .collect();
    Settings::read(&metadata).unwrap()
}

fn scene(store: &Arc<Store>, discard: bool) -> World {
    world(Plan {
        broker: FakeBroker {
            concurrency: 16,
            ..FakeBroker::default()
        },
        store: Some((store.clone(), settings(discard))),
        ..Plan::default()
    })
}

fn set(key: &str, value: &str, metadata: &[(&str, &str)]) -> Write {
    Write::Set(Set {
        key: key.to_owned(),
        value: Bytes::from(value.to_owned()),
        is_json: true,
        metadata: metadata.iter().copied().collect(),
        ..Set::default()
    })
}

async fn transact(world: &World, writes: Vec<Write>) -> std::result::Result<(), ApiError> {
    let store = world
        .state
        .store("things")
        .ok()
        .unwrap()
        .transactional()
        .ok()
        .unwrap();
    store.transact(writes, Metadata::new(), None).await
}

fn published(world: &World, topic: &str) -> Vec<Outgoing> {
    let mut all = world.broker.published();
    all.retain(|message| message.topic == topic);
    all
}

fn event(message: &Outgoing) -> Value {
    serde_json::from_slice(&message.data).unwrap()
}

/// The broker delivers an internal event.
fn deliver(world: &World, message: Outgoing) -> u64 {
    world.broker.shared.push(Incoming {
        topic: message.topic,
        data: message.data,
        content_type: message.content_type,
        metadata: message.metadata,
    })
}

#[tokio::test(start_paused = true)]
async fn from_commit_to_topic() {
    let store = Store::new();
    let world = scene(&store, false);
    let writes = vec![
        set(
            "a",
            "\"2\"",
            &[
                ("outbox.cloudevent.x", "y"),
                ("id", "mine"),
                ("data", "mine"),
                ("type", "t"),
            ],
        ),
        Write::Delete(Delete {
            key: "b".to_owned(),
            ..Delete::default()
        }),
    ];
    transact(&world, writes).await.unwrap();
    let internal = published(&world, INTERNAL);
    let [announced] = internal.as_slice() else {
        panic!("{internal:?}")
    };
    assert_eq!(announced.metadata.get("partitionKey"), Some("shop||a"));
    let told = event(announced);
    let id = told["id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("outbox-"), "{id}");
    assert_eq!(store.keys(), [id.clone(), "shop||a".to_owned()]);
    assert!(published(&world, "events").is_empty(), "not before it comes back");

    deliver(&world, announced.clone());
    assert_eq!(world.broker.shared.outcomes(1).await, [(1, Ack)]);
    let events = published(&world, "events");
    let [sent] = events.as_slice() else {
        panic!("{events:?}")
    };
    let mut sent = event(sent);
    assert!(sent.as_object_mut().unwrap().remove("time").is_some());
    assert_eq!(
        sent,
        json!({
            "data": "2", "datacontenttype": "text/plain", "id": id, "outbox.cloudevent.x": "y",
            "pubsubname": "orders", "source": "shop", "specversion": "1.0", "topic": "events", "traceid": "",
            "traceparent": "", "tracestate": "", "type": "t",
        })
    );
    assert_eq!(store.keys(), ["shop||a"], "the record is gone");

    // Once more, because the broker did not hear the acknowledgement.
    deliver(&world, announced.clone());
    assert_eq!(world.broker.shared.outcomes(2).await, [(1, Ack), (2, Ack)]);
    assert_eq!(published(&world, "events").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn contents_table() {
    /// Value, metadata, and what the event has as data and content type.
    type Row = (
        &'static str,
        Vec<(&'static str, &'static str)>,
        Value,
        &'static str,
    );
    let typed = |content_type| vec![("contentType", content_type)];
    let rows: [Row; 9] = [
        ("\"2\"", vec![], json!("2"), "text/plain"),
        ("2", vec![], json!("2"), "text/plain"),
        ("true", vec![], json!("true"), "text/plain"),
        (r#"{"a": 1.10}"#, vec![], json!({"a": 1.10}), "application/json"),
        ("[1]", vec![], json!([1]), "application/json"),
        (
            r#"{"a":1}"#,
            typed("application/json"),
            json!({"a": 1}),
            "application/json",
        ),
        ("\"x\"", typed("application/json"), json!("x"), "application/json"),
        ("\"x\"", typed("text/html"), json!("x"), "text/html"),
        (
            r#"{"a":1}"#,
            typed("text/plain"),
            json!(r#"{"a":1}"#),
            "text/plain",
        ),
    ];
    for (value, metadata, data, content_type) in rows {
        let store = Store::new();
        let world = scene(&store, false);
        transact(&world, vec![set("a", value, &metadata)]).await.unwrap();
        let told = event(published(&world, INTERNAL).first().unwrap());
        assert_eq!(
            (&told["data"], &told["datacontenttype"]),
            (&data, &json!(content_type)),
            "{value}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_projection_is_published_and_not_stored() {
    let store = Store::new();
    let world = scene(&store, false);
    let projection = [("outbox.projection", "true"), ("contentType", "application/json")];
    let writes = vec![
        set("a", "\"stored\"", &[("type", "t")]),
        set("a", r#"{"told":1}"#, &projection),
        set("none", "\"x\"", &projection),
    ];
    transact(&world, writes).await.unwrap();
    let internal = published(&world, INTERNAL);
    let told = event(internal.first().unwrap());
    assert_eq!(
        (internal.len(), &told["data"], &told["type"]),
        (1, &json!({"told": 1}), &json!("t"))
    );
    assert_eq!(store.values.lock().unwrap().get("shop||a").unwrap(), "\"stored\"");
    assert_eq!(store.keys().len(), 2);
    assert!(world.bench.logged().contains("the projection of key shop||none"));
    // Nothing but a projection is nothing at all.
    transact(&world, vec![set("a", "1", &projection)]).await.unwrap();
    assert_eq!(published(&world, INTERNAL).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_the_internal_topic_there_is_no_transaction() {
    let store = Store::new();
    let world = scene(&store, false);
    world
        .broker
        .refuse
        .lock()
        .unwrap()
        .extend([None, Some(Kind::Internal)]);
    let error = transact(&world, vec![set("a", "1", &[]), set("b", "1", &[])])
        .await
        .unwrap_err();
    assert_eq!(
        (error.code.tag, error.message.as_str()),
        (
            "ERR_PUBLISH_OUTBOX",
            "error while publishing outbox message: broker says no"
        )
    );
    assert!(store.keys().is_empty());
    // The one that was announced already will not be published.
    deliver(&world, published(&world, INTERNAL).remove(0));
    assert_eq!(world.broker.shared.outcomes(1).await, [(1, Ack)]);
    assert!(published(&world, "events").is_empty());
}

#[tokio::test(start_paused = true)]
async fn failed_transactions_table() {
    for (kind, there_after_all, settled, events) in [
        (Kind::EtagMismatch, false, Ack, 0),
        // Nobody knows how it ended: the store does.
        (Kind::Timeout, false, Nack, 0),
        (Kind::Timeout, true, Ack, 1),
        (Kind::EtagMismatch, true, Ack, 1),
    ] {
        let store = Store::new();
        let world = scene(&store, false);
        store.refuse.lock().unwrap().push_back(kind);
        transact(&world, vec![set("a", "1", &[])]).await.unwrap_err();
        let announced = published(&world, INTERNAL).remove(0);
        if there_after_all {
            store.put(event(&announced)["id"].as_str().unwrap(), "0");
        }
        deliver(&world, announced);
        assert_eq!(world.broker.shared.outcomes(1).await, [(1, settled)], "{kind:?}");
        assert_eq!(published(&world, "events").len(), events, "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_comes_before_the_commit_waits_for_it() {
    let store = Store::new();
    let world = scene(&store, false);
    store.gate.forget_permits(1_000);
    let transaction = transact(&world, vec![set("a", "1", &[])]);
    let rest = async {
        while published(&world, INTERNAL).is_empty() {
            tokio::task::yield_now().await;
        }
        deliver(&world, published(&world, INTERNAL).remove(0));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(published(&world, "events").is_empty());
        store.gate.add_permits(1);
        let committed = Instant::now();
        world.broker.shared.outcomes(1).await;
        assert_eq!(
            committed.elapsed(),
            Duration::ZERO,
            "published as soon as it is committed"
        );
        assert_eq!(published(&world, "events").len(), 1);
    };
    let (done, ()) = tokio::join!(transaction, rest);
    done.unwrap();
    assert_eq!(
        published(&world, INTERNAL).len(),
        2,
        "announced again, should another sidecar have given it up"
    );
}

/// An event as a sidecar of the reference announces it, or another one of ours.
fn foreign(id: &str, key: Option<&str>) -> Outgoing {
    let event = json!({"id": id, "data": 1, "datacontenttype": "application/json"});
    Outgoing {
        topic: INTERNAL.to_owned(),
        data: Bytes::from(event.to_string()),
        metadata: key.map(|key| ("partitionKey", key)).into_iter().collect(),
        ..Outgoing::default()
    }
}

#[tokio::test(start_paused = true)]
async fn events_of_other_sidecars_table() {
    /// (record there after so many milliseconds, discard, settled, published, after so many milliseconds at most)
    type Row = (
        Option<u64>,
        bool,
        outrigger_component::pubsub::Outcome,
        usize,
        u64,
    );
    let rows: [Row; 5] = [
        (Some(0), false, Ack, 1, 0),
        (Some(20), false, Ack, 1, 40),
        (None, false, Nack, 0, 3_000),
        (Some(9_000), true, Ack, 1, 10_000),
        (None, true, Ack, 0, 12_000),
    ];
    for (there, discard, settled, events, within) in rows {
        let store = Store::new();
        let world = scene(&store, discard);
        world.pubsub.resume();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let started = Instant::now();
        deliver(&world, foreign("outbox-1", None));
        let appear = async {
            if let Some(after) = there {
                tokio::time::sleep(Duration::from_millis(after)).await;
                store.put("outbox-1", "0");
            }
        };
        let (outcomes, ()) = tokio::join!(world.broker.shared.outcomes(1), appear);
        assert_eq!(outcomes, [(1, settled)], "{there:?} {discard}");
        assert!(
            started.elapsed() <= Duration::from_millis(within),
            "{there:?} {discard}: {:?}",
            started.elapsed()
        );
        assert_eq!(published(&world, "events").len(), events, "{there:?} {discard}");
    }
}

#[tokio::test(start_paused = true)]
async fn garbage_and_orphans_do_not_come_for_ever() {
    let store = Store::new();
    let world = scene(&store, false);
    let mut orphan = foreign("outbox-1", None);
    orphan.data = Bytes::from_static(br#"{"id":"outbox-1","time":"2020-01-01T00:00:00Z"}"#);
    deliver(&world, orphan);
    deliver(
        &world,
        Outgoing {
            topic: INTERNAL.to_owned(),
            data: Bytes::from_static(b"no event"),
            ..Outgoing::default()
        },
    );
    let mut outcomes = world.broker.shared.outcomes(2).await;
    outcomes.sort_by_key(|(token, _)| *token);
    assert_eq!(outcomes, [(1, Ack), (2, Ack)]);
    assert!(published(&world, "events").is_empty());
}

#[tokio::test(start_paused = true)]
async fn events_of_a_key_keep_their_order() {
    let store = Store::new();
    let world = scene(&store, false);
    world.broker.broken.lock().unwrap().push("events".to_owned());
    for number in 1..=3 {
        let value = format!("\"a{number}\"");
        transact(&world, vec![set("a", &value, &[])]).await.unwrap();
    }
    for message in published(&world, INTERNAL) {
        deliver(&world, message);
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(
        world.broker.shared.held(),
        3,
        "none is given back, so that none overtakes"
    );
    world.broker.broken.lock().unwrap().clear();
    world.broker.shared.outcomes(3).await;
    let data: Vec<Value> = published(&world, "events")
        .iter()
        .map(|it| event(it)["data"].clone())
        .collect();
    assert_eq!(data, ["a1", "a2", "a3"]);
}

#[tokio::test(start_paused = true)]
async fn records_left_by_a_crash_are_published() {
    let store = Store::new();
    {
        // A sidecar that dies after its transactions, whose broker forgets.
        let before = scene(&store, false);
        for (key, value) in [("a", "\"1\""), ("b", "\"2\""), ("a", "\"3\"")] {
            transact(&before, vec![set(key, value, &[])]).await.unwrap();
        }
    }
    store.put("outbox-reference", "0");
    store.put(
        "outbox-other",
        r#"{"app":"ns/web","key":"k","made":[1,0],"event":{"id":"outbox-other"}}"#,
    );
    let gone = r#"{"app":"ns/shop","key":"k","made":[1,0],"event":{"id":"outbox-gone"}}"#;
    store.put("outbox-gone", gone);
    let world = scene(&store, false);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(
        published(&world, "events").is_empty(),
        "somebody else may be about to"
    );
    store.values.lock().unwrap().remove("outbox-gone");
    // A new event of a key waits for those before it.
    transact(&world, vec![set("a", "\"4\"", &[])]).await.unwrap();
    deliver(&world, published(&world, INTERNAL).pop().unwrap());
    world.broker.shared.outcomes(1).await;
    let mut of_a: Vec<Value> = published(&world, "events")
        .iter()
        .map(|it| event(it)["data"].clone())
        .collect();
    let of_b = of_a.iter().position(|data| data == "2").unwrap();
    of_a.remove(of_b);
    assert_eq!(of_a, ["1", "3", "4"]);
    assert_eq!(
        store.keys(),
        ["outbox-other", "outbox-reference", "shop||a", "shop||b"]
    );
}

/// A key of the component's, as from a secret store.
fn keys() -> Option<encryption::Keys> {
    let document = serde_json::from_value(json!({
        "metadata": {"name": "things"},
        "spec": {"type": "state.fake", "version": "v1", "metadata": [
            {"name": "primaryEncryptionKey", "secretKeyRef": {"name": "one"}},
        ]},
    }))
    .unwrap();
    let key = [("primaryEncryptionKey", "000102030405060708090a0b0c0d0e0f")];
    encryption::Keys::take(&document, &mut key.into_iter().collect()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn records_of_an_encrypted_store_are_encrypted_and_found() {
    let store = Store::new();
    let scene = || {
        world(Plan {
            store: Some((store.clone(), settings(false))),
            encryption: keys(),
            ..Plan::default()
        })
    };
    {
        let before = scene();
        transact(&before, vec![set("a", "\"plain\"", &[])]).await.unwrap();
        assert_eq!(
            event(published(&before, INTERNAL).first().unwrap())["data"],
            "plain"
        );
    }
    let stored = store.values.lock().unwrap().clone();
    assert!(
        stored.values().all(|value| value.ends_with(b"||one")),
        "{stored:?}"
    );
    let world = scene();
    tokio::time::sleep(Duration::from_secs(20)).await;
    let events = published(&world, "events");
    assert_eq!(
        (events.len(), &event(events.first().unwrap())["data"]),
        (1, &json!("plain"))
    );
    assert_eq!(store.keys(), ["shop||a"]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_leaves_the_rest_with_the_broker() {
    let store = Store::new();
    let world = scene(&store, false);
    world.broker.broken.lock().unwrap().push("events".to_owned());
    transact(&world, vec![set("a", "1", &[])]).await.unwrap();
    deliver(&world, published(&world, INTERNAL).remove(0));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let started = Instant::now();
    world.pubsub.stop(Duration::from_secs(5)).await;
    assert!(started.elapsed() <= Duration::from_secs(5));
    assert_eq!(world.broker.shared.waiting(), [1]);
    assert_eq!(store.keys().len(), 2, "the record stays");
}
