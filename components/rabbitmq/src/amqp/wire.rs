//! Integers, texts and tables, read and written. Everything is checked: bytes may come from anybody.

use super::Failure;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::collections::BTreeMap;
use std::fmt;

/// How deep tables may hold tables.
const DEEPEST: u8 = 16;

/// A value in a table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Void,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// Scaled by a power of ten.
    Decimal(u8, i32),
    Text(Bytes),
    /// Seconds since 1970.
    Time(u64),
    Array(Vec<Value>),
    Table(Table),
}

pub(crate) type Table = BTreeMap<String, Value>;

/// Takes values off the front.
pub(crate) struct Reader(pub(crate) Bytes);

impl Reader {
    pub(crate) fn u8(&mut self) -> Result<u8, Failure> {
        self.0.try_get_u8().map_err(|_| short())
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Failure> {
        self.0.try_get_u16().map_err(|_| short())
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Failure> {
        self.0.try_get_u32().map_err(|_| short())
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Failure> {
        self.0.try_get_u64().map_err(|_| short())
    }

    pub(crate) fn text(&mut self) -> Result<String, Failure> {
        let length = self.u8()?;
        let bytes = self.bytes(usize::from(length))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    pub(crate) fn long_text(&mut self) -> Result<Bytes, Failure> {
        let length = self.u32()?;
        self.bytes(usize::try_from(length).map_err(|_| short())?)
    }

    pub(crate) fn table(&mut self) -> Result<Table, Failure> {
        self.nested_table(0)
    }

    fn bytes(&mut self, length: usize) -> Result<Bytes, Failure> {
        if length > self.0.len() {
            return Err(short());
        }
        Ok(self.0.split_to(length))
    }

    fn nested_table(&mut self, depth: u8) -> Result<Table, Failure> {
        let mut inner = Reader(self.long_text()?);
        let mut table = Table::new();
        while !inner.0.is_empty() {
            let name = inner.text()?;
            table.insert(name, inner.value(depth)?);
        }
        Ok(table)
    }

    /// The letters are RabbitMQ's, which differ from the specification's.
    fn value(&mut self, depth: u8) -> Result<Value, Failure> {
        if depth >= DEEPEST {
            return Err(Failure::Malformed("a table within too many tables"));
        }
        Ok(match self.u8()? {
            b'V' => Value::Void,
            b't' => Value::Bool(self.u8()? != 0),
            b'b' => Value::Int(self.0.try_get_i8().map_err(|_| short())?.into()),
            b'B' => Value::Int(self.u8()?.into()),
            b's' => Value::Int(self.0.try_get_i16().map_err(|_| short())?.into()),
            b'u' => Value::Int(self.u16()?.into()),
            b'I' => Value::Int(self.0.try_get_i32().map_err(|_| short())?.into()),
            b'i' => Value::Int(self.u32()?.into()),
            b'l' | b'L' => Value::Int(self.0.try_get_i64().map_err(|_| short())?),
            b'f' => Value::Float(self.0.try_get_f32().map_err(|_| short())?.into()),
            b'd' => Value::Float(self.0.try_get_f64().map_err(|_| short())?),
            b'D' => Value::Decimal(self.u8()?, self.0.try_get_i32().map_err(|_| short())?),
            b'S' | b'x' => Value::Text(self.long_text()?),
            b'T' => Value::Time(self.u64()?),
            b'A' => {
                let mut inner = Reader(self.long_text()?);
                let mut values = Vec::new();
                while !inner.0.is_empty() {
                    values.push(inner.value(depth + 1)?);
                }
                Value::Array(values)
            }
            b'F' => Value::Table(self.nested_table(depth + 1)?),
            _ => return Err(Failure::Malformed("a value of an unknown type")),
        })
    }
}

/// At most 255 bytes.
pub(crate) fn put_text(to: &mut BytesMut, text: &str, what: &'static str) -> Result<(), Failure> {
    let length = u8::try_from(text.len()).map_err(|_| Failure::TooLong(what))?;
    to.put_u8(length);
    to.put_slice(text.as_bytes());
    Ok(())
}

pub(crate) fn put_long_text(to: &mut BytesMut, text: &[u8]) -> Result<(), Failure> {
    let length = u32::try_from(text.len()).map_err(|_| Failure::TooLong("a text"))?;
    to.put_u32(length);
    to.put_slice(text);
    Ok(())
}

pub(crate) fn put_table(to: &mut BytesMut, table: &Table) -> Result<(), Failure> {
    let mut inner = BytesMut::new();
    for (name, value) in table {
        put_text(&mut inner, name, "the name of a header or argument")?;
        put_value(&mut inner, value)?;
    }
    put_long_text(to, &inner)
}

fn put_value(to: &mut BytesMut, value: &Value) -> Result<(), Failure> {
    match value {
        Value::Void => to.put_u8(b'V'),
        Value::Bool(value) => {
            to.put_u8(b't');
            to.put_u8(u8::from(*value));
        }
        Value::Int(value) => {
            to.put_u8(b'l');
            to.put_i64(*value);
        }
        Value::Float(value) => {
            to.put_u8(b'd');
            to.put_f64(*value);
        }
        Value::Decimal(scale, value) => {
            to.put_u8(b'D');
            to.put_u8(*scale);
            to.put_i32(*value);
        }
        Value::Text(text) => {
            to.put_u8(b'S');
            put_long_text(to, text)?;
        }
        Value::Time(seconds) => {
            to.put_u8(b'T');
            to.put_u64(*seconds);
        }
        Value::Array(values) => {
            let mut inner = BytesMut::new();
            for value in values {
                put_value(&mut inner, value)?;
            }
            to.put_u8(b'A');
            put_long_text(to, &inner)?;
        }
        Value::Table(table) => {
            to.put_u8(b'F');
            put_table(to, table)?;
        }
    }
    Ok(())
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Bytes::copy_from_slice(text.as_bytes()))
    }
}

/// As Go prints it, which is how the reference makes metadata of headers.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Void => f.write_str("<nil>"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value}"),
            Self::Decimal(scale, value) => write!(f, "{{{scale} {value}}}"),
            Self::Text(text) => f.write_str(&String::from_utf8_lossy(text)),
            Self::Time(seconds) => write!(f, "{seconds}"),
            Self::Array(values) => {
                f.write_str("[")?;
                for (number, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if number == 0 { "" } else { " " })?;
                }
                f.write_str("]")
            }
            Self::Table(table) => {
                f.write_str("map[")?;
                for (number, (name, value)) in table.iter().enumerate() {
                    write!(f, "{}{name}:{value}", if number == 0 { "" } else { " " })?;
                }
                f.write_str("]")
            }
        }
    }
}

fn short() -> Failure {
    Failure::Malformed("a frame ends too early")
}
