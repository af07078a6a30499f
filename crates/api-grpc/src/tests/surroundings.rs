//! What stands around every call: token, filter, limits, deadlines, traces, metrics, access log.

use super::bench::{Bench, LIMIT, Plan};
use super::fakes::text;
use super::requests::framed;
use crate::Filter;
use bytes::Bytes;
use http_body::Frame;
use outrigger_channel::body::{Body, Error};
use outrigger_channel::peer::trace_of;
use outrigger_channel::wire;
use outrigger_proto::dapr::common::v1::StateItem;
use outrigger_proto::dapr::runtime::v1 as proto;
use prost::Message;
use std::pin::Pin;
use std::task::{Context, Poll};

const GET_METADATA: &str = "/dapr.proto.runtime.v1.Dapr/GetMetadata";
const GET_STATE: &str = "/dapr.proto.runtime.v1.Dapr/GetState";
const SAVE_STATE: &str = "/dapr.proto.runtime.v1.Dapr/SaveState";
const INVOKE: &str = "/dapr.proto.runtime.v1.Dapr/InvokeService";

#[tokio::test]
async fn tokens() {
    let bench = Bench::with(Plan {
        token: "secret",
        ..Plan::default()
    })
    .await;
    for (path, token, code) in [
        (GET_METADATA, None, 16),
        (GET_METADATA, Some("secreT"), 16),
        (GET_METADATA, Some(""), 16),
        (GET_METADATA, Some("secret"), 0),
        ("/shop.Orders/Stream", None, 16),
        ("/shop.Orders/Stream", Some("nonsense"), 16),
        ("/shop.Orders/Stream", Some("secret"), 0),
        (
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            None,
            16,
        ),
    ] {
        let mut fields = vec![("dapr-app-id", "shop")];
        fields.extend(token.map(|token| ("dapr-api-token", token)));
        let answer = bench.ask(path, &fields, framed(b"")).await;
        let (found, message) = answer.status();
        assert_eq!(found, code, "{path} {token:?}");
        if code == 16 {
            assert_eq!(message, "Unauthorized");
            assert!(answer.headers.contains_key("grpc-status-details-bin"));
        } else if path != GET_METADATA {
            let names = text(&answer.headers, "x-names").unwrap();
            assert!(!names.contains("dapr-api-token"), "{names}");
        }
    }
    assert!(!bench.logged().contains("secret"), "the token was logged");
}

#[tokio::test]
async fn filters() {
    let filter = Filter::new([("v1", "state")], []);
    let bench = Bench::with(Plan {
        filter,
        ..Plan::default()
    })
    .await;
    let request = proto::GetStateRequest {
        store_name: "s".to_owned(),
        ..Default::default()
    };
    assert_eq!(
        bench.ask(GET_STATE, &[], wire::frame(&request)).await.status().0,
        0
    );
    assert_eq!(
        bench.ask(GET_METADATA, &[], framed(b"")).await.status(),
        (12, "Not Implemented".to_owned())
    );
    assert_eq!(
        bench
            .ask("/shop.Orders/Stream", &[("dapr-app-id", "shop")], framed(b""))
            .await
            .status()
            .0,
        0
    );
}

#[tokio::test]
async fn messages_are_bounded_both_ways() {
    let bench = Bench::new().await;
    let state = |length: usize| StateItem {
        key: "k".to_owned(),
        value: vec![7; length].into(),
        ..StateItem::default()
    };
    let save = |states| proto::SaveStateRequest {
        store_name: "s".to_owned(),
        states,
    };
    let small = save(vec![state(LIMIT - 100)]);
    assert_eq!(
        bench.ask(SAVE_STATE, &[], wire::frame(&small)).await.status().0,
        0
    );
    let large = save(vec![state(LIMIT)]);
    let text = format!(
        "grpc: received message larger than max ({} vs. {LIMIT})",
        large.encoded_len()
    );
    assert_eq!(
        bench.ask(SAVE_STATE, &[], wire::frame(&large)).await.status(),
        (8, text)
    );

    let keys = vec!["k".to_owned(), "k".to_owned()];
    let bulk = proto::GetBulkStateRequest {
        store_name: "s".to_owned(),
        keys,
        ..Default::default()
    };
    let (code, text) = bench
        .ask(
            "/dapr.proto.runtime.v1.Dapr/GetBulkState",
            &[],
            wire::frame(&bulk),
        )
        .await
        .status();
    assert!(
        code == 8 && text.starts_with("grpc: trying to send message larger than max ("),
        "{code} {text}"
    );
    assert!(text.ends_with(&format!(" vs. {LIMIT})")), "{text}");
}

/// The request's end never comes.
struct Endless;

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Poll::Pending
    }
}

#[tokio::test]
async fn deadlines() {
    let bench = Bench::new().await;
    for timeout in ["1n", "20m"] {
        let answer = bench
            .ask(GET_METADATA, &[("grpc-timeout", timeout)], Body::stream(Endless))
            .await;
        assert_eq!(
            answer.status(),
            (4, "context deadline exceeded".to_owned()),
            "{timeout}"
        );
    }
    for timeout in ["10S", "nonsense"] {
        let answer = bench
            .ask(GET_METADATA, &[("grpc-timeout", timeout)], framed(b""))
            .await;
        assert_eq!(answer.status().0, 0, "{timeout}");
    }
}

