//! Opening a database, and bringing its tables up to date.
//!
//! COMPAT(components-contrib common/component/sql/migrations): how far a file is, is a number in its metadata table, under a
//! key of the component; a file of the reference is taken over as it is, and one of ours works there.

use crate::failure::failure;
use outrigger_component::error::{Error, Result};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _};
use std::time::{Duration, Instant};

/// Statements that a connection keeps prepared.
const STATEMENTS: usize = 32;
/// Between attempts while somebody else changes how the file is journaled.
const PAUSE: Duration = Duration::from_millis(20);

/// Where a database is and how to open it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) uri: String,
    /// It is one connection's and gone with it.
    pub(crate) memory: bool,
    pub(crate) journal: Journal,
    pub(crate) busy_timeout: Duration,
    /// Statements of the user.
    pub(crate) pragmas: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Journal {
    Wal,
    Delete,
    Memory,
}

impl Location {
    /// Blocks, at most for about the busy timeout.
    pub(crate) fn open(&self) -> Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_URI
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let failed = |error| failure("failed to create connection", error);
        let connection = Connection::open_with_flags(&self.uri, flags).map_err(failed)?;
        connection.busy_timeout(self.busy_timeout).map_err(failed)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        let mode = match self.journal {
            Journal::Wal => "WAL",
            Journal::Delete => "DELETE",
            Journal::Memory => "MEMORY",
        };
        // SQLite does not wait by itself here.
        let until = Instant::now() + self.busy_timeout;
        while let Err(error) =
            connection.pragma_update_and_check(None, "journal_mode", mode, |row| row.get::<_, String>(0))
        {
            let busy = matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
            );
            if !busy || Instant::now() > until {
                return Err(failed(error));
            }
            std::thread::sleep(PAUSE);
        }
        // What is acknowledged is on disk, unless the user says otherwise below.
        connection
            .pragma_update(None, "synchronous", "FULL")
            .map_err(failed)?;
        for pragma in &self.pragmas {
            let mut statement = connection.prepare(pragma).map_err(failed)?;
            let mut rows = statement.query([]).map_err(failed)?;
            while rows.next().map_err(failed)?.is_some() {}
        }
        Ok(connection)
    }
}

/// Tables by the name the component gives them.
pub(crate) struct Migrations<'m> {
    pub(crate) metadata_table: &'m str,
    /// Under which the metadata table keeps how far the file is.
    pub(crate) key: &'m str,
    /// In order; each is one or several statements.
    pub(crate) steps: &'m [String],
}

impl Migrations<'_> {
    /// All or nothing; other processes wait meanwhile.
    pub(crate) fn perform(&self, connection: &mut Connection) -> Result<()> {
        self.within(connection).map_err(|error| Error {
            message: format!("failed to perform migrations: {}", error.message),
            ..error
        })
    }

    fn within(&self, connection: &mut Connection) -> Result<()> {
        let failed = |what: &'static str| move |error| failure(what, error);
        let transaction = connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Exclusive)
            .map_err(failed("failed to begin transaction"))?;
        let table = self.metadata_table;
        transaction
            .execute(
                &format!(
                    "CREATE TABLE IF NOT EXISTS {table} (key text NOT NULL PRIMARY KEY, value text NOT NULL)"
                ),
                [],
            )
            .map_err(failed("failed to create metadata table"))?;
        let level: Option<String> = transaction
            .query_row(
                &format!("SELECT value FROM {table} WHERE key = ?1"),
                [self.key],
                |row| row.get(0),
            )
            .optional()
            .map_err(failed("failed to read migration level"))?;
        let level: usize = match &level {
            None => 0,
            Some(text) => text.trim().parse().map_err(|_| {
                Error::invalid(format!("invalid migration level found in metadata table: {text}"))
            })?,
        };
        for (number, step) in self.steps.iter().enumerate().skip(level) {
            transaction
                .execute_batch(step)
                .map_err(|error| failure(&format!("failed to perform migration {number}"), error))?;
            transaction
                .execute(
                    &format!("REPLACE INTO {table} (key, value) VALUES (?1, ?2)"),
                    [self.key, &(number + 1).to_string()],
                )
                .map_err(failed("failed to update migration level in metadata table"))?;
        }
        transaction
            .commit()
            .map_err(failed("failed to commit transaction"))
    }
}

/// Whether it is this caller's turn to clean up: of all processes on the file, one does it per interval.
/// COMPAT(components-contrib common/component/sql/cleanup.go): the time is kept under `key` in the metadata table.
pub(crate) fn claim_cleanup(
    connection: &Connection,
    metadata_table: &str,
    key: &str,
    interval: Duration,
) -> rusqlite::Result<bool> {
    // A little less, so that a clean-up at every tick is not every second tick.
    let interval = interval.as_secs_f64() - 0.1;
    let claimed = connection.execute(
        &format!(
            "INSERT INTO {metadata_table} (key, value) VALUES (?1, CURRENT_TIMESTAMP) \
             ON CONFLICT (key) DO UPDATE SET value = CURRENT_TIMESTAMP \
             WHERE unixepoch(CURRENT_TIMESTAMP) - unixepoch(value) > ?2"
        ),
        rusqlite::params![key, interval],
    )?;
    Ok(claimed > 0)
}
