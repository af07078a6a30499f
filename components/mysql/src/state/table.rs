//! The tables, and the statements on them.

use super::write::Kind;
use crate::client::{Client, failed};
use crate::failure::code;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use jiff::Timestamp;
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;
use outrigger_component::error::{Error, Result};
use outrigger_component::metadata::Metadata;
use outrigger_component::state::Item;
use std::time::Duration;

/// Somebody else has just added the same column or index.
const THERE_ALREADY: [u16; 2] = [1060, 1061];
/// `NOW(6)`: a time without its fraction would be as early as a second before.
const ALIVE: &str = "(expiredate IS NULL OR expiredate > NOW(6))";
const EXPIRED: &str = "(expiredate IS NOT NULL AND expiredate <= NOW(6))";

/// Key, value, tag, whether it is base64, seconds since 1970 when it expires.
pub(super) type Row = (Vec<u8>, Vec<u8>, String, bool, Option<i64>);

pub(super) struct Table {
    name: String,
    metadata_name: String,
    keys_like: String,
    upsert: String,
    insert: String,
    update: String,
    delete: String,
    delete_tagged: String,
}

impl Table {
    /// Both are identifiers.
    pub(super) fn new(name: &str, metadata_name: &str) -> Self {
        // `NULL` seconds later is never.
        let insert = format!(
            "INSERT INTO {name} (id, value, eTag, isbinary, expiredate) VALUES (?, ?, ?, ?, NOW(6) + INTERVAL ? SECOND)"
        );
        let columns = ["value", "eTag", "isbinary", "expiredate"];
        let replaced = columns
            .map(|column| format!("{column} = VALUES({column})"))
            .join(", ");
        // What has expired is as good as absent. The time comes last: the others look at it.
        let renewed = columns
            .map(|column| format!("{column} = IF({EXPIRED}, VALUES({column}), {column})"))
            .join(", ");
        Self {
            keys_like: format!(
                "SELECT id, row_id FROM {name} WHERE id LIKE ? ESCAPE '\\\\' AND {ALIVE} AND row_id > ? ORDER BY row_id LIMIT ?"
            ),
            upsert: format!("{insert} ON DUPLICATE KEY UPDATE {replaced}"),
            insert: format!("{insert} ON DUPLICATE KEY UPDATE {renewed}"),
            update: format!(
                "UPDATE {name} SET value = ?, eTag = ?, isbinary = ?, expiredate = NOW(6) + INTERVAL ? SECOND \
                 WHERE id = ? AND eTag = ? AND {ALIVE}"
            ),
            delete: format!("DELETE FROM {name} WHERE id = ?"),
            delete_tagged: format!("DELETE FROM {name} WHERE id = ? AND eTag = ?"),
            name: name.to_owned(),
            metadata_name: metadata_name.to_owned(),
        }
    }

    pub(super) fn select(&self, keys: usize) -> String {
        let places = vec!["?"; keys].join(",");
        format!(
            "SELECT id, value, eTag, isbinary, CAST(FLOOR(UNIX_TIMESTAMP(expiredate)) AS SIGNED) FROM {} \
             WHERE id IN ({places}) AND {ALIVE}",
            self.name
        )
    }

    pub(super) fn keys_like(&self) -> &str {
        &self.keys_like
    }

    pub(super) fn write(&self, kind: Kind) -> &str {
        match kind {
            Kind::Upsert => &self.upsert,
            Kind::Insert => &self.insert,
            Kind::Update => &self.update,
            Kind::Delete => &self.delete,
            Kind::DeleteTagged => &self.delete_tagged,
        }
    }

