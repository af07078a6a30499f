//! Go's textual forms, as far as documents, headers and logs of the reference carry them: durations, booleans,
//! quoted strings, floats, and the quantities of Kubernetes.
//!
//! Everything here is a total function on text. Error texts of durations and booleans are Go's own, because
//! the reference passes them on to users and SDK tests compare them.

pub mod duration;
pub mod float;
pub mod quantity;
pub mod quote;

use std::time::Duration;

/// What is wrong with a text; the message quotes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(pub String);

/// A length of time that cannot be negative, written as Go writes durations (`1h2m3.5s`, `500ms`).
pub fn duration(text: &str) -> Result<Duration, Error> {
    let nanoseconds = duration::parse(text)?;
    u64::try_from(nanoseconds)
        .map(Duration::from_nanos)
        .map_err(|_| Error(format!("duration {} must not be negative", quote::quote(text))))
}

/// As Go prints a duration: `1m0s`, `1.5s`, `500ms`, `0s`. Lengths beyond Go's 292 years print as its longest.
pub fn format_duration(duration: Duration) -> String {
    duration::format(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
}

/// Go's `strconv.ParseBool`: exactly `1 t T TRUE true True` and `0 f F FALSE false False`.
pub fn boolean(text: &str) -> Result<bool, Error> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(Error(format!(
            "strconv.ParseBool: parsing {}: invalid syntax",
            quote::quote(text)
        ))),
    }
}

#[cfg(test)]
mod tests;
