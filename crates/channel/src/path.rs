//! From a method to the path of a URL.

use crate::error::Error;

/// `/` and the method, escaped once, then the query.
///
/// # Errors
/// COMPAT(pkg/channel/http/http_channel.go): a percent sign that no two hexadecimal digits follow is refused. Others are
/// escaped here, where the reference would have the app decode them a second time.
pub(crate) fn and_query(method: &str, query: &str) -> Result<String, Error> {
    if let Some(broken) = broken_escape(method) {
        return Err(Error::Invalid(format!(
            "parse {method:?}: invalid URL escape {broken:?}"
        )));
    }
    let mut path = String::with_capacity(method.len() + query.len() + 2);
    path.push('/');
    escape(&mut path, method.trim_start_matches('/'));
    if !query.is_empty() {
        path.push('?');
        path.push_str(query);
    }
    Ok(path)
}

/// A percent sign and what follows, where that is no escape.
fn broken_escape(text: &str) -> Option<String> {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('%') {
        let is_escape = after
            .as_bytes()
            .first_chunk::<2>()
            .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        if !is_escape {
            return Some(std::iter::once('%').chain(after.chars().take(2)).collect());
        }
        rest = after;
    }
    None
}

/// Percent-encodes what cannot stand in a path; `/` and the sub-delimiters stay. Source: RFC 3986 section 3.3.
fn escape(out: &mut String, path: &str) {
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z'
            | b'A'..=b'Z'
            | b'0'..=b'9'
            | b'-'
            | b'.'
            | b'_'
            | b'~'
            | b'/'
            | b'!'
            | b'$'
            | b'&'
            | b'\''
            | b'('
            | b')'
            | b'*'
            | b'+'
            | b','
            | b';'
            | b'='
            | b':'
            | b'@' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::and_query;

    #[test]
    fn methods_are_escaped_once() {
        for (method, query, expected) in [
            ("", "", "/"),
            ("/orders/1", "", "/orders/1"),
            ("orders", "a=b&c", "/orders?a=b&c"),
            ("a b/ü?#", "", "/a%20b/%C3%BC%3F%23"),
            ("a%20b", "", "/a%2520b"),
        ] {
            assert_eq!(and_query(method, query).unwrap(), expected, "{method}");
        }
    }

    #[test]
    fn a_percent_sign_alone_is_refused() {
        for (method, escape) in [("test%stream", "%st"), ("a%2", "%2"), ("%41%", "%"), ("%ü", "%ü")] {
            let error = and_query(method, "").unwrap_err().to_string();
            assert!(
                error.ends_with(&format!("invalid URL escape {escape:?}")),
                "{error}"
            );
        }
    }
}
