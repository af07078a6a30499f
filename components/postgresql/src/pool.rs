//! The connections of one component.
//!
//! A [`Lane`] is one of them, for one user at a time, who may have many statements under way on it. INVARIANT: a connection
//! comes back ([`Lane::give_back`]) only when no transaction is open on it and no answer awaited; with a lane that is just
//! dropped, the connection ends.

use crate::config::{Statements, Target};
use crate::failure::{failure, too_late};
use crate::tls::Maker;
use outrigger_component::error::{Error, Result};
use outrigger_daemon::log::Log;
use outrigger_daemon::tasks::{OnExit, Spawner};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls, Row, RowStream, Socket, Statement};

/// Between looks for connections that are not used.
const SHORTEST_LOOK: Duration = Duration::from_millis(100);
/// What the server has said unasked and nobody has taken.
const UNHEARD: usize = 256;
/// Statements that a connection keeps prepared: with more, it begins anew.
const PREPARED: usize = 256;

/// A statement, with the types of its parameters.
#[derive(Debug)]
pub(crate) struct Sql {
    text: String,
    types: Vec<Type>,
}

impl Sql {
    pub(crate) fn new<const N: usize>(text: impl Into<String>, types: [Type; N]) -> Self {
        Self::with(text, types.into())
    }

    /// One whose parameters have the types that the server finds for them.
    pub(crate) fn untyped(text: &str, parameters: usize) -> Self {
        Self::with(text, vec![Type::UNKNOWN; parameters])
    }

    pub(crate) fn with(text: impl Into<String>, types: Vec<Type>) -> Self {
        Self {
            text: text.into(),
            types,
        }
    }
}

/// A parameter of a statement.
pub(crate) type Value<'v> = &'v (dyn ToSql + Sync);

#[derive(Clone)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    target: Target,
    tls: Option<Maker>,
    permits: Arc<Semaphore>,
    /// The one used last is on top.
    idle: Mutex<Vec<Idle>>,
    tasks: Spawner,
    log: Log,
}

struct Idle {
    open: Open,
    since: Instant,
}

/// A connection, and what was prepared on it.
struct Open {
    client: Client,
    statements: HashMap<String, Statement>,
}

/// A connection to listen on. While it is not listened to, the server waits.
pub(crate) struct Listener {
    pub(crate) client: Client,
    pub(crate) messages: mpsc::Receiver<AsyncMessage>,
}

/// A connection for the time being.
pub(crate) struct Lane {
    open: Open,
    shared: Arc<Shared>,
    _permit: OwnedSemaphorePermit,
}

/// A statement that can be sent without waiting.
pub(crate) enum Ready<'s> {
    Named(Statement),
    Unnamed(&'s Sql),
}

impl Pool {
    /// Connects once, to know that it can be done.
    ///
    /// # Errors
    /// Whatever keeps the server from answering.
    pub(crate) async fn connect(target: Target, tasks: Spawner, log: &Log) -> Result<Self> {
        let tls = target.tls().await?;
        let permits = Arc::new(Semaphore::new(target.connections));
        let pool = Self {
            shared: Arc::new(Shared {
                target,
                tls,
                permits,
                idle: Mutex::default(),
                tasks: tasks.clone(),
                log: log.clone(),
            }),
        };
        pool.ping().await?;
        let shared = Arc::downgrade(&pool.shared);
        let max_idle = pool.shared.target.max_idle;
        tasks.named("postgresql idle connections", OnExit::Log, async move {
            loop {
                tokio::time::sleep((max_idle / 2).max(SHORTEST_LOOK)).await;
                let Some(shared) = shared.upgrade() else { return };
                shared.idle().retain(|idle| idle.since.elapsed() < max_idle);
            }
        });
        Ok(pool)
    }

    /// Waits for a connection that is free, or makes one.
    ///
    /// # Errors
    /// Those of connecting; `Timeout` if all are busy for too long.
    pub(crate) async fn lane(&self) -> Result<Lane> {
        let shared = &self.shared;
        let permit = tokio::time::timeout(shared.target.timeout, Arc::clone(&shared.permits).acquire_owned())
            .await
            .map_err(|_| too_late("all connections are busy"))?
            .map_err(|_| Error::closed())?;
        let open = match shared.reuse() {
            Some(open) => open,
            None => shared.open().await?,
        };
        Ok(Lane {
            open,
            shared: Arc::clone(shared),
            _permit: permit,
        })
    }

    pub(crate) async fn ping(&self) -> Result<()> {
        let what = "failed to ping the database";
        let lane = self.lane().await?;
        within(self.timeout(), what, async {
            lane.open.client.check_connection().await.map_err(failed(what))
        })
        .await?;
        lane.give_back();
        Ok(())
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.shared.target.timeout
    }

    /// At most so many lanes at once.
    pub(crate) fn size(&self) -> usize {
        self.shared.target.connections
    }

    pub(crate) fn close(&self) {
        self.shared.permits.close();
        self.shared.idle().clear();
    }

    /// A connection outside the pool, for what the server says unasked.
    ///
    /// # Errors
    /// Those of connecting.
    pub(crate) async fn listener(&self) -> Result<Listener> {
        let (sender, messages) = mpsc::channel(UNHEARD);
        let client = Box::pin(self.shared.dial(Some(sender))).await?;
        Ok(Listener { client, messages })
    }
}

