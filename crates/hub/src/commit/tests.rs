//! The commit thread with a log in memory, whose disk fills up and which loses power.

use super::*;
use crate::config::Config;
use crate::hub::{Store, open_store};
use crate::log::volume::memory::Memory;
use outrigger_daemon::log::{Config as LogConfig, Format, Level, Log, Output};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;

pub(crate) fn quiet() -> Log {
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

struct Bench {
    folder: TempDir,
    volume: Memory,
    config: Config,
}

impl Bench {
    fn new(adapt: impl FnOnce(&mut Config)) -> Self {
        let folder = TempDir::new().unwrap();
        let mut config = Config::new(folder.path());
        config.segment_bytes = 64 << 10;
        adapt(&mut config);
        Self {
            folder,
            volume: Memory::default(),
            config,
        }
    }

    fn engine(&self) -> PathBuf {
        self.folder.path().join("kv.redb")
    }

    fn open(&self) -> Store {
        self.open_at(&self.volume, &self.engine())
    }

    fn open_at(&self, volume: &Memory, engine: &Path) -> Store {
        open_store(&self.config, &quiet(), Arc::new(volume.clone()), engine, None).unwrap()
    }
}

impl Store {
    fn close(self) {
        drop(self.commit);
        self.writer.join().unwrap();
    }

    async fn send(&self, topic: &str, data: &str) -> Result<u64, Failure> {
        self.commit.publish(vec![outgoing(topic, data)]).await?.remove(0)
    }

    async fn put(&self, key: &str, value: &str, condition: Condition) -> Result<Wrote, Failure> {
        self.commit
            .write(vec![vec![step(key, Some(value), condition)]])
            .await?
            .remove(0)
    }

    fn value(&self, key: &str) -> Option<String> {
        let item = self.kv.get(key.as_bytes(), crate::clock::wall()).unwrap()?;
        Some(String::from_utf8(item.value.to_vec()).unwrap())
    }

    /// Everything that a topic has, from memory or log.
    fn messages(&self, name: &str) -> Vec<String> {
        let Some(topic) = self.topics.all().into_iter().find(|topic| topic.name == name) else {
            return Vec::new();
        };
        let (first, next) = topic.range();
        if first == next {
            return Vec::new();
        }
        let found = topic.read(&self.segments, first, usize::MAX, usize::MAX).unwrap();
        assert_eq!(found.len() as u64, next - first);
        found
            .iter()
            .map(|message| String::from_utf8(message.data.to_vec()).unwrap())
            .collect()
    }
}

fn outgoing(topic: &str, data: &str) -> Outgoing {
    Outgoing {
        topic: topic.to_owned(),
        data: Bytes::from(data.to_owned()),
        ..Outgoing::default()
    }
}

fn step(key: &str, value: Option<&str>, condition: Condition) -> Step {
    Step {
        key: Bytes::from(key.to_owned()),
        condition,
        put: value.map(|value| Put {
            value: Bytes::from(value.to_owned()),
            content_type: String::new(),
            ttl: 0,
        }),
    }
}

fn reason<T>(result: Result<T, Failure>) -> Option<Reason> {
    result.err().map(|failure| failure.reason)
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what} did not come to pass");
}

#[tokio::test]
async fn conditions_see_what_the_same_request_wrote_before() {
    let bench = Bench::new(|_| {});
    let store = bench.open();
    let first = store.put("a", "1", Condition::Absent).await.unwrap().version;
    assert_eq!(
        reason(store.put("a", "2", Condition::Absent).await),
        Some(Reason::Conflict)
    );
    let second = store
        .put("a", "2", Condition::Version(first))
        .await
        .unwrap()
        .version;
    assert!(second > first);
    let request = vec![
        vec![step("a", Some("3"), Condition::Version(second))],
        // The same tag a second time, in the same request and frame.
        vec![step("a", Some("4"), Condition::Version(second))],
        vec![
            step("b", Some("1"), Condition::Absent),
            step("b", Some("2"), Condition::Absent),
        ],
        vec![
            step("c", Some("1"), Condition::Absent),
            step("c", None, Condition::None),
        ],
        vec![step("c", Some("2"), Condition::Absent)],
        vec![step("d", None, Condition::None)],
    ];
    let results = store.commit.write(request).await.unwrap();
    let reasons: Vec<_> = results.iter().cloned().map(reason).collect();
    let conflict = Some(Reason::Conflict);
    assert_eq!(reasons, [None, conflict, conflict, None, None, None]);
    assert_eq!(results[3].as_ref().unwrap().deleted, 1);
    assert_eq!(results[5].as_ref().unwrap().deleted, 0);
    let values = ["a", "b", "c", "d"].map(|key| store.value(key));
    assert_eq!(values, [Some("3".to_owned()), None, Some("2".to_owned()), None]);
    store.close();
}

