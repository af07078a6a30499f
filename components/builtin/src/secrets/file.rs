//! `secretstores.local.file`: a JSON file, read once when the component is built.
//!
//! Nested objects and arrays become single secrets whose names are the path, joined by `nestedSeparator`. With
//! `multiValued`, each top-level object is one secret with several values instead.
//!
//! COMPAT(components-contrib secretstores/local/file): names, separator and the text of an unknown secret. Unlike
//! there, numbers and booleans are given as JSON writes them, and two values of the same name are an error.

#[cfg(test)]
mod tests;

use outrigger_component::Component;
use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::metadata::Metadata;
use outrigger_component::options::{Opt, REQUIRED, opt};
use outrigger_component::secret::{Features, Secret, SecretStore};
use outrigger_component::setup::Setup;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What can be written under its `metadata`.
pub(crate) const OPTIONS: &[Opt] = &[
    opt(
        "secretsFile",
        REQUIRED,
        "path, from the folder the sidecar was started in",
    ),
    opt(
        "nestedSeparator",
        ":",
        "joins the names of nested objects: `database:password`",
    ),
    opt(
        "multiValued",
        "false",
        "each object at the top level is one secret with several values",
    ),
];

#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    #[serde(default)]
    pub secrets_file: String,
    /// `:` unless given.
    #[serde(default)]
    pub nested_separator: String,
    #[serde(default)]
    pub multi_valued: bool,
}

pub struct Store {
    secrets: BTreeMap<String, Secret>,
    multi_valued: bool,
}

impl Store {
    /// Reads the file.
    ///
    /// # Errors
    /// `Invalid` if it is not named, cannot be read, is not a JSON object, or has two values of the same name.
    pub async fn build(setup: Setup<Config>) -> Result<Self> {
        let Config {
            secrets_file: path,
            nested_separator,
            multi_valued,
        } = setup.config;
        if path.is_empty() {
            return Err(Error::invalid("missing local secrets file in metadata"));
        }
        let bytes = tokio::fs::read(&path).await.map_err(|error| {
            Error::caused(Kind::Invalid, &format!("cannot read secretsFile {path:?}"), error)
        })?;
        // The parser's own words may quote the file: only the place is told.
        let document: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|error| {
            Error::invalid(format!(
                "secretsFile {path:?} is not a JSON object (line {}, column {})",
                error.line(),
                error.column()
            ))
        })?;
        let separator = if nested_separator.is_empty() {
            ":"
        } else {
            &nested_separator
        };
        let secrets = if multi_valued {
            grouped(document, separator)?
        } else {
            let flat = flatten(document, separator)?;
            flat.into_iter()
                .map(|(name, value)| (name.clone(), Secret(BTreeMap::from([(name, value)]))))
                .collect()
        };
        Ok(Self {
            secrets,
            multi_valued,
        })
    }
}

impl Component for Store {}

#[async_trait::async_trait]
impl SecretStore for Store {
    fn features(&self) -> Features {
        Features {
            multiple_key_values_per_secret: self.multi_valued,
        }
    }

    async fn get(&self, name: &str, _metadata: &Metadata) -> Result<Secret> {
        self.secrets
            .get(name)
            .cloned()
            .ok_or_else(|| Error::new(Kind::NotFound, format!("secret {name} not found")))
    }

    async fn all(&self, _metadata: &Metadata) -> Result<BTreeMap<String, Secret>> {
        Ok(self.secrets.clone())
    }
}

/// COMPAT(components-contrib secretstores/local/file): at the top level, only texts and objects are secrets.
fn grouped(document: Map<String, Value>, separator: &str) -> Result<BTreeMap<String, Secret>> {
    let mut secrets = BTreeMap::new();
    for (name, value) in document {
        let values = match value {
            Value::String(text) => BTreeMap::from([(name.clone(), text)]),
            Value::Object(object) => flatten(object, separator)?,
            _ => continue,
        };
        secrets.insert(name, Secret(values));
    }
    Ok(secrets)
}

fn flatten(document: Map<String, Value>, separator: &str) -> Result<BTreeMap<String, String>> {
    let mut flat = BTreeMap::new();
    for (name, value) in document {
        put(&mut flat, name, value, separator)?;
    }
    Ok(flat)
}

fn put(flat: &mut BTreeMap<String, String>, path: String, value: Value, separator: &str) -> Result<()> {
    let text = match value {
        Value::Object(object) => {
            for (name, value) in object {
                put(flat, format!("{path}{separator}{name}"), value, separator)?;
            }
            return Ok(());
        }
        Value::Array(array) => {
            for (index, value) in array.into_iter().enumerate() {
                put(flat, format!("{path}{separator}{index}"), value, separator)?;
            }
            return Ok(());
        }
        Value::String(text) => text,
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    };
    if flat.insert(path.clone(), text).is_some() {
        return Err(Error::invalid(format!(
            "secretsFile holds secret {path:?} twice: nested names are joined by {separator:?}, choose another nestedSeparator"
        )));
    }
    Ok(())
}
