//! Leading messages: a call or a reply without its body, to and from protobuf.
//!
//! COMPAT(pkg/messaging/v1): header names of HTTP callers travel in Go's canonical form; HTTP and gRPC status codes
//! share one field.

use super::{Error, MOST_FIELDS};
use crate::body::Body;
use crate::call::{Call, Reply, Status};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use outrigger_proto::any::Any;
use outrigger_proto::dapr::common::v1 as common;
use outrigger_proto::dapr::internals::v1 as internals;
use prost::Message;
use std::collections::HashMap;

type Fields = HashMap<String, internals::ListStringValue>;

/// The leading message of a call. Header names go out in Go's canonical form, which reference sidecars take
/// as the mark of an HTTP caller.
pub fn request_head(call: &mut Call) -> internals::InternalInvokeRequest {
    let content_type = call.content_type().to_owned();
    let verb = verb_number(&call.verb);
    let grpc = content_type.starts_with("application/grpc");
    internals::InternalInvokeRequest {
        ver: internals::ApiVersion::V1 as i32,
        metadata: fields(&call.headers, !grpc),
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
        actor: None,
    }
}

/// A call out of its leading message; the body is given separately.
pub fn call(head: internals::InternalInvokeRequest, body: Body) -> Result<Call, Error> {
    let Some(message) = head.message else {
        return Err(Error::Protocol(
            "request does not contain the required fields in the leading chunk",
        ));
    };
    let extension = message.http_extension.unwrap_or_default();
    let mut headers = headers(head.metadata)?;
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

/// The leading message of a reply, without its body.
pub fn reply_head(reply: &Reply) -> internals::InternalInvokeResponse {
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
    internals::InternalInvokeResponse {
        status: Some(status),
        headers: fields(&reply.headers, http),
        trailers: fields(&reply.trailers, false),
        message: Some(common::InvokeResponse {
            data: (!reply.type_url.is_empty()).then(|| Any {
                type_url: reply.type_url.clone(),
                value: Bytes::new(),
            }),
            content_type: reply.content_type().to_owned(),
        }),
    }
}

/// A reply out of its leading message. HTTP and gRPC answers share the field: HTTP codes begin at 100.
/// COMPAT(pkg/messaging/v1/invoke_method_response.go): `IsHTTPResponse` is "code >= 100".
pub fn reply(head: internals::InternalInvokeResponse, body: Body) -> Result<Reply, Error> {
    let Some(status) = head.status else {
        return Err(Error::Protocol(
            "response does not contain the required fields in the leading chunk",
        ));
    };
    let mut headers = headers(head.headers)?;
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
        trailers: self::headers(head.trailers)?,
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

fn fields(headers: &HeaderMap, canonical: bool) -> Fields {
    let mut fields = Fields::with_capacity(headers.keys_len() + 6);
    for name in headers.keys() {
        let values = headers.get_all(name).iter().map(text).collect();
        let name = if canonical {
            canonical_name(name.as_str())
        } else {
            name.as_str().to_owned()
        };
        fields.insert(name, internals::ListStringValue { values });
    }
    fields
}

/// A field value as text. Bytes that are not UTF-8 can not travel in a protobuf string: they are replaced.
fn text(value: &HeaderValue) -> String {
    value.to_str().map_or_else(
        |_| String::from_utf8_lossy(value.as_bytes()).into_owned(),
        str::to_owned,
    )
}

fn headers(fields: Fields) -> Result<HeaderMap, Error> {
    let values: usize = fields.values().map(|list| list.values.len()).sum();
    if fields.len().max(values) > MOST_FIELDS {
        return Err(Error::TooManyFields);
    }
    let mut headers = HeaderMap::with_capacity(fields.len());
    for (name, list) in fields {
        let Ok(name) = HeaderName::try_from(name) else {
            continue;
        };
        for value in list.values {
            // What cannot be an HTTP field value (a line break) could split the message: it is left out.
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.append(name.clone(), value);
            }
        }
    }
    Ok(headers)
}

/// `content-type` → `Content-Type`, as Go's net/http writes header names.
fn canonical_name(name: &str) -> String {
    let mut start = true;
    name.chars()
        .map(|letter| {
            let shown = if start {
                letter.to_ascii_uppercase()
            } else {
                letter
            };
            start = letter == '-';
            shown
        })
        .collect()
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
