//! Nonsense gets a refusal or a reset, and the door goes on.

use super::bench::{Bench, Plan};
use super::requests::framed;
use bytes::Bytes;
use futures::StreamExt as _;
use http_body::Frame;
use outrigger_channel::body::{Body, Error};
use outrigger_proto::dapr::runtime::v1 as proto;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const METHODS: &[&str] = &[
    "InvokeService",
    "GetState",
    "GetBulkState",
    "SaveState",
    "DeleteState",
    "DeleteBulkState",
    "ExecuteStateTransaction",
    "QueryStateAlpha1",
    "PublishEvent",
    "BulkPublishEvent",
    "BulkPublishEventAlpha1",
    "SubscribeTopicEventsAlpha1",
    "GetSecret",
    "GetBulkSecret",
    "GetMetadata",
    "SetMetadata",
    "Shutdown",
    "InvokeBinding",
];

#[tokio::test]
async fn broken_messages() {
    let mut bench = Bench::new().await;
    let broken: &[(&str, &[u8])] = &[
        ("nothing", b""),
        ("half a prefix", b"\0\0\0"),
        ("cut off", b"\0\0\0\0\x09abc"),
        ("a huge promise", b"\0\xff\xff\xff\xff"),
        ("compressed", b"\x01\0\0\0\0"),
        ("strange flags", b"\x42\0\0\0\0"),
        ("no protobuf", b"\0\0\0\0\x04\xff\xff\xff\xff"),
        ("a wrong length inside", b"\0\0\0\0\x02\x0a\x7f"),
        ("text that is no UTF-8", b"\0\0\0\0\x04\x0a\x02\xff\xfe"),
        ("two messages", b"\0\0\0\0\0\0\0\0\0\0"),
    ];
    for method in METHODS {
        for (what, body) in broken {
            if *what == "text that is no UTF-8" && matches!(*method, "GetMetadata" | "Shutdown") {
                // Their requests have no text: it is an unknown field.
                continue;
            }
            let answer = bench
                .ask(
                    &format!("/dapr.proto.runtime.v1.Dapr/{method}"),
                    &[],
                    Bytes::from_static(body),
                )
                .await;
            let (code, message) = answer.status();
            assert!(
                code != 0 && !message.is_empty(),
                "{method}, {what}: {code} {message}"
            );
        }
    }
    bench
        .client
        .get_metadata(proto::GetMetadataRequest {})
        .await
        .expect("the door goes on");
    assert!(bench.shutdowns.lock().unwrap().is_empty());
}

#[tokio::test]
async fn strange_requests() {
    let bench = Bench::new().await;
    for path in [
        "/",
        "//",
        "/dapr.proto.runtime.v1.Dapr",
        "/dapr.proto.runtime.v1.Dapr/",
        "/dapr.proto.runtime.v9.Dapr/GetState",
        "/%00/%ff",
        "/a/b/c",
    ] {
        let (code, message) = bench.ask(path, &[], framed(b"")).await.status();
        assert!(code != 0 && !message.is_empty(), "{path}: {code} {message}");
    }
    for (name, value) in [
        ("grpc-timeout", "99999999999999999999H"),
        ("grpc-trace-bin", "!!!"),
        ("traceparent", "00-zz"),
        ("grpc-encoding", "gzip"),
        ("user-agent", "\u{e9}"),
    ] {
        let answer = bench
            .ask(
                "/dapr.proto.runtime.v1.Dapr/GetMetadata",
                &[(name, value)],
                framed(b""),
            )
            .await;
        assert_eq!(answer.status().0, 0, "{name}: {value}");
    }
    for (kind, expected) in [
        ("text/plain", 415),
        ("", 415),
        ("application/grp", 415),
        ("application/grpc-web", 415),
        ("application/grpc; x=y", 200),
        ("application/grpc+json", 200),
        ("Application/GRPC", 200),
    ] {
        let fields = [("content-type", kind)];
        let answer = bench
            .send("/dapr.proto.runtime.v1.Dapr/GetMetadata", &fields, framed(b""))
            .await;
        assert_eq!(answer.status(), expected, "{kind}");
    }
}

#[tokio::test]
async fn answers_stay_small() {
    let bench = Bench::new().await;
    let get = proto::GetStateRequest {
        store_name: "s".to_owned(),
        key: format!("{}||", "é".repeat(20_000)),
        ..Default::default()
    };
    let body = framed(&prost::Message::encode_to_vec(&get));
    let answer = bench.ask("/dapr.proto.runtime.v1.Dapr/GetState", &[], body).await;
    let (code, message) = answer.status();
    assert_eq!((code, message.len() / 1024), (3, 7));
    assert!(message.starts_with("input key/keyPrefix 'éé") && message.ends_with('é'));
}

/// Says nothing more after one piece.
struct Stopping(Option<Bytes>);

impl http_body::Body for Stopping {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.get_mut().0.take() {
            Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            None => Poll::Pending,
        }
    }
}

