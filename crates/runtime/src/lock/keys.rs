//! Under which name a lock store knows a resource, so that apps and stores can share a backend.
//!
//! COMPAT(pkg/components/lock/lock_config.go): as for state, with `lock||` before it and without the strategy
//! `namespace`, which is a text like any other here.

use crate::state::keys::{Illegal, SEPARATOR};
use outrigger_component::metadata::Metadata;

const LOCK: &str = "lock||";

/// What stands before the resources of one app in one store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(String);

impl Prefix {
    /// Reads `keyPrefix` (in any case): `appid` (the default), `name`, `none`, or a text.
    pub fn parse(metadata: &Metadata, store: &str, app_id: &str) -> Result<Self, Illegal> {
        let strategy = metadata
            .get_any_case("keyPrefix")
            .map_or_else(|| "appid".to_owned(), str::to_lowercase);
        if strategy.contains(SEPARATOR) {
            return Err(Illegal(strategy));
        }
        Ok(Self(match strategy.as_str() {
            "none" => LOCK.to_owned(),
            "appid" if app_id.is_empty() => LOCK.to_owned(),
            "appid" => format!("{LOCK}{app_id}{SEPARATOR}"),
            "name" => format!("{LOCK}{store}{SEPARATOR}"),
            text => format!("{LOCK}{text}{SEPARATOR}"),
        }))
    }

    pub fn apply(&self, resource: &str) -> Result<String, Illegal> {
        if resource.contains(SEPARATOR) {
            return Err(Illegal(resource.to_owned()));
        }
        Ok(format!("{}{resource}", self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::Prefix;
    use crate::state::keys::Illegal;
    use outrigger_component::metadata::Metadata;

    #[test]
    fn strategies() {
        for (strategy, app, expect) in [
            (None, "shop", "lock||shop||r"),
            (None, "", "lock||r"),
            (Some("AppID"), "shop", "lock||shop||r"),
            (Some("name"), "shop", "lock||store||r"),
            (Some("none"), "shop", "lock||r"),
            (Some("namespace"), "shop", "lock||namespace||r"),
            (Some("Mine"), "shop", "lock||mine||r"),
        ] {
            let metadata: Metadata = strategy.map(|text| ("KeyPrefix", text)).into_iter().collect();
            let prefix = Prefix::parse(&metadata, "store", app).unwrap();
            assert_eq!(prefix.apply("r").unwrap(), expect, "{strategy:?}");
        }
        let prefix = Prefix::parse(&Metadata::new(), "store", "shop").unwrap();
        assert_eq!(prefix.apply("a||b"), Err(Illegal("a||b".to_owned())));
        let metadata: Metadata = [("keyPrefix", "a||b")].into_iter().collect();
        assert_eq!(
            Prefix::parse(&metadata, "store", "shop"),
            Err(Illegal("a||b".to_owned()))
        );
    }
}
