//! One connection: TCP, TLS where it is asked for, login.

use outrigger_daemon::dial::{Dial, Stream};
use outrigger_daemon::tasks::{OnExit, Spawner};
use outrigger_daemon::tls;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ProtocolVersion, RedisConnectionInfo, RedisError, RedisResult};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;

/// Requests that wait to be written to a connection.
const PIPELINE: usize = 1024;

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
    driver: AbortHandle,
}

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
        let driver = self
            .spawner
            .named("redis connection", OnExit::Log, driver)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "component is closed"))?;
        Ok(Connection { requests, driver })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

pub(super) fn timed_out(what: &'static str) -> RedisError {
    RedisError::from(io::Error::new(io::ErrorKind::TimedOut, what))
}
