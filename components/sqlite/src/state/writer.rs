//! The thread that writes: what is waiting goes into one transaction, which is synced once.
//!
//! INVARIANT: each job has its own outcome. A job that fails changes nothing and does not touch its neighbours; if
//! the transaction as a whole cannot be committed, every job is tried once more alone. An answer that is no error
//! means committed.
//!
//! Nobody waits for company: while one transaction syncs, the next jobs gather.

use super::Table;
use super::checkpoint::Checkpoints;
use super::row::{self, encode};
use crate::failure::failure;
use crate::worker::{join, thread, within};
use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::state::{Concurrency, Delete, Set, Ttl, ttl};
use rusqlite::{Connection, params};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Jobs that wait; further callers wait for room.
const QUEUE: usize = 4096;
/// Steps of one transaction, and bytes of values in it; one job always fits.
const STEPS: usize = 256;
const BYTES: usize = 4 << 20;

/// One step of a job.
#[derive(Debug)]
pub(super) struct Step {
    key: String,
    change: Change,
}

#[derive(Debug)]
enum Change {
    Set {
        value: bytes::Bytes,
        is_json: bool,
        condition: Condition,
        /// As a modifier of SQLite's times.
        lifetime: Option<String>,
    },
    /// Only the value with this tag, if one is given.
    Delete { etag: Option<String> },
}

#[derive(Debug)]
enum Condition {
    None,
    Absent,
    Etag(String),
}

type Work = Box<dyn FnOnce(&mut Connection) + Send>;

enum Job {
    Write {
        steps: Vec<Step>,
        reply: oneshot::Sender<Result<()>>,
    },
    /// Runs between transactions.
    Other(Work),
}

pub(super) struct Writer {
    queue: Mutex<Option<mpsc::Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Step {
    /// # Errors
    /// `Invalid`: no key, or `ttlInSeconds` is not a number of seconds.
    pub(super) fn set(set: Set) -> Result<Self> {
        if set.key.is_empty() {
            return Err(Error::invalid("missing key in set option"));
        }
        let lifetime = match ttl(&set.metadata)? {
            Ttl::Unset | Ttl::Never => None,
            Ttl::Seconds(seconds) => Some(format!("+{seconds} seconds")),
        };
        let condition = match (set.etag.filter(|etag| !etag.is_empty()), set.concurrency) {
            (Some(etag), _) => Condition::Etag(etag),
            (None, Concurrency::FirstWrite) => Condition::Absent,
            (None, _) => Condition::None,
        };
        Ok(Self {
            key: set.key,
            change: Change::Set {
                value: set.value,
                is_json: set.is_json,
                condition,
                lifetime,
            },
        })
    }

    pub(super) fn delete(delete: Delete) -> Result<Self> {
        if delete.key.is_empty() {
            return Err(Error::invalid("missing key in delete operation"));
        }
        Ok(Self {
            key: delete.key,
            change: Change::Delete {
                etag: delete.etag.filter(|etag| !etag.is_empty()),
            },
        })
    }

    fn bytes(&self) -> usize {
        match &self.change {
            Change::Set { value, .. } => value.len(),
            Change::Delete { .. } => 0,
        }
    }
}

impl Writer {
    pub(super) fn start(
        connection: Connection,
        table: Table,
        checkpoints: Option<Checkpoints>,
    ) -> Result<Self> {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let statements = Statements::of(&table);
        let run = move || {
            Loop {
                connection,
                statements,
                checkpoints,
            }
            .run(waiting);
        };
        Ok(Self {
            queue: Mutex::new(Some(queue)),
            thread: Mutex::new(Some(thread("sqlite-write", run)?)),
        })
    }

    /// Does all steps or none. Giving up waiting does not take them back.
    pub(super) async fn submit(&self, timeout: Duration, steps: Vec<Step>) -> Result<()> {
        if steps.is_empty() {
            return Ok(());
        }
        let queue = self.queue();
        let done = async {
            let (reply, answer) = oneshot::channel();
            let queue = queue.ok_or_else(Error::closed)?;
            queue
                .send(Job::Write { steps, reply })
                .await
                .map_err(|_| Error::closed())?;
            answer.await.map_err(|_| Error::closed())?
        };
        within(timeout, done).await
    }

