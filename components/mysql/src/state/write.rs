//! Writing.
//!
//! All transactions go through their keys in the same order, so that two of them never wait for each other in a circle. Where
//! they do nevertheless, the server undoes one, and it is repeated.

use super::table::Table;
use crate::client::{Client, failed};
use crate::failure::is_collision;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use mysql_async::prelude::Queryable;
use mysql_async::{Params, TxOpts, Value};
use outrigger_component::error::{self, Error, Result};
use outrigger_component::state::{Concurrency, Delete, Set, Ttl, ttl};

/// Times that something is tried which collides with others.
const ATTEMPTS: u32 = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    key: String,
    kind: Kind,
    /// JSON.
    value: Bytes,
    is_binary: bool,
    lifetime: Option<u32>,
    etag: Option<String>,
}

impl Step {
    /// # Errors
    /// `Invalid`: no key, or a lifetime that is none.
    pub(super) fn set(set: Set) -> Result<Self> {
        if set.key.is_empty() {
            return Err(Error::invalid("missing key in set operation"));
        }
        let lifetime = match ttl(&set.metadata)? {
            Ttl::Unset | Ttl::Never => None,
            Ttl::Seconds(seconds) => Some(seconds),
        };
        let etag = set.etag.filter(|etag| !etag.is_empty());
        let kind = match (&etag, set.concurrency) {
            (Some(_), _) => Kind::Update,
            (None, Concurrency::FirstWrite) => Kind::Insert,
            (None, _) => Kind::Upsert,
        };
        let is_text = set.is_json && std::str::from_utf8(&set.value).is_ok();
        let value = if is_text {
            set.value
        } else {
            format!("\"{}\"", BASE64.encode(&set.value)).into()
        };
        Ok(Self {
            key: set.key,
            kind,
            value,
            is_binary: !is_text,
            lifetime,
            etag,
        })
    }

    /// # Errors
    /// `Invalid`: no key.
    pub(super) fn delete(delete: Delete) -> Result<Self> {
        if delete.key.is_empty() {
            return Err(Error::invalid("missing key in delete operation"));
        }
        let etag = delete.etag.filter(|etag| !etag.is_empty());
        Ok(Self {
            key: delete.key,
            kind: if etag.is_some() {
                Kind::DeleteTagged
            } else {
                Kind::Delete
            },
            value: Bytes::new(),
            is_binary: false,
            lifetime: None,
            etag,
        })
    }

    /// In the order of the statement.
    fn values(&self) -> Params {
        let key = Value::from(&self.key);
        let etag = Value::from(&self.etag);
        let written = || {
            [
                // As text: a JSON column of MySQL takes no bytes.
                Value::Bytes(self.value.to_vec()),
                Value::from(uuid::Uuid::new_v4().to_string()),
                Value::from(self.is_binary),
                Value::from(self.lifetime),
            ]
        };
        Params::Positional(match self.kind {
            Kind::Upsert | Kind::Insert => [vec![key], written().to_vec()].concat(),
            Kind::Update => [written().to_vec(), vec![key, etag]].concat(),
            Kind::Delete => vec![key],
            Kind::DeleteTagged => vec![key, etag],
        })
    }

    fn failed(&self, error: mysql_async::Error) -> Error {
        failed(&format!("cannot write key {}", self.key))(error)
    }

    async fn send(&self, lane: &mut impl Queryable, table: &Table) -> Result<u64, mysql_async::Error> {
        let done = lane.exec_iter(table.write(self.kind), self.values()).await?;
        let rows = done.affected_rows();
        done.drop_result().await?;
        Ok(rows)
    }

    /// What became of it, when it touched so many rows.
    fn judge(&self, rows: u64) -> Result<()> {
        // A row that is replaced counts as two.
        if rows > 0 || matches!(self.kind, Kind::Delete | Kind::Upsert) {
            return Ok(());
        }
        Err(Error::new(
            error::Kind::EtagMismatch,
            format!("the stored value of key {} is not the one expected", self.key),
        ))
    }
}

pub(super) async fn one(client: &Client, table: &Table, step: &Step) -> Result<()> {
    let mut lane = client.lane().await?;
    let mut attempt = 1;
    loop {
        match step.send(&mut lane, table).await {
            Err(error) if is_collision(&error) && attempt < ATTEMPTS => attempt += 1,
            rows => return step.judge(rows.map_err(|error| step.failed(error))?),
        }
    }
}

/// All steps or none. What is done to one key is done in order.
///
/// # Errors
/// That of the first step that failed; nothing is written then.
pub(super) async fn transaction(client: &Client, table: &Table, steps: &[Step]) -> Result<()> {
    let mut sorted: Vec<&Step> = steps.iter().collect();
    sorted.sort_by(|one, other| one.key.cmp(&other.key));
    let mut lane = client.lane().await?;
    let mut attempt = 1;
    'again: loop {
        let mut transaction = lane
            .start_transaction(TxOpts::default())
            .await
            .map_err(failed("failed to begin transaction"))?;
        let mut cause = None;
        for step in &sorted {
            match step.send(&mut transaction, table).await {
                Ok(rows) => cause = step.judge(rows).err(),
                Err(error) if is_collision(&error) && attempt < ATTEMPTS => {
                    attempt += 1;
                    transaction.rollback().await.map_err(|error| step.failed(error))?;
                    continue 'again;
                }
                Err(error) => cause = Some(step.failed(error)),
            }
            if cause.is_some() {
                break;
            }
        }
        return match cause {
            Some(cause) => {
                transaction
                    .rollback()
                    .await
                    .map_err(failed("failed to roll back transaction"))?;
                Err(cause)
            }
            None => transaction
                .commit()
                .await
                .map_err(failed("failed to commit transaction")),
        };
    }
}
