//! Calls from one app to another, through both their sidecars.

use crate::cluster::{Cluster, SOON, Sidecar, Spec};
use bytes::Bytes;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response};
use outrigger_testkit::app::App;
use outrigger_testkit::client::{Body, Client, full};
use outrigger_testkit::port::Port;
use outrigger_testkit::process::Process;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;
use tokio::sync::watch;

const MIB: usize = 1 << 20;
/// Events of `/ticks`.
const TICKS: u32 = 3;

/// Two sidecars; behind the second one is an app.
struct Pair {
    _cluster: Cluster,
    hub: Option<Process>,
    caller: Sidecar,
    callee: Sidecar,
    client: Client,
    /// The app's streams go on when this changes.
    go_on: watch::Sender<u32>,
    _app: App,
    _app_port: Port,
}

impl Pair {
    async fn start(by_hub: bool, traced: bool) -> Self {
        let cluster = Cluster::new();
        let rate = if traced {
            "{samplingRate: '1', stdout: true}"
        } else {
            "{}"
        };
        let configuration = format!(
            "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {{name: c}}\nspec: {{tracing: {rate}}}\n"
        );
        let folder = cluster.resources("configuration", &[("config.yaml", &configuration)]);
        let configuration = folder.join("config.yaml").display().to_string();
        let flags = ["--max-body-size", "256Mi", "--config", &configuration];
        let port = Port::take();
        let go_on = watch::Sender::new(0);
        let signal = go_on.clone();
        let app = App::start(port.number(), move |request| answer(signal.subscribe(), request)).await;
        let hub = by_hub.then(|| {
            let mut hub = cluster.hub();
            hub.start();
            hub
        });
        // Names must be of this test alone: mDNS reaches everybody.
        let callee_id = format!("callee-{}-{}", std::process::id(), port.number());
        let spec = |app_id, app_port| Spec {
            app_id,
            app_port,
            hub: by_hub,
            flags: &flags,
            ..Spec::default()
        };
        let mut caller = cluster.sidecar(&spec("caller", None));
        let mut callee = cluster.sidecar(&spec(&callee_id, Some(port.number())));
        callee.start().await;
        caller.start().await;
        Self {
            caller,
            callee,
            hub,
            client: Client::new(SOON * 2),
            go_on,
            _app: app,
            _app_port: port,
            _cluster: cluster,
        }
    }

    /// What headers the app gets to see of a request within [`TRACE`].
    async fn headers(&self) -> serde_json::Value {
        let request = Request::get(self.url("headers"))
            .header("traceparent", format!("00-{TRACE}-{SPAN}-01"))
            .header("tracestate", "vendor=value")
            .header("x-own", "kept")
            .body(full(""))
            .unwrap();
        let answer = self.client.request(request).await.unwrap();
        serde_json::from_slice(&answer.body).unwrap()
    }

    fn callee_id(&self) -> String {
        self.callee.process.name().to_owned()
    }

    fn url(&self, method: &str) -> String {
        self.caller
            .url(&format!("/v1.0/invoke/{}/method/{method}", self.callee_id()))
    }
}

/// A trace that began before us, and its last span.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

async fn answer(go_on: watch::Receiver<u32>, request: Request<Incoming>) -> Response<Body> {
    match request.uri().path() {
        "/echo" => Response::new(request.into_body().map_err(std::io::Error::other).boxed_unsync()),
        "/headers" => {
            let headers = request.headers().iter();
            let headers: serde_json::Map<_, _> = headers
                .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
                .collect();
            Response::new(full(serde_json::Value::Object(headers).to_string()))
        }
        "/ticks" => {
            // Each event only when somebody has seen the one before.
            let ticks = futures::stream::unfold((0_u32, go_on), |(sent, mut go_on)| async move {
                if sent == TICKS {
                    return None;
                }
                go_on.wait_for(|allowed| *allowed >= sent).await.ok()?;
                let event = Bytes::from(format!("data: {sent}\n\n"));
                Some((Ok(Frame::data(event)), (sent + 1, go_on)))
            });
            Response::builder()
                .header("content-type", "text/event-stream")
                .body(StreamBody::new(ticks).boxed_unsync())
                .expect("a valid response")
        }
        _ => Response::new(full("hello")),
    }
}

