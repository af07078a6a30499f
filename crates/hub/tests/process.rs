//! Hubs as processes of their own: killed again and again, started by several at once, on a disk that is full.
//!
//! The child is this test binary itself, told to run [`child_hub`] only; its home is its working folder.

#![expect(clippy::unwrap_used, reason = "the whole file is tests")]

use outrigger_daemon::drain;
use outrigger_daemon::log::{Config as LogConfig, Format, Level, Log, Output};
use outrigger_daemon::tasks::{OnExit, Tasks};
use outrigger_hub::client::{self, Client, Gone};
use outrigger_hub::config::{self, Config};
use outrigger_hub::{Ended, Hub};
use outrigger_proto::hub::v1;
use outrigger_proto::hub::v1::state_client::StateClient;
use outrigger_proto::hub::v1::topics_client::TopicsClient;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

const SOON: Duration = Duration::from_secs(20);

/// Not a test: what the children run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by the other tests as a process of its own"]
async fn child_hub() {
    let home = std::env::current_dir().unwrap();
    if !home.join("outrigger-test-home").exists() {
        return;
    }
    let log = Log::open(LogConfig {
        level: Level::Info,
        format: Format::Text,
        output: Output::File(home.join("hub.log")),
        app_id: None,
        instance: String::new(),
        version: String::new(),
        scope: String::new(),
    })
    .unwrap();
    let mut config = Config::new(&home);
    // Small enough that rotation, checkpoints and retention happen under fire as well.
    config.segment_bytes = 1 << 20;
    config.checkpoint_after = Duration::from_millis(20);
    config.retention.every = Duration::from_millis(50);
    let hub = match Hub::open(config, log.clone()) {
        Ok(hub) => hub,
        Err(error) => {
            log.error(&error);
            std::process::exit(3);
        }
    };
    let (_stop, watch) = drain::channel();
    assert_eq!(hub.serve(watch).await.unwrap(), Ended::Asked);
}

fn home() -> TempDir {
    let home = TempDir::new().unwrap();
    mark(home.path());
    home
}

fn mark(home: &Path) {
    std::fs::write(home.join("outrigger-test-home"), "").unwrap();
}

fn spawn(home: &Path) -> std::io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(["child_hub", "--exact", "--ignored"])
        .current_dir(home)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

