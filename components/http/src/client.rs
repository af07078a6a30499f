//! Requests to servers out there, as this crate makes them: whole bodies, redirects followed, time and size bounded.

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, LOCATION};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use outrigger_component::error::{Error, Kind, Result};
use outrigger_daemon::drain;
use outrigger_daemon::log::Log;
use outrigger_daemon::tasks::Tasks;
use outrigger_daemon::tls::{self, Web};
use std::time::Duration;

/// COMPAT(net/http Client): redirects that are followed.
const MOST_REDIRECTS: usize = 10;

/// A client with kept connections.
pub(crate) struct Client {
    web: Web,
    /// Owns the connections.
    _tasks: Tasks,
}

/// A request that may have to be made more than once.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// What may be read of an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// From the first byte sent to the last one read; `None` is for ever.
    pub(crate) time: Option<Duration>,
    pub(crate) bytes: Size,
}

/// How much of a body is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    /// So many bytes; the rest is not read.
    First(usize),
    All,
}

impl Client {
    pub(crate) fn new(config: tls::Config, log: &Log) -> Self {
        let tasks = Tasks::new(log, drain::channel().0);
        Self {
            web: Web::new(config, tasks.spawner()),
            _tasks: tasks,
        }
    }

    /// The answer, after redirects, with its body.
    ///
    /// # Errors
    /// `Unavailable` when the server cannot be reached or hangs up, `Timeout`, `Invalid` for redirects without an end.
    pub(crate) async fn ask(&self, ask: Ask, limits: Limits) -> Result<Response<Bytes>> {
        let asking = async {
            let answer = self.follow(ask).await?;
            let (head, body) = answer.into_parts();
            Ok(Response::from_parts(head, read(body, limits.bytes).await?))
        };
        match limits.time {
            None => asking.await,
            Some(time) => tokio::time::timeout(time, asking).await.unwrap_or_else(|_| {
                Err(Error::new(
                    Kind::Timeout,
                    format!("context deadline exceeded: there was no answer within {time:?}"),
                ))
            }),
        }
    }

    async fn follow(&self, mut ask: Ask) -> Result<Response<Incoming>> {
        for _ in 0..=MOST_REDIRECTS {
            let mut request = Request::new(Full::new(ask.body.clone()));
            *request.method_mut() = ask.method.clone();
            *request.uri_mut() = ask.uri.clone();
            *request.headers_mut() = ask.headers.clone();
            let answer = self.web.request(request).await.map_err(|error| {
                let text = format!("{} {}: {}", ask.method, shown(&ask.uri), tls::failure(&error));
                Error {
                    kind: Kind::Unavailable,
                    message: text,
                    source: Some(Box::new(error)),
                }
            })?;
            if !ask.redirect(answer.status(), answer.headers()) {
                return Ok(answer);
            }
        }
        Err(Error::invalid(format!(
            "stopped after {MOST_REDIRECTS} redirects"
        )))
    }
}

/// What is at a URL.
///
/// # Errors
/// As [`Client::ask`], and for any status but 200.
pub(crate) async fn get(client: &Client, url: &str, limits: Limits) -> Result<Bytes> {
    let uri: Uri = url
        .parse()
        .map_err(|error| Error::invalid(format!("{url:?} is no URL: {error}")))?;
    let ask = Ask {
        method: Method::GET,
        uri,
        headers: HeaderMap::new(),
        body: Bytes::new(),
    };
    let answer = client.ask(ask, limits).await?;
    if answer.status() != StatusCode::OK {
        return Err(Error::new(
            Kind::Unavailable,
            format!("invalid response status code: {}", answer.status().as_u16()),
        ));
    }
    Ok(answer.into_body())
}

impl Ask {
    /// Whether the answer sends us elsewhere; then `self` is what to ask there.
    /// COMPAT(net/http redirectBehavior).
    fn redirect(&mut self, status: StatusCode, headers: &HeaderMap) -> bool {
        let keeps_method = match status.as_u16() {
            301..=303 => false,
            307 | 308 => true,
            _ => return false,
        };
        let Some(next) = headers
            .get(LOCATION)
            .and_then(|location| location.to_str().ok())
            .and_then(|location| join(&self.uri, location))
        else {
            return false;
        };
        if !keeps_method && !matches!(self.method, Method::GET | Method::HEAD) {
            self.method = Method::GET;
        }
        if !keeps_method {
            self.body = Bytes::new();
            for name in [CONTENT_TYPE, CONTENT_LENGTH, CONTENT_ENCODING] {
                self.headers.remove(name);
            }
        }
        if next.host() != self.uri.host() {
            // Meant for the first server only.
            for name in [AUTHORIZATION, COOKIE] {
                self.headers.remove(name);
            }
        }
        self.uri = next;
        true
    }
}

