//! W3C baggage: validation, and the normal form that gRPC gets.
//!
//! COMPAT(go.opentelemetry.io/otel/baggage): limits, which texts are refused, and the texts of the refusals.

use std::fmt::{self, Display};

use crate::log::format::quoted;

/// Valid baggage. `Display` is its normal form: members without surrounding blanks, values escaped afresh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Baggage {
    members: Vec<Member>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    key: String,
    value: Vec<u8>,
    properties: Vec<Property>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Property {
    key: String,
    value: Option<Vec<u8>>,
}

/// Baggage that is refused; one reason per line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(String);

const MAX_MEMBERS: usize = 64;
const MAX_BYTES: usize = 8192;
/// Reasons that are spelled out; further ones are counted.
const MAX_REASONS: usize = 5;

impl Baggage {
    /// Reads a header value; several headers are joined with commas before. Empty text is empty baggage; of members
    /// with the same key, the last counts.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let mut baggage = Self { members: Vec::new() };
        if text.is_empty() {
            return Ok(baggage);
        }
        if text.len() > MAX_BYTES {
            return Err(Invalid(format!("baggage-string too large: {}", text.len())));
        }
        let mut reasons = Vec::new();
        let mut invalid = 0;
        for member in text.split(',') {
            if baggage.members.len() >= MAX_MEMBERS {
                reasons.push("too many list-members in baggage-string".to_owned());
                break;
            }
            match Member::parse(member) {
                Ok(member) => {
                    baggage.put(member);
                    if baggage.to_string().len() > MAX_BYTES {
                        reasons.push("baggage-string too large".to_owned());
                        break;
                    }
                }
                Err(reason) => {
                    invalid += 1;
                    if invalid <= MAX_REASONS {
                        reasons.push(reason);
                    }
                }
            }
        }
        if invalid > MAX_REASONS {
            reasons.push(format!("and {} more invalid member(s)", invalid - MAX_REASONS));
        }
        if reasons.is_empty() {
            Ok(baggage)
        } else {
            Err(Invalid(reasons.join("\n")))
        }
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    fn put(&mut self, member: Member) {
        match self.members.iter_mut().find(|present| present.key == member.key) {
            Some(present) => *present = member,
            None => self.members.push(member),
        }
    }
}

impl Member {
    fn parse(text: &str) -> Result<Self, String> {
        let (pair, rest) = match text.split_once(';') {
            Some((pair, rest)) => (pair, Some(rest)),
            None => (text, None),
        };
        let mut properties = Vec::new();
        for property in rest
            .into_iter()
            .flat_map(|rest| rest.split(';'))
            .filter(|property| !property.is_empty())
        {
            properties.push(
                Property::parse(property)
                    .ok_or_else(|| format!("invalid baggage list-member property: {}", quoted(property)))?,
            );
        }
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| format!("invalid baggage list-member: {}", quoted(text)))?;
        let key = key.trim();
        if key.is_empty() || !key.bytes().all(is_key) {
            return Err(format!("invalid key: {}", quoted(key)));
        }
        if !value.trim().bytes().all(is_value) {
            return Err(format!("invalid value: {}", quoted(value)));
        }
        let value = unescape(value.trim())
            .map_err(|escape| format!("invalid value: invalid URL escape {}", quoted(&escape)))?;
        Ok(Self {
            key: key.to_owned(),
            value,
            properties,
        })
    }
}

impl Property {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim_start_matches(BLANK);
        let end = text.bytes().position(|byte| !is_key(byte)).unwrap_or(text.len());
        let (key, rest) = text.split_at(end);
        let rest = rest.trim_start_matches(BLANK);
        if key.is_empty() {
            return None;
        }
        if rest.is_empty() {
            return Some(Self {
                key: key.to_owned(),
                value: None,
            });
        }
        let value = rest.strip_prefix('=')?.trim_matches(BLANK);
        if !value.bytes().all(is_value) {
            return None;
        }
        Some(Self {
            key: key.to_owned(),
            value: Some(unescape(value).ok()?),
        })
    }
}

impl Display for Baggage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for member in &self.members {
            write!(f, "{separator}{}={}", member.key, Escaped(&member.value))?;
            separator = ",";
            for property in &member.properties {
                write!(f, ";{}", property.key)?;
                if let Some(value) = &property.value {
                    write!(f, "={}", Escaped(value))?;
                }
            }
        }
        Ok(())
    }
}

struct Escaped<'a>(&'a [u8]);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            if is_value(*byte) && *byte != b'%' {
                write!(f, "{}", char::from(*byte))?;
            } else {
                write!(f, "%{byte:02X}")?;
            }
        }
        Ok(())
    }
}

const BLANK: [char; 2] = [' ', '\t'];

/// A `token` of HTTP.
fn is_key(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// Printable ASCII but blank, quote, comma, semicolon and backslash.
fn is_value(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~') && !matches!(byte, b'"' | b',' | b';' | b'\\')
}

/// Percent-decodes; bytes that are then no UTF-8 are replaced. Fails with the first broken escape.
fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes();
    while let [first, rest @ ..] = bytes {
        if *first != b'%' {
            out.push(*first);
            bytes = rest;
            continue;
        }
        let decoded = rest
            .get(..2)
            .filter(|pair| pair.iter().all(u8::is_ascii_hexdigit))
            .and_then(|pair| std::str::from_utf8(pair).ok())
            .and_then(|pair| u8::from_str_radix(pair, 16).ok());
        let Some(byte) = decoded else {
            let length = bytes.len().min(3);
            return Err(String::from_utf8_lossy(&bytes[..length]).into_owned());
        };
        out.push(byte);
        bytes = &rest[2..];
    }
    Ok(match String::from_utf8(out) {
        Ok(text) => text.into_bytes(),
        Err(error) => String::from_utf8_lossy(error.as_bytes())
            .into_owned()
            .into_bytes(),
    })
}
