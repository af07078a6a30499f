//! What both doors give to the accept loop: one type, so that the program has one HTTP/2 server for both.
//!
//! The answer is a boxed future. hyper starts a task for every HTTP/2 request and moves its future many times before it is
//! polled; a door's future has some kilobytes.

use http::{Request, Response};
use hyper::body::Incoming;
use outrigger_channel::body::Body;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

pub(crate) type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// The service of one connection, for [`outrigger_daemon::drain::serve::serve`] with
/// [`Protocol::Http2`](outrigger_daemon::drain::serve::Protocol::Http2).
pub struct Service {
    answer: Arc<dyn Fn(Request<Incoming>) -> Answering + Send + Sync>,
}

impl Service {
    pub(crate) fn new(answer: impl Fn(Request<Incoming>) -> Answering + Send + Sync + 'static) -> Self {
        Self {
            answer: Arc::new(answer),
        }
    }
}

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        (self.answer)(request)
    }
}
