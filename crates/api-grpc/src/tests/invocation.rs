//! `InvokeService`, and calls of other services passed on.

use super::bench::{Answer, Bench, LIMIT, Plan};
use super::fakes::text;
use super::requests::framed;
use bytes::Bytes;
use futures::StreamExt as _;
use http_body::Frame;
use outrigger_channel::body::{Body, Error};
use outrigger_channel::wire::{self, Frames};
use outrigger_proto::any::Any;
use outrigger_proto::dapr::common::v1::{HttpExtension, InvokeRequest};
use outrigger_proto::dapr::runtime::v1::InvokeServiceRequest;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tonic::Code;

fn invoke(id: &str, method: &str, verb: i32, type_url: &str) -> InvokeServiceRequest {
    InvokeServiceRequest {
        id: id.to_owned(),
        message: Some(InvokeRequest {
            method: method.to_owned(),
            data: Some(Any {
                type_url: type_url.to_owned(),
                value: Bytes::from_static(b"{\"a\":1}"),
            }),
            content_type: "application/json".to_owned(),
            http_extension: (verb != 0).then(|| HttpExtension {
                verb,
                querystring: "x=1".to_owned(),
            }),
        }),
    }
}

#[tokio::test]
async fn an_app_answers() {
    let Bench { client, .. } = &mut Bench::new().await;
    for (verb, type_url, content_type, seen) in [
        (1, "", "application/json", "GET echo?x=1"),
        (4, "", "application/json", "PUT echo?x=1"),
        (0, "", "application/json", "POST echo?"),
        (
            3,
            "type.googleapis.com/shop.Order",
            "application/x-protobuf",
            "POST echo?x=1",
        ),
    ] {
        let mut request = tonic::Request::new(invoke("shop", "echo", verb, type_url));
        request.metadata_mut().insert("x-mine", "1".parse().unwrap());
        let answer = client.invoke_service(request).await.unwrap();
        let field = |name| answer.metadata().get(name).map(|value| value.to_str().unwrap());
        let names = "content-type user-agent x-mine";
        assert_eq!(field("x-seen"), Some(format!("{seen} {names}").as_str()));
        assert_eq!(
            (field("dapr-http-status"), field("dapr-cache-control")),
            (Some("200"), Some("no-store"))
        );
        let message = answer.into_inner();
        let data = message.data.unwrap();
        assert_eq!(
            (&data.value[..], data.type_url.as_str()),
            (&b"{\"a\":1}"[..], type_url)
        );
        assert_eq!(message.content_type, content_type);
    }
}

#[tokio::test]
async fn failures_of_an_app() {
    let Bench { client, .. } = &mut Bench::new().await;
    let shown = "long ".repeat(20);
    for (id, method, code, message, http, detail) in [
        (
            "shop",
            "404",
            Code::NotFound,
            "Not Found",
            Some("404"),
            &shown[..63],
        ),
        (
            "shop",
            "400",
            Code::Internal,
            "Bad Request",
            Some("400"),
            "http.code\u{12}\u{3}400",
        ),
        (
            "shop",
            "413",
            Code::Unknown,
            "Request Entity Too Large",
            Some("413"),
            "dapr.io",
        ),
        (
            "shop",
            "302",
            Code::Unknown,
            "Found",
            Some("302"),
            "http.error_message",
        ),
        (
            "shop",
            "grpc",
            Code::NotFound,
            "no such thing",
            None,
            "shop.Why\u{12}\u{7}because",
        ),
        (
            "shop",
            "down",
            Code::Internal,
            "failed to invoke, id: shop, err: connection refused",
            None,
            "",
        ),
        (
            "shop",
            "a#b",
            Code::Internal,
            "failed to invoke, id: shop, err: rpc error: code = InvalidArgument",
            None,
            "",
        ),
        (
            "other",
            "x",
            Code::Internal,
            "failed to invoke, id: other, err: couldn't find service: other",
            None,
            "",
        ),
    ] {
        let status = client
            .invoke_service(invoke(id, method, 1, ""))
            .await
            .unwrap_err();
        assert_eq!(status.code(), code, "{method}: {status:?}");
        assert!(status.message().starts_with(message), "{method}: {status:?}");
        let details = String::from_utf8_lossy(status.details()).into_owned();
        assert!(
            details.contains(detail) && !details.contains(&shown[..64]),
            "{method}: {details}"
        );
        assert_eq!(
            status
                .metadata()
                .get("dapr-http-status")
                .map(|value| value.to_str().unwrap()),
            http,
            "{method}"
        );
        let last = status.metadata().get("x-last").is_some();
        assert_eq!(last, method == "grpc");
    }
    let status = client
        .invoke_service(invoke("shop", "echo", 6, ""))
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::InvalidArgument, "invalid HTTP verb")
    );
}

