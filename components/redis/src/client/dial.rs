//! One connection: TCP, TLS where it is asked for, login.
//!
//! While many requests are under way, what moves the bytes lets the tasks that can run go first: what they ask for leaves in
//! the same write. Otherwise the first of them would have it run at once, and each request would be a write of its own.

use outrigger_daemon::dial::{Dial, Stream};
use outrigger_daemon::tasks::{OnExit, Spawner};
use outrigger_daemon::tls;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ProtocolVersion, RedisConnectionInfo, RedisError, RedisResult, Value,
};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::task::AbortHandle;

/// Requests that wait to be written to a connection.
const PIPELINE: usize = 1024;
/// Requests under way from which on the next may be worth waiting for.
const CROWD: usize = 4;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// Without the brackets of an IPv6 address.
    pub host: String,
    pub port: u16,
}

/// Makes connections.
#[derive(Clone)]
pub(super) struct Dialer {
    pub login: RedisConnectionInfo,
    pub tls: Option<Arc<tls::Config>>,
    /// For all of it; `None` is without limit.
    pub timeout: Option<Duration>,
    /// For each answer; `None` is without limit.
    pub answer_timeout: Option<Duration>,
    /// Starts what moves the bytes of a connection.
    pub spawner: Spawner,
}

/// Open until it is dropped, whatever is still waited for.
pub(crate) struct Connection {
    pub requests: MultiplexedConnection,
    /// How many requests are under way.
    crowd: Arc<AtomicUsize>,
    driver: AbortHandle,
}

/// A request under way.
struct OneMore<'a>(&'a AtomicUsize);

impl Address {
    pub(crate) fn new(host: &str, port: u16) -> Self {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Self { host, port }
    }

    /// As servers write it: everything before the last colon is the host.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        Some(Self::new(host, port.parse().ok()?))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Dialer {
    /// # Errors
    /// Whatever keeps the server from being talked to; nothing has been asked of it yet.
    pub(super) async fn dial(&self, address: &Address) -> RedisResult<Connection> {
        self.open(address, &self.login, self.settings()).await
    }

    /// A connection on which the server pushes messages.
    ///
    /// # Errors
    /// As [`Dialer::dial`]; servers before Redis 6 cannot do it.
    pub(super) async fn listen(
        &self,
        address: &Address,
        heard: impl redis::aio::AsyncPushSender,
    ) -> RedisResult<Connection> {
        let login = self.login.clone().set_protocol(ProtocolVersion::RESP3);
        self.open(address, &login, self.settings().set_push_sender(heard))
            .await
    }

    fn settings(&self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_response_timeout(self.answer_timeout)
            .set_pipeline_buffer_size(PIPELINE)
    }

    async fn open(
        &self,
        address: &Address,
        login: &RedisConnectionInfo,
        settings: AsyncConnectionConfig,
    ) -> RedisResult<Connection> {
        let opening = async {
            let dial = match &self.tls {
                None => Dial::plain(address.to_string()),
                Some(tls) => Dial::secure(address.to_string(), &address.host, Arc::clone(tls))
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?,
            };
            let stream = dial.connect().await.map_err(io::Error::from)?;
            self.start(login, stream, settings).await
        };
        match self.timeout {
            None => opening.await,
            Some(timeout) => tokio::time::timeout(timeout, opening)
                .await
                .unwrap_or_else(|_| Err(timed_out("no connection and login in time"))),
        }
    }

    async fn start(
        &self,
        login: &RedisConnectionInfo,
        stream: Stream,
        settings: AsyncConnectionConfig,
    ) -> RedisResult<Connection> {
        let (requests, driver) = MultiplexedConnection::new_with_config(login, stream, settings).await?;
        let crowd = Arc::new(AtomicUsize::new(0));
        let driver = self
            .spawner
            .named(
                "redis connection",
                OnExit::Log,
                standing_back(driver, Arc::clone(&crowd)),
            )
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "component is closed"))?;
        Ok(Connection {
            requests,
            crowd,
            driver,
        })
    }
}

impl Connection {
    /// One of the requests that share the connection.
    ///
    /// # Errors
    /// The connection's.
    pub(super) async fn request(&self, cmd: &Cmd) -> RedisResult<Value> {
        let _under_way = OneMore::of(&self.crowd);
        self.requests.clone().send_packed_command(cmd).await
    }
}

impl<'a> OneMore<'a> {
    fn of(crowd: &'a AtomicUsize) -> Self {
        crowd.fetch_add(1, Ordering::Relaxed);
        Self(crowd)
    }
}

impl Drop for OneMore<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Polls `driver` not when it is woken but when its turn comes again, while there is a crowd.
async fn standing_back(driver: impl Future<Output = ()>, crowd: Arc<AtomicUsize>) {
    let mut driver = pin!(driver);
    let mut stood_back = false;
    poll_fn(|context| {
        if !stood_back && crowd.load(Ordering::Relaxed) >= CROWD {
            stood_back = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        stood_back = false;
        driver.as_mut().poll(context)
    })
    .await;
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

pub(super) fn timed_out(what: &'static str) -> RedisError {
    RedisError::from(io::Error::new(io::ErrorKind::TimedOut, what))
}

#[cfg(test)]
mod tests {
    use super::{CROWD, OneMore, standing_back};
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, Wake, Waker};

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_connection_waits_for_its_turn_in_a_crowd_only() {
        let polls = Cell::new(0);
        let crowd = Arc::new(AtomicUsize::new(0));
        let driver = poll_fn(|_| {
            polls.set(polls.get() + 1);
            Poll::Pending
        });
        let mut driver = pin!(standing_back(driver, Arc::clone(&crowd)));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut poll = || {
            assert!(
                driver
                    .as_mut()
                    .poll(&mut Context::from_waker(&waker))
                    .is_pending()
            );
            (polls.get(), woken.0.load(Ordering::Relaxed))
        };
        assert_eq!(poll(), (1, 0), "alone: at once");
        let requests: Vec<_> = (0..CROWD).map(|_| OneMore::of(&crowd)).collect();
        assert_eq!(poll(), (1, 1), "in a crowd: it asks to be polled again");
        assert_eq!(poll(), (2, 1), "and then is");
        assert_eq!(poll(), (2, 2), "each time");
        drop(requests);
        assert_eq!(poll(), (3, 2));
        assert_eq!(poll(), (4, 2), "alone again");
    }
}
