//! Bringing tables up to date.
//!
//! COMPAT(components-contrib common/component/sql/migrations/postgres): how far a database is, is a number in its metadata
//! table under a key of the component, and a row of that table is the lock of whoever changes it: sidecars of both kinds wait
//! for each other. Unlike there, a column that is there already is no failure.

use crate::pool::{Lane, Pool, Sql, failed, within};
use outrigger_component::error::{Error, Result};
use std::time::Duration;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

/// While another sidecar changes the tables.
const LOCK_PATIENCE: Duration = Duration::from_secs(60);
/// For each change: a large table is read and written once.
const STEP_PATIENCE: Duration = Duration::from_secs(600);
/// Attempts to make a table that somebody else makes at the same time, and the time between.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct Migrations<'m> {
    pub(crate) metadata_table: &'m str,
    /// Under which the metadata table keeps how far the database is.
    pub(crate) key: &'m str,
    /// In order.
    pub(crate) steps: &'m [Step<'m>],
}

pub(crate) enum Step<'s> {
    Statements(String),
    /// Numbers the rows of a table (`row_id`), the present ones by this column and their key.
    Number {
        table: &'s str,
        by: &'s str,
    },
}

impl Migrations<'_> {
    pub(crate) async fn perform(&self, pool: &Pool) -> Result<()> {
        let table = self.metadata_table;
        let mut work = pool.lane().await?;
        create(
            &mut work,
            &format!(
                "CREATE TABLE IF NOT EXISTS {table} (key text NOT NULL PRIMARY KEY, value text NOT NULL)"
            ),
            "failed to create metadata table",
        )
        .await?;
        let lock_row = Sql::new(
            format!("INSERT INTO {table} (key, value) VALUES ('lock', 'lock') ON CONFLICT (key) DO NOTHING"),
            [],
        );
        work.run(&lock_row, &[])
            .await
            .map_err(failed("failed to ensure lock row 'lock' exists"))?;
        let mut lock = pool.lane().await?;
        let what = "failed to acquire migration lock (row-level lock on key 'lock')";
        within(LOCK_PATIENCE, what, async {
            lock.plain("BEGIN").await.map_err(failed(what))?;
            let row = Sql::new(
                format!("SELECT value FROM {table} WHERE key = 'lock' FOR UPDATE"),
                [],
            );
            lock.rows(&row, &[]).await.map_err(failed(what))
        })
        .await?;
        let outcome = self.locked(&mut work).await;
        lock.plain("ROLLBACK")
            .await
            .map_err(failed("failed to release migration lock"))?;
        lock.give_back();
        outcome?;
        work.give_back();
        Ok(())
    }

    async fn locked(&self, lane: &mut Lane) -> Result<()> {
        let table = self.metadata_table;
        let get = Sql::new(format!("SELECT value FROM {table} WHERE key = $1"), [Type::TEXT]);
        let what = "failed to read migration level";
        let rows = lane.rows(&get, &[&self.key]).await.map_err(failed(what))?;
        let level: usize = match rows.first() {
            None => 0,
            Some(row) => {
                let text: &str = row.try_get(0).map_err(failed(what))?;
                text.parse().map_err(|_| {
                    Error::invalid(format!("invalid migration level found in metadata table: {text}"))
                })?
            }
        };
        let set = Sql::new(
            format!(
                "INSERT INTO {table} (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = $2"
            ),
            [Type::TEXT, Type::TEXT],
        );
        for (number, step) in self.steps.iter().enumerate().skip(level) {
            let what = format!("failed to perform migration {number}");
            within(STEP_PATIENCE, &what, async {
                match step {
                    Step::Statements(text) => create(lane, text, &what).await,
                    Step::Number { table, by } => number_rows(lane, table, by, &what).await,
                }
            })
            .await?;
            lane.run(&set, &[&self.key, &(number + 1).to_string()])
                .await
                .map_err(failed("failed to update migration level in metadata table"))?;
        }
        Ok(())
    }
}

/// As the server says that somebody else has made the same meanwhile: `IF NOT EXISTS` does not wait for others. Which of
/// these it is depends on the catalog in which they met: its index, the table, or the type that comes with a table.
const MADE_MEANWHILE: [SqlState; 3] = [
    SqlState::UNIQUE_VIOLATION,
    SqlState::DUPLICATE_TABLE,
    SqlState::DUPLICATE_OBJECT,
];

async fn create(lane: &mut Lane, text: &str, what: &str) -> Result<()> {
    let mut attempt = 1;
    loop {
        match lane.plain(text).await {
            Err(error)
                if attempt < ATTEMPTS && error.code().is_some_and(|code| MADE_MEANWHILE.contains(code)) =>
            {
                attempt += 1;
                tokio::time::sleep(PAUSE).await;
            }
            done => return done.map_err(failed(what)),
        }
    }
}

async fn number_rows(lane: &mut Lane, table: &str, by: &str, what: &str) -> Result<()> {
    let found = Sql::new(
        "SELECT n.nspname::text, c.relname::text, format('%I.%I', n.nspname, c.relname) FROM pg_class c \
         JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1::text)",
        [Type::TEXT],
    );
    let rows = lane.rows(&found, &[&table]).await.map_err(failed(what))?;
    let Some(row) = rows.first() else {
        return Err(Error::invalid(format!("{what}: table {table:?} not found")));
    };
    let column = |row: &Row, number| row.try_get::<_, String>(number).map_err(failed(what));
    let (schema, name, full) = (column(row, 0)?, column(row, 1)?, column(row, 2)?);
    lane.plain(&format!(
        "ALTER TABLE {full} ADD COLUMN IF NOT EXISTS row_id BIGINT"
    ))
    .await
    .map_err(failed(what))?;
    lane.plain(&format!(
        "UPDATE {full} AS t SET row_id = numbered.number \
         FROM (SELECT key, ROW_NUMBER() OVER (ORDER BY {by}, key) AS number FROM {full} WHERE row_id IS NULL) AS numbered \
         WHERE numbered.key = t.key"
    ))
    .await
    .map_err(failed(what))?;
    lane.plain(&format!("ALTER TABLE {full} ALTER COLUMN row_id SET NOT NULL"))
        .await
        .map_err(failed(what))?;
    let counted = Sql::new(
        "SELECT 1 FROM information_schema.columns \
         WHERE table_schema = $1 AND table_name = $2 AND column_name = 'row_id' AND is_identity = 'YES'",
        [Type::TEXT, Type::TEXT],
    );
    if lane
        .rows(&counted, &[&schema, &name])
        .await
        .map_err(failed(what))?
        .is_empty()
    {
        lane.plain(&format!(
            "ALTER TABLE {full} ALTER COLUMN row_id ADD GENERATED BY DEFAULT AS IDENTITY"
        ))
        .await
        .map_err(failed(what))?;
    }
    let align = Sql::new(
        format!(
            "SELECT setval(pg_get_serial_sequence($1, 'row_id'), COALESCE((SELECT MAX(row_id) FROM {full}), 0) + 1, false)"
        ),
        [Type::TEXT],
    );
    lane.rows(&align, &[&full]).await.map_err(failed(what))?;
    let index = format!("{name}_row_id_uidx").replace('"', "\"\"");
    lane.plain(&format!(
        "CREATE UNIQUE INDEX IF NOT EXISTS \"{index}\" ON {full} (row_id)"
    ))
    .await
    .map_err(failed(what))
}
