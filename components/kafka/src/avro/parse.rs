//! Schemas out of their JSON.

use super::{Branch, Default, Fault, Field, Id, Schema, Type, Union, encode};
use bytes::BytesMut;
use regex::Regex;
use serde_json::{Map, Value};
use std::collections::HashMap;

type Object = Map<String, Value>;

pub(super) fn parse(text: &str) -> Result<Schema, Fault> {
    let json: Value =
        serde_json::from_str(text).map_err(|error| Fault::new(format!("the schema is not JSON: {error}")))?;
    let mut parser = Parser::default();
    let root = parser.any(&json, "")?;
    let mut schema = Schema {
        types: parser.types,
        root,
    };
    encode_defaults(&mut schema)?;
    Ok(schema)
}

#[derive(Default)]
struct Parser {
    types: Vec<Type>,
    /// What a type is called as a branch of a union, by its place.
    names: Vec<String>,
    /// Records, enums and fixed types by their full names.
    known: HashMap<String, Id>,
}

impl Parser {
    fn any(&mut self, schema: &Value, space: &str) -> Result<Id, Fault> {
        match schema {
            Value::String(name) => self.named(name, space, &Object::new()),
            Value::Array(branches) => self.union(branches, space),
            Value::Object(object) => match object.get("type") {
                Some(Value::String(name)) => self.named(name, space, object),
                Some(inner @ (Value::Object(_) | Value::Array(_))) => self.any(inner, space),
                _ => Err(Fault::new("a type of the schema has no \"type\"")),
            },
            _ => Err(Fault::new(
                "a type of the schema is neither text, object nor list",
            )),
        }
    }

    /// What a name means, with what stands beside it.
    fn named(&mut self, name: &str, space: &str, object: &Object) -> Result<Id, Fault> {
        let logical = object
            .get("logicalType")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let plain = match (name, logical) {
            ("null", _) => Type::Null,
            ("boolean", _) => Type::Boolean,
            ("int", _) => Type::Int,
            ("long", _) => Type::Long,
            ("float", _) => Type::Float,
            ("double", _) => Type::Double,
            ("bytes", _) => Type::Bytes {
                decimal: logical == "decimal" && is_decimal(object),
            },
            ("string", "validated-string") => Type::Text(Some(pattern(object)?)),
            ("string", _) => Type::Text(None),
            ("record", _) => return self.record(space, object),
            ("enum", _) => return self.enumeration(space, object),
            ("fixed", _) => return self.fixed(space, object),
            ("array", _) => {
                let items = object
                    .get("items")
                    .ok_or(Fault::new("an array of the schema has no \"items\""))?;
                let kind = self.any(items, space)?;
                return Ok(self.add(Type::Array(kind), name.to_owned()));
            }
            ("map", _) => {
                let values = object
                    .get("values")
                    .ok_or(Fault::new("a map of the schema has no \"values\""))?;
                let kind = self.any(values, space)?;
                return Ok(self.add(Type::Map(kind), name.to_owned()));
            }
            _ => return self.known(name, space),
        };
        let is_logical = matches!(
            (name, logical, &plain),
            ("long", "timestamp-millis" | "timestamp-micros" | "time-micros", _)
                | ("int", "time-millis" | "date", _)
                | (_, _, Type::Bytes { decimal: true } | Type::Text(Some(_)))
        );
        let name = if is_logical {
            let own = object.get("name").and_then(Value::as_str);
            match own.filter(|_| matches!(name, "bytes" | "string")) {
                Some(own) => full_name(own, object, space).0,
                None => format!("{name}.{logical}"),
            }
        } else {
            name.to_owned()
        };
        Ok(self.add(plain, name))
    }

    fn known(&self, name: &str, space: &str) -> Result<Id, Fault> {
        let nearby = || self.known.get(&format!("{space}.{name}"));
        self.known.get(name).or_else(nearby).copied().ok_or_else(|| {
            Fault::new(format!(
                "type {name:?} is not defined in the schema (schemas that refer to other subjects are not supported)"
            ))
        })
    }

    fn record(&mut self, space: &str, object: &Object) -> Result<Id, Fault> {
        let (name, space) = self.name(space, object)?;
        // Known before its fields are, since they may mean it.
        let id = self.add(Type::Record(Vec::new()), name.clone());
        self.known.insert(name.clone(), id);
        let listed = object.get("fields").and_then(Value::as_array);
        let listed = listed.ok_or_else(|| Fault::new(format!("record {name} has no list \"fields\"")))?;
        let mut fields: Vec<Field> = Vec::with_capacity(listed.len());
        for field in listed {
            let Some((object, own)) = field.as_object().and_then(|object| {
                let name = object.get("name")?.as_str()?;
                Some((object, name))
            }) else {
                return Err(Fault::new(format!("a field of record {name} has no name")));
            };
            let own = own.rsplit('.').next().unwrap_or(own);
            if fields.iter().any(|field| field.name == own) {
                return Err(Fault::new(format!("record {name} has two fields {own}")));
            }
            fields.push(Field {
                name: own.to_owned(),
                kind: self.any(field, &space).map_err(|fault| fault.in_field(own))?,
                default: match object.get("default") {
                    Some(value) => Default::Json(value.to_string()),
                    None => Default::None,
                },
            });
        }
        self.types[id] = Type::Record(fields);
        Ok(id)
    }

