//! What a single YAML word means: null, boolean, number or text, by the rules of the reference's YAML 1.1 readers.
//! COMPAT(sigs.k8s.io/yaml goyaml.v2/resolve.go, gopkg.in/yaml.v3 resolve.go).

use super::Dialect;
use crate::go::float;

/// A scalar before its meaning is decided: that needs the dialect and, in Configuration files, the target type.
#[derive(Clone, PartialEq, Eq)]
pub struct Scalar {
    pub text: String,
    form: Form,
}

#[derive(Clone, PartialEq, Eq)]
enum Form {
    /// Unquoted: may be anything.
    Plain,
    /// Quoted, a block, or of a foreign tag: text.
    Text,
    /// `!!int` and the like.
    Tagged(String),
}

/// The meaning.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Meaning<'s> {
    Null,
    Boolean(bool),
    Integer(i64),
    /// Only beyond the range of `Integer`.
    Natural(u64),
    Float(f64),
    Text(&'s str),
}

impl Scalar {
    pub fn null() -> Self {
        Self::plain("")
    }

    pub fn plain(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            form: Form::Plain,
        }
    }

    pub fn text(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            form: Form::Text,
        }
    }

    /// `tag` is the name behind `!!`; `None` when the word cannot be what the tag says.
    pub fn tagged(text: &str, tag: &str, dialect: Dialect) -> Option<Self> {
        let fits = match (tag, plain(text, dialect)) {
            ("null", meaning) => meaning == Meaning::Null,
            ("bool", meaning) => matches!(meaning, Meaning::Boolean(_)),
            ("int", meaning) => matches!(meaning, Meaning::Integer(_) | Meaning::Natural(_)),
            ("float", meaning) => matches!(meaning, Meaning::Float(_) | Meaning::Integer(_)),
            _ => true,
        };
        fits.then(|| Self {
            text: text.to_owned(),
            form: match tag {
                "str" => Form::Text,
                tag => Form::Tagged(tag.to_owned()),
            },
        })
    }

    pub fn is_null(&self) -> bool {
        match &self.form {
            Form::Plain => matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL"),
            Form::Tagged(tag) => tag == "null",
            Form::Text => false,
        }
    }

    pub fn is_merge(&self) -> bool {
        match &self.form {
            Form::Plain => self.text == "<<",
            Form::Tagged(tag) => tag == "merge",
            Form::Text => false,
        }
    }

    /// What the word means where nothing particular is expected.
    pub fn meaning(&self, dialect: Dialect) -> Meaning<'_> {
        let text = self.text.as_str();
        match &self.form {
            Form::Text => Meaning::Text(text),
            Form::Plain => plain(text, dialect),
            Form::Tagged(tag) => match (tag.as_str(), plain(text, dialect)) {
                ("null", _) => Meaning::Null,
                // Exact enough: an integer written where a float is asked for.
                ("float", Meaning::Integer(value)) => Meaning::Float(value as f64),
                ("int" | "float" | "bool", meaning) => meaning,
                _ => Meaning::Text(text),
            },
        }
    }

    /// The boolean this word is where a boolean is expected.
    pub fn boolean(&self, dialect: Dialect) -> Option<bool> {
        match self.meaning(dialect) {
            Meaning::Boolean(value) => Some(value),
            Meaning::Text(text) if dialect == Dialect::Configuration => yes_or_no(text),
            _ => None,
        }
    }

    /// The text this word is where text is expected; null is no text.
    pub fn to_text(&self, dialect: Dialect) -> Option<String> {
        match (dialect, self.meaning(dialect)) {
            (_, Meaning::Null) => None,
            (Dialect::Configuration, _) => Some(self.text.clone()),
            (Dialect::Resource, meaning) => Some(meaning.to_text(float::shortest)),
        }
    }
}

impl Meaning<'_> {
    fn to_text(self, float: fn(f64) -> String) -> String {
        match self {
            Self::Null => String::new(),
            Self::Boolean(value) => value.to_string(),
            Self::Integer(value) => value.to_string(),
            Self::Natural(value) => value.to_string(),
            Self::Float(value) => float(value),
            Self::Text(text) => text.to_owned(),
        }
    }
}

/// A mapping key as text; `None` for null.
pub fn key(scalar: &Scalar, dialect: Dialect) -> Option<String> {
    let meaning = scalar.meaning(dialect);
    match (dialect, meaning) {
        (_, Meaning::Null) => None,
        (Dialect::Configuration, _) => Some(scalar.text.clone()),
        (Dialect::Resource, Meaning::Float(value)) if !value.is_finite() => {
            let name = if value.is_nan() {
                ".nan"
            } else if value > 0.0 {
                ".inf"
            } else {
                "-.inf"
            };
            Some(name.to_owned())
        }
        (Dialect::Resource, meaning) => Some(meaning.to_text(float::shortest)),
    }
}

fn plain(text: &str, dialect: Dialect) -> Meaning<'_> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Meaning::Null,
        "true" | "True" | "TRUE" => return Meaning::Boolean(true),
        "false" | "False" | "FALSE" => return Meaning::Boolean(false),
        ".nan" | ".NaN" | ".NAN" => return Meaning::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Meaning::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Meaning::Float(f64::NEG_INFINITY),
        _ => {}
    }
    if dialect == Dialect::Resource
        && let Some(value) = yes_or_no(text)
    {
        return Meaning::Boolean(value);
    }
    number(text).unwrap_or(Meaning::Text(text))
}

/// The booleans that YAML 1.1 has on top of `true` and `false`.
fn yes_or_no(text: &str) -> Option<bool> {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

fn number(text: &str) -> Option<Meaning<'_>> {
    match text.bytes().next()? {
        b'.' => decimal(text),
        b'+' | b'-' | b'0'..=b'9' => {
            let plain = text.replace('_', "");
            if let Some(integer) = integer(&plain) {
                return Some(integer);
            }
            decimal(&plain)
        }
        _ => None,
    }
}

/// A number too large for 64 bits stays text.
fn decimal(text: &str) -> Option<Meaning<'static>> {
    let value: f64 = is_decimal(text).then(|| text.parse().ok())??;
    value.is_finite().then_some(Meaning::Float(value))
}

/// Decimal, `0x`, `0b`, `0o` and the old octals (`0755`).
fn integer(text: &str) -> Option<Meaning<'static>> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = if let Some(digits) = lower.strip_prefix("0x") {
        (16, digits)
    } else if let Some(digits) = lower.strip_prefix("0b") {
        (2, digits)
    } else if let Some(digits) = lower.strip_prefix("0o") {
        (8, digits)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, lower.get(1..)?)
    } else {
        (10, lower.as_str())
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let size = u64::from_str_radix(digits, radix).ok()?;
    if negative {
        let value = 0_i64.checked_sub_unsigned(size)?;
        return Some(Meaning::Integer(value));
    }
    Some(i64::try_from(size).map_or(Meaning::Natural(size), Meaning::Integer))
}

/// `^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`
fn is_decimal(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => {
            let (mantissa, exponent) = text.split_at(at);
            (mantissa, exponent.get(1..))
        }
        None => (text, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let mantissa = match mantissa.split_once('.') {
        Some(("", fraction)) => digits(fraction),
        Some((whole, fraction)) => digits(whole) && (fraction.is_empty() || digits(fraction)),
        None => digits(mantissa),
    };
    mantissa && exponent.is_none_or(|exponent| digits(exponent.strip_prefix(['-', '+']).unwrap_or(exponent)))
}
