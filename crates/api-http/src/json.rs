//! JSON as clients of the reference send it, and as it words what is wrong.
//!
//! - Only the first value of a body counts; what follows is not looked at.
//! - Values travel as text: numbers keep their digits, objects the order of their keys. Blanks between tokens go.
//! - COMPAT(encoding/json): texts of the errors that clients compare.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// Reads the first value of `body`. `kind` is what the reference calls the expected type.
pub(crate) fn first<'b, T: Deserialize<'b>>(body: &'b [u8], kind: &str) -> Result<T, String> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    T::deserialize(&mut reader).map_err(|error| explain(&error, body, kind))
}

fn explain(error: &serde_json::Error, body: &[u8], kind: &str) -> String {
    let Some(start) = body.iter().find(|byte| !byte.is_ascii_whitespace()) else {
        return "EOF".to_owned();
    };
    // Is it JSON at all? An unexpected type is reported before an end that comes later.
    let mut reader = serde_json::Deserializer::from_slice(body);
    match IgnoredAny::deserialize(&mut reader) {
        Err(syntax) if syntax.is_eof() => "unexpected EOF".to_owned(),
        Err(syntax) => syntax.to_string(),
        Ok(_) => {
            let found = match start {
                b'{' => "object",
                b'[' => "array",
                b'"' => "string",
                b't' | b'f' => "bool",
                b'n' => return error.to_string(),
                _ => "number",
            };
            let fits = matches!(
                (found, kind.starts_with("[]")),
                ("array", true) | ("object", false)
            );
            if fits {
                error.to_string()
            } else {
                format!("json: cannot unmarshal {found} into Go value of type {kind}")
            }
        }
    }
}

/// The bytes of a value that stands in `body`, without blanks between tokens.
///
/// Shares the body's memory where most of the body is this value, so that a small value does not keep a large
/// request alive.
pub(crate) fn value(body: &Bytes, value: &RawValue) -> Bytes {
    let text = value.get();
    match compact(text) {
        Some(compact) => compact.into(),
        None if text.len() >= body.len() / 2 => body.slice_ref(text.as_bytes()),
        None => Bytes::copy_from_slice(text.as_bytes()),
    }
}

/// The text without blanks outside of strings; `None` when it has none.
fn compact(text: &str) -> Option<Vec<u8>> {
    let blank = |byte: u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let mut out: Option<Vec<u8>> = None;
    let (mut in_string, mut escaped) = (false, false);
    for (position, byte) in text.bytes().enumerate() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else if byte == b'"' {
            in_string = true;
        } else if blank(byte) {
            if out.is_none() {
                let mut kept = Vec::with_capacity(text.len());
                kept.extend(text.bytes().take(position));
                out = Some(kept);
            }
            continue;
        }
        if let Some(out) = &mut out {
            out.push(byte);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{compact, first, value};
    use bytes::Bytes;
    use serde_json::value::RawValue;

    #[test]
    fn only_blanks_between_tokens_go() {
        for (given, expected) in [
            ("1.50e+3", None),
            (r#""a b""#, None),
            (r#"{ "a" : [ 1 , 2 ] }"#, Some(r#"{"a":[1,2]}"#)),
            ("{\n\t\"a b\":\r\n\"c \\\" d\" }", Some(r#"{"a b":"c \" d"}"#)),
            (r#"["a\\", "b c"]"#, Some(r#"["a\\","b c"]"#)),
            (r#""\\" "#, Some(r#""\\""#)),
        ] {
            assert_eq!(
                compact(given)
                    .map(|text| String::from_utf8(text).unwrap())
                    .as_deref(),
                expected,
                "{given}"
            );
        }
    }

    #[test]
    fn small_values_do_not_hold_the_body() {
        let body = Bytes::from(format!(r#"["{}", 7]"#, "x".repeat(100)));
        let values: Vec<&RawValue> = first(&body, "[]").unwrap();
        let (large, small) = (value(&body, values[0]), value(&body, values[1]));
        let within = |part: &Bytes| body.as_ptr_range().contains(&part.as_ptr());
        assert!(within(&large) && !within(&small));
        assert_eq!(small, "7");
    }

    #[test]
    fn errors_in_the_words_of_the_reference() {
        for (body, expected) in [
            ("", "EOF"),
            (" \n", "EOF"),
            (r#"{"entryID": "}"#, "unexpected EOF"),
            ("[1,", "unexpected EOF"),
            (
                r#"{"entryID": ""}"#,
                "json: cannot unmarshal object into Go value of type []T",
            ),
            (
                r#""x""#,
                "json: cannot unmarshal string into Go value of type []T",
            ),
            ("7", "json: cannot unmarshal number into Go value of type []T"),
            ("true", "json: cannot unmarshal bool into Go value of type []T"),
        ] {
            assert_eq!(
                first::<Vec<u8>>(body.as_bytes(), "[]T").unwrap_err(),
                expected,
                "{body}"
            );
        }
        assert!(first::<Vec<u8>>(b"foobar", "[]T").unwrap_err().contains("line 1"));
        assert_eq!(first::<Vec<u8>>(b"[1, 2] and more", "[]T").unwrap(), [1, 2]);
    }
}
