//! The internal sidecar-to-sidecar protocol as bytes: gRPC framing, and the mapping between
//! [`Call`](crate::call::Call)/[`Reply`](crate::call::Reply) and the protocol's messages. Used by the caller ([`peer`](crate::peer)) and by the
//! internal server alike, so the two can not drift apart.
//!
//! A body that is at hand travels whole in the first message; a stream travels in one message per piece,
//! numbered from 0. Source: gRPC over HTTP/2 (PROTOCOL-HTTP2.md);
//! COMPAT(pkg/messaging/direct_messaging.go, pkg/messaging/v1/util.go).

mod head;
mod message;

pub use head::{call, reply, reply_head, request_head, verb_of};
pub(crate) use head::{set_content_type, verb_number};
pub use message::{Fields, Request, RequestChunk, Response, ResponseChunk};

use crate::body::{self, Body};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use http_body::{Body as HttpBody, Frame};
use outrigger_proto::dapr::common::v1 as common;
use prost::Message;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

pub const CALL_LOCAL: &str = "/dapr.proto.internals.v1.ServiceInvocation/CallLocal";
pub const CALL_LOCAL_STREAM: &str = "/dapr.proto.internals.v1.ServiceInvocation/CallLocalStream";

/// Set by the calling sidecar; never taken from a user's request.
pub const CALLER_APP_ID: &str = "dapr-caller-app-id";
pub const CALLER_NAMESPACE: &str = "dapr-caller-namespace";
pub const CALLEE_APP_ID: &str = "dapr-callee-app-id";
pub const DESTINATION_APP_ID: &str = "destination-app-id";

/// Most header fields that one message may have. A [`HeaderMap`] panics when it is to hold some 25000, and a message
/// of a few hundred kilobytes has room for more than that.
pub(crate) const MOST_FIELDS: usize = 4096;

/// Length of a gRPC message header: one byte of flags, four bytes of length.
pub const PREFIX: usize = 5;

/// What broke the protocol.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("grpc: received message larger than max ({got} vs. {limit})")]
    TooLarge { got: usize, limit: usize },
    #[error("compressed message received, but no compression was offered")]
    Compressed,
    #[error("message is cut off: {0} bytes left")]
    Truncated(usize),
    #[error("message cannot be decoded: {0}")]
    Decode(#[from] prost::DecodeError),
    #[error("message has more than {MOST_FIELDS} header fields")]
    TooManyFields,
    #[error("invalid sequence number received: {got} (expected: {expected})")]
    Sequence { got: u64, expected: u64 },
    #[error("{0}")]
    Protocol(&'static str),
    #[error("{0}")]
    Body(#[from] body::Error),
}

/// Encodes one message with its gRPC prefix.
pub fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut out = BytesMut::with_capacity(PREFIX + length);
    out.put_u8(0);
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    message.encode(&mut out).expect("BytesMut grows as needed");
    out.freeze()
}

/// Cuts gRPC messages out of an HTTP/2 body. A message that arrives in one piece is not copied.
pub struct Frames<B> {
    body: B,
    held: BytesMut,
    piece: Bytes,
    limit: usize,
    trailers: Option<HeaderMap>,
    ended: bool,
}

impl<B> Frames<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<body::Error>,
{
    /// `limit` is the largest message, in bytes.
    pub fn new(body: B, limit: usize) -> Self {
        Self {
            body,
            held: BytesMut::new(),
            piece: Bytes::new(),
            limit,
            trailers: None,
            ended: false,
        }
    }

    /// Trailers, once the body has ended.
    pub fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_ref()
    }

    /// The next message without its prefix; `None` at the end.
    pub fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        loop {
            if let Some(message) = self.cut()? {
                return Poll::Ready(Ok(Some(message)));
            }
            if self.ended {
                let left = self.held.len() + self.piece.len();
                return Poll::Ready(if left == 0 {
                    Ok(None)
                } else {
                    Err(Error::Truncated(left))
                });
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => self.ended = true,
                Some(Err(error)) => return Poll::Ready(Err(Error::Body(error.into()))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if self.held.is_empty() && self.piece.is_empty() => self.piece = data,
                    Ok(data) => {
                        self.held.extend_from_slice(&self.piece);
                        self.piece.clear();
                        self.held.extend_from_slice(&data);
                    }
                    Err(frame) => {
                        self.trailers = frame.into_trailers().ok();
                        self.ended = true;
                    }
                },
            }
        }
    }

    pub async fn message(&mut self) -> Result<Option<Bytes>, Error> {
        std::future::poll_fn(|cx| self.poll_message(cx)).await
    }

    fn cut(&mut self) -> Result<Option<Bytes>, Error> {
        let whole = if self.held.is_empty() {
            &self.piece[..]
        } else {
            &self.held[..]
        };
        let Some((&[flags, a, b, c, d], rest)) = whole.split_first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length > self.limit {
            return Err(Error::TooLarge {
                got: length,
                limit: self.limit,
            });
        }
        if flags != 0 {
            return Err(Error::Compressed);
        }
        if rest.len() < length {
            return Ok(None);
        }
        Ok(Some(if self.held.is_empty() {
            self.piece.advance(PREFIX);
            self.piece.split_to(length)
        } else {
            self.held.advance(PREFIX);
            self.held.split_to(length).freeze()
        }))
    }
}

