//! Request paths: cleaning, and percent-decoding with the rules of the place a text stands in.
//!
//! Paths without anything to change, which are nearly all, are borrowed.

use std::borrow::Cow;

/// Why a text cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("invalid URL escape {0:?}")]
    Escape(String),
    #[error("{0:?} is not valid UTF-8 when decoded")]
    Encoding(String),
}

/// How a plus sign is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plus {
    Itself,
    Blank,
}

/// A path as a whole: only percent escapes.
pub(crate) fn decode(path: &str) -> Result<Cow<'_, str>, Error> {
    unescape(path, Plus::Itself)
}

/// A path parameter, or a name or value of a query: a plus sign is a blank, too.
pub(crate) fn decode_parameter(text: &str) -> Result<Cow<'_, str>, Error> {
    unescape(text, Plus::Blank)
}

fn unescape(text: &str, plus: Plus) -> Result<Cow<'_, str>, Error> {
    let special = |byte: u8| byte == b'%' || (byte == b'+' && plus == Plus::Blank);
    let Some(first) = text.bytes().position(special) else {
        return Ok(Cow::Borrowed(text));
    };
    let (plain, mut rest) = text.as_bytes().split_at(first);
    let mut out = Vec::with_capacity(text.len());
    out.extend_from_slice(plain);
    while let Some((&byte, tail)) = rest.split_first() {
        rest = match byte {
            b'%' => {
                let Some((byte, tail)) = escape(tail) else {
                    let bad = rest.get(..3).unwrap_or(rest);
                    return Err(Error::Escape(String::from_utf8_lossy(bad).into_owned()));
                };
                out.push(byte);
                tail
            }
            b'+' if plus == Plus::Blank => {
                out.push(b' ');
                tail
            }
            other => {
                out.push(other);
                tail
            }
        };
    }
    String::from_utf8(out)
        .map(Cow::Owned)
        .map_err(|error| Error::Encoding(String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// The byte behind a percent sign, and what follows it.
fn escape(text: &[u8]) -> Option<(u8, &[u8])> {
    let (&[high, low], rest) = text.split_first_chunk::<2>()?;
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let value = digit(high)? * 16 + digit(low)?;
    Some((u8::try_from(value).ok()?, rest))
}

/// The path without empty segments, `.` and `..`, and without a slash at its end.
/// COMPAT(pkg/api/http/middlewares.go CleanPathMiddleware): escapes are not looked into.
pub(crate) fn clean(path: &str) -> Cow<'_, str> {
    if is_clean(path) {
        return Cow::Borrowed(path);
    }
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let mut out = String::with_capacity(path.len() + 1);
    for segment in &kept {
        out.push('/');
        out.push_str(segment);
    }
    if kept.is_empty() {
        out.push('/');
    }
    Cow::Owned(out)
}

fn is_clean(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else {
        return false;
    };
    rest.is_empty() || rest.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::{Error, clean, decode, decode_parameter};

    #[test]
    fn cleaning() {
        for (given, expected) in [
            ("/", "/"),
            ("", "/"),
            ("*", "/*"),
            ("/v1.0/state/s/k", "/v1.0/state/s/k"),
            ("//v1.0///state/s/", "/v1.0/state/s"),
            ("/v1.0/./state/../secrets/s", "/v1.0/secrets/s"),
            ("/../../x", "/x"),
            ("/a/..", "/"),
            ("/a/...", "/a/..."),
            ("/a/%2e%2e/b", "/a/%2e%2e/b"),
        ] {
            assert_eq!(clean(given), expected, "{given}");
        }
    }

    #[test]
    fn decoding() {
        let escape = |text: &str| Err(Error::Escape(text.to_owned()));
        for (given, parameter, path) in [
            ("plain", Ok("plain"), Ok("plain")),
            ("a+b", Ok("a b"), Ok("a+b")),
            ("a%2Bb%20c", Ok("a+b c"), Ok("a+b c")),
            ("%E2%82%ac", Ok("€"), Ok("€")),
            ("50%25", Ok("50%"), Ok("50%")),
            ("%zz", escape("%zz"), escape("%zz")),
            ("a%2", escape("%2"), escape("%2")),
            ("%", escape("%"), escape("%")),
            ("%+1", escape("%+1"), escape("%+1")),
        ] {
            assert_eq!(
                decode_parameter(given).as_deref(),
                parameter.as_ref().map(|text| *text),
                "{given}"
            );
            assert_eq!(
                decode(given).as_deref(),
                path.as_ref().map(|text| *text),
                "{given}"
            );
        }
        assert!(matches!(decode("%ff%fe"), Err(Error::Encoding(_))));
    }
}
