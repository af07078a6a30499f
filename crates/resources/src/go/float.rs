//! How Go prints floating point numbers, in the two ways that reach documents.

/// As Go's JSON encoder prints a 64 bit float: plain digits, with an exponent only below 1e-6 and from 1e21.
/// `None` for what JSON cannot hold.
pub fn json(value: f64) -> Option<String> {
    if !value.is_finite() {
        return None;
    }
    let size = value.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{value:e}");
        // Go writes the sign of a positive exponent, Rust does not.
        return Some(match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => format!("{digits}e+{exponent}"),
            _ => text,
        });
    }
    Some(format!("{value}"))
}

/// As Go's `%g` prints a 32 bit float: the form a number takes when a document writes it where text belongs.
pub fn shortest(value: f64) -> String {
    // COMPAT(Go %g of a float32): the reference prints 32 bit precision here.
    let value = value as f32;
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let text = format!("{value:e}");
    let Some((digits, exponent)) = text.split_once('e') else {
        return text;
    };
    let power: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&power) {
        return format!("{value}");
    }
    let sign = if power < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", power.unsigned_abs())
}
