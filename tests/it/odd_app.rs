//! A subscriber that answers garbage: each event comes again until it is taken in words that can be understood, nobody
//! else's event is held up, and the sidecar does not grow.

use crate::cluster::{Cluster, SOON, Spec, component};
use outrigger_testkit::client::Client;
use outrigger_testkit::port::Port;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const SUBSCRIPTIONS: &str = r#"[
    {"pubsubname":"pubsub","topic":"one","route":"/one"},
    {"pubsubname":"pubsub","topic":"many","route":"/many",
     "bulkSubscribe":{"enabled":true,"maxMessagesCount":4,"maxAwaitDurationMs":50}}]"#;
/// Growth that is not by the number of messages.
const SLACK: u64 = 32 << 20;

/// A body that ends before it should.
const CUT_OFF: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort";

/// What the app sends for an event instead of an answer: once for each, then it takes it.
const GARBAGE: [&[u8]; 12] = [
    b"",
    b"\0\xff\xfe\x80 nothing of the kind \r\n\r\n",
    CUT_OFF,
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nxx",
    b"HTTP/1.1 999 Odd\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 500 \xc3\x28\r\ncontent-length: 2\r\n\r\n\xc3\x28",
    b"HTTP/1.1 302 Found\r\nlocation: /one\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 18\r\n\r\n{\"status\":\"MAYBE\"}",
    b"HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551615\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    // Larger than any answer that is read whole.
    b"endless",
];

