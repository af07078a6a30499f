//! The tables, and the statements on them.
//!
//! | | value | tag |
//! |---|---|---|
//! | version 1 | `jsonb`; what is no JSON as base64 text, with `isbinary` | `xmin`, the transaction that wrote the row |
//! | CockroachDB, version 1 | the same | a number in a column |
//! | version 2 | `bytea` | a random UUID |

use super::config::Config;
use super::write::{Kind, Step};
use crate::config;
use crate::migrations::{self, Migrations};
use crate::pool::{Lane, Pool, Sql, failed};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use jiff::Timestamp;
use outrigger_component::error::{self, Error, Result};
use outrigger_component::metadata::Metadata;
use outrigger_component::state::query::Found;
use outrigger_component::state::{Concurrency, Delete, Item, Set, Ttl, ttl};
use std::time::Duration;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
    Cockroach,
}

impl Version {
    pub(super) fn has_query(self) -> bool {
        self != Self::Two
    }
}

pub(super) struct Layout {
    version: Version,
    table: String,
    metadata_table: String,
    prefix: String,
    get: Sql,
    keys_like: Sql,
    scan: Sql,
    /// In the order of [`Kind`].
    writes: [Sql; 5],
    claim: Sql,
    clean: Sql,
}

/// Names of columns and the like in which versions differ.
struct Words {
    expires: &'static str,
    updated: &'static str,
    value: &'static str,
    is_binary: &'static str,
    etag: &'static str,
}

impl Layout {
    pub(super) fn new(version: Version, config: &Config) -> Result<Self> {
        let table = match version {
            Version::Two => config::table("tablePrefix", &format!("{}state", config.table_prefix))?,
            _ => config::table("tableName", &config.table_name)?,
        };
        let metadata_table = config::table("metadataTableName", &config.metadata_table_name)?;
        let words = match version {
            Version::Two => Words {
                expires: "expires_at",
                updated: "updated_at",
                value: "value",
                is_binary: "false",
                etag: "etag",
            },
            Version::One | Version::Cockroach => Words {
                expires: "expiredate",
                updated: "updatedate",
                value: "value::text",
                is_binary: "isbinary",
                etag: if version == Version::One { "xmin" } else { "etag" },
            },
        };
        let Words {
            expires,
            value,
            is_binary,
            etag,
            ..
        } = words;
        let columns =
            format!("key, {value}, {is_binary}, {etag}::text, floor(extract(epoch FROM {expires}))::int8");
        let alive = format!("({expires} IS NULL OR {expires} >= CURRENT_TIMESTAMP)");
        let get = format!("SELECT {columns} FROM {table} WHERE key = ANY($1) AND {alive}");
        let keys_like = format!(
            "SELECT key, row_id::int8 FROM {table} WHERE key LIKE $1 ESCAPE '\\' \
             AND ({expires} IS NULL OR {expires} > CURRENT_TIMESTAMP) AND row_id > $2 ORDER BY row_id LIMIT $3"
        );
        let scan = format!(
            "SELECT {columns} FROM {table} WHERE left(key, length($1)) = $1 AND {alive} ORDER BY key"
        );
        let last_cleanup = match version {
            Version::Two => format!("last-cleanup-state-v2-{}", config.table_prefix),
            _ => "last-cleanup".to_owned(),
        };
        let claim = format!(
            "INSERT INTO {metadata_table} AS m (key, value) VALUES ('{}', now()::text) ON CONFLICT (key) DO UPDATE \
             SET value = now()::text WHERE extract(epoch FROM now() - m.value::timestamp with time zone) > $1",
            last_cleanup.replace('\'', "''")
        );
        let clean = format!("DELETE FROM {table} WHERE {expires} IS NOT NULL AND {expires} < now()");
        Ok(Self {
            writes: writes(version, &table, &words),
            get: Sql::new(get, [Type::TEXT_ARRAY]),
            keys_like: Sql::new(keys_like, [Type::TEXT, Type::INT8, Type::INT8]),
            scan: Sql::new(scan, [Type::TEXT]),
            claim: Sql::new(claim, [Type::FLOAT8]),
            clean: Sql::new(clean, []),
            version,
            table,
            metadata_table,
            prefix: config.table_prefix.clone(),
        })
    }

