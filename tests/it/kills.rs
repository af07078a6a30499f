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
    let killer = Kill {
        rounds,
        ..Kill::default()
    };
    let verdict = killer.run(&mut scene, &mut Data::Hub(hub)).await;
    report("hub, sidecars and app", rounds * 4, &verdict);
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
    let killer = Kill {
        rounds,
        ..Kill::default()
    };
    let verdict = killer.run(&mut scene, &mut Data::Redis(redis)).await;
    report("Redis, sidecars and app", rounds * 4, &verdict);
}

#[expect(clippy::print_stdout, reason = "the figures are what this test is for")]
fn report(what: &str, kills: u32, (events, keys): &(Verdict, usize)) {
    println!("\n{what}: {kills} kills, {events}; {keys} keys read back");
}

/// Keeps the data.
enum Data {
    Hub(Process),
    Redis(Redis),
}

impl Data {
    async fn kill_for(&mut self, pause: Duration) {
        match self {
            Self::Hub(hub) => {
                hub.kill();
                tokio::time::sleep(pause).await;
                hub.start();
            }
            Self::Redis(redis) => {
                redis.kill();
                tokio::time::sleep(pause).await;
                redis.restart().await;
            }
        }
    }
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

/// What is killed when.
struct Kill {
    rounds: u32,
    /// Time between two kills.
    between: Duration,
    /// Time without the killed process; varied around this.
    without: Duration,
}

impl Default for Kill {
    fn default() -> Self {
        Self {
            rounds: 1,
            between: Duration::from_millis(250),
            without: Duration::from_millis(60),
        }
    }
}

impl Kill {
    async fn run(&self, scene: &mut Scene, data: &mut Data) -> (Verdict, usize) {
        let numbers = Arc::new(AtomicU64::new(1));
        scene.subscribed(&numbers).await;
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let (stop, numbers) = (Arc::clone(&stop), Arc::clone(&numbers));
            writers.spawn(write(scene.publisher.url(""), writer, numbers, stop));
        }
        for round in 0..self.rounds {
            // Different points of the others' work each time.
            let jitter = |salt: u32| Duration::from_millis(u64::from((round * 37 + salt * 53) % 97));
            for victim in 0..4 {
                tokio::time::sleep(self.between / 2 + jitter(victim)).await;
                let pause = self.without / 2 + jitter(victim + 4) / 2;
                match victim {
                    0 => restart(&mut scene.publisher.process, pause).await,
                    1 => restart(&mut scene.subscriber.process, pause).await,
                    2 => restart(&mut scene.app, pause).await,
                    _ => data.kill_for(pause).await,
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        let mut events = Events::default();
        let mut writes = Writes::default();
        for (published, written) in writers.join_all().await {
            for number in published {
                events.acknowledged(number);
            }
            for write in written {
                match write {
                    Write {
                        key,
                        value,
                        acknowledged: true,
                    } => writes.acknowledged(&key, value),
                    Write {
                        key,
                        value,
                        acknowledged: false,
                    } => writes.unknown(&key, value),
                }
            }
        }
        let wrong = read_back(&scene.publisher, &writes).await;
        assert!(wrong.is_empty(), "{wrong:#?}");
        let verdict = drain(scene, events).await;
        verdict.check();
        let enough = usize::try_from(self.rounds * 20).expect("a small number");
        assert!(
            verdict.acknowledged > enough,
            "hardly anything happened: {verdict}"
        );
        (verdict, writes.count())
    }
}

async fn restart(process: &mut Process, pause: Duration) {
    process.kill();
    tokio::time::sleep(pause).await;
    process.start();
}

struct Write {
    key: String,
    value: u64,
    acknowledged: bool,
}

/// Publishes and writes until told to stop. Answers which events were acknowledged, and all writes in their order.
async fn write(
    sidecar: String,
    writer: u64,
    numbers: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> (Vec<u64>, Vec<Write>) {
    let client = Client::new(ANSWER);
    let publish = format!("{sidecar}/v1.0/publish/pubsub/events");
    let state = format!("{sidecar}/v1.0/state/statestore");
    let (mut published, mut written) = (Vec::new(), Vec::new());
    // A key whose last write has an unknown outcome is left alone: that write may still be under way.
    let mut generation = 0;
    while !stop.load(Ordering::Relaxed) {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let answer = client.post_json(&publish, format!(r#"{{"n":{number}}}"#)).await;
        let sent = answer.is_ok_and(|answer| answer.status == 204);
        if sent {
            published.push(number);
        }
        let key = format!("{writer}-{generation}-{}", number % 8);
        let body = format!(r#"[{{"key":"{key}","value":{number}}}]"#);
        let answer = client.post_json(&state, body).await;
        let acknowledged = answer.is_ok_and(|answer| answer.status == 204);
        if !acknowledged {
            generation += 1;
        }
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

async fn read_back(sidecar: &Sidecar, writes: &Writes) -> Vec<String> {
    sidecar.ready().await;
    let client = Client::new(ANSWER);
    let mut wrong = Vec::new();
    for key in writes.keys() {
        let url = sidecar.url(&format!("/v1.0/state/statestore/{key}"));
        let answer = client.get(&url).await.expect("everybody is well again");
        let read = match answer.status {
            200 => Some(answer.text().parse().expect("a number was written")),
            204 => None,
            status => panic!("{status} for {key}: {}", answer.text()),
        };
        wrong.extend(writes.wrong(key, read));
    }
    wrong
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
