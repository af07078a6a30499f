//! A [`Node`] tree as a `serde` data source, with the leniency of the reference's two readers: null is the empty value
//! of whatever is expected, a number is text where text is expected, names match as the dialect says.

use super::node::{Kind, Node};
use super::scalar::{Meaning, Scalar};
use super::{Dialect, Error};
use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// A node about to be decoded.
#[derive(Clone, Copy)]
pub struct Value<'n> {
    pub node: &'n Node,
    pub dialect: Dialect,
}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(None, message.to_string())
    }
}

impl Error {
    fn inside(mut self, segment: &str) -> Self {
        let joint = if self.path.is_empty() || self.path.starts_with('[') {
            ""
        } else {
            "."
        };
        self.path = format!("{segment}{joint}{}", self.path);
        self
    }
}

impl<'n> Value<'n> {
    fn wrong(self, expected: &str) -> Error {
        let found = match &self.node.kind {
            Kind::Sequence(_) => "a list",
            Kind::Mapping(_) => "a mapping",
            Kind::Scalar(scalar) => match scalar.meaning(self.dialect) {
                Meaning::Null => "nothing",
                Meaning::Boolean(_) => "a boolean",
                Meaning::Integer(_) | Meaning::Natural(_) | Meaning::Float(_) => "a number",
                Meaning::Text(_) => "text",
            },
        };
        Error::new(
            Some(self.node.line),
            format!("expected {expected}, found {found}"),
        )
    }

    fn scalar(self, expected: &str) -> Result<&'n Scalar, Error> {
        match &self.node.kind {
            Kind::Scalar(scalar) => Ok(scalar),
            _ => Err(self.wrong(expected)),
        }
    }

    fn is_null(self) -> bool {
        matches!(&self.node.kind, Kind::Scalar(scalar) if scalar.is_null())
    }

    fn text(self) -> Result<String, Error> {
        let scalar = self.scalar("text")?;
        Ok(scalar.to_text(self.dialect).unwrap_or_default())
    }

    /// COMPAT(gopkg.in/yaml.v3 decode.go): a Configuration file may write a whole number with a fraction, which is cut.
    fn integer(self) -> Result<i128, Error> {
        let expected = "a whole number without quotes";
        match self.scalar(expected)?.meaning(self.dialect) {
            Meaning::Null => Ok(0),
            Meaning::Integer(value) => Ok(value.into()),
            Meaning::Natural(value) => Ok(value.into()),
            Meaning::Float(value)
                if value.abs() < 1e18 && (value.fract() == 0.0 || self.dialect == Dialect::Configuration) =>
            {
                // Exact enough: below 1e18, and the fraction is to be cut.
                Ok(value as i128)
            }
            _ => Err(self.wrong(expected)),
        }
    }

    fn float(self) -> Result<f64, Error> {
        match self.scalar("a number")?.meaning(self.dialect) {
            Meaning::Null => Ok(0.0),
            // Exact enough: a float was asked for.
            Meaning::Integer(value) => Ok(value as f64),
            // Exact enough: a float was asked for.
            Meaning::Natural(value) => Ok(value as f64),
            Meaning::Float(value) => Ok(value),
            _ => Err(self.wrong("a number")),
        }
    }

    fn at(self) -> impl Fn(Error) -> Error {
        let line = self.node.line;
        move |mut error| {
            error.line.get_or_insert(line);
            error
        }
    }

    fn map<V: Visitor<'n>>(
        self,
        fields: Option<&'static [&'static str]>,
        visitor: V,
    ) -> Result<V::Value, Error> {
        let entries = match &self.node.kind {
            Kind::Mapping(entries) => match fields {
                Some(fields) => self.fields(entries, fields),
                None => entries.iter().map(|(name, node)| (name.as_str(), node)).collect(),
            },
            _ if self.is_null() => Vec::new(),
            _ => return Err(self.wrong("a mapping")),
        };
        visitor
            .visit_map(Entries {
                dialect: self.dialect,
                entries: entries.into_iter(),
                value: None,
            })
            .map_err(self.at())
    }

    /// Entries of a struct under the names it knows; a null entry counts as absent, so its default holds.
    /// COMPAT(Go encoding/json): names match in any case; of several, the one that sorts last is used.
    fn fields(
        self,
        entries: &'n [(String, Node)],
        fields: &'static [&'static str],
    ) -> Vec<(&'n str, &'n Node)> {
        let mut present: Vec<_> = entries
            .iter()
            .filter(|(_, node)| !Value { node, ..self }.is_null())
            .map(|(name, node)| (name.as_str(), node))
            .collect();
        if self.dialect == Dialect::Configuration {
            return present;
        }
        present.sort_by_key(|(name, _)| *name);
        let mut known: Vec<(&'n str, &'n Node)> = Vec::with_capacity(present.len());
        for (name, value) in present {
            let Some(field) = fields
                .iter()
                .find(|field| **field == name)
                .or_else(|| fields.iter().find(|field| field.eq_ignore_ascii_case(name)))
            else {
                continue;
            };
            match known.iter_mut().find(|(existing, _)| existing == field) {
                Some((_, existing)) => *existing = value,
                None => known.push((field, value)),
            }
        }
        known
    }
}

