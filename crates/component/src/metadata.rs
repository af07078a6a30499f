//! Metadata: the text-to-text maps that travel with requests and configure components, and their typed
//! decoding into a vendor's `Config` with the reference's rules (names in any case, Go durations, lenient
//! booleans). A vendor's struct is plain `Deserialize`; this module supplies the format.

use crate::error::{Error, Result};
use outrigger_resources::go;
use serde::de::{self, DeserializeOwned, IntoDeserializer, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Request or component metadata. `Debug` shows names only: values may be secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Metadata(BTreeMap<String, String>);

impl Metadata {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Like [`Metadata::get`], but the name's case does not matter. An exact match wins.
    pub fn get_any_case(&self, name: &str) -> Option<&str> {
        self.get(name).or_else(|| {
            self.0
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.as_str())
        })
    }

    /// True for the texts the reference counts as true (`true`, `1`, `y`, `yes`, `on`, `t`, in any case).
    pub fn is_true(&self, name: &str) -> bool {
        self.get_any_case(name).is_some_and(truthy)
    }

    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<String>) -> Option<String> {
        self.0.insert(name.into(), value.into())
    }

    pub fn remove(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn into_inner(self) -> BTreeMap<String, String> {
        self.0
    }
}

/// As a component's `Config`: everything, undecoded.
impl<'de> serde::Deserialize<'de> for Metadata {
    fn deserialize<D: de::Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        BTreeMap::deserialize(from).map(Self)
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.0.keys().map(|name| (name, "***")))
            .finish()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Metadata {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(
            pairs
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }
}

impl<K: Into<String>, V: Into<String>> Extend<(K, V)> for Metadata {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, pairs: I) {
        self.0
            .extend(pairs.into_iter().map(|(name, value)| (name.into(), value.into())));
    }
}

/// A text in a vendor's `Config` that is never printed.
#[derive(Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(transparent)]
pub struct Hidden(pub String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// COMPAT(dapr/kit utils/strings.go): the texts that mean true.
pub fn truthy(text: &str) -> bool {
    matches!(
        text.trim().to_ascii_lowercase().as_str(),
        "y" | "yes" | "true" | "t" | "on" | "1"
    )
}

/// A duration in a vendor's `Config`: Go syntax (`1m30s`), or a bare number of seconds.
/// Use with `#[serde(deserialize_with = "outrigger_component::metadata::duration")]`.
pub fn duration<'de, D: de::Deserializer<'de>>(from: D) -> std::result::Result<Duration, D::Error> {
    let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(from)?;
    if let Ok(seconds) = text.trim().parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    go::duration(text.trim())
        .map_err(|error| de::Error::custom(format!("{error}; write for example 500ms, 10s or 1m30s")))
}

/// Like [`duration`], for an optional field.
pub fn duration_opt<'de, D: de::Deserializer<'de>>(
    from: D,
) -> std::result::Result<Option<Duration>, D::Error> {
    duration(from).map(Some)
}

/// Decodes into a vendor's `Config`. Unknown names are ignored (many components pass them on); a missing
/// name without default, or a value of the wrong form, is an error that names it.
pub fn decode<C: DeserializeOwned>(metadata: &Metadata) -> Result<C> {
    C::deserialize(Root(metadata)).map_err(|Fault(message)| Error::invalid(message))
}

/// The names that a vendor's `Config` reads, aliases included; none for one that takes any name, or is flattened.
pub fn names<C: DeserializeOwned>() -> Vec<&'static str> {
    let mut found = Vec::new();
    // It fails always: there is nothing to be decoded.
    let _nothing = C::deserialize(Names(&mut found)).err();
    found
}

/// Looks at what is asked for, and has none of it.
struct Names<'a>(&'a mut Vec<&'static str>);

impl<'de> de::Deserializer<'de> for Names<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Fault> {
        Err(Fault(String::new()))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Fault> {
        self.0.extend(fields);
        Err(Fault(String::new()))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[derive(Debug)]
struct Fault(String);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }

    fn missing_field(field: &'static str) -> Self {
        Self(format!("metadata {field:?} is missing"))
    }
}

struct Root<'a>(&'a Metadata);

impl<'de> de::Deserializer<'de> for Root<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_map(de::value::MapDeserializer::new(self.0.iter().map(
            |(name, value)| {
                (
                    name.to_owned(),
                    Text {
                        name: name.to_owned(),
                        value: value.to_owned(),
                    },
                )
            },
        )))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let named = fields.iter().filter_map(|field| {
            let value = self.0.get_any_case(field)?;
            Some((
                (*field).to_owned(),
                Text {
                    name: (*field).to_owned(),
                    value: value.to_owned(),
                },
            ))
        });
        visitor.visit_map(de::value::MapDeserializer::new(named))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_any(visitor)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit_struct newtype_struct seq tuple tuple_struct enum identifier ignored_any
    }
}

/// One value: text that becomes whatever the field asks for.
struct Text {
    name: String,
    value: String,
}

impl Text {
    fn number<T: std::str::FromStr>(&self) -> Result<T, Fault> {
        self.value
            .trim()
            .parse()
            .map_err(|_| Fault(format!("metadata {:?} must be a number", self.name)))
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $kind:ty),* $(,)?) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            visitor.$visit(self.number::<$kind>()?)
        })*
    };
}

impl<'de> de::Deserializer<'de> for Text {
    type Error = Fault;

    numbers! {
        deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16, deserialize_i32 visit_i32 i32, deserialize_i64 visit_i64 i64,
        deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16, deserialize_u32 visit_u32 u32, deserialize_u64 visit_u64 u64,
        deserialize_f32 visit_f32 f32, deserialize_f64 visit_f64 f64,
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let name = self.name;
        visitor
            .visit_string(self.value)
            .map_err(|Fault(message)| Fault(format!("metadata {name:?}: {message}")))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_bool(truthy(&self.value))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.value.is_empty() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    /// A unit-only enum, by its name.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let name = self.name;
        let value: de::value::StringDeserializer<Fault> = self.value.into_deserializer();
        visitor
            .visit_enum(value)
            .map_err(|Fault(message)| Fault(format!("metadata {name:?}: {message}")))
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, Fault> for Text {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests;
