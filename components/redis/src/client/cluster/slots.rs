//! Which slot a request belongs to, and what a node says of who has which.

use crate::client::dial::Address;
use redis::{Arg, Cmd, Value};
use std::ops::RangeInclusive;

pub(super) const SLOTS: u16 = 16384;

/// A range of slots and their master.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub slots: RangeInclusive<u16>,
    pub address: Address,
}

/// CRC-16 (XMODEM) of the key, or of what stands in its first braces.
pub(super) fn slot(key: &[u8]) -> u16 {
    let tag = || {
        let open = key.iter().position(|byte| *byte == b'{')?;
        let rest = key.get(open + 1..)?;
        let length = rest.iter().position(|byte| *byte == b'}')?;
        rest.get(..length).filter(|tag| !tag.is_empty())
    };
    let mut sum = 0_u16;
    for byte in tag().unwrap_or(key) {
        sum ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            let carry = sum & 0x8000 != 0;
            sum <<= 1;
            if carry {
                sum ^= 0x1021;
            }
        }
    }
    sum % SLOTS
}

/// The first key of a request; `None` if it has none.
pub(super) fn key(cmd: &Cmd) -> Option<&[u8]> {
    let mut words = cmd.args_iter().filter_map(|word| match word {
        Arg::Simple(word) => Some(word),
        _ => None,
    });
    match words.next()? {
        b"PING" | b"INFO" | b"SCAN" | b"WAIT" | b"CONFIG" | b"CLUSTER" | b"SCRIPT" => None,
        b"EVAL" | b"EVALSHA" => match words.nth(1)? {
            b"0" => None,
            _ => words.next(),
        },
        b"XGROUP" => words.nth(1),
        _ => words.next(),
    }
}

/// The answer to CLUSTER SLOTS. `None` if it is not of that shape. `asked` stands for a node that does not know its
/// own host.
pub(super) fn read(answer: Value, asked: &Address) -> Option<Vec<Owner>> {
    array(answer)?
        .into_iter()
        .map(|range| {
            let mut range = array(range)?.into_iter();
            let (first, last, master) = (number(range.next()?)?, number(range.next()?)?, range.next()?);
            let mut master = array(master)?.into_iter();
            let host = match master.next()? {
                Value::BulkString(host) if !host.is_empty() => String::from_utf8(host).ok()?,
                Value::BulkString(_) | Value::Nil => asked.host.clone(),
                _ => return None,
            };
            let port = number(master.next()?)?;
            (first <= last && last < SLOTS).then(|| Owner {
                slots: first..=last,
                address: Address::new(&host, port),
            })
        })
        .collect()
}

fn array(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(values) => Some(values),
        _ => None,
    }
}

fn number(value: Value) -> Option<u16> {
    match value {
        Value::Int(number) => u16::try_from(number).ok(),
        _ => None,
    }
}
