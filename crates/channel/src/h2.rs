//! HTTP/2 to one address, made on first use and made anew when it is gone. Carries calls to other sidecars, to `h2c` apps and to
//! gRPC apps.
//!
//! Servers allow some hundred streams on one connection, so a pool opens another connection when all it has are full, and
//! closes what was left unused for a while. One connection is kept.
//!
//! A caller talks to the connection's streams itself, without a task in between: one task per connection reads and writes, and
//! a call costs a task of its own only when its answer begins before its body has ended.
//!
//! INVARIANT: a connection is given no more than [`STREAMS`] streams, as long as fewer than [`CONNECTIONS`] are open.

mod answer;
#[cfg(test)]
mod tests;
mod upload;
mod usage;

pub use answer::Answer;

use crate::body::Body;
use crate::error::Error;
use ::h2::Ping;
use ::h2::client::{self, ResponseFuture};
use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::future::{AbortHandle, abortable};
use http::header::{self, CONTENT_LENGTH, HeaderMap};
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Method, Request, Response, Uri, Version};
use http_body::Body as _;
use outrigger_daemon::dial::{Dial, Stream};
use outrigger_daemon::tasks::Spawner;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::time::Duration;
use upload::Upload;
use usage::{Slot, Usage};

/// Time for connecting, handshakes included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Streams given to one connection. COMPAT(pkg/api/grpc/manager): the limit that gRPC servers are known to set.
const STREAMS: usize = 100;
/// Connections to one address; when all are full, streams wait at the least busy one.
const CONNECTIONS: usize = 64;
/// How often a connection is looked at: in use, it is asked for a sign of life; unused and not the only one, it is closed.
const LOOK: Duration = Duration::from_secs(30);
/// Time for a sign of life.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of one body that may be under way unread: the bound on memory per stream.
const STREAM_WINDOW: u32 = 512 << 10;
const CONNECTION_WINDOW: u32 = 4 << 20;

type Sender = client::SendRequest<Bytes>;

/// Connections to one address.
pub struct Pool {
    shared: Arc<Shared>,
    authority: Option<Authority>,
    /// What the address is, for error messages: `the app`, `the sidecar of app "b"`.
    what: String,
    connecting: tokio::sync::Mutex<()>,
    spawner: Spawner,
}

struct Shared {
    dial: Dial,
    connections: ArcSwap<Vec<Arc<Connection>>>,
}

struct Connection {
    sender: Sender,
    usage: Arc<Usage>,
}

impl Pool {
    /// Nothing is connected yet.
    pub fn new(dial: Dial, what: String, spawner: Spawner) -> Self {
        Self {
            authority: dial.address().parse().ok(),
            shared: Arc::new(Shared {
                dial,
                connections: ArcSwap::default(),
            }),
            what,
            connecting: tokio::sync::Mutex::new(()),
            spawner,
        }
    }

    /// Sends a request (its URI without authority) and waits for the head of the answer. A connection that was
    /// closed meanwhile is replaced, as long as nothing of the request was sent.
    pub async fn send(&self, mut request: Request<Body>) -> Result<Response<Answer>, Error> {
        let mut parts = request.uri().clone().into_parts();
        parts.scheme = Some(if self.shared.dial.is_secure() {
            Scheme::HTTPS
        } else {
            Scheme::HTTP
        });
        parts.authority = Some(
            self.authority
                .clone()
                .ok_or_else(|| self.failed(&"the address is not valid"))?,
        );
        *request.uri_mut() = Uri::from_parts(parts).map_err(|error| Error::Invalid(error.to_string()))?;
        let (mut head, body) = request.into_parts();
        head.version = Version::HTTP_2;
        adapt(&mut head.headers, &head.method, &body);
        let (mut sender, slot) = self.ready().await?;
        let (response, stream) = sender
            .send_request(Request::from_parts(head, ()), body.is_end_stream())
            .map_err(|error| self.failed(&describe(&error)))?;
        drop(sender);
        let (response, upload) = self
            .exchange(response, Upload::begin(stream, body))
            .await
            .map_err(|error| self.failed(&describe(&error)))?;
        let (head, stream) = response.into_parts();
        let answer = Answer::new(&head.headers, stream, slot, upload);
        Ok(Response::from_parts(head, answer))
    }

