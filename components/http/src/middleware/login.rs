//! `middleware.http.oauth2`: browsers log in at an authorization server first (authorization code grant).
//!
//! A session is a cookie and, in this process, what it stands for: where the browser wanted to go while it logs in, its token
//! afterwards. INVARIANT: there are never more than [`MOST`] sessions; the one that was used least recently goes first. Sessions
//! are gone with the sidecar.
//!
//! COMPAT(components-contrib middleware/http/oauth2): metadata, the way of a browser, status codes. Unlike there, `forceHTTPS`
//! makes a complete URL, and cookies cannot be read by scripts.

#[cfg(test)]
mod tests;

use super::token::{Source, Style, pairs, query};
use http::header::{COOKIE, HOST, HeaderName, HeaderValue, LOCATION, SET_COOKIE};
use http::{HeaderMap, StatusCode, Uri};
use outrigger_component::Component;
use outrigger_component::error::{Error, Result};
use outrigger_component::metadata::truthy;
use outrigger_component::middleware::{HttpMiddleware, Next, Request, Response, answer};
use outrigger_component::options::{NONE, Opt, REQUIRED, opt};
use outrigger_component::setup::Setup;
use outrigger_daemon::log::Log;
use regex::Regex;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

const COOKIE_NAME: &str = "outrigger-session";
/// Sessions kept at most.
const MOST: usize = 10_000;
/// How long a session lives that nobody uses.
const IDLE: Duration = Duration::from_secs(24 * 3600);

/// What can be written under its `metadata`.
pub(crate) const OPTIONS: &[Opt] = &[
    opt("clientID", NONE, "who asks for tokens"),
    opt("clientSecret", NONE, "its password"),
    opt("authURL", NONE, "where browsers are sent"),
    opt("tokenURL", NONE, "where codes become tokens"),
    opt("redirectURL", NONE, "where browsers come back to"),
    opt("scopes", NONE, "separated by commas"),
    opt(
        "authHeaderName",
        REQUIRED,
        "the header in which the app gets the token",
    ),
    opt("forceHTTPS", "false", "browsers return to `https://`"),
    opt(
        "pathFilter",
        "all",
        "regular expression: other paths pass without; it must match the path of `redirectURL`",
    ),
];

#[derive(Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Config {
    #[serde(rename = "clientID")]
    pub client_id: String,
    pub client_secret: String,
    /// Separated by commas.
    pub scopes: String,
    #[serde(rename = "authURL")]
    pub auth_url: String,
    #[serde(rename = "tokenURL")]
    pub token_url: String,
    pub auth_header_name: String,
    #[serde(rename = "redirectURL")]
    pub redirect_url: String,
    #[serde(rename = "forceHTTPS")]
    pub force_https: String,
    pub path_filter: String,
}

pub struct Login {
    source: Source,
    auth_url: String,
    scopes: String,
    redirect_url: String,
    header: HeaderName,
    force_https: bool,
    paths: Option<Regex>,
    sessions: Mutex<HashMap<String, Session>>,
    log: Log,
}

struct Session {
    used: Instant,
    stage: Stage,
}

#[derive(Clone)]
enum Stage {
    /// On its way: what the server must repeat, and where to go then.
    LoggingIn { state: String, target: String },
    /// The header's value.
    LoggedIn(HeaderValue),
}

