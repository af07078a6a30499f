//! One HTTP/2 connection (without TLS) to one address, made on first use and made anew when it is gone. Carries calls to
//! other sidecars, to `h2c` apps and to gRPC apps.

use crate::body::Body;
use crate::error::Error;
use http::{HeaderValue, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use outrigger_daemon::tasks::Spawner;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;

/// Time for connecting, handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of one body that may be under way unread: the bound on memory per stream.
const STREAM_WINDOW: u32 = 512 << 10;
const CONNECTION_WINDOW: u32 = 4 << 20;

type Sender = http2::SendRequest<Body>;

pub struct Connection {
    address: String,
    /// What the address is, for error messages: `the app`, `the sidecar of app "b"`.
    what: String,
    live: Mutex<Option<Sender>>,
    connecting: tokio::sync::Mutex<()>,
    spawner: Spawner,
}

impl Connection {
    /// `address` is `host:port`; nothing is connected yet.
    pub fn new(address: String, what: String, spawner: Spawner) -> Self {
        Self {
            address,
            what,
            live: Mutex::new(None),
            connecting: tokio::sync::Mutex::new(()),
            spawner,
        }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// Sends a request (its URI without authority) and waits for the head of the answer. A connection that was
    /// closed meanwhile is replaced, as long as nothing of the request was sent.
    pub async fn send(&self, mut request: Request<Body>) -> Result<Response<Incoming>, Error> {
        let mut parts = request.uri().clone().into_parts();
        parts.scheme = Some(http::uri::Scheme::HTTP);
        parts.authority = Some(
            self.address
                .parse()
                .map_err(|_| self.failed(&"the address is not valid"))?,
        );
        *request.uri_mut() = Uri::from_parts(parts).map_err(|error| Error::Invalid(error.to_string()))?;
        request.headers_mut().remove(http::header::HOST);
        let mut retried = false;
        loop {
            let (mut sender, fresh) = self.sender().await?;
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(response),
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) if !fresh && !retried => {
                        retried = true;
                        request = unsent;
                        self.drop_closed();
                    }
                    _ => return Err(self.failed(&describe(failed.error()))),
                },
            }
        }
    }

    /// Connects if there is no live connection.
    pub async fn reach(&self) -> Result<(), Error> {
        self.sender().await.map(|_| ())
    }

    /// Closes the connection for new requests; the next one connects anew.
    pub fn forget(&self) {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn drop_closed(&self) {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if live.as_ref().is_some_and(Sender::is_closed) {
            *live = None;
        }
    }

    fn ready(&self) -> Option<Sender> {
        self.live
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .filter(|sender| !sender.is_closed())
            .cloned()
    }

    async fn sender(&self) -> Result<(Sender, bool), Error> {
        if let Some(sender) = self.ready() {
            return Ok((sender, false));
        }
        let _turn = self.connecting.lock().await;
        if let Some(sender) = self.ready() {
            return Ok((sender, false));
        }
        let sender = tokio::time::timeout(CONNECT_TIMEOUT, self.connect())
            .await
            .map_err(|_| self.failed(&format_args!("no connection within {CONNECT_TIMEOUT:?}")))??;
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender.clone());
        Ok((sender, true))
    }

    async fn connect(&self) -> Result<Sender, Error> {
        let stream = TcpStream::connect(&self.address)
            .await
            .map_err(|error| self.failed(&error))?;
        stream.set_nodelay(true).map_err(|error| self.failed(&error))?;
        let (sender, driver) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(1 << 20)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(10))
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.failed(&describe(&error)))?;
        self.spawner.spawn("connection", async move {
            // How it ended shows on the requests that were under way.
            let _ended = driver.await;
        });
        Ok(sender)
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> Error {
        Error::Unavailable(format!("cannot reach {} at {}: {error}", self.what, self.address))
    }
}

/// An error with its causes, in one line.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// The path part of a URI for [`Connection::send`].
pub(crate) fn path(path: &'static str) -> Uri {
    Uri::from_static(path)
}

/// `content-type: application/grpc`.
pub(crate) const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
