//! One invocation and its answer: HTTP-shaped, streamed from end to end, the same pair of types at the
//! door, between sidecars, and towards the app.

use crate::body::Body;
use bytes::Bytes;
use http::HeaderMap;

/// An invocation of a method of an app.
#[derive(Debug, Default)]
pub struct Call {
    pub verb: http::Method,
    /// Normalised method: no leading slash, no `..`, decoded; may be empty.
    pub method: String,
    /// Raw query text without the question mark; empty when there is none.
    pub query: String,
    /// HTTP headers or gRPC metadata of the caller, hop-by-hop fields already removed.
    pub headers: HeaderMap,
    pub body: Body,
    /// The type URL of the data, when the caller used the gRPC `InvokeService` with an `Any`.
    pub type_url: String,
    /// The caller waits for server-sent events: every piece is passed on at once.
    pub event_stream: bool,
}

impl Call {
    /// Content type as text; empty when there is none or it is not text.
    pub fn content_type(&self) -> &str {
        self.headers
            .get(http::header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

/// How the app answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// An HTTP app's status code.
    Http(u16),
    /// A gRPC app's status; `details` is the encoded repeated `Any`.
    Grpc {
        code: i32,
        message: String,
        details: Vec<Bytes>,
    },
}

impl Status {
    /// Whether resiliency policies count the answer as a success.
    pub fn is_success(&self) -> bool {
        match self {
            Self::Http(code) => (200..400).contains(code),
            Self::Grpc { code, .. } => *code == 0,
        }
    }
}

/// The answer to a [`Call`].
#[derive(Debug)]
pub struct Reply {
    pub status: Status,
    pub headers: HeaderMap,
    pub trailers: HeaderMap,
    pub body: Body,
    pub type_url: String,
}

impl Reply {
    pub fn http(status: u16, body: impl Into<Body>) -> Self {
        Self {
            status: Status::Http(status),
            headers: HeaderMap::new(),
            trailers: HeaderMap::new(),
            body: body.into(),
            type_url: String::new(),
        }
    }

    pub fn content_type(&self) -> &str {
        self.headers
            .get(http::header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}