#[tokio::test]
async fn limits_refuse_the_one_that_exceeds_them() {
    let bench = Bench::new(|config| {
        config.limits.message_bytes = 1_000;
        config.limits.topics = 2;
        config.limits.groups_per_topic = 2;
    });
    let store = bench.open();
    let big = "x".repeat(1_001);
    let batch = vec![
        outgoing("t", "1"),
        outgoing("t", &big),
        outgoing("u", "2"),
        outgoing("v", "3"),
    ];
    let results = store.commit.publish(batch).await.unwrap();
    let reasons: Vec<_> = results.into_iter().map(reason).collect();
    assert_eq!(reasons, [None, Some(Reason::Limit), None, Some(Reason::Limit)]);
    assert_eq!(
        reason(store.put("k", &big, Condition::None).await),
        Some(Reason::Limit)
    );
    for (group, expected) in [("a", None), ("b", None), ("c", Some(Reason::Limit)), ("a", None)] {
        let opened = store.commit.open("t".to_owned(), group.to_owned(), false).await;
        assert_eq!(reason(opened), expected, "group {group}");
    }
    assert_eq!(store.messages("t"), ["1"]);
    store.close();
}

#[tokio::test]
async fn groups_begin_now_or_with_the_oldest_and_are_found_again() {
    let bench = Bench::new(|_| {});
    let store = bench.open();
    store.send("t", "1").await.unwrap();
    store.send("t", "2").await.unwrap();
    let open = |store: &Store, group: &str, earliest| {
        let commit = store.commit.clone();
        let group = group.to_owned();
        async move {
            let opened = commit.open("t".to_owned(), group, earliest).await.unwrap();
            (opened.group, opened.cursor.next)
        }
    };
    let now = open(&store, "now", false).await;
    let oldest = open(&store, "oldest", true).await;
    assert_eq!((now.1, oldest.1), (3, 1));
    let cursor = Cursor {
        next: 3,
        open: vec![(2, 4)],
    };
    store.commit.advance(oldest.0, cursor.clone()).await.unwrap();
    store.send("t", "3").await.unwrap();
    store.close();
    let store = bench.open();
    assert_eq!(
        open(&store, "now", true).await,
        now,
        "it exists: where it began does not change"
    );
    let again = store
        .commit
        .open("t".to_owned(), "oldest".to_owned(), false)
        .await
        .unwrap();
    assert_eq!((again.group, again.cursor), (oldest.0, cursor));
    store.close();
}

#[tokio::test]
async fn a_full_disk_fails_writes_lets_reads_go_on_and_heals_by_itself() {
    let bench = Bench::new(|_| {});
    let store = bench.open();
    store.send("t", "1").await.unwrap();
    store.put("a", "1", Condition::None).await.unwrap();
    bench.volume.state().limit = Some(0);
    let data = "x".repeat(100_000);
    for _ in 0..3 {
        assert_eq!(reason(store.send("t", &data).await), Some(Reason::DiskFull));
        assert_eq!(
            reason(store.put("a", &data, Condition::None).await),
            Some(Reason::DiskFull)
        );
        let opened = store
            .commit
            .open("t".to_owned(), data[..1_000].to_owned(), false)
            .await;
        assert_eq!(reason(opened), Some(Reason::DiskFull));
    }
    assert!(
        store
            .health
            .log
            .get()
            .is_some_and(|cause| cause.contains("no room on the disk"))
    );
    assert_eq!(
        (store.messages("t"), store.value("a")),
        (vec!["1".to_owned()], Some("1".to_owned()))
    );
    bench.volume.state().limit = None;
    assert_eq!(store.send("t", "2").await, Ok(2));
    store.put("a", "2", Condition::None).await.unwrap();
    assert_eq!(store.health.log.get(), None);
    store.close();
    let store = bench.open();
    assert_eq!(
        (store.messages("t"), store.value("a")),
        (vec!["1".to_owned(), "2".to_owned()], Some("2".to_owned()))
    );
    store.close();
}

