use super::{
    Frames, Payloads, Pieces, RequestChunk, ResponseChunk, call, frame, grpc_status, grpc_trailers, reply,
    reply_head, request_head,
};
use crate::body::{self, Body};
use crate::call::{Call, Reply, Status};
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame};
use outrigger_proto::dapr::common::v1::StreamPayload;
use prost::Message as _;
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A body that arrives in the given pieces, then optionally trailers.
struct Script {
    pieces: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
}

impl HttpBody for Script {
    type Data = Bytes;
    type Error = body::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, body::Error>>> {
        if let Some(piece) = self.pieces.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }
}

fn script(pieces: &[&[u8]]) -> Script {
    Script {
        pieces: pieces.iter().map(|piece| Bytes::copy_from_slice(piece)).collect(),
        trailers: None,
    }
}

/// One message "abc" and one empty one, as gRPC frames.
const TWO: &[u8] = b"\0\0\0\0\x03abc\0\0\0\0\0";

#[tokio::test]
async fn messages_are_cut_the_same_however_they_arrive() {
    for split in 0..TWO.len() {
        let (left, right) = TWO.split_at(split);
        let mut frames = Frames::new(script(&[left, right]), 100);
        assert_eq!(
            frames.message().await.expect("first"),
            Some(Bytes::from_static(b"abc")),
            "split at {split}"
        );
        assert_eq!(frames.message().await.expect("second"), Some(Bytes::new()));
        assert_eq!(frames.message().await.expect("end"), None);
    }
}

#[tokio::test]
async fn broken_frames_are_refused() {
    for (bytes, expected) in [
        (&b"\0\0\0\0\x09abc"[..], "message is cut off: 8 bytes left"),
        (&b"\0\0"[..], "message is cut off: 2 bytes left"),
        (
            &b"\0\xff\xff\xff\xff"[..],
            "grpc: received message larger than max (4294967295 vs. 10)",
        ),
        (
            &b"\x01\0\0\0\x01a"[..],
            "compressed message received, but no compression was offered",
        ),
    ] {
        let error = Frames::new(script(&[bytes]), 10)
            .message()
            .await
            .expect_err("must fail");
        assert_eq!(error.to_string(), expected);
    }
}

fn sample_call(body: Body) -> Call {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "application/json".parse().expect("value"));
    headers.append("x-many", "1".parse().expect("value"));
    headers.append("x-many", "2".parse().expect("value"));
    Call {
        verb: http::Method::PUT,
        method: "orders/1".into(),
        query: "a=b%20c".into(),
        headers,
        body,
        ..Default::default()
    }
}

#[test]
fn a_call_survives_the_wire() {
    let head = request_head(&mut sample_call(Body::Empty));
    assert!(
        head.metadata.canonical,
        "HTTP callers are marked by Go's header form"
    );
    let back = call(head, Body::Empty).expect("call");
    let given = sample_call(Body::Empty);
    assert_eq!(
        (back.verb, back.method, back.query),
        (given.verb, given.method, given.query)
    );
    assert_eq!(back.headers, given.headers);
}

#[test]
fn a_reply_survives_the_wire() {
    for status in [
        Status::Http(404),
        Status::Grpc {
            code: 5,
            message: "no".into(),
            details: Vec::new(),
        },
    ] {
        let mut given = Reply::http(200, Bytes::new());
        given.status = status;
        given.headers.insert("x-a", "b".parse().expect("value"));
        let headers = given.headers.clone();
        let back = reply(reply_head(&mut given), Body::Empty).expect("reply");
        assert_eq!((back.status, back.headers), (given.status, headers));
    }
}

/// Sends a body of the given pieces through both halves of the protocol.
async fn through(pieces: &[&[u8]]) -> Result<Bytes, body::Error> {
    let head = RequestChunk::default();
    let body = Body::stream(script(pieces));
    let mut sent = Pieces::<RequestChunk>::new(frame(&head), body, 0, None, Err);
    let mut wire = Vec::new();
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut sent).poll_frame(cx)).await {
        wire.push(frame?.into_data().expect("data"));
    }
    let mut frames = Frames::new(
        Script {
            pieces: wire.into(),
            trailers: None,
        },
        1 << 20,
    );
    let first = frames.message().await?.expect("head");
    let first = RequestChunk::decode(first)?;
    Payloads::<_, RequestChunk>::body(first.payload, frames, |_| Ok(()))
        .await?
        .collect(1 << 20)
        .await
}

#[tokio::test]
async fn bodies_survive_the_wire() {
    for pieces in [&[][..], &[&b"one"[..]][..], &[&b"one"[..], b"", b"two"][..]] {
        assert_eq!(through(pieces).await.expect("body"), Bytes::from(pieces.concat()));
    }
}

#[tokio::test]
async fn payloads_out_of_order_are_refused() {
    let payload = |seq| ResponseChunk {
        response: None,
        payload: Some(StreamPayload {
            data: Bytes::from_static(b"x"),
            seq,
        }),
    };
    let wire = [frame(&payload(1)), frame(&payload(3))];
    let frames = Frames::new(
        Script {
            pieces: wire.into(),
            trailers: None,
        },
        100,
    );
    let first = Some(StreamPayload {
        data: Bytes::from_static(b"x"),
        seq: 0,
    });
    let body = Payloads::<_, ResponseChunk>::body(first, frames, |_| Ok(()))
        .await
        .expect("head");
    let error = body.collect(100).await.expect_err("gap");
    assert_eq!(
        error.to_string(),
        "invalid sequence number received: 3 (expected: 2)"
    );
}

#[test]
fn status_text_is_percent_encoded() {
    for text in ["plain", "100 %", "zwölf\n", ""] {
        assert_eq!(
            grpc_status(&grpc_trailers(13, text)),
            Some((13, text.to_owned())),
            "{text}"
        );
    }
}

#[test]
fn what_is_no_escape_stays() {
    for (sent, expected) in [
        ("%41%c3%a9", "Aé"),
        ("100%", "100%"),
        ("%4", "%4"),
        ("%zz", "%zz"),
        ("%+1", "%+1"),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-status", "2".parse().expect("value"));
        headers.insert("grpc-message", sent.parse().expect("value"));
        assert_eq!(grpc_status(&headers), Some((2, expected.to_owned())), "{sent}");
    }
}