#[tokio::test]
async fn other_services_are_passed_on() {
    let bench = Bench::with(Plan {
        token: "secret",
        ..Plan::default()
    })
    .await;
    let token = ("dapr-api-token", "secret");
    let messages = [framed(b"one"), framed(b""), framed(&[7; 60_000])].concat();
    let fields = [
        token,
        ("dapr-app-id", "shop"),
        ("te", "trailers"),
        ("x-mine-bin", "AQI"),
    ];
    let answer = bench
        .ask("/shop.Orders/Stream", &fields, Bytes::from(messages))
        .await;
    assert_eq!(answer.status(), (0, String::new()));
    let lengths: Vec<usize> = answer.messages.iter().map(Bytes::len).collect();
    assert_eq!(lengths, [3, 0, 60_000]);
    assert_eq!(text(&answer.trailers, "x-after"), Some("all"));
    assert_eq!(
        text(&answer.headers, "content-type"),
        Some("application/grpc+proto")
    );
    assert_eq!(
        text(&answer.headers, "x-names"),
        Some("content-length content-type dapr-app-id te x-mine-bin")
    );

    let answer = bench
        .ask(
            "/shop.Orders/Fail",
            &[token, ("dapr-callee-app-id", "shop"), ("dapr-app-id", "no")],
            Bytes::new(),
        )
        .await;
    assert_eq!(answer.status(), (9, "not today".to_owned()));

    let metrics = bench.metrics();
    for line in [
        r#"dapr_grpc_io_server_completed_rpcs{app_id="shop",grpc_server_method="/shop.Orders/Stream",grpc_server_status="OK"} 1"#,
        r#"dapr_grpc_io_server_completed_rpcs{app_id="shop",grpc_server_method="/shop.Orders/Fail",grpc_server_status="FailedPrecondition"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    assert!(
        bench.logged().contains("method=/shop.Orders/Stream")
            || bench.logged().contains("method=\"/shop.Orders/Stream\"")
    );
}

#[tokio::test]
async fn calls_that_cannot_be_passed_on() {
    let bench = Bench::new().await;
    let missing = "failed to proxy request: required metadata dapr-callee-app-id or dapr-app-id not found";
    for (fields, code, message) in [
        (&[][..], 2, missing),
        (&[("dapr-app-id", "other")], 3, "couldn't find service: other"),
        (&[("dapr-app-id", "a.b.c")], 3, "invalid app id a.b.c"),
        (&[("dapr-app-id", "")], 3, "app id is empty"),
    ] {
        let answer: Answer = bench.ask("/shop.Orders/Stream", fields, framed(b"one")).await;
        let (found, text) = answer.status();
        assert!(
            found == code && text.starts_with(message),
            "{fields:?}: {found} {text}"
        );
    }
    let answer = bench
        .ask("/TaskHubSidecarService/GetWorkItems", &[], framed(b""))
        .await;
    assert_eq!(answer.status().0, 12);
    assert!(
        answer
            .status()
            .1
            .contains("TaskHubSidecarService/GetWorkItems is not available in this version")
    );
}

