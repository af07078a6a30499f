//! A request's body whose sender may pause, but not for ever.
//!
//! Only time in which the body is waited for counts: while nobody asks for more (an app that takes its time), the sender may
//! be as silent as it likes. There is no limit for the whole: what keeps flowing may flow for days.

use super::Error;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// See [`Body::patient`](super::Body::patient).
pub struct Patient<B = Incoming> {
    body: B,
    patience: Duration,
    /// Since when the next piece is waited for.
    since: Option<Instant>,
    /// Kept from piece to piece; may be due too early, never too late.
    timer: Option<Pin<Box<Sleep>>>,
}

/// Nothing more arrived for this long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the rest of the request body did not arrive: nothing came for {0:?}")]
pub struct Silent(pub Duration);

impl<B> Patient<B> {
    pub(super) fn new(body: B, patience: Duration) -> Self {
        Self {
            body,
            patience,
            since: None,
            timer: None,
        }
    }
}

impl<B> HttpBody for Patient<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<Error>,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.since = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let due = *this.since.get_or_insert_with(Instant::now) + this.patience;
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        while timer.as_mut().poll(cx).is_ready() {
            if timer.deadline() >= due {
                return Poll::Ready(Some(Err(Silent(this.patience).into())));
            }
            timer.as_mut().reset(due);
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::{Patient, Silent};
    use crate::body::Body;
    use bytes::Bytes;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use std::convert::Infallible;
    use std::time::Duration;
    use tokio::time::{Instant, sleep};

    /// A body of pieces with a pause before each, in seconds.
    fn pieces(pauses: &'static [u64]) -> Body {
        let pieces = futures::stream::unfold(pauses, |rest| async move {
            let (pause, rest) = rest.split_first()?;
            sleep(Duration::from_secs(*pause)).await;
            Some((Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"x"))), rest))
        });
        Body::stream(Patient::new(
            StreamBody::new(Box::pin(pieces)),
            Duration::from_secs(60),
        ))
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_are_bounded_and_the_whole_is_not() {
        for (pauses, arrives, after) in [
            (&[][..], Some(0), 0),
            (&[0, 0, 0], Some(3), 0),
            (&[59; 100], Some(100), 5_900),
            (&[30, 61, 1], None, 90),
            (&[60_000], None, 60),
        ] {
            let began = Instant::now();
            let collected = pieces(pauses).collect(usize::MAX).await;
            assert_eq!(began.elapsed().as_secs(), after, "{pauses:?}");
            match (collected, arrives) {
                (Ok(bytes), Some(length)) => assert_eq!(bytes.len(), length, "{pauses:?}"),
                (Err(error), None) => assert!(error.is::<Silent>(), "{pauses:?}: {error}"),
                (other, _) => panic!("{pauses:?}: {other:?}"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn while_nobody_asks_the_sender_may_be_silent() {
        use http_body::Body as _;
        use std::pin::Pin;
        let mut body = pieces(&[1, 59]);
        let mut next = async || std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        assert!(next().await.is_some_and(|frame| frame.is_ok()));
        sleep(Duration::from_secs(1_000)).await;
        assert!(next().await.is_some_and(|frame| frame.is_ok()));
        assert!(next().await.is_none());
    }
}
