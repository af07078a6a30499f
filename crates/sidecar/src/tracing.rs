//! From `spec.tracing` and the `OTEL_…` variables to a tracer.

use outrigger_daemon::trace::Settings;
use outrigger_daemon::trace::export;
use outrigger_resources::configuration::tracing::{Error, Tracing};
use std::time::Duration;

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
    if !tracing.otel.endpoint_address.is_empty() {
        exporters.push(export::Settings::Otlp(export::Otlp {
            protocol: if tracing.otel.protocol.starts_with("http") {
                export::Protocol::Http
            } else {
                export::Protocol::Grpc
            },
            endpoint: tracing.otel.endpoint_address.clone(),
            secure: tracing.otel.is_secure,
            headers: tracing.otel.header_pairs()?,
            timeout: tracing.otel.timeout.unwrap_or(OTLP_TIMEOUT),
        }));
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
    use super::attributes;

    #[test]
    fn resource_attributes() {
        let pairs = attributes("a=1, b = 2 ,broken,=x");
        assert_eq!(
            pairs,
            [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]
        );
    }
}
