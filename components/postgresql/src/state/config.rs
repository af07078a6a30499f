//! What users write under `metadata` of a state store, beside how to reach the database.

use outrigger_component::error::{Error, Result};
use outrigger_component::metadata;
use outrigger_component::options::{NONE, Opt, opt};
use serde::Deserialize;
use serde::de::value::{Error as Fault, StrDeserializer};
use std::time::Duration;

const CLEANUP: Duration = Duration::from_secs(3600);

pub(crate) const COMMON: &[Opt] = &[
    opt(
        "metadataTableName",
        "`dapr_metadata`",
        "table for how far the tables are and when they were cleaned up, maybe with its schema (`public.dapr_metadata`)",
    ),
    opt(
        "cleanupInterval",
        "1h",
        "how often what has expired is deleted; of all sidecars on a database one does it; 0 and below: never",
    )
    .or(&["cleanupIntervalInSeconds"]),
];
pub(crate) const V1: &[Opt] = &[
    opt(
        "tableName",
        "`state`",
        "table of keys and values, maybe with its schema (`public.state`)",
    ),
    opt(
        "queryAPI",
        "true",
        "offers the query API, which reads all values of the app",
    ),
];
pub(crate) const V2: &[Opt] = &[
    opt(
        "tablePrefix",
        NONE,
        "what the name of the table `state` begins with, maybe a schema and a point",
    ),
    opt(
        "queryAPI",
        "false",
        "offers the query API, which reads all values of the app",
    ),
];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Config {
    pub(super) table_name: String,
    pub(super) table_prefix: String,
    pub(super) metadata_table_name: String,
    #[serde(alias = "cleanupIntervalInSeconds")]
    cleanup_interval: String,
    /// COMPAT: the reference offers it in version 1 only, and capabilities are compared.
    #[serde(rename = "queryAPI")]
    pub(super) query_api: Option<bool>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            table_name: "state".to_owned(),
            table_prefix: String::new(),
            metadata_table_name: "dapr_metadata".to_owned(),
            cleanup_interval: String::new(),
            query_api: None,
        }
    }
}

impl Config {
    /// `None`: never.
    pub(super) fn cleanup(&self) -> Result<Option<Duration>> {
        let text = self.cleanup_interval.trim();
        if text.is_empty() {
            return Ok(Some(CLEANUP));
        }
        if text.starts_with('-') {
            return Ok(None);
        }
        let interval = metadata::duration(StrDeserializer::<Fault>::new(text))
            .map_err(|error| Error::invalid(format!("metadata \"cleanupInterval\": {error}")))?;
        Ok(Some(interval).filter(|interval| !interval.is_zero()))
    }
}

#[cfg(test)]
mod tests {
    use super::Config;

    #[test]
    fn cleanup_intervals() {
        for (text, expected) in [
            ("", Some(3600)),
            ("0", None),
            ("-1", None),
            ("-5m", None),
            ("90", Some(90)),
            ("10m", Some(600)),
        ] {
            let config = Config {
                cleanup_interval: text.to_owned(),
                ..Config::default()
            };
            let seconds = config.cleanup().unwrap().map(|interval| interval.as_secs());
            assert_eq!(seconds, expected, "{text:?}");
        }
        let config = Config {
            cleanup_interval: "often".to_owned(),
            ..Config::default()
        };
        assert!(config.cleanup().unwrap_err().message.contains("cleanupInterval"));
    }
}
