//! The door for other sidecars: `dapr.proto.internals.v1.ServiceInvocation`, and gRPC calls passed through to the app.
//!
//! Written on plain HTTP/2 instead of generated service code: this is the hot half of every invocation, and bodies
//! must stream through it.

use crate::held::{held, kept};
use crate::reflection;
use crate::service::Service;
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use outrigger_channel::body::{self, Body};
use outrigger_channel::call::Reply;
use outrigger_channel::peer::{HEAD, trace_of};
use outrigger_channel::wire::{self, Frames, Payloads, Pieces};
use outrigger_daemon::trace::{Kind, Tracer};
use outrigger_proto::dapr::common::v1 as common;
use outrigger_runtime::access::Identity;
use outrigger_runtime::admission::{Admission, Pass};
use outrigger_runtime::invoke::{Invoke, Origin, Refused};
use prost::Message as _;
use std::sync::Arc;

const NAME: &str = "dapr.proto.internals.v1.ServiceInvocation";
const SERVICE: &str = "/dapr.proto.internals.v1.ServiceInvocation/";

/// Whose certificate a request came with: sidecars show none, because mTLS is not there yet.
const CALLER: Option<&Identity> = None;

/// The door for other sidecars; cheap to clone.
#[derive(Clone)]
pub struct Internal {
    shared: Arc<Shared>,
}

struct Shared {
    invoke: Arc<Invoke>,
    tracer: Tracer,
    app_id: String,
    limit: usize,
    admission: Admission,
}

impl Internal {
    /// `limit` is `--max-body-size` in bytes: it bounds the body in one message, not a streamed body.
    pub fn new(
        invoke: Arc<Invoke>,
        tracer: Tracer,
        app_id: String,
        limit: usize,
        admission: Admission,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                invoke,
                tracer,
                app_id,
                limit,
                admission,
            }),
        }
    }

    /// The service of one connection.
    pub fn service(&self) -> Service {
        let door = self.clone();
        Service::new(move |request| {
            let door = door.clone();
            Box::pin(async move { Ok(door.serve(request).await) })
        })
    }

    /// Serves one request; what goes wrong is a gRPC status.
    async fn serve(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        let pass = match self.shared.admission.enter() {
            Ok(pass) => pass,
            Err(error) => {
                return refusal(&Refused {
                    grpc: error.code.grpc,
                    message: error.message,
                });
            }
        };
        let answer = match path {
            wire::CALL_LOCAL_STREAM => self.call_local_stream(request, pass).await,
            wire::CALL_LOCAL => self.call_local(request).await,
            _ if reflection::serves(path) => return reflection::answer(request, NAME).await,
            _ if path.starts_with(SERVICE) => {
                let message = format!(
                    "{} is not available in this version of Outrigger",
                    path.trim_start_matches('/')
                );
                Err(Refused { grpc: 12, message })
            }
            _ => self.proxy(request).await.map(|answer| held(answer, pass)),
        };
        answer.unwrap_or_else(|refused| refusal(&refused))
    }

    async fn call_local_stream(
        &self,
        request: Request<Incoming>,
        pass: Pass,
    ) -> Result<Response<Body>, Refused> {
        let (head, incoming) = request.into_parts();
        let mut frames = Frames::new(incoming, self.shared.limit.saturating_add(HEAD));
        let first = frames.message().await.map_err(broken)?.ok_or_else(incomplete)?;
        let first = wire::RequestChunk::decode(first).map_err(|error| broken(error.into()))?;
        let body = Payloads::<_, wire::RequestChunk>::body(first.payload, frames, |_| Ok(()))
            .await
            .map_err(broken)?;
        let mut reply = self
            .invoke(&head.headers, first.request.ok_or_else(incomplete)?, body)
            .await?;
        reply.body = kept(std::mem::take(&mut reply.body), pass);
        Ok(stream_answer(reply))
    }

    async fn call_local(&self, request: Request<Incoming>) -> Result<Response<Body>, Refused> {
        let (head, incoming) = request.into_parts();
        let mut frames = Frames::new(incoming, self.shared.limit.saturating_add(HEAD));
        let first = frames.message().await.map_err(broken)?.ok_or_else(incomplete)?;
        let first = wire::Request::decode(first).map_err(|error| broken(error.into()))?;
        let mut reply = self.invoke(&head.headers, first, Body::Empty).await?;
        let body = std::mem::take(&mut reply.body)
            .collect(self.shared.limit)
            .await
            .map_err(|error| broken(error.into()))?;
        let mut message = wire::reply_head(&mut reply);
        if let Some(inner) = message.message.as_mut() {
            inner.data.get_or_insert_default().value = body;
        }
        Ok(answer(wire::frame(&message), Body::Empty))
    }

    async fn invoke(&self, fields: &HeaderMap, head: wire::Request, body: Body) -> Result<Reply, Refused> {
        let call = wire::call(head, body).map_err(broken)?;
        let parent = trace_of(fields);
        let mut span = self
            .shared
            .tracer
            .start(wire::CALL_LOCAL_STREAM, Kind::Server, parent.as_ref());
        if span.is_recording() {
            span.rename(&format!("CallLocal/{}/{}", self.shared.app_id, call.method));
            span.text("dapr.api", wire::CALL_LOCAL_STREAM);
            span.text("dapr.invoke_method", &call.method);
            span.text("dapr.protocol", "grpc");
            span.text("rpc.service", "ServiceInvocation");
        }
        let reply = self.shared.invoke.serve(call, CALLER, span.context()).await;
        if let Err(refused) = &reply {
            span.fail(&refused.message);
        }
        reply
    }

    async fn proxy(&self, request: Request<Incoming>) -> Result<Response<Body>, Refused> {
        let target = proxy_target(request.headers())?;
        let parent = trace_of(request.headers());
        let mut span = self
            .shared
            .tracer
            .start(request.uri().path(), Kind::Server, parent.as_ref());
        let answer = self
            .shared
            .invoke
            .proxy(
                &target,
                request.map(Body::from),
                Origin::Peer,
                CALLER,
                span.context(),
            )
            .await;
        if let Err(refused) = &answer {
            span.fail(&refused.message);
        }
        answer
    }
}

