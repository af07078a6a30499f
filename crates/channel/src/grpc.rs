//! Unary gRPC calls over a [`Pool`], for callbacks of the app: typed at the edge, bytes in the middle.

use crate::body::Body;
use crate::error::Error;
use crate::h2::{self, Pool};
use crate::wire::{self, Frames};
use http::header::{CONTENT_TYPE, HeaderValue, TE};
use http::{HeaderMap, Method, Request};
use prost::Message;

/// An answer with its metadata.
pub struct Answer<T> {
    pub message: T,
    pub headers: HeaderMap,
    pub trailers: HeaderMap,
}

/// Calls `path` (`/package.Service/Method`). A status other than OK is [`Error::Status`].
pub async fn unary<Req: Message, Res: Message + Default>(
    pool: &Pool,
    path: &'static str,
    headers: HeaderMap,
    message: &Req,
    limit: usize,
) -> Result<Answer<Res>, Error> {
    let mut request = Request::new(Body::Full(wire::frame(message)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = h2::path(path);
    *request.headers_mut() = headers;
    request.headers_mut().insert(CONTENT_TYPE, h2::GRPC);
    request
        .headers_mut()
        .insert(TE, HeaderValue::from_static("trailers"));
    let (head, body) = pool.send(request).await?.into_parts();
    if head.status != http::StatusCode::OK {
        return Err(Error::Malformed(format!(
            "unexpected HTTP status code received from server: {}",
            head.status.as_u16()
        )));
    }
    check(&head.headers)?;
    let mut frames = Frames::new(body, limit);
    let malformed = |error: wire::Error| Error::Malformed(error.to_string());
    let first = frames.message().await.map_err(malformed)?;
    // Trailers come after the last message: read to the end.
    while frames.message().await.map_err(malformed)?.is_some() {}
    let trailers = frames.trailers().cloned().unwrap_or_default();
    check(&trailers)?;
    let first = first.ok_or_else(|| Error::Malformed("the answer has no message".to_owned()))?;
    let message = Res::decode(first)
        .map_err(|error| Error::Malformed(format!("the answer cannot be decoded: {error}")))?;
    Ok(Answer {
        message,
        headers: head.headers,
        trailers,
    })
}

/// A failure if the fields carry a status other than OK.
pub fn check(fields: &HeaderMap) -> Result<(), Error> {
    match wire::grpc_status(fields) {
        None | Some((0, _)) => Ok(()),
        Some((code, message)) => Err(Error::Status {
            code,
            message,
            details: status_details(fields),
        }),
    }
}

/// `grpc-status-details-bin`: an encoded `google.rpc.Status`; empty when absent or broken.
fn status_details(fields: &HeaderMap) -> Vec<u8> {
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        base64::engine::GeneralPurposeConfig::new()
            .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
    );
    fields
        .get("grpc-status-details-bin")
        .and_then(|value| engine.decode(value.as_bytes()).ok())
        .unwrap_or_default()
}