/// Which half of the protocol a payload stream belongs to; they differ only in the message around it.
pub trait Chunk: Message + Default {
    /// Takes the payload; an error if the message repeats what belongs into the leading one.
    fn payload(self) -> Result<Option<common::StreamPayload>, Error>;
    fn of(payload: common::StreamPayload) -> Self;
}

impl Chunk for RequestChunk {
    fn payload(self) -> Result<Option<common::StreamPayload>, Error> {
        match self.request {
            Some(head) if head.leads() => Err(Error::Protocol("request metadata found in non-leading chunk")),
            _ => Ok(self.payload),
        }
    }

    fn of(payload: common::StreamPayload) -> Self {
        Self {
            request: None,
            payload: Some(payload),
        }
    }
}

impl Chunk for ResponseChunk {
    fn payload(self) -> Result<Option<common::StreamPayload>, Error> {
        match self.response {
            Some(head) if head.leads() => {
                Err(Error::Protocol("response metadata found in non-leading chunk"))
            }
            _ => Ok(self.payload),
        }
    }

    fn of(payload: common::StreamPayload) -> Self {
        Self {
            response: None,
            payload: Some(payload),
        }
    }
}

/// A payload stream as a body: what is left after the leading message.
pub struct Payloads<B, C> {
    first: Option<Bytes>,
    expected: u64,
    frames: Frames<B>,
    kind: std::marker::PhantomData<fn() -> C>,
}

impl<B, C> Payloads<B, C>
where
    B: HttpBody<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<body::Error>,
    C: Chunk + 'static,
{
    /// The body that begins with the leading message's payload. When the end has already arrived, the result
    /// is plain bytes. `check` judges the trailers at the end (the caller's side looks at `grpc-status`).
    pub async fn body(
        first: Option<common::StreamPayload>,
        frames: Frames<B>,
        check: fn(Option<&HeaderMap>) -> Result<(), body::Error>,
    ) -> Result<Body, Error> {
        let mut this = Self {
            first: None,
            expected: 0,
            frames,
            kind: std::marker::PhantomData,
        };
        if let Some(payload) = first {
            this.first = this.accept(payload)?;
        }
        // One look without waiting: a short message and its end usually arrive together.
        let next = std::future::poll_fn(|cx| {
            Poll::Ready(match this.frames.poll_message(cx) {
                Poll::Ready(next) => Some(next),
                Poll::Pending => None,
            })
        })
        .await;
        match next {
            Some(Ok(None)) => {
                check(this.frames.trailers())?;
                Ok(this.first.map_or(Body::Empty, Body::from))
            }
            Some(Ok(Some(message))) => {
                let second = match C::decode(message)?.payload()? {
                    Some(payload) => this.accept(payload)?,
                    None => None,
                };
                Ok(Body::stream(Checked {
                    second,
                    inner: this,
                    check,
                }))
            }
            Some(Err(error)) => Err(error),
            None => Ok(Body::stream(Checked {
                second: None,
                inner: this,
                check,
            })),
        }
    }

    fn accept(&mut self, payload: common::StreamPayload) -> Result<Option<Bytes>, Error> {
        if payload.seq != self.expected {
            return Err(Error::Sequence {
                got: payload.seq,
                expected: self.expected,
            });
        }
        self.expected += 1;
        Ok((!payload.data.is_empty()).then_some(payload.data))
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        loop {
            let message = match ready!(self.frames.poll_message(cx)) {
                Ok(Some(message)) => message,
                Ok(None) => return Poll::Ready(None),
                Err(error) => return Poll::Ready(Some(Err(error))),
            };
            let piece = C::decode(message)
                .map_err(Error::from)
                .and_then(C::payload)
                .and_then(|payload| payload.map_or(Ok(None), |payload| self.accept(payload)));
            match piece {
                Ok(Some(data)) => return Poll::Ready(Some(Ok(data))),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }
}

struct Checked<B, C> {
    second: Option<Bytes>,
    inner: Payloads<B, C>,
    check: fn(Option<&HeaderMap>) -> Result<(), body::Error>,
}

impl<B, C> HttpBody for Checked<B, C>
where
    B: HttpBody<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<body::Error>,
    C: Chunk + 'static,
{
    type Data = Bytes;
    type Error = body::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, body::Error>>> {
        let this = self.get_mut();
        if let Some(data) = this.inner.first.take().or_else(|| this.second.take()) {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        Poll::Ready(match ready!(this.inner.poll_piece(cx)) {
            Some(Ok(data)) => Some(Ok(Frame::data(data))),
            Some(Err(error)) => Some(Err(error.into())),
            None => (this.check)(this.inner.frames.trailers()).err().map(Err),
        })
    }
}

/// A body as the rest of a payload stream, ended by `trailers` when there are any.
pub struct Pieces<C> {
    body: Body,
    sequence: u64,
    /// The leading message, already framed.
    head: Option<Bytes>,
    trailers: Option<HeaderMap>,
    /// Turns a failure in the middle into trailers (server) or into a reset (client).
    failed: fn(body::Error) -> Result<HeaderMap, body::Error>,
    kind: std::marker::PhantomData<fn() -> C>,
}

impl<C: Chunk + 'static> Pieces<C> {
    /// `head` is the leading message; `sequence` the number of the next payload.
    pub fn new(
        head: Bytes,
        body: Body,
        sequence: u64,
        trailers: Option<HeaderMap>,
        failed: fn(body::Error) -> Result<HeaderMap, body::Error>,
    ) -> Self {
        Self {
            body,
            sequence,
            head: Some(head),
            trailers,
            failed,
            kind: std::marker::PhantomData,
        }
    }
}

impl<C: Chunk + 'static> HttpBody for Pieces<C> {
    type Data = Bytes;
    type Error = body::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, body::Error>>> {
        let this = self.get_mut();
        if let Some(head) = this.head.take() {
            return Poll::Ready(Some(Ok(Frame::data(head))));
        }
        loop {
            return Poll::Ready(match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() => continue,
                    Ok(data) => {
                        let payload = common::StreamPayload {
                            data,
                            seq: this.sequence,
                        };
                        this.sequence += 1;
                        Some(Ok(Frame::data(crate::wire::frame(&C::of(payload)))))
                    }
                    Err(_trailers) => continue,
                },
                Some(Err(error)) => {
                    this.body = Body::Empty;
                    this.trailers = None;
                    Some((this.failed)(error).map(Frame::trailers))
                }
                None => this.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))),
            });
        }
    }

    fn is_end_stream(&self) -> bool {
        self.head.is_none() && self.trailers.is_none() && self.body.is_end_stream()
    }
}

