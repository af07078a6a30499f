//! What another sidecar sends: gRPC frames in pieces of any size, requests, answers and their payload streams.
//!
//! First byte: bit 0 whether the rest is the raw stream or a list of messages to be framed (each after its length, two
//! bytes); the other bits are the size of the pieces in which it arrives. What could be read is written and read again,
//! and must be the same.
#![no_main]

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use libfuzzer_sys::fuzz_target;
use outrigger_channel::body::{self, Body};
use outrigger_channel::call::{Call, Reply};
use outrigger_channel::wire::{self, Error, Frames, Payloads};
use outrigger_proto::dapr::common::v1::StreamPayload;
use prost::Message;
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

const LIMIT: usize = 1 << 20;

fuzz_target!(|input: &[u8]| {
    let Some((&choice, rest)) = input.split_first() else {
        return;
    };
    let stream = if choice & 1 == 0 {
        rest.to_vec()
    } else {
        framed(rest)
    };
    let size = usize::from(choice >> 1);
    status(rest);

    if let Ok((Some(head), body)) = now(read::<wire::RequestChunk>(&stream, size))
        && let Ok(call) = wire::call(head, body)
    {
        request(call);
    }
    if let Ok((Some(head), body)) = now(read::<wire::ResponseChunk>(&stream, size))
        && let Ok(reply) = wire::reply(head, body)
    {
        answer(reply);
    }
    // The unary forms, on the whole.
    if let Ok(head) = wire::Request::decode(rest)
        && let Ok(call) = wire::call(head, Body::Empty)
    {
        request(call);
    }
    if let Ok(head) = wire::Response::decode(rest)
        && let Ok(reply) = wire::reply(head, Body::Empty)
    {
        answer(reply);
    }
});

fn request(mut call: Call) {
    wire::strip_hop_by_hop(&mut call.headers);
    outrigger_channel::app::grpc::metadata_of(&call.headers);
    let before = (
        call.verb.clone(),
        call.method.clone(),
        call.query.clone(),
        call.type_url.clone(),
        sorted(&call.headers),
    );
    let head = wire::request_head(&mut call);
    let head = wire::Request::decode(head.encode_to_vec().as_slice()).expect("written by us");
    let again = wire::call(head, Body::Empty).expect("written by us");
    let after = (
        again.verb,
        again.method,
        again.query,
        again.type_url,
        sorted(&again.headers),
    );
    assert_eq!(before, after);
    let (Ok(_) | Err(_)) = now(call.body.collect(LIMIT));
}

fn answer(mut reply: Reply) {
    let before = (
        reply.type_url.clone(),
        sorted(&reply.headers),
        sorted(&reply.trailers),
    );
    let head = wire::reply_head(&mut reply);
    let head = wire::Response::decode(head.encode_to_vec().as_slice()).expect("written by us");
    let again = wire::reply(head, Body::Empty).expect("written by us");
    assert_eq!(reply.status, again.status);
    assert_eq!(
        before,
        (again.type_url, sorted(&again.headers), sorted(&again.trailers))
    );
    let (Ok(_) | Err(_)) = now(reply.body.collect(LIMIT));
}

/// Without the content type: of several, the first is taken.
fn sorted(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let mut fields: Vec<_> = headers
        .iter()
        .filter(|(name, _)| *name != CONTENT_TYPE)
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect();
    fields.sort();
    fields
}

/// The leading message of a stream, and the body it begins.
trait Leading: wire::Chunk + 'static {
    type Head;
    fn split(self) -> (Option<Self::Head>, Option<StreamPayload>);
}

impl Leading for wire::RequestChunk {
    type Head = wire::Request;
    fn split(self) -> (Option<Self::Head>, Option<StreamPayload>) {
        (self.request, self.payload)
    }
}

impl Leading for wire::ResponseChunk {
    type Head = wire::Response;
    fn split(self) -> (Option<Self::Head>, Option<StreamPayload>) {
        (self.response, self.payload)
    }
}

async fn read<C: Leading>(stream: &[u8], size: usize) -> Result<(Option<C::Head>, Body), Error> {
    let mut frames = Frames::new(Pieces::of(stream, size), LIMIT);
    let Some(first) = frames.message().await? else {
        return Ok((None, Body::Empty));
    };
    let (head, payload) = C::decode(first)?.split();
    let body = Payloads::<_, C>::body(payload, frames, |_| Ok(())).await?;
    Ok((head, body))
}

/// `grpc-status` and `grpc-message`: ours can be read again.
fn status(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    headers.insert("grpc-status", HeaderValue::from_static("3"));
    if let Ok(value) = HeaderValue::from_bytes(bytes) {
        headers.insert("grpc-message", value);
    }
    assert!(wire::grpc_status(&headers).is_some());
    let text = String::from_utf8_lossy(bytes);
    let trailers = wire::grpc_trailers(5, &text);
    assert_eq!(wire::grpc_status(&trailers), Some((5, text.into_owned())));
}

fn framed(mut list: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    while let Some((length, rest)) = list.split_first_chunk::<2>() {
        let (message, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
        list = rest;
        stream.push(0);
        stream.extend_from_slice(&u32::try_from(message.len()).expect("two bytes").to_be_bytes());
        stream.extend_from_slice(message);
    }
    stream
}

/// A body that arrives in pieces, with a wait before each.
struct Pieces {
    left: VecDeque<Bytes>,
    waits: bool,
}

impl Pieces {
    fn of(stream: &[u8], size: usize) -> Self {
        let whole = Bytes::copy_from_slice(stream);
        let size = if size == 0 { stream.len().max(1) } else { size };
        let left = (0..whole.len())
            .step_by(size)
            .map(|at| whole.slice(at..(at + size).min(whole.len())))
            .collect();
        Self { left, waits: false }
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = body::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, body::Error>>> {
        self.waits = !self.waits;
        if self.waits {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.left.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}

/// Runs a future that never waits for long.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut cx) {
            return value;
        }
    }
}
