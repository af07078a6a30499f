//! Configuration, locks and the binding on one server.

use crate::support::{build, registry};
use futures::{FutureExt as _, StreamExt as _};
use outrigger_component::binding::{Invoke, OutputBinding};
use outrigger_component::configuration::{Get, Items};
use outrigger_component::error::Kind;
use outrigger_component::lock::{TryLock, Unlock, Unlocked};
use outrigger_testkit::conformance::{binding, configuration, lock};
use outrigger_testkit::servers::redis::{Redis, start};
use outrigger_testkit::setup::setup;
use std::sync::Arc;
use std::time::Duration;

/// Writes as an administrator would.
pub(crate) async fn configuration_conforms(redis: Redis, metadata: &[(&str, &str)]) {
    let store = build::configuration(metadata).await;
    let redis = Arc::new(redis);
    let write = |key: &'static str, value: Option<&'static str>| {
        let redis = Arc::clone(&redis);
        async move {
            match value {
                Some(value) => redis.raw(&format!("SET {key} {value}")).await,
                None => redis.raw(&format!("DEL {key}")).await,
            };
        }
        .boxed()
    };
    configuration::run(&*store, &write).await;
}

#[tokio::test]
async fn configuration_conforms_on_one_server() {
    let Some(redis) = start(&[]).await else { return };
    let host = redis.host();
    configuration_conforms(redis, &[("redisHost", &host)]).await;
}

#[tokio::test]
async fn configuration_is_laid_out_as_the_reference_does() {
    let Some(redis) = start(&["--notify-keyspace-events", "El"]).await else {
        return;
    };
    let host = redis.host();
    let store = build::configuration(&[("redisHost", &host), ("redisDB", "2")]).await;
    redis.raw("MSET other 1").await;
    redis.raw("HSET hash a b").await;
    let write = |command: &str| {
        let command = format!("EVAL redis.call('SELECT',2);return(redis.call({command})) 0");
        let redis = &redis;
        async move { redis.raw(&command).await }
    };
    write("'SET','key','value||7'").await;
    write("'HSET','hash','a','b'").await;
    let all = store.get(&Get::default()).await.unwrap();
    assert_eq!(all.len(), 1, "of this database, and texts only: {all:?}");
    assert_eq!(
        (all["key"].value.as_str(), all["key"].version.as_str()),
        ("value", "7")
    );

    let mut changes = store.watch(&Get::default()).await.unwrap();
    let kinds = redis.raw("CONFIG GET notify-keyspace-events").await;
    for kind in "ElKg$xe".chars() {
        assert!(kinds.contains(kind), "{kinds}: {kind} is on");
    }
    write("'SET','key','value||8','PX','200'").await;
    let change = next(&mut changes).await;
    assert_eq!(change["key"].version, "8");
    let change = next(&mut changes).await;
    assert_eq!(change["key"].value, "", "expired");
}

/// The server is killed; what was written before somebody listened again is told all the same.
#[tokio::test]
async fn a_watch_outlives_its_server() {
    let Some(mut redis) = start(&[]).await else { return };
    let host = redis.host();
    let store = build::configuration(&[("redisHost", &host)]).await;
    redis.raw("SET a 1").await;
    redis.raw("SET b 1").await;
    let keys = ["a", "b"].map(str::to_owned).to_vec();
    let get = Get {
        keys,
        ..Get::default()
    };
    let mut changes = store.watch(&get).await.unwrap();
    for round in ["2", "3"] {
        redis.kill();
        redis.restart().await;
        redis.raw(&format!("SET a {round}")).await;
        redis.raw("SET c 1").await;
        let change = next(&mut changes).await;
        assert_eq!(
            (change.len(), change["a"].value.as_str()),
            (1, round),
            "{change:?}"
        );
    }
    redis.raw("DEL b").await;
    assert_eq!(next(&mut changes).await["b"].value, "");
    let watchers = |count: usize| move |list: &str| list.matches(" sub=2 ").count() == count;
    redis.until("CLIENT LIST", watchers(1)).await;
    drop(changes);
    redis.until("CLIENT LIST", watchers(0)).await;
}

async fn next(changes: &mut outrigger_component::configuration::Changes) -> Items {
    tokio::time::timeout(Duration::from_secs(20), changes.next())
        .await
        .expect("in time")
        .expect("goes on")
}

#[tokio::test]
async fn locks_conform() {
    let Some(redis) = start(&[]).await else { return };
    let host = redis.host();
    let locks = build::locks(&[("redisHost", &host)]).await;
    lock::run(&*locks, "lock||app").await;
    let wanted = TryLock {
        resource: "r".to_owned(),
        owner: "ann".to_owned(),
        expiry: Duration::from_secs(60),
    };
    let granted = locks.try_lock(&wanted).await.unwrap().expect("free");
    assert!(granted.metadata.get("fencingToken").is_some(), "{granted:?}");
    assert_eq!(redis.raw("GET r").await, "$3 ann", "as the reference keeps it");
    let left: u64 = redis.raw("PTTL r").await.trim_start_matches(':').parse().unwrap();
    assert!((50_000..=60_000).contains(&left), "{left}");
    redis.raw("SET r eve").await;
    let unlock = Unlock {
        resource: "r".to_owned(),
        owner: "ann".to_owned(),
    };
    assert_eq!(locks.unlock(&unlock).await.unwrap(), Unlocked::HeldByOther);
}

