//! How many durable publishes and writes a hub takes, over its socket: `cargo run --release -p outrigger-hub
//! --example throughput -- [connections] [seconds] [bytes]`. Hub and clients share this process and its cores.
//!
//! Closed loop: every connection has one request under way. Prints one line per operation.

#![expect(clippy::print_stdout, reason = "a program for people")]
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "it ends at the first error, saying which"
)]

use outrigger_daemon::drain;
use outrigger_daemon::log::{Config as LogConfig, Format, Level, Log, Output};
use outrigger_daemon::tasks::{OnExit, Tasks};
use outrigger_hub::Hub;
use outrigger_hub::client::Client;
use outrigger_hub::config::Config;
use outrigger_proto::hub::v1;
use outrigger_proto::hub::v1::state_client::StateClient;
use outrigger_proto::hub::v1::topics_client::TopicsClient;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tonic::transport::{Channel, Endpoint};

#[derive(Clone, Copy)]
enum Operation {
    Publish,
    Set,
    Get,
}

#[tokio::main]
async fn main() {
    let arguments: Vec<usize> = std::env::args()
        .skip(1)
        .map(|text| text.parse().expect("arguments are numbers"))
        .collect();
    let connections = arguments.first().copied().unwrap_or(64);
    let seconds = arguments.get(1).copied().unwrap_or(5);
    let bytes = arguments.get(2).copied().unwrap_or(1024);
    let home = std::env::temp_dir().join(format!("outrigger-throughput-{}", std::process::id()));
    let log = Log::open(LogConfig {
        level: Level::Info,
        format: Format::Text,
        output: Output::Stdout,
        app_id: None,
        instance: String::new(),
        version: String::new(),
        scope: String::new(),
    })
    .expect("a log");
    let config = Config::new(&home);
    let socket = config.socket().expect("a short path");
    let hub = Hub::open(config, log.clone()).expect("a hub");
    let (stop, watch) = drain::channel();
    let tasks = Tasks::new(&log, stop.clone());
    tasks.spawn(
        "hub",
        OnExit::Log,
        async move { hub.serve(watch).await.map(drop) },
    );
    while Client::connect(&socket).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for (name, operation) in [
        ("publish", Operation::Publish),
        ("set", Operation::Set),
        ("get", Operation::Get),
    ] {
        let before = cpu();
        let started = Instant::now();
        let mut took = load(&tasks, &socket, operation, connections, seconds, bytes).await;
        let elapsed = started.elapsed().as_secs_f64();
        took.sort_unstable();
        let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize].as_secs_f64() * 1_000.0;
        println!(
            "{name:8} {connections} connections, {bytes} bytes: {:.0}/s, p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, CPU {:.2} s \
             per 10,000 (clients included)",
            took.len() as f64 / elapsed,
            at(0.5),
            at(0.99),
            at(0.999),
            (cpu() - before) / took.len() as f64 * 10_000.0
        );
    }
    consume(&socket).await;
    let status = Client::connect(&socket)
        .await
        .expect("the hub")
        .status()
        .await
        .expect("a status");
    println!(
        "{} commits, {:?}",
        status.counters.unwrap_or_default().commits,
        status.disk.unwrap_or_default()
    );
    stop.fire();
    tasks.join(Duration::from_secs(10)).await.expect("the hub ends");
    let begun = Instant::now();
    drop(Hub::open(Config::new(&home), log).expect("the hub opens again"));
    println!("reopen   {:.0} ms", begun.elapsed().as_secs_f64() * 1_000.0);
    std::fs::remove_dir_all(&home).expect("the folder can be removed");
}