impl Login {
    /// # Errors
    /// `Invalid` for addresses, header names and expressions that are none.
    pub async fn build(setup: Setup<Config>) -> Result<Self> {
        let config = setup.config;
        let source = Source::new(
            &config.token_url,
            config.client_id,
            config.client_secret,
            Style::Either,
            &setup.log,
        )?;
        if config.auth_url.parse::<Uri>().is_err() {
            return Err(Error::invalid("metadata \"authURL\" is no URL"));
        }
        Ok(Self {
            source,
            auth_url: config.auth_url,
            scopes: config.scopes.replace(',', " "),
            redirect_url: config.redirect_url,
            header: HeaderName::try_from(config.auth_header_name)
                .map_err(|_| Error::invalid("metadata \"authHeaderName\" is no name of a header"))?,
            force_https: truthy(&config.force_https),
            paths: super::filter(&config.path_filter)?,
            sessions: Mutex::default(),
            log: setup.log,
        })
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the session stands for; it counts as used.
    fn stage(&self, id: &str) -> Option<Stage> {
        let mut sessions = self.sessions();
        let session = sessions.get_mut(id)?;
        if session.used.elapsed() > IDLE {
            sessions.remove(id);
            return None;
        }
        session.used = Instant::now();
        Some(session.stage.clone())
    }

    fn keep(&self, id: &str, stage: Stage) {
        let mut sessions = self.sessions();
        if sessions.len() >= MOST && !sessions.contains_key(id) {
            let oldest = sessions
                .iter()
                .min_by_key(|(_, session)| session.used)
                .map(|(id, _)| id.clone());
            oldest.map(|oldest| sessions.remove(&oldest));
        }
        let used = Instant::now();
        sessions.insert(id.to_owned(), Session { used, stage });
    }

    /// To the authorization server.
    fn send_away(&self, request: &Request) -> Response {
        let (id, state) = (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
        let target = request
            .uri()
            .path_and_query()
            .map_or("/", |target| target.as_str());
        let target = match request.headers().get(HOST).and_then(|host| host.to_str().ok()) {
            Some(host) if self.force_https => format!("https://{host}{target}"),
            _ => target.to_owned(),
        };
        let mut ask = vec![
            ("response_type".to_owned(), "code".to_owned()),
            ("client_id".to_owned(), self.source.id.clone()),
            ("access_type".to_owned(), "offline".to_owned()),
            ("state".to_owned(), state.clone()),
        ];
        for (name, value) in [("redirect_uri", &self.redirect_url), ("scope", &self.scopes)] {
            if !value.is_empty() {
                ask.push((name.to_owned(), value.clone()));
            }
        }
        let joint = if self.auth_url.contains('?') { '&' } else { '?' };
        let to = format!("{}{joint}{}", self.auth_url, query(&ask));
        self.keep(&id, Stage::LoggingIn { state, target });
        redirect(&to, Some(&self.cookie(&id)))
    }

    /// Back from there: the code for a token.
    async fn return_with(&self, id: &str, stage: Stage, query: &[(String, String)]) -> Response {
        let value = |wanted: &str| {
            query
                .iter()
                .find(|(name, _)| name == wanted)
                .map(|(_, value)| value.as_str())
                .unwrap_or_default()
        };
        let Stage::LoggingIn { state, target } = stage else {
            return internal();
        };
        if value("state") != state {
            return answer(StatusCode::BAD_REQUEST, "invalid state");
        }
        let code = value("code");
        if code.is_empty() {
            return answer(StatusCode::BAD_REQUEST, "code not found");
        }
        let mut form = vec![
            ("grant_type".to_owned(), "authorization_code".to_owned()),
            ("code".to_owned(), code.to_owned()),
        ];
        if !self.redirect_url.is_empty() {
            form.push(("redirect_uri".to_owned(), self.redirect_url.clone()));
        }
        let token = self.source.token(&form).await.and_then(|token| {
            HeaderValue::try_from(token.value)
                .map_err(|_| Error::invalid("the token has characters that no header can have"))
        });
        match token {
            Ok(mut value) => {
                value.set_sensitive(true);
                self.keep(id, Stage::LoggedIn(value));
                redirect(&target, None)
            }
            Err(error) => {
                self.log.error(format_args!("Failed to exchange token: {error}"));
                internal()
            }
        }
    }

    fn cookie(&self, id: &str) -> String {
        let secure = if self.force_https { "; Secure" } else { "" };
        format!("{COOKIE_NAME}={id}; Path=/; HttpOnly; SameSite=Lax{secure}")
    }
}

impl Component for Login {}

#[async_trait::async_trait]
impl HttpMiddleware for Login {
    async fn handle(&self, mut request: Request, next: Next<'_>) -> Response {
        let path = request.uri().path();
        if self.paths.as_ref().is_some_and(|paths| !paths.is_match(path)) {
            return next.serve(request).await;
        }
        let session = session_of(request.headers()).and_then(|id| Some((id.to_owned(), self.stage(id)?)));
        if let Some((_, Stage::LoggedIn(value))) = session {
            request.headers_mut().append(&self.header, value);
            return next.serve(request).await;
        }
        let query = pairs(request.uri().query().unwrap_or_default());
        let returns = query
            .iter()
            .any(|(name, value)| name == "state" && !value.is_empty());
        match session {
            Some((id, stage)) if returns => self.return_with(&id, stage, &query).await,
            None if returns => internal(),
            _ => self.send_away(&request),
        }
    }
}

fn session_of(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(COOKIE_NAME)?.strip_prefix('='))
}

fn redirect(to: &str, cookie: Option<&str>) -> Response {
    let Ok(location) = HeaderValue::try_from(to) else {
        return internal();
    };
    let mut response = answer(StatusCode::FOUND, "");
    let headers = response.headers_mut();
    headers.insert(LOCATION, location);
    if let Some(Ok(cookie)) = cookie.map(HeaderValue::try_from) {
        headers.insert(SET_COOKIE, cookie);
    }
    response
}

fn internal() -> Response {
    answer(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
}
