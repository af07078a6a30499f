//! A subscriber that is slow or dead costs nobody memory: what waits is bounded, or on disk.

use crate::cluster::{Cluster, SOON, Sidecar, Spec, component, quick};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{Request, Response};
use outrigger_testkit::app::App;
use outrigger_testkit::audit::Events;
use outrigger_testkit::client::{Body, Client, full};
use outrigger_testkit::port::Port;
use outrigger_testkit::process::Process;
use outrigger_testkit::servers::redis;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Growth that is not by the number of messages: buffers of connections, fragments of the allocator.
const SLACK: u64 = 24 << 20;
/// Longest time a publish waits for a subscriber (`components/builtin/src/pubsub.rs`).
const PATIENCE: Duration = Duration::from_secs(30);

/// Takes events only while the gate is open, and remembers them.
struct Subscriber {
    port: Port,
    gate: watch::Sender<bool>,
    events: Arc<Mutex<Events>>,
    app: Option<App>,
}

impl Subscriber {
    async fn start() -> Self {
        let mut subscriber = Self {
            port: Port::take(),
            gate: watch::Sender::new(true),
            events: Arc::default(),
            app: None,
        };
        subscriber.revive().await;
        subscriber
    }

    async fn revive(&mut self) {
        let (gate, events) = (self.gate.clone(), Arc::clone(&self.events));
        let answer = move |request| take(gate.subscribe(), Arc::clone(&events), request);
        self.app = Some(App::start(self.port.number(), answer).await);
    }

    fn open(&self, open: bool) {
        self.gate.send_replace(open);
    }

    fn acknowledged(&self, number: u64) {
        self.events.lock().unwrap().acknowledged(number);
    }

