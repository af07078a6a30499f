//! Leading messages: a call or a reply without its body, to and from protobuf.
//!
//! COMPAT(pkg/messaging/v1): header names of HTTP callers travel in Go's canonical form; HTTP and gRPC status codes
//! share one field.

use super::Error;
use super::message::{Fields, Request, Response};
use crate::body::Body;
use crate::call::{Call, Reply, Status};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method};
use outrigger_proto::any::Any;
use outrigger_proto::dapr::common::v1 as common;
use outrigger_proto::dapr::internals::v1 as internals;
use prost::Message;

/// The leading message of a call, which gives up its headers for it. Header names go out in Go's canonical form, which
/// reference sidecars take as the mark of an HTTP caller.
pub fn request_head(call: &mut Call) -> Request {
    let content_type = call.content_type().to_owned();
    let verb = verb_number(&call.verb);
    let grpc = content_type.starts_with("application/grpc");
    Request {
        ver: internals::ApiVersion::V1 as i32,
        metadata: Fields::new(std::mem::take(&mut call.headers), !grpc),
        message: Some(common::InvokeRequest {
            method: std::mem::take(&mut call.method),
            data: (!call.type_url.is_empty()).then(|| Any {
                type_url: std::mem::take(&mut call.type_url),
                value: Bytes::new(),
            }),
            content_type,
            http_extension: Some(common::HttpExtension {
                verb,
                querystring: std::mem::take(&mut call.query),
            }),
        }),
    }
}

/// A call out of its leading message; the body is given separately.
pub fn call(head: Request, body: Body) -> Result<Call, Error> {
    let Some(message) = head.message else {
        return Err(Error::Protocol(
            "request does not contain the required fields in the leading chunk",
        ));
    };
    let extension = message.http_extension.unwrap_or_default();
    let mut headers = taken(head.metadata)?;
    let data = message.data.unwrap_or_default();
    set_content_type(&mut headers, &message.content_type, &data.type_url);
    Ok(Call {
        verb: verb_of(extension.verb).ok_or(Error::Protocol("invalid HTTP verb"))?,
        method: message.method,
        query: extension.querystring,
        event_stream: headers
            .get(http::header::ACCEPT)
            .is_some_and(|accept| accept == "text/event-stream"),
        headers,
        body: if data.value.is_empty() {
            body
        } else {
            Body::Full(data.value)
        },
        type_url: data.type_url,
    })
}

/// The leading message of a reply, without its body; the reply gives up its headers and trailers for it.
pub fn reply_head(reply: &mut Reply) -> Response {
    let content_type = reply.content_type().to_owned();
    let (status, http) = match &reply.status {
        Status::Http(code) => (
            internals::Status {
                code: i32::from(*code),
                message: String::new(),
                details: Vec::new(),
            },
            true,
        ),
        Status::Grpc {
            code,
            message,
            details,
        } => (
            internals::Status {
                code: *code,
                message: message.clone(),
                details: details
                    .iter()
                    .filter_map(|any| Any::decode(any.clone()).ok())
                    .collect(),
            },
            false,
        ),
    };
    Response {
        status: Some(status),
        headers: Fields::new(std::mem::take(&mut reply.headers), http),
        trailers: Fields::new(std::mem::take(&mut reply.trailers), false),
        message: Some(common::InvokeResponse {
            data: (!reply.type_url.is_empty()).then(|| Any {
                type_url: reply.type_url.clone(),
                value: Bytes::new(),
            }),
            content_type,
        }),
    }
}

/// A reply out of its leading message. HTTP and gRPC answers share the field: HTTP codes begin at 100.
/// COMPAT(pkg/messaging/v1/invoke_method_response.go): `IsHTTPResponse` is "code >= 100".
pub fn reply(head: Response, body: Body) -> Result<Reply, Error> {
    let Some(status) = head.status else {
        return Err(Error::Protocol(
            "response does not contain the required fields in the leading chunk",
        ));
    };
    let mut headers = taken(head.headers)?;
    let message = head.message.unwrap_or_default();
    let data = message.data.unwrap_or_default();
    set_content_type(&mut headers, &message.content_type, &data.type_url);
    Ok(Reply {
        status: match u16::try_from(status.code) {
            Ok(code @ 100..) => Status::Http(code),
            _ => Status::Grpc {
                code: status.code,
                message: status.message,
                details: status
                    .details
                    .iter()
                    .map(|any| any.encode_to_vec().into())
                    .collect(),
            },
        },
        headers,
        trailers: taken(head.trailers)?,
        body: if data.value.is_empty() {
            body
        } else {
            Body::Full(data.value)
        },
        type_url: data.type_url,
    })
}

pub(crate) fn set_content_type(headers: &mut HeaderMap, content_type: &str, type_url: &str) {
    let text = if type_url.is_empty() {
        content_type
    } else {
        "application/x-protobuf"
    };
    headers.remove(CONTENT_LENGTH);
    if let Ok(value) = HeaderValue::from_str(text)
        && !text.is_empty()
    {
        headers.insert(CONTENT_TYPE, value);
    }
}

fn taken(fields: Fields) -> Result<HeaderMap, Error> {
    if fields.overflow {
        return Err(Error::TooManyFields);
    }
    Ok(fields.map)
}

/// Number of a verb in `HTTPExtension.Verb`; unknown ones count as POST, as in the reference.
pub(crate) fn verb_number(verb: &Method) -> i32 {
    match verb.as_str() {
        "GET" => 1,
        "HEAD" => 2,
        "PUT" => 4,
        "DELETE" => 5,
        "CONNECT" => 6,
        "OPTIONS" => 7,
        "TRACE" => 8,
        "PATCH" => 9,
        _ => 3,
    }
}

/// `None` for the verbs that cannot be invoked (none, CONNECT).
pub fn verb_of(number: i32) -> Option<Method> {
    Some(match number {
        1 => Method::GET,
        2 => Method::HEAD,
        3 => Method::POST,
        4 => Method::PUT,
        5 => Method::DELETE,
        7 => Method::OPTIONS,
        8 => Method::TRACE,
        9 => Method::PATCH,
        _ => return None,
    })
}
