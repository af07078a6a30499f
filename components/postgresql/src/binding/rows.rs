//! Rows as JSON: an array of columns.
//!
//! COMPAT(components-contrib bindings/postgres): what its client makes of a type: a UUID is an array of 16 numbers, bytes are
//! base64, a date is midnight in UTC, an array of several dimensions is flat. Texts, times and numbers that JSON does not
//! have (infinity) are texts here. A type that has no form here is an error that names it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::{SignedDuration, Timestamp};
use outrigger_component::error::{Error, Kind, Result};
use serde::Serialize;
use std::error::Error as StdError;
use std::fmt::Write as _;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Kind as Form, Type};

/// From 1970 to 2000, where the server's time begins.
const EPOCH: i64 = 946_684_800;

type Fault = Box<dyn StdError + Sync + Send>;

pub(super) fn show(row: &Row, out: &mut Vec<u8>) -> Result<()> {
    out.push(b'[');
    for (number, column) in row.columns().iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        let unknown = |error: &dyn std::fmt::Display| {
            let (name, of) = (column.name(), column.type_());
            Error::new(
                Kind::Invalid,
                format!(
                    "error reading result: column {name:?} of type {of}: {error}; let the statement cast it to text"
                ),
            )
        };
        let cell: Option<Cell<'_>> = row.try_get(number).map_err(|error| unknown(&error))?;
        match cell {
            None => out.extend_from_slice(b"null"),
            Some(Cell { of, raw }) => {
                write(&of, raw, out).map_err(|error| unknown(&error))?;
            }
        }
    }
    out.push(b']');
    Ok(())
}

/// A value as the server sent it.
struct Cell<'r> {
    of: Type,
    raw: &'r [u8],
}