    /// Waits until everything acknowledged has come.
    async fn complete(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        loop {
            let verdict = self.events.lock().unwrap().verdict();
            if verdict.lost.is_empty() {
                verdict.check();
                return;
            }
            assert!(Instant::now() < deadline, "after {patience:?}: {verdict}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn take(
    mut gate: watch::Receiver<bool>,
    events: Arc<Mutex<Events>>,
    request: Request<Incoming>,
) -> Response<Body> {
    if request.uri().path() != "/events" {
        return Response::new(full(
            r#"[{"pubsubname":"pubsub","topic":"events","route":"/events"}]"#,
        ));
    }
    let body = request
        .into_body()
        .collect()
        .await
        .expect("sidecars live in this test")
        .to_bytes();
    gate.wait_for(|open| *open).await.expect("the subscriber lives");
    let event: serde_json::Value = serde_json::from_slice(&body).expect("a CloudEvent");
    let number = event["data"]["n"].as_u64().expect("the number we published");
    events
        .lock()
        .unwrap()
        .delivered(number, event["id"].as_str().expect("an id"));
    Response::new(full(""))
}

/// Publishes numbered events of one size.
#[derive(Clone)]
struct Publisher {
    client: Client,
    url: String,
    padding: Arc<str>,
    numbers: Arc<AtomicU64>,
}

impl Publisher {
    fn new(sidecar: &Sidecar, size: usize) -> Self {
        Self {
            client: Client::new(PATIENCE * 2),
            url: sidecar.url("/v1.0/publish/pubsub/events"),
            padding: "x".repeat(size).into(),
            numbers: Arc::new(AtomicU64::new(1)),
        }
    }

    /// The event's number, or why it was refused.
    async fn publish(&self) -> Result<u64, String> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let body = format!(r#"{{"n":{number},"padding":"{}"}}"#, self.padding);
        let answer = self.client.post_json(&self.url, body).await?;
        match answer.status {
            204 => Ok(number),
            status => Err(format!("{status} {}", answer.text())),
        }
    }

    /// Publishes `count` events over many connections; every one must be taken.
    async fn burst(&self, count: u64, subscriber: &Subscriber) {
        let mut publishers = JoinSet::new();
        for _ in 0..32 {
            let publisher = self.clone();
            publishers.spawn(async move {
                let mut acknowledged = Vec::new();
                for _ in 0..count / 32 {
                    acknowledged.push(publisher.publish().await.expect("the broker keeps it"));
                }
                acknowledged
            });
        }
        for number in publishers.join_all().await.into_iter().flatten() {
            subscriber.acknowledged(number);
        }
    }
}

/// Publishes one by one until the subscription delivers.
async fn subscribed(publisher: &Publisher, subscriber: &Subscriber) {
    let deadline = Instant::now() + SOON;
    while subscriber.events.lock().unwrap().verdict().delivered == 0 {
        assert!(Instant::now() < deadline, "nothing arrives");
        publisher.publish().await.expect("everybody is well");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

struct Watched<'a> {
    process: &'a Process,
    before: u64,
}

fn watch<'a>(processes: impl IntoIterator<Item = &'a Process>) -> Vec<Watched<'a>> {
    let watched = |process: &'a Process| Watched {
        process,
        before: process.resident(),
    };
    processes.into_iter().map(watched).collect()
}

#[expect(clippy::print_stdout, reason = "the figures are worth seeing")]
fn check(watched: &[Watched<'_>], when: &str, backlog: u64) {
    for Watched { process, before } in watched {
        let (name, growth) = (process.name(), process.resident().saturating_sub(*before));
        println!(
            "{when}: {name} has grown by {} KiB, {} MiB are waiting",
            growth >> 10,
            backlog >> 20
        );
        assert!(growth < SLACK, "{name} has grown by {growth} bytes: {when}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_subscriber_is_in_the_hub() {
    let cluster = Cluster::new();
    let mut hub = cluster.hub();
    hub.start();
    let resources = cluster.embedded();
    starve(
        &cluster,
        &resources,
        Some(&hub),
        if quick() { 1_600 } else { 3_200 },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_subscriber_is_in_redis() {
    let Some(redis) = redis::start(&[]).await else {
        return;
    };
    let cluster = Cluster::new();
    let host = redis.host();
    // What the subscriber has not acknowledged comes again after this.
    let metadata = [
        ("redisHost", host.as_str()),
        ("processingTimeout", "3s"),
        ("redeliverInterval", "1s"),
    ];
    let pubsub = component("pubsub", "pubsub.redis", &metadata);
    let resources = cluster.resources("redis", &[("pubsub.yaml", &pubsub)]);
    starve(&cluster, &resources, None, 1_600).await;
}

/// Publishes `count` events and more to a subscriber that first does not answer and then is dead.
async fn starve(cluster: &Cluster, resources: &Path, hub: Option<&Process>, count: u64) {
    let mut subscriber = Subscriber::start().await;
    let spec = |app_id, app_port| Spec {
        app_id,
        app_port,
        resources: Some(resources),
        hub: hub.is_some(),
        flags: &["--log-level", "error"],
    };
    let mut front = cluster.sidecar(&spec("publisher", None));
    let mut back = cluster.sidecar(&spec("subscriber", Some(subscriber.port.number())));
    front.start().await;
    back.start().await;
    let size = 16 << 10;
    let publisher = Publisher::new(&front, size);
    subscribed(&publisher, &subscriber).await;
    // Buffers grow to what this load needs.
    publisher.burst(320, &subscriber).await;
    subscriber.complete(SOON).await;

    let watched = watch([&front.process, &back.process].into_iter().chain(hub));
    let backlog = count * u64::try_from(size).expect("small");
    subscriber.open(false);
    publisher.burst(count, &subscriber).await;
    check(&watched, "a subscriber that does not answer", backlog);
    subscriber.app = None;
    publisher.burst(count / 4, &subscriber).await;
    check(&watched, "a subscriber that is dead", backlog + backlog / 4);
    subscriber.open(true);
    subscriber.revive().await;
    subscriber.complete(SOON * 4).await;
    check(&watched, "after it has caught up", 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_memory_publishers_wait_for_a_slow_subscriber() {
    let cluster = Cluster::new();
    let pubsub = component("pubsub", "pubsub.in-memory", &[]);
    let resources = cluster.resources("memory", &[("pubsub.yaml", &pubsub)]);
    let subscriber = Subscriber::start().await;
    let mut sidecar = cluster.sidecar(&Spec {
        app_id: "both",
        app_port: Some(subscriber.port.number()),
        resources: Some(&resources),
        flags: &["--log-level", "error"],
        ..Spec::default()
    });
    sidecar.start().await;
    let publisher = Publisher::new(&sidecar, 2 << 10);
    subscribed(&publisher, &subscriber).await;
    subscriber.open(false);
    let watched = watch([&sidecar.process]);
    // Publish until somebody has to wait: all at once then do.
    let connections = 16;
    let mut publishers = JoinSet::new();
    for _ in 0..connections {
        let publisher = publisher.clone();
        publishers.spawn(async move {
            let mut acknowledged = Vec::new();
            loop {
                let begin = Instant::now();
                match publisher.publish().await {
                    Ok(number) => acknowledged.push(number),
                    Err(error) => return (acknowledged, error, begin.elapsed()),
                }
            }
        });
    }
    let mut total = 0;
    for (acknowledged, error, waited) in publishers.join_all().await {
        total += acknowledged.len();
        acknowledged
            .into_iter()
            .for_each(|number| subscriber.acknowledged(number));
        assert!(waited > PATIENCE / 2, "refused after {waited:?}: {error}");
        assert!(
            error.starts_with("500 ") && error.contains("ERR_PUBSUB_PUBLISH_MESSAGE"),
            "{error}"
        );
        assert!(error.contains("messages behind and took none for"), "{error}");
    }
    assert!((4_000..4_400).contains(&total), "{total} messages were taken in");
    check(&watched, "a subscriber in memory that does not answer", 8 << 20);
    subscriber.open(true);
    subscriber.complete(SOON).await;
    // And it goes on.
    subscriber.acknowledged(publisher.publish().await.expect("there is room again"));
    subscriber.complete(SOON).await;
}
