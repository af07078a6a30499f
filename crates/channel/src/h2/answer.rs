//! The body of an answer, and the place on its connection that it takes until it has been read or dropped.

use super::usage::Slot;
use crate::body::Error;
use ::h2::{Reason, RecvStream};
use bytes::Bytes;
use futures::future::AbortHandle;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// The body of an answer. Dropping it unread cancels the call at the server.
pub struct Answer {
    stream: RecvStream,
    /// Bytes that are still to come, when the server said how many there are.
    left: Option<u64>,
    /// Gone once the body has ended.
    slot: Option<Slot>,
    /// Ends the request's body, when that is still being sent.
    upload: Option<AbortHandle>,
}

impl Answer {
    /// `upload` ends the sending of the request, which may outlive the answer but not a caller who gave up.
    pub(super) fn new(
        headers: &HeaderMap,
        stream: RecvStream,
        slot: Slot,
        upload: Option<AbortHandle>,
    ) -> Self {
        let announced = headers.get(CONTENT_LENGTH);
        let slot = (!stream.is_end_stream()).then_some(slot);
        Self {
            left: announced.and_then(|value| value.to_str().ok()?.parse().ok()),
            stream,
            slot,
            upload,
        }
    }

    /// Data, then trailers, then nothing.
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ::h2::Error>>> {
        if let Some(data) = ready!(self.stream.poll_data(cx)) {
            return Poll::Ready(whole(data).map(|data| {
                data.map(|data| {
                    // Fails only for more bytes than have arrived.
                    let _in_range = self.stream.flow_control().release_capacity(data.len());
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    Frame::data(data)
                })
            }));
        }
        let trailers = ready!(self.stream.poll_trailers(cx)).transpose();
        Poll::Ready(trailers.and_then(whole).map(|it| it.map(Frame::trailers)))
    }
}

/// A server that has answered may reset a stream to say that it needs no more of the request.
fn whole<T>(part: Result<T, ::h2::Error>) -> Option<Result<T, ::h2::Error>> {
    match part {
        Err(error) if error.reason() == Some(Reason::NO_ERROR) => None,
        part => Some(part),
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let part = ready!(this.poll_part(cx));
        if !matches!(part, Some(Ok(_))) {
            this.slot = None;
        }
        Poll::Ready(part.map(|part| part.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match (self.is_end_stream(), self.left) {
            (true, _) => SizeHint::with_exact(0),
            (false, Some(left)) => SizeHint::with_exact(left),
            (false, None) => SizeHint::default(),
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // Whoever gave up needs the rest of the request no more; after a whole answer it may still follow.
        if let Some(upload) = &self.upload
            && self.slot.is_some()
            && !self.is_end_stream()
        {
            upload.abort();
        }
    }
}