    /// Columns: key, value, whether it is binary, tag, when it expires.
    pub(super) fn get(&self) -> &Sql {
        &self.get
    }

    /// The same columns.
    pub(super) fn scan(&self) -> &Sql {
        &self.scan
    }

    pub(super) fn keys_like(&self) -> &Sql {
        &self.keys_like
    }

    pub(super) fn write(&self, kind: Kind) -> &Sql {
        let [upsert, insert, update, delete, delete_tagged] = &self.writes;
        match kind {
            Kind::Upsert => upsert,
            Kind::Insert => insert,
            Kind::Update => update,
            Kind::Delete => delete,
            Kind::DeleteTagged => delete_tagged,
        }
    }

    /// # Errors
    /// `Invalid`: no key, or a lifetime that is none; what a tag that cannot be ours is answered with.
    pub(super) fn set(&self, set: Set) -> Result<Step> {
        if set.key.is_empty() {
            return Err(Error::invalid("missing key in set operation"));
        }
        let lifetime = match ttl(&set.metadata)? {
            Ttl::Unset | Ttl::Never => None,
            Ttl::Seconds(seconds) => Some(f64::from(seconds)),
        };
        let etag = self.tag(set.etag)?;
        let kind = match (&etag, set.concurrency) {
            (Some(_), _) => Kind::Update,
            (None, Concurrency::FirstWrite) => Kind::Insert,
            (None, _) => Kind::Upsert,
        };
        let mut step = Step {
            key: set.key,
            kind,
            value: set.value,
            is_binary: None,
            lifetime,
            etag,
        };
        if self.version != Version::Two {
            let is_text = set.is_json && std::str::from_utf8(&step.value).is_ok();
            if !is_text {
                step.value = format!("\"{}\"", BASE64.encode(&step.value)).into();
            }
            step.is_binary = Some(!is_text);
        }
        Ok(step)
    }

    /// # Errors
    /// As for [`Layout::set`].
    pub(super) fn delete(&self, delete: Delete) -> Result<Step> {
        if delete.key.is_empty() {
            return Err(Error::invalid("missing key in delete operation"));
        }
        let etag = self.tag(delete.etag)?;
        Ok(Step {
            key: delete.key,
            kind: if etag.is_some() {
                Kind::DeleteTagged
            } else {
                Kind::Delete
            },
            value: Bytes::new(),
            is_binary: None,
            lifetime: None,
            etag,
        })
    }

    fn tag(&self, etag: Option<String>) -> Result<Option<String>> {
        let Some(etag) = etag.filter(|etag| !etag.is_empty()) else {
            return Ok(None);
        };
        match self.version {
            Version::Two => match uuid::Uuid::parse_str(&etag) {
                Ok(uuid) => Ok(Some(uuid.to_string())),
                Err(_) => Err(Error::new(
                    error::Kind::EtagMismatch,
                    format!("the tag {etag:?} is not the one of the stored value: it is no UUID"),
                )),
            },
            _ => match etag.parse::<u32>() {
                Ok(_) => Ok(Some(etag)),
                Err(_) => Err(Error::new(
                    error::Kind::EtagInvalid,
                    format!("the tag {etag:?} cannot be one of this store: it is no number of 32 bits"),
                )),
            },
        }
    }

    /// The key and the value of a row.
    pub(super) fn row(&self, row: &Row) -> Result<(String, Item)> {
        let failed = failed("cannot read a row");
        let key: String = row.try_get(0).map_err(&failed)?;
        let value = match self.version {
            Version::Two => Bytes::copy_from_slice(row.try_get(1).map_err(&failed)?),
            _ => {
                let text: &str = row.try_get(1).map_err(&failed)?;
                if row.try_get(2).map_err(&failed)? {
                    binary(text)?
                } else {
                    Bytes::copy_from_slice(text.as_bytes())
                }
            }
        };
        let mut metadata = Metadata::new();
        if let Some(expires) = row.try_get::<_, Option<i64>>(4).map_err(&failed)?
            && let Ok(time) = Timestamp::from_second(expires)
        {
            metadata.insert("ttlExpireTime", format!("{time:.0}"));
        }
        let item = Item {
            value,
            etag: row.try_get(3).map_err(&failed)?,
            content_type: None,
            metadata,
        };
        Ok((key, item))
    }