/// Hop-by-hop fields, which a proxy must not pass on. Source: RFC 9110 section 7.6.1.
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
            | "te"
            | "trailer"
            | "proxy-authorization"
            | "proxy-authenticate"
    )
}

/// Removes hop-by-hop fields and those that `Connection` nominates.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if let Some(nominated) = headers.remove(http::header::CONNECTION)
        && let Ok(nominated) = nominated.to_str()
    {
        for name in nominated.split(',') {
            headers.remove(name.trim());
        }
    }
    for name in [
        "keep-alive",
        "proxy-connection",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
        "te",
        "trailer",
        "proxy-authorization",
        "proxy-authenticate",
    ] {
        headers.remove(name);
    }
}

/// Reads `grpc-status` and `grpc-message` of an answer; `None` while there is no status.
pub fn grpc_status(headers: &HeaderMap) -> Option<(i32, String)> {
    let code = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    let message = headers
        .get("grpc-message")
        .map(HeaderValue::as_bytes)
        .unwrap_or_default();
    Some((code, percent_decode(message)))
}

fn percent_decode(text: &[u8]) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        let decoded = (byte == b'%')
            .then(|| {
                // Not `from_str_radix`, which takes a sign.
                let (&[high, low], _) = tail.split_first_chunk::<2>()?;
                let digit = |byte: u8| char::from(byte).to_digit(16);
                u8::try_from(digit(high)? * 16 + digit(low)?).ok()
            })
            .flatten();
        match decoded {
            Some(decoded) => {
                out.push(decoded);
                rest = &tail[2..];
            }
            None => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Trailers (or a trailers-only head) with a gRPC status; the message is percent-encoded as gRPC asks.
pub fn grpc_trailers(code: i32, message: &str) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    let status = match code {
        0 => HeaderValue::from_static("0"),
        code => HeaderValue::from(code),
    };
    trailers.insert(HeaderName::from_static("grpc-status"), status);
    if !message.is_empty() {
        let mut encoded = String::with_capacity(message.len());
        for byte in message.bytes() {
            match byte {
                b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
                _ => encoded.push_str(&format!("%{byte:02X}")),
            }
        }
        if let Ok(value) = HeaderValue::try_from(encoded) {
            trailers.insert("grpc-message", value);
        }
    }
    trailers
}

#[cfg(test)]
mod tests;