    /// Several jobs, each with its own outcome, in order.
    pub(super) async fn submit_all(&self, timeout: Duration, jobs: Vec<Vec<Step>>) -> Vec<Result<()>> {
        let count = jobs.len();
        let queue = self.queue();
        let done = async {
            let queue = queue.ok_or_else(Error::closed)?;
            let mut answers = Vec::with_capacity(count);
            for steps in jobs {
                let (reply, answer) = oneshot::channel();
                let sent = queue.send(Job::Write { steps, reply }).await;
                sent.map_err(|_| Error::closed())?;
                answers.push(answer);
            }
            let mut outcomes = Vec::with_capacity(count);
            for answer in answers {
                outcomes.push(answer.await.unwrap_or_else(|_| Err(Error::closed())));
            }
            Ok(outcomes)
        };
        within(timeout, done)
            .await
            .unwrap_or_else(|error| (0..count).map(|_| Err(error.copy())).collect())
    }

    /// Runs something else on the writer's connection, between transactions.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        timeout: Duration,
        work: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let queue = self.queue();
        let done = async {
            let (reply, answer) = oneshot::channel();
            let work: Work = Box::new(move |connection| {
                // Whoever asked may have left.
                drop(reply.send(work(connection)));
            });
            let queue = queue.ok_or_else(Error::closed)?;
            queue.send(Job::Other(work)).await.map_err(|_| Error::closed())?;
            answer.await.map_err(|_| Error::closed())?
        };
        within(timeout, done).await
    }

    /// Waits until everything that was queued is done.
    pub(super) async fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        join(thread).await;
    }

    fn queue(&self) -> Option<mpsc::Sender<Job>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What the thread has.
struct Loop {
    connection: Connection,
    statements: Statements,
    checkpoints: Option<Checkpoints>,
}

type Waiting = (Vec<Step>, oneshot::Sender<Result<()>>);

