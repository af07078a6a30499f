//! SIGKILL at any time: what a transaction committed is published, under one id, in order, and nothing else is.
//!
//! Each transaction writes a counter of its writer and a key of its own, and publishes an event for either. The sidecar
//! that runs the transactions is killed and started again, and so is what keeps the data.

use crate::cluster::{Cluster, SOON, Sidecar, Spec, component, quick};
use outrigger_testkit::client::Client;
use outrigger_testkit::port::Port;
use outrigger_testkit::process::Process;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const WRITERS: u64 = 4;
const ANSWER: Duration = Duration::from_secs(60);
/// What is added to the number of a transaction for the event of its own key.
const OWN: u64 = 1_000_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_committed_is_published() {
    let cluster = Cluster::new();
    let mut hub = cluster.hub();
    hub.start();
    let outbox = [
        ("outboxPublishPubsub", "pubsub"),
        ("outboxPublishTopic", "events"),
    ];
    let broker = |concurrency| component("pubsub", "pubsub.outrigger", &[("concurrency", concurrency)]);
    let state = component("statestore", "state.outrigger", &outbox);
    let writing = cluster.resources(
        "writing",
        &[("pubsub.yaml", &broker("16")), ("state.yaml", &state)],
    );
    // One at a time, so that the app sees the order of the topic.
    let reading = cluster.resources("reading", &[("pubsub.yaml", &broker("1"))]);
    let (port, received) = (Port::take(), cluster.folder().join("received"));
    let mut app = Process::new("app", env!("CARGO_BIN_EXE_stub-app"), cluster.folder())
        .args([port.number().to_string().as_ref(), received.as_os_str()]);
    app.start();
    let spec = |app_id, app_port, resources| Spec {
        app_id,
        app_port,
        resources: Some(resources),
        hub: true,
        flags: &["--log-level", "warn"],
    };
    let mut writer = cluster.sidecar(&spec("writer", None, &writing));
    let mut reader = cluster.sidecar(&spec("reader", Some(port.number()), &reading));
    writer.start().await;
    reader.start().await;

    let work = Arc::new(Work::default());
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        writers.spawn(write(
            writer.url("/v1.0/state/statestore/transaction"),
            number,
            Arc::clone(&work),
        ));
    }
    let rounds = if quick() { 4 } else { 24 };
    for round in 0..rounds {
        work.goes_on(&writer).await;
        // Different points of a transaction each time.
        tokio::time::sleep(Duration::from_micros(u64::from(round * 3_701 % 20_000))).await;
        // Every fourth time what keeps the data, every third time both.
        let (sidecar, data) = (round % 4 != 3, round % 4 == 3 || round % 3 == 2);
        if sidecar {
            writer.process.kill();
        }
        if data {
            hub.kill();
        }
        tokio::time::sleep(Duration::from_millis(u64::from(round * 37 % 97))).await;
        if data {
            hub.start();
        }
        if sidecar {
            writer.process.start();
        }
        writer.serving().await;
    }
    work.stop.store(true, Ordering::Relaxed);
    let tried: Vec<Tried> = writers.join_all().await.into_iter().flatten().collect();
    check(&writer, &reader, &received, &tried, rounds).await;
}

/// A transaction: number, key of the counter, and whether it was acknowledged.
struct Tried {
    number: u64,
    counter: String,
    acknowledged: bool,
}

#[derive(Default)]
struct Work {
    numbers: AtomicU64,
    acknowledged: AtomicU64,
    stop: AtomicBool,
}

