//! Nonsense gets a refusal or a reset, and the door goes on.

use super::bench::Bench;
use super::requests::framed;
use bytes::Bytes;
use http_body::Frame;
use outrigger_channel::body::{Body, Error};
use outrigger_proto::dapr::runtime::v1 as proto;
use std::pin::Pin;
use std::task::{Context, Poll};
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
