//! The connections to a server, to the master that Sentinels name, or to a cluster.
//!
//! Requests of all callers share one connection to each server, which pipelines them. When it is lost, whoever waited for
//! an answer learns so; what may be repeated is, with growing pauses, and the connection is made anew meanwhile.

mod cluster;
pub(crate) mod dial;
mod link;
mod sentinel;

use crate::config::{Config, Kind};
use crate::failure::{failure, is_passing};
use cluster::Cluster;
use dial::{Connection, Dialer};
use link::{Link, Place};
use outrigger_component::error::{Error, Result};
use outrigger_daemon::backoff::Backoff;
use outrigger_daemon::drain;
use outrigger_daemon::log::Log;
use outrigger_daemon::tasks::Tasks;
use redis::{Cmd, ErrorKind, FromRedisValue, RedisConnectionInfo, RedisError, RedisResult, Value};
use sentinel::Sentinels;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Clone)]
pub(crate) struct Client {
    route: Route,
    retries: u32,
    pauses: Pauses,
    dialer: Dialer,
    /// Owns what moves the bytes of the connections.
    _tasks: Arc<Tasks>,
    /// As users wrote it.
    pub address: Arc<str>,
}

#[derive(Clone)]
enum Route {
    One(Arc<Link>),
    Cluster(Arc<Cluster>),
}

/// Pauses between attempts.
#[derive(Clone, Copy)]
pub(crate) struct Pauses {
    shortest: Duration,
    longest: Duration,
}

/// For those who go on for as long as a server is away.
pub(crate) fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(100), Duration::from_secs(5))
}

/// Whether a request may be sent again when it is not known what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Doing it twice is as good as once, or better than not at all.
    Yes,
    /// Only if it surely has not been done.
    IfUnsent,
}

/// A connection of the caller's own.
pub(crate) struct Dedicated {
    connection: Connection,
    route: Route,
}

