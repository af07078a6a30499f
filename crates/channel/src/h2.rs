//! HTTP/2 to one address, made on first use and made anew when it is gone. Carries calls to other sidecars, to `h2c` apps and to
//! gRPC apps.
//!
//! Servers allow some hundred streams on one connection, so a pool opens another connection when all it has are full, and
//! closes what was left unused for a while. One connection is kept.
//!
//! INVARIANT: a connection is given no more than [`STREAMS`] streams, as long as fewer than [`CONNECTIONS`] are open.

mod answer;
#[cfg(test)]
mod tests;

pub use answer::Answer;

use crate::body::Body;
use crate::error::Error;
use answer::Slot;
use arc_swap::ArcSwap;
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, Uri};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use outrigger_daemon::dial::Dial;
use outrigger_daemon::tasks::Spawner;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Time for connecting, handshakes included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Streams given to one connection. COMPAT(pkg/api/grpc/manager): the limit that gRPC servers are known to set.
const STREAMS: usize = 100;
/// Connections to one address; when all are full, streams wait at the least busy one.
const CONNECTIONS: usize = 64;
/// A connection beyond the first is closed after having been unused for this long.
const SURPLUS: Duration = Duration::from_secs(30);
/// Bytes of one body that may be under way unread: the bound on memory per stream.
const STREAM_WINDOW: u32 = 512 << 10;
const CONNECTION_WINDOW: u32 = 4 << 20;

type Sender = http2::SendRequest<Body>;

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
    streams: Arc<AtomicUsize>,
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
        request.headers_mut().remove(http::header::HOST);
        let mut retried = false;
        loop {
            let (mut sender, slot, fresh) = self.sender().await?;
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(response.map(|incoming| Answer::new(incoming, slot))),
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) if !fresh && !retried => {
                        retried = true;
                        request = unsent;
                        self.shared.take_out(&slot);
                    }
                    _ => return Err(self.failed(&describe(failed.error()))),
                },
            }
        }
    }

    /// Connects if there is no live connection.
    pub async fn reach(&self) -> Result<(), Error> {
        if self.shared.is_connected() {
            return Ok(());
        }
        self.sender().await.map(|_| ())
    }

    /// Closes the connections for new requests; the next one connects anew.
    pub fn forget(&self) {
        self.shared.connections.store(Arc::default());
    }

    /// A connection with room, and whether it was made just now.
    async fn sender(&self) -> Result<(Sender, Slot, bool), Error> {
        if let Some((sender, slot)) = self.shared.take() {
            return Ok((sender, slot, false));
        }
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
        let slot = Slot::take(&connection.streams, usize::MAX)
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
        let connection = Arc::new(Connection {
            sender,
            streams: Arc::default(),
        });
        let (shared, streams) = (Arc::downgrade(&self.shared), connection.streams.clone());
        self.spawner.spawn("connection", async move {
            let mut driver = std::pin::pin!(driver);
            loop {
                tokio::select! {
                    // How it ended shows on the requests that were under way.
                    _ended = &mut driver => break,
                    () = tokio::time::sleep(SURPLUS) => {
                        if let Some(shared) = shared.upgrade() {
                            shared.retire(&streams);
                        }
                    }
                }
            }
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
        connections.iter().any(|it| !it.sender.is_closed())
    }

    /// A place on the first connection that has one.
    fn take(&self) -> Option<(Sender, Slot)> {
        let connections = self.connections.load();
        connections
            .iter()
            .filter(|it| !it.sender.is_closed())
            .find_map(|it| Some((it.sender.clone(), Slot::take(&it.streams, STREAMS)?)))
    }

    /// A place beyond the limit.
    fn least_busy(&self) -> Option<(Sender, Slot)> {
        let connections = self.connections.load();
        let chosen = connections
            .iter()
            .filter(|it| !it.sender.is_closed())
            .min_by_key(|it| it.streams.load(Ordering::Relaxed))?;
        Some((chosen.sender.clone(), Slot::take(&chosen.streams, usize::MAX)?))
    }

    fn add(&self, fresh: Arc<Connection>) {
        self.connections.rcu(|known| {
            let mut next: Vec<_> = live(known).collect();
            next.push(fresh.clone());
            next
        });
    }

    /// Takes a connection out that does not take requests any more, closed or about to be.
    fn take_out(&self, slot: &Slot) {
        self.connections.rcu(|known| {
            live(known)
                .filter(|it| !slot.is_on(&it.streams))
                .collect::<Vec<_>>()
        });
    }

    /// Takes an unused connection out, unless it is the only one: its driver ends when the last request has.
    fn retire(&self, streams: &Arc<AtomicUsize>) {
        if streams.load(Ordering::Relaxed) > 0 {
            return;
        }
        self.connections.rcu(|known| {
            let is_first = known
                .first()
                .is_none_or(|first| Arc::ptr_eq(&first.streams, streams));
            known
                .iter()
                .filter(|it| is_first || !Arc::ptr_eq(&it.streams, streams))
                .cloned()
                .collect::<Vec<_>>()
        });
    }
}

fn live(known: &Arc<Vec<Arc<Connection>>>) -> impl Iterator<Item = Arc<Connection>> {
    known.iter().filter(|it| !it.sender.is_closed()).cloned()
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
