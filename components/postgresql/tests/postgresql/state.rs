//! What a store does.

use super::store;
use futures::future::join_all;
use outrigger_component::error::Kind;
use outrigger_component::metadata::Metadata;
use outrigger_component::state::{Concurrency, Delete, Get, Set, Write};
use outrigger_testkit::conformance::state::{self, churn};
use outrigger_testkit::servers::postgresql::start;
use outrigger_testkit::store::{get, of, set};
use outrigger_testkit::until::until;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

const WITH_QUERY: &[&str] = &["ETAG", "TRANSACTIONAL", "TTL", "QUERY_API", "KEYS_LIKE"];
const WITHOUT: &[&str] = &["ETAG", "TRANSACTIONAL", "TTL", "KEYS_LIKE"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    let Some(server) = start(&[]).await else { return };
    for (version, metadata, capabilities) in [
        ("v1", &[][..], WITH_QUERY),
        ("postgres/v2", &[("tablePrefix", "two_")], WITHOUT),
        (
            "v2",
            &[
                ("queryAPI", "true"),
                ("tablePrefix", "other_"),
                ("queryExecMode", "exec"),
            ],
            WITH_QUERY,
        ),
        (
            "yugabytedb/v2",
            &[("tablePrefix", "small_"), ("maxConns", "2")],
            WITHOUT,
        ),
        (
            "v1",
            &[
                ("queryAPI", "false"),
                ("tableName", "public.mine"),
                ("metadataTableName", "public.ours"),
            ],
            WITHOUT,
        ),
    ] {
        let store = store(&server, version, metadata).await;
        assert_eq!(store.features().names(), capabilities, "{version} {metadata:?}");
        state::run(&*store, "app").await;
        store.ping().await.unwrap();
        store.close().await;
        let late = store.set(set("late", "1")).await.unwrap_err();
        assert_eq!(late.kind, Kind::Unavailable);
    }
}

/// Of 64 who change a number at the same time, each with the tag it has read, exactly one wins each round.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tags_decide_races() {
    let Some(server) = start(&[]).await else { return };
    for version in ["v1", "v2"] {
        let store = store(&server, version, &[("tablePrefix", "two_")]).await;
        store.set(set("n", "0")).await.unwrap();
        let wins = Arc::new(AtomicUsize::new(0));
        let writers = (0..64).map(|_| {
            let (store, wins) = (Arc::clone(&store), Arc::clone(&wins));
            spawn(async move {
                for _ in 0..10 {
                    let (value, tag) = get(&*store, "n").await.unwrap();
                    let next = (value.parse::<u32>().unwrap() + 1).to_string();
                    let changed = store
                        .set(Set {
                            etag: Some(tag),
                            ..set("n", &next)
                        })
                        .await;
                    match changed {
                        Ok(()) => wins.fetch_add(1, Ordering::Relaxed),
                        Err(error) => {
                            assert_eq!(error.kind, Kind::EtagMismatch, "{error}");
                            0
                        }
                    };
                }
            })
        });
        for writer in join_all(writers).await {
            writer.unwrap();
        }
        let wins = wins.load(Ordering::Relaxed);
        assert!(wins >= 10, "{version}: {wins} wins");
        assert_eq!(get(&*store, "n").await.unwrap().0, wins.to_string(), "{version}");
        // Of those who want to be first, one is.
        let first = (0..64).map(|_| {
            store.set(Set {
                concurrency: Concurrency::FirstWrite,
                ..set("first", "1")
            })
        });
        let firsts = join_all(first).await.into_iter().filter(Result::is_ok).count();
        assert_eq!(firsts, 1, "{version}");
    }
}

/// A value that the column cannot hold fails alone, however many are written with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_neighbour_fails_alone() {
    let Some(server) = start(&[]).await else { return };
    let store = store(&server, "v1", &[]).await;
    let written = join_all((0..200).map(|number| {
        let value = if number % 50 == 7 {
            r#"{"a":"\u0000"}"#
        } else {
            r#"{"a": 1}"#
        };
        let set = Set {
            is_json: true,
            ..set(&format!("k{number}"), value)
        };
        store.set(set)
    }))
    .await;
    for (number, outcome) in written.into_iter().enumerate() {
        let found = get(&*store, &format!("k{number}")).await;
        if number % 50 == 7 {
            let error = outcome.unwrap_err();
            assert_eq!(error.kind, Kind::Invalid, "{error}");
            assert!(error.message.contains(&format!("k{number}:")), "{error}");
            assert_eq!(found, None);
        } else {
            outcome.unwrap_or_else(|error| panic!("{number}: {error}"));
            assert_eq!(found.unwrap().0, r#"{"a": 1}"#);
        }
    }
}