    /// Waits for the head of the answer while the body is sent; what is left of the body then is sent by a task.
    async fn exchange(
        &self,
        mut response: ResponseFuture,
        mut upload: Option<Upload>,
    ) -> Result<(Response<::h2::RecvStream>, Option<AbortHandle>), ::h2::Error> {
        let response = poll_fn(|cx| {
            if let Some(sending) = &mut upload
                && Pin::new(sending).poll(cx).is_ready()
            {
                upload = None;
            }
            Pin::new(&mut response).poll(cx)
        })
        .await?;
        let rest = upload.map(|upload| {
            let (upload, handle) = abortable(upload);
            self.spawner.spawn("request body", async move {
                // Aborted or sent, nobody waits for it.
                let _ended = upload.await;
            });
            handle
        });
        Ok((response, rest))
    }

    /// Connects if there is no live connection.
    pub async fn reach(&self) -> Result<(), Error> {
        if self.shared.is_connected() {
            return Ok(());
        }
        self.ready().await.map(|_| ())
    }

    /// Closes the connections for new requests; the next one connects anew.
    pub fn forget(&self) {
        self.shared.connections.store(Arc::default());
    }

    /// A place on a connection that takes requests now. Those that turn out to be closed, or about to be, are replaced.
    async fn ready(&self) -> Result<(Sender, Slot), Error> {
        loop {
            let (mut sender, slot, fresh) = self.place().await?;
            match poll_fn(|cx| sender.poll_ready(cx)).await {
                Ok(()) => return Ok((sender, slot)),
                Err(error) if fresh => return Err(self.failed(&describe(&error))),
                Err(_) => slot.close(),
            }
        }
    }

    /// A connection with room, and whether it was made just now.
    async fn place(&self) -> Result<(Sender, Slot, bool), Error> {
        match self.shared.take() {
            Some((sender, slot)) => Ok((sender, slot, false)),
            // Boxed: rare and large, and every call would make room for it.
            None => Box::pin(self.another()).await,
        }
    }

    /// One connection more, unless somebody else made it meanwhile or there are too many.
    async fn another(&self) -> Result<(Sender, Slot, bool), Error> {
        let _turn = self.connecting.lock().await;
        if let Some((sender, slot)) = self.shared.take() {
            return Ok((sender, slot, false));
        }
        if self.shared.connections.load().len() >= CONNECTIONS
            && let Some((sender, slot)) = self.shared.least_busy()
        {
            return Ok((sender, slot, false));
        }
        let connection = tokio::time::timeout(CONNECT_TIMEOUT, self.connect())
            .await
            .map_err(|_| self.failed(&format_args!("no connection within {CONNECT_TIMEOUT:?}")))??;
        let slot = Slot::take(&connection.usage, usize::MAX)
            .expect("a counter that nobody else has seen is below every limit");
        let sender = connection.sender.clone();
        self.shared.add(connection);
        Ok((sender, slot, true))
    }

    async fn connect(&self) -> Result<Arc<Connection>, Error> {
        let stream = self
            .shared
            .dial
            .connect()
            .await
            .map_err(|error| self.failed(&error))?;
        let (sender, driver) = client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(1 << 20)
            .enable_push(false)
            .handshake(stream)
            .await
            .map_err(|error| self.failed(&describe(&error)))?;
        let usage = Arc::new(Usage::default());
        let connection = Arc::new(Connection {
            sender,
            usage: usage.clone(),
        });
        let shared = Arc::downgrade(&self.shared);
        self.spawner.spawn("connection", async move {
            drive(driver, &shared, &usage).await;
            usage.close();
        });
        Ok(connection)
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> Error {
        Error::Unavailable(format!(
            "cannot reach {} at {}: {error}",
            self.what,
            self.shared.dial.address()
        ))
    }
}

impl Shared {
    fn is_connected(&self) -> bool {
        let connections = self.connections.load();
        connections.iter().any(|it| !it.usage.is_closed())
    }

