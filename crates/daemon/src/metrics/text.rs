//! The Prometheus text format: names, escapes, numbers.

use std::fmt::{Display, Write};

/// `namespace_name`, the name with every character but ASCII letters and digits as `_`.
pub(super) fn name(namespace: &str, name: &str) -> String {
    let mut full = String::with_capacity(namespace.len() + 1 + name.len());
    if !namespace.is_empty() {
        full.push_str(namespace);
        full.push('_');
    }
    full.extend(
        name.chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }),
    );
    full
}

/// The two comment lines before a family.
pub(super) fn header(out: &mut String, name: &str, help: &str, kind: &str) {
    push(out, format_args!("# HELP {name} "));
    for char in help.chars() {
        match char {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            _ => out.push(char),
        }
    }
    push(out, format_args!("\n# TYPE {name} {kind}\n"));
}

/// One line: `name{suffix}{labels,extra} value`.
pub(super) fn sample(
    out: &mut String,
    name: &str,
    suffix: &str,
    labels: &str,
    extra: &str,
    value: impl Display,
) {
    out.push_str(name);
    out.push_str(suffix);
    if !labels.is_empty() || !extra.is_empty() {
        out.push('{');
        out.push_str(labels);
        if !labels.is_empty() && !extra.is_empty() {
            out.push(',');
        }
        out.push_str(extra);
        out.push('}');
    }
    push(out, format_args!(" {value}\n"));
}

/// `key="value"` pairs in the order of their keys, joined by commas.
pub(super) fn labels<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut pairs: Vec<_> = pairs.collect();
    pairs.sort_by_key(|(key, _)| *key);
    let mut out = String::new();
    for (key, value) in pairs {
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(key);
        out.push_str("=\"");
        for char in value.chars() {
            match char {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                _ => out.push(char),
            }
        }
        out.push('"');
    }
    out
}

/// A number as Go's `%g` prints it: shortest digits, exponent from 1e+06 on and below 1e-04.
pub(crate) fn float(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if value.is_nan() {
        return "NaN".to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value != 0.0 && !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    format!("{value}")
}

/// Formatting into a string cannot fail unless the value's own `Display` does, and numbers' do not.
pub(super) fn push(out: &mut String, value: impl Display) {
    if write!(out, "{value}").is_err() {
        debug_assert!(false, "a number failed to print");
    }
}
