//! From binary to JSON.

use super::{DEPTH, Fault, Id, Json, Schema, Type, shortest};
use crate::wire::{Malformed, Take};
use bytes::{Buf as _, Bytes};
use std::collections::HashSet;
use std::fmt;

/// Of the JSON of one value.
const LONGEST: usize = 64 << 20;

pub(super) fn decode(schema: &Schema, value: Bytes, json: Json) -> Result<Vec<u8>, Fault> {
    let mut decoder = Decoder {
        schema,
        json,
        out: Vec::with_capacity(value.len().saturating_mul(2).min(LONGEST)),
        from: Take(value),
    };
    decoder.take(schema.root, 0)?;
    Ok(decoder.out)
}

struct Decoder<'a> {
    schema: &'a Schema,
    json: Json,
    from: Take,
    out: Vec<u8>,
}

impl Decoder<'_> {
    fn take(&mut self, kind: Id, depth: usize) -> Result<(), Fault> {
        if depth > DEPTH {
            return Err(Fault::new(format!("values are more than {DEPTH} levels deep")));
        }
        if self.out.len() > LONGEST {
            return Err(Fault::new(format!(
                "the value is more than {} MiB of JSON",
                LONGEST >> 20
            )));
        }
        let schema = self.schema;
        match schema.kind(kind) {
            Type::Null => self.say("null"),
            Type::Boolean => match self.from.i8()? {
                0 => self.say("false"),
                1 => self.say("true"),
                _ => return Err(Fault::new("a boolean is neither 0 nor 1")),
            },
            Type::Int => {
                let number =
                    i32::try_from(self.from.varint()?).map_err(|_| Fault::new("an int is too large"))?;
                self.say(&number.to_string());
            }
            Type::Long => {
                let number = self.from.varint()?;
                self.say(&number.to_string());
            }
            Type::Float => {
                let number = self.from.0.try_get_f32_le().map_err(|_| short())?;
                self.float(number);
            }
            Type::Double => {
                let number = self.from.0.try_get_f64_le().map_err(|_| short())?;
                self.float(number);
            }
            Type::Bytes { decimal } => {
                let bytes = self.lengthy()?;
                self.bytes(if *decimal { shortest(&bytes) } else { &bytes });
            }
            Type::Fixed(size) => {
                if self.from.0.len() < *size {
                    return Err(short());
                }
                let bytes = self.from.0.split_to(*size);
                self.bytes(&bytes);
            }
            Type::Text(pattern) => {
                let bytes = self.lengthy()?;
                let text = String::from_utf8_lossy(&bytes);
                if pattern.as_ref().is_some_and(|pattern| !pattern.is_match(&text)) {
                    return Err(Fault::new("a text does not match the schema's pattern"));
                }
                self.text(&text)?;
            }
            Type::Enum(symbols) => {
                let place = usize::try_from(self.from.varint()?).ok();
                let symbol = place.and_then(|place| symbols.get(place));
                self.text(symbol.ok_or(Fault::new("an enum has no symbol of this number"))?)?;
            }
            Type::Record(fields) => {
                self.say("{");
                for (place, field) in fields.iter().enumerate() {
                    if place > 0 {
                        self.say(",");
                    }
                    self.text(&field.name)?;
                    self.say(":");
                    self.take(field.kind, depth + 1)
                        .map_err(|fault| fault.in_field(&field.name))?;
                }
                self.say("}");
            }
            Type::Array(kind) => {
                self.say("[");
                let mut place = 0;
                while let Some(count) = self.block()? {
                    for _ in 0..count {
                        if place > 0 {
                            self.say(",");
                        }
                        self.take(*kind, depth + 1)
                            .map_err(|fault| fault.in_item(place))?;
                        place += 1;
                    }
                }
                self.say("]");
            }
            Type::Map(kind) => {
                self.say("{");
                let mut names = HashSet::new();
                while let Some(count) = self.block()? {
                    for _ in 0..count {
                        if !names.is_empty() {
                            self.say(",");
                        }
                        let name = self.lengthy()?;
                        let text = String::from_utf8_lossy(&name);
                        self.text(&text)?;
                        self.say(":");
                        self.take(*kind, depth + 1)
                            .map_err(|fault| fault.in_field(&text))?;
                        if !names.insert(name.clone()) {
                            return Err(Fault::new("a key is there twice").in_field(&text));
                        }
                    }
                }
                self.say("}");
            }
            Type::Union(union) => {
                let place = usize::try_from(self.from.varint()?).ok();
                let branch = place.and_then(|place| union.branches.get(place));
                let branch = branch.ok_or(Fault::new("a union has no branch of this number"))?;
                let names = self.json == Json::Avro && place != union.null;
                if names {
                    self.say("{");
                    self.text(&branch.name)?;
                    self.say(":");
                }
                self.take(branch.kind, depth + 1)?;
                if names {
                    self.say("}");
                }
            }
        }
        Ok(())
    }

    /// How many items follow; `None` at the end. Whether there are that many is seen when they are taken.
    fn block(&mut self) -> Result<Option<u64>, Fault> {
        let count = self.from.varint()?;
        if count < 0 {
            let _bytes = self.from.varint()?;
        }
        Ok(Some(count.unsigned_abs()).filter(|count| *count > 0))
    }

    fn lengthy(&mut self) -> Result<Bytes, Fault> {
        self.from.varbytes()?.ok_or(short())
    }

    fn say(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn text(&mut self, text: &str) -> Result<(), Fault> {
        serde_json::to_writer(&mut self.out, text).map_err(|error| Fault::new(error.to_string()))
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.out.push(b'"');
        for byte in bytes {
            match byte {
                b'"' | b'\\' => self.out.extend([b'\\', *byte]),
                b' '..=b'~' => self.out.push(*byte),
                _ => self.say(&format!("\\u{byte:04x}")),
            }
        }
        self.out.push(b'"');
    }

    /// COMPAT(Go strconv.AppendFloat with 'g' and the least digits): with an exponent from a million on.
    fn float<T: fmt::Display + fmt::LowerExp + Into<f64> + Copy>(&mut self, number: T) {
        let wide: f64 = number.into();
        if wide.is_nan() {
            return self.say("null");
        }
        if wide.is_infinite() {
            return self.say(if wide > 0.0 { "1e999" } else { "-1e999" });
        }
        let scientific = format!("{number:e}");
        let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        let exponent: i32 = exponent.parse().unwrap_or_default();
        if (-4..6).contains(&exponent) {
            return self.say(&number.to_string());
        }
        let sign = if exponent < 0 { '-' } else { '+' };
        self.say(&format!("{digits}e{sign}{:02}", exponent.unsigned_abs()));
    }
}

fn short() -> Fault {
    Fault::new("the value ends too early")
}

impl From<Malformed> for Fault {
    fn from(Malformed(what): Malformed) -> Self {
        Self::new(format!(
            "{what} is not as it should be, or the value ends too early"
        ))
    }
}
