//! What both components are told: where the file is, and how to open it.
//!
//! COMPAT(components-contrib common/authentication/sqlite/metadata.go, state/sqlite/sqlite_metadata.go): names, defaults,
//! texts; the reference's connection strings, its driver's `_pragma` and `_txlock` included.

use crate::database::{Journal, Location};
use outrigger_component::error::{Error, Result};
use outrigger_component::metadata;
use outrigger_component::options::{Opt, REQUIRED, opt};
use outrigger_component::query::decoded;
use outrigger_daemon::log::Log;
use serde::Deserialize;
use std::time::Duration;

/// Parameters that SQLite itself understands in a `file:` URI.
const NATIVE: [&str; 7] = ["mode", "cache", "vfs", "immutable", "psow", "nolock", "modeof"];
/// Options that have metadata of their own.
const FORBIDDEN: [(&str, &str); 3] = [
    ("busy_timeout", "use the metadata busyTimeout"),
    ("journal_mode", "use the metadata disableWAL"),
    ("foreign_keys", "it cannot be set"),
];

/// What can be written for both.
pub(crate) const FILE: &[Opt] = &[
    opt(
        "connectionString",
        REQUIRED,
        "a path, a `file:` URI, or `:memory:` (this component's own)",
    )
    .or(&["url"]),
    opt(
        "disableWAL",
        "false",
        "no write-ahead log; needed on network file systems",
    ),
];

/// What can be written for `state.sqlite`.
pub(crate) const STATE: &[Opt] = &[
    opt("timeout", "20s", "of one request, at least 1s").or(&["timeoutInSeconds"]),
    opt(
        "busyTimeout",
        "2s",
        "how long another process that writes is waited for",
    ),
    opt("tableName", "state", "letters, digits and `_`"),
    opt("metadataTableName", "metadata", "letters, digits and `_`"),
    opt(
        "cleanupInterval",
        "never",
        "how often expired values are deleted; before, they are only not shown",
    )
    .or(&["cleanupIntervalInSeconds"]),
    opt("queryApi", "false", "offers [queries](../state.md#queries)"),
];

/// What can be written for `nameresolution.sqlite`.
pub(crate) const NAMES: &[Opt] = &[
    opt("timeout", "1s", "of one request, at least 1s").or(&["timeoutInSeconds"]),
    opt(
        "busyTimeout",
        "800ms",
        "how long another process that writes is waited for",
    ),
    opt("tableName", "hosts", "letters, digits and `_`"),
    opt("metadataTableName", "metadata", "letters, digits and `_`"),
    opt(
        "updateInterval",
        "5s",
        "an announcement that was not renewed for so long counts no more; whole seconds, at least 1s more than `timeout`",
    ),
    opt(
        "cleanupInterval",
        "1h",
        "how often such announcements are deleted",
    )
    .or(&["cleanupIntervalInSeconds"]),
];

/// Metadata of `state.sqlite`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Config {
    #[serde(alias = "url")]
    pub(crate) connection_string: String,
    #[serde(alias = "timeoutInSeconds", deserialize_with = "metadata::duration")]
    pub(crate) timeout: Duration,
    #[serde(deserialize_with = "metadata::duration")]
    pub(crate) busy_timeout: Duration,
    #[serde(rename = "disableWAL")]
    pub(crate) disable_wal: bool,
    pub(crate) table_name: String,
    pub(crate) metadata_table_name: String,
    /// How often what has expired is deleted; zero: never, it is only not shown.
    #[serde(alias = "cleanupIntervalInSeconds", deserialize_with = "metadata::duration")]
    pub(crate) cleanup_interval: Duration,
    /// Whether the query API is offered. COMPAT: the reference's component has none, and its capabilities are compared.
    pub(crate) query_api: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connection_string: String::new(),
            timeout: Duration::from_secs(20),
            busy_timeout: Duration::from_secs(2),
            disable_wal: false,
            table_name: "state".to_owned(),
            metadata_table_name: "metadata".to_owned(),
            cleanup_interval: Duration::ZERO,
            query_api: false,
        }
    }
}

/// Metadata of `nameresolution.sqlite`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Names {
    #[serde(alias = "url")]
    pub(crate) connection_string: String,
    #[serde(alias = "timeoutInSeconds", deserialize_with = "metadata::duration")]
    pub(crate) timeout: Duration,
    #[serde(deserialize_with = "metadata::duration")]
    pub(crate) busy_timeout: Duration,
    #[serde(rename = "disableWAL")]
    pub(crate) disable_wal: bool,
    pub(crate) table_name: String,
    pub(crate) metadata_table_name: String,
    /// An announcement that was not renewed for this long counts no more. Whole seconds.
    #[serde(deserialize_with = "metadata::duration")]
    pub(crate) update_interval: Duration,
    #[serde(alias = "cleanupIntervalInSeconds", deserialize_with = "metadata::duration")]
    pub(crate) cleanup_interval: Duration,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            connection_string: String::new(),
            timeout: Duration::from_secs(1),
            busy_timeout: Duration::from_millis(800),
            disable_wal: false,
            table_name: "hosts".to_owned(),
            metadata_table_name: "metadata".to_owned(),
            update_interval: Duration::from_secs(5),
            cleanup_interval: Duration::from_secs(3600),
        }
    }
}

