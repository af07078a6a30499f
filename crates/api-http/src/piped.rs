//! The API behind the middlewares of `spec.httpPipeline`.
//!
//! They stand after tracing, CORS and the API token, and before routing: what a middleware makes of a request decides where it
//! goes. COMPAT(pkg/api/http/server.go): the order.

use crate::error;
use crate::middleware::finish;
use crate::middleware::trace::Trace;
use crate::path;
use crate::serve::{Inbound, Shared};
use http::{Request, Response, StatusCode};
use outrigger_channel::body::Body;
use outrigger_component::middleware::{self, End, Pipeline};
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

/// Serves a request through a pipeline.
pub(crate) async fn serve(
    shared: &Shared,
    pipeline: &Pipeline,
    inbound: Inbound<'_>,
    peer: Option<SocketAddr>,
    trace: &mut Trace,
    pending: &mut finish::Request,
) -> Response<Body> {
    let body: middleware::Body = Box::pin(inbound.body);
    let mut request = Request::new(body);
    *request.method_mut() = inbound.method.clone();
    *request.uri_mut() = inbound.uri.clone();
    *request.headers_mut() = inbound.headers;
    if let Some(peer) = peer {
        request.extensions_mut().insert(peer);
    }
    let end = Api {
        shared,
        peer,
        notes: Mutex::new(Some((trace, pending))),
    };
    pipeline.serve(request, &end).await.map(Body::Stream)
}

/// What the pipeline leads to.
struct Api<'a> {
    shared: &'a Shared,
    peer: Option<SocketAddr>,
    /// Taken by the only request that arrives.
    notes: Mutex<Option<(&'a mut Trace, &'a mut finish::Request)>>,
}

#[async_trait::async_trait]
impl End for Api<'_> {
    async fn serve(&self, request: middleware::Request) -> middleware::Response {
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((trace, pending)) = notes else {
            return middleware::answer(
                StatusCode::INTERNAL_SERVER_ERROR,
                "a middleware handed the request on twice",
            );
        };
        self.endpoint(request, trace, pending)
            .await
            .map(|body| Box::pin(body) as middleware::Body)
    }
}

impl Api<'_> {
    async fn endpoint(
        &self,
        request: middleware::Request,
        trace: &mut Trace,
        pending: &mut finish::Request,
    ) -> Response<Body> {
        let (head, body) = request.into_parts();
        let (method, uri, headers) = (head.method, head.uri, head.headers);
        let decoded = match path::decode(uri.path()) {
            Ok(decoded) => decoded,
            Err(error) => {
                return error::plain(
                    StatusCode::BAD_REQUEST,
                    &format!("failed to unescape request path: {error}"),
                );
            }
        };
        let clean = path::clean(uri.path());
        let destination = self.shared.destination(&method, &clean);
        trace.describe(&destination.describe((&method, &uri, &decoded, &headers), self.peer));
        let inbound = Inbound {
            method: &method,
            uri: &uri,
            path: &decoded,
            headers,
            body: Body::Stream(body),
        };
        self.shared.endpoint(destination, inbound, trace, pending).await
    }
}