    /// Makes what is not there, and adds the columns that older tables lack.
    pub(super) async fn make(&self, client: &Client, database: &str) -> Result<()> {
        let (name, metadata_name) = (&self.name, &self.metadata_name);
        let what = format!("failed to bring table {name} up to date");
        let mut lane = client.lane().await?;
        run(
            &mut lane,
            &what,
            &format!(
                "CREATE TABLE IF NOT EXISTS {name} (
                    id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL PRIMARY KEY,
                    value JSON NOT NULL,
                    isbinary BOOLEAN NOT NULL,
                    insertDate TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
                    updateDate TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
                    eTag VARCHAR(36) NOT NULL,
                    expiredate TIMESTAMP(6) NULL,
                    INDEX expiredate_idx(expiredate),
                    row_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
                    UNIQUE KEY row_id_uidx (row_id)
                )"
            ),
        )
        .await?;
        for (column, change) in [
            (
                "expiredate",
                "ADD COLUMN expiredate TIMESTAMP(6) NULL, ADD INDEX expiredate_idx (expiredate)",
            ),
            (
                "row_id",
                "ADD COLUMN row_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT, ADD UNIQUE KEY row_id_uidx (row_id)",
            ),
        ] {
            let there: Option<u64> = lane
                .exec_first(
                    "SELECT COUNT(*) FROM information_schema.columns \
                     WHERE table_schema = ? AND table_name = ? AND column_name = ?",
                    (database, name, column),
                )
                .await
                .map_err(failed(&what))?;
            if there == Some(0) {
                run(&mut lane, &what, &format!("ALTER TABLE {name} {change}")).await?;
            }
        }
        let made = format!(
            "CREATE TABLE IF NOT EXISTS {metadata_name} (id VARCHAR(255) NOT NULL PRIMARY KEY, value TEXT NOT NULL)"
        );
        run(&mut lane, &what, &made).await
    }

    /// Deletes what has expired, if no other sidecar did so lately; answers how many.
    pub(super) async fn clean(&self, client: &Client, interval: Duration) -> Result<Option<u64>> {
        let what = "cannot delete what has expired";
        // A little less, so that a clean-up at every tick is not every second tick.
        let interval = u64::try_from(interval.as_millis())
            .unwrap_or(u64::MAX)
            .saturating_sub(100);
        let claim = format!(
            "INSERT INTO {} (id, value) VALUES ('last-cleanup', CURRENT_TIMESTAMP) ON DUPLICATE KEY UPDATE \
             value = IF(CURRENT_TIMESTAMP > DATE_ADD(value, INTERVAL ? * 1000 MICROSECOND), CURRENT_TIMESTAMP, value)",
            self.metadata_name
        );
        let mut lane = client.lane().await?;
        lane.exec_drop(claim, (interval,)).await.map_err(failed(what))?;
        if lane.affected_rows() == 0 {
            return Ok(None);
        }
        lane.query_drop(format!("DELETE FROM {} WHERE {EXPIRED}", self.name))
            .await
            .map_err(failed(what))?;
        Ok(Some(lane.affected_rows()))
    }
}

/// Makes the database, unless it is there: who may use it need not be allowed to make one.
pub(super) async fn make_database(client: &Client, name: &str) -> Result<()> {
    let what = format!("failed to make database {name}");
    let mut lane = client.lane().await?;
    let there: Option<u64> = lane
        .exec_first(
            "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = ?",
            (name,),
        )
        .await
        .map_err(failed(&what))?;
    if there == Some(0) {
        run(&mut lane, &what, &format!("CREATE DATABASE IF NOT EXISTS {name}")).await?;
    }
    Ok(())
}

async fn run(lane: &mut Conn, what: &str, statement: &str) -> Result<()> {
    match lane.query_drop(statement).await {
        Err(error) if code(&error).is_some_and(|code| THERE_ALREADY.contains(&code)) => Ok(()),
        done => done.map_err(failed(what)),
    }
}

pub(super) fn item((key, value, etag, is_binary, expires): Row) -> Result<(String, Item)> {
    let value = if is_binary {
        let text: String = serde_json::from_slice(&value)
            .map_err(|error| Error::internal(format!("failed to unmarshal JSON binary data: {error}")))?;
        let bytes = BASE64
            .decode(text)
            .map_err(|error| Error::internal(format!("failed to decode binary data: {error}")))?;
        Bytes::from(bytes)
    } else {
        Bytes::from(value)
    };
    let mut metadata = Metadata::new();
    if let Some(time) = expires.and_then(|expires| Timestamp::from_second(expires).ok()) {
        metadata.insert("ttlExpireTime", format!("{time:.0}"));
    }
    let item = Item {
        value,
        etag: Some(etag),
        content_type: None,
        metadata,
    };
    Ok((text(key)?, item))
}

pub(super) fn text(key: Vec<u8>) -> Result<String> {
    String::from_utf8(key).map_err(|_| Error::internal("a key in the table is not UTF-8"))
}