#[tokio::test]
async fn traces() {
    let bench = Bench::with(Plan {
        rate: Some("1"),
        ..Plan::default()
    })
    .await;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let get = wire::frame(&proto::GetStateRequest {
        store_name: "s".to_owned(),
        ..Default::default()
    });
    let fields = [("traceparent", parent), ("baggage", "a=1 , b=2")];
    let answer = bench.ask(GET_STATE, &fields, get.clone()).await;
    let trace = trace_of(&answer.headers).expect("the answer has a trace");
    assert!(
        trace
            .traceparent()
            .as_str()
            .starts_with("00-0af7651916cd43dd8448eb211c80319c-")
    );
    assert_ne!(trace.traceparent().as_str(), parent);
    assert_eq!(text(&answer.headers, "baggage"), Some("a=1,b=2"));
    assert!(!answer.headers.contains_key("traceparent"));

    let failed = bench.ask(GET_STATE, &fields, framed(b"")).await;
    assert_eq!(failed.status().0, 3);
    assert!(trace_of(&failed.headers).is_some(), "failures have a trace too");

    let refused = bench.ask(GET_STATE, &[("baggage", "nonsense")], get).await;
    let (code, message) = refused.status();
    assert!(
        code == 3 && message.starts_with("invalid baggage header: "),
        "{code} {message}"
    );

    let proxied = bench
        .ask(
            "/shop.Orders/Stream",
            &[("dapr-app-id", "shop"), ("traceparent", parent)],
            framed(b""),
        )
        .await;
    let names = text(&proxied.headers, "x-names").unwrap();
    assert!(
        names.contains("grpc-trace-bin") && names.contains("traceparent"),
        "{names}"
    );

    // Nothing is configured: what comes in is passed on.
    let plain = Bench::new().await;
    let answer = plain
        .ask(GET_METADATA, &[("traceparent", parent)], framed(b""))
        .await;
    let passed = trace_of(&answer.headers).expect("the trace that came in");
    assert_eq!(passed.traceparent().as_str(), parent);
    let refused = plain
        .ask(GET_METADATA, &[("baggage", "nonsense")], framed(b""))
        .await;
    assert_eq!(refused.status().0, 3);

    let off = Bench::with(Plan {
        rate: Some("0"),
        ..Plan::default()
    })
    .await;
    let answer = off
        .ask(
            GET_METADATA,
            &[("traceparent", parent), ("baggage", "nonsense")],
            framed(b""),
        )
        .await;
    assert_eq!(answer.status().0, 0);
    assert!(trace_of(&answer.headers).is_none());
}

#[tokio::test]
async fn reflection() {
    let bench = Bench::new().await;
    let symbol = |name: &str| {
        let length = u8::try_from(name.len()).unwrap();
        framed(&[&[0x22, length][..], name.as_bytes()].concat())
    };
    for version in ["v1", "v1alpha"] {
        let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        for (request, expected) in [
            (framed(&[0x3a, 0]), "dapr.proto.runtime.v1.Dapr"),
            (symbol("dapr.proto.runtime.v1.Dapr"), "SubscribeTopicEventsAlpha1"),
            (symbol("google.protobuf.Any"), "google/protobuf/any.proto"),
        ] {
            let answer = bench.ask(&path, &[], request).await;
            assert_eq!(
                (answer.status().0, answer.messages.len()),
                (0, 1),
                "{version} {expected}"
            );
            let message = String::from_utf8_lossy(&answer.messages[0]).into_owned();
            assert!(message.contains(expected), "{version}: {message}");
        }
    }
}

#[tokio::test]
async fn what_is_noted() {
    let bench = Bench::new().await;
    let request = proto::GetStateRequest {
        store_name: "none".to_owned(),
        ..Default::default()
    };
    let size = request.encoded_len();
    bench
        .ask(GET_STATE, &[("user-agent", "shopper/1")], wire::frame(&request))
        .await;
    bench.ask(GET_METADATA, &[], framed(b"")).await;
    bench
        .ask(INVOKE, &[], Bytes::from_static(b"\0\0\0\0\x01\xff"))
        .await;
    let metrics = bench.metrics();
    for line in [
        format!(
            r#"dapr_grpc_io_server_completed_rpcs{{app_id="shop",grpc_server_method="{GET_STATE}",grpc_server_status="InvalidArgument"}} 1"#
        ),
        format!(
            r#"dapr_grpc_io_server_completed_rpcs{{app_id="shop",grpc_server_method="{GET_METADATA}",grpc_server_status="OK"}} 1"#
        ),
        format!(
            r#"dapr_grpc_io_server_completed_rpcs{{app_id="shop",grpc_server_method="{INVOKE}",grpc_server_status="Internal"}} 1"#
        ),
        format!(
            r#"dapr_grpc_io_server_received_bytes_per_rpc_sum{{app_id="shop",grpc_server_method="{GET_STATE}"}} {size}"#
        ),
        format!(
            r#"dapr_grpc_io_server_sent_bytes_per_rpc_sum{{app_id="shop",grpc_server_method="{GET_STATE}"}} 0"#
        ),
    ] {
        assert!(metrics.contains(&line), "{line}\n{metrics}");
    }
    let lines = bench.logged();
    let line = lines
        .lines()
        .find(|line| line.contains("gRPC API Called") && line.contains("GetState"))
        .expect("a line");
    for part in [
        "scope=dapr.runtime.grpc.api-info",
        "code=3",
        "duration=",
        "useragent=shopper/1",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    let line = lines.lines().find(|line| line.contains("GetMetadata")).unwrap();
    assert!(line.contains("code=0") && !line.contains("useragent"), "{line}");
}
