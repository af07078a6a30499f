//! A master that Sentinels watch, and its failover.

use crate::support::{build, quick, refused, take};
use outrigger_component::error::Kind;
use outrigger_component::state::{Consistency, Get, Set};
use outrigger_testkit::broker::{message, subscribe};
use outrigger_testkit::servers::redis::watched;
use outrigger_testkit::store::set;
use outrigger_testkit::until::until;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_is_followed_and_loses_nothing_strong() {
    let Some(mut servers) = watched("orders").await else {
        return;
    };
    // The first one is not there.
    let hosts = format!("127.0.0.1:1,{}", servers.sentinel.host());
    let metadata = [
        ("redisHost", hosts.as_str()),
        ("failover", "true"),
        ("sentinelMasterName", "orders"),
    ];
    let store = build::store(&metadata).await;
    let locks = build::locks(&metadata).await;
    let broker = build::broker(&quick(&hosts, &metadata[1..])).await;
    let mut inbox = subscribe(&*broker, "t").await;
    broker.publish(message("t", "before")).await.unwrap();
    take(&mut inbox, ["before".to_owned()].into()).await;

    let (done, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (writer, stop, count) = (Arc::clone(&store), &done, &count);
    let writing = async move {
        let mut written = BTreeSet::new();
        for number in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let key = format!("k{number}");
            let strong = Set {
                consistency: Consistency::Strong,
                ..set(&key, "v")
            };
            if writer.set(strong).await.is_ok() {
                written.insert(key);
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
        written
    };
    let killing = async {
        let written = async || count.load(Ordering::Relaxed) >= 100;
        until("writes are accepted", Duration::from_secs(20), written).await;
        servers.master.kill();
        let began = Instant::now();
        // The first write that is taken after the kill is taken by the new master.
        while store.set(set("after", "v")).await.is_err() {
            assert!(began.elapsed() < Duration::from_secs(20), "no failover");
        }
        let took = began.elapsed();
        done.store(true, Ordering::Relaxed);
        took
    };
    let (written, took) = tokio::join!(writing, killing);
    assert!(took < Duration::from_secs(10), "the failover took {took:?}");
    assert!(written.len() >= 100, "{} written", written.len());
    assert!(servers.replica.raw("ROLE").await.contains("master"));
    for key in &written {
        let get = Get {
            key: key.clone(),
            ..Get::default()
        };
        assert!(store.get(&get).await.unwrap().is_some(), "{key} is lost");
    }
    // Everything else has followed, too.
    broker.publish(message("t", "later")).await.unwrap();
    take(&mut inbox, ["later".to_owned()].into()).await;
    locks.ping().await.unwrap();

    // The old master comes back as a replica, and nobody writes to it.
    servers.master.restart().await;
    servers.master.until("ROLE", |role| role.contains("slave")).await;
    store.set(set("end", "v")).await.unwrap();
    servers.replica.until("EXISTS end", |found| found == ":1").await;
}

#[tokio::test]
async fn sentinels_that_do_not_know_are_named() {
    let Some(servers) = watched("orders").await else {
        return;
    };
    let host = servers.sentinel.host();
    let failover = [
        ("redisHost", host.as_str()),
        ("failover", "true"),
        ("redisMaxRetries", "-1"),
    ];
    let error = refused(&failover).await;
    assert!(
        error.message.contains("sentinelMasterName is missing"),
        "{}",
        error.message
    );
    let error = refused(&[&failover[..], &[("sentinelMasterName", "other")]].concat()).await;
    assert!(
        error.message.contains("know no master") && error.message.contains("other"),
        "{}",
        error.message
    );
    let away = [
        ("redisHost", "127.0.0.1:1"),
        failover[1],
        failover[2],
        ("sentinelMasterName", "orders"),
    ];
    let error = refused(&away).await;
    assert_eq!(error.kind, Kind::Unavailable);
    assert!(error.message.contains("127.0.0.1:1"), "{}", error.message);
}
