//! The query of a request.
//!
//! COMPAT(net/url ParseQuery): pairs that cannot be decoded, or that hold a semicolon, are left out; of repeated names
//! the first counts.

use crate::path::decode_parameter;
use outrigger_component::metadata::Metadata;
use std::borrow::Cow;

const METADATA: &str = "metadata.";

/// All readable pairs, in order.
fn pairs(query: Option<&str>) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.contains(';'))
        .filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode_parameter(name).ok()?, decode_parameter(value).ok()?))
        })
}

/// The first value of `name`.
pub(crate) fn value<'q>(query: Option<&'q str>, name: &str) -> Option<Cow<'q, str>> {
    pairs(query).find_map(|(key, value)| (key == name).then_some(value))
}

/// Every value of `name`, in order.
pub(crate) fn values(query: Option<&str>, name: &str) -> Vec<String> {
    pairs(query)
        .filter(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
        .collect()
}

/// What was given as `metadata.<name>=<value>`.
pub(crate) fn metadata(query: Option<&str>) -> Metadata {
    let mut metadata = Metadata::new();
    for (name, value) in pairs(query) {
        if let Some(name) = name.strip_prefix(METADATA)
            && metadata.get(name).is_none()
        {
            metadata.insert(name, value);
        }
    }
    metadata
}

#[cfg(test)]
mod tests {
    use super::{metadata, value, values};

    #[test]
    fn first_readable_pair_counts() {
        for (query, name, expected) in [
            (None, "a", None),
            (Some(""), "", None),
            (Some("a=1&a=2"), "a", Some("1")),
            (Some("a"), "a", Some("")),
            (Some("a=b+c%21"), "a", Some("b c!")),
            (Some("a=%zz&a=2"), "a", Some("2")),
            (Some("a=1;b=2&a=3"), "a", Some("3")),
            (Some("%61=1"), "a", Some("1")),
            (Some("a=b=c"), "a", Some("b=c")),
        ] {
            assert_eq!(value(query, name).as_deref(), expected, "{query:?}");
        }
    }

    #[test]
    fn repeated_names() {
        assert_eq!(values(Some("key=a&x=1&key=b+c&key="), "key"), ["a", "b c", ""]);
        assert!(values(None, "key").is_empty());
    }

    #[test]
    fn metadata_has_a_prefix() {
        let found = metadata(Some(
            "metadata.ttlInSeconds=5&x=1&metadata.a+b=c&metadata.ttlInSeconds=6&metadata.=e",
        ));
        let found: Vec<_> = found.iter().collect();
        assert_eq!(found, [("", "e"), ("a b", "c"), ("ttlInSeconds", "5")]);
    }
}