#[tokio::test]
async fn a_broken_disk_fails_writes_for_good_and_reads_go_on() {
    let bench = Bench::new(|_| {});
    let store = bench.open();
    store.send("t", "1").await.unwrap();
    bench.volume.state().fail_sync = true;
    assert_eq!(reason(store.send("t", "2").await), Some(Reason::DiskFailed));
    bench.volume.state().fail_sync = false;
    assert_eq!(reason(store.send("t", "3").await), Some(Reason::DiskFailed));
    assert_eq!(store.messages("t"), ["1"]);
    store.close();
    let store = bench.open();
    assert_eq!(store.messages("t"), ["1"]);
    store.close();
}

#[tokio::test]
async fn retention_removes_what_is_settled_and_above_the_hard_limit_what_is_oldest() {
    let bench = Bench::new(|config| {
        config.checkpoint_after = Duration::ZERO;
        config.retention.every = Duration::ZERO;
        config.retention.keep_bytes = 0;
        config.retention.max_bytes = 512 << 10;
    });
    let store = bench.open();
    let group = store
        .commit
        .open("t".to_owned(), "g".to_owned(), false)
        .await
        .unwrap();
    let data = "x".repeat(10_000);
    for _ in 0..30 {
        store.send("t", &data).await.unwrap();
    }
    let first = || group.topic.range().0;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(first(), 1, "300 kB are not settled: they stay");
    let cursor = Cursor {
        next: 21,
        open: vec![(16, 1)],
    };
    store.commit.advance(group.group, cursor).await.unwrap();
    eventually("removal of what is settled", || first() > 10).await;
    assert!(first() <= 16, "the one that is open stays");
    assert_eq!(store.health.counters.dropped.load(Ordering::Relaxed), 0);
    for _ in 0..60 {
        store.send("t", &data).await.unwrap();
    }
    eventually("removal above the hard limit", || first() > 30).await;
    assert!(store.health.counters.dropped.load(Ordering::Relaxed) > 0);
    let total: u64 = store
        .segments
        .all()
        .iter()
        .map(|segment| segment.readable())
        .sum();
    assert!(total <= 600 << 10, "{total}");
    store.put("k", "v", Condition::None).await.unwrap();
    store.close();
    // The log begins later than the first record now: the checkpoint has the rest.
    let store = bench.open();
    assert_eq!(store.value("k").as_deref(), Some("v"));
    assert_eq!(store.topics.all()[0].range().1, 91);
    assert_eq!(store.send("t", "next").await, Ok(91));
    store.close();
}

#[tokio::test]
async fn groups_that_nobody_joined_for_long_are_removed() {
    let bench = Bench::new(|config| {
        config.retention.every = Duration::ZERO;
        config.retention.group_expiry = Duration::from_millis(50);
    });
    let store = bench.open();
    let kept = store
        .commit
        .open("t".to_owned(), "kept".to_owned(), false)
        .await
        .unwrap();
    kept.topic.set_joined([kept.group].into());
    store
        .commit
        .open("t".to_owned(), "left".to_owned(), false)
        .await
        .unwrap();
    let names = |store: &Store| {
        let commit = store.commit.clone();
        async move {
            let names = |catalog: &Catalog| catalog.groups.values().map(|group| group.name.clone()).collect();
            let names: Vec<String> = commit.look(names).await.unwrap();
            names
        }
    };
    assert_eq!(names(&store).await.len(), 2);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(names(&store).await, ["kept"]);
    store.close();
}