macro_rules! integers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Error> {
            let value = self.integer()?;
            match (i64::try_from(value), u64::try_from(value)) {
                (Ok(value), _) => visitor.visit_i64(value),
                (_, Ok(value)) => visitor.visit_u64(value),
                _ => visitor.visit_i128(value),
            }
            .map_err(self.at())
        }
    )*};
}

impl<'n> Deserializer<'n> for Value<'n> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Error> {
        let scalar = match &self.node.kind {
            Kind::Sequence(_) => return self.deserialize_seq(visitor),
            Kind::Mapping(_) => return self.deserialize_map(visitor),
            Kind::Scalar(scalar) => scalar,
        };
        match scalar.meaning(self.dialect) {
            Meaning::Null => visitor.visit_unit(),
            Meaning::Boolean(value) => visitor.visit_bool(value),
            Meaning::Integer(value) => visitor.visit_i64(value),
            Meaning::Natural(value) => visitor.visit_u64(value),
            Meaning::Float(value) if value.is_finite() => visitor.visit_f64(value),
            Meaning::Float(_) => Err(self.wrong("a finite value; quote it if text is meant")),
            Meaning::Text(text) => visitor.visit_borrowed_str(text),
        }
        .map_err(self.at())
    }

    fn deserialize_bool<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Error> {
        let scalar = self.scalar("true or false")?;
        let value = if scalar.is_null() {
            false
        } else {
            scalar
                .boolean(self.dialect)
                .ok_or_else(|| self.wrong("true or false without quotes"))?
        };
        visitor.visit_bool(value).map_err(self.at())
    }

    integers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
    }

    fn deserialize_f32<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_f64(self.float()?).map_err(self.at())
    }

    fn deserialize_char<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_string(visitor)
    }

    fn deserialize_str<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_string(visitor)
    }

    fn deserialize_string<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_string(self.text()?).map_err(self.at())
    }

    fn deserialize_bytes<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_byte_buf(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor
            .visit_byte_buf(self.text()?.into_bytes())
            .map_err(self.at())
    }

    fn deserialize_option<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.is_null() {
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_unit<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'n>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'n>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Error> {
        let items: &[Node] = match &self.node.kind {
            Kind::Sequence(items) => items,
            _ if self.is_null() => &[],
            _ => return Err(self.wrong("a list")),
        };
        visitor
            .visit_seq(Items {
                dialect: self.dialect,
                items: items.iter().enumerate(),
            })
            .map_err(self.at())
    }

    fn deserialize_tuple<V: Visitor<'n>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'n>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Error> {
        self.map(None, visitor)
    }

    fn deserialize_struct<V: Visitor<'n>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.map(Some(fields), visitor)
    }

    /// Enums are written as one word.
    fn deserialize_enum<V: Visitor<'n>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor
            .visit_enum(self.text()?.into_deserializer())
            .map_err(self.at())
    }

    fn deserialize_identifier<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_string(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }
}

struct Items<'n> {
    dialect: Dialect,
    items: std::iter::Enumerate<std::slice::Iter<'n, Node>>,
}

impl<'n> SeqAccess<'n> for Items<'n> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'n>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some((index, node)) = self.items.next() else {
            return Ok(None);
        };
        let dialect = self.dialect;
        seed.deserialize(Value { node, dialect })
            .map(Some)
            .map_err(|error| error.inside(&format!("[{index}]")))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Entries<'n> {
    dialect: Dialect,
    entries: std::vec::IntoIter<(&'n str, &'n Node)>,
    value: Option<(&'n str, &'n Node)>,
}

impl<'n> MapAccess<'n> for Entries<'n> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'n>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.value = self.entries.next();
        match self.value {
            Some((name, _)) => seed.deserialize(StrDeserializer::<Error>::new(name)).map(Some),
            None => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'n>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let Some((name, node)) = self.value.take() else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        let dialect = self.dialect;
        seed.deserialize(Value { node, dialect })
            .map_err(|error| error.inside(name))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}