impl<'r> FromSql<'r> for Cell<'r> {
    fn from_sql(of: &Type, raw: &'r [u8]) -> Result<Self, Fault> {
        Ok(Self { of: of.clone(), raw })
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

fn write(of: &Type, raw: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    match of.kind() {
        Form::Array(item) => return array(item, raw, out),
        Form::Enum(_) => return json(&std::str::from_utf8(raw)?, out),
        Form::Domain(under) => return write(under, raw, out),
        _ => {}
    }
    match *of {
        Type::BOOL => json(&(raw != [0]), out),
        Type::INT2 => json(&i16::from_be_bytes(raw.try_into()?), out),
        Type::INT4 => json(&i32::from_be_bytes(raw.try_into()?), out),
        Type::INT8 => json(&i64::from_be_bytes(raw.try_into()?), out),
        Type::OID | Type::XID | Type::CID => json(&u32::from_be_bytes(raw.try_into()?), out),
        Type::FLOAT4 => float(f32::from_be_bytes(raw.try_into()?), out),
        Type::FLOAT8 => float(f64::from_be_bytes(raw.try_into()?), out),
        Type::NUMERIC => numeric(raw, out),
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN | Type::XML | Type::CHAR => {
            json(&std::str::from_utf8(raw)?, out)
        }
        Type::JSON => raw_json(raw, out),
        Type::JSONB => raw_json(raw.get(1..).unwrap_or_default(), out),
        Type::BYTEA => json(&BASE64.encode(raw), out),
        Type::UUID => json(&raw, out),
        Type::TIMESTAMP | Type::TIMESTAMPTZ => time(i64::from_be_bytes(raw.try_into()?), out),
        Type::DATE => match i32::from_be_bytes(raw.try_into()?) {
            i32::MAX => json("infinity", out),
            i32::MIN => json("-infinity", out),
            days => moment(SignedDuration::from_hours(i64::from(days) * 24), out),
        },
        Type::TIME => {
            let microseconds = i64::from_be_bytes(raw.try_into()?);
            out.extend_from_slice(format!("{{\"Microseconds\":{microseconds},\"Valid\":true}}").as_bytes());
            Ok(())
        }
        Type::INTERVAL => interval(raw, out),
        Type::INET | Type::CIDR => address(raw, out),
        Type::VOID => json("", out),
        _ => Err("it has no form in JSON here".into()),
    }
}

fn json(value: &(impl Serialize + ?Sized), out: &mut Vec<u8>) -> Result<(), Fault> {
    Ok(serde_json::to_writer(out, value)?)
}

fn raw_json(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    out.extend_from_slice(raw);
    Ok(())
}

fn float<F: Into<f64> + Serialize + Copy>(value: F, out: &mut Vec<u8>) -> Result<(), Fault> {
    let wide: f64 = value.into();
    if wide.is_finite() {
        return json(&value, out);
    }
    json(&wide.to_string(), out)
}

/// Digits in groups of four, the first with the weight `10000^weight`.
fn numeric(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    let words: Vec<u16> = raw
        .chunks_exact(2)
        .map(|word| word.try_into().map(u16::from_be_bytes))
        .collect::<Result<_, _>>()?;
    let [count, weight, sign, scale, groups @ ..] = words.as_slice() else {
        return Err("a number that is too short".into());
    };
    match sign {
        0xC000 => return json("NaN", out),
        0xD000 => return json("Infinity", out),
        0xF000 => return json("-Infinity", out),
        _ => {}
    }
    if groups.len() != usize::from(*count) {
        return Err("a number that ends early".into());
    }
    let weight = i64::from(i16::from_be_bytes(weight.to_be_bytes()));
    let group = |position: i64| {
        let index = usize::try_from(weight - position).ok();
        index.and_then(|index| groups.get(index)).copied().unwrap_or(0)
    };
    let mut text = String::new();
    if *sign == 0x4000 {
        text.push('-');
    }
    if weight < 0 {
        text.push('0');
    } else {
        write!(text, "{}", group(weight))?;
        for position in (0..weight).rev() {
            write!(text, "{:04}", group(position))?;
        }
    }
    if *scale > 0 {
        let mut fraction = String::new();
        let mut position = -1;
        while fraction.len() < usize::from(*scale) {
            write!(fraction, "{:04}", group(position))?;
            position -= 1;
        }
        fraction.truncate(usize::from(*scale));
        write!(text, ".{fraction}")?;
    }
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn time(microseconds: i64, out: &mut Vec<u8>) -> Result<(), Fault> {
    match microseconds {
        i64::MAX => json("infinity", out),
        i64::MIN => json("-infinity", out),
        microseconds => moment(SignedDuration::from_micros(microseconds), out),
    }
}

/// Since 2000.
fn moment(since: SignedDuration, out: &mut Vec<u8>) -> Result<(), Fault> {
    let time = Timestamp::from_second(EPOCH)?.checked_add(since)?;
    json(&time.to_string(), out)
}

fn interval(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    let (microseconds, rest) = raw
        .split_first_chunk::<8>()
        .ok_or("an interval that ends early")?;
    let (days, months) = rest
        .split_first_chunk::<4>()
        .ok_or("an interval that ends early")?;
    let text = format!(
        "{{\"Microseconds\":{},\"Days\":{},\"Months\":{},\"Valid\":true}}",
        i64::from_be_bytes(*microseconds),
        i32::from_be_bytes(*days),
        i32::from_be_bytes(months.try_into()?)
    );
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// With the length of the network's part.
fn address(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    let [_, bits, _, _, bytes @ ..] = raw else {
        return Err("an address that ends early".into());
    };
    let address: std::net::IpAddr = match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes)?.into(),
        _ => <[u8; 16]>::try_from(bytes)?.into(),
    };
    json(&format!("{address}/{bits}"), out)
}

/// Number of dimensions, flags, type of the items, length and beginning of each dimension, items.
fn array(item: &Type, raw: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    let mut rest = raw;
    let mut word = || -> Result<i32, Fault> {
        let (word, after) = rest.split_first_chunk::<4>().ok_or("an array that ends early")?;
        rest = after;
        Ok(i32::from_be_bytes(*word))
    };
    let dimensions = word()?;
    let _flags_and_type = (word()?, word()?);
    for _ in 0..dimensions {
        let _length_and_beginning = (word()?, word()?);
    }
    out.push(b'[');
    let mut is_first = true;
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        if !is_first {
            out.push(b',');
        }
        is_first = false;
        match usize::try_from(i32::from_be_bytes(*length)) {
            Err(_) => {
                out.extend_from_slice(b"null");
                rest = after;
            }
            Ok(length) => {
                let (raw, after) = after.split_at_checked(length).ok_or("an array that ends early")?;
                write(item, raw, out)?;
                rest = after;
            }
        }
    }
    out.push(b']');
    Ok(())
}