impl Work {
    async fn goes_on(&self, writer: &Sidecar) {
        let goal = self.acknowledged.load(Ordering::Relaxed) + WRITERS * 4;
        let deadline = Instant::now() + SOON;
        while self.acknowledged.load(Ordering::Relaxed) < goal {
            assert!(
                Instant::now() < deadline,
                "nothing is acknowledged:\n{}",
                writer.process.tail()
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn write(url: String, writer: u64, work: Arc<Work>) -> Vec<Tried> {
    let client = Client::new(ANSWER);
    let mut tried = Vec::new();
    // A counter whose last write has an unknown outcome is left alone: that write may still be under way.
    let mut generation = 0;
    while !work.stop.load(Ordering::Relaxed) {
        let number = work.numbers.fetch_add(1, Ordering::Relaxed);
        let counter = format!("counter-{writer}-{generation}");
        let set = |key: &str, n: u64| {
            format!(r#"{{"operation":"upsert","request":{{"key":"{key}","value":{{"n":{n}}}}}}}"#)
        };
        let body = format!(
            r#"{{"operations":[{},{}]}}"#,
            set(&counter, number),
            set(&own(number), number + OWN)
        );
        let answer = client.post_json(&url, body).await;
        let acknowledged = answer.is_ok_and(|answer| answer.status == 204);
        if acknowledged {
            work.acknowledged.fetch_add(1, Ordering::Relaxed);
        } else {
            generation += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tried.push(Tried {
            number,
            counter,
            acknowledged,
        });
    }
    tried
}

fn own(number: u64) -> String {
    format!("own-{number}")
}

async fn check(writer: &Sidecar, reader: &Sidecar, received: &PathBuf, tried: &[Tried], kills: u32) {
    writer.ready().await;
    reader.ready().await;
    let client = Client::new(ANSWER);
    let mut committed = BTreeSet::new();
    for Tried {
        number, acknowledged, ..
    } in tried
    {
        let url = writer.url(&format!("/v1.0/state/statestore/{}", own(*number)));
        let answer = client.get(&url).await.expect("everybody is well again");
        let there = answer.status == 200;
        assert!(
            there || !acknowledged,
            "transaction {number} was acknowledged and is gone"
        );
        if there {
            committed.extend([*number, *number + OWN]);
        }
    }
    let deliveries = drain(received, &committed).await;
    let mut ids: BTreeMap<u64, &str> = BTreeMap::new();
    let mut first = Vec::new();
    let mut repeated = 0;
    for (number, id) in &deliveries {
        match ids.insert(*number, id) {
            None => first.push(*number),
            Some(before) => {
                repeated += 1;
                assert_eq!(before, id, "event {number} came again under another id");
            }
        }
    }
    let came: BTreeSet<u64> = first.iter().copied().collect();
    let lost: Vec<&u64> = committed.difference(&came).collect();
    let invented: Vec<&u64> = came.difference(&committed).collect();
    assert!(lost.is_empty(), "lost: {lost:?}\n{}", writer.process.tail());
    assert!(invented.is_empty(), "published, and not committed: {invented:?}");
    let counters: BTreeMap<u64, &str> = tried.iter().map(|it| (it.number, it.counter.as_str())).collect();
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for number in first {
        if let Some(counter) = counters.get(&number) {
            let before = last.insert(counter, number);
            assert!(before < Some(number), "{counter}: {number} came after {before:?}");
        }
    }
    report(kills, committed.len(), repeated);
}

/// Waits until everything has come, or nothing comes any more.
async fn drain(received: &PathBuf, committed: &BTreeSet<u64>) -> Vec<(u64, String)> {
    let mut seen = 0;
    let mut last = Instant::now();
    loop {
        let text = std::fs::read_to_string(received).unwrap_or_default();
        let parse = |line: &str| {
            let (number, id) = line.split_once(' ').expect("a line is written at once");
            (number.parse().expect("a number"), id.to_owned())
        };
        let deliveries: Vec<(u64, String)> = text.lines().map(parse).collect();
        if deliveries.len() > seen {
            last = Instant::now();
            seen = deliveries.len();
        }
        let came: BTreeSet<u64> = deliveries.iter().map(|(number, _)| *number).collect();
        // Then a moment for what should not come; without, longer than any pause before something comes again.
        let patience = if committed.is_subset(&came) { 2 } else { 30 };
        if last.elapsed() > Duration::from_secs(patience) {
            return deliveries;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[expect(clippy::print_stdout, reason = "the figures are what this test is for")]
fn report(kills: u32, events: usize, repeated: usize) {
    println!(
        "\noutbox: {kills} rounds of kills, {events} events committed and published, {repeated} of them twice"
    );
}
