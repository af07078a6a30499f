//! The three components against a real hub in this process, which is ended and started again.

mod churn;

use crate::{configuration, lock, names, pubsub, state};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use outrigger_component::configuration::ConfigurationStore;
use outrigger_component::error::{Kind, Result};
use outrigger_component::lock::{LockStore, TryLock, Unlock, Unlocked};
use outrigger_component::metadata::{self, Metadata};
use outrigger_component::pubsub::{Outcome, Outgoing, PubSub};
use outrigger_component::registry::Registry;
use outrigger_component::resolver::{Instance, NameResolver, Target};
use outrigger_component::setup::Setup;
use outrigger_component::state::{Concurrency, Delete, Get, Set, StateStore, Write};
use outrigger_daemon::drain;
use outrigger_daemon::log::{Config as LogConfig, Format, Level, Log, Output};
use outrigger_daemon::tasks::{OnExit, Tasks};
use outrigger_hub::config::Config;
use outrigger_hub::{Hub, client};
use outrigger_testkit::broker::{next, quiet, subscribe, text};
use outrigger_testkit::conformance::{
    configuration as configuration_suite, lock as lock_suite, pubsub as pubsub_suite, state as state_suite,
};
use outrigger_testkit::setup::setup;
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(10);

fn log() -> Log {
    Log::open(LogConfig {
        level: Level::Fatal,
        format: Format::Text,
        output: Output::Writer(Box::new(std::io::sink())),
        app_id: None,
        instance: String::new(),
        version: String::new(),
        scope: String::new(),
    })
    .unwrap()
}

/// A home with a hub.
struct Home {
    folder: TempDir,
    tasks: Tasks,
}

impl Home {
    async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let (trigger, _) = drain::channel();
        let home = Self {
            folder,
            tasks: Tasks::new(&log(), trigger),
        };
        home.begin().await;
        home
    }

    fn socket(&self) -> PathBuf {
        outrigger_hub::config::socket(self.folder.path()).unwrap()
    }

    async fn begin(&self) {
        let config = Config::new(self.folder.path());
        let hub = tokio::task::spawn_blocking(move || Hub::open(config, log()))
            .await
            .unwrap()
            .unwrap();
        let (trigger, watch) = drain::channel();
        self.tasks.spawn("hub", OnExit::Log, async move {
            let _keep = trigger;
            hub.serve(watch).await.map(drop)
        });
        let socket = self.socket();
        while client::Client::connect(&socket).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn end(&self) {
        client::Client::connect(&self.socket())
            .await
            .unwrap()
            .shutdown()
            .await
            .unwrap();
        assert!(client::gone(self.folder.path(), SOON).await.unwrap());
    }

    fn setup<C: DeserializeOwned>(&self, app: &str, pairs: &[(&str, &str)]) -> Setup<C> {
        let metadata = Metadata::from_iter(pairs.iter().copied());
        Setup {
            name: "thing".to_owned(),
            app_id: app.to_owned(),
            namespace: "default".to_owned(),
            config: metadata::decode(&metadata).unwrap(),
            metadata,
            log: log(),
            instance: Instance {
                app_id: app.to_owned(),
                namespace: "default".to_owned(),
                host: "192.0.2.7".to_owned(),
                near_host: "127.0.0.1".to_owned(),
                internal_port: 50_002,
                http_port: 3_500,
                grpc_port: 50_001,
            },
        }
    }

    async fn store(&self) -> state::Store {
        let setup = self.setup("app", &[]);
        state::Store::connect(setup, Some(self.socket())).await.unwrap()
    }

    /// A state store and a configuration store of one space.
    async fn settings(&self) -> (Arc<state::Store>, configuration::Store) {
        let space = [("space", "settings")];
        let state = state::Store::connect(self.setup("app", &space), Some(self.socket()))
            .await
            .unwrap();
        let configuration = configuration::Store::connect(self.setup("app", &space), Some(self.socket()))
            .await
            .unwrap();
        (Arc::new(state), configuration)
    }

    async fn broker(&self, app: &str, pairs: &[(&str, &str)]) -> pubsub::Broker {
        pubsub::Broker::connect(self.setup(app, pairs), Some(self.socket()))
            .await
            .unwrap()
    }
}