/// Transactions and single writes on the same keys, in orders that make the server undo some: each is done or not, none by
/// half, and none fails for that reason.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_collide() {
    let Some(server) = start(&["-c", "deadlock_timeout=20ms"]).await else {
        return;
    };
    let store = store(&server, "v2", &[("maxConns", "8")]).await;
    let both = |one: &str, other: &str, value: String| {
        vec![Write::Set(set(one, &value)), Write::Set(set(other, &value))]
    };
    let metadata = Metadata::new();
    let transactions = (0..120).map(|number| {
        let (one, other) = if number % 2 == 0 { ("a", "b") } else { ("b", "a") };
        store.transact(both(one, other, number.to_string()), &metadata)
    });
    for outcome in join_all(transactions).await {
        outcome.unwrap();
    }
    let (a, b) = (
        get(&*store, "a").await.unwrap().0,
        get(&*store, "b").await.unwrap().0,
    );
    assert_eq!(a, b, "the last transaction wrote both");
    let mixed = join_all((0..100).map(|number| {
        let store = &store;
        let metadata = &metadata;
        async move {
            let value = number.to_string();
            let both = vec![Write::Set(set("b", &value)), Write::Set(set("a", &value))];
            let (one, other, whole) = tokio::join!(
                store.set(set("a", &value)),
                store.set(set("b", &value)),
                store.transact(both, metadata)
            );
            one.and(other).and(whole)
        }
    }));
    for outcome in mixed.await {
        outcome.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_are_atomic_for_readers() {
    let Some(server) = start(&[]).await else { return };
    let store = store(&server, "v1", &[]).await;
    let metadata = Metadata::new();
    let delete = |key: &str, etag: Option<&str>| {
        Write::Delete(Delete {
            key: key.to_owned(),
            etag: etag.map(str::to_owned),
            ..Delete::default()
        })
    };
    store
        .transact(
            vec![Write::Set(set("a", "0")), Write::Set(set("b", "0"))],
            &metadata,
        )
        .await
        .unwrap();
    let done = AtomicBool::new(false);
    let writing = async {
        for number in 1..200 {
            let value = number.to_string();
            let both = vec![Write::Set(set("a", &value)), Write::Set(set("b", &value))];
            store.transact(both, &metadata).await.unwrap();
            let broken = vec![Write::Set(set("a", "x")), delete("b", Some("1"))];
            assert_eq!(
                store.transact(broken, &metadata).await.unwrap_err().kind,
                Kind::EtagMismatch
            );
        }
        done.store(true, Ordering::Relaxed);
    };
    let reading = async {
        while !done.load(Ordering::Relaxed) {
            let gets = ["a", "b"].map(|key| Get {
                key: key.to_owned(),
                ..Get::default()
            });
            let found = store.bulk_get(&gets).await.unwrap();
            let values: Vec<_> = found
                .into_iter()
                .map(|item| item.unwrap().unwrap().value)
                .collect();
            assert_eq!(values[0], values[1]);
        }
    };
    tokio::join!(writing, reading);
    store
        .transact(
            vec![delete("a", None), delete("b", None), delete("c", None)],
            &metadata,
        )
        .await
        .unwrap();
    assert_eq!(get(&*store, "a").await, None);
}

/// The server goes away in the middle of writing and comes again, twice: what was accepted is there, and the store works again
/// by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_under_load() {
    let Some(mut server) = start(&["-c", "fsync=on"]).await else {
        return;
    };
    let store = store(&server, "v2", &[("timeout", "5s")]).await;
    let load = churn::interrupted(&*store, 2, Duration::from_secs(6), async || {
        server.kill();
        let down = store.get(&of("k")).await.unwrap_err();
        assert!(down.is_retryable(), "{down:?}");
        server.restart().await;
    })
    .await;
    assert!(
        load.refused.iter().all(|refused| *refused > 0),
        "each writer has met the gap: {load:?}"
    );
}

/// Somebody else holds a row: only those who want it wait, and not for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_row_holds_up_nobody_else() {
    let Some(server) = start(&[]).await else { return };
    let store = store(&server, "v1", &[("timeout", "2s")]).await;
    store.set(set("held", "1")).await.unwrap();
    let holding =
        server.sql("BEGIN; SELECT 1 FROM state WHERE key = 'held' FOR UPDATE; SELECT pg_sleep(4); COMMIT");
    let working = async {
        let asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        let held = async || server.sql(asleep).await == "1";
        until("the row is held", Duration::from_secs(10), held).await;
        let waiting = store.set(set("held", "2"));
        let others = async {
            for number in 0..50 {
                store.set(set(&format!("free{number}"), "1")).await.unwrap();
                assert!(get(&*store, "held").await.is_some());
            }
        };
        let (held, ()) = tokio::join!(waiting, others);
        assert_eq!(held.unwrap_err().kind, Kind::Timeout);
    };
    tokio::join!(holding, working);
    store.set(set("held", "3")).await.unwrap();
}

#[expect(clippy::disallowed_methods, reason = "awaited at the end of the test")]
fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(future)
}
