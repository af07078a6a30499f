//! Failures as gRPC: one rendering for every [`ApiError`], and statuses for what is refused before a use case is reached.
//!
//! COMPAT(pkg/messages/api_error.go, dapr/kit errors, pkg/messaging/v1/util.go): codes, texts and details.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Response};
use outrigger_channel::app::grpc_code_of_http;
use outrigger_channel::body::Body;
use outrigger_channel::wire;
use outrigger_proto::any::Any;
use outrigger_proto::google::rpc::{BadRequest, ErrorInfo, Help, ResourceInfo, bad_request, help};
use outrigger_runtime::error::{ApiError, Detail};
use outrigger_runtime::invoke::Refused;
use prost::Message;
use std::collections::HashMap;

/// `content-type` of every answer.
pub(crate) const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const DOMAIN: &str = "dapr.io";
/// Longest text of the app that goes into a detail, in bytes.
const SHOWN: usize = 63;

/// Longest message, and longest details, that travel as metadata, in bytes.
const LONGEST: usize = 8 << 10;

/// gRPC status codes by name. Source: google/rpc/code.proto.
pub(crate) mod code {
    pub(crate) const CANCELLED: i32 = 1;
    pub(crate) const UNKNOWN: i32 = 2;
    pub(crate) const INVALID_ARGUMENT: i32 = 3;
    pub(crate) const DEADLINE_EXCEEDED: i32 = 4;
    pub(crate) const RESOURCE_EXHAUSTED: i32 = 8;
    pub(crate) const UNIMPLEMENTED: i32 = 12;
    pub(crate) const INTERNAL: i32 = 13;
    pub(crate) const UNAVAILABLE: i32 = 14;
}

/// How a call ended, when it did not end well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) code: i32,
    pub(crate) message: String,
    /// Each an encoded `google.protobuf.Any`.
    pub(crate) details: Vec<Bytes>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A use case failed: counted by its code.
    Api(ApiError),
    /// The call did not get that far.
    Refused(Status),
}

impl Status {
    pub(crate) fn new(code: i32, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: Vec::new(),
        }
    }

    /// An HTTP status as a gRPC one: the text is the status's own, `shown` goes into a detail.
    pub(crate) fn of_http(http: u16, shown: &str) -> Self {
        let text = reason(http);
        let metadata = HashMap::from([
            ("http.code".to_owned(), http.to_string()),
            ("http.error_message".to_owned(), head(shown, SHOWN).to_owned()),
        ]);
        let info = ErrorInfo {
            reason: text.to_owned(),
            domain: DOMAIN.to_owned(),
            metadata,
        };
        Self {
            code: grpc_code_of_http(http),
            message: text.to_owned(),
            details: vec![any("google.rpc.ErrorInfo", &info)],
        }
    }

    /// Texts may repeat what the caller sent; beyond what clients take as metadata they would cost it the connection. A longer
    /// message is cut, and longer details are left out.
    pub(crate) fn trailers(&self) -> HeaderMap {
        let message = head(&self.message, LONGEST);
        let mut trailers = wire::grpc_trailers(self.code, message);
        let size: usize = self.details.iter().map(Bytes::len).sum();
        if (1..=LONGEST).contains(&size) {
            let status = RpcStatus {
                code: self.code,
                message: message.to_owned(),
                details: self.details.clone(),
            };
            let encoded = STANDARD_NO_PAD.encode(status.encode_to_vec());
            let encoded = HeaderValue::try_from(encoded).expect("base64 is a valid header value");
            trailers.insert(DETAILS, encoded);
        }
        trailers
    }

    /// A complete answer without headers and body.
    pub(crate) fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::Empty);
        *response.headers_mut() = self.trailers();
        response.headers_mut().insert(CONTENT_TYPE, GRPC);
        response
    }
}

impl From<&ApiError> for Status {
    fn from(error: &ApiError) -> Self {
        let mut details: Vec<Bytes> = error.details.iter().map(detail).collect();
        let informed = error
            .details
            .iter()
            .any(|detail| matches!(detail, Detail::ErrorInfo { .. }));
        if !informed && !error.code.reason.is_empty() {
            let info = ErrorInfo {
                reason: error.code.reason.to_owned(),
                domain: DOMAIN.to_owned(),
                metadata: HashMap::new(),
            };
            details.push(any("google.rpc.ErrorInfo", &info));
        }
        Self {
            code: error.code.grpc,
            message: error.message.clone(),
            details,
        }
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        Self::new(refused.grpc, refused.message)
    }
}

/// A request that cannot be read.
impl From<wire::Error> for Status {
    fn from(error: wire::Error) -> Self {
        match error {
            wire::Error::TooLarge { .. } => Self::new(code::RESOURCE_EXHAUSTED, error.to_string()),
            wire::Error::Compressed => Self::new(
                code::UNIMPLEMENTED,
                "grpc: compressed messages are not available in this version of Outrigger",
            ),
            wire::Error::Decode(error) => Self::new(
                code::INTERNAL,
                format!("grpc: error unmarshalling request: {error}"),
            ),
            other => Self::new(code::INTERNAL, format!("the request cannot be read: {other}")),
        }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

impl From<wire::Error> for Failure {
    fn from(error: wire::Error) -> Self {
        Self::Refused(error.into())
    }
}

/// The text of an HTTP status as Go words it.
fn reason(http: u16) -> &'static str {
    match http {
        413 => "Request Entity Too Large",
        414 => "Request URI Too Long",
        416 => "Requested Range Not Satisfiable",
        _ => http::StatusCode::from_u16(http)
            .ok()
            .and_then(|status| status.canonical_reason())
            .unwrap_or_default(),
    }
}

/// The first bytes of a text, cut between characters.
fn head(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or_default()
}

fn detail(detail: &Detail) -> Bytes {
    match detail {
        Detail::ErrorInfo { reason, metadata } => any(
            "google.rpc.ErrorInfo",
            &ErrorInfo {
                reason: reason.clone(),
                domain: DOMAIN.to_owned(),
                metadata: metadata.clone().into_iter().collect(),
            },
        ),
        Detail::ResourceInfo {
            resource_type,
            resource_name,
            owner,
            description,
        } => any(
            "google.rpc.ResourceInfo",
            &ResourceInfo {
                resource_type: resource_type.clone(),
                resource_name: resource_name.clone(),
                owner: owner.clone(),
                description: description.clone(),
            },
        ),
        Detail::BadRequest { violations } => {
            let field_violations = violations
                .iter()
                .map(|it| bad_request::FieldViolation {
                    field: it.field.clone(),
                    description: it.description.clone(),
                })
                .collect();
            any("google.rpc.BadRequest", &BadRequest { field_violations })
        }
        Detail::Help { links } => {
            let links = links
                .iter()
                .map(|it| help::Link {
                    description: it.description.clone(),
                    url: it.url.clone(),
                })
                .collect();
            any("google.rpc.Help", &Help { links })
        }
    }
}

fn any(name: &str, message: &impl Message) -> Bytes {
    let any = Any {
        type_url: format!("type.googleapis.com/{name}"),
        value: message.encode_to_vec().into(),
    };
    any.encode_to_vec().into()
}

/// `google.rpc.Status`; the details stay encoded.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(bytes = "bytes", repeated, tag = "3")]
    details: Vec<Bytes>,
}
