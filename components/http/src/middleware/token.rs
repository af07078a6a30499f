//! Tokens of an OAuth 2.0 token endpoint. Source: RFC 6749, sections 2.3.1, 4.1.3, 4.4, 5.
//!
//! COMPAT(golang.org/x/oauth2): how a client shows who it is, and how a token's type is written in a header.

use crate::client::{Ask, Client, Limits, Size};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, StatusCode, Uri};
use outrigger_component::error::{Error, Kind, Result};
use outrigger_daemon::log::Log;
use outrigger_daemon::tls::{self, Trust};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::fmt;
use std::time::Duration;

const LIMITS: Limits = Limits {
    time: Some(Duration::from_secs(15)),
    bytes: Size::First(1 << 20),
};
const FORM: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Where tokens come from, and who asks for them. The secret is never shown.
pub(super) struct Source {
    client: Client,
    endpoint: Uri,
    pub(super) id: String,
    secret: String,
    style: Style,
}

/// Where a client puts its id and secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// In the header, and in the form if that is refused.
    Either,
    Form,
    Header,
}

/// A token, ready for a header.
#[derive(Clone)]
pub(super) struct Token {
    /// Type and token.
    pub(super) value: String,
    /// `None`: it does not say.
    pub(super) lifetime: Option<Duration>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

impl Source {
    /// `url` is where tokens come from, the metadata `tokenURL`.
    ///
    /// # Errors
    /// `Invalid` for what is no URL.
    pub(super) fn new(url: &str, id: String, secret: String, style: Style, log: &Log) -> Result<Self> {
        let endpoint: Uri = url
            .parse()
            .map_err(|error| Error::invalid(format!("metadata \"tokenURL\" is no URL: {error}")))?;
        // The machine's authorities are some hundred files: not read for nothing.
        let trust = if endpoint.scheme_str() == Some("https") {
            Trust::System
        } else {
            Trust::Nobody
        };
        let tls = tls::client(&tls::Client {
            trust,
            ..tls::Client::default()
        })
        .map_err(|error| Error::invalid(error.to_string()))?;
        Ok(Self {
            client: Client::new(tls, log),
            endpoint,
            id,
            secret,
            style,
        })
    }

    /// # Errors
    /// When the endpoint cannot be reached, refuses, or answers something else.
    pub(super) async fn token(&self, form: &[(String, String)]) -> Result<Token> {
        match self.style {
            Style::Form => self.ask(form, false).await,
            Style::Header => self.ask(form, true).await,
            Style::Either => match self.ask(form, true).await {
                Err(error) if error.kind == Kind::PermissionDenied => self.ask(form, false).await,
                outcome => outcome,
            },
        }
    }

    async fn ask(&self, form: &[(String, String)], in_header: bool) -> Result<Token> {
        let mut pairs = form.to_vec();
        let mut headers = HeaderMap::new();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if in_header {
            let both = format!("{}:{}", escaped(&self.id), escaped(&self.secret));
            let mut value = HeaderValue::try_from(format!("Basic {}", BASE64.encode(both)))
                .map_err(|_| Error::internal("base64 is a header value"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        } else {
            pairs.push(("client_id".to_owned(), self.id.clone()));
            if !self.secret.is_empty() {
                pairs.push(("client_secret".to_owned(), self.secret.clone()));
            }
        }
        let ask = Ask {
            method: Method::POST,
            uri: self.endpoint.clone(),
            headers,
            body: query(&pairs).into(),
        };
        let answer = self.client.ask(ask, LIMITS).await?;
        let status = answer.status();
        if !status.is_success() {
            // The answer may repeat what was sent: it is not told.
            let kind = match status {
                StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    Kind::PermissionDenied
                }
                _ => Kind::Unavailable,
            };
            return Err(Error::new(
                kind,
                format!("the token endpoint answered with status {}", status.as_u16()),
            ));
        }
        read(answer.body()).ok_or_else(|| Error::invalid("the token endpoint did not answer with a token"))
    }
}

fn read(body: &[u8]) -> Option<Token> {
    #[derive(serde::Deserialize)]
    struct Written {
        access_token: String,
        #[serde(default)]
        token_type: String,
        /// A number, or a text that holds one.
        #[serde(default)]
        expires_in: serde_json::Value,
    }

    let written: Written = serde_json::from_slice(body).ok()?;
    if written.access_token.is_empty() {
        return None;
    }
    let kind = match written.token_type.to_ascii_lowercase().as_str() {
        "" | "bearer" => "Bearer",
        "mac" => "MAC",
        "basic" => "Basic",
        _ => &written.token_type,
    };
    let seconds = match &written.expires_in {
        serde_json::Value::Number(number) => number.as_u64(),
        serde_json::Value::String(text) => text.parse().ok(),
        _ => None,
    };
    Some(Token {
        value: format!("{kind} {}", written.access_token),
        lifetime: seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs),
    })
}

/// As a form or a query, sorted by name.
pub(super) fn query(pairs: &[(String, String)]) -> String {
    let mut pairs: Vec<_> = pairs.iter().collect();
    pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
    let written: Vec<String> = pairs
        .into_iter()
        .map(|(name, value)| format!("{}={}", escaped(name), escaped(value)))
        .collect();
    written.join("&")
}

/// The pairs of a query or form.
pub(super) fn pairs(query: &str) -> Vec<(String, String)> {
    form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

fn escaped(text: &str) -> String {
    utf8_percent_encode(text, FORM).to_string().replace("%20", "+")
}

#[cfg(test)]
mod tests {
    use super::{pairs, query, read};

    #[test]
    fn answers_of_the_endpoint() {
        for (body, expected) in [
            (
                r#"{"access_token":"t","token_type":"bearer","expires_in":60}"#,
                Some(("Bearer t", Some(60))),
            ),
            (
                r#"{"access_token":"t","expires_in":"60"}"#,
                Some(("Bearer t", Some(60))),
            ),
            (
                r#"{"access_token":"t","token_type":"DPoP"}"#,
                Some(("DPoP t", None)),
            ),
            (r#"{"access_token":"t","expires_in":0}"#, Some(("Bearer t", None))),
            (r#"{"access_token":""}"#, None),
            (r#"{"error":"no"}"#, None),
            ("", None),
        ] {
            let found = read(body.as_bytes());
            let seen = found
                .as_ref()
                .map(|token| (token.value.as_str(), token.lifetime.map(|it| it.as_secs())));
            assert_eq!(seen, expected, "{body}");
            assert!(!format!("{found:?}").contains("Bearer"), "tokens are not shown");
        }
    }

    #[test]
    fn forms() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let all = [pair("b", "1 2&3"), pair("a", "\u{e4}"), pair("b", "")];
        let text = query(&all);
        assert_eq!(text, "a=%C3%A4&b=1+2%263&b=");
        assert_eq!(
            pairs(&text),
            [pair("a", "\u{e4}"), pair("b", "1 2&3"), pair("b", "")]
        );
    }
}
