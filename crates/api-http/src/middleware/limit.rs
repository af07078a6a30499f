//! `--max-body-size` and `--request-body-idle-timeout`, while the body streams in.
//!
//! INVARIANT: nothing larger than the limit is handed on. There is no 413: who reads the body gets an error and reports
//! it like any other failure to read (COMPAT pkg/api/http/middlewares.go).

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use outrigger_channel::body::{Body, Error};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// COMPAT(dapr/kit streams): the text.
#[derive(Debug, thiserror::Error)]
#[error("stream too large")]
struct TooLarge;

/// The request's body, bounded by `limit` bytes if there is one, and by `patience` while it is waited for. Bodies that
/// announce a length within the limit are not counted: hyper holds them to it.
pub(crate) fn limited(body: Incoming, limit: Option<usize>, patience: Option<Duration>) -> Body {
    let body = Body::patient(body, patience);
    match limit {
        Some(limit) if !fits(&body, limit) => Body::stream(Limited {
            left: u64::try_from(limit).unwrap_or(u64::MAX),
            body,
        }),
        _ => body,
    }
}

fn fits(body: &Body, limit: usize) -> bool {
    body.length()
        .is_some_and(|length| usize::try_from(length).is_ok_and(|length| length <= limit))
}

struct Limited {
    body: Body,
    left: u64,
}

impl HttpBody for Limited {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        // A body that announces too much is not begun.
        if this.body.size_hint().lower() > this.left {
            this.body = Body::Empty;
            return Poll::Ready(Some(Err(TooLarge.into())));
        }
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
            match this.left.checked_sub(length) {
                Some(left) => this.left = left,
                None => {
                    this.body = Body::Empty;
                    return Poll::Ready(Some(Err(TooLarge.into())));
                }
            }
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

/// The whole body, or why it could not be read.
pub(crate) async fn read(body: Body) -> Result<Bytes, String> {
    body.collect(usize::MAX).await.map_err(|error| reason(&error))
}

/// Why a body could not be read, for the message of the error that is answered.
pub(crate) fn reason(error: &Error) -> String {
    let mut cause: &(dyn std::error::Error + 'static) = &**error;
    loop {
        // The client promised more than it sent.
        let cut_off = cause
            .downcast_ref::<hyper::Error>()
            .is_some_and(hyper::Error::is_incomplete_message)
            || cause
                .downcast_ref::<io::Error>()
                .is_some_and(|error| error.kind() == io::ErrorKind::UnexpectedEof);
        if cut_off {
            return "unexpected EOF".to_owned();
        }
        // hyper's own sentence names its layer only; the innermost one says what is wrong.
        match cause.source() {
            Some(source) => cause = source,
            None => return cause.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Limited;
    use bytes::Bytes;
    use outrigger_channel::body::Body;

    #[tokio::test]
    async fn what_passes_and_what_does_not() {
        for (length, limit, passes) in [(0_usize, 0, true), (3, 3, true), (4, 3, false), (1, 0, false)] {
            let body = Body::from(Bytes::from(vec![b'x'; length]));
            let limited = Body::stream(Limited { body, left: limit });
            let outcome = limited.collect(usize::MAX).await;
            match outcome {
                Ok(bytes) => assert!(passes && bytes.len() == length, "{length} of {limit}"),
                Err(error) => assert!(
                    !passes && error.to_string() == "stream too large",
                    "{length} of {limit}"
                ),
            }
        }
    }
}