async fn start(home: &Path) -> (Child, Channel) {
    let child = spawn(home).unwrap();
    let socket = config::socket(home).unwrap();
    let connected = async {
        while Client::connect(&socket).await.is_err() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    if timeout(SOON, connected).await.is_err() {
        panic!(
            "no hub: {}",
            std::fs::read_to_string(home.join("hub.log")).unwrap_or_default()
        );
    }
    let endpoint = Endpoint::from_shared(format!("unix:{}", socket.display())).unwrap();
    (child, endpoint.connect().await.unwrap())
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

async fn end(home: &Path, mut child: Child) {
    let socket = config::socket(home).unwrap();
    Client::connect(&socket).await.unwrap().shutdown().await.unwrap();
    assert!(client::gone(home, SOON).await.unwrap());
    assert!(child.wait().unwrap().success());
}

async fn publish(channel: &Channel, topic: &str, data: String) -> Result<u64, String> {
    let message = v1::Message {
        topic: topic.to_owned(),
        data: data.into(),
        ..v1::Message::default()
    };
    let request = v1::PublishRequest {
        messages: vec![message],
    };
    let answer = TopicsClient::new(channel.clone()).publish(request).await;
    let result = answer
        .map_err(|status| status.to_string())?
        .into_inner()
        .results
        .remove(0);
    match result.failure {
        None => Ok(result.offset),
        Some(failure) => Err(failure.message),
    }
}

async fn set(channel: &Channel, key: &str, value: impl Into<bytes::Bytes>) -> Result<(), String> {
    let set = v1::Set {
        key: key.to_owned(),
        value: value.into(),
        ..v1::Set::default()
    };
    let operation = v1::Operation {
        kind: Some(v1::operation::Kind::Set(set)),
    };
    let transaction = v1::Transaction {
        space: "s".to_owned(),
        operations: vec![operation],
    };
    let request = v1::WriteRequest {
        transactions: vec![transaction],
    };
    let answer = StateClient::new(channel.clone()).write(request).await;
    let result = answer
        .map_err(|status| status.to_string())?
        .into_inner()
        .results
        .remove(0);
    result.failure.map_or(Ok(()), |failure| Err(failure.message))
}

async fn get(channel: &Channel, key: &str) -> Option<bytes::Bytes> {
    let request = v1::GetRequest {
        space: "s".to_owned(),
        keys: vec![key.to_owned()],
    };
    let answer = StateClient::new(channel.clone()).get(request).await.unwrap();
    answer.into_inner().found.remove(0).item.map(|item| item.value)
}

/// Consumes as a group, acknowledging everything, until the conversation breaks or nothing came for a while.
async fn consume(channel: Channel, group: &str, quiet: Duration, seen: Arc<Mutex<Vec<String>>>) {
    let (requests, outgoing) = mpsc::channel(64);
    let open = v1::Open {
        topic: "t".to_owned(),
        group: group.to_owned(),
        start: v1::Start::Earliest.into(),
        window: 50,
        settle_timeout_ms: 0,
    };
    let open = v1::subscribe_request::Kind::Open(open);
    requests
        .send(v1::SubscribeRequest { kind: Some(open) })
        .await
        .unwrap();
    let Ok(answer) = TopicsClient::new(channel)
        .subscribe(ReceiverStream::new(outgoing))
        .await
    else {
        return;
    };
    let mut responses = answer.into_inner();
    while let Ok(Ok(Some(response))) = timeout(quiet, responses.message()).await {
        let Some(v1::subscribe_response::Kind::Deliveries(deliveries)) = response.kind else {
            continue;
        };
        let mut settle = v1::Settle::default();
        for delivery in deliveries.deliveries {
            seen.lock()
                .unwrap()
                .push(String::from_utf8(delivery.data.to_vec()).unwrap());
            settle.acks.push(delivery.offset);
        }
        let settle = v1::subscribe_request::Kind::Settle(settle);
        if requests
            .send(v1::SubscribeRequest { kind: Some(settle) })
            .await
            .is_err()
        {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_is_killed_again_and_again_loses_nothing_acknowledged() {
    const PUBLISHERS: usize = 8;
    const KILLS: u64 = 25;
    let home = home();
    let mut acknowledged: BTreeSet<String> = BTreeSet::new();
    let mut values: BTreeMap<String, u64> = BTreeMap::new();
    let live = Arc::new(Mutex::new(Vec::new()));
    let mut next = [0u64; PUBLISHERS];
    for round in 0..KILLS {
        let (child, channel) = start(home.path()).await;
        for (key, value) in &values {
            let found = get(&channel, key)
                .await
                .unwrap_or_else(|| panic!("round {round}: {key} is lost"));
            let found: u64 = std::str::from_utf8(&found).unwrap().parse().unwrap();
            assert!(
                found >= *value,
                "round {round}: {key} is {found}, {value} was acknowledged"
            );
        }
        let mut publishers = JoinSet::new();
        for (publisher, from) in next.iter().copied().enumerate() {
            let channel = channel.clone();
            publishers.spawn(async move {
                let (mut n, mut value) = (from, 0);
                loop {
                    let text = format!("{publisher}:{n:08}");
                    if publish(&channel, "t", text).await.is_err() {
                        return (publisher, from, n, value);
                    }
                    n += 1;
                    if set(&channel, &format!("k{publisher}"), n.to_string())
                        .await
                        .is_err()
                    {
                        return (publisher, from, n, value);
                    }
                    value = n;
                }
            });
        }
        let mut consumers = JoinSet::new();
        consumers.spawn(consume(channel, "live", SOON, live.clone()));
        sleep(Duration::from_millis(40 + (round * 37) % 160)).await;
        kill(child);
        while let Some(result) = publishers.join_next().await {
            let (publisher, from, until, value) = result.unwrap();
            acknowledged.extend((from..until).map(|n| format!("{publisher}:{n:08}")));
            if value > 0 {
                values.insert(format!("k{publisher}"), value);
            }
            // The one that failed may be there or not: it is not sent again.
            next[publisher] = until + 1;
        }
        consumers.join_all().await;
    }
    let (child, channel) = start(home.path()).await;
    let rest = Duration::from_millis(700);
    consume(channel.clone(), "live", rest, live.clone()).await;
    let audit = Arc::new(Mutex::new(Vec::new()));
    consume(channel, "audit", rest, audit.clone()).await;
    end(home.path(), child).await;
    let audit = audit.lock().unwrap();
    let all: BTreeSet<String> = audit.iter().cloned().collect();
    assert_eq!(
        acknowledged.difference(&all).next(),
        None,
        "acknowledged and not in the topic"
    );
    assert_eq!(all.len(), audit.len(), "a topic has every message once");
    for publisher in 0..PUBLISHERS {
        let prefix = format!("{publisher}:");
        assert!(audit.iter().filter(|text| text.starts_with(&prefix)).is_sorted());
    }
    let live = live.lock().unwrap();
    let received: BTreeSet<String> = live.iter().cloned().collect();
    assert_eq!(
        all.difference(&received).next(),
        None,
        "never reached the group that was there all the time"
    );
    assert!(
        acknowledged.len() > 200,
        "only {} publishes: the test shows nothing",
        acknowledged.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_that_need_a_hub_one_starts_it() {
    let home = home();
    let path: PathBuf = home.path().to_owned();
    let started = Arc::new(Mutex::new(Vec::new()));
    let (trigger, _) = drain::channel();
    let quiet = Log::open(LogConfig {
        level: Level::Fatal,
        format: Format::Text,
        output: Output::Writer(Box::new(std::io::sink())),
        app_id: None,
        instance: String::new(),
        version: String::new(),
        scope: String::new(),
    })
    .unwrap();
    let tasks = Tasks::new(&quiet, trigger);
    let pids = Arc::new(Mutex::new(BTreeSet::new()));
    for _ in 0..8 {
        let (path, started, pids) = (path.clone(), started.clone(), pids.clone());
        tasks.spawn("run", OnExit::Log, async move {
            let spawn = || {
                let child = spawn(&path)?;
                started.lock().unwrap().push(child.id());
                Ok(child)
            };
            let hub = client::ensure(&path, SOON, spawn).await.unwrap();
            let pid = hub.status().await.unwrap().pid;
            pids.lock().unwrap().insert(pid);
        });
    }
    tasks.join(SOON).await.unwrap();
    let started = started.lock().unwrap().clone();
    assert_eq!(started.len(), 1, "one process was started");
    assert_eq!(pids.lock().unwrap().len(), 1, "and all reached it");
    // While it ends, the next one already wants a new one.
    let old = Client::connect(&config::socket(&path).unwrap()).await.unwrap();
    let (asked, seen) = tokio::join!(
        async {
            tokio::time::sleep(Duration::from_millis(200)).await; // the watcher is there first
            old.shutdown().await
        },
        timeout(SOON, old.ended()),
    );
    asked.unwrap();
    assert_eq!(seen.expect("its end is not noticed"), Gone::Ended);
    let hub = client::ensure(&path, SOON, || spawn(&path)).await.unwrap();
    let pid = hub.status().await.unwrap().pid;
    assert_ne!(pid, u64::from(started[0]));
    // One that is killed is noticed at once.
    let mut ended = std::pin::pin!(hub.ended());
    assert!(timeout(Duration::from_millis(200), &mut ended).await.is_err());
    let killed = Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    let seen = timeout(SOON, ended).await.expect("its end is not noticed");
    assert_eq!(seen, Gone::Lost);
    let hub = client::ensure(&path, SOON, || spawn(&path)).await.unwrap();
    hub.shutdown().await.unwrap();
    assert!(client::gone(&path, SOON).await.unwrap());
    // One that cannot start is an error that says so.
    std::fs::remove_file(path.join("outrigger-test-home")).unwrap();
    let error = client::ensure(&path, Duration::from_millis(700), || spawn(&path))
        .await
        .err()
        .unwrap();
    assert!(error.to_string().contains("did not become ready"), "{error}");
}

/// A small file system of its own; needs to be root.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder.path())
            .stderr(Stdio::null())
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_writes_fail_everything_else_goes_on_and_room_heals_it() {
    let Some(disk) = SmallDisk::mount("24m") else {
        println!("SKIPPED: cannot mount a small file system (not root)");
        return;
    };
    let home = disk.0.path();
    mark(home);
    let (child, channel) = start(home).await;
    publish(&channel, "t", "first".to_owned()).await.unwrap();
    set(&channel, "first", "value").await.unwrap();
    let filler = home.join("filler");
    std::fs::write(&filler, vec![1; 14 << 20]).unwrap();
    // Values fill log, memory and key/value file until there is no room for one of them.
    let mut written = 0;
    let refusal = loop {
        match set(&channel, &format!("k{written}"), vec![7; 100_000]).await {
            Ok(()) => written += 1,
            Err(refusal) => break refusal,
        }
        assert!(written < 1_000, "24 MB hold 100 MB");
    };
    assert!(refusal.contains("no room on the disk"), "{refusal}");
    for _ in 0..3 {
        assert!(publish(&channel, "t", "x".repeat(2_000_000)).await.is_err());
        assert_eq!(get(&channel, "first").await.unwrap(), "value");
        assert!(get(&channel, &format!("k{}", written - 1)).await.is_some());
    }
    let seen = Arc::new(Mutex::new(Vec::new()));
    let status = Client::connect(&config::socket(home).unwrap())
        .await
        .unwrap()
        .status()
        .await
        .unwrap();
    assert!(status.write_error.contains("no room"), "{status:?}");
    // Room comes back: everything works again, in the same process.
    std::fs::remove_file(&filler).unwrap();
    let mut again = set(&channel, "again", "value").await;
    for _ in 0..100 {
        if again.is_ok() {
            break;
        }
        sleep(Duration::from_millis(50)).await;
        again = set(&channel, "again", "value").await;
    }
    again.unwrap();
    publish(&channel, "t", "second".to_owned()).await.unwrap();
    consume(channel.clone(), "g", Duration::from_millis(500), seen.clone()).await;
    assert_eq!(*seen.lock().unwrap(), ["first", "second"]);
    kill(child);
    let (child, channel) = start(home).await;
    for n in 0..written {
        assert!(get(&channel, &format!("k{n}")).await.is_some(), "k{n} is lost");
    }
    assert_eq!(get(&channel, "again").await.unwrap(), "value");
    end(home, child).await;
}
