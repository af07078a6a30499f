//! The door for other sidecars, called as they call it, and otherwise.

use super::bench::{Bench, LIMIT};
use super::fakes::text;
use super::invocation::Written;
use super::requests::framed;
use bytes::Bytes;
use outrigger_channel::body::Body;
use outrigger_channel::call::{Call, Reply, Status};
use outrigger_channel::error::Error;
use outrigger_channel::peer::PeerChannel as _;
use outrigger_channel::wire;
use outrigger_component::resolver::{Endpoint, Target};
use outrigger_proto::any::Any;
use outrigger_proto::dapr::common::v1::{HttpExtension, InvokeRequest, StreamPayload};
use outrigger_proto::dapr::internals::v1::{
    ApiVersion, InternalInvokeRequest, InternalInvokeRequestStream, InternalInvokeResponse,
};
use prost::Message;
use tokio::sync::mpsc;

async fn invoke(bench: &Bench, method: &str, body: Body) -> Result<Reply, Error> {
    let call = Call {
        verb: http::Method::PUT,
        method: method.to_owned(),
        query: "x=1".to_owned(),
        body,
        ..Call::default()
    };
    let target = Target {
        app_id: "shop".to_owned(),
        namespace: "default".to_owned(),
    };
    bench
        .peers
        .invoke(&Endpoint(bench.internal.clone()), &target, call, None)
        .await
}

#[tokio::test]
async fn calls_of_peers() {
    let bench = Bench::new().await;
    let reply = invoke(&bench, "echo", Bytes::from_static(b"hello").into())
        .await
        .unwrap();
    assert_eq!(reply.status, Status::Http(200));
    let seen = text(&reply.headers, "x-seen").unwrap();
    assert!(
        seen.starts_with("PUT echo?x=1 ") && seen.contains("dapr-caller-app-id"),
        "{seen}"
    );
    assert_eq!(reply.body.collect(LIMIT).await.unwrap(), "hello");

    // A body of just the largest size passes, headers and all.
    let most = Bytes::from(vec![7; LIMIT]);
    let reply = invoke(&bench, "echo", most.clone().into()).await.unwrap();
    assert_eq!(reply.body.collect(LIMIT).await.unwrap(), most);

    // A stream is longer than any limit, and comes back while it is sent.
    let (write, written) = mpsc::channel(1);
    let reply = invoke(&bench, "echo", Body::stream(Written(written)))
        .await
        .unwrap();
    let mut body = reply.body;
    for number in 0..20_u8 {
        let piece = Bytes::from(vec![number; LIMIT / 4]);
        write.send(piece.clone()).await.unwrap();
        let mut back = Vec::new();
        while back.len() < piece.len() {
            let frame =
                std::future::poll_fn(|cx| http_body::Body::poll_frame(std::pin::Pin::new(&mut body), cx))
                    .await;
            back.extend_from_slice(&frame.unwrap().unwrap().into_data().unwrap());
        }
        assert_eq!(back, piece);
    }
    drop(write);
    assert!(body.collect(0).await.unwrap().is_empty());

    for (method, expected) in [
        ("404", "Ok(Http(404))"),
        ("grpc", "Ok(Grpc { code: 5"),
        (
            "down",
            "Err(Status { code: 13, message: \"error invoking app channel: connection refused\"",
        ),
        ("a#b", "Err(Status { code: 3, message: \"invalid method"),
    ] {
        let outcome = invoke(&bench, method, Body::Empty)
            .await
            .map(|reply| reply.status);
        assert!(
            format!("{outcome:?}").starts_with(expected),
            "{method}: {outcome:?}"
        );
    }
}

fn request(method: &str, data: &'static [u8]) -> InternalInvokeRequest {
    InternalInvokeRequest {
        ver: ApiVersion::V1.into(),
        message: Some(InvokeRequest {
            method: method.to_owned(),
            data: Some(Any {
                type_url: String::new(),
                value: Bytes::from_static(data),
            }),
            http_extension: Some(HttpExtension {
                verb: 3,
                querystring: String::new(),
            }),
            ..InvokeRequest::default()
        }),
        ..InternalInvokeRequest::default()
    }
}

#[tokio::test]
async fn the_unary_form() {
    let bench = Bench::new().await;
    let answer = bench
        .ask_internal(wire::CALL_LOCAL, &[], wire::frame(&request("echo", b"hello")))
        .await;
    assert_eq!((answer.status().0, answer.messages.len()), (0, 1));
    let reply = InternalInvokeResponse::decode(answer.messages[0].clone()).unwrap();
    assert_eq!(reply.status.unwrap().code, 200);
    assert_eq!(reply.message.unwrap().data.unwrap().value, "hello");
}

#[tokio::test]
async fn what_peers_may_not() {
    let bench = Bench::new().await;
    let fields = [("dapr-callee-app-id", "other")];
    let (code, text) = bench
        .ask_internal("/shop.Orders/Stream", &fields, framed(b"one"))
        .await
        .status();
    assert_eq!(
        (code, text.as_str()),
        (5, "app other is not behind this sidecar (shop)")
    );
    let answer = bench
        .ask_internal(
            "/shop.Orders/Stream",
            &[("dapr-callee-app-id", "shop")],
            framed(b"one"),
        )
        .await;
    assert_eq!((answer.status().0, &answer.messages[0][..]), (0, &b"one"[..]));
    let (code, text) = bench
        .ask_internal(
            "/dapr.proto.internals.v1.ServiceInvocation/CallActor",
            &[],
            framed(b""),
        )
        .await
        .status();
    assert_eq!(code, 12);
    assert!(
        text.contains("CallActor is not available in this version"),
        "{text}"
    );
}

#[tokio::test]
async fn broken_messages() {
    let bench = Bench::new().await;
    let head = InternalInvokeRequestStream {
        request: Some(request("echo", b"")),
        payload: None,
    };
    let payload = |seq| {
        let payload = StreamPayload {
            data: Bytes::from_static(b"x"),
            seq,
        };
        wire::frame(&InternalInvokeRequestStream {
            request: None,
            payload: Some(payload),
        })
    };
    let head = wire::frame(&head);
    let broken = [
        ("nothing", Bytes::new()),
        ("half a prefix", Bytes::from_static(b"\0\0")),
        ("cut off", head.slice(..head.len() - 1)),
        ("a huge promise", Bytes::from_static(b"\0\xff\xff\xff\xff")),
        ("compressed", Bytes::from_static(b"\x01\0\0\0\0")),
        ("no protobuf", framed(b"\xff\xff\xff")),
        ("no head", payload(0)),
        ("an empty head", framed(b"\x0a\0")),
        ("a number left out", [head.clone(), payload(1)].concat().into()),
        (
            "a number twice",
            [head.clone(), payload(0), payload(0)].concat().into(),
        ),
        ("a second head", [head.clone(), head.clone()].concat().into()),
    ];
    for path in [wire::CALL_LOCAL, wire::CALL_LOCAL_STREAM] {
        for (what, body) in &broken {
            let answer = bench.ask_internal(path, &[], body.clone()).await;
            let (code, text) = answer.status();
            let ignored = path == wire::CALL_LOCAL && body.starts_with(&head);
            assert!(
                ignored || (code != 0 && !text.is_empty()),
                "{path}, {what}: {code} {text}"
            );
        }
    }
    let sound = bench
        .ask_internal(
            wire::CALL_LOCAL_STREAM,
            &[],
            Bytes::from([head, payload(0)].concat()),
        )
        .await;
    assert_eq!(sound.status().0, 0);
}
