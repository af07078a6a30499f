//! Kept connections to one HTTP/1.1 server, for the hot path to the app.
//!
//! A connection is driven by whoever waits for its answer, not by a task of its own: one wake-up less in each
//! direction, and dropping the exchange at any point closes the connection, which cancels it at the app. An
//! answer that has arrived whole is handed on as plain bytes and its connection is free again at once.
//!
//! INVARIANT: a connection goes back only after its answer was read to the end.

use crate::body::{self, Body};
use crate::error::Error;
use crate::h2;
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use outrigger_daemon::dial::{Dial, Stream};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

/// Idle connections kept; more are closed when their exchange ends.
const KEPT: usize = 512;

type Driver = http1::Connection<TokioIo<Stream>, Body>;

struct Link {
    sender: http1::SendRequest<Body>,
    driver: Pin<Box<Driver>>,
}

/// Connections to one address.
#[derive(Clone)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    dial: Dial,
    idle: Mutex<Vec<Link>>,
}

impl Pool {
    /// Nothing is connected yet.
    pub(crate) fn new(dial: Dial) -> Self {
        Self {
            shared: Arc::new(Shared {
                dial,
                idle: Mutex::new(Vec::new()),
            }),
        }
    }

    /// Sends a request and waits for the head of the answer. A kept connection that the server closed meanwhile is
    /// replaced without the caller noticing, as long as nothing of the request was sent.
    pub(crate) async fn send(&self, mut request: Request<Body>) -> Result<Response<Body>, Error> {
        loop {
            let (mut link, fresh) = match self.shared.take() {
                Some(link) => (link, false),
                // Boxed: rare, and every call would make room for it.
                None => (Box::pin(self.shared.connect()).await?, true),
            };
            let answer = link.sender.try_send_request(request);
            match exchange(&mut link.driver, answer).await {
                Ok(response) => return Ok(self.answer(link, response).await),
                Err((_, Some(unsent))) if !fresh => request = unsent,
                Err((error, _)) => return Err(self.shared.failed(&h2::describe(&error))),
            }
        }
    }

    /// Hands the answer on; one that is complete already frees its connection now.
    async fn answer(&self, link: Link, response: Response<Incoming>) -> Response<Body> {
        let (head, incoming) = response.into_parts();
        let mut stream = Answer {
            announced: head.headers.contains_key(CONTENT_LENGTH),
            incoming,
            link: Some(link),
            pool: self.shared.clone(),
            ended: false,
        };
        if stream.incoming.is_end_stream() {
            stream.finish();
            return Response::from_parts(head, Body::Empty);
        }
        // Without waiting: the body of a short answer usually came with its head.
        let first = std::future::poll_fn(|cx| {
            Poll::Ready(match Pin::new(&mut stream).poll_frame(cx) {
                Poll::Ready(frame) => Some(frame),
                Poll::Pending => None,
            })
        })
        .await;
        let body = match first {
            Some(None) => Body::Empty,
            Some(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) if stream.is_end_stream() => Body::Full(data),
                Ok(data) => Body::stream(Begun {
                    first: Some(data),
                    rest: stream,
                }),
                Err(_trailers) => Body::stream(stream),
            },
            Some(Some(Err(error))) => Body::stream(Broken(Some(error))),
            None => Body::stream(stream),
        };
        Response::from_parts(head, body)
    }
}

impl Shared {
    fn take(&self) -> Option<Link> {
        loop {
            let mut link = self
                .idle
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .pop()?;
            // A look at the socket, without waiting: did the server close it meanwhile?
            let mut cx = Context::from_waker(std::task::Waker::noop());
            if link.driver.as_mut().poll(&mut cx).is_pending() && link.sender.is_ready() {
                return Some(link);
            }
        }
    }

    async fn connect(&self) -> Result<Link, Error> {
        let stream = self.dial.connect().await.map_err(|error| self.failed(&error))?;
        let (sender, driver) = http1::Builder::new()
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.failed(&h2::describe(&error)))?;
        Ok(Link {
            sender,
            driver: Box::pin(driver),
        })
    }

    fn keep(&self, mut link: Link) {
        // Lets the connection settle into its idle state, so that it is ready for the next request.
        let mut cx = Context::from_waker(std::task::Waker::noop());
        if link.driver.as_mut().poll(&mut cx).is_ready() || link.sender.is_closed() {
            return;
        }
        let mut idle = self
            .idle
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.push(link);
        }
    }

    fn failed(&self, cause: &dyn std::fmt::Display) -> Error {
        Error::Unavailable(format!(
            "cannot reach the app at {}: {cause}",
            self.dial.address()
        ))
    }
}

type Failure = (hyper::Error, Option<Request<Body>>);

/// Drives the connection until the head of the answer is here. On failure the request comes back if nothing
/// of it was sent.
async fn exchange(
    driver: &mut Pin<Box<Driver>>,
    answer: impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Body>>>>,
) -> Result<Response<Incoming>, Failure> {
    let mut answer = std::pin::pin!(answer);
    let mut closed = false;
    std::future::poll_fn(|cx| {
        if !closed {
            // The driver's own result adds nothing: when it ends, the answer below fails with the cause.
            closed = driver.as_mut().poll(cx).is_ready();
        }
        answer.as_mut().poll(cx)
    })
    .await
    .map_err(|mut failed| {
        let unsent = failed.take_message();
        (failed.into_error(), unsent)
    })
}

/// The body of an answer, together with the connection it arrives on.
struct Answer {
    incoming: Incoming,
    /// The app said how long the body would be.
    announced: bool,
    link: Option<Link>,
    pool: Arc<Shared>,
    ended: bool,
}

impl Answer {
    fn finish(&mut self) {
        self.ended = true;
        if let Some(link) = self.link.take() {
            self.pool.keep(link);
        }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = body::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, body::Error>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let mut driven = false;
        loop {
            match Pin::new(&mut this.incoming).poll_frame(cx) {
                Poll::Ready(None) => {
                    this.finish();
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Ok(frame))) => {
                    if this.incoming.is_end_stream() {
                        this.finish();
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Ready(Some(Err(error))) => {
                    this.ended = true;
                    this.link = None;
                    // COMPAT(pkg/channel/http/http_channel.go): an app that announced more than it sent has sent all.
                    if this.announced && is_cut_off(&error) {
                        return Poll::Ready(None);
                    }
                    return Poll::Ready(Some(Err(error.into())));
                }
                Poll::Pending if driven => return Poll::Pending,
                // Nothing decoded yet: let the connection read, then look again. When it ends, that shows
                // on `incoming`, as the end or as an error.
                Poll::Pending => {
                    driven = true;
                    if let Some(link) = this.link.as_mut()
                        && link.driver.as_mut().poll(cx).is_ready()
                    {
                        this.link = None;
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    /// Never exact: an app may send less than it announced, and who announces it again must then break its promise.
    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// The connection ended before the body did.
fn is_cut_off(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::UnexpectedEof)
}

/// An answer whose first piece was already taken.
struct Begun {
    first: Option<Bytes>,
    rest: Answer,
}

impl HttpBody for Begun {
    type Data = Bytes;
    type Error = body::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, body::Error>>> {
        let this = self.get_mut();
        match this.first.take() {
            Some(first) => Poll::Ready(Some(Ok(Frame::data(first)))),
            None => Poll::Ready(ready!(Pin::new(&mut this.rest).poll_frame(cx))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }
}

/// An answer that broke before its first piece.
struct Broken(Option<body::Error>);

impl HttpBody for Broken {
    type Data = Bytes;
    type Error = body::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, body::Error>>> {
        Poll::Ready(self.0.take().map(Err))
    }
}
