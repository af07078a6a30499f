//! One message in, one message out.
//!
//! The request is read to its end before the use case begins: a call that is cut off changes nothing.

use crate::error::{Failure, Status, code};
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame};
use outrigger_channel::body::{Body, Error};
use outrigger_channel::wire::{self, Frames};
use prost::Message;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// A call as it came in.
pub(crate) struct Inbound {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    /// Largest message in either direction, in bytes.
    pub(crate) limit: usize,
}

/// A call's only message.
pub(crate) struct Request<M> {
    pub(crate) message: M,
    /// Encoded, in bytes.
    pub(crate) size: usize,
}

/// How a call ended, well or not.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) headers: HeaderMap,
    /// With its prefix; `None` when the call failed.
    pub(crate) message: Option<Bytes>,
    pub(crate) trailers: HeaderMap,
}

impl Answer {
    pub(crate) fn failed(status: &Status) -> Self {
        Self {
            headers: HeaderMap::new(),
            message: None,
            trailers: status.trailers(),
        }
    }
}

/// Reads the message of a unary call.
pub(crate) async fn read<M: Message + Default>(body: Body, limit: usize) -> Result<Request<M>, Status> {
    let mut frames = Frames::new(body, limit);
    let first = frames.message().await?;
    let first = first.ok_or_else(|| Status::new(code::INTERNAL, "the call has no request message"))?;
    if frames.message().await?.is_some() {
        return Err(Status::new(
            code::UNIMPLEMENTED,
            "the call has more than one request message",
        ));
    }
    let size = first.len();
    let message = M::decode(first).map_err(wire::Error::from)?;
    Ok(Request { message, size })
}

/// The answer of a call that went well.
///
/// # Errors
/// A message that is larger than the limit.
pub(crate) fn answer(message: &impl Message, limit: usize) -> Result<Answer, Failure> {
    let size = message.encoded_len();
    if size > limit {
        let text = format!("grpc: trying to send message larger than max ({size} vs. {limit})");
        return Err(Status::new(code::RESOURCE_EXHAUSTED, text).into());
    }
    Ok(Answer {
        headers: HeaderMap::new(),
        message: Some(wire::frame(message)),
        trailers: wire::grpc_trailers(0, ""),
    })
}

/// The time that a caller gives a call, from its metadata. What cannot be read counts as none.
/// Source: gRPC over HTTP/2 (PROTOCOL-HTTP2.md).
pub(crate) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if number.is_empty() || number.len() > 8 || !number.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number: u64 = number.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// The body of an [`Answer`]: at most one piece, then the trailers.
pub(crate) struct Whole {
    pub(crate) message: Option<Bytes>,
    pub(crate) trailers: Option<HeaderMap>,
}

impl HttpBody for Whole {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let message = this.message.take().map(Frame::data);
        Poll::Ready(
            message
                .or_else(|| this.trailers.take().map(Frame::trailers))
                .map(Ok),
        )
    }

    fn is_end_stream(&self) -> bool {
        self.message.is_none() && self.trailers.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::timeout;
    use http::{HeaderMap, HeaderValue};
    use std::time::Duration;

    #[test]
    fn timeouts() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("99999999m", Some(Duration::from_millis(99_999_999))),
            ("5u", Some(Duration::from_micros(5))),
            ("6n", Some(Duration::from_nanos(6))),
            ("", None),
            ("S", None),
            ("7", None),
            ("-7S", None),
            ("+7S", None),
            ("7 S", None),
            ("123456789S", None),
            ("7s", None),
        ] {
            let headers =
                HeaderMap::from_iter([("grpc-timeout".parse().unwrap(), HeaderValue::from_static(text))]);
            assert_eq!(timeout(&headers), expected, "{text}");
        }
        assert_eq!(timeout(&HeaderMap::new()), None);
    }
}
