//! `middleware.http.bearer`: only requests with a valid token of one issuer pass.
//!
//! The token is a JWT in `authorization: Bearer …`, signed by a key of the issuer's key set, for our audience, and in its time
//! with five minutes of tolerance. The key set is fetched at the start, again when it is old, and at once, though seldom, when a token
//! names a key that is not in it: the issuer has changed its keys. While the issuer cannot be reached, the old set stays.
//!
//! Invariants: a request without a valid token never passes, whatever fails. Which rule a token broke is not told.
//!
//! COMPAT(components-contrib middleware/http/bearer): metadata, status codes, tolerance. Tokens must name their key.

mod jwt;
mod keys;
#[cfg(test)]
mod tests;

use crate::client::{Client, Limits, Size, get};
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode, Uri};
use keys::Keys;
use outrigger_component::Component;
use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::middleware::{HttpMiddleware, Next, Request, Response, answer};
use outrigger_component::options::{Opt, REQUIRED, opt};
use outrigger_component::setup::Setup;
use outrigger_daemon::log::Log;
use outrigger_daemon::tls::{self, Trust};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::Mutex as Turn;
use tokio::time::Instant;

/// How long a key set is taken for current. COMPAT: the least time between two fetches there.
const FRESH: Duration = Duration::from_secs(600);
/// Pause between fetches because of unknown keys, and after a fetch that failed.
const AGAIN: Duration = Duration::from_secs(10);
const LIMITS: Limits = Limits {
    time: Some(Duration::from_secs(10)),
    bytes: Size::First(1 << 20),
};
/// Shorter texts are no token. COMPAT.
const SHORTEST: usize = 10;

/// What can be written under its `metadata`.
pub(crate) const OPTIONS: &[Opt] = &[
    opt("issuer", REQUIRED, "what `iss` must be").or(&["issuerURL"]),
    opt("audience", REQUIRED, "what `aud` must be, or hold").or(&["clientID"]),
    opt(
        "jwksURL",
        "as the issuer's `/.well-known/openid-configuration` says",
        "where the keys are",
    ),
];

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Config {
    pub issuer: String,
    /// An older name of `issuer`.
    #[serde(rename = "issuerURL")]
    pub issuer_url: String,
    pub audience: String,
    /// An older name of `audience`.
    #[serde(rename = "clientID")]
    pub client_id: String,
    #[serde(rename = "jwksURL")]
    pub jwks_url: String,
}

pub struct Bearer {
    rules: jwt::Rules,
    issuer: Issuer,
}

/// Where keys come from, and those we have.
struct Issuer {
    client: Client,
    keys_at: Uri,
    held: Mutex<Held>,
    /// Whose turn it is to fetch; the others wait for what comes of it, or do without.
    turn: Turn<()>,
    log: Log,
}

struct Held {
    keys: Arc<Keys>,
    /// When they were fetched, or when that was tried last.
    tried: Instant,
    due: Instant,
}

impl Bearer {
    /// Asks the issuer for its keys.
    ///
    /// # Errors
    /// `Invalid` without issuer or audience; when the issuer cannot be asked, or answers something else.
    pub async fn build(setup: Setup<Config>) -> Result<Self> {
        let config = setup.config;
        let either = |one: String, other: String| if one.is_empty() { other } else { one };
        let issuer = either(config.issuer, config.issuer_url);
        let audience = either(config.audience, config.client_id);
        for (name, value) in [("issuer", &issuer), ("audience", &audience)] {
            if value.is_empty() {
                return Err(Error::invalid(format!("metadata property '{name}' is required")));
            }
        }
        let secure = [&issuer, &config.jwks_url]
            .iter()
            .any(|url| url.starts_with("https:"));
        let tls = tls::client(&tls::Client {
            trust: if secure { Trust::System } else { Trust::Nobody },
            ..tls::Client::default()
        })
        .map_err(|error| Error::invalid(error.to_string()))?;
        let client = Client::new(tls, &setup.log);
        let keys_at = if config.jwks_url.is_empty() {
            discover(&client, &issuer)
                .await
                .map_err(|error| named("failed to retrieve OpenID Configuration document", error))?
        } else {
            config.jwks_url
        };
        let keys_at: Uri = keys_at.parse().map_err(|error| {
            Error::invalid(format!(
                "the address of the keys, {keys_at:?}, is no URL: {error}"
            ))
        })?;
        let keys = fetch(&client, &keys_at)
            .await
            .map_err(|error| named("failed to fetch JWKS", error))?;
        let now = Instant::now();
        Ok(Self {
            rules: jwt::Rules { issuer, audience },
            issuer: Issuer {
                client,
                keys_at,
                held: Mutex::new(Held {
                    keys: Arc::new(keys),
                    tried: now,
                    due: now + FRESH,
                }),
                turn: Turn::new(()),
                log: setup.log,
            },
        })
    }

