//! Garbage on every port of a real sidecar: each is refused in its own words, and nobody else's request is harmed.
//!
//! `crates/api-http` tests the HTTP door's answers one by one; here it is the whole process.

use crate::cluster::{Cluster, SOON, Sidecar, Spec, component};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{Request, Response};
use outrigger_testkit::app::App;
use outrigger_testkit::client::{Answer, Body, Client, full};
use outrigger_testkit::port::Port;
use serde_json::{Value, json};
use std::fmt::Write as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// Topics and keys that are legal, and odd.
const NAMES: [&str; 12] = [
    "with space",
    "ü€😀",
    "a/b//c",
    "100%",
    "%2F",
    "a?b#c&d=e",
    "\"quoted\"\\",
    "line\nbreak\ttab",
    "..",
    "x*y",
    "a|b",
    "\u{7f}\u{1}",
];

/// What is wrong, the port, the method, the body, and the codes that may answer it.
type Call<'a> = (&'a str, u16, &'a str, Vec<u8>, &'a [&'a str]);

/// A sidecar with an app that hands out what it gets.
struct Scene {
    cluster: Cluster,
    sidecar: Sidecar,
    client: Client,
    grpc: Client,
    events: mpsc::Receiver<Value>,
    /// `/slow` answers once this is true.
    gate: watch::Sender<bool>,
    /// Its components are the hub's.
    embedded: bool,
    _app: App,
    _port: Port,
}

impl Scene {
    async fn start(embedded: bool) -> Self {
        let cluster = Cluster::new();
        let (sender, events) = mpsc::channel(1_000);
        let gate = watch::Sender::new(false);
        let (port, open) = (Port::take(), gate.clone());
        let app = App::start(port.number(), move |request| {
            answer(sender.clone(), open.subscribe(), request)
        })
        .await;
        let resources = if embedded {
            cluster.embedded()
        } else {
            let state = component("statestore", "state.in-memory", &[]);
            let pubsub = component("pubsub", "pubsub.in-memory", &[]);
            cluster.resources("memory", &[("state.yaml", &state), ("pubsub.yaml", &pubsub)])
        };
        let mut sidecar = cluster.sidecar(&Spec {
            app_id: "shop",
            app_port: Some(port.number()),
            resources: Some(&resources),
            hub: embedded,
            flags: &["--max-body-size", "64Ki", "--log-level", "debug"],
        });
        sidecar.process.start();
        Self {
            cluster,
            sidecar,
            client: Client::new(SOON),
            grpc: Client::http2(SOON),
            events,
            gate,
            embedded,
            _app: app,
            _port: port,
        }
    }

    /// Ordinary requests of everybody else, on connections that were there before.
    async fn neighbours(&self, after: &str) {
        let url = self.sidecar.url("/v1.0/state/statestore");
        let answer = self.client.post_json(&url, r#"[{"key":"k","value":"v"}]"#).await;
        assert_eq!(answer.expect(after).status, 204, "after {after}");
        let mut message = vec![0x0a, 10];
        message.extend(b"statestore\x12\x01k");
        let method = "/dapr.proto.runtime.v1.Dapr/GetState";
        let answer = self
            .call(self.sidecar.grpc_port(), method, &framed(&message))
            .await
            .expect(after);
        assert_eq!(answer.headers["grpc-status"], "0", "after {after}: {answer:?}");
        assert!(
            answer.body.windows(3).any(|part| part == b"\"v\""),
            "after {after}: {answer:?}"
        );
        let answer = self
            .call(self.sidecar.internal_port(), "/no.such/Method", &framed(&[]))
            .await
            .expect(after);
        assert_eq!(answer.headers["grpc-status"], "2", "after {after}: {answer:?}");
        let text = answer.headers["grpc-message"].to_str().expect("text");
        assert!(
            text.contains("dapr-callee-app-id or dapr-app-id not found"),
            "after {after}: {text}"
        );
    }

    async fn call(&self, port: u16, method: &str, body: &[u8]) -> Result<Answer, String> {
        let request = Request::post(format!("http://127.0.0.1:{port}{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(full(body.to_vec()))
            .expect("a valid request");
        self.grpc.request(request).await
    }

    /// The next event that reaches the app.
    async fn next(&mut self, what: &str) -> Value {
        let event = tokio::time::timeout(SOON, self.events.recv()).await;
        event
            .unwrap_or_else(|_| panic!("no event for {what:?}"))
            .expect("the app lives")
    }

    /// A request that is under way while all this happens.
    fn slow(&self) -> JoinSet<Result<Answer, String>> {
        let (client, url) = (
            Client::new(SOON * 10),
            self.sidecar.url("/v1.0/invoke/shop/method/slow"),
        );
        let mut slow = JoinSet::new();
        slow.spawn(async move { client.get(&url).await });
        slow
    }

    async fn finish(&self, mut slow: JoinSet<Result<Answer, String>>) {
        self.gate.send_replace(true);
        let answer = slow
            .join_next()
            .await
            .expect("one request")
            .unwrap()
            .expect("the neighbour is not harmed");
        assert_eq!(answer.text(), "done");
        let output = self.sidecar.process.output();
        assert!(!output.contains("panicked"), "{output}");
    }
}

async fn answer(
    events: mpsc::Sender<Value>,
    mut gate: watch::Receiver<bool>,
    request: Request<Incoming>,
) -> Response<Body> {
    match request.uri().path() {
        "/dapr/subscribe" => {
            let topics = NAMES.iter().copied().chain(["plain"]);
            let list: Vec<Value> = topics
                .map(|topic| json!({"pubsubname": "pubsub", "topic": topic, "route": "/events"}))
                .collect();
            Response::new(full(Value::from(list).to_string()))
        }
        "/events" => {
            let body = request
                .into_body()
                .collect()
                .await
                .expect("a whole event")
                .to_bytes();
            events
                .send(serde_json::from_slice(&body).expect("JSON"))
                .await
                .expect("somebody looks");
            Response::new(full(""))
        }
        "/slow" => {
            gate.wait_for(|open| *open).await.expect("the test lives");
            Response::new(full("done"))
        }
        _ => Response::new(full("")),
    }
}

/// One message of gRPC.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("small").to_be_bytes();
    [&[0], &length[..], message].concat()
}

/// Sends bytes and reads until the other side closes. `None`: it said nothing.
///
/// `end`: whether the other side is told that no more comes. A request whose body is complete is abandoned by that.
async fn raw(port: u16, bytes: &[u8], end: bool, what: &str) -> Option<Vec<u8>> {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
        // It may close before it has read everything.
        let _early = stream.write_all(bytes).await;
        if end {
            let _early = stream.shutdown().await;
        }
        let mut answer = Vec::new();
        let _reset = stream.read_to_end(&mut answer).await;
        answer
    };
    let answer = tokio::time::timeout(SOON, exchange).await;
    let answer = answer.unwrap_or_else(|_| panic!("{what}: the connection hangs"));
    (!answer.is_empty()).then_some(answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http() {
    let scene = Scene::start(false).await;
    scene.sidecar.ready().await;
    scene.neighbours("nothing").await;
    let slow = scene.slow();
    let post = |path: &str, headers: &str, body: &[u8]| {
        let head = format!("POST {path} HTTP/1.1\r\nhost: d\r\nconnection: close\r\n{headers}\r\n");
        [head.as_bytes(), body].concat()
    };
    let get = |path: &str, header: &[u8]| {
        let head = format!("GET {path} HTTP/1.1\r\nhost: d\r\nconnection: close\r\n");
        [head.as_bytes(), header, b"\r\n"].concat()
    };
    let (chunked, state, publish) = (
        "transfer-encoding: chunked\r\n",
        "/v1.0/state/statestore",
        "/v1.0/publish/pubsub/nobody",
    );
    let event = "content-type: application/cloudevents+json\r\n";
    let length = |length: usize| format!("content-length: {length}\r\n");
    let large = vec![b'x'; 70_000];
    let rows: Vec<(&str, Vec<u8>, &str, &str)> = vec![
        ("no HTTP at all", b"\x00\xff\x00\xff\r\n\r\n".to_vec(), "400", ""),
        (
            "a truncated body",
            post(state, &length(500), b"[{\"key\":"),
            "400",
            "unexpected EOF",
        ),
        (
            "an oversized body",
            post(publish, &length(70_000), &large),
            "500",
            "stream too large",
        ),
        (
            "an oversized call",
            post("/v1.0/invoke/shop/method/x", &length(70_000), &large),
            "500",
            "ERR_DIRECT_INVOKE",
        ),
        (
            "a length beyond all memory",
            post(state, "content-length: 9223372036854775807\r\n", b"["),
            "400",
            "",
        ),
        (
            "a length beyond all numbers",
            post(state, "content-length: 99999999999999999999999\r\n", b"["),
            "400",
            "",
        ),
        (
            "a chunk size that is none",
            post(state, chunked, b"xyz\r\n"),
            "400",
            "ERR_MALFORMED_REQUEST",
        ),
        (
            "a chunk size beyond all numbers",
            post(state, chunked, b"fffffffffffffffff\r\n"),
            "400",
            "",
        ),
        (
            "an invalid header",
            get("/v1.0/metadata", b"bad header: \x00\r\n"),
            "400",
            "",
        ),
        (
            "a header that is not UTF-8",
            get("/v1.0/metadata", b"x-odd: \xff\xfe\r\n"),
            "200",
            "shop",
        ),
        (
            "an endless header",
            get("/v1.0/metadata", &[b"x: ", &large[..], b"\r\n"].concat()),
            "431",
            "",
        ),
        (
            "invalid JSON",
            post(state, &length(4), b"[{]}"),
            "400",
            "ERR_MALFORMED_REQUEST",
        ),
        (
            "JSON that is not UTF-8",
            post(state, &length(4), b"[\"\xff\""),
            "400",
            "ERR_MALFORMED_REQUEST",
        ),
        (
            "JSON of another form",
            post(state, &length(4), b"true"),
            "400",
            "ERR_MALFORMED_REQUEST",
        ),
        (
            "a key with the separator",
            get(&format!("{state}/a%7C%7Cb"), b""),
            "400",
            "input key/keyPrefix 'a||b' can't contain '||'",
        ),
        (
            "no such store",
            get("/v1.0/state/nosuch/k", b""),
            "400",
            "ERR_STATE_STORE_NOT_FOUND",
        ),
        (
            "no such pubsub",
            post("/v1.0/publish/nosuch/t", &length(0), b""),
            "404",
            "ERR_PUBSUB_NOT_FOUND",
        ),
        (
            "a path with a wrong escape",
            get(&format!("{state}/%zz"), b""),
            "400",
            "invalid URL escape",
        ),
        (
            "a path that is not UTF-8",
            get(&format!("{state}/%ff"), b""),
            "400",
            "not valid UTF-8",
        ),
        (
            "a CloudEvent that is no JSON",
            post(publish, &format!("{event}{}", length(3)), b"{]}"),
            "500",
            "ERR_PUBSUB_CLOUD_EVENTS_SER",
        ),
        (
            "a CloudEvent that is a list",
            post(publish, &format!("{event}{}", length(2)), b"[]"),
            "500",
            "ERR_PUBSUB_CLOUD_EVENTS_SER",
        ),
        (
            "an odd rawPayload",
            post(&format!("{publish}?metadata.rawPayload=perhaps"), &length(0), b""),
            "400",
            "ERR_PUBSUB_REQUEST_METADATA",
        ),
        (
            "bulk that is no list",
            post("/v1.0/publish/bulk/pubsub/t", &length(2), b"{}"),
            "400",
            "ERR_PUBSUB_EVENTS_SER",
        ),
        (
            "a call to nobody",
            get("/v1.0/invoke/nobody.there.at.all/method/x", b""),
            "500",
            "ERR_DIRECT_INVOKE",
        ),
    ];
    for (what, bytes, status, text) in rows {
        let answer = raw(
            scene.sidecar.http_port(),
            &bytes,
            what.contains("truncated"),
            what,
        )
        .await
        .unwrap_or_else(|| panic!("{what}: closed"));
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{what}: {answer}"
        );
        assert!(answer.contains(text), "{what}: {text:?} is not in {answer}");
        scene.neighbours(what).await;
    }
    for (what, bytes) in [
        (
            "half a request",
            &b"POST /v1.0/state/statestore HTTP/1.1\r\nhost"[..],
        ),
        (
            "HTTP/2 and then nonsense",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense nonsense nonsense",
        ),
        ("nothing", b""),
    ] {
        raw(scene.sidecar.http_port(), bytes, true, what).await;
        scene.neighbours(what).await;
    }
    // Many who connect and say nothing take nobody's place.
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(
            TcpStream::connect(("127.0.0.1", scene.sidecar.http_port()))
                .await
                .expect("it listens"),
        );
    }
    scene.neighbours("300 silent connections").await;
    scene.finish(slow).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc() {
    let scene = Scene::start(false).await;
    scene.sidecar.ready().await;
    scene.neighbours("nothing").await;
    let slow = scene.slow();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let begun = [&preface[..], &settings].concat();
    let after = |frames: &[u8]| [&begun[..], frames].concat();
    let headers = |stream: u8, block: &[u8]| {
        let length = u8::try_from(block.len()).expect("small");
        [&[0, 0, length, 1, 4, 0, 0, 0, stream][..], block].concat()
    };
    // A stream that is opened and reset at once, again and again.
    let resets: Vec<u8> = (0..120_u8)
        .flat_map(|number| {
            let stream = number * 2 + 1;
            let block = [0x83, 0x86, 0x44, 1, b'/', 0x41, 1, b'd'];
            let reset = [0, 0, 4, 3, 0, 0, 0, 0, stream, 0, 0, 0, 8];
            [headers(stream, &block), reset.to_vec()].concat()
        })
        .collect();
    let rows: Vec<(&str, Vec<u8>)> = vec![
        ("zeros", vec![0; 5_000]),
        ("ones", vec![0xff; 5_000]),
        ("HTTP/1.1", b"GET / HTTP/1.1\r\nhost: d\r\n\r\n".to_vec()),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()),
        ("nothing", Vec::new()),
        ("half a preface", preface[..10].to_vec()),
        ("a preface and nonsense", [&preface[..], &[0xee; 500]].concat()),
        (
            "a frame beyond the limit",
            after(&[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]),
        ),
        ("data for no stream", after(&[0, 0, 1, 0, 0, 0, 0, 0, 0, 1])),
        (
            "data for a stream that is not there",
            after(&[0, 0, 1, 0, 0, 0, 0, 0, 9, 1]),
        ),
        ("headers that are none", after(&headers(1, &[0xff; 60]))),
        ("headers of a stream of the server", after(&headers(2, &[0x82]))),
        (
            "a window of nothing",
            after(&[0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ),
        (
            "settings that are none",
            after(&[0, 0, 5, 4, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5]),
        ),
        ("a promise", after(&[0, 0, 4, 5, 4, 0, 0, 0, 1, 0, 0, 0, 2])),
        ("streams that are reset", after(&resets)),
    ];
    for (what, bytes) in rows {
        for port in [scene.sidecar.grpc_port(), scene.sidecar.internal_port()] {
            raw(port, &bytes, true, what).await;
        }
        scene.neighbours(what).await;
    }

    let get = "/dapr.proto.runtime.v1.Dapr/GetState";
    let large = framed(&vec![0; 200_000]);
    let local = "/dapr.proto.internals.v1.ServiceInvocation/CallLocal";
    let calls: [Call<'_>; 9] = [
        (
            "no message",
            scene.sidecar.grpc_port(),
            get,
            Vec::new(),
            &["13", "3", "12"],
        ),
        (
            "half a prefix",
            scene.sidecar.grpc_port(),
            get,
            vec![0, 0],
            &["13", "3"],
        ),
        (
            "half a message",
            scene.sidecar.grpc_port(),
            get,
            vec![0, 0, 0, 1, 0, 1],
            &["13", "3"],
        ),
        (
            "a flag that is none",
            scene.sidecar.grpc_port(),
            get,
            vec![7, 0, 0, 0, 0],
            &["13", "3", "12"],
        ),
        (
            "compressed, and not said how",
            scene.sidecar.grpc_port(),
            get,
            vec![1, 0, 0, 0, 0],
            &["13", "3", "12"],
        ),
        (
            "no protobuf",
            scene.sidecar.grpc_port(),
            get,
            framed(&[0xff; 20]),
            &["13", "3"],
        ),
        (
            "text that is not UTF-8",
            scene.sidecar.grpc_port(),
            get,
            framed(b"\x0a\x02\xff\xfe"),
            &["13", "3"],
        ),
        (
            "a message beyond the limit",
            scene.sidecar.grpc_port(),
            get,
            large,
            &["8", "11"],
        ),
        (
            "no protobuf for a peer",
            scene.sidecar.internal_port(),
            local,
            framed(&[0xff; 20]),
            &["13", "3"],
        ),
    ];
    for (what, port, method, body, codes) in calls {
        let answer = scene.call(port, method, &body).await.expect(what);
        let code = answer
            .headers
            .get("grpc-status")
            .and_then(|code| code.to_str().ok())
            .unwrap_or_default();
        assert!(
            codes.contains(&code),
            "{what}: {code} is none of {codes:?}: {answer:?}"
        );
        scene.neighbours(what).await;
    }
    scene.finish(slow).await;
}

/// As it stands in a URL.
fn escaped(name: &str) -> String {
    name.bytes().fold(String::new(), |mut text, byte| {
        write!(text, "%{byte:02X}").expect("a text takes everything");
        text
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_names_in_memory() {
    odd_names(Scene::start(false).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_names_in_the_hub() {
    let scene = Scene::start(true).await;
    let mut hub = scene.cluster.hub();
    hub.start();
    odd_names(scene).await;
}

async fn odd_names(mut scene: Scene) {
    scene.sidecar.ready().await;
    for (number, name) in NAMES.iter().enumerate() {
        let body = json!([{"key": name, "value": number}]).to_string();
        let answer = scene
            .client
            .post_json(&scene.sidecar.url("/v1.0/state/statestore"), body)
            .await
            .unwrap();
        assert_eq!(answer.status, 204, "{name:?}: {answer:?}");
        let url = scene
            .sidecar
            .url(&format!("/v1.0/state/statestore/{}", escaped(name)));
        let answer = scene.client.get(&url).await.unwrap();
        assert_eq!(
            (answer.status, answer.text()),
            (200, number.to_string()),
            "{name:?}"
        );
    }
    for (number, name) in NAMES.iter().enumerate() {
        let url = scene
            .sidecar
            .url(&format!("/v1.0/publish/pubsub/{}", escaped(name)));
        let answer = scene.client.post_json(&url, number.to_string()).await.unwrap();
        if scene.embedded && name.chars().any(char::is_control) {
            assert_eq!(answer.status, 500, "{name:?}: {answer:?}");
            assert!(
                answer
                    .text()
                    .contains("the name of the topic has a control character in it"),
                "{answer:?}"
            );
            continue;
        }
        assert_eq!(answer.status, 204, "{name:?}: {answer:?}");
        let event = scene.next(name).await;
        assert_eq!(
            (&event["topic"], &event["data"]),
            (&json!(name), &json!(number)),
            "{event}"
        );
    }
    // What is no CloudEvent does not reach the app as one, and holds up nobody.
    let publish = scene.sidecar.url("/v1.0/publish/pubsub/plain");
    for garbage in ["", "no JSON", "[1]", "\"text\"", "{\"id\":", "null"] {
        let url = format!("{publish}?metadata.rawPayload=true");
        let answer = scene.client.post_json(&url, garbage).await.unwrap();
        assert_eq!(answer.status, 204, "{garbage:?}: {answer:?}");
    }
    let odd = [
        // Half a CloudEvent is completed; what is in it is the business of the two apps.
        (
            r#"{"data_base64":"no base64!"}"#,
            json!({"data_base64": "no base64!"}),
        ),
        (
            r#"{"data":1,"data_base64":"aGk="}"#,
            json!({"data": 1, "data_base64": "aGk="}),
        ),
        (
            r#"{"id":7,"source":{"a":null},"data":"x"}"#,
            json!({"id": 7, "data": "x"}),
        ),
    ];
    for (sent, expected) in odd {
        let request = Request::post(&publish)
            .header("content-type", "application/cloudevents+json")
            .body(full(sent))
            .unwrap();
        let answer = scene.client.request(request).await.unwrap();
        assert_eq!(answer.status, 204, "{sent}: {answer:?}");
        let event = scene.next(sent).await;
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(&event[name], value, "{sent}: {event}");
        }
    }
    scene.neighbours("all this").await;
    let refused = "error deserializing cloud event in pubsub pubsub and topic plain";
    let output = scene.sidecar.process.says(refused, SOON).await;
    assert!(!output.contains("panicked"), "{output}");
}
