//! Where a redirect leads. Sources: RFC 9110 section 15.4; COMPAT(Go net/http client): how methods and bodies change.

use crate::body::Body;
use http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, LOCATION,
    PROXY_AUTHORIZATION, WWW_AUTHENTICATE,
};
use http::uri::{Parts, PathAndQuery};
use http::{HeaderMap, Method, Request, Response, Uri};

/// How many redirects are followed for one call.
pub(super) const MOST: u32 = 10;

/// A request that can be made again elsewhere.
pub(super) struct Sent {
    verb: Method,
    uri: Uri,
    headers: HeaderMap,
    /// `None` when it is gone with the request.
    body: Option<Body>,
}

impl Sent {
    /// Cheap: bodies at hand are shared, not copied.
    pub(super) fn of(request: &Request<Body>) -> Self {
        Self {
            verb: request.method().clone(),
            uri: request.uri().clone(),
            headers: request.headers().clone(),
            body: request.body().at_hand().map(Body::from),
        }
    }

    /// The next request, if the answer asks for one that can be made. `ours` are fields that are meant for the first host
    /// alone.
    pub(super) fn next<B>(self, response: &Response<B>, ours: &HeaderMap) -> Option<Request<Body>> {
        let Self {
            verb,
            uri,
            mut headers,
            body,
        } = self;
        let location = response.headers().get(LOCATION)?.to_str().ok()?;
        let next = resolve(&uri, location)?;
        let (verb, body) = match response.status().as_u16() {
            301..=303 if verb == Method::GET || verb == Method::HEAD => (verb, Body::Empty),
            301..=303 => (Method::GET, Body::Empty),
            307 | 308 => (verb, body?),
            _ => return None,
        };
        if matches!(body, Body::Empty) {
            headers.remove(CONTENT_TYPE);
            headers.remove(CONTENT_ENCODING);
        }
        headers.remove(CONTENT_LENGTH);
        headers.remove(HOST);
        if (next.scheme(), next.authority()) != (uri.scheme(), uri.authority()) {
            for name in [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, WWW_AUTHENTICATE] {
                headers.remove(name);
            }
            for name in ours.keys() {
                headers.remove(name);
            }
        }
        let mut request = Request::new(body);
        *request.method_mut() = verb;
        *request.uri_mut() = next;
        *request.headers_mut() = headers;
        Some(request)
    }
}

/// The URL that `location` means on the page `base`; `None` for what is not HTTP. Source: RFC 3986 section 5.2.
fn resolve(base: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next().unwrap_or_default();
    let with_path = |path: &str| {
        let mut parts = Parts::default();
        parts.scheme = base.scheme().cloned();
        parts.authority = base.authority().cloned();
        parts.path_and_query = Some(path.parse::<PathAndQuery>().ok()?);
        Uri::from_parts(parts).ok()
    };
    if location.contains("://") {
        let uri: Uri = location.parse().ok()?;
        return uri.scheme().is_some_and(super::is_web).then_some(uri);
    }
    if let Some(rest) = location.strip_prefix("//") {
        return format!("{}://{rest}", base.scheme()?).parse().ok();
    }
    if location.starts_with('/') {
        return with_path(location);
    }
    if location.is_empty() || location.starts_with('?') {
        return with_path(&format!("{}{location}", base.path()));
    }
    let (relative, query) = location
        .split_once('?')
        .map_or((location, None), |(path, query)| (path, Some(query)));
    let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut kept: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in relative.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                kept.pop();
            }
            other => kept.push(other),
        }
    }
    let slash = if relative.ends_with('/') && !kept.is_empty() {
        "/"
    } else {
        ""
    };
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    with_path(&format!("/{}{slash}{query}", kept.join("/")))
}

#[cfg(test)]
mod tests {
    use super::{Sent, resolve};
    use crate::body::Body;
    use bytes::Bytes;
    use http::{HeaderMap, Method, Request, Response};

    #[test]
    fn locations() {
        let base = "https://a.example:8443/x/y/z?q=1".parse().unwrap();
        for (location, expected) in [
            ("http://b.example/p?q#f", Some("http://b.example/p?q")),
            ("//b.example/p", Some("https://b.example/p")),
            ("/p?q=2", Some("https://a.example:8443/p?q=2")),
            ("w", Some("https://a.example:8443/x/y/w")),
            ("../w/?q", Some("https://a.example:8443/x/w/?q")),
            ("../../../..", Some("https://a.example:8443/")),
            ("?q=3", Some("https://a.example:8443/x/y/z?q=3")),
            ("ftp://b.example/p", None),
            ("http://", None),
        ] {
            let uri = resolve(&base, location).map(|uri| uri.to_string());
            assert_eq!(uri.as_deref(), expected, "{location}");
        }
    }

    #[test]
    fn what_the_next_request_is() {
        let headers = [
            ("authorization", "secret"),
            ("x-key", "ours"),
            ("x-other", "theirs"),
        ];
        let ours: HeaderMap = [("x-key".parse().unwrap(), "ours".parse().unwrap())]
            .into_iter()
            .collect();
        for (verb, status, location, expected) in [
            ("GET", 301, "/n", Some(("GET", 0, 3))),
            ("HEAD", 302, "/n", Some(("HEAD", 0, 3))),
            ("POST", 303, "/n", Some(("GET", 0, 3))),
            ("POST", 307, "/n", Some(("POST", 4, 3))),
            ("POST", 308, "http://elsewhere/n", Some(("POST", 4, 1))),
            ("GET", 302, "https://here/n", Some(("GET", 0, 1))),
            ("GET", 302, "http://here:81/n", Some(("GET", 0, 1))),
            ("GET", 200, "/n", None),
            ("GET", 304, "/n", None),
            ("GET", 302, "mailto://x", None),
        ] {
            let mut request = Request::new(Body::from(Bytes::from_static(b"body")));
            *request.method_mut() = Method::from_bytes(verb.as_bytes()).unwrap();
            *request.uri_mut() = "http://here/m".parse().unwrap();
            for (name, value) in headers {
                request.headers_mut().insert(name, value.parse().unwrap());
            }
            let response = Response::builder()
                .status(status)
                .header("location", location)
                .body(())
                .unwrap();
            let next = Sent::of(&request).next(&response, &ours);
            let seen = next.as_ref().map(|next| {
                (
                    next.method().as_str(),
                    next.body().length().unwrap(),
                    next.headers().len(),
                )
            });
            assert_eq!(seen, expected, "{verb} {status} {location}");
        }
    }
}