#[tokio::test]
async fn folders_that_do_not_belong_together_are_refused() {
    let bench = Bench::new(|config| config.segment_bytes = 64 << 10);
    let store = bench.open();
    store.put("a", "1", Condition::None).await.unwrap();
    store.close();
    let open = |volume: Memory, engine: &Path| {
        open_store(&bench.config, &quiet(), Arc::new(volume), engine, None).map(Store::close)
    };
    // The log was removed, the key/value file was not.
    let lost = open(Memory::default(), &bench.engine());
    assert!(
        matches!(lost, Err(crate::error::Error::Mismatch { .. })),
        "{lost:?}"
    );
    // The other way round the log has everything, as long as it begins at the beginning.
    open(bench.volume.copy(), &bench.folder.path().join("new.redb")).unwrap();
}

/// Many writers, power lost at some moment: everything that was acknowledged before is there afterwards, every topic
/// is in order, and no key is older than its last acknowledged value.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_loss_of_power() {
    const WRITERS: usize = 6;
    for seed in 0..6 {
        let mut random = StdRng::seed_from_u64(seed);
        let bench = Bench::new(|_| {});
        let mut volume = bench.volume.clone();
        let mut engine = bench.engine();
        let mut before: BTreeMap<usize, u64> = BTreeMap::new();
        for round in 0..4 {
            let store = bench.open_at(&volume, &engine);
            for (writer, acknowledged) in &before {
                let found: Vec<u64> = store
                    .messages(&format!("topic {writer}"))
                    .iter()
                    .map(|data| data.parse().unwrap())
                    .collect();
                assert!(found.is_sorted(), "seed {seed}, round {round}: {found:?}");
                assert!(
                    found.contains(acknowledged) || *acknowledged == 0,
                    "seed {seed}, round {round}: {acknowledged} is lost"
                );
                let missing = (1..=*acknowledged).find(|n| !found.contains(n));
                assert_eq!(missing, None, "seed {seed}, round {round}");
                let value: u64 = store
                    .value(&format!("key {writer}"))
                    .map_or(0, |value| value.parse().unwrap());
                assert!(
                    value >= *acknowledged,
                    "seed {seed}, round {round}: {value} < {acknowledged}"
                );
            }
            let acknowledged: Arc<[AtomicU64; WRITERS]> = Arc::default();
            let mut writers = tokio::task::JoinSet::new();
            for writer in 0..WRITERS {
                let (commit, acknowledged) = (store.commit.clone(), acknowledged.clone());
                // What was written and not acknowledged may be there: go on after it.
                let last = store.messages(&format!("topic {writer}")).pop();
                let from = last.map_or(1, |last| last.parse::<u64>().unwrap() + 1);
                writers.spawn(async move {
                    for n in from..from + 500 {
                        let text = n.to_string();
                        let put = vec![vec![step(&format!("key {writer}"), Some(&text), Condition::None)]];
                        let (published, written) = tokio::join!(
                            commit.publish(vec![outgoing(&format!("topic {writer}"), &text)]),
                            commit.write(put),
                        );
                        published.unwrap().remove(0).unwrap();
                        written.unwrap().remove(0).unwrap();
                        acknowledged[writer].store(n, Ordering::Release);
                    }
                });
            }
            tokio::time::sleep(Duration::from_millis(random.random_range(1..40))).await;
            let known: Vec<u64> = acknowledged.iter().map(|n| n.load(Ordering::Acquire)).collect();
            // A clean end in between makes a checkpoint.
            let crash = volume.crash(&mut random);
            if random.random_bool(0.3) {
                writers.join_all().await;
                store.close();
                before = (0..WRITERS)
                    .map(|writer| (writer, acknowledged[writer].load(Ordering::Acquire)))
                    .collect();
                continue;
            }
            let copy = bench.folder.path().join(format!("kv-{round}.redb"));
            std::fs::copy(&engine, &copy).unwrap();
            writers.abort_all();
            while writers.join_next().await.is_some() {}
            store.close();
            for (writer, n) in known.into_iter().enumerate() {
                let last = before.entry(writer).or_default();
                *last = n.max(*last);
            }
            (volume, engine) = (crash, copy);
        }
    }
}