impl Client {
    /// Connects and asks for an answer. `pauses` are what metadata does not say otherwise.
    ///
    /// # Errors
    /// `Invalid` for metadata, otherwise what kept the server from answering.
    pub(crate) async fn connect(config: &Config, pauses: Pauses, log: &Log) -> Result<Self> {
        let addresses = config.addresses()?;
        let tls = config.tls()?.map(Arc::new);
        let tasks = Arc::new(Tasks::new(log, drain::channel().0));
        let kind = config.kind()?;
        let database = if kind == Kind::Cluster {
            0
        } else {
            config.redis_db.unwrap_or(0)
        };
        let dialer = Dialer {
            login: login(&config.redis_username, &config.redis_password.0).set_db(database),
            tls: tls.clone(),
            timeout: config.dial_timeout.or(DIAL_TIMEOUT),
            // One time for the whole exchange: a write does not wait for anything else here.
            answer_timeout: longer(
                config.read_timeout.or(ANSWER_TIMEOUT),
                config.write_timeout.or(Duration::ZERO),
            ),
            spawner: tasks.spawner(),
        };
        let mut address = String::new();
        for (index, one) in addresses.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            // Writing to a text does not fail.
            let _always = write!(address, "{comma}{one}");
        }
        let link = |place| Route::One(Arc::new(Link::new(place, dialer.clone())));
        let route = match (kind, addresses.first()) {
            (Kind::Cluster, _) => Route::Cluster(Arc::new(Cluster::new(addresses, dialer.clone()))),
            (Kind::Server, Some(first)) => link(Place::Fixed(first.clone())),
            _ => link(Place::Master(Arc::new(Sentinels {
                addresses,
                master: config.sentinel_master_name.clone(),
                dialer: Dialer {
                    login: login(&config.sentinel_username, &config.sentinel_password.0),
                    ..dialer.clone()
                },
            }))),
        };
        let shortest = config.shortest_pause(pauses.shortest);
        let longest = config
            .redis_max_retry_interval
            .or(pauses.longest)
            .unwrap_or_default()
            .max(shortest);
        let this = Self {
            route,
            retries: config.retries(),
            pauses: Pauses { shortest, longest },
            dialer,
            _tasks: tasks,
            address: address.into(),
        };
        let pong: RedisResult<Value> = this.query(&redis::cmd("PING"), Repeat::Yes).await;
        if let Err(error) = pong {
            let hint = hint(&error, tls.is_some());
            let error = this.unreachable(error);
            return Err(Error {
                message: format!("{}{hint}", error.message),
                ..error
            });
        }
        Ok(this)
    }

    /// The same servers over other connections, made when they are first used. Answers may take longer by `patience`.
    pub(crate) fn apart(&self, patience: Duration) -> Self {
        let dialer = Dialer {
            answer_timeout: self.dialer.answer_timeout.map(|timeout| timeout + patience),
            ..self.dialer.clone()
        };
        let route = match &self.route {
            Route::One(link) => Route::One(Arc::new(Link::new(link.place.clone(), dialer.clone()))),
            Route::Cluster(cluster) => Route::Cluster(Arc::new(cluster.apart(dialer.clone()))),
        };
        Self {
            route,
            dialer,
            ..self.clone()
        }
    }

    pub(crate) async fn ping(&self) -> Result<()> {
        let pong: RedisResult<Value> = self.query(&redis::cmd("PING"), Repeat::Yes).await;
        pong.map(drop).map_err(|error| self.unreachable(error))
    }

    fn unreachable(&self, error: RedisError) -> Error {
        failure(&format!("error connecting to redis at {}", self.address), error)
    }

    /// Sends a request over the shared connection.
    ///
    /// # Errors
    /// The server's, or that of a connection that could not be had again in time.
    pub(crate) async fn query<T: FromRedisValue>(&self, cmd: &Cmd, repeat: Repeat) -> RedisResult<T> {
        self.send(cmd, None, repeat).await
    }

    /// The same to the server that has a key, for requests that do not name it themselves.
    ///
    /// # Errors
    /// As [`Client::query`].
    pub(crate) async fn query_beside<T: FromRedisValue>(
        &self,
        key: &str,
        cmd: &Cmd,
        repeat: Repeat,
    ) -> RedisResult<T> {
        self.send(cmd, Some(key), repeat).await
    }

    async fn send<T: FromRedisValue>(
        &self,
        cmd: &Cmd,
        beside: Option<&str>,
        repeat: Repeat,
    ) -> RedisResult<T> {
        let mut attempt = 0;
        loop {
            let answer = match &self.route {
                Route::One(link) => link.request(cmd).await,
                Route::Cluster(cluster) => cluster.request(cmd, beside).await,
            };
            match answer {
                Ok(answer) => return Ok(T::from_redis_value(answer)?),
                Err(failure) if attempt < self.retries && may_repeat(&failure, repeat) => {
                    tokio::time::sleep(self.pauses.after(attempt)).await;
                    attempt += 1;
                }
                Err(failure) => return Err(failure.error),
            }
        }
    }

    /// One client for each server that has keys: the cluster's masters, or this one.
    ///
    /// # Errors
    /// When the cluster does not say who they are.
    pub(crate) async fn parts(&self) -> RedisResult<Vec<Self>> {
        let Route::Cluster(cluster) = &self.route else {
            return Ok(vec![self.clone()]);
        };
        let masters = cluster.masters().await?;
        let part = |link| Self {
            route: Route::One(link),
            ..self.clone()
        };
        Ok(masters.into_iter().map(part).collect())
    }

    /// A connection of the caller's own to the server that has a key.
    ///
    /// # Errors
    /// Those of connecting; not repeated.
    pub(crate) async fn dedicated(&self, key: &str) -> RedisResult<Dedicated> {
        let connection = match &self.route {
            Route::One(link) => link.dedicated().await?,
            Route::Cluster(cluster) => {
                let made = cluster.master(key).await?.dedicated().await;
                if let Err(error) = &made {
                    cluster.doubt(error).await;
                }
                made?
            }
        };
        Ok(Dedicated {
            connection,
            route: self.route.clone(),
        })
    }

    /// A connection on which the server pushes messages; to one of the [`Client::parts`].
    ///
    /// # Errors
    /// Those of connecting; not repeated.
    pub(crate) async fn listen(&self, heard: impl redis::aio::AsyncPushSender) -> RedisResult<Connection> {
        match &self.route {
            Route::One(link) => link.listen(heard).await,
            Route::Cluster(cluster) => cluster.master("").await?.listen(heard).await,
        }
    }

    /// The number of the database.
    pub(crate) fn database(&self) -> i64 {
        self.dialer.login.db()
    }

    /// How long a server may take for what it does at once.
    pub(crate) fn answer_timeout(&self) -> Duration {
        self.dialer.answer_timeout.unwrap_or(Duration::from_secs(3600))
    }
}

