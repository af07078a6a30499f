//! Cross-origin requests. Source: Fetch standard, "CORS protocol".
//!
//! COMPAT(go-chi/cors): every preflight gets 200, allowed or not, and never reaches an endpoint; origins are compared
//! without case and may hold one `*`; credentials are allowed only where all origins are.

use crate::reply;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderValue,
    ORIGIN, VARY,
};
use http::{HeaderMap, Method, Response, StatusCode};
use outrigger_channel::body::Body;

/// Which origins browsers may call from.
#[derive(Debug)]
pub(crate) struct Cors {
    any: bool,
    credentials: bool,
    exact: Vec<String>,
    /// What stands before and after the `*`.
    patterns: Vec<(String, String)>,
}

impl Cors {
    /// From `--allowed-origins`: a list with commas. Empty: the API says nothing about origins (`None`).
    pub(crate) fn new(origins: &str) -> Option<Self> {
        if origins.is_empty() {
            return None;
        }
        let mut cors = Self {
            any: false,
            credentials: origins == "*",
            exact: Vec::new(),
            patterns: Vec::new(),
        };
        for origin in origins
            .split(',')
            .map(|origin| origin.trim().to_ascii_lowercase())
        {
            match origin.split_once('*') {
                Some(("", "")) => cors.any = true,
                Some((before, after)) => cors.patterns.push((before.to_owned(), after.to_owned())),
                None => cors.exact.push(origin),
            }
        }
        Some(cors)
    }

    /// The answer to a preflight; `None` when the request is none.
    pub(crate) fn preflight(&self, method: &Method, headers: &HeaderMap) -> Option<Response<Body>> {
        let wanted = headers
            .get(ACCESS_CONTROL_REQUEST_METHOD)
            .filter(|wanted| !wanted.is_empty())?;
        if *method != Method::OPTIONS {
            return None;
        }
        let mut response = reply::status(StatusCode::OK);
        let answer = response.headers_mut();
        for name in [
            "Origin",
            "Access-Control-Request-Method",
            "Access-Control-Request-Headers",
        ] {
            answer.append(VARY, HeaderValue::from_static(name));
        }
        if let Some(origin) = self.origin(headers)
            && allowed_method(wanted.as_bytes())
        {
            answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            answer.insert(ACCESS_CONTROL_ALLOW_METHODS, wanted.clone());
            if let Some(names) = headers
                .get(ACCESS_CONTROL_REQUEST_HEADERS)
                .filter(|names| !names.is_empty())
            {
                answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
            }
            if self.credentials {
                answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            }
        }
        Some(response)
    }

    /// What the answer to an actual request is to name as allowed origin.
    pub(crate) fn allows(&self, method: &Method, headers: &HeaderMap) -> Option<HeaderValue> {
        self.origin(headers)
            .filter(|_| allowed_method(method.as_str().as_bytes()))
    }

    /// Adds to the answer of an actual request; `origin` is from [`Cors::allows`].
    pub(crate) fn decorate(&self, origin: Option<HeaderValue>, answer: &mut HeaderMap) {
        answer.append(VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = origin {
            answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            if self.credentials {
                answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            }
        }
    }

    /// The request's origin as the answer repeats it, if it is allowed.
    fn origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(ORIGIN).filter(|origin| !origin.is_empty())?;
        if self.any {
            return Some(HeaderValue::from_static("*"));
        }
        let text = origin.to_str().ok()?.to_ascii_lowercase();
        let matches = |(before, after): &(String, String)| {
            text.len() >= before.len() + after.len() && text.starts_with(before) && text.ends_with(after)
        };
        (self.exact.contains(&text) || self.patterns.iter().any(matches)).then(|| origin.clone())
    }
}

fn allowed_method(method: &[u8]) -> bool {
    const METHODS: [&str; 7] = ["HEAD", "GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    METHODS
        .iter()
        .any(|allowed| method.eq_ignore_ascii_case(allowed.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::Cors;
    use http::{HeaderMap, HeaderName, HeaderValue, Method};

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn preflights() {
        let origin = |cors: &str, origin: &'static str, method: &'static str| {
            let headers = headers(&[("origin", origin), ("access-control-request-method", method)]);
            let answer = Cors::new(cors)
                .unwrap()
                .preflight(&Method::OPTIONS, &headers)
                .unwrap();
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.headers().get_all("vary").iter().count(), 3);
            answer
                .headers()
                .get("access-control-allow-origin")
                .map(|value| value.to_str().unwrap().to_owned())
        };
        for (cors, from, method, allowed) in [
            ("*", "*", "GET", Some("*")),
            ("*", "https://a.example", "GET", Some("*")),
            (
                "https://a.example",
                "https://a.example",
                "GET",
                Some("https://a.example"),
            ),
            (
                "https://a.example",
                "https://A.example",
                "get",
                Some("https://A.example"),
            ),
            ("https://a.example", "https://b.example", "GET", None),
            (
                "https://a.example, https://b.example",
                "https://b.example",
                "GET",
                Some("https://b.example"),
            ),
            (
                "https://*.example",
                "https://b.example",
                "GET",
                Some("https://b.example"),
            ),
            ("https://*.example", "https://.test", "GET", None),
            ("https://a.example", "https://a.example", "TRACE", None),
            ("https://a.example", "", "GET", None),
        ] {
            assert_eq!(
                origin(cors, from, method).as_deref(),
                allowed,
                "{cors} {from} {method}"
            );
        }
        let cors = Cors::new("*").unwrap();
        assert!(
            cors.preflight(&Method::OPTIONS, &headers(&[("origin", "x")]))
                .is_none()
        );
        assert!(
            cors.preflight(
                &Method::GET,
                &headers(&[("access-control-request-method", "GET")])
            )
            .is_none()
        );
        assert!(Cors::new("").is_none());
    }

    #[test]
    fn actual_requests() {
        for (cors, from, expected) in [
            ("*", &[("origin", "https://a.example")][..], Some("*")),
            ("*", &[], None),
            (
                "https://a.example",
                &[("origin", "https://a.example")],
                Some("https://a.example"),
            ),
            ("https://a.example", &[("origin", "https://b.example")], None),
        ] {
            let cors = Cors::new(cors).unwrap();
            let origin = cors.allows(&Method::GET, &headers(from));
            let mut answer = HeaderMap::new();
            cors.decorate(origin, &mut answer);
            assert_eq!(answer["vary"], "Origin");
            assert_eq!(
                answer
                    .get("access-control-allow-origin")
                    .map(|value| value.to_str().unwrap()),
                expected
            );
        }
    }
}
