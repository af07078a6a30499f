//! The answer to a call that was passed on, while it streams: it keeps its place among the calls that are worked on, and a
//! stream that breaks off ends as gRPC streams end, with a status.

use bytes::Bytes;
use http::Response;
use http::header::CONTENT_LENGTH;
use http_body::{Body as HttpBody, Frame, SizeHint};
use outrigger_channel::body::{Body, Error};
use outrigger_channel::wire;
use outrigger_runtime::admission::Pass;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

const UNAVAILABLE: i32 = 14;

struct Held {
    /// `None` once it has ended.
    body: Option<Body>,
    _pass: Pass,
}

/// An answer at hand gives its place back at once.
pub(crate) fn held(mut answer: Response<Body>, pass: Pass) -> Response<Body> {
    if answer.body().at_hand().is_some() {
        return answer;
    }
    answer.headers_mut().remove(CONTENT_LENGTH);
    answer.map(|body| {
        Body::stream(Held {
            body: Some(body),
            _pass: pass,
        })
    })
}

/// A body that keeps a place while it streams, and is otherwise as it is.
pub(crate) fn kept(body: Body, pass: Pass) -> Body {
    if body.at_hand().is_some() {
        return body;
    }
    Body::stream(Kept { body, _pass: pass })
}

struct Kept {
    body: Body,
    _pass: Pass,
}

impl HttpBody for Kept {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        Poll::Ready(match ready!(Pin::new(body).poll_frame(cx)) {
            Some(Err(error)) => {
                this.body = None;
                // COMPAT(google.golang.org/grpc): what clients are told when a connection is lost under a call.
                let text = format!("error reading from server: {error}");
                Some(Ok(Frame::trailers(wire::grpc_trailers(UNAVAILABLE, &text))))
            }
            None => {
                this.body = None;
                None
            }
            frame => frame,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    /// Never exact: trailers may take the place of the rest.
    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
