//! Posting a batch to a collector, over HTTP or as a gRPC call.
//!
//! One unary call needs five bytes of framing and a look at the trailers, which is why there is no gRPC library here.

use std::fmt::{self, Display};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, TE};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use super::Error;
use crate::tls;

/// Where to send, and with which headers.
pub(super) struct Endpoint {
    uri: Uri,
    headers: HeaderMap,
    timeout: Duration,
    /// Makes connections; what the tasks of `client` run on ends with it.
    connector: tls::Connector,
    client: tls::Streaming<Full<Bytes>>,
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(super) struct Failure {
    reason: String,
    /// Whether another try may help.
    pub(super) retry: bool,
}

/// Answers are short; more than this is not one.
const MAX_ANSWER: usize = 64 << 10;

/// Where `address`, a URL or `host:port`, leads. `path` is used where it has none.
pub(super) fn url(address: &str, secure: bool, path: &str) -> Result<Uri, Error> {
    let invalid = || Error::Endpoint(shown(address));
    let url = match address.split_once("://") {
        Some(_) => address.to_owned(),
        None => format!("{}://{address}", if secure { "https" } else { "http" }),
    };
    let mut parts = url.parse::<Uri>().map_err(|_| invalid())?.into_parts();
    if !matches!(&parts.scheme, Some(scheme) if *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS) {
        return Err(invalid());
    }
    if parts.path_and_query.as_ref().is_none_or(|path| path == "/") && !path.is_empty() {
        parts.path_and_query = Some(path.parse().map_err(|_| invalid())?);
    }
    Uri::from_parts(parts).map_err(|_| invalid())
}

impl Endpoint {
    pub(super) fn new(
        uri: Uri,
        timeout: Duration,
        headers: &[(String, String)],
        trust: &tls::Client<'_>,
    ) -> Result<Self, Error> {
        let headers = headers
            .iter()
            .map(|(name, value)| {
                let header = || Error::Header(name.clone());
                let mut value = HeaderValue::try_from(value).map_err(|_| header())?;
                value.set_sensitive(true);
                Ok((HeaderName::try_from(name).map_err(|_| header())?, value))
            })
            .collect::<Result<_, Error>>()?;
        let nobody = tls::Client {
            trust: tls::Trust::Nobody,
            ..tls::Client::default()
        };
        // The machine's authorities are some hundred files: not read for nothing.
        let is_secure = uri.scheme() == Some(&Scheme::HTTPS);
        let config = tls::client(if is_secure { trust } else { &nobody });
        let connector = tls::connector(config.map_err(|source| Error::Tls {
            endpoint: shown(&uri.to_string()),
            source: Box::new(source),
        })?);
        Ok(Self {
            uri,
            headers,
            timeout,
            client: Client::builder(TokioExecutor::new()).build(connector.clone()),
            connector,
        })
    }

    /// Requests are posts of this type.
    pub(super) fn over_http(mut self, content_type: &'static str) -> Self {
        self.headers
            .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        self
    }

    /// Requests are calls of this method.
    pub(super) fn over_grpc(mut self, method: &'static str) -> Result<Self, Error> {
        let mut parts = self.uri.clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::from_static(method));
        self.uri = Uri::from_parts(parts).map_err(|_| Error::Endpoint(self.to_string()))?;
        self.headers
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        self.headers.insert(TE, HeaderValue::from_static("trailers"));
        self.client = Client::builder(TokioExecutor::new())
            .http2_only(true)
            .build(self.connector.clone());
        Ok(self)
    }

    /// Posts a body; any 2xx is success.
    pub(super) async fn post(&self, body: Bytes) -> Result<(), Failure> {
        let (status, _) = self.send(body).await?;
        if status.is_success() {
            return Ok(());
        }
        // COMPAT(OTLP specification): these may pass.
        let retry = matches!(status.as_u16(), 429 | 502 | 503 | 504);
        Err(Failure {
            reason: format!("answered {status}"),
            retry,
        })
    }

    /// Makes a unary call; the answer's message is not looked at.
    pub(super) async fn call(&self, message: &[u8]) -> Result<(), Failure> {
        let length = u32::try_from(message.len()).map_err(|_| Failure {
            reason: "the batch exceeds 4 GiB".to_owned(),
            retry: false,
        })?;
        let mut frame = BytesMut::with_capacity(5 + message.len());
        frame.put_u8(0);
        frame.put_u32(length);
        frame.put_slice(message);
        let (status, headers) = self.send(frame.freeze()).await?;
        if !status.is_success() {
            return Err(Failure {
                reason: format!("answered {status}"),
                retry: status.is_server_error(),
            });
        }
        let text = |name| {
            headers
                .get(name)
                .and_then(|value: &HeaderValue| value.to_str().ok())
        };
        match text("grpc-status") {
            Some("0") => Ok(()),
            Some(code) => Err(Failure {
                reason: format!(
                    "answered gRPC status {code}: {}",
                    text("grpc-message").unwrap_or("no message")
                ),
                // COMPAT(OTLP specification): cancelled, deadline exceeded, aborted, out of range, unavailable, data loss.
                retry: matches!(code, "1" | "4" | "10" | "11" | "14" | "15"),
            }),
            None => Err(Failure {
                reason: "answered without a gRPC status".to_owned(),
                retry: false,
            }),
        }
    }

    /// One try. Returns the status, and headers and trailers together.
    async fn send(&self, body: Bytes) -> Result<(StatusCode, HeaderMap), Failure> {
        let passing = |reason: String| Failure { reason, retry: true };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        let exchange = async {
            let (head, body) = self
                .client
                .request(request)
                .await
                .map_err(|error| passing(causes(&error)))?
                .into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await;
            let body = body.map_err(|error| passing(causes(error.as_ref())))?;
            let mut headers = head.headers;
            headers.extend(body.trailers().cloned().unwrap_or_default());
            Ok((head.status, headers))
        };
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(passing(format!("no answer within {:?}", self.timeout))),
        }
    }
}

impl Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Host and port only: the rest of a URL may hold credentials.
        f.write_str(self.uri.host().unwrap_or("nowhere"))?;
        self.uri.port().map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// An address as it may be shown: without user name, password and query.
pub(super) fn shown(address: &str) -> String {
    let address = address.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = address
        .split_once("://")
        .map_or(("", address), |(scheme, rest)| (scheme, rest));
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    if scheme.is_empty() {
        rest.to_owned()
    } else {
        format!("{scheme}://{rest}")
    }
}

/// An error and what caused it, in one line.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
