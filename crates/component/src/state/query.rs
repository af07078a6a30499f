//! Queries: which values, in which order, which page. Read here, and answered here for stores that look at every value
//! themselves ([`Matcher`]).
//!
//! COMPAT(components-contrib state/query): the language and the texts of what is wrong with a query. What it means is
//! said nowhere; here: a path names members of objects and positions in arrays, separated by dots; a value without
//! that path matches nothing, not even `NEQ`; numbers are compared as numbers, texts by their characters, and other kinds
//! only for equality; values without the path that is sorted by come last.

use crate::error::{Error, Result};
use crate::metadata::Metadata;
use bytes::Bytes;
use serde_json::{Map, Value};
use std::cmp::Ordering;

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Query {
    pub filter: Option<Filter>,
    /// The first decides, the next where it does not.
    pub sort: Vec<Sort>,
    /// Values of a page at most; 0 is all.
    pub limit: usize,
    /// From the page before.
    pub token: Option<String>,
    /// Only keys that begin so and have no further `||`. Set by the runtime, not by the query.
    pub prefix: String,
    pub metadata: Metadata,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    Compare(Operator, Path, Value),
    In(Path, Vec<Value>),
    And(Vec<Filter>),
    Or(Vec<Filter>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

/// Members and positions, outermost first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path(Vec<String>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sort {
    pub path: Path,
    pub descending: bool,
}

/// A value that matches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    pub key: String,
    pub value: Bytes,
    pub etag: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    pub results: Vec<Found>,
    /// Asks for the next page; `None` on the last.
    pub token: Option<String>,
    pub metadata: Metadata,
}

impl Query {
    /// Reads a query. `Err`: what is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let mut fields: Map<String, Value> =
            serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let mut query = Self::default();
        match take(&mut fields, "filter") {
            Value::Null => {}
            Value::Object(filter) if filter.is_empty() => {}
            filter @ Value::Object(_) => query.filter = Some(Filter::read(filter)?),
            _ => return Err("filter must be an object".to_owned()),
        }
        match take(&mut fields, "sort") {
            Value::Null => {}
            Value::Array(keys) => query.sort = keys.into_iter().map(Sort::read).collect::<Result<_, _>>()?,
            _ => return Err("sort must be an array".to_owned()),
        }
        match take(&mut fields, "page") {
            Value::Null => {}
            Value::Object(mut page) => {
                query.limit = match take(&mut page, "limit") {
                    Value::Null => 0,
                    limit => limit
                        .as_u64()
                        .and_then(|limit| usize::try_from(limit).ok())
                        .ok_or("page limit must be a whole number")?,
                };
                query.token = match take(&mut page, "token") {
                    Value::Null => None,
                    Value::String(token) => Some(token).filter(|token| !token.is_empty()),
                    _ => return Err("page token must be a text".to_owned()),
                };
            }
            _ => return Err("page must be an object".to_owned()),
        }
        Ok(query)
    }
}

/// Names in any case, as Go reads them; the exact one wins.
fn take(fields: &mut Map<String, Value>, name: &str) -> Value {
    if let Some(value) = fields.remove(name) {
        return value;
    }
    let other = fields.keys().find(|key| key.eq_ignore_ascii_case(name)).cloned();
    other.and_then(|key| fields.remove(&key)).unwrap_or_default()
}

impl Filter {
    /// The reader of JSON bounds how deep it can be.
    fn read(unit: Value) -> Result<Self, String> {
        let Value::Object(unit) = unit else {
            return Err("filter unit must be a map".to_owned());
        };
        let mut parts = unit.into_iter();
        let (Some((name, operand)), None) = (parts.next(), parts.next()) else {
            return Err("filter unit must have a single element".to_owned());
        };
        let operator = match name.as_str() {
            "EQ" => Operator::Equal,
            "NEQ" => Operator::NotEqual,
            "GT" => Operator::Greater,
            "GTE" => Operator::GreaterOrEqual,
            "LT" => Operator::Less,
            "LTE" => Operator::LessOrEqual,
            "IN" => {
                let (path, values) = pair("IN", operand)?;
                let Value::Array(values) = values else {
                    return Err("IN filter value must be an array".to_owned());
                };
                return Ok(Self::In(path, values));
            }
            "AND" => return Ok(Self::And(several("AND", operand)?)),
            "OR" => return Ok(Self::Or(several("OR", operand)?)),
            other => return Err(format!("unsupported filter {other:?}")),
        };
        let (path, value) = pair(&name, operand)?;
        Ok(Self::Compare(operator, path, value))
    }

