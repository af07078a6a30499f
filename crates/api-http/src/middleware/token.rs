//! The API token: who may use the API at all.

use http::{HeaderMap, Method};
use std::fmt;
use subtle::ConstantTimeEq;

/// Carries the token; removed before the request goes on.
pub(crate) const HEADER: &str = "dapr-api-token";

/// What a caller must show. `None` inside: nothing.
pub(crate) struct Token(Option<Box<[u8]>>);

impl Token {
    /// An empty text is no token.
    pub(crate) fn new(token: &str) -> Self {
        Self((!token.is_empty()).then(|| token.as_bytes().into()))
    }

    /// Checks and removes the token. `path` is the one of the request, as sent.
    ///
    /// COMPAT(pkg/api/http/middlewares.go): health checks need none, whatever slashes are around them; without a
    /// configured token the header is left alone.
    pub(crate) fn admits(&self, method: &Method, path: &str, headers: &mut HeaderMap) -> bool {
        let Some(expected) = &self.0 else { return true };
        let shown = headers.remove(HEADER);
        let shown = shown.as_ref().map_or(&[][..], |value| value.as_bytes());
        bool::from(shown.ct_eq(expected)) || (*method == Method::GET && is_health_check(path))
    }
}

fn is_health_check(path: &str) -> bool {
    matches!(path.trim_matches('/'), "v1.0/healthz" | "v1.0/healthz/outbound")
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "Token(***)"
        } else {
            "Token(none)"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Token;
    use http::{HeaderMap, HeaderValue, Method};

    #[test]
    fn who_is_admitted() {
        for (token, shown, method, path, admitted, left) in [
            ("", None, "GET", "/v1.0/metadata", true, false),
            ("", Some("x"), "GET", "/v1.0/metadata", true, true),
            ("secret", Some("secret"), "GET", "/v1.0/metadata", true, false),
            ("secret", Some("secreT"), "GET", "/v1.0/metadata", false, false),
            ("secret", Some("secret "), "GET", "/v1.0/metadata", false, false),
            ("secret", Some(""), "GET", "/v1.0/metadata", false, false),
            ("secret", None, "GET", "/v1.0/metadata", false, false),
            ("secret", None, "GET", "/v1.0/healthz", true, false),
            ("secret", None, "GET", "//v1.0/healthz/outbound/", true, false),
            ("secret", None, "POST", "/v1.0/healthz", false, false),
            ("secret", None, "GET", "/v1.0/healthz/other", false, false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(shown) = shown {
                headers.insert("dapr-api-token", HeaderValue::from_static(shown));
            }
            let method: Method = method.parse().unwrap();
            assert_eq!(
                Token::new(token).admits(&method, path, &mut headers),
                admitted,
                "{token} {shown:?} {path}"
            );
            assert_eq!(
                headers.contains_key("dapr-api-token"),
                left,
                "{token} {shown:?} {path}"
            );
        }
        assert_eq!(format!("{:?}", Token::new("secret")), "Token(***)");
    }
}
