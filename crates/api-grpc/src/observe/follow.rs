//! A stream on its way to the client, followed to its end.

use super::{Observed, Sinks};
use crate::error::code;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use outrigger_channel::body::{Body, Error};
use outrigger_channel::wire;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// What is left to note of a stream. Dropped early, the client has hung up.
pub(super) struct Followed {
    call: Option<(Observed, Arc<Sinks>)>,
    /// Whether metrics count this stream.
    counted: bool,
}

struct Passing {
    body: Body,
    followed: Followed,
}

impl Followed {
    pub(super) fn new(call: Observed, sinks: Arc<Sinks>, counted: bool) -> Self {
        Self {
            call: Some((call, sinks)),
            counted,
        }
    }

    pub(super) fn body(self, body: Body) -> Body {
        Body::stream(Passing { body, followed: self })
    }

    fn ended(&mut self, code: i32, text: &str) {
        if let Some((call, sinks)) = self.call.take() {
            call.ended(&sinks, self.counted, code, text);
        }
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.ended(code::CANCELLED, "context canceled");
    }
}

impl HttpBody for Passing {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    let (code, text) = wire::grpc_status(trailers).unwrap_or((code::UNKNOWN, String::new()));
                    this.followed.ended(code, &text);
                }
            }
            Some(Err(error)) => this.followed.ended(code::UNAVAILABLE, &error.to_string()),
            None => this
                .followed
                .ended(code::UNKNOWN, "the stream ended without a status"),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
