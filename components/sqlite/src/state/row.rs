//! One row of the state table, and what its columns mean.
//!
//! COMPAT(components-contrib state/sqlite/sqlite_dbaccess.go): JSON is kept as text; what is no JSON, or was not said to be,
//! in base64 with `is_binary`. A time is UTC text, with a space between date and time.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use outrigger_component::error::{Error, Result};
use outrigger_component::metadata::Metadata;
use outrigger_component::state::Item;
use rusqlite::types::ValueRef;
use std::borrow::Cow;

pub(super) const COLUMNS: &str = "key, value, is_binary, etag, expiration_time";
pub(super) const IS_ALIVE: &str =
    "(expiration_time IS NULL OR expiration_time > STRFTIME('%Y-%m-%d %H:%M:%f', 'now'))";

#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) key: String,
    value: Vec<u8>,
    is_binary: bool,
    etag: String,
    expires: Option<String>,
}

impl Row {
    /// A row of [`COLUMNS`].
    pub(super) fn of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        let value = match row.get_ref(1)? {
            ValueRef::Text(value) | ValueRef::Blob(value) => value.to_vec(),
            // A column of type TEXT holds nothing else, unless somebody forced it.
            ValueRef::Integer(number) => number.to_string().into_bytes(),
            ValueRef::Real(number) => number.to_string().into_bytes(),
            ValueRef::Null => Vec::new(),
        };
        Ok(Self {
            key: row.get(0)?,
            value,
            is_binary: row.get(2)?,
            etag: row.get(3)?,
            expires: row.get(4)?,
        })
    }

    pub(super) fn item(self) -> Result<Item> {
        let value = if self.is_binary {
            BASE64
                .decode(&self.value)
                .map_err(|error| Error::internal(format!("failed to decode binary data: {error}")))?
        } else {
            self.value
        };
        let mut metadata = Metadata::new();
        if let Some(expires) = &self.expires {
            let time = time(expires).ok_or_else(|| {
                Error::internal(format!(
                    "the row of key {} has an expiration time that is none: {expires:?}",
                    self.key
                ))
            })?;
            metadata.insert("ttlExpireTime", format!("{time:.0}"));
        }
        Ok(Item {
            value: Bytes::from(value),
            etag: Some(self.etag),
            content_type: None,
            metadata,
        })
    }
}

/// How a value is written: its text, and whether that is base64.
pub(super) fn encode(value: &[u8], is_json: bool) -> (Cow<'_, str>, bool) {
    match std::str::from_utf8(value) {
        Ok(text) if is_json => (Cow::Borrowed(text), false),
        _ => (Cow::Owned(BASE64.encode(value)), true),
    }
}

/// To the second below, as the reference shows it.
fn time(text: &str) -> Option<Timestamp> {
    let civil: DateTime = text.replacen(' ', "T", 1).trim_end_matches('Z').parse().ok()?;
    let zoned = civil.to_zoned(TimeZone::UTC).ok()?;
    Timestamp::from_second(zoned.timestamp().as_second()).ok()
}

#[cfg(test)]
mod tests {
    use super::{encode, time};

    #[test]
    fn times() {
        for (text, expected) in [
            ("2030-01-02 03:04:05", Some("2030-01-02T03:04:05Z")),
            ("2030-01-02 03:04:05.678", Some("2030-01-02T03:04:05Z")),
            ("2030-01-02T03:04:05Z", Some("2030-01-02T03:04:05Z")),
            ("soon", None),
        ] {
            let seen = time(text).map(|time| format!("{time:.0}"));
            assert_eq!(seen.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn values() {
        for (value, is_json, text, is_binary) in [
            (&b"{\"a\":1}"[..], true, "{\"a\":1}", false),
            (b"{\"a\":1}", false, "eyJhIjoxfQ==", true),
            (b"\xff", true, "/w==", true),
            (b"", false, "", true),
        ] {
            assert_eq!(encode(value, is_json), (text.into(), is_binary), "{value:?}");
        }
    }
}
