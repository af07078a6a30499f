//! The body of a request on its way out.

use crate::body::{Body, Error};
use ::h2::{Reason, SendStream};
use bytes::Bytes;
use http_body::Body as HttpBody;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Sends a body piece by piece. A piece is asked for only when the other side has room.
///
/// How the sending fails shows on the answer: a body that breaks resets the stream.
pub(super) struct Upload {
    stream: SendStream<Bytes>,
    body: Body,
}

impl Upload {
    /// Bytes at hand are handed over at once; `None` when that was all.
    pub(super) fn begin(mut stream: SendStream<Bytes>, body: Body) -> Option<Self> {
        match body {
            Body::Empty => None,
            Body::Full(data) => {
                // It fails on a stream that was reset meanwhile.
                let _shows_on_the_answer = stream.send_data(data, true);
                None
            }
            body => Some(Self { stream, body }),
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ::h2::Error>> {
        loop {
            ready!(self.poll_room(cx))?;
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => return Poll::Ready(self.stream.send_data(Bytes::new(), true)),
                Some(Err(error)) => {
                    self.stream.send_reset(reason(&error));
                    return Poll::Ready(Ok(()));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        let last = self.body.is_end_stream();
                        self.stream.send_data(data, last)?;
                        if last {
                            return Poll::Ready(Ok(()));
                        }
                    }
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            self.stream.reserve_capacity(0);
                            return Poll::Ready(self.stream.send_trailers(trailers));
                        }
                    }
                },
            }
        }
    }

    /// Waits until the other side takes at least one byte more; an error when it takes none any more.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ::h2::Error>> {
        self.stream.reserve_capacity(1);
        while self.stream.capacity() == 0 {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(room) => room?,
                None => return Poll::Ready(Err(Reason::CANCEL.into())),
            };
        }
        match self.stream.poll_reset(cx) {
            Poll::Ready(reset) => Poll::Ready(Err(reset?.into())),
            Poll::Pending => Poll::Ready(Ok(())),
        }
    }
}

impl Future for Upload {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // A failure shows on the answer.
        self.get_mut().poll_send(cx).map(|_sent| ())
    }
}

/// Why a body broke, as the other side is told: its own reason when it came over HTTP/2 itself.
fn reason(error: &Error) -> Reason {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error.as_ref());
    while let Some(error) = cause {
        if let Some(reason) = error.downcast_ref::<::h2::Error>().and_then(::h2::Error::reason) {
            return reason;
        }
        cause = error.source();
    }
    Reason::INTERNAL_ERROR
}
