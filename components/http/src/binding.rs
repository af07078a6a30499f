//! `bindings.http`: a request to a server, with the answer as the answer.
//!
//! COMPAT(components-contrib bindings/http): operations, metadata of requests and answers, which of them are headers, texts.
//! Unlike there, no proxy is taken from the environment, and requests have a `user-agent` of ours unless they bring one.

#[cfg(test)]
mod tests;

use crate::client::{Ask, Client, Limits, Size};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use http::{HeaderMap, Method, Response, Uri};
use outrigger_component::Component;
use outrigger_component::binding::{Failed, Invoke, Output, OutputBinding};
use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::metadata::{self, Metadata};
use outrigger_component::options::{NONE, Opt, REQUIRED, opt};
use outrigger_component::setup::Setup;
use outrigger_daemon::tls::{self, Pem, Trust};
use outrigger_resources::go::quantity;
use std::path::Path;
use std::time::Duration;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const AGENT: HeaderValue = HeaderValue::from_static("outrigger");
/// Bytes of an answer that are read unless the component says otherwise.
const ANSWER_LIMIT: usize = 100 << 20;
/// The metadata that passes a trace on, in lower case as the runtime writes it.
const TRACE: [&str; 3] = ["traceparent", "tracestate", "baggage"];

/// What can be written under its `metadata`.
pub(crate) const OPTIONS: &[Opt] = &[
    opt("url", REQUIRED, "`http://…` or `https://…`"),
    opt(
        "MTLSRootCA",
        "the machine's authorities",
        "PEM or path; the only ones that are trusted",
    ),
    opt("MTLSClientCert", NONE, "certificate of the client, PEM or path"),
    opt("MTLSClientKey", NONE, "its key, PEM or path"),
    opt(
        "MTLSRenegotiation",
        "RenegotiateNever",
        "others have no effect and a warning says so",
    ),
    opt(
        "securityTokenHeader",
        NONE,
        "header that carries `securityToken` in every request; both are needed",
    ),
    opt("securityToken", NONE, "what that header says"),
    opt("responseTimeout", "no limit", "for the whole answer"),
    opt(
        "maxResponseBodySize",
        "100Mi",
        "`512k`, `10Mi`, …; the rest of an answer is cut off; 0 is no limit",
    ),
    opt(
        "errorIfNot2XX",
        "true",
        "an answer outside of 200 to 299 is an error",
    ),
];

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    #[serde(default)]
    pub url: String,
    #[serde(default, rename = "MTLSRootCA")]
    pub root_ca: String,
    #[serde(default, rename = "MTLSClientCert")]
    pub client_cert: String,
    #[serde(default, rename = "MTLSClientKey")]
    pub client_key: String,
    #[serde(default, rename = "MTLSRenegotiation")]
    pub renegotiation: String,
    #[serde(default)]
    pub security_token: String,
    #[serde(default)]
    pub security_token_header: String,
    #[serde(default, deserialize_with = "metadata::duration_opt")]
    pub response_timeout: Option<Duration>,
    /// Bytes, or a number with a unit (`10Mi`); zero and less are no limit.
    #[serde(default)]
    pub max_response_body_size: String,
    #[serde(default, rename = "errorIfNot2XX")]
    pub error_if_not_2xx: String,
}

pub struct Http {
    client: Client,
    url: String,
    token: Option<(HeaderName, HeaderValue)>,
    limits: Limits,
    error_if_not_2xx: bool,
}

