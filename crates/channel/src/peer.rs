//! Other sidecars, over the internal gRPC protocol.

use crate::body::{self, Body};
use crate::call::{Call, Reply};
use crate::error::Error;
use crate::grpc;
use crate::h2::{self, Pool};
use crate::wire::{self, Frames, Payloads, Pieces};
use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, TE};
use http::{HeaderMap, Method, Request, Response};
use outrigger_component::resolver::{Endpoint, Target};
use outrigger_daemon::dial::Dial;
use outrigger_daemon::tasks::Spawner;
use outrigger_daemon::trace::Context;
use outrigger_proto::dapr::common::v1 as common;
use prost::Message;
use std::collections::HashMap;
use std::sync::Arc;

/// Endpoints whose connections are kept; beyond it the map is begun anew (the addresses of a mesh change slowly).
const KEPT: usize = 1024;
/// Room for the head of a message beside its body, in bytes: a body of just the largest size must pass with its headers.
pub const HEAD: usize = 1 << 20;

/// Calls to other sidecars.
///
/// INVARIANT: a call that arrived from a peer never leaves to another peer.
#[async_trait::async_trait]
pub trait PeerChannel: Send + Sync + 'static {
    /// Makes sure that there is a connection; costs nothing when there is.
    async fn reach(&self, at: &Endpoint) -> Result<(), Error>;

    /// Invokes `call.method` of the app behind the sidecar at `at`.
    async fn invoke(
        &self,
        at: &Endpoint,
        app: &Target,
        call: Call,
        trace: Option<&Context>,
    ) -> Result<Reply, Error>;

    /// Passes a gRPC request through byte by byte.
    async fn proxy(&self, at: &Endpoint, request: Request<Body>) -> Result<Response<Body>, Error>;

    /// Forgets connections to an endpoint that failed, so that the next call connects anew.
    fn forget(&self, at: &Endpoint);
}

/// [`PeerChannel`] over HTTP/2: one pool per endpoint, shared by all calls.
pub struct Peers {
    connections: ArcSwap<HashMap<Endpoint, Arc<Pool>>>,
    spawner: Spawner,
    /// Largest single message from a peer, in bytes.
    limit: usize,
    me: Target,
}

impl Peers {
    /// `limit` is `--max-body-size` in bytes: it bounds one message of a stream, not the whole body.
    pub fn new(me: Target, limit: usize, spawner: Spawner) -> Self {
        Self {
            connections: ArcSwap::default(),
            spawner,
            limit,
            me,
        }
    }

    fn connection(&self, at: &Endpoint) -> Arc<Pool> {
        if let Some(connection) = self.connections.load().get(at) {
            return connection.clone();
        }
        let fresh = Arc::new(Pool::new(
            Dial::plain(at.0.clone()),
            "the sidecar".to_owned(),
            self.spawner.clone(),
        ));
        self.connections.rcu(|known| {
            let mut next = if known.len() < KEPT {
                HashMap::clone(known)
            } else {
                HashMap::new()
            };
            next.entry(at.clone()).or_insert_with(|| fresh.clone());
            next
        });
        self.connections.load().get(at).cloned().unwrap_or(fresh)
    }

    fn request(&self, mut call: Call, app: &Target, trace: Option<&Context>) -> Request<Body> {
        for (name, value) in [
            (wire::DESTINATION_APP_ID, &app.app_id),
            (wire::CALLER_NAMESPACE, &self.me.namespace),
            (wire::CALLER_APP_ID, &self.me.app_id),
            (wire::CALLEE_APP_ID, &app.app_id),
        ] {
            if let Ok(value) = HeaderValue::from_str(value) {
                call.headers.insert(HeaderName::from_static(name), value);
            }
        }
        let head = wire::RequestChunk {
            request: Some(wire::request_head(&mut call)),
            payload: None,
        };
        let body = match call.body.at_hand() {
            Some(data) => {
                let payload = (!data.is_empty()).then_some(common::StreamPayload { data, seq: 0 });
                Body::Full(wire::frame(&wire::RequestChunk { payload, ..head }))
            }
            None => Body::stream(Pieces::<wire::RequestChunk>::new(
                wire::frame(&head),
                call.body,
                0,
                None,
                Err,
            )),
        };
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = h2::path(wire::CALL_LOCAL_STREAM);
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, h2::GRPC);
        headers.insert(TE, HeaderValue::from_static("trailers"));
        if let Some(trace) = trace {
            insert_trace(headers, trace);
        }
        request
    }
}

