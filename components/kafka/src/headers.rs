//! Between metadata and the headers of records.
//!
//! COMPAT(components-contrib common/component/kafka/{producer,consumer}.go): all metadata of a message travels as headers,
//! the names that choose the partition included; headers come as metadata, with the record's own data beside them.

use crate::failure::Failure;
use crate::producer::partition::Place;
use crate::values::{Format, VALUE_SCHEMA_TYPE};
use crate::wire::batch::{Found, Record};
use bytes::Bytes;
use outrigger_component::metadata::Metadata;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use regex::Regex;

const PARTITION_KEY: &str = "partitionKey";
const PARTITION_NUMBER: &str = "partitionNumber";
const KEY: &str = "__key";
/// What Go's `url.QueryEscape` leaves as it is.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b' ');

#[derive(Debug)]
pub(crate) struct Headers {
    /// Escapes what comes, for those who put it into HTTP headers.
    pub escape: bool,
    /// Names that travel in neither direction.
    pub exclude: Option<Regex>,
}

impl Headers {
    /// A record, where it is to go, and what its value is to be.
    ///
    /// # Errors
    /// When metadata is wrong.
    pub(crate) fn record<'a>(
        &self,
        data: Bytes,
        metadata: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<(Place, Record, Format), Failure> {
        let mut place = Place::Any;
        let mut format = Format::default();
        let mut record = Record {
            // What is `null` in JSON is a tombstone, which deletes a key of a compacted topic.
            value: (&data[..] != b"null").then_some(data),
            ..Record::default()
        };
        for (name, value) in metadata {
            match name {
                PARTITION_KEY | KEY => {
                    record.key = Some(Bytes::copy_from_slice(value.as_bytes()));
                    if place == Place::Any {
                        place = Place::Key;
                    }
                }
                PARTITION_NUMBER => place = Place::Number(number(value)?),
                _ if name.eq_ignore_ascii_case(VALUE_SCHEMA_TYPE) => format = Format::named(value)?,
                _ => {}
            }
            if !self.excludes(name) {
                record.headers.push((
                    Bytes::copy_from_slice(name.as_bytes()),
                    Bytes::copy_from_slice(value.as_bytes()),
                ));
            }
        }
        Ok((place, record, format))
    }

    pub(crate) fn metadata(&self, topic: &str, partition: i32, found: &Found) -> Metadata {
        let mut metadata = Metadata::new();
        if let Some(key) = &found.record.key {
            metadata.insert(KEY, self.text(key));
        }
        metadata.insert("__offset", found.offset.to_string());
        metadata.insert("__topic", topic);
        metadata.insert("__timestamp", found.time.to_string());
        metadata.insert("__partition", partition.to_string());
        for (name, value) in &found.record.headers {
            let name = String::from_utf8_lossy(name);
            if !self.excludes(&name) {
                metadata.insert(name, self.text(value));
            }
        }
        metadata
    }

    /// The value as the app gets it.
    pub(crate) fn data(found: &Found) -> Bytes {
        found.record.value.clone().unwrap_or(Bytes::from_static(b"null"))
    }

    fn excludes(&self, name: &str) -> bool {
        self.exclude
            .as_ref()
            .is_some_and(|exclude| exclude.is_match(name))
    }

    fn text(&self, bytes: &[u8]) -> String {
        if self.escape {
            percent_encode(bytes, ESCAPED).to_string().replace(' ', "+")
        } else {
            String::from_utf8_lossy(bytes).into_owned()
        }
    }
}

fn number(value: &str) -> Result<i32, Failure> {
    let number: i32 = value.parse().map_err(|error| {
        Failure::Invalid(format!(
            "invalid partitionNumber metadata value {value:?}: {error}"
        ))
    })?;
    if number < 0 {
        return Err(Failure::Invalid(format!(
            "partitionNumber must be non-negative, got {number}"
        )));
    }
    Ok(number)
}

#[cfg(test)]
mod tests;
