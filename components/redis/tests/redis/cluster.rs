//! Three masters that share the keys, and the replica of one.

use crate::support::{build, quick, refused, take};
use futures::{FutureExt as _, StreamExt as _};
use outrigger_component::configuration::Get;
use outrigger_component::error::Kind;
use outrigger_component::state::{Consistency, KeysLike, Set, Write};
use outrigger_testkit::audit::Writes;
use outrigger_testkit::broker::{message, subscribe};
use outrigger_testkit::conformance::pubsub::churn;
use outrigger_testkit::conformance::{pubsub, state};
use outrigger_testkit::servers::redis::{Cluster, cluster, start};
use outrigger_testkit::store::{get, set};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Two of the three, as people write them.
fn hosts(cluster: &Cluster) -> String {
    let two: Vec<String> = cluster.nodes.iter().take(2).map(|node| node.host()).collect();
    two.join(", ")
}

/// Keys of the suite share a slot where they share a transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_and_pubsub_conform() {
    let Some(cluster) = cluster(3).await else { return };
    let hosts = hosts(&cluster);
    let metadata = [("redisHost", hosts.as_str()), ("redisType", "cluster")];
    let store = build::store(&metadata).await;
    state::run(&*store, "{app}").await;
    let nature = pubsub::Nature::durable(Duration::from_secs(3));
    let broker = build::broker(&quick(&hosts, &metadata[1..])).await;
    pubsub::run(&*broker, "topic-", nature).await;
}

#[tokio::test]
async fn keys_are_spread_and_found() {
    let Some(cluster) = cluster(3).await else { return };
    let hosts = hosts(&cluster);
    let store = build::store(&[("redisHost", &hosts), ("redisType", "cluster")]).await;
    let keys: BTreeSet<String> = (0..60).map(|number| format!("key-{number}")).collect();
    for key in &keys {
        let strong = Set {
            consistency: Consistency::Strong,
            ..set(key, key)
        };
        store.set(strong).await.unwrap();
    }
    for key in &keys {
        assert_eq!(get(&*store, key).await.unwrap().0, *key);
    }
    for node in &cluster.nodes {
        let count: usize = node.raw("DBSIZE").await.trim_start_matches(':').parse().unwrap();
        assert!((1..60).contains(&count), "{count} on one node");
    }
    let like = KeysLike {
        pattern: "key-%".to_owned(),
        ..KeysLike::default()
    };
    let found = store.keys_like(&like).await.unwrap().keys;
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), keys);
    let writes = ["key-1", "key-2"].map(|key| Write::Set(set(key, "x"))).to_vec();
    let error = store.transact(writes, &Default::default()).await.unwrap_err();
    assert_eq!(error.kind, Kind::Invalid);
    assert!(error.message.contains("different slots"), "{}", error.message);
}

/// A slot is moved by hand, in the steps that `redis-cli --cluster reshard` takes.
#[tokio::test]
async fn moving_slots_are_followed() {
    let Some(cluster) = cluster(3).await else { return };
    let hosts = hosts(&cluster);
    let store = build::store(&[("redisHost", &hosts), ("redisType", "cluster")]).await;
    let broker = build::broker(&quick(&hosts, &[("redisType", "cluster")])).await;
    let mut inbox = subscribe(&*broker, "{foo}topic").await;
    store.set(set("{foo}old", "1")).await.unwrap();
    broker.publish(message("{foo}topic", "one")).await.unwrap();
    take(&mut inbox, ["one".to_owned()].into()).await;

    // Slot 12182 belongs to the last node.
    let [to, _, from] = cluster.nodes.as_slice() else {
        panic!()
    };
    let id = |text: String| text.split(' ').nth(1).unwrap_or_default().to_owned();
    let (to_id, from_id) = (
        id(to.raw("CLUSTER MYID").await),
        id(from.raw("CLUSTER MYID").await),
    );
    assert_eq!(
        to.raw(&format!("CLUSTER SETSLOT 12182 IMPORTING {from_id}"))
            .await,
        "+OK"
    );
    assert_eq!(
        from.raw(&format!("CLUSTER SETSLOT 12182 MIGRATING {to_id}"))
            .await,
        "+OK"
    );
    // New keys are asked of the one to come, old ones are still where they were.
    store.set(set("{foo}new", "2")).await.unwrap();
    assert_eq!(get(&*store, "{foo}new").await.unwrap().0, "2");
    assert_eq!(get(&*store, "{foo}old").await.unwrap().0, "1");
    let (_, port) = to
        .host()
        .rsplit_once(':')
        .map(|(host, port)| (host.to_owned(), port.to_owned()))
        .unwrap();
    let migrate = format!("MIGRATE 127.0.0.1 {port}  0 5000 KEYS {{foo}}old {{foo}}topic");
    assert_eq!(from.raw(&migrate).await, "+OK");
    for node in [to, from] {
        assert_eq!(
            node.raw(&format!("CLUSTER SETSLOT 12182 NODE {to_id}")).await,
            "+OK"
        );
    }
    assert_eq!(get(&*store, "{foo}old").await.unwrap().0, "1");
    store.set(set("{foo}old", "3")).await.unwrap();
    assert_eq!(to.raw("HGET {foo}old data").await, "$1 3");
    broker.publish(message("{foo}topic", "two")).await.unwrap();
    take(&mut inbox, ["two".to_owned()].into()).await;
}

