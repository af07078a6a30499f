//! Where a connection is: between requests, in the middle of a head, or in a request. A head that has begun must be complete
//! within the time allowed; between requests a connection may idle.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use http::Response;
use http_body::{Body, Frame, SizeHint};
use hyper::service::Service;
use pin_project_lite::pin_project;

/// Shared by the halves of one connection; all of them run in one task, or in those of its HTTP/2 streams.
#[derive(Default)]
pub(super) struct Progress {
    /// A request has arrived; with HTTP/2, anything.
    seen: AtomicBool,
    /// Bytes have arrived that belong to no request yet.
    heard: AtomicBool,
    /// Requests whose answers are not complete.
    active: AtomicUsize,
    /// Requests so far; may wrap.
    served: AtomicUsize,
    /// Something was written and is not known to have left.
    unflushed: AtomicBool,
}

impl Progress {
    pub(super) fn has_begun(&self) -> bool {
        self.seen.load(Ordering::Relaxed)
    }

    /// Whether a head has begun and is not complete. Only for HTTP/1.
    pub(super) fn is_in_head(&self) -> bool {
        self.heard.load(Ordering::Relaxed) && self.active.load(Ordering::Relaxed) == 0
    }

    /// Whether nothing is under way: no head, no request, no answer. Only for HTTP/1.
    pub(super) fn is_idle(&self) -> bool {
        !self.heard.load(Ordering::Relaxed)
            && self.active.load(Ordering::Relaxed) == 0
            && !self.unflushed.load(Ordering::Relaxed)
    }

    pub(super) fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }

    pub(super) fn write(&self) {
        self.unflushed.store(true, Ordering::Relaxed);
    }

    /// INVARIANT: hyper flushes a connection only when it has written all it has.
    pub(super) fn flush(&self) {
        self.unflushed.store(false, Ordering::Relaxed);
    }

    pub(super) fn begin(&self) {
        self.seen.store(true, Ordering::Relaxed);
    }

    pub(super) fn hear(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }
}

/// One request; dropped when its answer is complete.
struct Active(Arc<Progress>);

impl Active {
    fn new(progress: &Arc<Progress>) -> Self {
        progress.active.fetch_add(1, Ordering::Relaxed);
        progress.served.fetch_add(1, Ordering::Relaxed);
        Self(progress.clone())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        // What came meanwhile was its body, or the beginning of a head whose rest will be heard.
        self.0.heard.store(false, Ordering::Relaxed);
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A service that notes where its connection is.
pub(super) struct Marked<S> {
    pub(super) service: S,
    pub(super) progress: Arc<Progress>,
}

impl<S, R, B> Service<R> for Marked<S>
where
    S: Service<R, Response = Response<B>>,
{
    type Response = Response<Marking<B>>;
    type Error = S::Error;
    type Future = Serving<S::Future>;

    fn call(&self, request: R) -> Self::Future {
        self.progress.begin();
        Serving {
            active: Some(Active::new(&self.progress)),
            future: self.service.call(request),
        }
    }
}

pin_project! {
    pub(super) struct Serving<F> {
        #[pin]
        future: F,
        active: Option<Active>,
    }
}

impl<F, B, E> Future for Serving<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<Marking<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answered = ready!(this.future.poll(cx));
        let active = this.active.take();
        Poll::Ready(answered.map(|response| {
            response.map(|body| Marking {
                body,
                _active: active,
            })
        }))
    }
}

pin_project! {
    /// The body of an answer.
    pub(super) struct Marking<B> {
        #[pin]
        body: B,
        _active: Option<Active>,
    }
}

impl<B: Body> Body for Marking<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