impl Http {
    /// # Errors
    /// `Invalid` for a URL that is none, certificates that cannot be read, and a limit that is no size.
    pub async fn build(setup: Setup<Config>) -> Result<Self> {
        let config = setup.config;
        let uri: Uri = config
            .url
            .parse()
            .map_err(|error| Error::invalid(format!("metadata \"url\" is no URL: {error}")))?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => {
                return Err(Error::invalid(
                    "metadata \"url\" must begin with http:// or https://",
                ));
            }
        };
        let files = Files::read(&config).await?;
        let tls = files
            .config(secure)
            .map_err(|error| Error::invalid(error.to_string()))?;
        match tls::renegotiation("MTLSRenegotiation", &config.renegotiation) {
            Ok(None) => {}
            Ok(Some(warning)) => setup.log.warn(format_args!("binding {}: {warning}", setup.name)),
            Err(_) => {
                let text = format!("invalid renegotiation value: {}", config.renegotiation);
                return Err(Error::invalid(text));
            }
        }
        Ok(Self {
            client: Client::new(tls, &setup.log),
            url: config.url,
            token: token(&config.security_token_header, &config.security_token)?,
            limits: Limits {
                time: config.response_timeout.filter(|time| !time.is_zero()),
                bytes: limit(&config.max_response_body_size)?,
            },
            error_if_not_2xx: config.error_if_not_2xx.is_empty()
                || metadata::truthy(&config.error_if_not_2xx),
        })
    }

    fn ask(&self, invoke: Invoke) -> Result<Ask> {
        let path = invoke.metadata.get("path").unwrap_or_default();
        let url = if path.is_empty() {
            self.url.clone()
        } else {
            format!(
                "{}/{}",
                self.url.trim_end_matches('/'),
                path.trim_start_matches('/')
            )
        };
        let uri: Uri = url
            .parse()
            .map_err(|error| Error::invalid(format!("parse {url:?}: {error}")))?;
        let operation = invoke.operation.to_ascii_uppercase();
        let (method, with_body) = match operation.as_str() {
            "CREATE" | "POST" => (Method::POST, true),
            "PUT" => (Method::PUT, true),
            "PATCH" => (Method::PATCH, true),
            "GET" => (Method::GET, false),
            "HEAD" => (Method::HEAD, false),
            "DELETE" => (Method::DELETE, false),
            "OPTIONS" => (Method::OPTIONS, false),
            "TRACE" => (Method::TRACE, false),
            _ => return Err(Error::invalid(format!("invalid operation: {}", invoke.operation))),
        };
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, JSON);
        headers.insert(USER_AGENT, AGENT);
        if with_body {
            headers.insert(CONTENT_TYPE, JSON);
        }
        if let Some((name, value)) = &self.token {
            headers.insert(name, value.clone());
        }
        for (name, value) in invoke.metadata.iter() {
            // What begins with a capital letter is a header; the rest is for us.
            if name.starts_with(|first: char| first.is_ascii_uppercase()) {
                let (name, value) = header(name, value)?;
                headers.insert(name, value);
            }
        }
        // A trace of our own goes before one that was given as a header.
        for name in TRACE {
            if let Some(value) = invoke.metadata.get(name).filter(|value| !value.is_empty()) {
                let (name, value) = header(name, value)?;
                headers.insert(name, value);
            }
        }
        Ok(Ask {
            method,
            uri,
            headers,
            body: if with_body { invoke.data } else { Bytes::new() },
        })
    }
}

impl Component for Http {}

#[async_trait::async_trait]
impl OutputBinding for Http {
    fn operations(&self) -> &[&'static str] {
        &[
            "create", "get", "head", "post", "put", "patch", "delete", "options", "trace",
        ]
    }

    async fn invoke(&self, invoke: Invoke) -> Result<Option<Output>, Failed> {
        let error_if_not_2xx = match invoke.metadata.get("errorIfNot2XX").unwrap_or_default() {
            "" => self.error_if_not_2xx,
            said => metadata::truthy(said),
        };
        let ask = self.ask(invoke)?;
        let answer = self.client.ask(ask, self.limits).await?;
        let status = answer.status();
        let metadata = described(&answer);
        if error_if_not_2xx && !status.is_success() {
            let text = format!("received status code {}", status.as_u16());
            return Err(Failed {
                error: Error::new(Kind::Internal, text),
                metadata,
            });
        }
        Ok(Some(Output {
            data: answer.into_body(),
            metadata,
        }))
    }
}