/// A node dies and comes back; the other keys do not notice.
#[tokio::test]
async fn a_node_that_dies_comes_back() {
    let Some(mut cluster) = cluster(3).await else {
        return;
    };
    for node in &cluster.nodes {
        node.raw("CONFIG SET cluster-require-full-coverage no").await;
    }
    let hosts = hosts(&cluster);
    let store = build::store(&[("redisHost", &hosts), ("redisType", "cluster")]).await;
    store.set(set("{foo}k", "1")).await.unwrap();
    store.set(set("{bar}k", "1")).await.unwrap();
    let last = cluster.nodes.last_mut().unwrap();
    last.kill();
    let error = store.set(set("{foo}k", "2")).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    store.set(set("{bar}k", "2")).await.unwrap();
    last.restart().await;
    let writing = async { while store.set(set("{foo}k", "3")).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(20), writing)
        .await
        .expect("it is back");
    assert_eq!(get(&*store, "{foo}k").await.unwrap().0, "3");
}

/// The process of a master dies under load, and its replica takes its place: what was published, and what was written with
/// strong consistency, is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_takes_the_place_of_its_master() {
    let Some(mut cluster) = cluster(3).await else {
        return;
    };
    cluster.add_replica().await;
    let hosts = hosts(&cluster);
    let metadata = [("redisHost", hosts.as_str()), ("redisType", "cluster")];
    let store = build::store(&metadata).await;
    let settings = quick(&hosts, &metadata[1..]);
    let connect = || build::broker(&settings).boxed();
    let group = churn::Group {
        connect: &connect,
        // Of the master that dies, as are the keys.
        prefix: "{foo}",
        nature: pubsub::Nature::durable(Duration::from_secs(3)),
    };
    let mut writes = Writes::default();
    let (done, began) = (AtomicBool::new(false), Instant::now());
    let writing = async {
        for number in 0.. {
            let key = format!("{{foo}}key-{}", number % 10);
            let strong = Set {
                consistency: Consistency::Strong,
                ..set(&key, &number.to_string())
            };
            let written = store.set(strong).await;
            match &written {
                Ok(()) => writes.acknowledged(&key, number),
                Err(error) => {
                    assert!(error.is_retryable(), "{error:?}");
                    writes.unknown(&key, number);
                }
            }
            if written.is_ok() && done.load(Ordering::Relaxed) {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "no write any more");
        }
    };
    let promoting = churn::interrupted(&group, 6400, async {
        let [.., master, replica] = cluster.nodes.as_mut_slice() else {
            panic!("a replica")
        };
        master.kill();
        let killed = Instant::now();
        replica.until("ROLE", |role| role.contains("master")).await;
        println!("promoted after {:?}", killed.elapsed());
        done.store(true, Ordering::Relaxed);
    });
    tokio::join!(writing, promoting);
    assert_eq!(writes.count(), 10);
    for key in writes.keys() {
        let read = get(&*store, key).await.map(|(value, _)| value.parse().unwrap());
        assert_eq!(writes.wrong(key, read), None);
    }
}

#[tokio::test]
async fn changes_on_all_nodes_are_heard() {
    let Some(cluster) = cluster(3).await else { return };
    let hosts = hosts(&cluster);
    let store = build::configuration(&[("redisHost", &hosts), ("redisType", "cluster")]).await;
    let mut changes = store.watch(&Get::default()).await.unwrap();
    // Of the first and of the last node.
    for (node, key) in [(0, "{bar}"), (2, "{foo}")] {
        assert_eq!(cluster.nodes[node].raw(&format!("SET {key} v||1")).await, "+OK");
        let change = tokio::time::timeout(Duration::from_secs(9), changes.next())
            .await
            .expect("heard")
            .expect("goes on");
        assert_eq!(change[key].version, "1");
    }
    let all = store.get(&Get::default()).await.unwrap();
    assert_eq!(all.into_keys().collect::<Vec<_>>(), ["{bar}", "{foo}"]);
}

#[tokio::test]
async fn a_server_of_no_cluster_is_named() {
    let Some(redis) = start(&[]).await else { return };
    let host = redis.host();
    let error = refused(&[
        ("redisHost", &host),
        ("redisType", "cluster"),
        ("redisMaxRetries", "-1"),
    ])
    .await;
    assert!(
        error.message.contains("cluster support disabled") && error.message.contains(&host),
        "{}",
        error.message
    );
}