    fn enumeration(&mut self, space: &str, object: &Object) -> Result<Id, Fault> {
        let (name, _) = self.name(space, object)?;
        let symbols = object.get("symbols").and_then(Value::as_array);
        let symbols: Option<Vec<String>> = symbols.and_then(|symbols| {
            let texts = symbols.iter().map(|symbol| symbol.as_str().map(str::to_owned));
            texts.collect()
        });
        match symbols.filter(|symbols| !symbols.is_empty()) {
            Some(symbols) => Ok(self.define(name, Type::Enum(symbols))),
            None => Err(Fault::new(format!("enum {name} has no \"symbols\""))),
        }
    }

    fn fixed(&mut self, space: &str, object: &Object) -> Result<Id, Fault> {
        let (name, _) = self.name(space, object)?;
        let size = match object.get("size") {
            Some(Value::String(text)) => text.parse().ok(),
            Some(number) => number.as_u64().and_then(|size| usize::try_from(size).ok()),
            None => None,
        };
        match size.filter(|size| *size > 0) {
            Some(size) => Ok(self.define(name, Type::Fixed(size))),
            None => Err(Fault::new(format!(
                "fixed type {name} has no \"size\" above zero"
            ))),
        }
    }

    fn union(&mut self, listed: &[Value], space: &str) -> Result<Id, Fault> {
        let mut branches: Vec<Branch> = Vec::with_capacity(listed.len());
        for branch in listed {
            let kind = self.any(branch, space)?;
            let name = self.names[kind].clone();
            if matches!(self.types[kind], Type::Union(_)) {
                return Err(Fault::new("a union of the schema is a branch of another"));
            }
            if branches.iter().any(|branch| branch.name == name) {
                return Err(Fault::new(format!(
                    "a union of the schema has two branches {name}"
                )));
            }
            branches.push(Branch { name, kind });
        }
        if branches.is_empty() {
            return Err(Fault::new("a union of the schema has no branches"));
        }
        let mut by_name: Vec<usize> = (0..branches.len()).collect();
        by_name.sort_by(|one, other| branches[*one].name.cmp(&branches[*other].name));
        let null = branches
            .iter()
            .position(|branch| matches!(self.types[branch.kind], Type::Null));
        let union = Union {
            branches,
            by_name,
            null,
        };
        Ok(self.add(Type::Union(union), "union".to_owned()))
    }

    fn add(&mut self, kind: Type, name: String) -> Id {
        self.types.push(kind);
        self.names.push(name);
        self.types.len() - 1
    }

    fn define(&mut self, name: String, kind: Type) -> Id {
        let id = self.add(kind, name.clone());
        self.known.insert(name, id);
        id
    }

    /// The full name, and the namespace for what is within.
    fn name(&self, space: &str, object: &Object) -> Result<(String, String), Fault> {
        match object.get("name").and_then(Value::as_str) {
            Some(name) if !name.is_empty() => Ok(full_name(name, object, space)),
            _ => Err(Fault::new(
                "a record, enum or fixed type of the schema has no name",
            )),
        }
    }
}

fn full_name(name: &str, object: &Object, space: &str) -> (String, String) {
    if let Some((before, _)) = name.rsplit_once('.') {
        return (name.to_owned(), before.to_owned());
    }
    let own = object.get("namespace").and_then(Value::as_str);
    match own.filter(|own| !own.is_empty()).unwrap_or(space) {
        "" => (name.to_owned(), String::new()),
        space => (format!("{space}.{name}"), space.to_owned()),
    }
}

/// What is no proper decimal counts as bytes, as the specification has it.
fn is_decimal(object: &Object) -> bool {
    let precision = object.get("precision").and_then(Value::as_u64).unwrap_or(0);
    let scale = object.get("scale").map_or(Some(0), Value::as_u64);
    precision > 0 && scale.is_some_and(|scale| scale <= precision)
}

fn pattern(object: &Object) -> Result<Regex, Fault> {
    let pattern = object.get("pattern").and_then(Value::as_str);
    let pattern = pattern.ok_or(Fault::new("a validated-string of the schema has no \"pattern\""))?;
    Regex::new(pattern.trim())
        .map_err(|error| Fault::new(format!("the pattern of a validated-string is wrong: {error}")))
}

/// Once and for all, so that a default that does not fit is known before a value needs it.
fn encode_defaults(schema: &mut Schema) -> Result<(), Fault> {
    for id in 0..schema.types.len() {
        let mut encoded = Vec::new();
        if let Type::Record(fields) = schema.kind(id) {
            for (place, field) in fields.iter().enumerate() {
                if let Default::Json(default) = &field.default {
                    let mut bytes = BytesMut::new();
                    encode::default(schema, field.kind, default, &mut bytes)
                        .map_err(|fault| fault.in_field("default").in_field(&field.name))?;
                    encoded.push((place, bytes.freeze()));
                }
            }
        }
        if let Type::Record(fields) = &mut schema.types[id] {
            for (place, bytes) in encoded {
                fields[place].default = Default::Encoded(bytes);
            }
        }
    }
    Ok(())
}
