//! Values that a document only points to: `secretKeyRef` and `envRef`. Pure: the caller fetches, this module decides.
//!
//! First [`secrets`] says which secrets to fetch, then [`resolve`] fills the items in.
//! Reference: `pkg/runtime/processor/secret`.

use crate::property::{Dynamic, Item};
use std::collections::{BTreeMap, BTreeSet};

/// Fetched secrets: named values by secret name.
pub type Secrets = BTreeMap<String, BTreeMap<String, String>>;

/// An item that keeps the value it had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    #[error("references an env variable that isn't allowed: {0}")]
    Environment(String),
    #[error("property {property}: secret {secret} has no value {key}")]
    Secret {
        property: String,
        secret: String,
        key: String,
    },
}

/// Names of the secrets that the items need from the store.
pub fn secrets(items: &[Item]) -> BTreeSet<&str> {
    items
        .iter()
        .filter(|item| !is_from_environment(item) && !item.secret_key_ref.name.is_empty())
        .map(|item| item.secret_key_ref.name.as_str())
        .collect()
}

/// Fills in what the items point to. `variable` reads the environment, `allowed` is the text of `DAPR_ENV_KEYS`
/// (empty when not set), `secrets` holds what could be fetched. Items whose secret was not fetched are left alone
/// without a warning: the caller knows why fetching failed.
pub fn resolve(
    items: &mut [Item],
    variable: impl Fn(&str) -> Option<String>,
    allowed: &str,
    secrets: &Secrets,
) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for item in items {
        if is_from_environment(item) {
            let name = std::mem::take(&mut item.env_ref);
            if is_env_allowed(&name, allowed) {
                item.value = variable(&name).filter(|text| !text.is_empty()).map(Dynamic::Raw);
            } else {
                warnings.push(Warning::Environment(name));
            }
            continue;
        }
        let reference = &item.secret_key_ref;
        let Some(secret) = secrets
            .get(&reference.name)
            .filter(|_| !reference.name.is_empty())
        else {
            continue;
        };
        let key = if reference.key.is_empty() {
            &reference.name
        } else {
            &reference.key
        };
        match secret.get(key) {
            Some(value) if !value.is_empty() => item.value = Some(Dynamic::Raw(value.clone())),
            _ => warnings.push(Warning::Secret {
                property: item.name.clone(),
                secret: reference.name.clone(),
                key: key.clone(),
            }),
        }
    }
    warnings
}

/// A written value wins over `envRef`, which wins over `secretKeyRef`.
fn is_from_environment(item: &Item) -> bool {
    item.value.is_none() && !item.env_ref.is_empty()
}

/// Whether `envRef` may read a variable. `allowed` is the text of `DAPR_ENV_KEYS`; empty allows all but the secrets of
/// the runtime itself. COMPAT(pkg/runtime/processor/secret): only the first place where the name occurs in the list
/// is looked at, and it must stand alone there.
pub fn is_env_allowed(name: &str, allowed: &str) -> bool {
    let name = name.to_uppercase();
    if name.is_empty() || name == "APP_API_TOKEN" || name.starts_with("DAPR_") || name.contains(' ') {
        return false;
    }
    if allowed.is_empty() {
        return true;
    }
    allowed.split_once(name.as_str()).is_some_and(|(before, after)| {
        (before.is_empty() || before.ends_with(' ')) && (after.is_empty() || after.starts_with(' '))
    })
}

#[cfg(test)]
mod tests;
