//! `--max-body-size` for calls that are passed on: bytes pass through uncollected, but a message that announces more than the
//! limit ends the call.
//!
//! COMPAT(pkg/api/grpc/server.go): the reference bounds messages of proxied calls as those of its own methods.

use crate::error::{Status, code};
use bytes::Bytes;
use http::Response;
use http::header::CONTENT_LENGTH;
use http_body::{Body as HttpBody, Frame, SizeHint};
use outrigger_channel::body::{Body, Error};
use outrigger_channel::wire::PREFIX;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

/// Size of the message that was too large, shared by both directions; 0: there was none.
#[derive(Clone)]
pub(crate) struct Excess {
    size: Arc<AtomicUsize>,
    limit: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Request,
    Answer,
}

struct Bounded {
    body: Body,
    meter: Meter,
    excess: Excess,
    direction: Direction,
    ended: bool,
}

/// Where in a sequence of messages we are.
#[derive(Debug, Default)]
struct Meter {
    prefix: [u8; PREFIX],
    /// Bytes of the prefix that are here.
    held: usize,
    /// Bytes of the message that are still to come.
    left: usize,
}

impl Excess {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            size: Arc::default(),
            limit,
        }
    }

    /// How the call ends, if a message was too large.
    pub(crate) fn status(&self) -> Option<Status> {
        let size = self.size.load(Ordering::Relaxed);
        let text = format!(
            "grpc: received message larger than max ({size} vs. {})",
            self.limit
        );
        (size > 0).then(|| Status::new(code::RESOURCE_EXHAUSTED, text))
    }

    /// The body of a request: it breaks off.
    pub(crate) fn request(&self, body: Body) -> Body {
        self.bounded(body, Direction::Request)
    }

    /// An answer: its body ends with a status, so its length is not known in advance.
    pub(crate) fn answer(&self, mut answer: Response<Body>) -> Response<Body> {
        answer.headers_mut().remove(CONTENT_LENGTH);
        answer.map(|body| self.bounded(body, Direction::Answer))
    }

    fn bounded(&self, body: Body, direction: Direction) -> Body {
        if body.at_hand().is_some_and(|bytes| bytes.is_empty()) {
            return body;
        }
        let (meter, excess) = (Meter::default(), self.clone());
        Body::stream(Bounded {
            body,
            meter,
            excess,
            direction,
            ended: false,
        })
    }
}

impl Meter {
    /// Takes note of a piece; `Err` is the size of a message above the limit.
    fn pass(&mut self, mut piece: &[u8], limit: usize) -> Result<(), usize> {
        loop {
            let (_, rest) = piece.split_at(self.left.min(piece.len()));
            self.left -= piece.len() - rest.len();
            piece = rest;
            let Some((&byte, rest)) = piece.split_first() else {
                return Ok(());
            };
            piece = rest;
            if let Some(place) = self.prefix.get_mut(self.held) {
                *place = byte;
                self.held += 1;
            }
            if self.held == PREFIX {
                let [_, a, b, c, d] = self.prefix;
                self.held = 0;
                self.left = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
                if self.left > limit {
                    return Err(self.left);
                }
            }
        }
    }
}

impl Bounded {
    /// What takes the place of the rest.
    fn end(&mut self, error: Error) -> Result<Frame<Bytes>, Error> {
        self.ended = true;
        self.body = Body::Empty;
        match (self.excess.status(), self.direction) {
            (Some(status), Direction::Answer) => Ok(Frame::trailers(status.trailers())),
            _ => Err(error),
        }
    }
}

impl HttpBody for Bounded {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let frame = match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
            None => return Poll::Ready(None),
            // The other direction may be the reason.
            Some(Err(error)) => return Poll::Ready(Some(this.end(error))),
            Some(Ok(frame)) => frame,
        };
        if let Some(data) = frame.data_ref()
            && let Err(size) = this.meter.pass(data, this.excess.limit)
        {
            this.excess.size.store(size, Ordering::Relaxed);
            return Poll::Ready(Some(this.end("a message is larger than the limit".into())));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.direction {
            Direction::Request => self.body.size_hint(),
            Direction::Answer => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Meter;

    #[test]
    fn messages_are_measured_wherever_they_are_cut() {
        let sequence = [
            &[0, 0, 0, 0, 2, 7, 7][..],
            &[0, 0, 0, 0, 0],
            &[1, 0, 0, 0, 3, 7, 7, 7],
        ]
        .concat();
        for (limit, excess) in [(3, Ok(())), (2, Err(3)), (1, Err(2)), (0, Err(2))] {
            for size in 1..=sequence.len() {
                let mut meter = Meter::default();
                let outcome = sequence
                    .chunks(size)
                    .try_for_each(|piece| meter.pass(piece, limit));
                assert_eq!(outcome, excess, "limit {limit}, pieces of {size}");
            }
        }
        let huge = Meter::default().pass(&[0, 255, 255, 255, 255], usize::MAX);
        assert_eq!(huge, Ok(()));
    }
}
