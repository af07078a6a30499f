//! One HTTP call to a sidecar, over its port or its unix socket. A connection per call: these are rare.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use outrigger_sidecar::config::Environment;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Largest answer that is read.
const ANSWER: usize = 64 << 20;
/// What may stand in a path segment or a query value as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Where a sidecar serves its HTTP API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// On the loopback interface.
    Port(u16),
    Socket(PathBuf),
}

/// A sidecar and what it asks of its callers.
#[derive(Clone)]
pub(crate) struct Sidecar {
    place: Place,
    token: Option<String>,
}

/// A call: what differs between one and another.
pub(crate) struct Call<'a> {
    pub(crate) method: &'a str,
    /// With the query.
    pub(crate) path: &'a str,
    pub(crate) content_type: Option<&'a str>,
    pub(crate) body: Bytes,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

impl Sidecar {
    /// Sends the API token of the environment, as every client of a sidecar does.
    pub(crate) fn new(place: Place, environment: &Environment) -> Self {
        Self {
            place,
            token: environment.get("DAPR_API_TOKEN"),
        }
    }

    /// A GET without a body.
    pub(crate) async fn get(&self, path: &str, patience: Duration) -> Result<Answer> {
        let call = Call {
            method: "GET",
            path,
            content_type: None,
            body: Bytes::new(),
        };
        self.call(call, patience).await
    }

    /// # Errors
    /// Nobody listens, or no complete answer came within `patience`. A status of failure is an answer.
    pub(crate) async fn call(&self, call: Call<'_>, patience: Duration) -> Result<Answer> {
        let mut request = Request::builder()
            .method(call.method)
            .uri(call.path)
            .header("host", "localhost");
        if let Some(content_type) = call.content_type {
            request = request.header("content-type", content_type);
        }
        if let Some(token) = &self.token {
            request = request.header("dapr-api-token", token);
        }
        let request = request
            .body(Full::new(call.body))
            .with_context(|| format!("cannot make a request of {} {}", call.method, call.path))?;
        let Ok(answer) = tokio::time::timeout(patience, self.exchange(request)).await else {
            bail!("no answer from the sidecar on {} within {patience:?}", self.place);
        };
        answer.with_context(|| format!("cannot reach the sidecar on {}", self.place))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer> {
        match &self.place {
            Place::Port(port) => over(TcpStream::connect(("127.0.0.1", *port)).await?, request).await,
            Place::Socket(path) => over(UnixStream::connect(path).await?, request).await,
        }
    }
}

async fn over(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Answer> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async move { read(sender.send_request(request).await?).await };
    let (mut connection, mut exchange) = (pin!(connection), pin!(exchange));
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        ended = &mut connection => {
            // The answer may have come whole before the other side closed.
            ended?;
            exchange.await
        }
    }
}

async fn read(response: Response<Incoming>) -> Result<Answer> {
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), ANSWER).collect().await;
    match body {
        Ok(body) => Ok(Answer {
            status,
            body: body.to_bytes(),
        }),
        Err(error) => bail!("cannot read the answer: {error}"),
    }
}

impl Answer {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as text for people, with the status.
    pub(crate) fn describe(&self) -> String {
        let body = String::from_utf8_lossy(&self.body);
        match body.trim() {
            "" => format!("status {}", self.status),
            body => format!("status {}: {body}", self.status),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Port(port) => write!(f, "port {port}"),
            Self::Socket(path) => write!(f, "socket {}", path.display()),
        }
    }
}

/// A path segment or a query value.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

/// Repeats `ask` until it answers something or `patience` is over.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
    patience: Duration,
    mut ask: impl FnMut() -> F,
) -> Option<T> {
    /// Between two attempts. Sidecars are ready within milliseconds.
    const PAUSE: Duration = Duration::from_millis(10);
    tokio::time::timeout(patience, async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(PAUSE).await;
        }
    })
    .await
    .ok()
}