/// Binary metadata travels as base64; padding is optional on the way in and left out on the way out.
const BINARY: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The trace a gRPC call came with: the binary form wins over the text.
/// COMPAT(pkg/diagnostics/grpc_tracing.go).
pub fn trace_of(headers: &HeaderMap) -> Option<Context> {
    let binary = headers
        .get("grpc-trace-bin")
        .and_then(|value| BINARY.decode(value.as_bytes()).ok())
        .and_then(|bytes| Context::from_binary(&bytes));
    binary.or_else(|| {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        Context::from_headers(text("traceparent")?, text("tracestate"))
    })
}

/// Trace of this hop as gRPC metadata: text and binary, as the reference sends both.
pub fn insert_trace(headers: &mut HeaderMap, trace: &Context) {
    crate::app::insert_trace(headers, trace);
    if let Ok(value) = HeaderValue::try_from(BINARY.encode(trace.binary())) {
        headers.insert(HeaderName::from_static("grpc-trace-bin"), value);
    }
}

#[async_trait::async_trait]
impl PeerChannel for Peers {
    async fn reach(&self, at: &Endpoint) -> Result<(), Error> {
        self.connection(at).reach().await
    }

    async fn invoke(
        &self,
        at: &Endpoint,
        app: &Target,
        call: Call,
        trace: Option<&Context>,
    ) -> Result<Reply, Error> {
        let request = self.request(call, app, trace);
        let (head, incoming) = self.connection(at).send(request).await?.into_parts();
        if head.status != http::StatusCode::OK {
            return Err(Error::Malformed(format!(
                "the sidecar at {} answered with HTTP status {}",
                at.0,
                head.status.as_u16()
            )));
        }
        grpc::check(&head.headers)?;
        let mut frames = Frames::new(incoming, self.limit.saturating_add(HEAD));
        let Some(first) = frames.message().await.map_err(malformed)? else {
            grpc::check(frames.trailers().unwrap_or(&HeaderMap::new()))?;
            return Err(Error::Malformed("no response received from stream".to_owned()));
        };
        let first = wire::ResponseChunk::decode(first).map_err(|error| malformed(error.into()))?;
        let head = first.response.ok_or_else(|| {
            Error::Malformed("response does not contain the required fields in the leading chunk".to_owned())
        })?;
        let body = Payloads::<_, wire::ResponseChunk>::body(first.payload, frames, |trailers| {
            trailers.map_or(Ok(()), |trailers| {
                grpc::check(trailers).map_err(body::Error::from)
            })
        })
        .await
        .map_err(malformed)?;
        wire::reply(head, body).map_err(malformed)
    }

    async fn proxy(&self, at: &Endpoint, request: Request<Body>) -> Result<Response<Body>, Error> {
        Ok(self.connection(at).send(request).await?.map(Body::from))
    }

    fn forget(&self, at: &Endpoint) {
        if let Some(connection) = self.connections.load().get(at) {
            connection.forget();
        }
    }
}

fn malformed(error: wire::Error) -> Error {
    match error {
        // What the other side said with its status is more than "broken".
        wire::Error::Body(error) => match error.downcast::<Error>() {
            Ok(error) => *error,
            Err(error) => Error::Unavailable(error.to_string()),
        },
        other => Error::Malformed(other.to_string()),
    }
}
