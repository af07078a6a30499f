//! `nameresolution.sqlite`: sidecars announce themselves in a table of a file that they share.
//!
//! COMPAT(components-contrib nameresolution/sqlite): table, intervals, and that namespaces are not told apart. A
//! registration that another process took over is made again, with an error in the log; the reference ends itself.

use crate::config::Names as Config;
use crate::database::{Migrations, claim_cleanup};
use crate::worker::{Worker, blocking, failed};
use outrigger_component::Component;
use outrigger_component::error::{Error, Result};
use outrigger_component::resolver::{Endpoint, NameResolver, Target};
use outrigger_component::setup::Setup;
use outrigger_daemon::drain;
use outrigger_daemon::log::Log;
use outrigger_daemon::tasks::{OnExit, Tasks};
use rusqlite::{Connection, params};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Under which the metadata table keeps when old announcements were deleted last.
const LAST_CLEANUP: &str = "nr-last-cleanup";
/// Between attempts to renew while the file is busy.
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct Resolver {
    shared: Arc<Shared>,
    tasks: Tasks,
}

struct Shared {
    worker: Worker,
    me: Me,
    config: Config,
    log: Log,
}

/// This sidecar's row.
#[derive(Clone)]
struct Me {
    registration: String,
    address: String,
    app_id: String,
}

impl Resolver {
    pub(crate) async fn connect(setup: Setup<Config>) -> Result<Self> {
        let Setup {
            config,
            log,
            instance,
            ..
        } = setup;
        config.check()?;
        if instance.app_id.is_empty() {
            return Err(Error::invalid("name is missing"));
        }
        if instance.host.is_empty() {
            return Err(Error::invalid("address is missing"));
        }
        let location = config.location(&log)?;
        if location.memory {
            log.warn(
                "Configuring name resolution with an in-memory SQLite database. Service invocation across different apps will not work.",
            );
        }
        let host = match instance.host.contains(':') {
            true => format!("[{}]", instance.host.trim_matches(['[', ']'])),
            false => instance.host,
        };
        let me = Me {
            registration: uuid::Uuid::new_v4().to_string(),
            address: format!("{host}:{}", instance.internal_port),
            app_id: instance.app_id,
        };
        let table = config.table_name.clone();
        let metadata_table = config.metadata_table_name.clone();
        let announced = me.clone();
        let worker = blocking(move || {
            let mut connection = location.open()?;
            migrate(&mut connection, &table, &metadata_table)?;
            announce(&connection, &table, &announced).map_err(failed("failed to register host"))?;
            Worker::start("sqlite-names", connection)
        })
        .await?;
        let shared = Arc::new(Shared {
            worker,
            me,
            config,
            log: log.clone(),
        });
        let tasks = Tasks::new(&log, drain::channel().0);
        tasks.spawn(
            "nameresolution.sqlite renewal",
            OnExit::Log,
            renew(Arc::clone(&shared)),
        );
        if !shared.config.cleanup_interval.is_zero() {
            let clean = clean(Arc::clone(&shared));
            tasks.spawn("nameresolution.sqlite clean-up", OnExit::Log, clean);
        }
        Ok(Self { shared, tasks })
    }
}

impl Shared {
    async fn run<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&Connection, &Me, &str) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let (me, table) = (self.me.clone(), self.config.table_name.clone());
        self.worker
            .run(self.config.timeout, move |connection| {
                work(connection, &me, &table).map_err(failed(what))
            })
            .await
    }
}

#[async_trait::async_trait]
impl Component for Resolver {
    async fn ping(&self) -> Result<()> {
        let ping =
            |connection: &Connection, _: &Me, _: &str| connection.query_row("SELECT 1", [], |_| Ok(()));
        self.shared.run("ping", ping).await
    }

    /// Takes the announcement back.
    async fn close(&self) {
        self.tasks.abort();
        let leave = |connection: &Connection, me: &Me, table: &str| {
            connection.execute(
                &format!("DELETE FROM {table} WHERE registration_id = ?1 AND address = ?2"),
                params![me.registration, me.address],
            )
        };
        match self.shared.run("failed to unregister host", leave).await {
            Ok(0) => self.shared.log.warn("failed to unregister host: no row deleted"),
            Ok(_) => {}
            Err(error) => self.shared.log.warn(&error),
        }
        self.shared.worker.close().await;
    }
}

