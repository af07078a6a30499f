//! Writing: what waits goes into one transaction, which is synced once.
//!
//! INVARIANT: each change has its own outcome. One that fails changes nothing and does not touch its neighbours, nor does one
//! whose row somebody else holds: it leaves the transaction of the others and waits alone. A change that finds another tag than
//! it expects is no failure of the transaction. An answer that is no error means committed.
//!
//! All transactions go through their keys in the same order, so that two of them never wait for each other in a circle. Where
//! they do with somebody else's, the server undoes one, and it is repeated.

use super::layout::Layout;
use crate::failure::is_collision;
use crate::group::Job;
use crate::pool::{Lane, Pool, Ready, Value, failed, within};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::future::join_all;
use futures::poll;
use outrigger_component::error::{self, Error, Result};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::error::Error as StdError;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use tokio::sync::oneshot;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

/// Times that a transaction is begun which collides with others.
const ATTEMPTS: u32 = 5;
/// Begins a transaction of many callers, which does not wait long for a row that somebody else holds (200 ms).
const BEGIN_SHARED: &str = "BEGIN; SET LOCAL lock_timeout = 200";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Upsert,
    /// Only if there is none.
    Insert,
    /// Only the value with this tag.
    Update,
    Delete,
    DeleteTagged,
}

/// One row to be written.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) key: String,
    pub(super) kind: Kind,
    /// As it stands in the column.
    pub(super) value: Bytes,
    /// `None`: there is no such column.
    pub(super) is_binary: Option<bool>,
    /// In seconds.
    pub(super) lifetime: Option<f64>,
    pub(super) etag: Option<String>,
}

/// A caller who waits for a step to be done.
pub(super) struct Change {
    pub(super) step: Step,
    pub(super) reply: oneshot::Sender<Result<()>>,
}

impl Job for Change {
    fn bytes(&self) -> usize {
        self.step.key.len() + self.step.value.len()
    }
}

impl Step {
    /// What became of it, when it touched so many rows.
    fn judge(&self, rows: u64) -> Result<()> {
        if rows == 1 || self.kind == Kind::Delete {
            return Ok(());
        }
        Err(Error::new(
            error::Kind::EtagMismatch,
            format!("the stored value of key {} is not the one expected", self.key),
        ))
    }

    fn failed(&self, error: tokio_postgres::Error) -> Error {
        failed(&format!("cannot write key {}", self.key))(error)
    }

    async fn send(&self, lane: &Lane, ready: &Ready<'_>) -> Result<u64, tokio_postgres::Error> {
        let value = Raw(&self.value);
        let mut values: Vec<Value<'_>> = vec![&self.key];
        if !matches!(self.kind, Kind::Delete | Kind::DeleteTagged) {
            values.push(&value);
            if let Some(is_binary) = &self.is_binary {
                values.push(is_binary);
            }
            values.push(&self.lifetime);
        }
        if let Some(etag) = &self.etag {
            values.push(etag);
        }
        lane.execute(ready, &values).await
    }
}

pub(super) async fn all(pool: Pool, layout: Arc<Layout>, mut jobs: Vec<Change>) {
    jobs.sort_by(|one, other| one.step.key.cmp(&other.step.key));
    let mut apart = Vec::new();
    while jobs.len() > 1 {
        match within(pool.timeout(), "cannot write", together(&pool, &layout, &jobs)).await {
            Ok(Together::Done(rows)) => {
                for (Change { step, reply }, rows) in jobs.drain(..).zip(rows) {
                    // Whoever asked may have left.
                    drop(reply.send(step.judge(rows)));
                }
            }
            Ok(Together::Held(number)) => apart.push(jobs.remove(number)),
            Ok(Together::Broken) => apart.append(&mut jobs),
            Err(error) => {
                for job in jobs.drain(..) {
                    drop(job.reply.send(Err(error.copy())));
                }
            }
        }
    }
    apart.append(&mut jobs);
    join_all(apart.into_iter().map(|job| alone(&pool, &layout, job))).await;
}

/// What became of a transaction of many callers.
enum Together {
    /// It is committed; how many rows each step touched.
    Done(Vec<u64>),
    /// Nothing was written: somebody else holds the row of this step.
    Held(usize),
    /// Nothing was written.
    Broken,
}

/// `Err`: the connection is lost, and what became of the steps is not known.
async fn together(pool: &Pool, layout: &Layout, jobs: &[Change]) -> Result<Together> {
    let mut lane = pool.lane().await?;
    let steps: Vec<&Step> = jobs.iter().map(|job| &job.step).collect();
    let ready = prepare(&mut lane, layout, &steps).await?;
    let (sent, committed) = send(&lane, &ready, &steps, BEGIN_SHARED, Some("COMMIT")).await?;
    lane.give_back();
    let held = |sent: &Sent| {
        sent.as_ref().err().and_then(tokio_postgres::Error::code) == Some(&SqlState::LOCK_NOT_AVAILABLE)
    };
    if let Some(number) = sent.iter().position(held) {
        return Ok(Together::Held(number));
    }
    let rows: Result<Vec<u64>, _> = sent.into_iter().collect();
    Ok(match (rows, committed) {
        (Ok(rows), Ok(())) => Together::Done(rows),
        _ => Together::Broken,
    })
}

