//! The one form of a method name that access rules and the app both see.

/// Why a method name is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("method contains forbidden character: {0:?}")]
    Forbidden(String),
    #[error("method contains control character at position {1}: {0:?}")]
    Control(String, usize),
}

/// Refuses what could split a URL, resolves `.`, `..` and doubled slashes. A leading slash stays.
///
/// COMPAT(pkg/messaging/method/normalize.go).
pub(super) fn normalise(method: &str) -> Result<String, Error> {
    if method.contains(['#', '?', '\0']) {
        return Err(Error::Forbidden(method.to_owned()));
    }
    if let Some(position) = method.bytes().position(|byte| byte < 0x20 || byte == 0x7f) {
        return Err(Error::Control(method.to_owned(), position));
    }
    if !method.contains("//")
        && !method.split('/').any(|part| part == "." || part == "..")
        && !method.ends_with('/')
    {
        return Ok(method.to_owned());
    }
    let mut kept: Vec<&str> = Vec::new();
    for part in method.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            other => kept.push(other),
        }
    }
    let root = if method.starts_with('/') { "/" } else { "" };
    Ok(format!("{root}{}", kept.join("/")))
}

#[cfg(test)]
mod tests {
    use super::{Error, normalise};

    #[test]
    fn methods() {
        for (given, expected) in [
            ("", ""),
            ("orders", "orders"),
            ("/orders", "/orders"),
            ("orders/1/", "orders/1"),
            ("a//b", "a/b"),
            ("a/./b/../c", "a/c"),
            ("../../etc/passwd", "etc/passwd"),
            ("..", ""),
            ("/..", "/"),
        ] {
            assert_eq!(normalise(given).as_deref(), Ok(expected), "{given}");
        }
        assert!(matches!(normalise("a?b"), Err(Error::Forbidden(_))));
        assert!(matches!(normalise("a#b"), Err(Error::Forbidden(_))));
        assert_eq!(normalise("ab\nc"), Err(Error::Control("ab\nc".into(), 2)));
    }
}