#[async_trait::async_trait]
impl NameResolver for Resolver {
    /// Waits for the file for at most `timeout`.
    async fn resolve(&self, target: &Target) -> Result<Vec<Endpoint>> {
        let app = target.app_id.clone();
        let seconds = seconds(self.shared.config.update_interval);
        self.shared
            .run("failed to look up address", move |connection, _, table| {
                let sql = format!(
                    "SELECT address FROM {table} WHERE app_id = ?1 AND unixepoch('now') - last_update < ?2"
                );
                let mut statement = connection.prepare_cached(&sql)?;
                let found = statement.query_map(params![app, seconds], |row| row.get(0).map(Endpoint))?;
                found.collect()
            })
            .await
    }
}

fn migrate(connection: &mut Connection, table: &str, metadata_table: &str) -> Result<()> {
    Migrations {
        metadata_table,
        key: "nr-migrations",
        steps: &[format!(
            "CREATE TABLE {table} (
                registration_id TEXT NOT NULL PRIMARY KEY,
                address TEXT NOT NULL,
                app_id TEXT NOT NULL,
                namespace TEXT NOT NULL,
                last_update INTEGER NOT NULL
            );
            CREATE UNIQUE INDEX {table}_address_idx ON {table} (address);
            CREATE INDEX {table}_last_update_idx ON {table} (last_update);"
        )],
    }
    .perform(connection)
}

/// Takes over the address if somebody had it before.
fn announce(connection: &Connection, table: &str, me: &Me) -> rusqlite::Result<usize> {
    connection.execute(
        &format!(
            "REPLACE INTO {table} (registration_id, address, app_id, namespace, last_update) \
             VALUES (?1, ?2, ?3, '', unixepoch('now'))"
        ),
        params![me.registration, me.address, me.app_id],
    )
}

async fn renew(shared: Arc<Shared>) {
    // An announcement counts for `update_interval`, and renewing may take up to `timeout`.
    let every = shared.config.update_interval - shared.config.timeout;
    loop {
        tokio::time::sleep(every).await;
        let until = Instant::now() + shared.config.timeout;
        loop {
            let renew = |connection: &Connection, me: &Me, table: &str| {
                connection.execute(
                    &format!(
                        "UPDATE {table} SET last_update = unixepoch('now') WHERE registration_id = ?1 AND address = ?2"
                    ),
                    params![me.registration, me.address],
                )
            };
            let outcome = match shared.run("failed to update host registration", renew).await {
                Ok(0) => {
                    shared.log.error(
                        "Host registration lost: another sidecar announced this address; announcing it again",
                    );
                    let again =
                        |connection: &Connection, me: &Me, table: &str| announce(connection, table, me);
                    shared.run("failed to register host", again).await.map(drop)
                }
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            };
            match outcome {
                Ok(()) => break,
                Err(_) if Instant::now() < until => tokio::time::sleep(PAUSE).await,
                Err(error) => {
                    shared
                        .log
                        .error(format_args!("Failed to update host registration: {error}"));
                    break;
                }
            }
        }
    }
}

/// As SQLite counts.
fn seconds(interval: Duration) -> i64 {
    i64::try_from(interval.as_secs()).unwrap_or(i64::MAX)
}

async fn clean(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(shared.config.cleanup_interval).await;
        let (metadata_table, interval) = (
            shared.config.metadata_table_name.clone(),
            shared.config.cleanup_interval,
        );
        let seconds = seconds(shared.config.update_interval);
        let work = move |connection: &Connection, _: &Me, table: &str| {
            if !claim_cleanup(connection, &metadata_table, LAST_CLEANUP, interval)? {
                return Ok(0);
            }
            connection.execute(
                &format!("DELETE FROM {table} WHERE unixepoch('now') - last_update > ?1"),
                params![seconds],
            )
        };
        match shared.run("cannot delete old announcements", work).await {
            Ok(removed) => shared.log.debug(format_args!("Removed {removed} expired rows")),
            Err(error) => shared
                .log
                .error(format_args!("Error removing expired data: {error}")),
        }
    }
}

#[cfg(test)]
mod tests;
