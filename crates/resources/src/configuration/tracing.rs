//! `spec.tracing`, and the OpenTelemetry variables that fill its gaps.

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use std::fmt;
use std::time::Duration;

/// Share of traces kept when the document names none, or none that is a number.
pub const SAMPLING_RATE: f64 = 0.0001;

/// Where spans go and how many.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Tracing {
    /// As written; see [`Tracing::rate`].
    pub sampling_rate: String,
    pub stdout: bool,
    pub zipkin: Zipkin,
    pub otel: Otel,
}

/// Empty address: no Zipkin exporter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Zipkin {
    pub endpoint_address: String,
}

/// Empty address: no OpenTelemetry exporter.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Otel {
    /// `grpc` or `http`.
    pub protocol: String,
    pub endpoint_address: String,
    pub is_secure: bool,
    /// `name=value`; may hold credentials. A document may also say `{name, value}`, as those of Kubernetes do.
    #[serde(deserialize_with = "header_texts")]
    pub headers: Vec<String>,
    #[serde(deserialize_with = "optional_duration")]
    pub timeout: Option<Duration>,
}

impl Default for Otel {
    fn default() -> Self {
        Self {
            protocol: String::new(),
            endpoint_address: String::new(),
            is_secure: true,
            headers: Vec::new(),
            timeout: None,
        }
    }
}

impl fmt::Debug for Otel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Otel")
            .field("protocol", &self.protocol)
            .field("endpoint_address", &self.endpoint_address)
            .field("is_secure", &self.is_secure)
            .field("headers", &format_args!("*** ({})", self.headers.len()))
            .field("timeout", &self.timeout)
            .finish()
    }
}

/// What is wrong with an OpenTelemetry variable or header. Values are not shown: they may be credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("OpenTelemetry header {position} lacks '='; write name=value, separated by commas")]
    Separator { position: usize },
    #[error("OpenTelemetry header {position} has a name that HTTP does not allow")]
    Name { position: usize },
    #[error("OpenTelemetry header {position} has a broken percent escape in its value")]
    Escape { position: usize },
    #[error("{variable} must be a whole number of milliseconds")]
    Timeout { variable: &'static str },
}

impl Tracing {
    /// Share of traces kept, 0 to 1; 0 turns tracing off.
    pub fn rate(&self) -> f64 {
        match self.sampling_rate.parse::<f64>() {
            Ok(rate) if rate.is_finite() => rate,
            _ => SAMPLING_RATE,
        }
    }

    /// Fills what the document leaves open from the `OTEL_EXPORTER_OTLP_*` variables. An endpoint in the document
    /// switches them all off. COMPAT(pkg/config/configuration.go SetTracingSpecFromEnv)
    pub fn fill(&mut self, variable: impl Fn(&str) -> Option<String>) -> Result<(), Error> {
        let first = |names: [&'static str; 2]| {
            names
                .into_iter()
                .find_map(|name| Some((name, variable(name).filter(|text| !text.is_empty())?)))
        };
        if !self.otel.endpoint_address.is_empty() {
            return Ok(());
        }
        if let Some((_, endpoint)) = first([
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
        ]) {
            let endpoint = endpoint.strip_prefix("http://").unwrap_or(&endpoint);
            let endpoint = endpoint.strip_prefix("https://").unwrap_or(endpoint);
            endpoint.clone_into(&mut self.otel.endpoint_address);
            if self.sampling_rate.is_empty() {
                "1".clone_into(&mut self.sampling_rate);
            }
            let protocol = first([
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
                "OTEL_EXPORTER_OTLP_PROTOCOL",
            ]);
            let is_http = protocol.is_some_and(|(_, protocol)| protocol.starts_with("http"));
            if is_http { "http" } else { "grpc" }.clone_into(&mut self.otel.protocol);
            if variable("OTEL_EXPORTER_OTLP_INSECURE").as_deref() == Some("true") {
                self.otel.is_secure = false;
            }
        }
        if let Some((_, text)) = first(["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"]) {
            let pairs = headers(&text)?;
            self.otel
                .headers
                .extend(pairs.into_iter().map(|(name, value)| format!("{name}={value}")));
        }
        if let Some((variable, text)) =
            first(["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"])
        {
            let milliseconds: i64 = text.parse().map_err(|_| Error::Timeout { variable })?;
            if let Ok(milliseconds @ 1..) = u64::try_from(milliseconds) {
                self.otel.timeout = Some(Duration::from_millis(milliseconds));
            }
        }
        Ok(())
    }
}

impl Otel {
    /// The headers as pairs. COMPAT(pkg/runtime/runtime.go, parseOtelHeaders): values are taken as they are, and what has no `=`
    /// is left out.
    pub fn header_pairs(&self) -> Vec<(String, String)> {
        let pairs = self.headers.iter().filter_map(|header| header.split_once('='));
        pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }
}

fn headers(text: &str) -> Result<Vec<(String, String)>, Error> {
    text.split(',')
        .enumerate()
        .map(|(index, header)| {
            let position = index + 1;
            let (name, value) = header.split_once('=').ok_or(Error::Separator { position })?;
            let name = name.trim();
            let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            if name.is_empty() || !name.bytes().all(is_token) {
                return Err(Error::Name { position });
            }
            let value = unescape(value).ok_or(Error::Escape { position })?;
            Ok((name.to_owned(), value.trim().to_owned()))
        })
        .collect()
}

/// Percent escapes to bytes; `None` when an escape is cut or not hexadecimal.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        bytes.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
    }
    Some(
        String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
    )
}

fn header_texts<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Header {
        Text(String),
        Pair { name: String, value: String },
    }
    let headers = Option::<Vec<Header>>::deserialize(from)?.unwrap_or_default();
    let texts = headers.into_iter().map(|header| match header {
        Header::Text(text) => text,
        Header::Pair { name, value } => format!("{name}={value}"),
    });
    Ok(texts.collect())
}

/// Go syntax in quotes or plain; a bare number is refused, as by the reference.
pub(super) fn optional_duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    Option::<String>::deserialize(from)?
        .map(|text| crate::go::duration(&text).map_err(D::Error::custom))
        .transpose()
}
