//! Avro: values between JSON and the binary form, by their schema.
//!
//! JSON comes in two kinds. In *plain* JSON a value of a union stands for itself, and its branch is found by trying. In
//! *Avro* JSON (`useAvroJSON`) it names its branch: `{"string": "x"}`. In both, bytes are text whose code points up to 255
//! are written `\u00ff`, and logical types are what carries them: a `timestamp-millis` is a number, a `decimal` the bytes of
//! its unscaled value.
//!
//! COMPAT(linkedin/goavro v2.14 NewCodec and NewCodecForStandardJSONFull, which components-contrib
//! common/component/kafka uses): which JSON belongs to which bytes, and what unions' branches are called. Where it is at
//! odds with itself or with the specification we are not: text after the value is refused, `\u0100` is not a byte,
//! a `decimal` of a fixed size can be zero, defaults of bytes are code points.
//!
//! INVARIANT: nothing that comes from outside makes this panic, recurse beyond [`DEPTH`], or write more than a bounded
//! amount; without that, a dozen bytes could stand for a gigabyte of nulls.
//!
//! Deliberately absent: resolution between the schemas of writer and reader, aliases, and references to other subjects.

mod decode;
mod encode;
mod parse;
#[cfg(test)]
mod tests;

use bytes::{Bytes, BytesMut};
use regex::Regex;
use std::borrow::Cow;
use std::fmt;

/// Of values within values, in both directions.
const DEPTH: usize = 128;

/// How values of unions are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Json {
    Plain,
    Avro,
}

/// Types refer to each other by their place, since records can hold themselves.
#[derive(Debug)]
pub(crate) struct Schema {
    types: Vec<Type>,
    root: Id,
}

type Id = usize;

#[derive(Debug)]
enum Type {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes {
        /// A number of any size, big-endian, two's complement: written as short as can be.
        decimal: bool,
    },
    /// With what it must match.
    Text(Option<Regex>),
    Record(Vec<Field>),
    Enum(Vec<String>),
    Fixed(usize),
    Array(Id),
    Map(Id),
    Union(Union),
}

#[derive(Debug)]
struct Field {
    name: String,
    kind: Id,
    default: Default,
}

#[derive(Debug)]
enum Default {
    None,
    /// As it is written in the schema.
    Json(String),
    Encoded(Bytes),
}

#[derive(Debug)]
struct Union {
    branches: Vec<Branch>,
    /// Places in `branches`, by name: the order in which numbers and objects are tried.
    by_name: Vec<usize>,
    null: Option<usize>,
}

#[derive(Debug)]
struct Branch {
    name: String,
    kind: Id,
}

impl Schema {
    /// # Errors
    /// What is wrong with the schema.
    pub(crate) fn parse(text: &str) -> Result<Self, Fault> {
        parse::parse(text)
    }

    /// Appends the binary form of a JSON value.
    ///
    /// # Errors
    /// Where the value does not fit; `to` then holds a part of it.
    pub(crate) fn encode(&self, value: &[u8], json: Json, to: &mut BytesMut) -> Result<(), Fault> {
        encode::encode(self, value, json, to)
    }

    /// The JSON of a binary value. What follows the value counts for nothing.
    ///
    /// # Errors
    /// Where the bytes do not fit.
    pub(crate) fn decode(&self, value: Bytes, json: Json) -> Result<Vec<u8>, Fault> {
        decode::decode(self, value, json)
    }

    fn kind(&self, id: Id) -> &Type {
        &self.types[id]
    }
}

/// What does not fit, and where. Says nothing of values, which are nobody's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The innermost last, each with what separates it from the one before.
    path: Vec<String>,
    what: Cow<'static, str>,
}

impl Fault {
    fn new(what: impl Into<Cow<'static, str>>) -> Self {
        Self {
            path: Vec::new(),
            what: what.into(),
        }
    }

    fn in_field(mut self, name: &str) -> Self {
        self.path.push(format!(".{name}"));
        self
    }

    fn in_item(mut self, place: usize) -> Self {
        self.path.push(format!("[{place}]"));
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = self.path.iter().rev();
        if let Some(first) = parts.next() {
            f.write_str(first.trim_start_matches('.'))?;
            for part in parts {
                f.write_str(part)?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.what)
    }
}

impl std::error::Error for Fault {}

/// The same number in as few bytes as can be.
fn shortest(number: &[u8]) -> &[u8] {
    let mut number = number;
    while let [first, rest @ ..] = number {
        let spare = match rest.first() {
            Some(next) => (*first == 0 && *next < 0x80) || (*first == 0xff && *next >= 0x80),
            None => false,
        };
        if !spare {
            break;
        }
        number = rest;
    }
    if number.is_empty() { &[0] } else { number }
}
