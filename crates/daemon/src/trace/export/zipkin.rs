//! Spans as Zipkin v2 JSON.
//!
//! COMPAT(go.opentelemetry.io/otel/exporters/zipkin): names in lower case, attributes and resource as tags, the status
//! as `otel.status_code` and `error`.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{Resource, SCOPE, nanoseconds};
use crate::log::format::push_json_string;
use crate::trace::{Finished, Kind, Status};
use crate::version;

/// Attributes that name the other side, the best first.
const PEERS: [&str; 5] = [
    "peer.service",
    "server.address",
    "net.peer.name",
    "peer.hostname",
    "db.name",
];

pub(super) fn encode(batch: &[Box<Finished>], resource: &Resource) -> String {
    let mut out = String::with_capacity(batch.len() * 512);
    let mut separator = '[';
    for finished in batch {
        out.push(separator);
        separator = ',';
        span(&mut out, finished, resource);
    }
    out.push(']');
    out
}

fn span(out: &mut String, span: &Finished, resource: &Resource) {
    let context = &span.context;
    push(
        out,
        format_args!(
            "{{\"traceId\":\"{:032x}\",\"id\":\"{:016x}\"",
            context.trace_id(),
            context.span_id()
        ),
    );
    if span.parent != 0 {
        push(out, format_args!(",\"parentId\":\"{:016x}\"", span.parent));
    }
    out.push_str(",\"name\":");
    push_json_string(out, &span.name.to_lowercase());
    let kind = match span.kind {
        Kind::Internal => None,
        Kind::Server => Some("SERVER"),
        Kind::Client => Some("CLIENT"),
        Kind::Producer => Some("PRODUCER"),
        Kind::Consumer => Some("CONSUMER"),
    };
    if let Some(kind) = kind {
        push(out, format_args!(",\"kind\":\"{kind}\""));
    }
    // Microseconds, and never none: Zipkin takes a missing duration for an unfinished span.
    let duration = span.duration.as_micros().max(1);
    push(
        out,
        format_args!(
            ",\"timestamp\":{},\"duration\":{duration}",
            nanoseconds(span.start) / 1000
        ),
    );
    out.push_str(",\"localEndpoint\":{\"serviceName\":");
    push_json_string(out, &resource.service);
    out.push('}');
    if let Some(peer) = peer(span) {
        out.push_str(",\"remoteEndpoint\":{\"serviceName\":");
        push_json_string(out, &peer);
        out.push('}');
    }
    out.push_str(",\"tags\":");
    let mut separator = '{';
    for (key, value) in tags(span, resource) {
        out.push(separator);
        separator = ',';
        push_json_string(out, &key);
        out.push(':');
        push_json_string(out, &value);
    }
    out.push_str("}}");
}

fn peer(span: &Finished) -> Option<String> {
    if !matches!(span.kind, Kind::Client | Kind::Producer) {
        return None;
    }
    PEERS.iter().find_map(|peer| {
        let (_, value) = span.attributes.iter().find(|(key, _)| key == peer)?;
        Some(value.to_string())
    })
}

fn tags(span: &Finished, resource: &Resource) -> BTreeMap<String, String> {
    let mut tags: BTreeMap<String, String> = span
        .attributes
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect();
    tags.extend(resource.attributes.iter().cloned());
    tags.insert("service.name".to_owned(), resource.service.clone());
    tags.insert("otel.scope.name".to_owned(), SCOPE.to_owned());
    tags.insert("otel.scope.version".to_owned(), version::VERSION.to_owned());
    match &span.status {
        Status::Unset => {}
        Status::Ok => {
            tags.insert("otel.status_code".to_owned(), "OK".to_owned());
        }
        Status::Error(description) => {
            tags.insert("otel.status_code".to_owned(), "ERROR".to_owned());
            tags.insert("error".to_owned(), description.clone());
        }
    }
    tags
}

fn push(out: &mut String, value: std::fmt::Arguments<'_>) {
    out.write_fmt(value)
        .expect("writing numbers to a string does not fail");
}