    pub(super) fn found(&self, row: &Row) -> Result<Found> {
        let (key, Item { value, etag, .. }) = self.row(row)?;
        Ok(Found { key, value, etag })
    }

    /// Deletes what has expired, if no other sidecar did so lately; answers how many.
    pub(super) async fn clean(
        &self,
        lane: &mut Lane,
        interval: Duration,
    ) -> Result<Option<u64>, tokio_postgres::Error> {
        // A little less, so that a clean-up at every tick is not every second tick.
        let interval = interval.as_secs_f64() - 0.1;
        if lane.run(&self.claim, &[&interval]).await? == 0 {
            return Ok(None);
        }
        lane.run(&self.clean, &[]).await.map(Some)
    }

    pub(super) async fn migrate(&self, pool: &Pool) -> Result<()> {
        let table = &self.table;
        match self.version {
            Version::One => {
                let steps = [
                    migrations::Step::Statements(format!(
                        "CREATE TABLE IF NOT EXISTS {table} (
                            key text NOT NULL PRIMARY KEY,
                            value jsonb NOT NULL,
                            isbinary boolean NOT NULL,
                            insertdate TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
                            updatedate TIMESTAMP WITH TIME ZONE NULL
                        )"
                    )),
                    migrations::Step::Statements(format!(
                        "ALTER TABLE {table} ADD COLUMN IF NOT EXISTS expiredate TIMESTAMP WITH TIME ZONE"
                    )),
                    migrations::Step::Number {
                        table,
                        by: "insertdate",
                    },
                ];
                self.migrations("migrations", &steps).perform(pool).await
            }
            Version::Two => {
                let steps = [
                    migrations::Step::Statements(format!(
                        "CREATE TABLE IF NOT EXISTS {table} (
                            key text NOT NULL PRIMARY KEY,
                            value bytea NOT NULL,
                            etag uuid NOT NULL DEFAULT gen_random_uuid(),
                            created_at timestamp with time zone NOT NULL DEFAULT now(),
                            updated_at timestamp with time zone,
                            expires_at timestamp with time zone
                        );
                        CREATE INDEX ON {table} (expires_at)"
                    )),
                    migrations::Step::Number {
                        table,
                        by: "created_at",
                    },
                ];
                let key = format!("migrations-state-v2-{}", self.prefix);
                self.migrations(&key, &steps).perform(pool).await
            }
            Version::Cockroach => self.cockroach(pool).await,
        }
    }

    fn migrations<'m>(&'m self, key: &'m str, steps: &'m [migrations::Step<'m>]) -> Migrations<'m> {
        Migrations {
            metadata_table: &self.metadata_table,
            key,
            steps,
        }
    }

    /// COMPAT(components-contrib state/cockroachdb): no levels; each statement can be repeated.
    async fn cockroach(&self, pool: &Pool) -> Result<()> {
        let (table, metadata_table) = (&self.table, &self.metadata_table);
        let index = table.replace(['.', '"'], "_");
        let lane = pool.lane().await?;
        for statement in [
            format!(
                "CREATE TABLE IF NOT EXISTS {table} (
                    key text NOT NULL PRIMARY KEY,
                    value jsonb NOT NULL,
                    isbinary boolean NOT NULL,
                    etag INT,
                    insertdate TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
                    updatedate TIMESTAMP WITH TIME ZONE NULL,
                    expiredate TIMESTAMP WITH TIME ZONE NULL,
                    row_id INT8 NOT NULL DEFAULT unique_rowid(),
                    UNIQUE (row_id)
                )"
            ),
            format!("ALTER TABLE {table} ADD COLUMN IF NOT EXISTS expiredate TIMESTAMPTZ NULL"),
            format!("CREATE INDEX IF NOT EXISTS {index}_expiredate_idx ON {table} (expiredate)"),
            format!("ALTER TABLE {table} ADD COLUMN IF NOT EXISTS row_id INT8"),
            format!("ALTER TABLE {table} ALTER COLUMN row_id SET DEFAULT unique_rowid()"),
            format!("UPDATE {table} SET row_id = unique_rowid() WHERE row_id IS NULL"),
            format!("ALTER TABLE {table} ALTER COLUMN row_id SET NOT NULL"),
            format!("CREATE UNIQUE INDEX IF NOT EXISTS {index}_row_id_uidx ON {table} (row_id)"),
            format!(
                "CREATE TABLE IF NOT EXISTS {metadata_table} (key text NOT NULL PRIMARY KEY, value text NOT NULL)"
            ),
        ] {
            lane.plain(&statement)
                .await
                .map_err(failed("failed to bring the tables up to date"))?;
        }
        lane.give_back();
        Ok(())
    }
}

