//! SIGKILL at any time, to anybody: what was acknowledged is not lost.
//!
//! A publisher writes numbered events and numbered state through its sidecar, as fast as that answers, and notes
//! what was acknowledged. Meanwhile one process after the other is killed and started again: both sidecars, the app,
//! and whatever keeps the data. At the end all run again, and the numbers are compared.

use crate::cluster::{Cluster, SOON, Sidecar, Spec, component, quick};
use outrigger_testkit::audit::{Events, Verdict, Writes};
use outrigger_testkit::client::Client;
use outrigger_testkit::port::Port;
use outrigger_testkit::process::Process;
use outrigger_testkit::servers::redis::{self, Redis};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Connections that publish and write at the same time.
const WRITERS: u64 = 4;
/// A sidecar answers before this, if only with a failure: no outcome stays unknown for longer.
const ANSWER: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hub_sidecars_and_app() {
    let cluster = Cluster::new();
    let mut hub = cluster.hub();
    hub.start();
    let mut scene = Scene::start(&cluster, &cluster.embedded()).await;
    let rounds = if quick() { 4 } else { 26 };
    let verdict = series(&mut scene, &mut Data::Hub(hub), rounds).await;
    report(
        "hub, sidecars and app",
        &format!("{} kills", rounds * 4),
        &verdict,
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_sidecars_and_app() {
    let Some(redis) = redis::start(&[]).await else {
        return;
    };
    let cluster = Cluster::new();
    let host = redis.host();
    // A message that a killed sidecar held is claimed by the next one after this.
    let claim = [
        ("redisHost", host.as_str()),
        ("processingTimeout", "2s"),
        ("redeliverInterval", "1s"),
    ];
    let pubsub = component("pubsub", "pubsub.redis", &claim);
    let state = component("statestore", "state.redis", &[("redisHost", &host)]);
    let resources = cluster.resources("redis", &[("pubsub.yaml", &pubsub), ("state.yaml", &state)]);
    let mut scene = Scene::start(&cluster, &resources).await;
    let rounds = if quick() { 2 } else { 8 };
    let verdict = series(&mut scene, &mut Data::Redis(redis), rounds).await;
    report(
        "Redis, sidecars and app",
        &format!("{} kills", rounds * 4),
        &verdict,
    );
}

/// The state in a file that both sidecars have open: who is killed has it open for writing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_sidecars_and_app() {
    let cluster = Cluster::new();
    let mut hub = cluster.hub();
    hub.start();
    let file = cluster.folder().join("state.db");
    let file = file.to_str().expect("our folders have plain names");
    let pubsub = component("pubsub", "pubsub.outrigger", &[("redeliverInterval", "100ms")]);
    let state = component("statestore", "state.sqlite", &[("connectionString", file)]);
    let resources = cluster.resources("embedded", &[("pubsub.yaml", &pubsub), ("state.yaml", &state)]);
    let mut scene = Scene::start(&cluster, &resources).await;
    let rounds = if quick() { 2 } else { 8 };
    let verdict = series(&mut scene, &mut Data::Hub(hub), rounds).await;
    report(
        "SQLite, hub, sidecars and app",
        &format!("{} kills", rounds * 4),
        &verdict,
    );
}

/// SIGTERM instead: whoever is asked to end finishes what it has begun, so that nothing comes twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_on_request_leave_nothing_undone() {
    let cluster = Cluster::new();
    let mut hub = cluster.hub();
    hub.start();
    let mut scene = Scene::start(&cluster, &cluster.embedded()).await;
    let work = Arc::new(Work::default());
    scene.subscribed(&work.numbers).await;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write(scene.publisher.url(""), writer, Arc::clone(&work)));
    }
    let rounds = if quick() { 2 } else { 5 };
    for _ in 0..rounds {
        for victim in 0..3 {
            work.goes_on(&scene).await;
            let process = match victim {
                0 => &mut scene.publisher.process,
                1 => &mut scene.subscriber.process,
                _ => &mut hub,
            };
            process.terminate();
            let status = process.exit(SOON).await;
            assert_eq!(status.code(), Some(0), "{}: {}", process.name(), process.tail());
            process.start();
            scene.subscriber.serving().await;
        }
    }
    let (events, writes) = work.end(writers).await;
    let wrong = read_back(&scene.publisher, &writes).await;
    assert!(wrong.is_empty(), "{wrong:#?}");
    let verdict = drain(&scene, events).await;
    verdict.check();
    let ends = format!("{} ends on request", rounds * 3);
    report("hub and sidecars", &ends, &(verdict.clone(), writes.count()));
    assert_eq!(verdict.duplicates, 0);
}

#[expect(clippy::print_stdout, reason = "the figures are what this test is for")]
fn report(what: &str, ends: &str, (events, keys): &(Verdict, usize)) {
    println!("\n{what}: {ends}, {events}; {keys} keys read back");
}