/// Status and headers. COMPAT: names of headers as Go writes them, values of one name joined.
fn described(answer: &Response<Bytes>) -> Metadata {
    let status = answer.status();
    let text = format!(
        "{} {}",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default()
    );
    let mut metadata = Metadata::new();
    for name in answer.headers().keys() {
        let values: Vec<_> = answer
            .headers()
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .collect();
        metadata.insert(canonical(name.as_str()), values.join(", "));
    }
    metadata.insert("statusCode", status.as_u16().to_string());
    metadata.insert("status", text.trim_end());
    metadata
}

/// `content-type` as `Content-Type`.
fn canonical(name: &str) -> String {
    let mut upper = true;
    name.chars()
        .map(|letter| {
            let shown = if upper {
                letter.to_ascii_uppercase()
            } else {
                letter
            };
            upper = letter == '-';
            shown
        })
        .collect()
}

fn token(name: &str, value: &str) -> Result<Option<(HeaderName, HeaderValue)>> {
    if name.is_empty() || value.is_empty() {
        return Ok(None);
    }
    let name = HeaderName::try_from(name)
        .map_err(|_| Error::invalid("metadata \"securityTokenHeader\" is no name of a header"))?;
    let mut value = HeaderValue::try_from(value)
        .map_err(|_| Error::invalid("metadata \"securityToken\" has characters that no header can have"))?;
    value.set_sensitive(true);
    Ok(Some((name, value)))
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue)> {
    match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
        (Ok(name), Ok(value)) => Ok((name, value)),
        _ => Err(Error::invalid(format!(
            "metadata {name:?} cannot be sent as a header"
        ))),
    }
}

fn limit(text: &str) -> Result<Size> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(Size::First(ANSWER_LIMIT));
    }
    if text.parse::<i64>().is_ok_and(|bytes| bytes <= 0) {
        return Ok(Size::All);
    }
    let bytes = quantity::parse(text)
        .map_err(|error| Error::invalid(format!("invalid value for maxResponseBodySize: {error}")))?;
    // More than can be addressed is as good as no limit.
    Ok(usize::try_from(bytes).map_or(Size::All, Size::First))
}

/// The certificates of a component, each given as PEM or as the path of a file.
struct Files {
    root_ca: Option<String>,
    client_cert: Option<String>,
    client_key: Option<String>,
}

impl Files {
    async fn read(config: &Config) -> Result<Self> {
        Ok(Self {
            root_ca: pem("MTLSRootCA", &config.root_ca).await?,
            client_cert: pem("MTLSClientCert", &config.client_cert).await?,
            client_key: pem("MTLSClientKey", &config.client_key).await?,
        })
    }

    /// The machine's authorities count unless one is given. Without TLS nothing of it is looked at.
    fn config(&self, secure: bool) -> std::result::Result<tls::Config, tls::Error> {
        let trust = match &self.root_ca {
            Some(text) => Trust::Only(Pem {
                field: "MTLSRootCA",
                text,
            }),
            None if secure => Trust::System,
            None => Trust::Nobody,
        };
        // COMPAT: half an identity is none.
        let identity = match (&self.client_cert, &self.client_key) {
            (Some(certificate), Some(key)) => tls::pair(
                ("MTLSClientCert", Some(certificate)),
                ("MTLSClientKey", Some(key)),
            )?,
            _ => None,
        };
        tls::client(&tls::Client {
            trust,
            identity,
            protocols: &[],
        })
    }
}

async fn pem(name: &str, given: &str) -> Result<Option<String>> {
    if given.is_empty() {
        return Ok(None);
    }
    if given.contains("-----BEGIN ") {
        return Ok(Some(given.to_owned()));
    }
    tokio::fs::read_to_string(Path::new(given))
        .await
        .map(Some)
        .map_err(|error| {
            // The value itself may be part of a key.
            Error::invalid(format!(
                "provided {name:?} value is neither a valid file path or nor a valid pem encoded string: {error}"
            ))
        })
}