/// Sixty-four callers want it at once: one gets it, each time, with a token larger than the one before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_gets_the_lock() {
    let Some(redis) = start(&[]).await else { return };
    let host = redis.host();
    let locks = build::locks(&[("redisHost", &host)]).await;
    let mut last = 0;
    for _ in 0..20 {
        let tries = (0..64).map(|number| {
            let locks = Arc::clone(&locks);
            async move {
                let wanted = TryLock {
                    resource: "r".to_owned(),
                    owner: number.to_string(),
                    expiry: Duration::from_secs(60),
                };
                let granted = locks.try_lock(&wanted).await.unwrap()?;
                let token: u64 = granted.metadata.get("fencingToken")?.parse().ok()?;
                Some((wanted.owner, token))
            }
        });
        let granted: Vec<_> = futures::future::join_all(tries)
            .await
            .into_iter()
            .flatten()
            .collect();
        let [(owner, token)] = granted.as_slice() else {
            panic!("{granted:?}");
        };
        assert!(*token > last, "{token} after {last}");
        last = *token;
        let unlock = Unlock {
            resource: "r".to_owned(),
            owner: owner.clone(),
        };
        assert_eq!(locks.unlock(&unlock).await.unwrap(), Unlocked::Done);
    }
}

#[tokio::test]
async fn locks_are_refused_where_a_failover_may_lose_them() {
    let Some(redis) = start(&[]).await else { return };
    let host = redis.host();
    let (_, port) = host.rsplit_once(':').unwrap();
    let Some(_replica) = start(&["--replicaof", "127.0.0.1", port]).await else {
        return;
    };
    redis
        .until("INFO replication", |info| info.contains("connected_slaves:1"))
        .await;
    for (metadata, expected) in [
        (
            &[("redisHost", host.as_str())][..],
            "replication is not supported",
        ),
        (
            &[("redisHost", &host), ("redisType", "cluster")],
            "does not support connecting to Redis Cluster",
        ),
    ] {
        let registry = registry();
        let built = registry.lock_stores().build("redis", "v1", setup(metadata)).await;
        let error = built.err().expect("refused");
        assert_eq!(error.kind, Kind::Invalid);
        assert!(error.message.contains(expected), "{}", error.message);
    }
}

#[tokio::test]
async fn the_binding_does_what_the_reference_does() {
    let Some(redis) = start(&[]).await else { return };
    let host = redis.host();
    let binding: Arc<dyn OutputBinding> = build::binding(&[("redisHost", &host)]).await;
    let operations = ["create", "delete", "get", "increment"];
    assert_eq!(binding.operations(), operations);
    let ask = binding::Ask::new(&operations, &[("key", "suite")], b"some \0 data");
    binding::run(Some(&*binding), None, ask).await;
    let call = |operation: &str, data: &str, metadata: &[(&str, &str)]| {
        let invoke = Invoke {
            operation: operation.to_owned(),
            data: data.as_bytes().to_vec().into(),
            metadata: metadata.iter().copied().collect(),
        };
        let binding: Arc<dyn OutputBinding> = Arc::clone(&binding);
        async move {
            let output = binding.invoke(invoke).await.map_err(|failed| failed.error)?;
            Ok::<_, outrigger_component::error::Error>(
                output.map(|output| String::from_utf8(output.data.to_vec()).unwrap()),
            )
        }
    };
    let key = ("key", "k");
    assert_eq!(call("create", "hello", &[key]).await.unwrap(), None);
    assert_eq!(redis.raw("GET k").await, "$5 hello");
    assert_eq!(call("get", "", &[key]).await.unwrap().as_deref(), Some("hello"));
    assert_eq!(redis.raw("PTTL k").await, ":-1");
    call("create", "again", &[key, ("ttlInSeconds", "100")])
        .await
        .unwrap();
    assert_eq!(redis.raw("TTL k").await, ":100");
    let delete = ("delete", "true");
    assert_eq!(
        call("get", "", &[key, delete]).await.unwrap().as_deref(),
        Some("again")
    );
    assert_eq!(
        call("get", "", &[key]).await.unwrap().as_deref(),
        Some(""),
        "absent"
    );
    call("increment", "", &[key]).await.unwrap();
    call("increment", "", &[key, ("ttlInSeconds", "5")])
        .await
        .unwrap();
    assert_eq!(redis.raw("GET k").await, "$1 2");
    assert_eq!(redis.raw("TTL k").await, ":5");
    call("delete", "", &[key]).await.unwrap();
    call("delete", "", &[key]).await.unwrap();
    assert_eq!(redis.raw("EXISTS k").await, ":0");
    for (operation, metadata, expected) in [
        ("get", &[][..], "redis binding: missing key in request metadata"),
        ("create", &[key, ("ttlInSeconds", "0")], "above zero"),
        ("drop", &[key], "invalid operation type: drop"),
    ] {
        let error = call(operation, "", metadata).await.unwrap_err();
        assert_eq!(error.kind, Kind::Invalid);
        assert!(error.message.contains(expected), "{}", error.message);
    }
    redis.raw("SET k text").await;
    let error = call("increment", "", &[key]).await.unwrap_err();
    assert!(error.message.contains("not an integer"), "{}", error.message);
}
