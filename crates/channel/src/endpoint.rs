//! HTTP services that have no sidecar: `HTTPEndpoint` resources by name, and plain URLs.
//!
//! Invariants
//! - What a call carries for one host (headers of the resource, credentials of the caller) is not shown to another when a
//!   redirect leads there.
//! - The app's token (`APP_API_TOKEN`) never goes to anybody but the app.

mod redirect;
#[cfg(test)]
mod tests;

use crate::body::Body;
use crate::call::{Call, Reply, Status};
use crate::error::Error;
use crate::{path, wire};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures::future::BoxFuture;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderName, HeaderValue};
use http::uri::Scheme;
use http::{HeaderMap, Request, Response, Uri};
use hyper::body::Incoming;
use outrigger_daemon::tasks::Spawner;
use outrigger_daemon::tls::{self, Streaming};
use rustls::ClientConfig;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// A service as its resource describes it.
pub struct Config {
    /// `http://` or `https://`, host, and a path if the methods are to be below one.
    pub base_url: String,
    /// Sent with every request, in place of the caller's fields of the same names.
    pub headers: Vec<(String, String)>,
    /// How to speak TLS; `None` trusts the machine's authorities.
    pub tls: Option<ClientConfig>,
}

/// Why a resource cannot be used.
#[derive(Debug, thiserror::Error)]
enum Invalid {
    #[error("baseUrl {0:?} is not an http:// or https:// URL with a host")]
    Url(String),
    #[error("header {0:?} has a name or a value that cannot be an HTTP header")]
    Header(String),
}

/// Everything that can be called without a sidecar.
pub struct Endpoints {
    /// A resource that cannot be used stays, with the reason: calls say it.
    named: BTreeMap<String, Result<Endpoint, String>>,
    /// For plain URLs.
    client: Client,
}

/// One service.
struct Endpoint {
    base: Base,
    headers: HeaderMap,
    client: Client,
}

/// Where requests go: origin, path, and credentials that stood in the URL.
struct Base {
    /// `https://host:port`
    origin: String,
    /// Without the slash at the end.
    path: String,
    authorization: Option<HeaderValue>,
}

/// Connections, made when they are first needed: reading the machine's authorities takes a moment.
struct Client {
    plain: OnceLock<Streaming<Body>>,
    secure: OnceLock<Streaming<Body>>,
    spawner: Spawner,
}

/// Where a request may be led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Redirects {
    Follow,
    /// The caller decides.
    PassOn,
}

impl Endpoints {
    /// Resources by name, or why they cannot be used. Nothing is connected yet.
    pub fn new(named: impl IntoIterator<Item = (String, Result<Config, String>)>, spawner: &Spawner) -> Self {
        let endpoint = |config: Result<Config, String>| {
            Endpoint::new(config?, spawner.clone()).map_err(|invalid| invalid.to_string())
        };
        Self {
            named: named
                .into_iter()
                .map(|(name, config)| (name, endpoint(config)))
                .collect(),
            client: Client::new(None, spawner.clone()),
        }
    }

    /// The resources that cannot be used, and why.
    pub fn broken(&self) -> impl Iterator<Item = (&str, &str)> {
        self.named
            .iter()
            .filter_map(|(name, endpoint)| Some((name.as_str(), endpoint.as_ref().err()?.as_str())))
    }

    /// Whether `target` is called here: the name of a resource, or a URL.
    pub fn has(&self, target: &str) -> bool {
        is_url(target) || self.named.contains_key(target)
    }

    /// Calls a service that [exists](Self::has). The answer is a success here whatever its status.
    ///
    /// Boxed, so that the program has hyper's client for it once, and not once for each crate that calls.
    pub fn invoke<'c>(&'c self, target: &'c str, call: Call) -> BoxFuture<'c, Result<Reply, Error>> {
        Box::pin(self.call(target, call))
    }

    async fn call(&self, target: &str, call: Call) -> Result<Reply, Error> {
        if let Some(endpoint) = self.named.get(target) {
            let endpoint = endpoint.as_ref().map_err(|reason| {
                Error::Invalid(format!("HTTPEndpoint {target:?} cannot be used: {reason}"))
            })?;
            // COMPAT(pkg/runtime/channels/channels.go): only resources follow redirects.
            return endpoint
                .client
                .invoke(&endpoint.base, &endpoint.headers, call, Redirects::Follow)
                .await;
        }
        let base = Base::parse(target)
            .ok_or_else(|| Error::Invalid("the URL has no host, or is not valid".to_owned()))?;
        self.client
            .invoke(&base, &HeaderMap::new(), call, Redirects::PassOn)
            .await
    }
}

/// Whether a target is a URL, to be called as it is.
pub fn is_url(target: &str) -> bool {
    target.starts_with("http://") || target.starts_with("https://")
}

impl Endpoint {
    fn new(config: Config, spawner: Spawner) -> Result<Self, Invalid> {
        let base = Base::parse(&config.base_url).ok_or_else(|| Invalid::Url(config.base_url.clone()))?;
        let mut headers = HeaderMap::with_capacity(config.headers.len());
        for (name, value) in &config.headers {
            let invalid = || Invalid::Header(name.clone());
            let mut value = HeaderValue::try_from(value).map_err(|_| invalid())?;
            value.set_sensitive(true);
            headers.insert(HeaderName::try_from(name).map_err(|_| invalid())?, value);
        }
        Ok(Self {
            base,
            headers,
            client: Client::new(config.tls, spawner),
        })
    }
}

