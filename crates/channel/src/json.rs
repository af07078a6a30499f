//! JSON as apps and clients of the reference write it, where the readers that serde derives are too lenient or too strict.
//!
//! - An object is an object: derived readers would take a list of the members' values as well.
//! - `null` is nothing, wherever it stands.
//!
//! COMPAT(encoding/json): both.

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

/// A `T` written as an object; `null` is one without members.
#[derive(Debug, Default)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_option(Members(PhantomData)).map(Self)
    }
}

struct Members<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + Default> Visitor<'de> for Members<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_none<E>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<T, D::Error> {
        from.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members))
    }
}

/// For a member that may be `null`.
///
/// # Errors
/// It is something else than a `T`.
pub fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

/// For a member that names texts; any of them, and all of it, may be `null`.
///
/// # Errors
/// It is no object of texts.
pub fn texts<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    let texts: BTreeMap<String, Option<String>> = or_default(from)?;
    Ok(texts
        .into_iter()
        .map(|(name, text)| (name, text.unwrap_or_default()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::{Object, or_default, texts};
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Order {
        #[serde(deserialize_with = "or_default")]
        name: String,
        #[serde(deserialize_with = "texts")]
        labels: BTreeMap<String, String>,
        inner: Object<Inner>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Inner {
        count: u8,
    }

    #[test]
    fn objects_only_and_null_is_nothing() {
        for (text, expected) in [
            (
                r#"{"name":"n","labels":{"a":"b"},"inner":{"count":7}}"#,
                Some(("n", "a=b", 7)),
            ),
            (r#"{"name":null,"labels":null,"inner":null}"#, Some(("", "", 0))),
            (r#"{"labels":{"a":null},"other":[1]}"#, Some(("", "a=", 0))),
            ("null", Some(("", "", 0))),
            ("{}", Some(("", "", 0))),
            (r#"["n",{"a":"b"},{"count":7}]"#, None),
            (r#"{"inner":[7]}"#, None),
            (r#"{"labels":["a"]}"#, None),
            ("[]", None),
            ("7", None),
        ] {
            let read: Option<Object<Order>> = serde_json::from_str(text).map(Some).unwrap_or_default();
            let seen = read.map(|Object(order)| {
                let labels: Vec<String> = order
                    .labels
                    .iter()
                    .map(|(name, text)| format!("{name}={text}"))
                    .collect();
                (order.name, labels.join(" "), order.inner.0.count)
            });
            let seen = seen
                .as_ref()
                .map(|(name, labels, count)| (&**name, &**labels, *count));
            assert_eq!(seen, expected, "{text}");
        }
    }
}
