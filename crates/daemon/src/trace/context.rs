//! Trace context: `traceparent` and `tracestate` of the W3C recommendation, and `grpc-trace-bin` of OpenCensus.
//!
//! COMPAT(pkg/diagnostics/tracing.go, utils/trace_utils.go): versions up to 254 are read, 00 is written; what cannot be
//! read counts as absent, never as an error.

use std::fmt::{self, Display};
use std::sync::Arc;

/// Where in which trace we are.
#[derive(Clone, PartialEq, Eq)]
pub struct Context {
    /// Not zero.
    trace_id: u128,
    /// Not zero.
    span_id: u64,
    flags: u8,
    state: Option<Arc<str>>,
}

/// A `traceparent` value, without allocation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Traceparent([u8; 55]);

const SAMPLED: u8 = 1;
/// Largest version that is read; 255 is forbidden by the recommendation.
const MAX_VERSION: u8 = 254;
/// Longest `tracestate` that is kept, in bytes.
const MAX_STATE: usize = 512;
/// Most members of a `tracestate`.
const MAX_STATE_MEMBERS: usize = 32;

impl Context {
    /// Reads `traceparent` and, if that is valid, `tracestate`. An invalid or overlong state is left out.
    pub fn from_headers(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let mut context = Self::from_traceparent(traceparent)?;
        context.state = tracestate.and_then(valid_state);
        Some(context)
    }

    /// Reads the binary form of gRPC: version 0, then fields 0 (trace id), 1 (span id), 2 (flags).
    pub fn from_binary(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(&[0, 0])?;
        let (trace_id, rest) = rest.split_first_chunk::<16>()?;
        let (span_id, rest) = rest.strip_prefix(&[1])?.split_first_chunk::<8>()?;
        let flags = match rest {
            [2, flags, ..] => *flags,
            _ => 0,
        };
        Self::valid(
            u128::from_be_bytes(*trace_id),
            u64::from_be_bytes(*span_id),
            flags,
        )
    }

    /// A span within `parent`'s trace, or the root of a new one. Flags other than "sampled" and the state are inherited.
    pub(super) fn child(trace_id: u128, span_id: u64, sampled: bool, parent: Option<&Self>) -> Self {
        let inherited = parent.map_or(0, |parent| parent.flags & !SAMPLED);
        Self {
            trace_id,
            span_id,
            flags: if sampled { inherited | SAMPLED } else { inherited },
            state: parent.and_then(|parent| parent.state.clone()),
        }
    }

    pub fn trace_id(&self) -> u128 {
        self.trace_id
    }

    pub fn span_id(&self) -> u64 {
        self.span_id
    }

    pub fn flags(&self) -> u8 {
        self.flags
    }

    pub fn sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The value of the `traceparent` header, and of a CloudEvent's `traceid` and `traceparent`.
    pub fn traceparent(&self) -> Traceparent {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let (_, rest) = text.split_at_mut(3);
        let (trace_id, rest) = rest.split_at_mut(32);
        let (span_id, flags) = rest[1..].split_at_mut(16);
        hex(&self.trace_id.to_be_bytes(), trace_id);
        hex(&self.span_id.to_be_bytes(), span_id);
        hex(&[self.flags], &mut flags[1..]);
        Traceparent(text)
    }

    /// The value of the `tracestate` header.
    pub fn tracestate(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// The value of `grpc-trace-bin`.
    pub fn binary(&self) -> [u8; 29] {
        let mut bytes = [0; 29];
        bytes[2..18].copy_from_slice(&self.trace_id.to_be_bytes());
        bytes[18] = 1;
        bytes[19..27].copy_from_slice(&self.span_id.to_be_bytes());
        bytes[27] = 2;
        bytes[28] = self.flags;
        bytes
    }

    fn from_traceparent(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace_id) = (parts.next()?, parts.next()?);
        let (span_id, flags) = (parts.next()?, parts.next()?);
        if version.len() != 2 || trace_id.len() != 32 || span_id.len() != 16 || flags.len() < 2 {
            return None;
        }
        let version = u8::from_str_radix(digits(version)?, 16).ok()?;
        if version > MAX_VERSION || (version == 0 && (parts.next().is_some() || flags.len() != 2)) {
            return None;
        }
        // The ids must be lower case, in the recommendation and in the reference.
        if [trace_id, span_id]
            .iter()
            .any(|id| id.bytes().any(|byte| byte.is_ascii_uppercase()))
        {
            return None;
        }
        Self::valid(
            u128::from_str_radix(digits(trace_id)?, 16).ok()?,
            u64::from_str_radix(digits(span_id)?, 16).ok()?,
            u8::from_str_radix(digits(flags.get(..2)?)?, 16).ok()?,
        )
    }

    fn valid(trace_id: u128, span_id: u64, flags: u8) -> Option<Self> {
        (trace_id != 0 && span_id != 0).then_some(Self {
            trace_id,
            span_id,
            flags,
            state: None,
        })
    }
}

impl Traceparent {
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("it is built from hexadecimal digits and dashes")
    }
}

impl Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({}, {:?})", self.traceparent(), self.tracestate())
    }
}

/// The text if it is hexadecimal digits only: number parsing would take a sign, too.
fn digits(text: &str) -> Option<&str> {
    text.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(text)
}

fn hex(bytes: &[u8], out: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(out.chunks_exact_mut(2)) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

/// The state with blanks around its members removed, or `None` if any of it is malformed.
fn valid_state(text: &str) -> Option<Arc<str>> {
    if text.is_empty() || text.len() > MAX_STATE {
        return None;
    }
    let mut keys: Vec<&str> = Vec::new();
    let mut out = String::with_capacity(text.len());
    for member in text.split(',') {
        let member = member.trim_matches([' ', '\t']);
        if member.is_empty() {
            continue;
        }
        let (key, value) = member.split_once('=')?;
        if !valid_key(key) || !valid_value(value) || keys.contains(&key) || keys.len() >= MAX_STATE_MEMBERS {
            return None;
        }
        keys.push(key);
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(member);
    }
    (!out.is_empty()).then(|| out.into())
}

/// `vendor` or `tenant@vendor`.
fn valid_key(key: &str) -> bool {
    let part = |part: &str, longest: usize, first: fn(u8) -> bool| {
        part.len() <= longest
            && part.bytes().next().is_some_and(first)
            && part.bytes().all(|byte| {
                byte.is_ascii_lowercase()
                    || byte.is_ascii_digit()
                    || matches!(byte, b'_' | b'-' | b'*' | b'/')
            })
    };
    match key.split_once('@') {
        Some((tenant, vendor)) => {
            part(tenant, 241, |byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit()
            }) && part(vendor, 14, |byte| byte.is_ascii_lowercase())
        }
        None => part(key, 256, |byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit()
        }),
    }
}

fn valid_value(value: &str) -> bool {
    !value.is_empty()
        && value.len() <= 256
        && value
            .bytes()
            .all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b',' | b'='))
        && !value.ends_with(' ')
}