impl Base {
    fn parse(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let scheme = uri.scheme().filter(|scheme| is_web(scheme))?;
        let authority = uri.authority()?.as_str();
        let (credentials, host) = match authority.rsplit_once('@') {
            Some((credentials, host)) => (Some(credentials), host),
            None => (None, authority),
        };
        if uri.host().is_none_or(str::is_empty) || uri.query().is_some() {
            return None;
        }
        let authorization = credentials.and_then(|credentials| {
            let decoded = percent_encoding::percent_decode_str(credentials).collect::<Vec<_>>();
            let mut value = HeaderValue::try_from(format!("Basic {}", BASE64.encode(decoded))).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        Some(Self {
            origin: format!("{scheme}://{host}"),
            path: uri.path().trim_end_matches('/').to_owned(),
            authorization,
        })
    }
}

fn is_web(scheme: &Scheme) -> bool {
    *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS
}

impl Client {
    fn new(tls: Option<ClientConfig>, spawner: Spawner) -> Self {
        let secure = OnceLock::new();
        if let Some(config) = tls {
            secure.get_or_init(|| tls::streaming(config, spawner.clone()));
        }
        Self {
            plain: OnceLock::new(),
            secure,
            spawner,
        }
    }

    async fn invoke(
        &self,
        base: &Base,
        ours: &HeaderMap,
        call: Call,
        redirects: Redirects,
    ) -> Result<Reply, Error> {
        let method = path::and_query(&call.method, &call.query)?;
        let mut headers = call.headers;
        headers.remove(CONTENT_LENGTH);
        for internal in [
            wire::DESTINATION_APP_ID,
            wire::CALLER_APP_ID,
            wire::CALLER_NAMESPACE,
            wire::CALLEE_APP_ID,
        ] {
            headers.remove(internal);
        }
        if let Some(authorization) = &base.authorization {
            headers
                .entry(AUTHORIZATION)
                .or_insert_with(|| authorization.clone());
        }
        for (name, value) in ours {
            headers.insert(name, value.clone());
        }
        // Without a method the URL itself is meant.
        let method = if method == "/" && !base.path.is_empty() {
            ""
        } else {
            &method
        };
        let url = format!("{}{}{method}", base.origin, base.path);
        let mut request = Request::new(call.body);
        *request.method_mut() = call.verb;
        *request.uri_mut() = url
            .parse()
            .map_err(|_| Error::Invalid(format!("{url:?} is not a valid URL")))?;
        *request.headers_mut() = headers;
        let (head, body) = self.send(request, ours, redirects).await?.into_parts();
        let mut headers = head.headers;
        wire::strip_hop_by_hop(&mut headers);
        headers.remove(CONTENT_LENGTH);
        Ok(Reply {
            status: Status::Http(head.status.as_u16()),
            headers,
            trailers: HeaderMap::new(),
            body: body.into(),
            type_url: String::new(),
        })
    }

    async fn send(
        &self,
        mut request: Request<Body>,
        ours: &HeaderMap,
        redirects: Redirects,
    ) -> Result<Response<Incoming>, Error> {
        let mut steps = 0;
        loop {
            let sent = match redirects {
                Redirects::Follow => Some(redirect::Sent::of(&request)),
                Redirects::PassOn => None,
            };
            let (verb, uri) = (request.method().clone(), request.uri().clone());
            let response = self.web(&uri)?.request(request).await.map_err(|error| {
                Error::Unavailable(format!("{verb} {}: {}", shown(&uri), tls::failure(&error)))
            })?;
            match sent.and_then(|sent| sent.next(&response, ours)) {
                None => return Ok(response),
                Some(_) if steps == redirect::MOST => {
                    return Err(Error::Malformed(format!(
                        "{verb} {}: stopped after {} redirects",
                        shown(&uri),
                        redirect::MOST
                    )));
                }
                Some(next) => {
                    steps += 1;
                    request = next;
                }
            }
        }
    }

    fn web(&self, uri: &Uri) -> Result<&Streaming<Body>, Error> {
        let make = |trust| {
            let settings = tls::Client {
                trust,
                ..tls::Client::default()
            };
            let config = tls::client(&settings).map_err(|error| Error::Invalid(error.to_string()))?;
            Ok(tls::streaming(config, self.spawner.clone()))
        };
        let (kept, trust) = if uri.scheme() == Some(&Scheme::HTTPS) {
            (&self.secure, tls::Trust::System)
        } else {
            // Nothing is trusted, because nothing is asked: without TLS there are no certificates.
            (&self.plain, tls::Trust::Nobody)
        };
        match kept.get() {
            Some(web) => Ok(web),
            None => {
                let web = make(trust)?;
                Ok(kept.get_or_init(|| web))
            }
        }
    }
}

/// A URL as it may be shown: without query.
fn shown(uri: &Uri) -> String {
    let text = uri.to_string();
    format!("{:?}", text.split('?').next().unwrap_or_default())
}