#[tokio::test]
async fn messages_passed_on_are_bounded() {
    let bench = Bench::new().await;
    let fields = [("dapr-app-id", "shop")];
    let large = LIMIT + 1;
    let refused = (
        8,
        format!("grpc: received message larger than max ({large} vs. {LIMIT})"),
    );
    let message = framed(&vec![7; large]);
    assert_eq!(
        bench
            .ask("/shop.Orders/Stream", &fields, message.clone())
            .await
            .status(),
        refused
    );
    // Behind one that is not too large, and while the answer is under way.
    let answer = bench
        .ask(
            "/shop.Orders/Stream",
            &fields,
            Bytes::from([framed(b"one"), message].concat()),
        )
        .await;
    assert_eq!(answer.status(), refused);
    let answer = bench.ask("/shop.Orders/Large", &fields, framed(b"")).await;
    assert_eq!(answer.status(), refused);
    let (write, written) = mpsc::channel(1);
    let answer = bench
        .send("/shop.Orders/Stream", &fields, Body::stream(Written(written)))
        .await;
    let mut frames = Frames::new(answer.into_body(), usize::MAX);
    write.send(framed(b"one")).await.unwrap();
    assert_eq!(frames.message().await.unwrap().unwrap(), "one");
    write.send(framed(&vec![7; large])).await.unwrap();
    assert!(frames.message().await.unwrap().is_none());
    assert_eq!(wire::grpc_status(frames.trailers().unwrap()), Some(refused));
}

/// A request body that is written while the answer is read.
pub(super) struct Written(pub(super) mpsc::Receiver<Bytes>);

impl http_body::Body for Written {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.get_mut()
            .0
            .poll_recv(cx)
            .map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

#[tokio::test]
async fn both_directions_stream_at_once() {
    let bench = Bench::new().await;
    let (write, written) = mpsc::channel(1);
    let answer = bench
        .send(
            "/shop.Orders/Stream",
            &[("dapr-app-id", "shop")],
            Body::stream(Written(written)),
        )
        .await;
    let mut frames = Frames::new(answer.into_body(), usize::MAX);
    let mut numbers = futures::stream::iter(0..50_u8);
    while let Some(number) = numbers.next().await {
        write.send(framed(&[number])).await.unwrap();
        assert_eq!(frames.message().await.unwrap().unwrap(), [number][..]);
    }
    drop(write);
    assert!(frames.message().await.unwrap().is_none());
    assert_eq!(text(frames.trailers().unwrap(), "grpc-status"), Some("0"));
}

/// An app that dies in the middle of an answer. What it had said may be lost with it.
#[tokio::test]
async fn a_stream_that_breaks_off_ends_with_a_status() {
    let bench = Bench::new().await;
    let fields = [("dapr-app-id", "shop")];
    let answer = bench.ask("/shop.Orders/Break", &fields, framed(b"hi")).await;
    let (code, text) = answer.status();
    assert_eq!(code, 14);
    // The second when not even the head of the answer has come.
    let known = ["error reading from server: ", "cannot reach "];
    assert!(known.iter().any(|start| text.starts_with(start)), "{text}");
}

/// A call that is passed on keeps its place until its answer has ended or is given up.
#[tokio::test]
async fn calls_beyond_the_limit_are_refused() {
    let bench = Bench::with(Plan {
        most: Some(1),
        ..Plan::default()
    })
    .await;
    let fields = [("dapr-app-id", "shop")];
    let waiting = bench.send("/shop.Orders/Wait", &fields, framed(b"hi")).await;
    for path in ["/shop.Orders/Stream", "/dapr.proto.runtime.v1.Dapr/GetState"] {
        let (code, text) = bench.ask(path, &fields, framed(b"")).await.status();
        assert_eq!(code, 14, "{path}: {text}");
        assert!(text.starts_with("too many requests at once"), "{path}: {text}");
    }
    let alive = bench
        .ask("/dapr.proto.runtime.v1.Dapr/GetMetadata", &[], framed(b""))
        .await;
    assert_eq!(alive.status().0, 0, "metadata is no work");
    drop(waiting);
    let free = async {
        while bench
            .ask("/shop.Orders/Stream", &fields, framed(b"hi"))
            .await
            .status()
            .0
            != 0
        {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), free)
        .await
        .expect("the place is given back");
}