impl Shared {
    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reuse(&self) -> Option<Open> {
        let mut idle = self.idle();
        std::iter::from_fn(|| idle.pop())
            .map(|idle| idle.open)
            .find(|open| !open.client.is_closed())
    }

    async fn open(&self) -> Result<Open> {
        Ok(Open {
            // Boxed: it is large, and seldom needed.
            client: Box::pin(self.dial(None)).await?,
            statements: HashMap::new(),
        })
    }

    async fn dial(&self, messages: Option<mpsc::Sender<AsyncMessage>>) -> Result<Client> {
        let target = &self.target;
        let what = format!("failed to connect to the database at {}", target.address);
        within(target.timeout, &what, async {
            match &self.tls {
                None => {
                    let connected = target.client.connect(NoTls).await;
                    let (client, connection) = connected.map_err(failed(&what))?;
                    self.drive(connection, messages);
                    Ok(client)
                }
                Some(tls) => {
                    let connected = target.client.connect(tls.clone()).await;
                    let (client, connection) = connected.map_err(failed(&what))?;
                    self.drive(connection, messages);
                    Ok(client)
                }
            }
        })
        .await
    }

    fn drive<T>(&self, mut connection: Connection<Socket, T>, messages: Option<mpsc::Sender<AsyncMessage>>)
    where
        T: tokio_postgres::tls::TlsStream + Unpin + Send + 'static,
    {
        let log = self.log.clone();
        self.tasks.spawn("postgresql connection", async move {
            loop {
                match poll_fn(|cx| connection.poll_message(cx)).await {
                    None => return,
                    // Whoever waits for an answer is told as well.
                    Some(Err(error)) => {
                        return log.debug(format_args!("postgresql: a connection has ended: {error}"));
                    }
                    Some(Ok(AsyncMessage::Notice(notice))) => {
                        log.debug(format_args!("postgresql: {}", notice.message()));
                    }
                    Some(Ok(message)) => {
                        let Some(messages) = &messages else { continue };
                        if messages.send(message).await.is_err() {
                            return;
                        }
                    }
                }
            }
        });
    }
}

impl Lane {
    /// For whoever comes next.
    pub(crate) fn give_back(self) {
        if !self.open.client.is_closed() && !self.shared.permits.is_closed() {
            let since = Instant::now();
            let Self { open, shared, .. } = self;
            shared.idle().push(Idle { open, since });
        }
    }

    /// Prepares the statement, if it is to be and has not been on this connection.
    pub(crate) async fn ready<'s>(&mut self, sql: &'s Sql) -> Result<Ready<'s>, tokio_postgres::Error> {
        let open = &mut self.open;
        if self.shared.target.statements == Statements::Unnamed {
            return Ok(Ready::Unnamed(sql));
        }
        if let Some(statement) = open.statements.get(&sql.text) {
            return Ok(Ready::Named(statement.clone()));
        }
        if open.statements.len() >= PREPARED {
            open.statements.clear();
        }
        let statement = open.client.prepare_typed(&sql.text, &sql.types).await?;
        open.statements.insert(sql.text.clone(), statement.clone());
        Ok(Ready::Named(statement))
    }

    /// Answers how many rows were touched. It is sent when the future is polled first.
    pub(crate) async fn execute(
        &self,
        ready: &Ready<'_>,
        values: &[Value<'_>],
    ) -> Result<u64, tokio_postgres::Error> {
        let client = &self.open.client;
        match ready {
            Ready::Named(statement) => client.execute(statement, values).await,
            Ready::Unnamed(sql) => client.execute_typed(&sql.text, &typed(sql, values)).await,
        }
    }

    pub(crate) async fn stream(
        &self,
        ready: &Ready<'_>,
        values: &[Value<'_>],
    ) -> Result<RowStream, tokio_postgres::Error> {
        let client = &self.open.client;
        match ready {
            Ready::Named(statement) => client.query_raw(statement, values.iter().copied()).await,
            Ready::Unnamed(sql) => client.query_typed_raw(&sql.text, typed(sql, values)).await,
        }
    }

    /// Prepares and executes.
    pub(crate) async fn run(
        &mut self,
        sql: &Sql,
        values: &[Value<'_>],
    ) -> Result<u64, tokio_postgres::Error> {
        let ready = self.ready(sql).await?;
        self.execute(&ready, values).await
    }

    /// Prepares and reads all rows.
    pub(crate) async fn rows(
        &mut self,
        sql: &Sql,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        use futures::TryStreamExt as _;
        let ready = self.ready(sql).await?;
        self.stream(&ready, values).await?.try_collect().await
    }

    /// Statements without parameters, as they are (`BEGIN`, …).
    pub(crate) async fn plain(&self, text: &str) -> Result<(), tokio_postgres::Error> {
        let client = &self.open.client;
        client.batch_execute(text).await
    }
}

fn typed<'v>(sql: &Sql, values: &[Value<'v>]) -> Vec<(Value<'v>, Type)> {
    values.iter().copied().zip(sql.types.iter().cloned()).collect()
}

/// # Errors
/// `Timeout`, in words that begin with `what`.
pub(crate) async fn within<T>(
    timeout: Duration,
    what: &str,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::time::timeout(timeout, work)
        .await
        .unwrap_or_else(|_| Err(too_late(what)))
}

/// For `map_err`.
pub(crate) fn failed(what: &str) -> impl Fn(tokio_postgres::Error) -> Error + '_ {
    move |error| failure(what, error)
}