/// Who is killed at the same time: usually one, every third round two.
const GROUPS: [&[&[u32]]; 2] = [&[&[0], &[1], &[2], &[DATA]], &[&[DATA, 0], &[1, 2]]];
/// The one of the four that keeps the data; the others are the two sidecars and the app.
const DATA: u32 = 3;

/// Keeps the data.
enum Data {
    Hub(Process),
    Redis(Redis),
}

/// An app that publishes, one that receives, and their sidecars.
struct Scene {
    publisher: Sidecar,
    subscriber: Sidecar,
    app: Process,
    /// What the app has received.
    received: PathBuf,
    _app_port: Port,
}

impl Scene {
    async fn start(cluster: &Cluster, resources: &Path) -> Self {
        let (port, received) = (Port::take(), cluster.folder().join("received"));
        let mut app = Process::new("app", env!("CARGO_BIN_EXE_stub-app"), cluster.folder())
            .args([port.number().to_string().as_ref(), received.as_os_str()]);
        app.start();
        let spec = |app_id, app_port| Spec {
            app_id,
            app_port,
            resources: Some(resources),
            hub: resources.ends_with("embedded"),
            flags: &["--log-level", "warn"],
        };
        let mut scene = Self {
            publisher: cluster.sidecar(&spec("publisher", None)),
            subscriber: cluster.sidecar(&spec("subscriber", Some(port.number()))),
            app,
            received,
            _app_port: port,
        };
        scene.publisher.start().await;
        scene.subscriber.start().await;
        scene
    }