fn set(key: &str, value: &str) -> Set {
    Set {
        key: key.to_owned(),
        value: Bytes::from(value.to_owned()),
        ..Set::default()
    }
}

async fn get(store: &state::Store, key: &str) -> Option<(String, String)> {
    let get = Get {
        key: key.to_owned(),
        ..Get::default()
    };
    let item = store.get(&get).await.unwrap()?;
    Some((
        String::from_utf8(item.value.to_vec()).unwrap(),
        item.etag.unwrap(),
    ))
}

fn kind<T>(result: Result<T>) -> Option<Kind> {
    result.err().map(|error| error.kind)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_is_kept_with_etags_expiry_and_transactions() {
    let home = Home::start().await;
    let store = home.store().await;
    assert_eq!(get(&store, "a").await, None);
    store.set(set("a", "1")).await.unwrap();
    let (value, etag) = get(&store, "a").await.unwrap();
    assert_eq!(value, "1");

    // Entity tags: the right one writes, an old one does not, a foreign one is invalid.
    let tagged = |etag: &str, value: &str| Set {
        etag: Some(etag.to_owned()),
        ..set("a", value)
    };
    store.set(tagged(&etag, "2")).await.unwrap();
    assert_eq!(
        kind(store.set(tagged(&etag, "3")).await),
        Some(Kind::EtagMismatch)
    );
    assert_eq!(kind(store.set(tagged("x", "3")).await), Some(Kind::EtagInvalid));
    assert_eq!(kind(store.set(tagged("01", "3")).await), Some(Kind::EtagInvalid));
    store.set(tagged("", "2")).await.unwrap();
    let first = |key: &str| Set {
        concurrency: Concurrency::FirstWrite,
        ..set(key, "first")
    };
    assert_eq!(kind(store.set(first("a")).await), Some(Kind::EtagMismatch));
    store.set(first("b")).await.unwrap();

    // All or nothing, in order.
    let delete = |key: &str, etag: Option<&str>| {
        Write::Delete(Delete {
            key: key.to_owned(),
            etag: etag.map(str::to_owned),
            ..Delete::default()
        })
    };
    let none = Metadata::new();
    let writes = vec![Write::Set(set("c", "1")), delete("b", Some("1"))];
    assert_eq!(
        kind(store.transact(writes, &none).await),
        Some(Kind::EtagMismatch)
    );
    assert_eq!(get(&store, "c").await, None);
    let writes = vec![
        Write::Set(set("c", "1")),
        delete("b", None),
        delete("c", None),
        Write::Set(set("c", "2")),
    ];
    store.transact(writes, &none).await.unwrap();
    assert_eq!(get(&store, "b").await, None);
    assert_eq!(get(&store, "c").await.unwrap().0, "2");

    // Time to live.
    let mut soon = set("soon", "x");
    soon.metadata.insert("ttlInSeconds", "1");
    store.set(soon).await.unwrap();
    let item = store
        .get(&Get {
            key: "soon".to_owned(),
            ..Get::default()
        })
        .await
        .unwrap()
        .unwrap();
    assert!(
        item.metadata
            .get("ttlExpireTime")
            .is_some_and(|time| time.ends_with('Z') && time.len() == 20)
    );
    let mut wrong = set("wrong", "x");
    wrong.metadata.insert("ttlInSeconds", "soon");
    assert_eq!(kind(store.set(wrong).await), Some(Kind::Invalid));

    // Many at once; another space sees nothing of it.
    let sets = (0..1_200).map(|n| set(&format!("p/{n:04}"), "v")).collect();
    assert!(store.bulk_set(sets).await.unwrap().iter().all(Result::is_ok));
    let gets: Vec<Get> = ["p/0007", "none"]
        .map(|key| Get {
            key: key.to_owned(),
            ..Get::default()
        })
        .into();
    let found = store.bulk_get(&gets).await.unwrap();
    assert!(found[0].as_ref().unwrap().is_some() && found[1].as_ref().unwrap().is_none());
    let setup = home.setup("app", &[("space", "other")]);
    let other = state::Store::connect(setup, Some(home.socket())).await.unwrap();
    assert_eq!(get(&other, "a").await, None);
    assert_eq!(store.delete_with_prefix("p/").await.unwrap(), 1_200);
    assert_eq!(get(&store, "p/0007").await, None);
    assert_eq!(get(&store, "a").await.unwrap().0, "2");
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(get(&store, "soon").await, None);

    // Everything is there in the next hub; tags go on growing.
    let (_, before) = get(&store, "a").await.unwrap();
    home.end().await;
    home.begin().await;
    assert_eq!(get(&store, "a").await.unwrap(), ("2".to_owned(), before.clone()));
    store.set(set("a", "5")).await.unwrap();
    let (_, after) = get(&store, "a").await.unwrap();
    assert!(after.parse::<u64>().unwrap() > before.parse::<u64>().unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_wait_for_a_new_hub_and_fail_in_a_way_that_can_be_repeated() {
    let home = Home::start().await;
    let store = home.store().await;
    let broker = home.broker("app", &[]).await;
    home.end().await;
    // The next hub comes while they wait.
    let (stored, published, ()) = tokio::join!(
        store.set(set("a", "1")),
        broker.publish(message("t", "1")),
        async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            home.begin().await;
        }
    );
    stored.unwrap();
    published.unwrap();
    home.end().await;
    let setup = home.setup("app", &[("waitForHub", "50ms")]);
    let error = state::Store::connect(setup, Some(home.socket()))
        .await
        .err()
        .unwrap();
    assert!(
        error.is_retryable() && error.message.contains("no hub answers at"),
        "{error}"
    );
    let setup = home.setup::<crate::space::Config>("app", &[]);
    let error = state::Store::connect(setup, None).await.err().unwrap();
    assert!(error.message.contains("outrigger run"), "{error}");
}

fn message(topic: &str, data: &str) -> Outgoing {
    Outgoing {
        topic: topic.to_owned(),
        data: Bytes::from(data.to_owned()),
        content_type: Some("text/plain".to_owned()),
        metadata: Metadata::from_iter([("traceparent", "00")]),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_reach_every_group_once_and_come_again_until_settled() {
    let home = Home::start().await;
    let publisher = home.broker("publisher", &[]).await;
    let billing = home
        .broker("billing", &[("prefetch", "2"), ("initialOffset", "newest")])
        .await;
    publisher.publish(message("t", "before")).await.unwrap();
    let mut bills = subscribe(&billing, "t").await;
    let shipping = home.broker("shipping", &[]).await;
    let mut parcels = subscribe(&shipping, "t").await;
    for n in 1..=5 {
        publisher.publish(message("t", &n.to_string())).await.unwrap();
    }
    let mut seen = Vec::new();
    for _ in 0..6 {
        let parcel = next(&mut parcels).await;
        assert_eq!(parcel.message.content_type.as_deref(), Some("text/plain"));
        assert_eq!(parcel.message.metadata.get("traceparent"), Some("00"));
        assert_eq!(parcel.message.topic, "t");
        seen.push(text(&parcel));
        parcel.settle(Outcome::Ack);
    }
    assert_eq!(seen, ["before", "1", "2", "3", "4", "5"]);
    // The other group began with its subscription, and has at most two unsettled.
    let (one, two) = (next(&mut bills).await, next(&mut bills).await);
    assert_eq!((text(&one), text(&two)), ("1".to_owned(), "2".to_owned()));
    quiet(&mut bills).await;
    one.settle(Outcome::Nack);
    two.settle(Outcome::Ack);
    let mut rest: Vec<String> = Vec::new();
    for _ in 0..4 {
        let bill = next(&mut bills).await;
        rest.push(text(&bill));
        bill.settle(Outcome::Ack);
    }
    rest.sort();
    assert_eq!(rest, ["1", "3", "4", "5"]);
    quiet(&mut bills).await;
    quiet(&mut parcels).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_outlives_the_hub_and_its_own_absence() {
    let home = Home::start().await;
    let publisher = home.broker("publisher", &[]).await;
    let billing = home.broker("billing", &[]).await;
    let mut bills = subscribe(&billing, "t").await;
    for n in 1..=4 {
        publisher.publish(message("t", &n.to_string())).await.unwrap();
    }
    let (one, two) = (next(&mut bills).await, next(&mut bills).await);
    one.settle(Outcome::Ack);
    home.end().await;
    // Held and settled across the gap: neither comes again.
    two.settle(Outcome::Ack);
    let three = next(&mut bills).await;
    home.begin().await;
    publisher.publish(message("t", "5")).await.unwrap();
    let (four, five) = (next(&mut bills).await, next(&mut bills).await);
    assert_eq!([text(&three), text(&four), text(&five)], ["3", "4", "5"]);
    quiet(&mut bills).await;
    three.settle(Outcome::Ack);
    four.settle(Outcome::Ack);
    // Dropped with one unsettled: the group keeps that one, and collects on.
    drop(bills);
    drop(five);
    tokio::time::sleep(Duration::from_millis(200)).await;
    publisher.publish(message("t", "6")).await.unwrap();
    home.end().await;
    home.begin().await;
    let mut bills = subscribe(&billing, "t").await;
    let (five, six) = (next(&mut bills).await, next(&mut bills).await);
    assert_eq!([text(&five), text(&six)], ["5", "6"]);
    five.settle(Outcome::Ack);
    six.settle(Outcome::Ack);
    quiet(&mut bills).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sidecars_find_each_other_and_announce_themselves_to_a_new_hub() {
    let home = Home::start().await;
    let order = names::Resolver::connect(home.setup("order", &[]), Some(home.socket()))
        .await
        .unwrap();
    let billing = names::Resolver::connect(home.setup("billing", &[]), Some(home.socket()))
        .await
        .unwrap();
    let target = |app: &str| Target {
        app_id: app.to_owned(),
        namespace: "default".to_owned(),
    };
    let found = order.resolve(&target("billing")).await.unwrap();
    assert_eq!(
        found.iter().map(|found| found.0.as_str()).collect::<Vec<_>>(),
        ["127.0.0.1:50002"]
    );
    assert!(order.resolve(&target("nobody")).await.unwrap().is_empty());
    order.unreachable(&target("billing"), &found[0]);
    assert_eq!(order.resolve(&target("billing")).await.unwrap(), found);
    home.end().await;
    home.begin().await;
    let again = async {
        while order.resolve(&target("billing")).await.unwrap() != found {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, again).await.expect("billing did not come back");
    // The lease ends with its holder.
    drop(billing);
    let gone = async {
        while !order.resolve(&target("billing")).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, gone).await.expect("billing is still there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suites_of_the_testkit() {
    let home = Home::start().await;
    let mut registry = Registry::default();
    crate::register(&mut registry, Some(home.socket()));
    let store = registry
        .state_stores()
        .build("outrigger", "v1", setup(&[]))
        .await
        .unwrap();
    state_suite::run(&*store, "app").await;
    let quick = [("redeliverInterval", "100ms")];
    let broker = registry
        .brokers()
        .build("outrigger", "v1", setup(&quick))
        .await
        .unwrap();
    let nature = pubsub_suite::Nature::durable(Duration::from_secs(1));
    pubsub_suite::run(&*broker, "suite-", nature).await;
    registry
        .resolvers()
        .build("outrigger", "v1", setup(&[]))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configuration_is_told_as_it_is_written() {
    let home = Home::start().await;
    let (state, configuration) = home.settings().await;
    let write = |key: &'static str, value: Option<&'static str>| {
        let state = Arc::clone(&state);
        async move {
            match value {
                Some(value) => state.set(set(key, value)).await.unwrap(),
                None => {
                    let delete = Delete {
                        key: key.to_owned(),
                        ..Delete::default()
                    };
                    state.delete(delete).await.unwrap();
                }
            }
        }
        .boxed()
    };
    configuration_suite::run(&configuration, &write).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changed_while_the_hub_was_away_is_told() {
    let home = Home::start().await;
    let (state, configuration) = home.settings().await;
    let short = Set {
        metadata: [("ttlInSeconds", "1")].into_iter().collect(),
        ..set("short", "1")
    };
    state.set(short).await.unwrap();
    let mut changes = configuration.watch(&Default::default()).await.unwrap();
    let next = timeout(SOON, changes.next()).await.unwrap().unwrap();
    assert_eq!(next["short"].value, "", "the end of its life is told");
    home.end().await;
    home.begin().await;
    state.set(set("colour", "red")).await.unwrap();
    let next = timeout(SOON, changes.next()).await.unwrap().unwrap();
    assert_eq!(next["colour"].value, "red");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_outlive_the_hub() {
    let home = Home::start().await;
    let connect = || lock::Locks::connect(home.setup("app", &[]), Some(home.socket()));
    let locks = connect().await.unwrap();
    lock_suite::run(&locks, "app").await;
    let lock = |owner: &str| TryLock {
        resource: "lock||r".to_owned(),
        owner: owner.to_owned(),
        expiry: Duration::from_secs(60),
    };
    let first = locks.try_lock(&lock("ann")).await.unwrap().unwrap();
    home.end().await;
    home.begin().await;
    assert_eq!(locks.try_lock(&lock("bob")).await.unwrap(), None);
    let unlock = Unlock {
        resource: "lock||r".to_owned(),
        owner: "ann".to_owned(),
    };
    assert_eq!(locks.unlock(&unlock).await.unwrap(), Unlocked::Done);
    let second = connect().await.unwrap().try_lock(&lock("bob")).await.unwrap();
    let token = |granted: &outrigger_component::lock::Granted| -> u64 {
        granted.metadata.get("fencingToken").unwrap().parse().unwrap()
    };
    assert!(token(&second.unwrap()) > token(&first), "tokens grow across hubs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_gets_the_lock() {
    let home = Home::start().await;
    let locks = Arc::new(
        lock::Locks::connect(home.setup("app", &[]), Some(home.socket()))
            .await
            .unwrap(),
    );
    let tries = (0..20).map(|number| {
        let locks = Arc::clone(&locks);
        async move {
            let lock = TryLock {
                resource: "r".to_owned(),
                owner: number.to_string(),
                expiry: Duration::from_secs(60),
            };
            locks.try_lock(&lock).await.unwrap().is_some()
        }
    });
    let granted = futures::future::join_all(tries).await;
    assert_eq!(granted.into_iter().filter(|granted| *granted).count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_watches_leave_room_for_reads() {
    let home = Home::start().await;
    let (state, configuration) = home.settings().await;
    let mut watches = Vec::new();
    let all = outrigger_component::configuration::Get::default();
    // More than a connection has streams.
    for _ in 0..400 {
        let watch = configuration.watch(&all);
        watches.push(timeout(SOON, watch).await.expect("a watch").unwrap());
    }
    state.set(set("colour", "red")).await.unwrap();
    for watch in &mut watches {
        let told = timeout(SOON, watch.next()).await.expect("a change").unwrap();
        assert_eq!(told["colour"].value, "red");
    }
    drop(configuration);
    assert!(watches.remove(0).next().await.is_none(), "closed with its store");
}
