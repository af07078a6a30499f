//! One `name: value` entry of a component, middleware or endpoint: the value in any of its three sources.

use crate::go::{float, quote};
use serde::Deserialize;
use serde::de::Deserializer;
use serde_json::Value;
use std::fmt;

/// An entry of `spec.metadata` (or `spec.headers`).
#[derive(Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Item {
    pub name: String,
    /// Absent when the document has none, or null.
    pub value: Option<Dynamic>,
    #[serde(rename = "secretKeyRef")]
    pub secret_key_ref: SecretKeyRef,
    /// Name of an environment variable; empty when absent.
    #[serde(rename = "envRef")]
    pub env_ref: String,
}

impl Item {
    /// The value as text; empty when there is none.
    pub fn text(&self) -> String {
        self.value.as_ref().map(Dynamic::text).unwrap_or_default()
    }
}

/// Shows names, never the value.
impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Item")
            .field("name", &self.name)
            .field("value", &self.value)
            .field("secret_key_ref", &self.secret_key_ref)
            .field("env_ref", &self.env_ref)
            .finish()
    }
}

/// Where in a secret store a value is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SecretKeyRef {
    /// Empty: there is no reference.
    pub name: String,
    /// Empty: the same as `name`.
    pub key: String,
}

/// A value of any form.
#[derive(Clone, PartialEq)]
pub enum Dynamic {
    /// As written in the document.
    Json(Value),
    /// As fetched from a secret store or the environment.
    Raw(String),
}

impl Dynamic {
    /// Text of a string, JSON of anything else.
    /// COMPAT(pkg/apis/common/namevalue.go): a fetched value that looks like a Go string literal is unquoted.
    pub fn text(&self) -> String {
        match self {
            Self::Json(Value::String(text)) => text.clone(),
            Self::Json(value) => {
                let mut out = String::new();
                write_json(&mut out, value);
                out
            }
            Self::Raw(text) => quote::unquote(text).unwrap_or_else(|| text.clone()),
        }
    }
}

impl fmt::Debug for Dynamic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<'de> Deserialize<'de> for Dynamic {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Value::deserialize(from).map(Self::Json)
    }
}

/// As Go's `encoding/json` writes a map: sorted keys, no blanks, `<`, `>` and `&` escaped.
fn write_json(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) if number.is_f64() => {
            out.push_str(&number.as_f64().and_then(float::json).unwrap_or_default());
        }
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::String(text) => write_string(out, text),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_json(out, item);
            }
            out.push(']');
        }
        Value::Object(entries) => {
            let mut sorted: Vec<_> = entries.iter().collect();
            sorted.sort_by_key(|(key, _)| *key);
            out.push('{');
            for (index, (key, item)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_string(out, key);
                out.push(':');
                write_json(out, item);
            }
            out.push('}');
        }
    }
}

fn write_string(out: &mut String, text: &str) {
    for c in Value::from(text).to_string().chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            _ => out.push(c),
        }
    }
}