    pub fn matches(&self, value: &Value) -> bool {
        match self {
            Self::Compare(operator, path, with) => {
                path.of(value).is_some_and(|found| operator.holds(found, with))
            }
            Self::In(path, values) => path
                .of(value)
                .is_some_and(|found| values.iter().any(|value| equal(found, value))),
            Self::And(filters) => filters.iter().all(|filter| filter.matches(value)),
            Self::Or(filters) => filters.iter().any(|filter| filter.matches(value)),
        }
    }
}

fn pair(name: &str, operand: Value) -> Result<(Path, Value), String> {
    let Value::Object(operand) = operand else {
        return Err(format!("{name} filter must be a map"));
    };
    let mut parts = operand.into_iter();
    let (Some((path, value)), None) = (parts.next(), parts.next()) else {
        return Err(format!("{name} filter must contain a single key/value pair"));
    };
    Ok((Path::read(&path), value))
}

fn several(name: &str, operand: Value) -> Result<Vec<Filter>, String> {
    let Value::Array(units) = operand else {
        return Err(format!("{name} filter must be an array"));
    };
    if units.len() < 2 {
        return Err(format!("{name} filter must contain at least two entries"));
    }
    units.into_iter().map(Filter::read).collect()
}

impl Operator {
    fn holds(self, found: &Value, with: &Value) -> bool {
        let order = || order(found, with);
        match self {
            Self::Equal => equal(found, with),
            Self::NotEqual => !equal(found, with),
            Self::Greater => order() == Some(Ordering::Greater),
            Self::GreaterOrEqual => order().is_some_and(Ordering::is_ge),
            Self::Less => order() == Some(Ordering::Less),
            Self::LessOrEqual => order().is_some_and(Ordering::is_le),
        }
    }
}

/// `1` and `1.0` are the same number.
fn equal(one: &Value, other: &Value) -> bool {
    one == other || (one.is_number() && order(one, other) == Some(Ordering::Equal))
}

/// `None` for values that cannot be told apart by more or less.
fn order(one: &Value, other: &Value) -> Option<Ordering> {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => match (one.as_i64(), other.as_i64()) {
            (Some(one), Some(other)) => Some(one.cmp(&other)),
            _ => one.as_f64()?.partial_cmp(&other.as_f64()?),
        },
        (Value::String(one), Value::String(other)) => Some(one.cmp(other)),
        _ => None,
    }
}

impl Path {
    fn read(text: &str) -> Self {
        Self(text.split('.').map(str::to_owned).collect())
    }

    fn of<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        self.0.iter().try_fold(value, |value, step| match value {
            Value::Object(members) => members.get(step),
            Value::Array(items) => items.get(step.parse::<usize>().ok()?),
            _ => None,
        })
    }
}

impl Sort {
    fn read(value: Value) -> Result<Self, String> {
        let Value::Object(mut fields) = value else {
            return Err("sort entry must be an object".to_owned());
        };
        let Value::String(key) = take(&mut fields, "key") else {
            return Err("sort entry must have a key".to_owned());
        };
        let descending = match take(&mut fields, "order") {
            Value::Null => false,
            Value::String(order) => match order.to_ascii_uppercase().as_str() {
                "" | "ASC" => false,
                "DESC" => true,
                _ => return Err(format!("sort order must be ASC or DESC, not {order:?}")),
            },
            _ => return Err("sort order must be ASC or DESC".to_owned()),
        };
        Ok(Self {
            path: Path::read(&key),
            descending,
        })
    }
}