#[derive(Default)]
struct Seen {
    /// By topic and number: how often it came, and whether it was taken.
    events: BTreeMap<(String, u64), (u32, bool)>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_answers_garbage() {
    let cluster = Cluster::new();
    let mut hub = cluster.hub();
    hub.start();
    let pubsub = component("pubsub", "pubsub.outrigger", &[("redeliverInterval", "500ms")]);
    let resources = cluster.resources("odd", &[("pubsub.yaml", &pubsub)]);
    let port = Port::take();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let listener = TcpListener::bind(("127.0.0.1", port.number())).await.unwrap();
    let mut app = JoinSet::new();
    app.spawn(serve(listener, Arc::clone(&seen)));
    let mut sidecar = cluster.sidecar(&Spec {
        app_id: "odd",
        app_port: Some(port.number()),
        resources: Some(&resources),
        hub: true,
        flags: &["--log-level", "fatal"],
    });
    sidecar.start().await;
    let before = sidecar.process.resident();
    let client = Client::new(SOON);
    let count = 10 * u64::try_from(GARBAGE.len()).unwrap();
    for number in 0..count {
        for topic in ["one", "many"] {
            let url = sidecar.url(&format!("/v1.0/publish/pubsub/{topic}"));
            let answer = client.post_json(&url, format!(r#"{{"n":{number}}}"#)).await;
            assert_eq!(answer.unwrap().status, 204);
        }
    }
    let deadline = Instant::now() + 2 * SOON;
    loop {
        let missing: Vec<String> = {
            let seen = seen.lock().unwrap();
            let taken = |topic: &str, number| {
                seen.events
                    .get(&(topic.to_owned(), number))
                    .is_some_and(|(_, taken)| *taken)
            };
            let all = (0..count).flat_map(|number| [("one", number), ("many", number)]);
            all.filter(|(topic, number)| !taken(topic, *number))
                .map(|(topic, number)| format!("{topic} {number}"))
                .collect()
        };
        if missing.is_empty() {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "not taken: {missing:?}\n{}",
            sidecar.process.tail()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let growth = sidecar.process.resident().saturating_sub(before);
    assert!(growth < SLACK, "{} MiB more", growth >> 20);
    sidecar.ready().await;
    assert!(app.try_join_next().is_none(), "the app itself gave up");
}

async fn serve(listener: TcpListener, seen: Arc<Mutex<Seen>>) {
    let mut conversations = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        conversations.spawn(converse(socket, Arc::clone(&seen)));
        while let Some(ended) = conversations.try_join_next() {
            ended.unwrap();
        }
    }
}

/// Answers until a piece of garbage ends the connection, or the sidecar does.
async fn converse(mut socket: TcpStream, seen: Arc<Mutex<Seen>>) {
    let mut buffer = Vec::new();
    while let Some((path, body)) = request(&mut socket, &mut buffer).await {
        let answer = match path.as_str() {
            "/dapr/subscribe" => ok(SUBSCRIPTIONS),
            "/one" => {
                let event: Value = serde_json::from_slice(&body).unwrap();
                match note(&seen, "one", &event) {
                    Ok(()) => ok(r#"{"status":"SUCCESS"}"#),
                    Err(garbage) => return spit(&mut socket, garbage).await,
                }
            }
            "/many" => {
                let batch: Value = serde_json::from_slice(&body).unwrap();
                let mut statuses = Vec::new();
                let mut garbage = None;
                for entry in batch["entries"].as_array().unwrap() {
                    match note(&seen, "many", &entry["event"]) {
                        Ok(()) => statuses.push(format!(
                            r#"{{"entryId":{},"status":"SUCCESS"}}"#,
                            entry["entryId"]
                        )),
                        Err(piece) => garbage = Some(piece),
                    }
                }
                // Half of them answer for the others, in an answer that is odd in itself.
                match garbage {
                    Some(piece) if piece.len() % 2 == 0 => {
                        forget(&seen, &batch);
                        return spit(&mut socket, piece).await;
                    }
                    Some(_) => statuses.push(r#"{"entryId":"nobody's","status":"SUCCESS"}"#.to_owned()),
                    None => {}
                }
                ok(&format!(r#"{{"statuses":[{}]}}"#, statuses.join(",")))
            }
            // Also of what nobody needs.
            "/dapr/config" => ok("<html>"),
            _ => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(),
        };
        if socket.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The first time, an event is answered with garbage.
fn note(seen: &Mutex<Seen>, topic: &str, event: &Value) -> Result<(), &'static [u8]> {
    let number = event["data"]["n"].as_u64().unwrap();
    let mut seen = seen.lock().unwrap();
    let (count, taken) = seen.events.entry((topic.to_owned(), number)).or_default();
    *count += 1;
    if *count > 1 {
        *taken = true;
        return Ok(());
    }
    let kinds = u64::try_from(GARBAGE.len()).unwrap();
    let garbage = GARBAGE[usize::try_from(number % kinds).unwrap()];
    // A single event is taken when the status says so, whatever comes after it.
    *taken = topic == "one" && garbage == CUT_OFF;
    Err(garbage)
}

/// What was noted of a batch is not said after all.
fn forget(seen: &Mutex<Seen>, batch: &Value) {
    let mut seen = seen.lock().unwrap();
    for entry in batch["entries"].as_array().unwrap() {
        let number = entry["event"]["data"]["n"].as_u64().unwrap();
        if let Some((_, taken)) = seen.events.get_mut(&("many".to_owned(), number)) {
            *taken = false;
        }
    }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Sends garbage and hangs up.
async fn spit(socket: &mut TcpStream, garbage: &[u8]) {
    if garbage == b"endless" {
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x1_0000], b"\r\n"].concat();
        let mut sent = socket.write_all(head).await;
        while sent.is_ok() {
            sent = socket.write_all(&chunk).await;
        }
        return;
    }
    // Whether the sidecar still listens is its own affair.
    let _sent = socket.write_all(garbage).await;
    let _ended = socket.shutdown().await;
}

/// Path and body of the next request; `None` when there is none.
async fn request(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    loop {
        if let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).to_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"))
                .map_or(0, |text| text.trim().parse().unwrap());
            if buffer.len() >= end + 4 + length {
                let path = head.split(' ').nth(1)?.to_owned();
                let body = buffer[end + 4..end + 4 + length].to_vec();
                buffer.drain(..end + 4 + length);
                return Some((path, body));
            }
        }
        if socket.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}