impl Dedicated {
    /// Sends a request whose answer has `timeout` from now.
    ///
    /// # Errors
    /// The connection's; one of kind "timed out" if there was no answer.
    pub(crate) async fn request(&mut self, timeout: Duration, cmd: &Cmd) -> RedisResult<Value> {
        let sending = self.connection.requests.send_packed_command(cmd);
        let answer = match tokio::time::timeout(timeout, sending).await {
            Ok(answer) => answer.and_then(Value::extract_error),
            Err(_) => Err(dial::timed_out("no answer in time")),
        };
        if let (Err(error), Route::Cluster(cluster)) = (&answer, &self.route) {
            cluster.doubt(error).await;
        }
        answer
    }
}

/// COMPAT(components-contrib common/component/redis): what holds unless metadata says otherwise.
impl Pauses {
    /// Of pub/sub and bindings.
    pub(crate) const SHORT: Self = Self {
        shortest: Duration::from_millis(8),
        longest: Duration::from_millis(512),
    };
    /// Of configuration.
    pub(crate) const WIDE: Self = Self {
        shortest: Duration::from_millis(8),
        longest: Duration::from_secs(2),
    };
    /// Of state and locks: two seconds there at least, yet never more than the longest.
    pub(crate) const LONG: Self = Self {
        shortest: Duration::from_millis(512),
        longest: Duration::from_millis(512),
    };

    fn after(self, attempt: u32) -> Duration {
        self.shortest
            .saturating_mul(1 << attempt.min(16))
            .min(self.longest)
    }
}

fn login(username: &str, password: &str) -> RedisConnectionInfo {
    let mut login = RedisConnectionInfo::default().set_skip_set_lib_name();
    if !username.is_empty() {
        login = login.set_username(username);
    }
    if !password.is_empty() {
        login = login.set_password(password);
    }
    login
}

fn may_repeat(failure: &link::Failure, repeat: Repeat) -> bool {
    let error = &failure.error;
    let lost = error.is_io_error() || error.is_connection_dropped() || error.is_timeout();
    if failure.sent {
        lost && repeat == Repeat::Yes
    } else {
        // A server that refuses for the moment may do it later; one that could not be reached, too.
        lost || is_passing(error)
    }
}

/// What to do about an error while connecting, where it can be guessed.
fn hint(error: &RedisError, tls: bool) -> &'static str {
    let text = error.to_string();
    let ended = error.is_connection_dropped() && !error.is_connection_refusal();
    if !tls && (ended || error.kind() == ErrorKind::Parse) {
        "; is it Redis that listens there, without TLS? (else set enableTLS: true)"
    } else if tls && text.contains("failed to verify certificate") {
        "; redisHost must be a name in the server's certificate, and its authority must be known (caCert)"
    } else if tls && (text.contains("fatal alert") || text.contains("remote error")) {
        "; the server refuses the certificate that it was shown, or misses one (clientCert)"
    } else if tls && (ended || error.is_timeout() || text.starts_with("tls: ")) {
        "; does the server speak TLS on this port? (else remove enableTLS)"
    } else {
        ""
    }
}

fn longer(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    Some(one?.max(other?))
}

/// The library's answer was not what the command promises.
pub(crate) fn unexpected(what: &str) -> Error {
    Error::internal(format!("redis: unexpected answer to {what}"))
}
