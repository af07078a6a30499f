//! Tokens for the SASL mechanism OAUTHBEARER (RFC 7628), from a token endpoint by the client credentials grant (RFC 6749).
//!
//! A token is kept until shortly before it expires; brokers ask for it with each new connection only.

pub(crate) mod assertion;

use crate::failure::Failure;
use assertion::Assertion;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use http_body_util::{BodyExt as _, Full, Limited};
use outrigger_component::metadata::Hidden;
use outrigger_daemon::tasks::Spawner;
use outrigger_daemon::tls::{self, Web};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(30);
/// A token that is valid for less is fetched anew.
const MARGIN: Duration = Duration::from_secs(10);
/// Of an answer; tokens are some kilobytes.
const LONGEST: usize = 1 << 20;

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub endpoint: String,
    pub client_id: String,
    pub proof: Proof,
    /// With spaces between.
    pub scopes: String,
    pub extensions: BTreeMap<String, String>,
    pub tls: tls::Config,
}

/// How the endpoint knows that it is us.
#[derive(Debug, Clone)]
pub(crate) enum Proof {
    Secret(Hidden),
    Assertion(Assertion),
}

pub(crate) struct Tokens {
    settings: Settings,
    web: Web,
    kept: Mutex<Option<Kept>>,
}

struct Kept {
    token: String,
    /// `None` for ever.
    until: Option<Instant>,
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_in: Option<f64>,
}

impl Tokens {
    pub(crate) fn new(settings: Settings, spawner: &Spawner) -> Self {
        let web = Web::new(settings.tls.clone(), spawner.clone());
        Self {
            settings,
            web,
            kept: Mutex::default(),
        }
    }

    /// The token that is kept, or another.
    pub(crate) async fn current(&self) -> Result<String, Failure> {
        if let Some(token) = self.kept() {
            return Ok(token);
        }
        let answer = tokio::time::timeout(PATIENCE, self.fetch())
            .await
            .unwrap_or_else(|_| Err(self.failed(format!("no answer within {} s", PATIENCE.as_secs()))))?;
        let lasts = answer.expires_in.filter(|seconds| *seconds > 0.0);
        let lasts = lasts.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let token = answer.access_token.clone();
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(Kept {
            token: answer.access_token,
            until: lasts.and_then(|lasts| Instant::now().checked_add(lasts)),
        });
        Ok(token)
    }

    fn kept(&self) -> Option<String> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Kept { token, until } = kept.as_ref()?;
        let good = until.is_none_or(|until| until > Instant::now() + MARGIN);
        good.then(|| token.clone())
    }

    async fn fetch(&self) -> Result<Answer, Failure> {
        let Settings {
            endpoint,
            client_id,
            proof,
            scopes,
            ..
        } = &self.settings;
        let mut form = "grant_type=client_credentials".to_owned();
        let mut request = http::Request::post(endpoint);
        match proof {
            Proof::Secret(Hidden(secret)) => {
                let login = BASE64.encode(format!("{}:{}", encoded(client_id), encoded(secret)));
                request = request.header(http::header::AUTHORIZATION, format!("Basic {login}"));
            }
            Proof::Assertion(assertion) => {
                let part = assertion.form(client_id, endpoint);
                form = format!("{form}&{}", part.map_err(|cause| self.failed(cause))?);
            }
        }
        form = format!("{form}&scope={}", encoded(scopes));
        let request = request
            .header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(http::header::ACCEPT, "application/json")
            .body(Full::from(form))
            .map_err(|error| self.failed(error))?;
        let answer = self.web.request(request).await;
        let answer = answer.map_err(|error| self.failed(tls::failure(&error)))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LONGEST).collect().await;
        let body = body.map_err(|error| self.failed(error))?.to_bytes();
        if !status.is_success() {
            return Err(self.failed(format!(
                "it answered {status}: check oidcClientID, oidcScopes and {}",
                match proof {
                    Proof::Secret(_) => "oidcClientSecret",
                    Proof::Assertion(_) => "oidcClientAssertionKey, oidcKid, oidcAudience, oidcResource",
                }
            )));
        }
        serde_json::from_slice(&body).map_err(|_| self.failed("its answer holds no access_token"))
    }

    fn failed(&self, cause: impl ToString) -> Failure {
        Failure::Token {
            endpoint: self.settings.endpoint.clone(),
            cause: cause.to_string(),
        }
    }
}

/// What a client says first: the token, and the extensions (KIP-342).
pub(crate) fn first_words(token: &str, extensions: &BTreeMap<String, String>) -> Vec<u8> {
    let mut words = format!("n,,\x01auth=Bearer {token}\x01");
    for (name, value) in extensions {
        words += &format!("{name}={value}\x01");
    }
    words.push('\x01');
    words.into_bytes()
}

fn encoded(text: &str) -> impl std::fmt::Display {
    utf8_percent_encode(text, NON_ALPHANUMERIC)
}
