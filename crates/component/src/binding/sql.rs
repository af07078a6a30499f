//! Bindings that run statements of SQL: what all of them are asked and answer, whatever the database.
//!
//! COMPAT(components-contrib bindings/{mysql,postgres}): names of operations and metadata, texts.

use super::{Invoke, Output};
use crate::error::{Error, Result};
use crate::metadata::Metadata;
use bytes::Bytes;
use jiff::Timestamp;
use outrigger_resources::go;
use std::time::Instant;

pub const OPERATIONS: &[&str] = &["exec", "query", "close"];

/// What is to be run, from now on.
pub struct Statement<'a> {
    pub sql: &'a str,
    /// JSON; empty if there are none.
    pub parameters: &'a str,
    operation: &'a str,
    began: Timestamp,
    clock: Instant,
}

/// What a statement is run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    /// The number of rows it touches.
    Change,
    /// Its rows.
    Rows,
}

impl<'a> Statement<'a> {
    /// # Errors
    /// `Invalid`: there is none.
    pub fn of(invoke: &'a Invoke) -> Result<Self> {
        let sql = invoke.metadata.get("sql").filter(|text| !text.is_empty());
        Ok(Self {
            sql: sql.ok_or_else(|| Error::invalid("required metadata not set: sql"))?,
            parameters: invoke.metadata.get("params").unwrap_or_default(),
            operation: &invoke.operation,
            began: Timestamp::now(),
            clock: Instant::now(),
        })
    }

    /// # Errors
    /// `Invalid` for an operation that there is not.
    pub fn aim(&self) -> Result<Aim> {
        match self.operation {
            "exec" => Ok(Aim::Change),
            "query" => Ok(Aim::Rows),
            other => Err(Error::invalid(format!(
                "invalid operation type: {other}. Expected exec, query, or close"
            ))),
        }
    }

    /// It touched so many rows.
    pub fn changed(self, rows: u64) -> Output {
        let mut output = self.found(Bytes::new());
        output.metadata.insert("rows-affected", rows.to_string());
        output
    }

    /// It answered with these rows, in JSON.
    pub fn found(self, rows: Bytes) -> Output {
        let mut metadata = Metadata::from_iter([("operation", self.operation), ("sql", self.sql)]);
        metadata.insert("start-time", self.began.to_string());
        metadata.insert("end-time", Timestamp::now().to_string());
        metadata.insert("duration", go::format_duration(self.clock.elapsed()));
        Output { data: rows, metadata }
    }
}
