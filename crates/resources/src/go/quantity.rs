//! Kubernetes quantities (`4Mi`, `512k`, `1.5G`) as whole bytes.

use super::Error;
use super::quote::quote;

/// Suffixes and their factors; longest first so that `Mi` is not read as `M`.
const SUFFIXES: [(&str, u128); 13] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("Ei", 1 << 60),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000),
    ("", 1),
];

/// Bytes, rounded up when the quantity is fractional. Decimal exponents (`1e6`) are accepted; sub-unit suffixes
/// (`m`, `u`, `n`) are not, since nothing here counts parts of a byte.
pub fn parse(text: &str) -> Result<u64, Error> {
    let wrong = || {
        Error(format!(
            "quantity {} is not understood; write a number with an optional suffix, for example 4Mi, 512k or 1048576",
            quote(text)
        ))
    };
    let (number, factor) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) if exponent.ends_with(|c: char| c.is_ascii_digit()) => {
            let exponent: u32 = exponent
                .strip_prefix('+')
                .unwrap_or(exponent)
                .parse()
                .map_err(|_| wrong())?;
            (number, 10_u128.checked_pow(exponent).ok_or_else(wrong)?)
        }
        _ => SUFFIXES
            .iter()
            .find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, *factor)))
            .ok_or_else(wrong)?,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return Err(wrong());
    }
    let places = u32::try_from(fraction.len()).map_err(|_| wrong())?;
    let scale = 10_u128.checked_pow(places).ok_or_else(wrong)?;
    let value: u128 = format!("{whole}{fraction}").parse().map_err(|_| wrong())?;
    let bytes = value.checked_mul(factor).ok_or_else(wrong)?.div_ceil(scale);
    u64::try_from(bytes).map_err(|_| wrong())
}