    fn process<'a>(&'a mut self, victim: u32, data: &'a mut Data) -> Result<&'a mut Process, &'a mut Redis> {
        Ok(match (victim, data) {
            (0, _) => &mut self.publisher.process,
            (1, _) => &mut self.subscriber.process,
            (2, _) => &mut self.app,
            (_, Data::Hub(hub)) => hub,
            (_, Data::Redis(redis)) => return Err(redis),
        })
    }

    fn kill(&mut self, victim: u32, data: &mut Data) {
        match self.process(victim, data) {
            Ok(process) => process.kill(),
            Err(redis) => redis.kill(),
        }
    }

    async fn restart(&mut self, victim: u32, data: &mut Data) {
        match self.process(victim, data) {
            Ok(process) => process.start(),
            Err(redis) => redis.restart().await,
        }
    }

    /// Whatever came so far.
    fn deliveries(&self) -> Vec<(u64, String)> {
        let text = std::fs::read_to_string(&self.received).unwrap_or_default();
        text.lines()
            .map(|line| {
                let (number, id) = line.split_once(' ').expect("a line is written at once");
                (number.parse().expect("a number"), id.to_owned())
            })
            .collect()
    }

    /// Publishes until something arrives: from then on, the subscription exists.
    async fn subscribed(&self, numbers: &AtomicU64) {
        let client = Client::new(ANSWER);
        let deadline = Instant::now() + SOON;
        while self.deliveries().is_empty() {
            assert!(
                Instant::now() < deadline,
                "nothing arrives:\n{}",
                self.subscriber.process.tail()
            );
            let event = format!(r#"{{"n":{}}}"#, numbers.fetch_add(1, Ordering::Relaxed));
            let url = self.publisher.url("/v1.0/publish/pubsub/events");
            client.post_json(&url, event).await.expect("everybody is well");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Kills one after the other, while events and writes are acknowledged between any two kills.
async fn series(scene: &mut Scene, data: &mut Data, rounds: u32) -> (Verdict, usize) {
    let work = Arc::new(Work::default());
    scene.subscribed(&work.numbers).await;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write(scene.publisher.url(""), writer, Arc::clone(&work)));
    }
    for round in 0..rounds {
        // Different points of the others' work each time.
        let moment = |salt: u32| Duration::from_millis(u64::from((round * 37 + salt * 53) % 97));
        for group in GROUPS[usize::from(round % 3 == 2)] {
            work.goes_on(scene).await;
            // Redis must be there when a sidecar starts; the hub is waited for.
            if matches!(data, Data::Redis(_)) && group.contains(&DATA) {
                scene.publisher.serving().await;
                scene.subscriber.serving().await;
            }
            tokio::time::sleep(moment(group[0])).await;
            for victim in *group {
                scene.kill(*victim, data);
            }
            tokio::time::sleep(moment(group[0] + 4)).await;
            for victim in *group {
                scene.restart(*victim, data).await;
            }
        }
    }
    let (events, writes) = work.end(writers).await;
    let wrong = read_back(&scene.publisher, &writes).await;
    assert!(wrong.is_empty(), "{wrong:#?}");
    let verdict = drain(scene, events).await;
    verdict.check();
    (verdict, writes.count())
}

/// What the writers share with whoever kills.
#[derive(Default)]
struct Work {
    /// The next event or value.
    numbers: AtomicU64,
    acknowledged: AtomicU64,
    stop: AtomicBool,
}

impl Work {
    /// Ends the writers; answers what they know.
    async fn end(&self, writers: JoinSet<Done>) -> (Events, Writes) {
        self.stop.store(true, Ordering::Relaxed);
        let mut events = Events::default();
        let mut writes = Writes::default();
        for (published, written) in writers.join_all().await {
            for number in published {
                events.acknowledged(number);
            }
            for Write {
                key,
                value,
                acknowledged,
            } in written
            {
                match acknowledged {
                    true => writes.acknowledged(&key, value),
                    false => writes.unknown(&key, value),
                }
            }
        }
        (events, writes)
    }

    /// Waits until some more is acknowledged.
    async fn goes_on(&self, scene: &Scene) {
        let goal = self.acknowledged.load(Ordering::Relaxed) + WRITERS * 4;
        let deadline = Instant::now() + SOON;
        while self.acknowledged.load(Ordering::Relaxed) < goal {
            assert!(
                Instant::now() < deadline,
                "nothing is acknowledged:\n{}",
                scene.publisher.process.tail()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// The key that is written together with `key`, whenever the value is odd.
fn twin(key: &str) -> String {
    format!("{key}-twin")
}

struct Write {
    key: String,
    value: u64,
    acknowledged: bool,
}

/// Which events were acknowledged, and all writes in their order.
type Done = (Vec<u64>, Vec<Write>);

/// Publishes and writes until told to stop.
async fn write(sidecar: String, writer: u64, work: Arc<Work>) -> Done {
    let client = Client::new(ANSWER);
    let publish = format!("{sidecar}/v1.0/publish/pubsub/events");
    let state = format!("{sidecar}/v1.0/state/statestore");
    let (mut published, mut written) = (Vec::new(), Vec::new());
    // A key whose last write has an unknown outcome is left alone: that write may still be under way.
    let mut generation = 0;
    while !work.stop.load(Ordering::Relaxed) {
        let number = work.numbers.fetch_add(1, Ordering::Relaxed);
        let answer = client.post_json(&publish, format!(r#"{{"n":{number}}}"#)).await;
        let sent = answer.is_ok_and(|answer| answer.status == 204);
        if sent {
            published.push(number);
        }
        // Half of them write two keys at once: both or none.
        let key = format!("{writer}-{generation}-{}", number % 8);
        let set = |key: &str| format!(r#"{{"key":"{key}","value":{number}}}"#);
        let twin = twin(&key);
        let answer = if number.is_multiple_of(2) {
            client.post_json(&state, format!("[{}]", set(&key))).await
        } else {
            let set = |key: &str| format!(r#"{{"operation":"upsert","request":{}}}"#, set(key));
            let body = format!(r#"{{"operations":[{},{}]}}"#, set(&key), set(&twin));
            client.post_json(&format!("{state}/transaction"), body).await
        };
        let acknowledged = answer.is_ok_and(|answer| answer.status == 204);
        if !acknowledged {
            generation += 1;
        }
        work.acknowledged
            .fetch_add(u64::from(sent) + u64::from(acknowledged), Ordering::Relaxed);
        written.push(Write {
            key,
            value: number,
            acknowledged,
        });
        if !(sent && acknowledged) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    (published, written)
}

/// What is wrong with what is stored.
async fn read_back(sidecar: &Sidecar, writes: &Writes) -> Vec<String> {
    sidecar.ready().await;
    let mut wrong = Vec::new();
    for key in writes.keys() {
        let value = read(sidecar, key).await;
        wrong.extend(writes.wrong(key, value));
        // As number and key have the same parity, a key's writes are all transactions, or none is.
        let twin = read(sidecar, &twin(key)).await;
        if value.is_some_and(|value| value % 2 == 1) && twin != value {
            wrong.push(format!("{key} is {value:?}, and its twin {twin:?}"));
        }
    }
    wrong
}

async fn read(sidecar: &Sidecar, key: &str) -> Option<u64> {
    let url = sidecar.url(&format!("/v1.0/state/statestore/{key}"));
    let answer = Client::new(ANSWER)
        .get(&url)
        .await
        .expect("everybody is well again");
    match answer.status {
        200 => Some(answer.text().parse().expect("a number was written")),
        204 => None,
        status => panic!("{status} for {key}: {}", answer.text()),
    }
}

/// Waits until everything has come, or nothing comes any more.
async fn drain(scene: &Scene, mut events: Events) -> Verdict {
    scene.subscriber.ready().await;
    let mut seen = 0;
    let mut last = Instant::now();
    loop {
        let deliveries = scene.deliveries();
        if deliveries.len() > seen {
            last = Instant::now();
            for (number, id) in &deliveries[seen..] {
                events.delivered(*number, id);
            }
            seen = deliveries.len();
        }
        let verdict = events.verdict();
        // Longer than any pause before something comes again.
        if verdict.lost.is_empty() || last.elapsed() > Duration::from_secs(30) {
            return verdict;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
