//! The body of an answer, and the place on its connection that it takes until it has been read or dropped.

use crate::body::Error;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

/// One stream of a connection; dropping it makes room for another.
pub(super) struct Slot(Arc<AtomicUsize>);

impl Slot {
    /// `None` when `most` are taken.
    pub(super) fn take(streams: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        streams
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
                (taken < most).then_some(taken + 1)
            })
            .ok()
            .map(|_| Self(streams.clone()))
    }
}

impl Slot {
    pub(super) fn is_on(&self, streams: &Arc<AtomicUsize>) -> bool {
        Arc::ptr_eq(&self.0, streams)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an answer.
pub struct Answer {
    incoming: Incoming,
    /// Gone once the body has ended.
    slot: Option<Slot>,
}

impl Answer {
    pub(super) fn new(incoming: Incoming, slot: Slot) -> Self {
        let slot = (!incoming.is_end_stream()).then_some(slot);
        Self { incoming, slot }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.incoming).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            this.slot = None;
        }
        polled.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