/// Picks a page out of all values of a store, which are [offered](Matcher::offer) one by one in the order of their keys.
///
/// It holds no more than about twice what the page and those before it have, unless the page is unlimited.
pub struct Matcher<'q> {
    query: &'q Query,
    /// Results of earlier pages.
    skip: usize,
    /// With what they are sorted by.
    found: Vec<(Vec<Option<Value>>, Found)>,
}

impl<'q> Matcher<'q> {
    /// # Errors
    /// `Invalid`: the token is none of ours.
    pub fn new(query: &'q Query) -> Result<Self> {
        let skip = match &query.token {
            None => 0,
            Some(token) => token.parse().map_err(|_| {
                Error::invalid(format!(
                    "invalid page token {token:?}: use the one of the page before"
                ))
            })?,
        };
        Ok(Self {
            query,
            skip,
            found: Vec::new(),
        })
    }

    /// A value that is no JSON matches a query without a filter only.
    ///
    /// Keys with a further `||` after the prefix belong to somebody below, as for deleting by prefix.
    pub fn offer(&mut self, found: Found) {
        let own = found.key.strip_prefix(&self.query.prefix);
        if own.is_none_or(|rest| rest.contains("||")) {
            return;
        }
        let needed = self.query.filter.is_some() || !self.query.sort.is_empty();
        let value = needed
            .then(|| serde_json::from_slice::<Value>(&found.value).ok())
            .flatten();
        if let Some(filter) = &self.query.filter
            && !value.as_ref().is_some_and(|value| filter.matches(value))
        {
            return;
        }
        let rank = self.query.sort.iter().map(|sort| {
            let value = value.as_ref()?;
            sort.path.of(value).cloned()
        });
        self.found.push((rank.collect(), found));
        if let Some(most) = self.most()
            && self.found.len() > most.saturating_mul(2).max(64)
        {
            self.sort();
            self.found.truncate(most);
        }
    }

    pub fn page(mut self) -> Page {
        self.sort();
        let limit = match self.query.limit {
            0 => usize::MAX,
            limit => limit,
        };
        let end = self.skip.saturating_add(limit);
        Page {
            token: (self.found.len() > end).then(|| end.to_string()),
            results: self
                .found
                .into_iter()
                .skip(self.skip)
                .take(limit)
                .map(|(_, found)| found)
                .collect(),
            metadata: Metadata::new(),
        }
    }

    /// One more than is shown, to know whether there is another page.
    fn most(&self) -> Option<usize> {
        match self.query.limit {
            0 => None,
            limit => self.skip.checked_add(limit)?.checked_add(1),
        }
    }

    /// Stable: what is the same stays in the order of keys.
    fn sort(&mut self) {
        let sort = &self.query.sort;
        if sort.is_empty() {
            return;
        }
        self.found.sort_by(|(one, _), (other, _)| {
            for ((sort, one), other) in sort.iter().zip(one).zip(other) {
                let ordering = match (one, other) {
                    (None, None) => Ordering::Equal,
                    (None, Some(_)) => Ordering::Greater,
                    (Some(_), None) => Ordering::Less,
                    (Some(one), Some(other)) => {
                        let ordering = ranked(one, other);
                        if sort.descending {
                            ordering.reverse()
                        } else {
                            ordering
                        }
                    }
                };
                if ordering.is_ne() {
                    return ordering;
                }
            }
            Ordering::Equal
        });
    }
}

/// Numbers before texts before everything else, so that there is an order at all.
fn ranked(one: &Value, other: &Value) -> Ordering {
    let class = |value: &Value| match value {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) | Value::Object(_) => 3,
        Value::Null => 4,
    };
    class(one).cmp(&class(other)).then_with(|| match (one, other) {
        (Value::Bool(one), Value::Bool(other)) => one.cmp(other),
        _ => order(one, other).unwrap_or(Ordering::Equal),
    })
}

#[cfg(test)]
mod tests;
