//! Rows as JSON: objects of columns by name.
//!
//! COMPAT(components-contrib bindings/mysql): no rows are `null`; a column that is NULL is left out; decimals and times of day
//! are texts, dates and times are in UTC, bytes are base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use mysql_async::consts::ColumnType;
use mysql_async::{Column, Row, Value};
use outrigger_component::error::{Error, Result};
use serde_json::{Map, Number, Value as Json};

/// The character set of what is no text.
const BINARY: u16 = 63;

/// # Errors
/// `Invalid`: no array.
pub(super) fn parameters(text: &str) -> Result<Vec<Value>> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let values: Option<Vec<Json>> = serde_json::from_str(text).map_err(|error| {
        Error::invalid(format!(
            "invalid metadata property params: failed to unserialize into an array: {error}"
        ))
    })?;
    Ok(values.unwrap_or_default().into_iter().map(parameter).collect())
}

fn parameter(value: Json) -> Value {
    match value {
        Json::Null => Value::NULL,
        Json::Bool(value) => Value::from(value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::from(number),
            (None, Some(number)) => Value::from(number),
            (None, None) => number.as_f64().map_or(Value::NULL, Value::from),
        },
        Json::String(text) => Value::from(text),
        // For JSON columns.
        other => Value::from(other.to_string()),
    }
}

pub(super) fn show(rows: Vec<Row>) -> Result<Bytes> {
    if rows.is_empty() {
        return Ok(Bytes::from_static(b"null"));
    }
    let shown: Result<Vec<Json>> = rows.into_iter().map(object).collect();
    serde_json::to_vec(&shown?)
        .map(Bytes::from)
        .map_err(|error| Error::internal(format!("error marshalling query result for query: {error}")))
}

fn object(row: Row) -> Result<Json> {
    let columns = row.columns();
    let mut members = Map::new();
    for (column, value) in columns.iter().zip(row.unwrap_raw()) {
        let name = column.name_str();
        let shown = cell(column, value.unwrap_or(Value::NULL)).ok_or_else(|| {
            Error::internal(format!(
                "error marshalling query result for query: column {name:?} has no form in JSON"
            ))
        })?;
        if !shown.is_null() {
            members.insert(name.into_owned(), shown);
        }
    }
    Ok(Json::Object(members))
}

fn cell(column: &Column, value: Value) -> Option<Json> {
    Some(match value {
        Value::NULL => Json::Null,
        Value::Int(number) => number.into(),
        Value::UInt(number) => number.into(),
        Value::Float(number) => number.to_string().parse::<Number>().ok()?.into(),
        Value::Double(number) => Number::from_f64(number)?.into(),
        Value::Date(year, month, day, hour, minute, second, micros) => {
            let fraction = format!(".{micros:06}");
            let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
            format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z").into()
        }
        Value::Time(is_negative, days, hours, minutes, seconds, micros) => {
            let sign = if is_negative { "-" } else { "" };
            let hours = u64::from(days) * 24 + u64::from(hours);
            let fraction = if micros == 0 {
                String::new()
            } else {
                format!(".{micros:06}")
            };
            format!("{sign}{hours:02}:{minutes:02}:{seconds:02}{fraction}").into()
        }
        Value::Bytes(bytes) => of_bytes(column, bytes)?,
    })
}

/// Numbers and times are texts in the answer to a statement without parameters.
fn of_bytes(column: &Column, bytes: Vec<u8>) -> Option<Json> {
    use ColumnType::{
        MYSQL_TYPE_BIT, MYSQL_TYPE_DATE, MYSQL_TYPE_DATETIME, MYSQL_TYPE_DECIMAL, MYSQL_TYPE_DOUBLE,
        MYSQL_TYPE_FLOAT, MYSQL_TYPE_GEOMETRY, MYSQL_TYPE_INT24, MYSQL_TYPE_JSON, MYSQL_TYPE_LONG,
        MYSQL_TYPE_LONGLONG, MYSQL_TYPE_NEWDATE, MYSQL_TYPE_NEWDECIMAL, MYSQL_TYPE_SHORT, MYSQL_TYPE_TIME,
        MYSQL_TYPE_TIMESTAMP, MYSQL_TYPE_TINY, MYSQL_TYPE_YEAR,
    };
    let kind = column.column_type();
    let is_text = matches!(
        kind,
        MYSQL_TYPE_DECIMAL | MYSQL_TYPE_NEWDECIMAL | MYSQL_TYPE_TIME | MYSQL_TYPE_JSON
    ) || column.character_set() != BINARY;
    match kind {
        MYSQL_TYPE_TINY | MYSQL_TYPE_SHORT | MYSQL_TYPE_LONG | MYSQL_TYPE_INT24 | MYSQL_TYPE_LONGLONG
        | MYSQL_TYPE_YEAR | MYSQL_TYPE_FLOAT | MYSQL_TYPE_DOUBLE => {
            let text = String::from_utf8(bytes).ok()?;
            // A year or a padded number may begin with zeros.
            let number = text.parse::<i64>().map(Number::from).ok();
            let number = number.or_else(|| text.parse::<u64>().map(Number::from).ok());
            number
                .or_else(|| Number::from_f64(text.parse().ok()?))
                .map(Json::Number)
        }
        MYSQL_TYPE_DATE | MYSQL_TYPE_NEWDATE => {
            let text = String::from_utf8(bytes).ok()?;
            Some(format!("{text}T00:00:00Z").into())
        }
        MYSQL_TYPE_DATETIME | MYSQL_TYPE_TIMESTAMP => {
            let text = String::from_utf8(bytes).ok()?.replacen(' ', "T", 1);
            let text = if text.contains('.') {
                text.trim_end_matches('0').trim_end_matches('.')
            } else {
                &text
            };
            Some(format!("{text}Z").into())
        }
        MYSQL_TYPE_BIT | MYSQL_TYPE_GEOMETRY => Some(BASE64.encode(bytes).into()),
        _ if is_text => match String::from_utf8(bytes) {
            Ok(text) => Some(text.into()),
            Err(error) => Some(BASE64.encode(error.as_bytes()).into()),
        },
        _ => Some(BASE64.encode(bytes).into()),
    }
}
