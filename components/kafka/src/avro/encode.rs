//! From JSON to binary.
//!
//! The text is read piece by piece, each level by itself, so that numbers keep their digits and bytes their escapes.

use super::{DEPTH, Default, Fault, Field, Id, Json, Schema, Type, Union, shortest};
use crate::wire::put_varint;
use bytes::{BufMut as _, BytesMut};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

/// Text that may be looked at for each byte of a value, and for the smallest of all: branches of unions are tried one
/// after the other, within each other.
const LOOKS: usize = 256;
const LOOKS_AT_LEAST: usize = 1 << 20;

pub(super) fn encode(schema: &Schema, value: &[u8], json: Json, to: &mut BytesMut) -> Result<(), Fault> {
    let text = std::str::from_utf8(value).map_err(|_| Fault::new("the value is not UTF-8"))?;
    let style = match json {
        Json::Plain => Style::Plain,
        Json::Avro => Style::Avro,
    };
    start(schema, schema.root, text, style, to)
}

/// A field's default: of a union, it is the first branch's.
pub(super) fn default(schema: &Schema, kind: Id, text: &str, to: &mut BytesMut) -> Result<(), Fault> {
    start(schema, kind, text, Style::Default, to)
}

fn start(schema: &Schema, kind: Id, text: &str, style: Style, to: &mut BytesMut) -> Result<(), Fault> {
    let value: &RawValue =
        serde_json::from_str(text).map_err(|error| Fault::new(format!("the value is not JSON: {error}")))?;
    let mut encoder = Encoder {
        schema,
        style,
        looks: value.get().len().saturating_mul(LOOKS).max(LOOKS_AT_LEAST),
        to,
    };
    encoder.put(kind, value.get(), 0)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Avro,
    Default,
}

struct Encoder<'a> {
    schema: &'a Schema,
    style: Style,
    looks: usize,
    to: &'a mut BytesMut,
}

impl<'a> Encoder<'a> {
    /// `json` is the text of one value.
    fn put(&mut self, kind: Id, json: &str, depth: usize) -> Result<(), Fault> {
        if depth > DEPTH {
            return Err(Fault::new(format!("values are more than {DEPTH} levels deep")));
        }
        // At the end of patience, nothing is tried any more.
        self.looks = self.looks.saturating_sub(json.len());
        if self.looks == 0 {
            return Err(Fault::new(
                "it takes too long to find out which branches of unions are meant",
            ));
        }
        let schema = self.schema;
        match schema.kind(kind) {
            Type::Null if json == "null" => {}
            Type::Null => return Err(Fault::new("it is not null")),
            Type::Boolean => match json {
                "true" => self.to.put_u8(1),
                "false" => self.to.put_u8(0),
                _ => return Err(Fault::new("it is not a boolean")),
            },
            Type::Int => {
                let number: i32 =
                    number(json).ok_or(Fault::new("it is not an int, a whole number of 32 bits"))?;
                put_varint(self.to, number.into());
            }
            Type::Long => {
                let number = number(json).ok_or(Fault::new("it is not a long, a whole number of 64 bits"))?;
                put_varint(self.to, number);
            }
            Type::Float => {
                let number = float(json, f32::NAN, |number: &f32| number.is_infinite());
                self.to.put_f32_le(number.ok_or(Fault::new("it is not a float"))?);
            }
            Type::Double => {
                let number = float(json, f64::NAN, |number: &f64| number.is_infinite());
                self.to
                    .put_f64_le(number.ok_or(Fault::new("it is not a double"))?);
            }
            Type::Bytes { decimal } => {
                let bytes = self.bytes(json)?;
                self.lengthy(if *decimal { shortest(&bytes) } else { &bytes });
            }
            Type::Text(pattern) => {
                let text = text(json)?;
                if pattern.as_ref().is_some_and(|pattern| !pattern.is_match(&text)) {
                    return Err(Fault::new("the text does not match the schema's pattern"));
                }
                self.lengthy(text.as_bytes());
            }
            Type::Enum(symbols) => {
                let text = text(json)?;
                let place = symbols.iter().position(|symbol| *symbol == text);
                self.length(place.ok_or(Fault::new("the text is none of the enum's symbols"))?);
            }
            Type::Fixed(size) => {
                let bytes = self.bytes(json)?;
                if bytes.len() != *size {
                    return Err(Fault::new(format!(
                        "there are {} bytes instead of {size}",
                        bytes.len()
                    )));
                }
                self.to.put_slice(&bytes);
            }
            Type::Record(fields) => self.record(fields, json, depth)?,
            Type::Array(kind) => {
                let items: Vec<&RawValue> =
                    serde_json::from_str(json).map_err(|_| Fault::new("it is not an array"))?;
                if !items.is_empty() {
                    self.length(items.len());
                }
                for (place, item) in items.into_iter().enumerate() {
                    self.put(*kind, item.get(), depth + 1)
                        .map_err(|fault| fault.in_item(place))?;
                }
                self.length(0);
            }
            Type::Map(kind) => {
                let members = members(json)?;
                let names: HashSet<&str> = members.iter().map(|(name, _)| &**name).collect();
                if names.len() < members.len() {
                    return Err(Fault::new("a key is there twice"));
                }
                if !members.is_empty() {
                    self.length(members.len());
                }
                for (name, value) in &members {
                    self.lengthy(name.as_bytes());
                    self.put(*kind, value.get(), depth + 1)
                        .map_err(|fault| fault.in_field(name))?;
                }
                self.length(0);
            }
            Type::Union(union) => self.union(union, json, depth)?,
        }
        Ok(())
    }