/// Where a redirect leads: to another server, to a path of the same, or to a neighbour of the path.
fn join(from: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next().unwrap_or_default();
    let (scheme, authority) = (from.scheme_str()?, from.authority()?);
    let target = if location.starts_with("http://") || location.starts_with("https://") {
        location.to_owned()
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.starts_with('?') {
        format!("{scheme}://{authority}{}{location}", from.path())
    } else if location
        .split('/')
        .next()
        .is_some_and(|first| first.contains(':'))
    {
        // Another scheme.
        return None;
    } else {
        let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    target.parse().ok()
}

/// Without what may be secret in it.
fn shown(uri: &Uri) -> String {
    format!(
        "{}://{}{}",
        uri.scheme_str().unwrap_or_default(),
        uri.authority()
            .map(|it| it.as_str().rsplit('@').next().unwrap_or_default())
            .unwrap_or_default(),
        uri.path()
    )
}

async fn read(mut body: Incoming, size: Size) -> Result<Bytes> {
    let most = match size {
        Size::First(most) => most,
        Size::All => usize::MAX,
    };
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Error::caused(
                Kind::Unavailable,
                "the answer could not be read to its end",
                error,
            )
        })?;
        let Ok(data) = frame.into_data() else { continue };
        let room = most - all.len();
        if data.len() >= room {
            all.extend_from_slice(data.get(..room).unwrap_or_default());
            break;
        }
        all.extend_from_slice(&data);
    }
    Ok(all.freeze())
}

#[cfg(test)]
mod tests {
    use super::{Ask, join, shown};
    use bytes::Bytes;
    use http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
    use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};

    #[test]
    fn where_a_redirect_leads() {
        let from: Uri = "https://a.example:8443/x/y?q=1".parse().unwrap();
        for (location, expected) in [
            ("http://b.example/z", Some("http://b.example/z")),
            ("//b.example/z", Some("https://b.example/z")),
            ("/z?q=2#part", Some("https://a.example:8443/z?q=2")),
            ("z", Some("https://a.example:8443/x/z")),
            ("?q=3", Some("https://a.example:8443/x/y?q=3")),
            ("ftp://b.example/", None),
            ("mailto:ann@example.org", None),
        ] {
            let found = join(&from, location).map(|uri| uri.to_string());
            assert_eq!(found.as_deref(), expected, "{location}");
        }
        let secret: Uri = "http://ann:pw@a.example/x?token=1".parse().unwrap();
        assert_eq!(shown(&secret), "http://a.example/x");
    }

    #[test]
    fn what_is_asked_there() {
        for (status, method, location, expected) in [
            (200, Method::POST, "/z", None),
            (304, Method::GET, "/z", None),
            (302, Method::POST, "/z", Some((Method::GET, false, true))),
            (301, Method::HEAD, "/z", Some((Method::HEAD, false, true))),
            (307, Method::POST, "/z", Some((Method::POST, true, true))),
            (308, Method::PUT, "http://b/", Some((Method::PUT, true, false))),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_static("x"));
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("x"));
            let mut ask = Ask {
                method,
                uri: "http://a/y".parse().unwrap(),
                headers,
                body: Bytes::from_static(b"data"),
            };
            let answer = HeaderMap::from_iter([(LOCATION, HeaderValue::from_static(location))]);
            let goes = ask.redirect(StatusCode::from_u16(status).unwrap(), &answer);
            let seen = goes.then(|| {
                let body = !ask.body.is_empty();
                assert_eq!(body, ask.headers.contains_key(CONTENT_TYPE));
                (ask.method.clone(), body, ask.headers.contains_key(AUTHORIZATION))
            });
            assert_eq!(seen, expected, "{status} {location}");
        }
    }
}
