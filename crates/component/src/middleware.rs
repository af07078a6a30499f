//! HTTP middlewares: what stands between a caller and an endpoint, in the order that the Configuration gives them.
//!
//! A middleware gets the request and what stands behind it ([`Next`]). It may answer itself, change the request, hand it on,
//! change the answer. INVARIANT: a request is handed on at most once.

use crate::Component;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body_util::BodyExt as _;
use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::Arc;

/// A body on its way through. It is never collected unless a middleware does so.
pub type Body = Pin<Box<dyn http_body::Body<Data = Bytes, Error = Box<dyn StdError + Send + Sync>> + Send>>;
pub type Request = http::Request<Body>;
pub type Response = http::Response<Body>;

/// An answer of a middleware itself, in plain text.
/// COMPAT(components-contrib internal/httputils): the texts are the status's own, unless there is a better one.
pub fn answer(status: http::StatusCode, text: &str) -> Response {
    let full = http_body_util::Full::new(Bytes::copy_from_slice(text.as_bytes()));
    let body: Body = Box::pin(full.map_err(|never| match never {}));
    let mut response = http::Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

#[async_trait::async_trait]
pub trait HttpMiddleware: Component {
    /// Dropping the future cancels the request.
    async fn handle(&self, request: Request, next: Next<'_>) -> Response;
}

/// What a pipeline leads to.
#[async_trait::async_trait]
pub trait End: Send + Sync {
    async fn serve(&self, request: Request) -> Response;
}

/// Middlewares in their order. Clones share them.
#[derive(Clone)]
pub struct Pipeline(Arc<[Arc<dyn HttpMiddleware>]>);

/// The rest of a pipeline, as one middleware sees it.
pub struct Next<'p> {
    rest: &'p [Arc<dyn HttpMiddleware>],
    end: &'p dyn End,
}

impl Pipeline {
    /// `None` without middlewares: nothing then stands between caller and endpoint.
    pub fn new(middlewares: Vec<Arc<dyn HttpMiddleware>>) -> Option<Self> {
        (!middlewares.is_empty()).then(|| Self(middlewares.into()))
    }

    pub async fn serve(&self, request: Request, end: &dyn End) -> Response {
        let next = Next { rest: &self.0, end };
        next.serve(request).await
    }
}

impl Next<'_> {
    pub async fn serve(self, request: Request) -> Response {
        match self.rest.split_first() {
            Some((first, rest)) => {
                let next = Next { rest, end: self.end };
                first.handle(request, next).await
            }
            None => self.end.serve(request).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Body, End, HttpMiddleware, Next, Pipeline, Request, Response, answer};
    use crate::Component;
    use futures::FutureExt as _;
    use http::StatusCode;
    use std::sync::{Arc, Mutex};

    /// Notes its name on the way in and on the way out; `stop` answers itself.
    struct Noting(&'static str, Arc<Mutex<Vec<String>>>);

    impl Component for Noting {}

    #[async_trait::async_trait]
    impl HttpMiddleware for Noting {
        async fn handle(&self, request: Request, next: Next<'_>) -> Response {
            self.1.lock().unwrap().push(self.0.to_owned());
            if self.0 == "stop" {
                return answer(StatusCode::FORBIDDEN, "stop");
            }
            let response = next.serve(request).await;
            self.1.lock().unwrap().push(format!("/{}", self.0));
            response
        }
    }

    struct Door(Arc<Mutex<Vec<String>>>);

    #[async_trait::async_trait]
    impl End for Door {
        async fn serve(&self, _request: Request) -> Response {
            self.0.lock().unwrap().push("end".to_owned());
            answer(StatusCode::OK, "")
        }
    }

    #[test]
    fn the_order_is_kept() {
        for (names, expected) in [
            (&["a", "b"][..], &["a", "b", "end", "/b", "/a"][..]),
            (&["a", "stop", "b"], &["a", "stop", "/a"]),
        ] {
            let notes = Arc::new(Mutex::new(Vec::new()));
            let middlewares = names.iter().map(|&name| {
                let noting: Arc<dyn HttpMiddleware> = Arc::new(Noting(name, notes.clone()));
                noting
            });
            let pipeline = Pipeline::new(middlewares.collect()).unwrap();
            let empty: Body = answer(StatusCode::OK, "").into_body();
            let served = pipeline
                .serve(http::Request::new(empty), &Door(notes.clone()))
                .now_or_never();
            assert!(served.is_some());
            assert_eq!(*notes.lock().unwrap(), expected);
        }
        assert!(Pipeline::new(Vec::new()).is_none());
    }
}
