//! What stands before an app's keys in a state store, so that apps can share one.
//!
//! COMPAT(pkg/components/state/state_config.go): the strategy's name and a text of one's own are taken in lower case.

use crate::catalogue::state::illegal_key_text;
use outrigger_component::metadata::Metadata;

/// Between prefix and key; neither may contain it.
pub const SEPARATOR: &str = "||";

/// A key or `keyPrefix` that contains the separator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", illegal_key_text(.0))]
pub struct Illegal(pub String);

/// The prefix of one store for one app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix {
    /// Ends with the separator, or is empty.
    text: String,
}

impl Prefix {
    /// Reads `keyPrefix` (in any case) of a store's metadata: `appid` (the default), `name`, `namespace`, `none`, or a
    /// text. `namespace` is empty when the sidecar was given none; the strategy of that name then means `appid`.
    pub fn parse(metadata: &Metadata, store: &str, app_id: &str, namespace: &str) -> Result<Self, Illegal> {
        let strategy = metadata
            .get_any_case("keyPrefix")
            .map_or_else(|| "appid".to_owned(), str::to_lowercase);
        if strategy.contains(SEPARATOR) {
            return Err(Illegal(strategy));
        }
        Ok(match strategy.as_str() {
            "none" => Self::none(),
            "name" => Self::of(store),
            "appid" | "namespace" if app_id.is_empty() => Self::none(),
            "namespace" if !namespace.is_empty() => Self::of(&format!("{namespace}.{app_id}")),
            "appid" | "namespace" => Self::of(app_id),
            text => Self::of(text),
        })
    }

    /// The key under which the store keeps `key`.
    pub fn apply(&self, key: &str) -> Result<String, Illegal> {
        if key.contains(SEPARATOR) {
            return Err(Illegal(key.to_owned()));
        }
        let mut stored = String::with_capacity(self.text.len() + key.len());
        stored.push_str(&self.text);
        stored.push_str(key);
        Ok(stored)
    }

    /// Ends with the separator, or is empty.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn of(text: &str) -> Self {
        Self {
            text: format!("{text}{SEPARATOR}"),
        }
    }

    fn none() -> Self {
        Self { text: String::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::{Illegal, Prefix};
    use outrigger_component::metadata::Metadata;

    #[test]
    fn strategies() {
        for (metadata, namespace, expect) in [
            (None, "", "shop||k"),
            (None, "ns1", "shop||k"),
            (Some(("keyPrefix", "appid")), "ns1", "shop||k"),
            (Some(("KEYPREFIX", "NAME")), "ns1", "store||k"),
            (Some(("keyPrefix", "namespace")), "ns1", "ns1.shop||k"),
            (Some(("keyPrefix", "namespace")), "", "shop||k"),
            (Some(("keyPrefix", "none")), "ns1", "k"),
            (Some(("keyPrefix", "MyText")), "ns1", "mytext||k"),
            (Some(("keyPrefix", "")), "ns1", "||k"),
        ] {
            let metadata: Metadata = metadata.into_iter().collect();
            let prefix = Prefix::parse(&metadata, "store", "shop", namespace).unwrap();
            assert_eq!(prefix.apply("k").unwrap(), expect, "{metadata:?} {namespace}");
        }
    }

    #[test]
    fn the_separator_is_refused() {
        let metadata: Metadata = [("keyPrefix", "a||b")].into_iter().collect();
        assert_eq!(
            Prefix::parse(&metadata, "s", "a", ""),
            Err(Illegal("a||b".to_owned()))
        );
        let prefix = Prefix::parse(&Metadata::new(), "s", "a", "").unwrap();
        assert_eq!(
            prefix.apply("x||y").unwrap_err().to_string(),
            "input key/keyPrefix 'x||y' can't contain '||'"
        );
    }
}
