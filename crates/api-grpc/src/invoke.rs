//! Service invocation: `InvokeService`, and gRPC calls of any other service passed on byte by byte.
//!
//! COMPAT(pkg/api/grpc/grpc.go InvokeService, pkg/messaging/v1/util.go): an app's HTTP status travels in `dapr-http-status`,
//! and as a gRPC status when it is a failure; headers with permanent HTTP names get the prefix `dapr-`.

use crate::error::{Failure, Status, code};
use crate::unary::{self, Answer};
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use outrigger_channel::app::grpc::metadata_of;
use outrigger_channel::body::Body;
use outrigger_channel::call::{Call, Reply, Status as Answered};
use outrigger_channel::peer::{insert_trace, trace_of};
use outrigger_channel::wire;
use outrigger_daemon::trace::Context;
use outrigger_proto::any::Any;
use outrigger_proto::dapr::common::v1::http_extension::Verb;
use outrigger_proto::dapr::common::v1::{InvokeRequest, InvokeResponse};
use outrigger_proto::dapr::runtime::v1::InvokeServiceRequest;
use outrigger_runtime::catalogue::invoke as catalogue;
use outrigger_runtime::invoke::Invoke;

const HTTP_STATUS: HeaderName = HeaderName::from_static("dapr-http-status");

/// `InvokeService`
pub(crate) async fn call(
    invoke: &Invoke,
    request: InvokeServiceRequest,
    headers: &HeaderMap,
    trace: Option<&Context>,
    limit: usize,
) -> Result<Answer, Failure> {
    let call = decode(request.message.unwrap_or_default(), headers)?;
    let mut reply = invoke.call(&request.id, call, trace).await?;
    let body = std::mem::take(&mut reply.body);
    let value = body
        .collect(limit)
        .await
        .map_err(|error| catalogue::failed(&request.id, error))?;
    let status = status(&reply.status, &value);
    let content_type = reply.content_type().to_owned();
    let data = Some(Any {
        type_url: std::mem::take(&mut reply.type_url),
        value,
    });
    let mut answer = match status {
        None => unary::answer(&InvokeResponse { data, content_type }, limit)?,
        Some(status) => Answer::failed(&status),
    };
    if matches!(reply.status, Answered::Grpc { .. }) {
        answer.trailers.extend(metadata_of(&reply.trailers));
    }
    answer.headers = encode(&reply, trace);
    Ok(answer)
}

/// The call that a request stands for.
fn decode(mut message: InvokeRequest, headers: &HeaderMap) -> Result<Call, Status> {
    let extension = message.http_extension.get_or_insert_default();
    // Apps that speak gRPC have no verbs: callers need not give one.
    if extension.verb == 0 {
        extension.verb = Verb::Post.into();
    }
    let head = wire::Request {
        message: Some(message),
        ..wire::Request::default()
    };
    let mut call = wire::call(head, Body::Empty)
        .map_err(|error| Status::new(code::INVALID_ARGUMENT, error.to_string()))?;
    for (name, value) in headers {
        if !is_of_transport(name) && !wire::is_hop_by_hop(name) {
            call.headers.append(name.clone(), value.clone());
        }
    }
    Ok(call)
}

/// Fields that describe the message they came with, not the call.
fn is_of_transport(name: &HeaderName) -> bool {
    *name == CONTENT_TYPE
        || *name == CONTENT_LENGTH
        || (name.as_str().starts_with("grpc-") && name.as_str() != "grpc-trace-bin")
}

/// The app's failure, if it is one.
fn status(answered: &Answered, body: &[u8]) -> Option<Status> {
    match answered {
        Answered::Http(200..=299) | Answered::Grpc { code: 0, .. } => None,
        Answered::Http(http) => Some(Status::of_http(*http, &String::from_utf8_lossy(body))),
        Answered::Grpc {
            code,
            message,
            details,
        } => Some(Status {
            code: *code,
            message: message.clone(),
            details: details.clone(),
        }),
    }
}

/// The metadata of the answer.
fn encode(reply: &Reply, trace: Option<&Context>) -> HeaderMap {
    let mut headers = metadata_of(&reply.headers);
    if let Answered::Http(http) = reply.status {
        headers.insert(HTTP_STATUS, HeaderValue::from(http));
    }
    // A trace that the app answers with wins over ours, whatever its form.
    if let Some(trace) = trace_of(&reply.headers).as_ref().or(trace) {
        insert_trace(&mut headers, trace);
    }
    headers
}