/// Zeros, one mebibyte at a time, made when they are asked for.
fn zeros(mebibytes: usize) -> Body {
    let chunk = Bytes::from(vec![0; MIB]);
    let chunks = std::iter::repeat_n(chunk, mebibytes).map(|chunk| Ok(Frame::data(chunk)));
    StreamBody::new(futures::stream::iter(chunks)).boxed_unsync()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_body_passes_without_being_kept() {
    let pair = Pair::start(true, false).await;
    // Buffers of the connections.
    let warm = Request::post(pair.url("echo")).body(zeros(8)).unwrap();
    assert_eq!(pair.client.request(warm).await.unwrap().body.len(), 8 * MIB);
    let before = [pair.caller.process.resident(), pair.callee.process.resident()];
    let size = 64;
    let request = Request::post(pair.url("echo")).body(zeros(size)).unwrap();
    let answer = pair.client.open(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    let (mut body, mut length, mut growth) = (answer.into_body(), 0, [0, 0]);
    while let Some(frame) = body.frame().await {
        let data = frame
            .expect("the whole body comes")
            .into_data()
            .unwrap_or_default();
        assert!(data.iter().all(|byte| *byte == 0));
        // A reader that is slower than the writer: somebody would have to keep the rest.
        if length % (4 * MIB) + data.len() >= 4 * MIB {
            tokio::time::sleep(Duration::from_millis(20)).await;
            for (most, (process, before)) in growth.iter_mut().zip(
                [&pair.caller.process, &pair.callee.process]
                    .into_iter()
                    .zip(before),
            ) {
                *most = process.resident().saturating_sub(before).max(*most);
            }
        }
        length += data.len();
    }
    assert_eq!(length, size * MIB);
    assert!(
        growth.iter().all(|growth| *growth < 16 << 20),
        "the sidecars have grown by {growth:?} bytes"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_pass_one_by_one_and_traces_go_on() {
    let pair = Pair::start(true, true).await;
    let request = Request::get(pair.url("ticks")).body(full("")).unwrap();
    let answer = pair.client.open(request).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut body = answer.into_body();
    for tick in 0..TICKS {
        let frame = tokio::time::timeout(SOON, body.frame())
            .await
            .expect("it is not held back");
        let data = frame.expect("more ticks").unwrap().into_data().unwrap();
        assert_eq!(data, format!("data: {tick}\n\n"));
        pair.go_on.send_replace(tick + 1);
    }
    assert!(body.frame().await.is_none());

    let seen = pair.headers().await;
    let parent = seen["traceparent"].as_str().expect("the app is told");
    assert!(
        parent.starts_with(&format!("00-{TRACE}-")) && parent.ends_with("-01"),
        "{parent}"
    );
    assert!(!parent.contains(SPAN), "the callee's span is its own: {parent}");
    assert_eq!(
        (&seen["tracestate"], &seen["x-own"]),
        (&"vendor=value".into(), &"kept".into())
    );
    assert_eq!(seen["dapr-caller-app-id"], "caller");
    assert_eq!(seen["dapr-callee-app-id"], pair.callee_id());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_outlives_the_restart_of_the_other_sidecar() {
    let mut pair = Pair::start(true, false).await;
    for round in 0..3 {
        assert_eq!(pair.client.get(&pair.url("hello")).await.unwrap().text(), "hello");
        pair.callee.process.kill();
        let (client, url) = (pair.client.clone(), pair.url("hello"));
        let mut call = tokio::task::JoinSet::new();
        call.spawn(async move { client.get(&url).await });
        tokio::time::sleep(Duration::from_millis(100 * (round + 1))).await;
        pair.callee.process.start();
        let answer = call.join_next().await.expect("one call").unwrap().unwrap();
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, "hello"),
            "round {round}"
        );
        pair.callee.ready().await;
    }
    // Nobody there at all: an answer, and not after minutes.
    pair.callee.process.kill();
    let answer = pair.client.get(&pair.url("hello")).await.unwrap();
    assert_eq!(answer.status, 500);
    assert!(answer.text().contains("ERR_DIRECT_INVOKE"), "{}", answer.text());
    // The hub's end does not disturb those who know each other.
    pair.callee.start().await;
    assert_eq!(pair.client.get(&pair.url("hello")).await.unwrap().status, 200);
    pair.hub.as_mut().expect("by hub").kill();
    assert_eq!(pair.client.get(&pair.url("hello")).await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_by_mdns() {
    if !multicast_works() {
        skipped("multicast does not work on this machine");
        return;
    }
    let pair = Pair::start(false, false).await;
    let answer = pair.client.get(&pair.url("hello")).await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
    // Nobody traces: the trace of the two apps passes as it is.
    let seen = pair.headers().await;
    assert_eq!(seen["traceparent"], format!("00-{TRACE}-{SPAN}-01"));
}

/// Whether a datagram to a group reaches its members on this machine.
fn multicast_works() -> bool {
    let group = Ipv4Addr::new(224, 0, 0, 251);
    let heard = || -> std::io::Result<bool> {
        let member = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        member.join_multicast_v4(&group, &Ipv4Addr::UNSPECIFIED)?;
        member.set_read_timeout(Some(Duration::from_secs(2)))?;
        let sender = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        sender.send_to(b"hello", (group, member.local_addr()?.port()))?;
        let mut heard = [0; 5];
        Ok(member.recv(&mut heard)? == heard.len())
    };
    heard().unwrap_or(false)
}

#[expect(clippy::print_stdout, reason = "what is skipped must be seen and counted")]
fn skipped(why: &str) {
    println!("\nSKIPPED: {why}");
}
