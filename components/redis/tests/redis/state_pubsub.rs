//! State and pub/sub on one server.

use crate::support::{build, quick, registry};
use futures::StreamExt as _;
use outrigger_component::error::Kind;
use outrigger_component::pubsub::{Outcome, Outgoing, PubSub};
use outrigger_component::state::{Concurrency, Consistency, Get, Set, StateStore};
use outrigger_testkit::broker::{message, next, subscribe, text};
use outrigger_testkit::conformance::{pubsub, state};
use outrigger_testkit::servers::redis::{Redis, start};
use outrigger_testkit::setup::setup;
use outrigger_testkit::store::{get, set};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

async fn store(redis: &Redis, metadata: &[(&str, &str)]) -> Arc<dyn StateStore> {
    let host = redis.host();
    build::store(&[&[("redisHost", host.as_str())], metadata].concat()).await
}

async fn broker(redis: &Redis, metadata: &[(&str, &str)]) -> Arc<dyn PubSub> {
    let host = redis.host();
    build::broker(&quick(&host, metadata)).await
}

async fn raw(redis: &Redis, command: &str) -> String {
    redis.raw(command).await
}

#[tokio::test]
async fn state_conforms() {
    let Some(redis) = start(&[]).await else { return };
    let store = store(&redis, &[]).await;
    state::run(&*store, "app").await;
    assert_eq!(
        store.features().names(),
        ["ETAG", "TRANSACTIONAL", "TTL", "KEYS_LIKE"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pubsub_conforms() {
    let Some(redis) = start(&[]).await else { return };
    let broker = broker(&redis, &[]).await;
    let nature = pubsub::Nature::durable(Duration::from_secs(3));
    pubsub::run(&*broker, "topic-", nature).await;
}

/// COMPAT(components-contrib state/redis): what the reference writes, we read, and the other way round.
#[tokio::test]
async fn values_are_laid_out_as_the_reference_does() {
    let Some(redis) = start(&[]).await else { return };
    let store = store(&redis, &[("ttlInSeconds", "500")]).await;
    raw(&redis, "HSET theirs data hello version 7").await;
    assert_eq!(
        get(&*store, "theirs").await,
        Some(("hello".to_owned(), "7".to_owned()))
    );
    store
        .set(Set {
            etag: Some("7".to_owned()),
            ..set("theirs", "again")
        })
        .await
        .unwrap();
    assert_eq!(
        raw(&redis, "HGETALL theirs").await,
        "*4 $4 data $5 again $7 version $1 8"
    );
    assert_eq!(
        raw(&redis, "TTL theirs").await,
        ":500",
        "the component's lifetime"
    );
    store
        .set(Set {
            concurrency: Concurrency::FirstWrite,
            ..set("first", "1")
        })
        .await
        .unwrap();
    assert_eq!(raw(&redis, "HGET first first-write").await, "$1 0");
    let refused = store.set(set("first", "2")).await.unwrap_err();
    assert_eq!(
        (refused.kind, refused.message.as_str()),
        (Kind::EtagMismatch, "failed to set key first")
    );
    store
        .set(Set {
            etag: Some("1".to_owned()),
            concurrency: Concurrency::LastWrite,
            ..set("x", "1")
        })
        .await
        .unwrap();
    let odd = store
        .set(Set {
            etag: Some("odd".to_owned()),
            ..set("x", "1")
        })
        .await
        .unwrap_err();
    assert_eq!(odd.kind, Kind::EtagInvalid);
    raw(&redis, "SET plain text").await;
    assert_eq!(
        get(&*store, "plain").await,
        Some(("text".to_owned(), String::new()))
    );
    store.set(set("plain", "new")).await.unwrap();
    assert_eq!(
        get(&*store, "plain").await,
        Some(("new".to_owned(), "1".to_owned()))
    );
    raw(&redis, "HSET half data x").await;
    let half = store
        .get(&Get {
            key: "half".to_owned(),
            ..Get::default()
        })
        .await
        .unwrap_err();
    assert!(
        half.message
            .contains("required hash field 'data' or 'version' was not found"),
        "{}",
        half.message
    );
}

/// COMPAT(components-contrib pubsub/redis).
#[tokio::test]
async fn messages_are_laid_out_as_the_reference_does() {
    let Some(redis) = start(&[]).await else { return };
    let broker = broker(&redis, &[("consumerID", "group"), ("maxLenApprox", "1000")]).await;
    raw(&redis, r#"XADD t * data old metadata {"a":"b"}"#).await;
    let mut inbox = subscribe(&*broker, "t").await;
    assert_eq!(inbox.concurrency, 10);
    let delivery = next(&mut inbox).await;
    assert_eq!(
        (text(&delivery).as_str(), delivery.message.metadata.get("a")),
        ("old", Some("b")),
        "from before the group"
    );
    delivery.settle(Outcome::Ack);
    broker
        .publish(Outgoing {
            metadata: [("c", "d")].into_iter().collect(),
            ..message("u", "new")
        })
        .await
        .unwrap();
    let stored = raw(&redis, "XRANGE u - +").await;
    assert!(
        stored.contains(r#"$4 data $3 new $8 metadata $9 {"c":"d"}"#),
        "{stored}"
    );
    let groups = raw(&redis, "XINFO GROUPS t").await;
    assert!(groups.contains("$5 group $9 consumers :1 $7 pending"), "{groups}");
    broker.close().await;
    assert!(
        raw(&redis, "XPENDING t group").await.starts_with("*4 :0"),
        "closing acknowledges first"
    );
    assert_eq!(
        broker.publish(message("t", "late")).await.unwrap_err().message,
        "component is closed"
    );
}

/// A consumer that died with messages in its hands: another one of the group gets them.
#[tokio::test]
async fn what_a_dead_consumer_held_is_delivered() {
    let Some(redis) = start(&[]).await else { return };
    for number in 0..5 {
        raw(&redis, &format!("XADD t * data {number}")).await;
    }
    raw(&redis, "XGROUP CREATE t app 0").await;
    raw(&redis, "XREADGROUP GROUP app other COUNT 3 STREAMS t >").await;
    // One of them is no longer in the stream.
    let first = raw(&redis, "XRANGE t - + COUNT 1").await;
    let id = first.split(' ').find(|word| word.contains('-')).unwrap();
    raw(&redis, &format!("XDEL t {id}")).await;
    let broker = broker(&redis, &[]).await;
    let mut inbox = subscribe(&*broker, "t").await;
    let mut seen = BTreeSet::new();
    while seen.len() < 4 {
        let delivery = next(&mut inbox).await;
        assert!(seen.insert(text(&delivery)), "{seen:?}");
        delivery.settle(Outcome::Ack);
    }
    assert_eq!(seen, ["1", "2", "3", "4"].map(str::to_owned).into());
}

/// The server is killed in the middle of publishing and delivering, and started again: nothing that was accepted
/// is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_loses_nothing_accepted() {
    let Some(mut redis) = start(&[]).await else { return };
    let broker = broker(&redis, &[]).await;
    let store = store(&redis, &[]).await;
    let mut inbox = subscribe(&*broker, "t").await;
    let publisher = Arc::clone(&broker);
    let publishing = async move {
        let mut accepted = BTreeSet::new();
        let began = Instant::now();
        for number in 0.. {
            if began.elapsed() > Duration::from_secs(3) && accepted.len() > 100 {
                break;
            }
            if publisher.publish(message("t", &number.to_string())).await.is_ok() {
                accepted.insert(number.to_string());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        accepted
    };
    let killing = async {
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_millis(700)).await;
            redis.kill();
            let down = store.set(set("k", "v")).await.unwrap_err();
            assert!(down.is_retryable(), "{down:?}");
            redis.restart().await;
        }
    };
    let mut delivered = BTreeSet::new();
    let collecting = async {
        loop {
            let delivery = inbox.deliveries.next().await.expect("goes on");
            delivered.insert(text(&delivery));
            delivery.settle(Outcome::Ack);
        }
    };
    let accepted = tokio::select! {
        (accepted, ()) = async { tokio::join!(publishing, killing) } => accepted,
        () = collecting => unreachable!("the loop does not end"),
    };
    while !accepted.is_subset(&delivered) {
        let delivery = next(&mut inbox).await;
        delivered.insert(text(&delivery));
        delivery.settle(Outcome::Ack);
    }
    store.set(set("k", "v")).await.unwrap();
    // What was written without being confirmed may still be to come; in the end, all is acknowledged.
    let emptying = async {
        while !raw(&redis, "XPENDING t app").await.starts_with("*4 :0") {
            let soon = Duration::from_millis(100);
            if let Ok(Some(delivery)) = tokio::time::timeout(soon, inbox.deliveries.next()).await {
                delivery.settle(Outcome::Ack);
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), emptying)
        .await
        .expect("all is acknowledged");
    broker.close().await;
}

/// Somebody has emptied the server: the group is made again.
#[tokio::test]
async fn a_lost_group_comes_back() {
    let Some(redis) = start(&[]).await else { return };
    let broker = broker(&redis, &[]).await;
    let mut inbox = subscribe(&*broker, "t").await;
    broker.publish(message("t", "1")).await.unwrap();
    let held = next(&mut inbox).await;
    raw(&redis, "FLUSHALL").await;
    held.settle(Outcome::Ack);
    broker.publish(message("t", "2")).await.unwrap();
    let delivery = next(&mut inbox).await;
    assert_eq!(text(&delivery), "2");
    delivery.settle(Outcome::Ack);
}

#[tokio::test]
async fn strong_writes_reach_the_replica() {
    let Some(redis) = start(&[]).await else { return };
    let host = redis.host();
    let (_, port) = host.rsplit_once(':').unwrap();
    let Some(replica) = start(&["--replicaof", "127.0.0.1", port]).await else {
        return;
    };
    redis
        .until("INFO replication", |info| info.contains("state=online"))
        .await;
    let store = store(&redis, &[]).await;
    for number in 0..20 {
        let value = number.to_string();
        store
            .set(Set {
                consistency: Consistency::Strong,
                ..set("k", &value)
            })
            .await
            .unwrap();
        assert_eq!(
            raw(&replica, "HGET k data").await,
            format!("${} {value}", value.len())
        );
    }
}

#[tokio::test]
async fn logging_in() {
    let Some(redis) = start(&["--requirepass", "hunter2"]).await else {
        return;
    };
    let store = store(&redis, &[("redisPassword", "hunter2"), ("redisDB", "3")]).await;
    store.set(set("k", "v")).await.unwrap();
    let host = redis.host();
    for metadata in [
        &[("redisHost", host.as_str())][..],
        &[("redisHost", &host), ("redisPassword", "hunter3")],
    ] {
        let error = registry()
            .state_stores()
            .build("redis", "v1", setup(metadata))
            .await
            .err()
            .expect("refused");
        assert_eq!(error.kind, Kind::PermissionDenied, "{error:?}");
        assert!(
            error.message.contains(&host) && !error.message.contains("hunter"),
            "{}",
            error.message
        );
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    for kind in ["state", "pubsub"] {
        let setup = setup(&[("redisHost", "127.0.0.1:1"), ("redisMaxRetries", "-1")]);
        let error = match kind {
            "state" => registry().state_stores().build("redis", "v1", setup).await.err(),
            _ => registry().brokers().build("redis", "v1", setup).await.err(),
        };
        let error = error.expect("refused");
        assert_eq!(error.kind, Kind::Unavailable);
        assert!(
            error.message.contains("error connecting to redis at 127.0.0.1:1"),
            "{}",
            error.message
        );
    }
}