impl Config {
    /// # Errors
    /// `Invalid`: what is wrong.
    pub(crate) fn check(&self) -> Result<()> {
        check_connection(&self.connection_string, self.timeout)?;
        for name in [&self.table_name, &self.metadata_table_name] {
            if !is_identifier(name) {
                return Err(Error::invalid(format!("invalid identifier: {name}")));
            }
        }
        Ok(())
    }

    pub(crate) fn location(&self, log: &Log) -> Result<Location> {
        location(&self.connection_string, self.busy_timeout, self.disable_wal, log)
    }
}

impl Names {
    /// # Errors
    /// `Invalid`: what is wrong.
    pub(crate) fn check(&self) -> Result<()> {
        check_connection(&self.connection_string, self.timeout)?;
        for (what, name) in [
            ("table name", &self.table_name),
            ("metadata table name", &self.metadata_table_name),
        ] {
            if !is_identifier(name) {
                return Err(Error::invalid(format!("invalid identifier for {what}: {name}")));
            }
        }
        if self.update_interval.subsec_nanos() > 0 {
            return Err(Error::invalid(
                "update interval must not contain fractions of seconds",
            ));
        }
        if self.update_interval < self.timeout + Duration::from_secs(1) {
            return Err(Error::invalid(
                "update interval must be at least 1s greater than timeout",
            ));
        }
        Ok(())
    }

    pub(crate) fn location(&self, log: &Log) -> Result<Location> {
        location(&self.connection_string, self.busy_timeout, self.disable_wal, log)
    }
}

fn check_connection(connection: &str, timeout: Duration) -> Result<()> {
    if connection.is_empty() {
        return Err(Error::invalid("missing connection string"));
    }
    if timeout < Duration::from_secs(1) {
        return Err(Error::invalid(
            "invalid value for 'timeout': must be greater than 1s",
        ));
    }
    Ok(())
}

/// Names that go into statements as they are.
fn is_identifier(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Unlike in the reference, `:memory:` is each component's own: nothing is shared within a process.
fn location(connection: &str, busy_timeout: Duration, disable_wal: bool, log: &Log) -> Result<Location> {
    let (path, query) = connection.split_once('?').unwrap_or((connection, ""));
    let lower = path.to_ascii_lowercase();
    let memory = lower.starts_with(":memory:") || lower.starts_with("file::memory:");
    let mut native = Vec::new();
    let mut pragmas = Vec::new();
    let mut read_only = false;
    let mut private = memory;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match name {
            "_pragma" => pragmas.push(pragma(value)?),
            "_txlock" => {
                if !value.eq_ignore_ascii_case("immediate") {
                    log.warn(
                        "_txlock of the connection string has no effect: writes always begin with the lock",
                    );
                }
            }
            "cache" if memory => {}
            name if NATIVE.contains(&name) => {
                read_only |= matches!((name, value), ("mode", "ro") | ("immutable", "1"));
                private |= (name, value) == ("mode", "memory");
                native.push(pair);
            }
            other => log.warn(format_args!(
                "unknown parameter {other:?} of the connection string has no effect"
            )),
        }
    }
    let mut uri = if memory {
        "file::memory:".to_owned()
    } else if lower.starts_with("file:") {
        path.to_owned()
    } else {
        format!("file:{path}")
    };
    if !native.is_empty() {
        uri.push('?');
        uri.push_str(&native.join("&"));
    }
    Ok(Location {
        uri,
        memory: private,
        journal: if private {
            Journal::Memory
        } else if disable_wal || read_only {
            Journal::Delete
        } else {
            Journal::Wal
        },
        busy_timeout,
        pragmas,
    })
}

/// `name(value)` or `name=value`, percent-decoded, as SQL.
fn pragma(text: &str) -> Result<String> {
    let text = decoded(text).ok_or_else(|| {
        Error::invalid(format!(
            "_pragma={text} of the connection string cannot be decoded"
        ))
    })?;
    let lower = text.to_ascii_lowercase();
    for (name, instead) in FORBIDDEN {
        if lower.starts_with(name) {
            return Err(Error::invalid(format!(
                "found forbidden option '_pragma={name}' in the connection string: {instead}"
            )));
        }
    }
    let (name, value) = match text.split_once(['(', '=']) {
        Some((name, value)) => (name, value.strip_suffix(')').unwrap_or(value)),
        None => (text.as_str(), ""),
    };
    let value_fits = value
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'+' | b'.'));
    if !is_identifier(name.trim()) || !value_fits {
        return Err(Error::invalid(format!(
            "_pragma={text} of the connection string is not of the form name(value)"
        )));
    }
    Ok(match value {
        "" => format!("PRAGMA {name}"),
        value => format!("PRAGMA {name} = {value}"),
    })
}

#[cfg(test)]
mod tests;
