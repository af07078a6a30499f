//! From `spec.tracing` and the `OTEL_…` variables to a tracer.

use outrigger_daemon::trace::Settings;
use outrigger_daemon::trace::export;
use outrigger_resources::configuration::tracing::{self, Otel, Tracing};
use std::time::Duration;

/// Why there is no tracer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("error setting tracing spec from env: {0}")]
    Variables(#[from] tracing::Error),
    #[error("failed to setup tracing: invalid protocol {0} provided for Otel endpoint")]
    Protocol(String),
    #[error("failed to setup tracing: {variable} names {path}, which cannot be read: {source}")]
    File {
        variable: &'static str,
        path: String,
        source: std::io::Error,
    },
    #[error(
        "failed to setup tracing: a client certificate needs OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY"
    )]
    HalfIdentity,
}

/// For one try of an OTLP export. Source: OpenTelemetry protocol exporter specification.
const OTLP_TIMEOUT: Duration = Duration::from_secs(10);

/// `app_id` is the service's name unless `OTEL_SERVICE_NAME` says otherwise.
pub(crate) fn settings(
    mut tracing: Tracing,
    app_id: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Settings, Error> {
    tracing.fill(&variable)?;
    let mut exporters = Vec::new();
    if tracing.stdout {
        exporters.push(export::Settings::Stdout);
    }
    if !tracing.zipkin.endpoint_address.is_empty() {
        exporters.push(export::Settings::Zipkin {
            endpoint: tracing.zipkin.endpoint_address.clone(),
        });
    }
    // COMPAT(pkg/runtime/runtime.go, setupTracing): an endpoint without a protocol is no exporter.
    if !tracing.otel.endpoint_address.is_empty() && !tracing.otel.protocol.is_empty() {
        exporters.push(export::Settings::Otlp(otlp(&tracing.otel, &variable)?));
    }
    Ok(Settings {
        // COMPAT(pkg/runtime/runtime.go, setupTracing): with neither a rate nor an exporter there is no tracing, and the
        // context that comes in is passed on as it is.
        sampling_rate: (!tracing.sampling_rate.is_empty()).then(|| tracing.sampling_rate.clone()),
        service: variable("OTEL_SERVICE_NAME")
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| app_id.to_owned()),
        resource: variable("OTEL_RESOURCE_ATTRIBUTES")
            .map(|text| attributes(&text))
            .unwrap_or_default(),
        exporters,
    })
}

fn otlp(otel: &Otel, variable: &impl Fn(&str) -> Option<String>) -> Result<export::Otlp, Error> {
    let certificate = file(
        [
            "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
            "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
        ],
        variable,
    )?;
    let key = file(
        [
            "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY",
            "OTEL_EXPORTER_OTLP_CLIENT_KEY",
        ],
        variable,
    )?;
    Ok(export::Otlp {
        protocol: match otel.protocol.as_str() {
            "http" => export::Protocol::Http,
            "grpc" => export::Protocol::Grpc,
            other => return Err(Error::Protocol(other.to_owned())),
        },
        endpoint: otel.endpoint_address.clone(),
        secure: otel.is_secure,
        headers: otel.header_pairs(),
        timeout: otel.timeout.unwrap_or(OTLP_TIMEOUT),
        authorities: file(
            [
                "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
                "OTEL_EXPORTER_OTLP_CERTIFICATE",
            ],
            variable,
        )?,
        identity: match (certificate, key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((certificate, key)),
            _ => return Err(Error::HalfIdentity),
        },
    })
}

/// The file that the first of these variables names. Source: OpenTelemetry protocol exporter specification, which the
/// reference's exporters follow too.
fn file(
    names: [&'static str; 2],
    variable: &impl Fn(&str) -> Option<String>,
) -> Result<Option<String>, Error> {
    let named = names
        .into_iter()
        .find_map(|name| Some((name, variable(name).filter(|path| !path.is_empty())?)));
    let Some((variable, path)) = named else {
        return Ok(None);
    };
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(source) => Err(Error::File {
            variable,
            path,
            source,
        }),
    }
}

/// `key=value,key=value`; pairs that are not such are left out, as the OpenTelemetry SDKs do.
fn attributes(text: &str) -> Vec<(String, String)> {
    text.split(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        .filter(|(key, _)| !key.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{attributes, settings};
    use outrigger_resources::configuration::tracing::{Otel, Tracing};

    #[test]
    fn resource_attributes() {
        let pairs = attributes("a=1, b = 2 ,broken,=x");
        assert_eq!(
            pairs,
            [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]
        );
    }

    #[test]
    fn collectors() {
        let folder = tempfile::tempdir().unwrap();
        let pem = folder.path().join("ca.pem").display().to_string();
        std::fs::write(&pem, "text").unwrap();
        let absent = folder.path().join("absent").display().to_string();
        for (protocol, variables, expect) in [
            ("grpc", [("", ""), ("", "")], Ok("Grpc, false, false")),
            (
                "http",
                [("OTEL_EXPORTER_OTLP_CERTIFICATE", pem.as_str()), ("", "")],
                Ok("Http, true, false"),
            ),
            (
                "grpc",
                [
                    ("OTEL_EXPORTER_OTLP_CLIENT_KEY", &pem),
                    ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", &pem),
                ],
                Ok("Grpc, false, true"),
            ),
            ("", [("", ""), ("", "")], Ok("none")),
            (
                "http/protobuf",
                [("", ""), ("", "")],
                Err("invalid protocol http/protobuf provided"),
            ),
            (
                "grpc",
                [("OTEL_EXPORTER_OTLP_CLIENT_KEY", &pem), ("", "")],
                Err("a client certificate needs"),
            ),
            (
                "grpc",
                [("OTEL_EXPORTER_OTLP_CERTIFICATE", &absent), ("", "")],
                Err("OTEL_EXPORTER_OTLP_CERTIFICATE names "),
            ),
        ] {
            let tracing = Tracing {
                otel: Otel {
                    protocol: protocol.to_owned(),
                    endpoint_address: "collector:1".to_owned(),
                    ..Otel::default()
                },
                ..Tracing::default()
            };
            let variable = |name: &str| {
                variables
                    .iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| (*value).to_owned())
            };
            let found =
                settings(tracing, "shop", variable).map(|settings| match settings.exporters.as_slice() {
                    [outrigger_daemon::trace::export::Settings::Otlp(otlp)] => {
                        format!(
                            "{:?}, {}, {}",
                            otlp.protocol,
                            otlp.authorities.is_some(),
                            otlp.identity.is_some()
                        )
                    }
                    _ => "none".to_owned(),
                });
            match (found, expect) {
                (Ok(found), Ok(expect)) => assert_eq!(found, expect, "{protocol}"),
                (Err(error), Err(expect)) => assert!(error.to_string().contains(expect), "{error}"),
                (found, expect) => panic!("{protocol}: {found:?} instead of {expect:?}"),
            }
        }
    }
}