impl Loop {
    fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut held = None;
        while let Some(job) = held.take().or_else(|| queue.blocking_recv()) {
            match job {
                Job::Other(work) => work(&mut self.connection),
                Job::Write { steps, reply } => {
                    let mut count = steps.len();
                    let mut bytes: usize = steps.iter().map(Step::bytes).sum();
                    let mut jobs = vec![(steps, reply)];
                    while count < STEPS && bytes < BYTES {
                        match queue.try_recv() {
                            Ok(Job::Write { steps, reply }) => {
                                count += steps.len();
                                bytes += steps.iter().map(Step::bytes).sum::<usize>();
                                jobs.push((steps, reply));
                            }
                            Ok(other) => {
                                held = Some(other);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    self.write(jobs);
                    if let Some(checkpoints) = &mut self.checkpoints {
                        checkpoints.committed(&self.connection, count);
                    }
                }
            }
        }
    }

    fn write(&mut self, jobs: Vec<Waiting>) {
        let outcomes = match self.transaction(&jobs) {
            Ok(outcomes) => outcomes,
            Err(error) if jobs.len() == 1 => vec![Err(error)],
            Err(_) => jobs
                .iter()
                .map(|job| {
                    let alone = self.transaction(std::slice::from_ref(job));
                    alone.and_then(|mut outcomes| outcomes.pop().unwrap_or(Ok(())))
                })
                .collect(),
        };
        for ((_, reply), outcome) in jobs.into_iter().zip(outcomes) {
            // Whoever asked may have left.
            drop(reply.send(outcome));
        }
    }

    /// One transaction of all jobs. `Err`: nothing of it was written.
    fn transaction(&mut self, jobs: &[Waiting]) -> Result<Vec<Result<()>>> {
        let failed = |error| failure("cannot write", error);
        self.connection.execute_batch("BEGIN IMMEDIATE").map_err(failed)?;
        let mut outcomes = Vec::with_capacity(jobs.len());
        for (steps, _) in jobs {
            let outcome = self.job(steps);
            // Some failures (a full disk) end the transaction, and with it what others did.
            if self.connection.is_autocommit() {
                return Err(outcome
                    .err()
                    .unwrap_or_else(|| Error::internal("SQLite ended the transaction without a reason")));
            }
            outcomes.push(outcome);
        }
        if let Err(error) = self.connection.execute_batch("COMMIT") {
            if !self.connection.is_autocommit() {
                self.connection.execute_batch("ROLLBACK").map_err(failed)?;
            }
            return Err(failed(error));
        }
        Ok(outcomes)
    }

    fn job(&self, steps: &[Step]) -> Result<()> {
        let failed = |error| failure("cannot write", error);
        if let [step] = steps {
            // A statement that fails undoes itself.
            return self.step(step);
        }
        let (connection, of) = (&self.connection, &self.statements);
        connection
            .prepare_cached(of.begin)
            .and_then(|mut it| it.execute([]))
            .map_err(failed)?;
        let outcome = steps.iter().try_for_each(|step| self.step(step));
        if outcome.is_err() && !connection.is_autocommit() {
            connection
                .prepare_cached(of.undo)
                .and_then(|mut it| it.execute([]))
                .map_err(failed)?;
        }
        if !connection.is_autocommit() {
            connection
                .prepare_cached(of.end)
                .and_then(|mut it| it.execute([]))
                .map_err(failed)?;
        }
        outcome
    }

    fn step(&self, Step { key, change }: &Step) -> Result<()> {
        let of = &self.statements;
        let run = |sql: &str, params: &[&dyn rusqlite::ToSql]| {
            self.connection
                .prepare_cached(sql)
                .and_then(|mut statement| statement.execute(params))
                .map_err(|error| failure(&format!("cannot write key {key}"), error))
        };
        let guarded = match change {
            Change::Set {
                value,
                is_json,
                condition,
                lifetime,
            } => {
                let (value, is_binary) = encode(value, *is_json);
                let tag = uuid::Uuid::new_v4().to_string();
                let written = match condition {
                    Condition::None => run(&of.set, params![key, value, is_binary, tag, lifetime])?,
                    Condition::Absent => run(&of.insert, params![key, value, is_binary, tag, lifetime])?,
                    Condition::Etag(etag) => {
                        run(&of.update, params![key, value, is_binary, tag, lifetime, etag])?
                    }
                };
                written == 0
            }
            Change::Delete { etag: None } => {
                run(&of.delete, params![key])?;
                false
            }
            Change::Delete { etag: Some(etag) } => run(&of.delete_tagged, params![key, etag])? == 0,
        };
        if guarded {
            return Err(Error::new(
                Kind::EtagMismatch,
                format!("the stored value of key {key} is not the one expected"),
            ));
        }
        Ok(())
    }
}

struct Statements {
    begin: &'static str,
    undo: &'static str,
    end: &'static str,
    set: String,
    insert: String,
    update: String,
    delete: String,
    delete_tagged: String,
}

impl Statements {
    fn of(table: &Table) -> Self {
        let table = &table.state;
        let alive = row::IS_ALIVE;
        // Without a modifier the time is NULL: the value lives for ever.
        let columns = "(key, value, is_binary, etag, expiration_time, update_time) \
             VALUES (?1, ?2, ?3, ?4, STRFTIME('%Y-%m-%d %H:%M:%f', 'now', ?5), CURRENT_TIMESTAMP)";
        let replaced = "value = excluded.value, is_binary = excluded.is_binary, etag = excluded.etag, \
             expiration_time = excluded.expiration_time, update_time = excluded.update_time";
        Self {
            begin: "SAVEPOINT job",
            undo: "ROLLBACK TO job",
            end: "RELEASE job",
            set: format!("INSERT INTO {table} {columns} ON CONFLICT (key) DO UPDATE SET {replaced}"),
            // What has expired is as good as absent.
            insert: format!(
                "INSERT INTO {table} {columns} ON CONFLICT (key) DO UPDATE SET {replaced} \
                 WHERE NOT ({table}.expiration_time IS NULL \
                 OR {table}.expiration_time > STRFTIME('%Y-%m-%d %H:%M:%f', 'now'))"
            ),
            update: format!(
                "UPDATE {table} SET value = ?2, is_binary = ?3, etag = ?4, \
                 expiration_time = STRFTIME('%Y-%m-%d %H:%M:%f', 'now', ?5), update_time = CURRENT_TIMESTAMP \
                 WHERE key = ?1 AND etag = ?6 AND {alive}"
            ),
            delete: format!("DELETE FROM {table} WHERE key = ?1"),
            delete_tagged: format!("DELETE FROM {table} WHERE key = ?1 AND etag = ?2"),
        }
    }
}
