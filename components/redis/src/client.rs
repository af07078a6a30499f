//! The connections to one server.
//!
//! Requests of all callers share one connection, which pipelines them. When it is lost, whoever waited for an answer
//! learns so; what may be repeated is, with growing pauses, and the connection is made anew meanwhile.

use crate::config::Config;
use crate::failure::failure;
use outrigger_component::error::{Error, Result};
use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig, MultiplexedConnection};
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Cmd, ConnectionAddr, FromRedisValue, IntoConnectionInfo, RedisConnectionInfo,
    RedisError, RedisResult, Value,
};
use std::time::Duration;

const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
const SHORTEST_PAUSE: Duration = Duration::from_millis(8);
const LONGEST_PAUSE: Duration = Duration::from_millis(512);
/// Requests that wait to be written to the connection.
const PIPELINE: usize = 1024;

#[derive(Clone)]
pub(crate) struct Client {
    client: redis::Client,
    shared: ConnectionManager,
    settings: ConnectionManagerConfig,
    retries: u32,
    pauses: Pauses,
    dial_timeout: Option<Duration>,
    answer_timeout: Option<Duration>,
    pub address: String,
}

#[derive(Clone, Copy)]
struct Pauses {
    shortest: Duration,
    longest: Duration,
}

/// Whether a request may be sent again when it is not known what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Doing it twice is as good as once, or better than not at all.
    Yes,
    /// Only if it surely has not been sent.
    IfUnsent,
}

impl Client {
    /// Connects and asks for an answer. `shortest_pause` is between attempts, unless metadata says otherwise.
    ///
    /// # Errors
    /// `Invalid` for metadata, otherwise what kept the server from answering.
    pub(crate) async fn connect(config: &Config, shortest_pause: Option<Duration>) -> Result<Self> {
        let (host, port) = config.address()?;
        let address = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        let mut login = RedisConnectionInfo::default().set_db(config.redis_db.unwrap_or(0));
        if !config.redis_username.is_empty() {
            login = login.set_username(&config.redis_username);
        }
        if !config.redis_password.0.is_empty() {
            login = login.set_password(&config.redis_password.0);
        }
        let connecting = |error| failure(&format!("error connecting to redis at {address}"), error);
        let info = ConnectionAddr::Tcp(host, port)
            .into_connection_info()
            .map_err(connecting)?;
        let info = info
            .set_tcp_settings(TcpSettings::default().set_nodelay(true))
            .set_redis_settings(login);
        let client = redis::Client::open(info).map_err(connecting)?;

        let dial_timeout = config.dial_timeout.or(DIAL_TIMEOUT);
        // One time for the whole exchange: a write does not wait for anything else here.
        let answer_timeout = longer(
            config.read_timeout.or(ANSWER_TIMEOUT),
            config.write_timeout.or(Duration::ZERO),
        );
        let shortest = config
            .redis_min_retry_interval
            .or(shortest_pause.unwrap_or(SHORTEST_PAUSE))
            .unwrap_or_default();
        let longest = config
            .redis_max_retry_interval
            .or(LONGEST_PAUSE)
            .unwrap_or_default()
            .max(shortest);
        let pauses = Pauses { shortest, longest };
        let settings = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(dial_timeout)
            .set_response_timeout(answer_timeout)
            .set_pipeline_buffer_size(PIPELINE);
        let shared =
            ConnectionManager::new_lazy_with_config(client.clone(), settings.clone()).map_err(connecting)?;
        let retries = config.retries();
        let this = Self {
            client,
            shared,
            settings,
            retries,
            pauses,
            dial_timeout,
            answer_timeout,
            address,
        };
        this.ping().await?;
        Ok(this)
    }

    /// The same server over another connection, made when it is first used. Its answers may take longer by `patience`.
    ///
    /// # Errors
    /// None that can be expected: nothing is connected yet.
    pub(crate) fn apart(&self, patience: Duration) -> Result<Self> {
        let settings = self
            .settings
            .clone()
            .set_response_timeout(self.answer_timeout.map(|timeout| timeout + patience));
        let shared = ConnectionManager::new_lazy_with_config(self.client.clone(), settings)
            .map_err(|error| failure(&format!("redis at {}", self.address), error))?;
        Ok(Self {
            shared,
            ..self.clone()
        })
    }

    pub(crate) async fn ping(&self) -> Result<()> {
        let pong: RedisResult<Value> = self.query(&redis::cmd("PING"), Repeat::Yes).await;
        pong.map(drop)
            .map_err(|error| failure(&format!("error connecting to redis at {}", self.address), error))
    }

    /// Sends a request over the shared connection.
    ///
    /// # Errors
    /// The server's, or that of a connection that could not be had again in time.
    pub(crate) async fn query<T: FromRedisValue>(&self, cmd: &Cmd, repeat: Repeat) -> RedisResult<T> {
        let mut attempt = 0;
        loop {
            match cmd.query_async(&mut self.shared.clone()).await {
                Err(error) if attempt < self.retries && may_repeat(&error, repeat) => {
                    tokio::time::sleep(self.pauses.after(attempt)).await;
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    /// A connection of the caller's own, whose answers may take any time.
    ///
    /// # Errors
    /// Those of connecting; not repeated.
    pub(crate) async fn dedicated(&self) -> RedisResult<MultiplexedConnection> {
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(self.dial_timeout)
            .set_response_timeout(None);
        self.client
            .get_multiplexed_async_connection_with_config(&settings)
            .await
    }

    /// How long a server may take for what it does at once.
    pub(crate) fn answer_timeout(&self) -> Duration {
        self.answer_timeout.unwrap_or(Duration::from_secs(3600))
    }
}

impl Pauses {
    fn after(self, attempt: u32) -> Duration {
        self.shortest
            .saturating_mul(1 << attempt.min(16))
            .min(self.longest)
    }
}

/// Sends a request whose answer has `timeout` from now.
///
/// # Errors
/// The connection's; one of kind "timed out" if there was no answer.
pub(crate) async fn within(
    timeout: Duration,
    cmd: &Cmd,
    connection: &mut impl ConnectionLike,
) -> RedisResult<Value> {
    match tokio::time::timeout(timeout, connection.req_packed_command(cmd)).await {
        Ok(answer) => answer.and_then(Value::extract_error),
        Err(_) => Err(RedisError::from(std::io::Error::from(
            std::io::ErrorKind::TimedOut,
        ))),
    }
}

fn may_repeat(error: &RedisError, repeat: Repeat) -> bool {
    let lost = error.is_io_error() || error.is_connection_dropped() || error.is_timeout();
    // A refused connection has carried nothing, and a server that is loading has refused.
    let unsent = error.is_connection_refusal() || error.code() == Some("LOADING");
    unsent || (repeat == Repeat::Yes && lost)
}

fn longer(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    Some(one?.max(other?))
}

/// The library's answer was not what the command promises.
pub(crate) fn unexpected(what: &str) -> Error {
    Error::internal(format!("redis: unexpected answer to {what}"))
}