/// The app a proxied call is for: `dapr-callee-app-id`, else `dapr-app-id`.
/// COMPAT(pkg/messaging/grpc_proxy.go).
pub(crate) fn proxy_target(headers: &HeaderMap) -> Result<String, Refused> {
    [wire::CALLEE_APP_ID, "dapr-app-id"]
        .into_iter()
        .find_map(|name| headers.get(name).and_then(|value| value.to_str().ok()))
        .map(str::to_owned)
        .ok_or_else(|| Refused {
            grpc: 2,
            message: "failed to proxy request: required metadata dapr-callee-app-id or dapr-app-id not found"
                .to_owned(),
        })
}

/// A refusal as a complete answer without a body.
pub(crate) fn refusal(refused: &Refused) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    let headers = response.headers_mut();
    headers.insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/grpc"),
    );
    headers.extend(wire::grpc_trailers(refused.grpc, &refused.message));
    response
}

/// The answer as leading message and payload stream.
fn stream_answer(mut reply: Reply) -> Response<Body> {
    let body = std::mem::take(&mut reply.body);
    let head = wire::ResponseChunk {
        response: Some(wire::reply_head(&mut reply)),
        payload: None,
    };
    match body.at_hand() {
        Some(data) => {
            let payload = (!data.is_empty()).then_some(common::StreamPayload { data, seq: 0 });
            answer(wire::frame(&wire::ResponseChunk { payload, ..head }), Body::Empty)
        }
        None => answer(wire::frame(&head), body),
    }
}

/// `first` is a framed message; `rest` follows in numbered pieces, then the status.
fn answer(first: bytes::Bytes, rest: Body) -> Response<Body> {
    let pieces = Pieces::<wire::ResponseChunk>::new(
        first,
        rest,
        0,
        Some(wire::grpc_trailers(0, "")),
        |error: body::Error| {
            Ok(wire::grpc_trailers(
                13,
                &format!("error reading the app's answer: {error}"),
            ))
        },
    );
    let mut response = Response::new(Body::stream(pieces));
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/grpc"),
    );
    response
}

fn broken(error: wire::Error) -> Refused {
    match error {
        wire::Error::TooLarge { .. } => Refused {
            grpc: 8,
            message: error.to_string(),
        },
        other => Refused {
            grpc: 3,
            message: format!("parsing InternalInvokeRequest error: {other}"),
        },
    }
}

fn incomplete() -> Refused {
    Refused {
        grpc: 3,
        message: "parsing InternalInvokeRequest error: request does not contain the required fields in the leading chunk".to_owned(),
    }
}