#[tokio::test]
async fn messages_that_stop_and_streams_that_pause() {
    let patience = Duration::from_millis(100);
    let mut bench = Bench::with(Plan {
        patience: Some(patience),
        ..Plan::default()
    })
    .await;
    for piece in [&b""[..], b"\0\0", b"\0\0\0\0\x09abc"] {
        let body = Body::stream(Stopping(Some(Bytes::from_static(piece))));
        let answer = bench
            .ask("/dapr.proto.runtime.v1.Dapr/SaveState", &[], body)
            .await;
        let (code, message) = answer.status();
        assert!(
            code != 0 && message.contains("nothing came for 100ms"),
            "{code} {message}"
        );
    }
    // A subscription may be silent for as long as it likes.
    let initial = proto::SubscribeTopicEventsRequestInitialAlpha1 {
        pubsub_name: "p".to_owned(),
        topic: "t".to_owned(),
        ..Default::default()
    };
    let first = proto::SubscribeTopicEventsRequestAlpha1 {
        subscribe_topic_events_request_type: Some(
            proto::subscribe_topic_events_request_alpha1::SubscribeTopicEventsRequestType::InitialRequest(
                initial,
            ),
        ),
    };
    let requests = futures::stream::iter([first]).chain(futures::stream::pending());
    let mut events = bench
        .client
        .subscribe_topic_events_alpha1(requests)
        .await
        .unwrap()
        .into_inner();
    assert!(
        events.message().await.unwrap().is_some(),
        "the subscription has begun"
    );
    let more = tokio::time::timeout(patience * 5, events.message()).await;
    assert!(more.is_err(), "{more:?}");
}

/// Frames as HTTP/2 has them: length, type, flags, stream.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// What a flood sends in its nth round.
type Next = Box<dyn Fn(u32) -> Vec<u8>>;

/// Floods of header blocks and of resets end with the connection, long before they take memory.
#[tokio::test]
async fn floods_of_frames() {
    let (headers, reset, settings, continuation) = (1, 3, 4, 9);
    let mut bench = Bench::new().await;
    let begin = [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        &frame(settings, 0, 0, &[]),
    ]
    .concat();
    // A literal field that is not indexed: `x: xxx…`.
    let field = [&[0x00, 0x01, b'x', 0x7f, 0x81, 0x7e][..], &[b'x'; 16_256]].concat();
    // `:method: GET`, `:scheme: http`, `:path: /`: a request that is reset at once.
    let request = move |stream| {
        [
            frame(headers, 0x4, stream, &[0x82, 0x86, 0x84]),
            frame(reset, 0, stream, &[0, 0, 0, 8]),
        ]
        .concat()
    };
    let rows: [(&str, Vec<u8>, Next); 2] = [
        (
            "a header list without end",
            frame(headers, 0, 1, &[0x82, 0x86, 0x84]),
            Box::new(move |_| frame(continuation, 0, 1, &field)),
        ),
        (
            "resets",
            Vec::new(),
            Box::new(move |round| request(2 * round + 1)),
        ),
    ];
    for (what, first, next) in rows {
        let mut stream = TcpStream::connect(&bench.address).await.unwrap();
        stream.write_all(&[begin.clone(), first].concat()).await.unwrap();
        let (mut reading, mut writing) = stream.split();
        let flood = async {
            for round in 0..100_000 {
                if writing.write_all(&next(round)).await.is_err() {
                    return true;
                }
            }
            false
        };
        // Read on, so that a door that answers each frame is not held up by us.
        let drain = async {
            let mut sink = vec![0; 64 << 10];
            while reading.read(&mut sink).await.is_ok_and(|read| read > 0) {}
        };
        let ended = tokio::time::timeout(Duration::from_secs(60), async {
            tokio::select! {
                ended = flood => ended,
                () = drain => true,
            }
        });
        assert!(ended.await.expect(what), "{what}: all of it was taken");
        bench
            .client
            .get_metadata(proto::GetMetadataRequest {})
            .await
            .expect("the door goes on");
    }
}

/// Breaks off after one piece.
struct Breaking(Option<Bytes>);

impl http_body::Body for Breaking {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Poll::Ready(Some(
            self.get_mut()
                .0
                .take()
                .map(Frame::data)
                .ok_or_else(|| "gone".into()),
        ))
    }
}

#[tokio::test]
async fn cut_off_calls_change_nothing() {
    let mut bench = Bench::new().await;
    let save = framed(&prost::Message::encode_to_vec(&proto::SaveStateRequest {
        store_name: "s".to_owned(),
        states: vec![outrigger_proto::dapr::common::v1::StateItem {
            key: "k".to_owned(),
            value: "v".into(),
            ..Default::default()
        }],
    }));
    for cut in [0, 3, 7, save.len()] {
        let mut request = http::Request::new(Body::stream(Breaking(Some(save.slice(..cut)))));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = "/dapr.proto.runtime.v1.Dapr/SaveState".parse().unwrap();
        request
            .headers_mut()
            .insert("content-type", http::HeaderValue::from_static("application/grpc"));
        assert!(bench.try_send(request).await.is_err(), "{cut}");
    }
    let get = proto::GetStateRequest {
        store_name: "s".to_owned(),
        key: "k".to_owned(),
        ..Default::default()
    };
    assert!(
        bench
            .client
            .get_state(get)
            .await
            .unwrap()
            .into_inner()
            .data
            .is_empty()
    );
}

#[tokio::test]
async fn broken_connections() {
    let mut bench = Bench::new().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let noise: Vec<u8> = (0..4096_u32)
        .map(|n| u8::try_from(n.wrapping_mul(2_654_435_761) >> 24).unwrap())
        .collect();
    for bytes in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        noise.clone(),
        [&preface[..], &noise].concat(),
        preface[..9].to_vec(),
    ] {
        let mut stream = TcpStream::connect(&bench.address).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        stream.shutdown().await.ok();
        let mut answer = Vec::new();
        let closing = stream.read_to_end(&mut answer);
        tokio::time::timeout(std::time::Duration::from_secs(10), closing)
            .await
            .expect("the connection stays open")
            .ok();
    }
    bench
        .client
        .get_metadata(proto::GetMetadataRequest {})
        .await
        .expect("the door goes on");
}
