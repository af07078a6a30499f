//! Go's quoted strings: `%q` for messages, `strconv.Unquote` for values.

use std::fmt::Write as _;

/// As `%q` prints: double quotes, escapes for controls and quotes, printable Unicode as it is.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        escape(&mut out, c);
    }
    out.push('"');
    out
}

/// As the `time` package quotes in its own errors: every byte outside ASCII is written `\xNN`.
pub fn quote_ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            ' '..='~' => out.push(c),
            _ => {
                let mut buffer = [0; 4];
                for byte in c.encode_utf8(&mut buffer).bytes() {
                    write_hex(&mut out, 'x', 2, u32::from(byte));
                }
            }
        }
    }
    out.push('"');
    out
}

/// The string behind a Go string or rune literal; `None` when the text is not exactly one.
/// COMPAT(pkg/apis/common/namevalue.go): component values that look like literals lose their quotes.
pub fn unquote(text: &str) -> Option<String> {
    let delimiter = text.chars().next()?;
    let inner = text.get(1..)?.strip_suffix(delimiter)?;
    match delimiter {
        '`' if !inner.contains('`') => Some(inner.replace('\r', "")),
        '"' | '\'' => {
            let value = unescape(inner, delimiter)?;
            (delimiter == '"' || value.chars().count() == 1).then_some(value)
        }
        _ => None,
    }
}

fn escape(out: &mut String, c: char) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{b}' => out.push_str("\\v"),
        '\0'..='\x1f' | '\x7f' => write_hex(out, 'x', 2, u32::from(c)),
        '\u{80}'..='\u{a0}'
        | '\u{ad}'
        | '\u{2000}'..='\u{200f}'
        | '\u{2028}'..='\u{202f}'
        | '\u{205f}'..='\u{206f}'
        | '\u{3000}'
        | '\u{e000}'..='\u{f8ff}'
        | '\u{feff}' => {
            write_hex(out, 'u', 4, u32::from(c));
        }
        _ => out.push(c),
    }
}

fn write_hex(out: &mut String, kind: char, width: usize, value: u32) {
    write!(out, "\\{kind}{value:0width$x}").expect("writing to a String cannot fail");
}

fn unescape(inner: &str, delimiter: char) -> Option<String> {
    let mut bytes: Vec<u8> = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c == delimiter || c == '\n' {
            return None;
        }
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let c = chars.next()?;
        let number = |chars: &mut std::str::Chars<'_>, first: Option<char>, count: usize, radix: u32| {
            let mut value: u32 = match first {
                Some(digit) => digit.to_digit(radix)?,
                None => 0,
            };
            for _ in 0..count {
                value = value
                    .checked_mul(radix)?
                    .checked_add(chars.next()?.to_digit(radix)?)?;
            }
            Some(value)
        };
        let scalar = match c {
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            '\\' => '\\',
            '"' | '\'' if c == delimiter => c,
            'x' => {
                bytes.push(u8::try_from(number(&mut chars, None, 2, 16)?).ok()?);
                continue;
            }
            '0'..='7' => {
                bytes.push(u8::try_from(number(&mut chars, Some(c), 2, 8)?).ok()?);
                continue;
            }
            'u' => char::from_u32(number(&mut chars, None, 4, 16)?)?,
            'U' => char::from_u32(number(&mut chars, None, 8, 16)?)?,
            _ => return None,
        };
        bytes.extend_from_slice(scalar.encode_utf8(&mut [0; 4]).as_bytes());
    }
    // Go strings may hold any bytes, ours may not; what is not UTF-8 is replaced as Go's encoders replace it.
    Some(
        String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
    )
}
