//! Parameters of statements: JSON, as the text that the server reads for the type it wants in that place.

use bytes::{BufMut as _, BytesMut};
use outrigger_component::error::{Error, Result};
use serde_json::Value;
use std::error::Error as StdError;
use tokio_postgres::types::{Format, IsNull, Kind, ToSql, Type, to_sql_checked};

#[derive(Debug)]
pub(super) struct Parameter(Value);

/// # Errors
/// `Invalid`: no array.
pub(super) fn read(text: &str) -> Result<Vec<Parameter>> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let values: Option<Vec<Value>> = serde_json::from_str(text).map_err(|error| {
        Error::invalid(format!(
            "invalid metadata property params: failed to unserialize into an array: {error}"
        ))
    })?;
    Ok(values.unwrap_or_default().into_iter().map(Parameter).collect())
}

impl ToSql for Parameter {
    fn to_sql(&self, of: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match text(&self.0, of) {
            None => Ok(IsNull::Yes),
            Some(text) => {
                out.put_slice(text.as_bytes());
                Ok(IsNull::No)
            }
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

/// `None` is NULL.
fn text(value: &Value, of: &Type) -> Option<String> {
    let is_json = *of == Type::JSON || *of == Type::JSONB;
    match value {
        Value::Null => None,
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(number) => Some(match (number.as_f64(), of) {
            // As JavaScript may write it.
            (Some(float), &(Type::INT2 | Type::INT4 | Type::INT8))
                if number.is_f64() && float.fract() == 0.0 =>
            {
                format!("{float:.0}")
            }
            _ => number.to_string(),
        }),
        Value::String(text) => Some(text.clone()),
        Value::Array(items) if !is_json => Some(array(items, of)),
        Value::Array(_) | Value::Object(_) => Some(value.to_string()),
    }
}

/// As PostgreSQL writes arrays: `{"a",NULL,{…}}`.
fn array(items: &[Value], of: &Type) -> String {
    let of_items = match of.kind() {
        Kind::Array(of_items) => of_items,
        _ => &Type::TEXT,
    };
    let items: Vec<String> = items
        .iter()
        .map(|item| match item {
            Value::Array(items) if *of_items != Type::JSON && *of_items != Type::JSONB => array(items, of),
            item => match text(item, of_items) {
                None => "NULL".to_owned(),
                Some(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
            },
        })
        .collect();
    format!("{{{}}}", items.join(","))
}

#[cfg(test)]
mod tests {
    use super::{read, text};
    use tokio_postgres::types::Type;

    #[test]
    fn texts() {
        for (json, of, expected) in [
            ("null", Type::INT4, None),
            ("true", Type::BOOL, Some("true")),
            ("1.0", Type::INT8, Some("1")),
            ("1.5", Type::FLOAT8, Some("1.5")),
            (
                "12345678901234567890",
                Type::NUMERIC,
                Some("12345678901234567890"),
            ),
            ("\"a\"", Type::TEXT, Some("a")),
            ("{\"a\":1}", Type::JSONB, Some("{\"a\":1}")),
            ("[1,2]", Type::JSON, Some("[1,2]")),
            ("[1,null]", Type::INT4_ARRAY, Some("{\"1\",NULL}")),
            (
                "[\"a\\\"b\",\"c\\\\d\"]",
                Type::TEXT_ARRAY,
                Some("{\"a\\\"b\",\"c\\\\d\"}"),
            ),
            ("[[1],[2]]", Type::INT4_ARRAY, Some("{{\"1\"},{\"2\"}}")),
        ] {
            let value = serde_json::from_str(json).unwrap();
            assert_eq!(text(&value, &of).as_deref(), expected, "{json} as {of}");
        }
    }

    #[test]
    fn arrays_only() {
        assert!(read("").unwrap().is_empty());
        assert!(read("null").unwrap().is_empty());
        assert_eq!(read("[1,\"a\"]").unwrap().len(), 2);
        let error = read("{}").unwrap_err();
        assert!(
            error
                .message
                .starts_with("invalid metadata property params: failed to unserialize into an array: ")
        );
    }
}
