//! The accept loop of every HTTP server of ours.
//!
//! One task per connection; HTTP/1.1 and HTTP/2 with prior knowledge, told apart by the first bytes or fixed by
//! [`Protocol`]; at most so many connections; orderly closing when the [`Watch`] says so. Generic over the service,
//! so that an HTTP/1 request meets no boxed future on its way in.
//!
//! INVARIANT: [`serve`] returns only when every connection it accepted is closed, and by then no later than
//! [`Options::deadline`] after draining began.
//!
//! Limits: a connection must deliver its first request head within [`Options::head_timeout`], and over HTTP/1 each later head
//! within that time from its first bytes. Between requests it may idle as long as it likes, as with the reference;
//! hyper's own timer would close idle connections and costs an allocation per request, therefore it is not used. Peers
//! that vanish without a word are found out by TCP's own probes.

mod accept;
mod connection;
mod progress;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::Service;
use tokio::sync::Semaphore;

pub use self::accept::{Accept, Listener, Socket};
use super::Watch;
use crate::log::Log;
use crate::tasks::Spawner;

/// Which HTTP versions a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Whichever the client starts with.
    Auto,
    Http1,
    /// Only HTTP/2. The server's SETTINGS leave at once, without waiting for the client's first bytes: TLS clients that
    /// reach a plain port rely on it to tell what is wrong.
    Http2,
}

/// Settings of a server. [`Options::default`] suits the data path.
#[derive(Clone, Debug)]
pub struct Options {
    pub protocol: Protocol,
    /// How long connections may take to finish after draining began; then they are cut.
    pub deadline: Duration,
    /// How long a new connection may take to send its first request head, and how long a later head may take from its first
    /// bytes; with HTTP/2, until the connection's first bytes.
    pub head_timeout: Duration,
    /// Largest request head, in bytes; HTTP/1 answers 431 beyond it. 4 KiB are granted on top.
    pub max_head: usize,
    /// Most header fields of an HTTP/1 request; 431 beyond it. `None` means 100. Any number costs an allocation per
    /// request, in hyper.
    pub max_headers: Option<usize>,
    /// Connections at a time; further ones wait in the listener's backlog.
    pub max_connections: u32,
    /// Requests at a time on one HTTP/2 connection.
    pub max_streams: u32,
    /// HTTP/2 pings on an otherwise silent connection; `None` sends none.
    pub keep_alive: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            protocol: Protocol::Auto,
            deadline: Duration::from_secs(10),
            head_timeout: Duration::from_secs(10),
            max_head: 64 << 10,
            max_headers: None,
            max_connections: 65_536,
            max_streams: 4096,
            keep_alive: None,
        }
    }
}

/// Accepts and serves until `watch` is draining, then lets connections finish.
///
/// `service` makes the service of one connection from its stream, after the handshake if there is one: the place to
/// read the peer's address or identity. Connections are tasks of `spawner`.
///
/// Not cancel-safe: dropping the future leaves open connections running without a deadline.
pub async fn serve<A, M, S, B>(
    mut listener: A,
    service: M,
    watch: Watch,
    options: Options,
    spawner: &Spawner,
    log: &Log,
) where
    A: Accept,
    M: Fn(&A::Io) -> S + Clone + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let slots = Arc::new(Semaphore::new(permits(options.max_connections)));
    let shared = Arc::new(connection::Shared {
        options,
        log: log.clone(),
    });
    let mut draining = std::pin::pin!(watch.draining());
    let mut pause = Pause::default();
    loop {
        let accepted = async {
            let slot = Arc::clone(&slots)
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            biased;
            () = &mut draining => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok(handshake) => {
                pause = Pause::default();
                let shared = Arc::clone(&shared);
                let service = service.clone();
                let watch = watch.clone();
                spawner.spawn("connection", async move {
                    connection::run(handshake, service, watch, &shared).await;
                    drop(slot);
                });
            }
            Err(error) => {
                // Out of descriptors, mostly: waiting lets some connection end.
                log.warn(format_args!("failed to accept a connection: {error}"));
                drop(slot);
                tokio::select! {
                    () = &mut draining => break,
                    () = pause.wait() => {}
                }
            }
        }
    }
    drop(listener);
    // All permits back means all connections closed; each sees to its own deadline.
    let all = u32::try_from(permits(shared.options.max_connections)).expect("it was a u32");
    drop(slots.acquire_many(all).await);
}

/// Growing pause between failed accepts: 5 ms doubling up to 1 s.
#[derive(Default)]
struct Pause {
    failures: u32,
}

impl Pause {
    fn wait(&mut self) -> impl Future<Output = ()> + use<> {
        let pause = Duration::from_millis(5 << self.failures.min(8)).min(Duration::from_secs(1));
        self.failures = self.failures.saturating_add(1);
        tokio::time::sleep(pause)
    }
}

fn permits(connections: u32) -> usize {
    usize::try_from(connections)
        .unwrap_or(usize::MAX)
        .clamp(1, Semaphore::MAX_PERMITS)
}
