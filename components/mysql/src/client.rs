//! The connections to one server.

use crate::dsn::{Dsn, Tls};
use crate::failure::failure;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, DriverError, Pool, PoolConstraints, PoolOpts};
use outrigger_component::error::{Error, Kind, Result};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Connections that stay open, and how long others do without use.
const KEPT: usize = 4;
const MAX_IDLE: Duration = Duration::from_secs(300);
/// Statements that a connection keeps prepared.
const STATEMENTS: usize = 64;

pub(crate) struct Client {
    pool: Pool,
    address: String,
    pub(crate) timeout: Duration,
    closed: AtomicBool,
}

/// How connections are kept.
pub(crate) struct Habits {
    pub(crate) most: usize,
    pub(crate) kept: usize,
    pub(crate) max_idle: Duration,
    pub(crate) max_age: Option<Duration>,
    pub(crate) timeout: Duration,
}

impl Habits {
    pub(crate) fn new(most: usize, timeout: Duration) -> Self {
        Self {
            most,
            kept: KEPT,
            max_idle: MAX_IDLE,
            max_age: None,
            timeout,
        }
    }
}

impl Client {
    /// Connects once, to know that it can be done.
    ///
    /// # Errors
    /// Whatever keeps the server from answering.
    pub(crate) async fn connect(dsn: &Dsn, pem: &str, habits: &Habits) -> Result<Self> {
        match Self::with(dsn, dsn.tls(), pem, habits).await {
            Err(error) if dsn.tls() == Tls::Preferred && lacks_tls(&error) => {
                Self::with(dsn, Tls::Off, pem, habits).await
            }
            done => done,
        }
    }

    async fn with(dsn: &Dsn, tls: Tls, pem: &str, habits: &Habits) -> Result<Self> {
        let constraints = PoolConstraints::new(habits.kept.min(habits.most), habits.most)
            .ok_or_else(|| Error::invalid("there must be at least one connection"))?;
        let pool = PoolOpts::default()
            .with_constraints(constraints)
            .with_inactive_connection_ttl(habits.max_idle)
            .with_abs_conn_ttl(habits.max_age)
            // It would forget what is prepared.
            .with_reset_connection(false);
        let options = dsn.options(tls, pem)?.pool_opts(pool).stmt_cache_size(STATEMENTS);
        let client = Self {
            pool: Pool::new(options),
            address: dsn.address(),
            timeout: habits.timeout,
            closed: AtomicBool::new(false),
        };
        client.ping().await?;
        Ok(client)
    }

    /// # Errors
    /// Those of connecting; `Timeout` if all connections are busy for too long.
    pub(crate) async fn lane(&self) -> Result<Conn> {
        self.check_open()?;
        let what = format!("failed to connect to the database at {}", self.address);
        self.within(&what, async { self.pool.get_conn().await.map_err(failed(&what)) })
            .await
    }

    /// # Errors
    /// `Unavailable` once it is closed.
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(Error::closed());
        }
        Ok(())
    }

    pub(crate) async fn ping(&self) -> Result<()> {
        let what = "unable to ping the DB";
        let mut lane = self.lane().await?;
        self.within(what, async { lane.ping().await.map_err(failed(what)) })
            .await
    }

    /// What is under way ends first.
    pub(crate) async fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        let ended = tokio::time::timeout(self.timeout, self.pool.clone().disconnect());
        // Nobody is left who could use what this says.
        drop(ended.await);
    }

    /// # Errors
    /// `Timeout`, in words that begin with `what`.
    pub(crate) async fn within<T>(&self, what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::time::timeout(self.timeout, work)
            .await
            .unwrap_or_else(|_| {
                Err(Error::new(
                    Kind::Timeout,
                    format!("{what}: MySQL did not answer in time"),
                ))
            })
    }
}

fn lacks_tls(error: &Error) -> bool {
    let source = error
        .source
        .as_ref()
        .and_then(|source| source.downcast_ref::<mysql_async::Error>());
    matches!(
        source,
        Some(mysql_async::Error::Driver(DriverError::NoClientSslFlagFromServer))
    )
}

/// For `map_err`.
pub(crate) fn failed(what: &str) -> impl Fn(mysql_async::Error) -> Error + '_ {
    move |error| failure(what, error)
}