fn writes(version: Version, table: &str, words: &Words) -> [Sql; 5] {
    let Words { expires, updated, .. } = words;
    let set = format!("INSERT INTO {table} AS t");
    let (upsert, update, tagged, types) = match version {
        Version::One => (
            format!(
                "{set} (key, value, isbinary, {expires}) \
                 VALUES ($1, $2::jsonb, $3, CURRENT_TIMESTAMP + $4 * interval '1 second') \
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value, isbinary = excluded.isbinary, \
                 {updated} = CURRENT_TIMESTAMP, {expires} = excluded.{expires}"
            ),
            format!(
                "UPDATE {table} SET value = $2::jsonb, isbinary = $3, {updated} = CURRENT_TIMESTAMP, \
                 {expires} = CURRENT_TIMESTAMP + $4 * interval '1 second' WHERE key = $1 AND xmin = $5::xid"
            ),
            "xmin = $2::xid",
            vec![Type::TEXT, Type::TEXT, Type::BOOL, Type::FLOAT8],
        ),
        Version::Cockroach => (
            format!(
                "{set} (key, value, isbinary, etag, {expires}) \
                 VALUES ($1, $2::jsonb, $3, 1, now() + $4 * interval '1 second') \
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value, isbinary = excluded.isbinary, \
                 {updated} = now(), etag = t.etag + 1, {expires} = excluded.{expires}"
            ),
            format!(
                "UPDATE {table} SET value = $2::jsonb, isbinary = $3, {updated} = now(), etag = etag + 1, \
                 {expires} = now() + $4 * interval '1 second' WHERE key = $1 AND etag = $5::int8"
            ),
            "etag = $2::int8",
            vec![Type::TEXT, Type::TEXT, Type::BOOL, Type::FLOAT8],
        ),
        Version::Two => (
            format!(
                "{set} (key, value, etag, {expires}) \
                 VALUES ($1, $2, gen_random_uuid(), now() + $3 * interval '1 second') \
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value, {updated} = now(), etag = gen_random_uuid(), \
                 {expires} = excluded.{expires}"
            ),
            format!(
                "UPDATE {table} SET value = $2, {updated} = now(), etag = gen_random_uuid(), \
                 {expires} = now() + $3 * interval '1 second' WHERE key = $1 AND etag = $4::uuid"
            ),
            "etag = $2::uuid",
            vec![Type::TEXT, Type::BYTEA, Type::FLOAT8],
        ),
    };
    // What has expired is as good as absent.
    let insert = format!("{upsert} WHERE t.{expires} IS NOT NULL AND t.{expires} < CURRENT_TIMESTAMP");
    let update = format!("{update} AND ({expires} IS NULL OR {expires} >= CURRENT_TIMESTAMP)");
    let update_types = [types.as_slice(), &[Type::TEXT]].concat();
    [
        Sql::with(upsert, types.clone()),
        Sql::with(insert, types),
        Sql::with(update, update_types),
        Sql::new(format!("DELETE FROM {table} WHERE key = $1"), [Type::TEXT]),
        Sql::new(
            format!("DELETE FROM {table} WHERE key = $1 AND {tagged}"),
            [Type::TEXT, Type::TEXT],
        ),
    ]
}

/// Of a JSON text in base64.
fn binary(text: &str) -> Result<Bytes> {
    let text: String = serde_json::from_str(text)
        .map_err(|error| Error::internal(format!("failed to unmarshal JSON data: {error}")))?;
    BASE64
        .decode(text)
        .map(Bytes::from)
        .map_err(|error| Error::internal(format!("failed to decode base64 data: {error}")))
}