async fn alone(pool: &Pool, layout: &Layout, Change { step, reply }: Change) {
    let done = within(pool.timeout(), "cannot write", async {
        let mut lane = pool.lane().await?;
        let sql = layout.write(step.kind);
        let ready = lane.ready(sql).await.map_err(|error| step.failed(error))?;
        let mut attempt = 1;
        let rows = loop {
            match step.send(&lane, &ready).await {
                Err(error) if is_collision(&error) && attempt < ATTEMPTS => attempt += 1,
                rows => break rows,
            }
        };
        lane.give_back();
        step.judge(rows.map_err(|error| step.failed(error))?)
    });
    let done = done.await;
    drop(reply.send(done));
}

/// All steps or none. What is done to one key is done in order.
///
/// # Errors
/// That of the first step that failed; nothing is written then.
pub(super) async fn transaction(pool: &Pool, layout: &Layout, steps: &[Step]) -> Result<()> {
    let mut sorted: Vec<&Step> = steps.iter().collect();
    sorted.sort_by(|one, other| one.key.cmp(&other.key));
    within(pool.timeout(), "cannot write", async {
        let mut lane = pool.lane().await?;
        let ready = prepare(&mut lane, layout, &sorted).await?;
        let mut attempt = 1;
        loop {
            let (sent, _) = send(&lane, &ready, &sorted, "BEGIN", None).await?;
            let collided = sent.iter().any(|sent| sent.as_ref().is_err_and(is_collision));
            let cause = cause(&sorted, sent);
            let end = if cause.is_none() { "COMMIT" } else { "ROLLBACK" };
            let ended = lane.plain(end).await;
            match (cause, ended) {
                (Some(_), Ok(())) if collided && attempt < ATTEMPTS => attempt += 1,
                (None, Err(error)) if is_collision(&error) && attempt < ATTEMPTS => attempt += 1,
                (cause, ended) => {
                    ended.map_err(failed("failed to commit transaction"))?;
                    lane.give_back();
                    return cause.map_or(Ok(()), Err);
                }
            }
        }
    })
    .await
}

fn cause(steps: &[&Step], sent: Vec<Sent>) -> Option<Error> {
    steps.iter().zip(sent).find_map(|(step, sent)| match sent {
        Ok(rows) => step.judge(rows).err(),
        Err(error) => Some(step.failed(error)),
    })
}

/// How many rows a step touched.
type Sent = Result<u64, tokio_postgres::Error>;
type Prepared<'l> = HashMap<Kind, Ready<'l>>;

async fn prepare<'l>(lane: &mut Lane, layout: &'l Layout, steps: &[&Step]) -> Result<Prepared<'l>> {
    let mut ready = Prepared::new();
    for step in steps {
        if let Entry::Vacant(place) = ready.entry(step.kind) {
            let prepared = lane.ready(layout.write(step.kind)).await;
            place.insert(prepared.map_err(failed("cannot write"))?);
        }
    }
    Ok(ready)
}

/// Sends everything before it waits for the first answer. Without an `end`, the transaction stays open.
///
/// `Err`: the connection is lost.
async fn send(
    lane: &Lane,
    ready: &Prepared<'_>,
    steps: &[&Step],
    begin: &str,
    end: Option<&str>,
) -> Result<(Vec<Sent>, Result<(), tokio_postgres::Error>)> {
    let mut beginning = Sending::start(lane.plain(begin)).await;
    let mut under_way = Vec::with_capacity(steps.len());
    for step in steps {
        let ready = ready.get(&step.kind).expect("prepared for all steps before");
        under_way.push(Sending::start(step.send(lane, ready)).await);
    }
    let mut ending = match end {
        Some(end) => Some(Sending::start(lane.plain(end)).await),
        None => None,
    };
    // Without an answer of the server, nothing is known.
    let known = |error: &tokio_postgres::Error| error.code().is_some();
    let lost = failed("cannot write");
    beginning.answer().await.map_err(&lost)?;
    let mut outcomes = Vec::with_capacity(steps.len());
    for sending in &mut under_way {
        match sending.answer().await {
            Err(error) if !known(&error) => return Err(lost(error)),
            outcome => outcomes.push(outcome),
        }
    }
    let ended = match &mut ending {
        Some(ending) => ending.answer().await,
        None => Ok(()),
    };
    match ended {
        Err(error) if !known(&error) => Err(lost(error)),
        ended => Ok((outcomes, ended)),
    }
}

/// A statement that is on its way.
struct Sending<'s, T> {
    future: Pin<Box<dyn Future<Output = T> + Send + 's>>,
    early: Option<T>,
}

impl<'s, T> Sending<'s, T> {
    /// Polls once, by which it is sent.
    async fn start(future: impl Future<Output = T> + Send + 's) -> Self {
        let mut future: Pin<Box<dyn Future<Output = T> + Send + 's>> = Box::pin(future);
        let early = match poll!(&mut future) {
            Poll::Ready(answer) => Some(answer),
            Poll::Pending => None,
        };
        Self { future, early }
    }

    async fn answer(&mut self) -> T {
        match self.early.take() {
            Some(answer) => answer,
            None => (&mut self.future).await,
        }
    }
}

/// Bytes as they are, for a column of text or bytes.
#[derive(Debug)]
struct Raw<'b>(&'b [u8]);

impl ToSql for Raw<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.put_slice(self.0);
        Ok(IsNull::No)
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::TEXT || *of == Type::BYTEA
    }

    to_sql_checked!();
}
