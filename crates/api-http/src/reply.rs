//! The few shapes of an answer.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use outrigger_channel::body::Body;
use outrigger_component::metadata::Metadata;
use serde::Serialize;

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// 204.
pub(crate) fn empty() -> Response<Body> {
    status(StatusCode::NO_CONTENT)
}

/// No body.
pub(crate) fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    response
}

/// These bytes, of no declared type.
pub(crate) fn full(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::from(body.into()));
    *response.status_mut() = status;
    response
}

/// These bytes, declared to be JSON.
pub(crate) fn json_bytes(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = full(status, body);
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// A value as JSON.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    let body = serde_json::to_vec(value).expect("our answers have text keys and no failing parts");
    json_bytes(status, body)
}

/// Adds each entry as `metadata.<name>`; what cannot be a header is left out.
pub(crate) fn add_metadata(headers: &mut HeaderMap, metadata: &Metadata) {
    for (name, value) in metadata.iter() {
        if let (Ok(name), Ok(value)) = (
            HeaderName::try_from(format!("metadata.{name}")),
            HeaderValue::try_from(value),
        ) {
            headers.insert(name, value);
        }
    }
}