    async fn admits(&self, token: &str) -> bool {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let keys = self.issuer.keys().await;
        match self.rules.check(token, &keys, now) {
            Ok(()) => true,
            Err(jwt::Refused::UnknownKey) => match self.issuer.newer_than(&keys).await {
                Some(newer) => self.rules.check(token, &newer, now).is_ok(),
                None => false,
            },
            Err(jwt::Refused::Invalid) => false,
        }
    }
}

impl Issuer {
    /// The keys; fetched again first when they are old and nobody else is about to.
    async fn keys(&self) -> Arc<Keys> {
        let (keys, old) = {
            let held = self.held();
            (held.keys.clone(), Instant::now() >= held.due)
        };
        if !old {
            return keys;
        }
        match self.turn.try_lock() {
            Ok(_turn) => self.refresh().await.unwrap_or(keys),
            Err(_) => keys,
        }
    }

    /// Keys that were fetched after these; `None` when there are none, or it was tried a moment ago.
    async fn newer_than(&self, known: &Arc<Keys>) -> Option<Arc<Keys>> {
        let _turn = self.turn.lock().await;
        {
            let held = self.held();
            if !Arc::ptr_eq(&held.keys, known) {
                return Some(held.keys.clone());
            }
            if held.tried.elapsed() < AGAIN {
                return None;
            }
        }
        self.refresh().await
    }

    async fn refresh(&self) -> Option<Arc<Keys>> {
        let fetched = fetch(&self.client, &self.keys_at).await;
        let mut held = self.held();
        held.tried = Instant::now();
        match fetched {
            Ok(keys) => {
                held.keys = Arc::new(keys);
                held.due = held.tried + FRESH;
                Some(held.keys.clone())
            }
            Err(error) => {
                held.due = held.tried + AGAIN;
                drop(held);
                self.log
                    .warn(format_args!("Error while refreshing JWKS cache: {error}"));
                None
            }
        }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Component for Bearer {}

#[async_trait::async_trait]
impl HttpMiddleware for Bearer {
    async fn handle(&self, request: Request, next: Next<'_>) -> Response {
        let token = request
            .headers()
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(token_of);
        let admitted = match token {
            Some(token) => self.admits(token).await,
            None => false,
        };
        if admitted {
            return next.serve(request).await;
        }
        let mut response = answer(StatusCode::UNAUTHORIZED, "Unauthorized");
        response
            .headers_mut()
            .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        response
    }
}

/// What stands behind `Bearer `, in any case.
fn token_of(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && token.len() >= SHORTEST).then_some(token)
}

/// Where the issuer's discovery document says its keys are.
/// Source: OpenID Connect Discovery 1.0, section 4.
async fn discover(client: &Client, issuer: &str) -> Result<String> {
    #[derive(serde::Deserialize)]
    struct Document {
        #[serde(default)]
        issuer: String,
        #[serde(default)]
        jwks_uri: String,
    }

    let url = format!(
        "{}/.well-known/openid-configuration",
        issuer.strip_suffix('/').unwrap_or(issuer)
    );
    let body = get(client, &url, LIMITS).await?;
    let document: Document = serde_json::from_slice(&body)
        .map_err(|error| Error::invalid(format!("failed to decode JSON response: {error}")))?;
    if document.jwks_uri.is_empty() {
        return Err(Error::invalid(
            "the OpenID Configuration document does not contain a 'jwks_uri'",
        ));
    }
    if document.issuer != issuer {
        return Err(Error::invalid(format!(
            "the issuer found in the OpenID Configuration document ('{}') doesn't match the one provided in the component's metadata ('{issuer}')",
            document.issuer
        )));
    }
    Ok(document.jwks_uri)
}

async fn fetch(client: &Client, at: &Uri) -> Result<Keys> {
    let body = get(client, &at.to_string(), LIMITS).await?;
    Keys::parse(&body).ok_or_else(|| {
        Error::new(
            Kind::Invalid,
            format!("{at} did not answer with a JSON Web Key Set"),
        )
    })
}

fn named(what: &str, error: Error) -> Error {
    Error {
        message: format!("{what}: {}", error.message),
        ..error
    }
}