    fn record(&mut self, fields: &'a [Field], json: &str, depth: usize) -> Result<(), Fault> {
        let members = members(json)?;
        let mut found = 0;
        for (place, field) in fields.iter().enumerate() {
            let is_it = |member: &&(Cow<'_, str>, &RawValue)| member.0 == field.name;
            // Mostly they come in the schema's order.
            let member = members.get(place).filter(is_it);
            let fault = |fault: Fault| fault.in_field(&field.name);
            match (member.or_else(|| members.iter().find(is_it)), &field.default) {
                (Some((_, value)), _) => {
                    found += 1;
                    self.put(field.kind, value.get(), depth + 1).map_err(fault)?;
                }
                (None, Default::Encoded(bytes)) => self.to.put_slice(bytes),
                // While defaults are being encoded, which may need each other.
                (None, Default::Json(text)) => {
                    let style = std::mem::replace(&mut self.style, Style::Default);
                    self.put(field.kind, text, depth + 1).map_err(fault)?;
                    self.style = style;
                }
                (None, Default::None) => {
                    return Err(fault(Fault::new("the field is missing and has no default")));
                }
            }
        }
        if found == members.len() {
            return Ok(());
        }
        let unknown = members
            .iter()
            .find(|(name, _)| !fields.iter().any(|field| field.name == *name));
        Err(match unknown {
            Some((name, _)) => Fault::new("the schema has no such field").in_field(name),
            None => Fault::new("a field is there twice"),
        })
    }

    fn union(&mut self, union: &'a Union, json: &str, depth: usize) -> Result<(), Fault> {
        match self.style {
            Style::Plain => self.guess(union, json, depth),
            Style::Avro => {
                if let Some(null) = union.null
                    && json == "null"
                {
                    self.length(null);
                    return Ok(());
                }
                let members = members(json).unwrap_or_default();
                let [(name, value)] = &members[..] else {
                    return Err(Fault::new(
                        "it is not an object with one member, named like a branch of the union",
                    ));
                };
                let place = union.branches.iter().position(|branch| branch.name == *name);
                let place = place.ok_or_else(|| Fault::new("the union has no such branch").in_field(name))?;
                self.length(place);
                self.put(union.branches[place].kind, value.get(), depth + 1)
                    .map_err(|fault| fault.in_field(name))
            }
            Style::Default => {
                self.length(0);
                // A text where nothing is meant is a common mistake.
                let json = if union.null == Some(0) && json == "\"null\"" {
                    "null"
                } else {
                    json
                };
                match union.branches.first() {
                    Some(first) => self.put(first.kind, json, depth + 1),
                    None => Err(Fault::new("it is not a union with branches")),
                }
            }
        }
    }

    /// The first branch that can take the value.
    fn guess(&mut self, union: &'a Union, json: &str, depth: usize) -> Result<(), Fault> {
        if let Some(null) = union.null
            && json == "null"
        {
            self.length(null);
            return Ok(());
        }
        let sorted = json.starts_with(|first: char| matches!(first, '{' | '-' | '0'..='9'));
        let mark = self.to.len();
        // The fault of the only other branch says more than that none fits.
        let mut faults = Vec::new();
        for turn in 0..union.branches.len() {
            let place = if sorted { union.by_name[turn] } else { turn };
            if Some(place) == union.null {
                continue;
            }
            self.length(place);
            let fault = match self.put(union.branches[place].kind, json, depth + 1) {
                Ok(()) => return Ok(()),
                Err(fault) if self.looks == 0 => return Err(fault),
                Err(fault) => fault,
            };
            self.to.truncate(mark);
            faults.push(fault);
        }
        match faults.pop() {
            Some(fault) if faults.is_empty() => Err(fault),
            _ => Err(Fault::new("no branch of the union can take the value")),
        }
    }

    fn length(&mut self, length: usize) {
        put_varint(self.to, i64::try_from(length).unwrap_or(i64::MAX));
    }

    fn lengthy(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.to.put_slice(bytes);
    }

    fn bytes(&self, json: &str) -> Result<Vec<u8>, Fault> {
        if self.style == Style::Default {
            let bytes = text(json)?
                .chars()
                .map(|point| u8::try_from(point).ok())
                .collect();
            return Option::ok_or(
                bytes,
                Fault::new("it is not bytes as text of code points up to 255"),
            );
        }
        unescaped(json).ok_or(Fault::new("it is not bytes as text of code points up to 255"))
    }
}

/// A number that is written without a point or an exponent.
fn number<T: std::str::FromStr>(json: &str) -> Option<T> {
    let begins = json.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    begins.then(|| json.parse().ok()).flatten()
}

/// `null` is not a number, and `1e999` is infinite.
fn float<T: std::str::FromStr>(json: &str, nan: T, is_infinite: impl Fn(&T) -> bool) -> Option<T> {
    if json == "null" {
        return Some(nan);
    }
    number(json).filter(|number| !is_infinite(number) || matches!(json, "1e999" | "-1e999"))
}

/// Bytes of a text: `\u00ff` is one, and what is not escaped is itself.
fn unescaped(json: &str) -> Option<Vec<u8>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next()? {
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let digits: Vec<u8> = rest.by_ref().take(4).collect();
                let point = u16::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?;
                u8::try_from(point).ok()?
            }
            other => other,
        });
    }
    Some(bytes)
}

fn text(json: &str) -> Result<Cow<'_, str>, Fault> {
    let Name(text) = serde_json::from_str(json).map_err(|_| Fault::new("it is not text"))?;
    Ok(text)
}

fn members(json: &str) -> Result<Vec<(Cow<'_, str>, &RawValue)>, Fault> {
    let Members(members) = serde_json::from_str(json).map_err(|_| Fault::new("it is not an object"))?;
    Ok(members)
}

/// Borrowed wherever it holds no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((Name(name), value)) = map.next_entry()? {
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(Object)
    }
}
