//! What the tests of several middlewares need: a pipeline of one, and an end that shows what arrived.

use http::{Request as Sent, StatusCode};
use http_body_util::BodyExt as _;
use outrigger_component::middleware::{Body, End, HttpMiddleware, Pipeline, Request, Response, answer};
use std::sync::Arc;

/// Answers with this header of the request, or `none`.
struct Showing(&'static str);

#[async_trait::async_trait]
impl End for Showing {
    async fn serve(&self, request: Request) -> Response {
        let seen = request
            .headers()
            .get(self.0)
            .map_or("none", |it| it.to_str().unwrap());
        answer(StatusCode::OK, seen)
    }
}

/// What came back.
pub(super) struct Seen {
    pub(super) status: u16,
    pub(super) headers: http::HeaderMap,
    pub(super) body: String,
}

/// Sends a request through `middleware`; its header `shown` is the answer.
pub(super) async fn ask(
    middleware: &Arc<dyn HttpMiddleware>,
    path: &str,
    headers: &[(&'static str, String)],
    shown: &'static str,
) -> Seen {
    let pipeline = Pipeline::new(vec![Arc::clone(middleware)]).unwrap();
    let empty: Body = answer(StatusCode::OK, "").into_body();
    let mut request = Sent::new(empty);
    *request.uri_mut() = path.parse().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let (head, body) = pipeline.serve(request, &Showing(shown)).await.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Seen {
        status: head.status.as_u16(),
        headers: head.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}
