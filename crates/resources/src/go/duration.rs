//! Go's `time.Duration` as text. A duration is a signed count of nanoseconds in 64 bits.

use super::Error;
use super::quote::quote_ascii;

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
/// The smallest duration is one further from zero than the largest.
const SMALLEST: u64 = 1 << 63;

/// Parses a sequence of decimal numbers with units (`-1.5h`, `1h2m3.5s`, `1µs`) or `0`. Nanoseconds.
pub fn parse(text: &str) -> Result<i64, Error> {
    let invalid = || Error(format!("time: invalid duration {}", quote_ascii(text)));
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let end = after
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(after.len());
        let (name, after) = after.split_at(end);
        if name.is_empty() {
            return Err(Error(format!(
                "time: missing unit in duration {}",
                quote_ascii(text)
            )));
        }
        let unit = unit(name).ok_or_else(|| {
            Error(format!(
                "time: unknown unit {} in duration {}",
                quote_ascii(name),
                quote_ascii(text)
            ))
        })?;
        let whole = if whole.is_empty() {
            Ok(0)
        } else {
            whole.parse::<u64>()
        };
        total = whole
            .ok()
            .and_then(|whole| whole.checked_mul(unit))
            .and_then(|whole| whole.checked_add(part(fraction, unit)))
            .and_then(|term| total.checked_add(term))
            .filter(|total| *total <= SMALLEST)
            .ok_or_else(invalid)?;
        rest = after;
    }
    if negative {
        return Ok(0_i64.wrapping_sub_unsigned(total));
    }
    i64::try_from(total).map_err(|_| invalid())
}

/// The shortest exact form: `1h0m0s`, `2.5s`, `1.5ms`, `10µs`, `7ns`, `0s`.
pub fn format(nanoseconds: i64) -> String {
    let size = nanoseconds.unsigned_abs();
    let sign = if nanoseconds < 0 { "-" } else { "" };
    if size == 0 {
        return "0s".to_owned();
    }
    if size < SECOND {
        let (unit, name) = match size {
            0..MICROSECOND => (1, "ns"),
            MICROSECOND..MILLISECOND => (MICROSECOND, "µs"),
            _ => (MILLISECOND, "ms"),
        };
        return format!("{sign}{}{name}", decimal(size, unit));
    }
    let seconds = decimal(size % MINUTE, SECOND);
    let (hours, minutes) = (size / HOUR, size / MINUTE % 60);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, _) => format!("{sign}{minutes}m{seconds}s"),
        _ => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

fn unit(name: &str) -> Option<u64> {
    Some(match name {
        "ns" => 1,
        "us" | "µs" | "μs" => MICROSECOND,
        "ms" => MILLISECOND,
        "s" => SECOND,
        "m" => MINUTE,
        "h" => HOUR,
        _ => return None,
    })
}

fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

/// `0.fraction` units in whole nanoseconds. Digits beyond what 64 bits hold are dropped.
/// COMPAT(Go time.ParseDuration): the product is a float, so `0.3333333333333333333h` is exactly twenty minutes.
fn part(fraction: &str, unit: u64) -> u64 {
    let mut value: u64 = 0;
    let mut scale: f64 = 1.0;
    for digit in fraction.bytes() {
        let next = value
            .checked_mul(10)
            .and_then(|value| value.checked_add(u64::from(digit - b'0')))
            .filter(|value| *value <= SMALLEST);
        let Some(next) = next else { break };
        value = next;
        scale *= 10.0;
    }
    // Both fit: the result is below one unit, and a float to integer cast saturates.
    (value as f64 * (unit as f64 / scale)) as u64
}

/// `size / unit` with as many decimals as it needs.
fn decimal(size: u64, unit: u64) -> String {
    let (whole, rest) = (size / unit, size % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    let fraction = format!("{rest:0width$}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}
