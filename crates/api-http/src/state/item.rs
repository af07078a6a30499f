//! One value to write or key to delete, as it stands in a request.
//!
//! COMPAT(encoding/json, mapstructure): names in any case; a `null` counts as absent; unknown names are skipped.

use super::{concurrency, consistency};
use crate::json;
use bytes::Bytes;
use outrigger_channel::json::texts;
use outrigger_component::metadata::Metadata;
use outrigger_component::state::{Concurrency, Consistency, Delete, Set};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

#[derive(Debug, Default)]
pub(super) struct Item<'b> {
    pub(super) key: String,
    value: Option<&'b RawValue>,
    etag: Option<String>,
    content_type: Option<String>,
    metadata: BTreeMap<String, String>,
    options: Options,
}

#[derive(Debug, Default)]
struct Options {
    concurrency: String,
    consistency: String,
}

impl Item<'_> {
    /// `body` is what the item was read from; `metadata` wins over its own. `Err`: an option that is no known word.
    pub(super) fn into_set(self, body: &Bytes, metadata: &Metadata) -> Result<Set, String> {
        let (concurrency, consistency) = self.options.parse()?;
        Ok(Set {
            // COMPAT: nothing is stored as `null`.
            value: self
                .value
                .map_or(Bytes::from_static(b"null"), |value| json::value(body, value)),
            is_json: true,
            key: self.key,
            etag: self.etag,
            concurrency,
            consistency,
            content_type: self.content_type,
            metadata: super::merged(self.metadata, metadata),
        })
    }

    pub(super) fn into_delete(self, metadata: &Metadata) -> Result<Delete, String> {
        let (concurrency, consistency) = self.options.parse()?;
        Ok(Delete {
            key: self.key,
            etag: self.etag,
            concurrency,
            consistency,
            metadata: super::merged(self.metadata, metadata),
        })
    }
}

impl Options {
    fn parse(&self) -> Result<(Concurrency, Consistency), String> {
        Ok((concurrency(&self.concurrency)?, consistency(&self.consistency)?))
    }
}

impl<'de> Deserialize<'de> for Item<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Item<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with \"key\" and \"value\"")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Item<'de>, M::Error> {
                let mut item = Item::default();
                while let Some(Name(name)) = map.next_key()? {
                    let is = |known: &str| name.eq_ignore_ascii_case(known);
                    if is("key") {
                        item.key = map.next_value::<Option<String>>()?.unwrap_or_default();
                    } else if is("value") {
                        item.value = Some(map.next_value()?);
                    } else if is("etag") {
                        item.etag = map.next_value()?;
                    } else if is("contentType") {
                        item.content_type = map.next_value()?;
                    } else if is("metadata") {
                        item.metadata = map.next_value::<Texts>()?.0;
                    } else if is("options") {
                        item.options = map.next_value::<Option<Options>>()?.unwrap_or_default();
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(item)
            }
        }

        from.deserialize_map(Fields)
    }
}

impl<'de> Deserialize<'de> for Options {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Options;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with \"concurrency\" and \"consistency\"")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Options, M::Error> {
                let mut options = Options::default();
                while let Some(Name(name)) = map.next_key()? {
                    if name.eq_ignore_ascii_case("concurrency") {
                        options.concurrency = map.next_value::<Option<String>>()?.unwrap_or_default();
                    } else if name.eq_ignore_ascii_case("consistency") {
                        options.consistency = map.next_value::<Option<String>>()?.unwrap_or_default();
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(options)
            }
        }

        from.deserialize_map(Fields)
    }
}

/// Metadata; `null` is none, or an empty text.
#[derive(Deserialize)]
struct Texts(#[serde(deserialize_with = "texts")] BTreeMap<String, String>);

/// A member's name, borrowed unless it has escapes.
#[derive(Deserialize)]
struct Name<'b>(#[serde(borrow)] Cow<'b, str>);

#[cfg(test)]
mod tests {
    use super::Item;
    use bytes::Bytes;
    use outrigger_component::metadata::Metadata;
    use outrigger_component::state::{Concurrency, Consistency, Delete, Set};

    fn set(key: &str, value: &'static str) -> Set {
        Set {
            key: key.to_owned(),
            value: Bytes::from_static(value.as_bytes()),
            is_json: true,
            ..Set::default()
        }
    }

    #[test]
    fn items() {
        let of_query: Metadata = [("a", "query")].into_iter().collect();
        for (text, expected) in [
            (r#"{"key":"k","value":"v"}"#, set("k", "\"v\"")),
            (
                r#"{"KEY":"k","Value":12345678901234567890.10}"#,
                set("k", "12345678901234567890.10"),
            ),
            (r#"{"key":"k"}"#, set("k", "null")),
            (
                r#"{"key":"k","value":null,"etag":null,"metadata":null,"options":null}"#,
                set("k", "null"),
            ),
            (
                r#"{"key":"k","value":{ "b": 1, "a": [ ] },"other":[1]}"#,
                set("k", r#"{"b":1,"a":[]}"#),
            ),
            (
                r#"{"key":"k","value":1,"etag":"7","contentType":"text/plain","options":{"concurrency":"first-write","Consistency":"strong"}}"#,
                Set {
                    etag: Some("7".to_owned()),
                    content_type: Some("text/plain".to_owned()),
                    concurrency: Concurrency::FirstWrite,
                    consistency: Consistency::Strong,
                    ..set("k", "1")
                },
            ),
            (
                r#"{"key":"k","value":1,"metadata":{"a":"body","b":"body"}}"#,
                Set {
                    metadata: [("a", "query"), ("b", "body")].into_iter().collect(),
                    ..set("k", "1")
                },
            ),
        ] {
            let body = Bytes::from_static(text.as_bytes());
            let mut metadata = expected.metadata.clone();
            let query = if metadata.remove("a").is_some() {
                of_query.clone()
            } else {
                Metadata::new()
            };
            let item: Item<'_> = serde_json::from_slice(&body).unwrap();
            assert_eq!(item.into_set(&body, &query), Ok(expected), "{text}");
        }
        let item: Item<'_> = serde_json::from_str(r#"{"key":"k","etag":"7"}"#).unwrap();
        let delete = Delete {
            key: "k".to_owned(),
            etag: Some("7".to_owned()),
            ..Delete::default()
        };
        assert_eq!(item.into_delete(&Metadata::new()), Ok(delete));
    }

    #[test]
    fn refused() {
        for text in [
            r#"{"key":1}"#,
            r#"{"key":"k","etag":123}"#,
            r#"{"key":"k","metadata":{"a":1}}"#,
            "[]",
            "7",
        ] {
            assert!(serde_json::from_str::<Item<'_>>(text).is_err(), "{text}");
        }
        let item: Item<'_> = serde_json::from_str(r#"{"key":"k","options":{"concurrency":"both"}}"#).unwrap();
        assert_eq!(
            item.into_delete(&Metadata::new()),
            Err("unrecognized concurrency model 'both'".to_owned())
        );
    }
}
