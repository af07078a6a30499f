//! `$NAME` and `${NAME}` in the text of a Configuration file, before YAML is parsed.
//! COMPAT(Go os.Expand): an unknown name becomes nothing, `${` without a name is dropped, `$` before anything else stays.

use std::borrow::Cow;

/// Replaces every reference; `variable` answers `None` for what is not set.
pub fn expand(text: &str, variable: impl Fn(&str) -> Option<String>) -> Cow<'_, str> {
    if !text.contains('$') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = match reference(after) {
            _ if after.is_empty() => {
                out.push('$');
                after
            }
            Reference::Name(name, after) => {
                out.push_str(&variable(name).unwrap_or_default());
                after
            }
            Reference::Broken(after) => after,
            Reference::None => {
                out.push('$');
                after
            }
        };
    }
    out.push_str(rest);
    Cow::Owned(out)
}

enum Reference<'t> {
    /// A name and what follows the reference.
    Name(&'t str, &'t str),
    /// `${}` or `${` that is never closed: what follows it.
    Broken(&'t str),
    None,
}

/// `after` is what follows the dollar sign.
fn reference(after: &str) -> Reference<'_> {
    if let Some(braced) = after.strip_prefix('{') {
        return match braced.split_once('}') {
            Some(("", rest)) => Reference::Broken(rest),
            Some((name, rest)) => Reference::Name(name, rest),
            None => Reference::Broken(braced),
        };
    }
    let end = match after.bytes().next() {
        // The shell's special parameters are one character long.
        Some(b'*' | b'#' | b'$' | b'@' | b'!' | b'?' | b'-' | b'0'..=b'9') => 1,
        _ => after
            .find(|c: char| c != '_' && !c.is_ascii_alphanumeric())
            .unwrap_or(after.len()),
    };
    match after.split_at(end) {
        ("", _) => Reference::None,
        (name, rest) => Reference::Name(name, rest),
    }
}

#[cfg(test)]
mod tests {
    use super::expand;

    #[test]
    fn as_go_expands() {
        for (text, expect) in [
            ("plain", "plain"),
            ("a $X b", "a 1 b"),
            ("a ${X}b", "a 1b"),
            ("$LONG_NAME1-x", "long-x"),
            ("${NOPE}|$NOPE|", "||"),
            ("cost 5$", "cost 5$"),
            ("$ x", "$ x"),
            ("${} ${", " "),
            ("${X", "X"),
            ("$$X", "X"),
            ("${$}.", "."),
            ("$1st", "st"),
            ("${a b}", ""),
            ("ü$X", "ü1"),
        ] {
            let found = expand(text, |name| match name {
                "X" => Some("1".to_owned()),
                "LONG_NAME1" => Some("long".to_owned()),
                _ => None,
            });
            assert_eq!(found, expect, "{text:?}");
        }
    }
}
