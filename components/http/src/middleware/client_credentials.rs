//! `middleware.http.oauth2clientcredentials`: requests get a token of ours as a header.
//!
//! The token is fetched with the first request and kept while it is valid; requests that arrive meanwhile wait for it.
//!
//! COMPAT(components-contrib middleware/http/oauth2clientcredentials): metadata and its texts. Unlike there, a request for
//! which there is no token is answered with 500 instead of an empty 200.

#[cfg(test)]
mod tests;

use super::token::{Source, Style, Token, pairs};
use http::StatusCode;
use http::header::{HeaderName, HeaderValue};
use outrigger_component::Component;
use outrigger_component::error::{Error, Result};
use outrigger_component::middleware::{HttpMiddleware, Next, Request, Response, answer};
use outrigger_component::options::{NONE, Opt, REQUIRED, opt};
use outrigger_component::setup::Setup;
use outrigger_daemon::log::Log;
use regex::Regex;
use std::time::Duration;
use tokio::sync::Mutex as Turn;
use tokio::time::Instant;

/// How long a token is kept that does not say how long it is valid.
const LIFETIME: Duration = Duration::from_secs(3600);
/// A token is not used in its last moments.
const MARGIN: Duration = Duration::from_secs(10);

/// What can be written under its `metadata`.
pub(crate) const OPTIONS: &[Opt] = &[
    opt("clientID", REQUIRED, "who asks for tokens"),
    opt("clientSecret", REQUIRED, "its password"),
    opt("tokenURL", REQUIRED, "where tokens are"),
    opt("scopes", REQUIRED, "separated by commas"),
    opt("headerName", REQUIRED, "which header gets the token"),
    opt("endpointParamsQuery", NONE, "further parameters: `a=1&b=2`"),
    opt(
        "authStyle",
        "0",
        "id and secret in the form (1), in the header (2), or either (0)",
    ),
    opt(
        "pathFilter",
        "all",
        "regular expression: other paths pass without",
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
    #[serde(rename = "tokenURL")]
    pub token_url: String,
    pub header_name: String,
    /// More parameters, as a query.
    pub endpoint_params_query: String,
    /// 0: either, 1: form, 2: header.
    pub auth_style: i64,
    pub path_filter: String,
}

pub struct ClientCredentials {
    source: Source,
    form: Vec<(String, String)>,
    header: HeaderName,
    paths: Option<Regex>,
    held: Turn<Option<(Token, Instant)>>,
    log: Log,
}

impl ClientCredentials {
    /// # Errors
    /// `Invalid`, naming everything that is missing or wrong.
    pub async fn build(setup: Setup<Config>) -> Result<Self> {
        let config = setup.config;
        let mut wrong = String::new();
        for (name, value) in [
            ("headerName", &config.header_name),
            ("clientID", &config.client_id),
            ("clientSecret", &config.client_secret),
            ("scopes", &config.scopes),
            ("tokenURL", &config.token_url),
        ] {
            if value.is_empty() {
                wrong.push_str(&format!("Parameter '{name}' needs to be set. "));
            }
        }
        let style = match config.auth_style {
            0 => Style::Either,
            1 => Style::Form,
            2 => Style::Header,
            other => {
                wrong.push_str(&format!(
                    "Parameter 'authStyle' can only have the values 0,1,2. Received: '{other}'. "
                ));
                Style::Either
            }
        };
        if !wrong.is_empty() {
            return Err(Error::invalid(format!("metadata errors: {wrong}")));
        }
        let source = Source::new(
            &config.token_url,
            config.client_id,
            config.client_secret,
            style,
            &setup.log,
        )?;
        let mut form = pairs(&config.endpoint_params_query);
        form.push(("grant_type".to_owned(), "client_credentials".to_owned()));
        form.push(("scope".to_owned(), config.scopes.replace(',', " ")));
        Ok(Self {
            form,
            header: HeaderName::try_from(config.header_name)
                .map_err(|_| Error::invalid("metadata \"headerName\" is no name of a header"))?,
            paths: super::filter(&config.path_filter)?,
            held: Turn::new(None),
            source,
            log: setup.log,
        })
    }

    /// A valid token. One request fetches it, the others wait.
    async fn token(&self) -> Result<HeaderValue> {
        let mut held = self.held.lock().await;
        if let Some((token, until)) = &*held
            && Instant::now() < *until
        {
            return value(token);
        }
        let token = self.source.token(&self.form).await?;
        let lifetime = token.lifetime.unwrap_or(LIFETIME);
        let header = value(&token)?;
        *held = Some((token, Instant::now() + lifetime.saturating_sub(MARGIN)));
        Ok(header)
    }
}

fn value(token: &Token) -> Result<HeaderValue> {
    let mut value = HeaderValue::try_from(&token.value)
        .map_err(|_| Error::invalid("the token has characters that no header can have"))?;
    value.set_sensitive(true);
    Ok(value)
}

impl Component for ClientCredentials {}

#[async_trait::async_trait]
impl HttpMiddleware for ClientCredentials {
    async fn handle(&self, mut request: Request, next: Next<'_>) -> Response {
        let path = request.uri().path();
        if self.paths.as_ref().is_some_and(|paths| !paths.is_match(path)) {
            return next.serve(request).await;
        }
        match self.token().await {
            Ok(value) => {
                request.headers_mut().append(&self.header, value);
                next.serve(request).await
            }
            Err(error) => {
                self.log.error(format_args!("Error acquiring token: {error}"));
                answer(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
            }
        }
    }
}
