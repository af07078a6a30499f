//! What users write under `metadata` of a state store, beside how to reach the database.

use outrigger_component::options::{NONE, Opt, opt};
use serde::Deserialize;

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
    pub(super) cleanup_interval: String,
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