/// One group takes everything that was published, from the log, acknowledging each message.
async fn consume(socket: &Path) {
    let endpoint = Endpoint::from_shared(format!("unix:{}", socket.display())).expect("an address");
    let channel = endpoint.connect().await.expect("a connection");
    let (requests, outgoing) = tokio::sync::mpsc::channel(64);
    let open = v1::Open {
        topic: "orders".to_owned(),
        group: "all".to_owned(),
        start: v1::Start::Earliest.into(),
        window: 256,
        settle_timeout_ms: 0,
    };
    let kind = Some(v1::subscribe_request::Kind::Open(open));
    requests
        .send(v1::SubscribeRequest { kind })
        .await
        .expect("the hub");
    let outgoing = tokio_stream::wrappers::ReceiverStream::new(outgoing);
    let mut responses = TopicsClient::new(channel)
        .subscribe(outgoing)
        .await
        .expect("a stream")
        .into_inner();
    let (before, begun) = (cpu(), Instant::now());
    let mut count = 0;
    while let Ok(Ok(Some(response))) =
        tokio::time::timeout(Duration::from_millis(500), responses.message()).await
    {
        let Some(v1::subscribe_response::Kind::Deliveries(deliveries)) = response.kind else {
            continue;
        };
        let acks: Vec<u64> = deliveries
            .deliveries
            .iter()
            .map(|delivery| delivery.offset)
            .collect();
        count += acks.len();
        let settle = v1::Settle {
            acks,
            nacks: Vec::new(),
        };
        let kind = Some(v1::subscribe_request::Kind::Settle(settle));
        requests
            .send(v1::SubscribeRequest { kind })
            .await
            .expect("the hub");
    }
    let elapsed = begun.elapsed().as_secs_f64() - 0.5;
    println!(
        "deliver  one group, {count} messages from the log: {:.0}/s, CPU {:.2} s per 10,000 (client included)",
        count as f64 / elapsed,
        (cpu() - before) / count as f64 * 10_000.0
    );
}

async fn load(
    tasks: &Tasks,
    socket: &Path,
    operation: Operation,
    connections: usize,
    seconds: usize,
    bytes: usize,
) -> Vec<Duration> {
    let took = Arc::new(Mutex::new(Vec::new()));
    let until = Instant::now() + Duration::from_secs(seconds as u64);
    let (done, mut finished) = tokio::sync::mpsc::channel::<()>(1);
    for connection in 0..connections {
        let endpoint = Endpoint::from_shared(format!("unix:{}", socket.display())).expect("an address");
        let channel = endpoint.connect().await.expect("a connection");
        let (took, done) = (took.clone(), done.clone());
        tasks.spawn("client", OnExit::Log, async move {
            let data = bytes::Bytes::from(vec![connection as u8; bytes]);
            let mut own = Vec::new();
            let mut count = 0;
            while Instant::now() < until {
                let begun = Instant::now();
                request(&channel, operation, connection, count, data.clone()).await;
                own.push(begun.elapsed());
                count += 1;
            }
            took.lock().unwrap().extend(own);
            drop(done);
        });
    }
    drop(done);
    while finished.recv().await.is_some() {}
    std::mem::take(&mut took.lock().unwrap())
}

async fn request(
    channel: &Channel,
    operation: Operation,
    connection: usize,
    count: usize,
    data: bytes::Bytes,
) {
    let key = format!("{connection}/{}", count % 1_000);
    match operation {
        Operation::Publish => {
            let message = v1::Message {
                topic: "orders".to_owned(),
                data,
                ..v1::Message::default()
            };
            let request = v1::PublishRequest {
                messages: vec![message],
            };
            let answer = TopicsClient::new(channel.clone())
                .publish(request)
                .await
                .expect("an answer");
            assert!(
                answer
                    .into_inner()
                    .results
                    .iter()
                    .all(|result| result.failure.is_none())
            );
        }
        Operation::Set => {
            let set = v1::Set {
                key,
                value: data,
                ..v1::Set::default()
            };
            let transaction = v1::Transaction {
                space: "state".to_owned(),
                operations: vec![v1::Operation {
                    kind: Some(v1::operation::Kind::Set(set)),
                }],
            };
            let request = v1::WriteRequest {
                transactions: vec![transaction],
            };
            let answer = StateClient::new(channel.clone())
                .write(request)
                .await
                .expect("an answer");
            assert!(
                answer
                    .into_inner()
                    .results
                    .iter()
                    .all(|result| result.failure.is_none())
            );
        }
        Operation::Get => {
            let request = v1::GetRequest {
                space: "state".to_owned(),
                keys: vec![key],
            };
            StateClient::new(channel.clone())
                .get(request)
                .await
                .expect("an answer");
        }
    }
}

/// CPU seconds of this process.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("proc");
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks = |index: usize| {
        fields
            .get(index)
            .and_then(|text| text.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    (ticks(11) + ticks(12)) / 100.0
}
