//! Servers that take no more: out of memory, unable to save, a replica. Each says what it is, and is used again as soon
//! as it takes something.

use crate::support::{build, quick, take};
use outrigger_component::error::{Error, Kind};
use outrigger_component::pubsub::PubSub;
use outrigger_component::state::StateStore;
use outrigger_testkit::broker::{message, subscribe};
use outrigger_testkit::disk::Disk;
use outrigger_testkit::servers::redis::{Redis, start};
use outrigger_testkit::store::{get, set};
use std::sync::Arc;

/// What a write and a publish that are refused say.
async fn refused(redis: &Redis, broken: impl AsyncFnOnce(), mended: impl AsyncFnOnce()) -> [Error; 2] {
    let host = redis.host();
    redis.raw("ACL SETUSER ann on >hunter2 ~* &* +@all").await;
    let secret = [
        ("redisUsername", "ann"),
        ("redisPassword", "hunter2"),
        ("redisMaxRetries", "-1"),
    ];
    let store: Arc<dyn StateStore> =
        build::store(&[&[("redisHost", host.as_str())], &secret[..]].concat()).await;
    let broker: Arc<dyn PubSub> = build::broker(&quick(&host, &secret)).await;
    let mut inbox = subscribe(&*broker, "t").await;
    store.set(set("k", "before")).await.unwrap();
    broker.publish(message("t", "before")).await.unwrap();
    broken().await;
    let errors = [
        store.set(set("k", "refused")).await.unwrap_err(),
        broker.publish(message("t", "refused")).await.unwrap_err(),
    ];
    assert_eq!(get(&*store, "k").await.unwrap().0, "before");
    mended().await;
    store.set(set("k", "after")).await.unwrap();
    broker.publish(message("t", "after")).await.unwrap();
    // A group writes down who has what, so that one who cannot write cannot deliver, either.
    take(&mut inbox, ["before", "after"].map(str::to_owned).into()).await;
    assert_eq!(get(&*store, "k").await.unwrap().0, "after");
    for error in &errors {
        assert!(!error.message.contains("hunter2"), "{error}");
    }
    errors
}

fn expect(errors: &[Error; 2], kind: Kind, text: &str) {
    for error in errors {
        assert_eq!(error.kind, kind, "{error:?}");
        assert!(error.message.contains(text), "{text}: {error}");
    }
}

#[tokio::test]
async fn a_server_without_memory() {
    let Some(redis) = start(&["--maxmemory-policy", "noeviction"]).await else {
        return;
    };
    let limit = async |bytes: &str| {
        assert_eq!(redis.raw(&format!("CONFIG SET maxmemory {bytes}")).await, "+OK");
    };
    let errors = refused(&redis, async || limit("1").await, async || limit("0").await).await;
    expect(&errors, Kind::Exhausted, "maxmemory");
}

/// The file that the last snapshot should have become is a folder.
#[tokio::test]
async fn a_server_that_cannot_save() {
    let Some(redis) = start(&["--save", "3600 1"]).await else {
        return;
    };
    let folder = redis.raw("CONFIG GET dir").await;
    let file = format!("{}/dump.rdb", folder.rsplit(' ').next().unwrap());
    let save = async |outcome: &str| {
        redis.raw("BGSAVE").await;
        let line = format!("rdb_last_bgsave_status:{outcome}");
        redis
            .until("INFO persistence", |info| {
                info.contains("rdb_bgsave_in_progress:0") && info.contains(&line)
            })
            .await;
    };
    let errors = refused(
        &redis,
        async || {
            std::fs::create_dir(&file).unwrap();
            save("err").await;
        },
        async || {
            std::fs::remove_dir(&file).unwrap();
            save("ok").await;
        },
    )
    .await;
    expect(&errors, Kind::Exhausted, "MISCONF");
}

/// With `appendfsync always`, Redis ends itself instead.
#[tokio::test]
async fn a_full_disk() {
    let Some(disk) = Disk::mount(4) else { return };
    let folder = disk.path().to_str().unwrap();
    let Some(redis) = start(&["--dir", folder, "--appendfsync", "everysec"]).await else {
        return;
    };
    let ballast = disk.path().join("ballast");
    let note = format!("SET note {}", "x".repeat(5_000));
    let errors = refused(
        &redis,
        async || {
            // As much as there is room for.
            std::fs::write(&ballast, vec![0; 4 << 20]).unwrap_err();
            redis.until(&note, |answer| answer.contains("MISCONF")).await;
        },
        async || {
            std::fs::remove_file(&ballast).unwrap();
            redis.until(&note, |answer| answer == "+OK").await;
        },
    )
    .await;
    expect(&errors, Kind::Exhausted, "No space left on device");
}

#[tokio::test]
async fn a_server_that_has_become_a_replica() {
    let Some(redis) = start(&[]).await else { return };
    let errors = refused(
        &redis,
        async || {
            redis.raw("REPLICAOF 127.0.0.1 1").await;
        },
        async || {
            redis.raw("REPLICAOF NO ONE").await;
        },
    )
    .await;
    expect(&errors, Kind::Unavailable, "read only replica");
}
