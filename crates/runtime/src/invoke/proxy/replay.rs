//! A request body that can be sent again: what has been read is kept until it is too much.

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use outrigger_channel::body::{Body, Error};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

/// The body and its copies. One copy is read at a time: asking for another ends those before.
pub(super) struct Replay {
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    source: Body,
    /// Everything read so far; `None` once that is too much, or not wanted any more.
    kept: Option<Vec<Bytes>>,
    size: usize,
    limit: usize,
    ended: bool,
    /// Number of the copy that may read.
    current: u64,
}

/// One copy.
struct Copy {
    shared: Arc<Mutex<Shared>>,
    number: u64,
    /// Pieces already given.
    given: usize,
}

impl Replay {
    /// Keeps up to `limit` bytes; `None` keeps nothing, and the first copy is the only one.
    pub(super) fn new(source: Body, limit: Option<usize>) -> Self {
        Self {
            shared: Arc::new(Mutex::new(Shared {
                source,
                kept: limit.map(|_| Vec::new()),
                size: 0,
                limit: limit.unwrap_or_default(),
                ended: false,
                current: 0,
            })),
        }
    }

    /// The body from its beginning.
    pub(super) fn again(&self) -> Body {
        let mut shared = lock(&self.shared);
        shared.current += 1;
        Body::stream(Copy {
            shared: self.shared.clone(),
            number: shared.current,
            given: 0,
        })
    }

    /// Whether all that was read is still here.
    pub(super) fn is_whole(&self) -> bool {
        lock(&self.shared).kept.is_some()
    }

    /// There will be no other copy: nothing needs to be kept.
    pub(super) fn let_go(&self) {
        let mut shared = lock(&self.shared);
        // What the current copy has not given yet must stay: it always has read everything that is kept, unless it
        // was made after a failure and is still catching up.
        shared.limit = 0;
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HttpBody for Copy {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let mut guard = lock(&this.shared);
        let shared = &mut *guard;
        if shared.current != this.number {
            return Poll::Ready(Some(Err("the call is made again".into())));
        }
        if let Some(piece) = shared.kept.as_ref().and_then(|kept| kept.get(this.given)) {
            this.given += 1;
            return Poll::Ready(Some(Ok(Frame::data(piece.clone()))));
        }
        if shared.ended {
            return Poll::Ready(None);
        }
        match ready!(Pin::new(&mut shared.source).poll_frame(cx)) {
            None => {
                shared.ended = true;
                Poll::Ready(None)
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            Some(Ok(frame)) => {
                if let Some(piece) = frame.data_ref() {
                    shared.size = shared.size.saturating_add(piece.len());
                    if shared.size > shared.limit {
                        shared.kept = None;
                    } else if let Some(kept) = &mut shared.kept {
                        kept.push(piece.clone());
                        this.given += 1;
                    }
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }
}

/// An answer whose first frame was already taken.
pub(super) struct Begun {
    first: Option<Result<Frame<Bytes>, Error>>,
    rest: Body,
}

impl Begun {
    pub(super) fn new(first: Option<Result<Frame<Bytes>, Error>>, rest: Body) -> Self {
        Self { first, rest }
    }
}

impl HttpBody for Begun {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        match this.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => Pin::new(&mut this.rest).poll_frame(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Replay;
    use bytes::Bytes;
    use http_body::{Body as HttpBody, Frame};
    use outrigger_channel::body::{Body, Error};
    use std::collections::VecDeque;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    struct Pieces(VecDeque<&'static str>);

    impl HttpBody for Pieces {
        type Data = Bytes;
        type Error = Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
            let next = self.0.pop_front();
            Poll::Ready(next.map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes())))))
        }
    }

    fn replay(limit: Option<usize>) -> Replay {
        Replay::new(Body::stream(Pieces(["ab", "cd", "ef"].into())), limit)
    }

    async fn piece(body: &mut Body) -> Option<Result<Bytes, String>> {
        let frame = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
        Some(
            frame
                .map(|frame| frame.into_data().unwrap())
                .map_err(|error| error.to_string()),
        )
    }

    #[tokio::test]
    async fn every_copy_begins_at_the_beginning() {
        let replay = replay(Some(6));
        let mut first = replay.again();
        assert_eq!(piece(&mut first).await, Some(Ok("ab".into())));
        let mut second = replay.again();
        assert_eq!(
            piece(&mut first).await,
            Some(Err("the call is made again".to_owned()))
        );
        assert_eq!(piece(&mut second).await, Some(Ok("ab".into())));
        assert_eq!(second.collect(9).await.unwrap(), "cdef");
        assert!(replay.is_whole());
        assert_eq!(replay.again().collect(9).await.unwrap(), "abcdef");
    }

    #[tokio::test]
    async fn beyond_the_limit_nothing_is_kept() {
        for (limit, whole) in [(Some(6), true), (Some(5), false), (None, false)] {
            let replay = replay(limit);
            assert_eq!(replay.again().collect(9).await.unwrap(), "abcdef");
            assert_eq!(replay.is_whole(), whole, "{limit:?}");
        }
    }

    #[tokio::test]
    async fn a_copy_that_catches_up_is_not_cut_short() {
        let replay = replay(Some(6));
        assert_eq!(replay.again().collect(9).await.unwrap(), "abcdef");
        let mut last = replay.again();
        assert_eq!(piece(&mut last).await, Some(Ok("ab".into())));
        replay.let_go();
        assert_eq!(last.collect(9).await.unwrap(), "cdef");
    }
}