    /// A place on the first connection that has one.
    fn take(&self) -> Option<(Sender, Slot)> {
        let connections = self.connections.load();
        connections
            .iter()
            .filter(|it| !it.usage.is_closed())
            .find_map(|it| Some((it.sender.clone(), Slot::take(&it.usage, STREAMS)?)))
    }

    /// A place beyond the limit.
    fn least_busy(&self) -> Option<(Sender, Slot)> {
        let connections = self.connections.load();
        let chosen = connections
            .iter()
            .filter(|it| !it.usage.is_closed())
            .min_by_key(|it| it.usage.streams())?;
        Some((chosen.sender.clone(), Slot::take(&chosen.usage, usize::MAX)?))
    }

    fn add(&self, fresh: Arc<Connection>) {
        self.connections.rcu(|known| {
            let mut next: Vec<_> = live(known).collect();
            next.push(fresh.clone());
            next
        });
    }

    /// Takes an unused connection out, unless it is the only one: its driver ends when the last request has.
    fn retire(&self, usage: &Arc<Usage>) {
        if usage.streams() > 0 {
            return;
        }
        self.connections.rcu(|known| {
            let is_first = known.first().is_none_or(|first| Arc::ptr_eq(&first.usage, usage));
            known
                .iter()
                .filter(|it| is_first || !Arc::ptr_eq(&it.usage, usage))
                .cloned()
                .collect::<Vec<_>>()
        });
    }
}

fn live(known: &Arc<Vec<Arc<Connection>>>) -> impl Iterator<Item = Arc<Connection>> {
    known.iter().filter(|it| !it.usage.is_closed()).cloned()
}

/// Reads and writes until the connection has ended. How it ended shows on the requests that were under way.
async fn drive(mut connection: client::Connection<Stream, Bytes>, shared: &Weak<Shared>, usage: &Arc<Usage>) {
    let mut life = connection.ping_pong().expect("it is taken once, here");
    let mut connection = pin!(connection);
    loop {
        tokio::select! {
            biased;
            _ended = &mut connection => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        if usage.streams() == 0 {
            if let Some(shared) = shared.upgrade() {
                shared.retire(usage);
            }
            continue;
        }
        tokio::select! {
            biased;
            _ended = &mut connection => return,
            sign = tokio::time::timeout(PATIENCE, life.ping(Ping::opaque())) => {
                if !matches!(sign, Ok(Ok(_))) {
                    return;
                }
            }
        }
    }
}

/// Fields that HTTP/2 does not have are left out, and the length is told where it is known.
fn adapt(headers: &mut HeaderMap, method: &Method, body: &Body) {
    headers.remove(header::HOST);
    if let Some(nominated) = headers.remove(header::CONNECTION)
        && let Ok(nominated) = nominated.to_str()
    {
        for name in nominated.split(',') {
            headers.remove(name.trim());
        }
    }
    for name in ["keep-alive", "proxy-connection"] {
        headers.remove(name);
    }
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(header::UPGRADE);
    if headers.get(header::TE).is_some_and(|te| te != "trailers") {
        headers.remove(header::TE);
    }
    let empty_is_told = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
    if let Some(length) = body.length()
        && (length > 0 || empty_is_told)
        && let header::Entry::Vacant(free) = headers.entry(CONTENT_LENGTH)
    {
        free.insert(HeaderValue::from(length));
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

/// The path part of a URI for [`Pool::send`].
pub(crate) fn path(path: &'static str) -> Uri {
    Uri::from_static(path)
}

/// `content-type: application/grpc`.
pub(crate) const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
