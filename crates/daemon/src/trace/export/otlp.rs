//! Spans as an OTLP `ExportTraceServiceRequest`.
//!
//! Field numbers: proto/opentelemetry/proto/{collector/trace,trace,resource,common}/v1.

use super::protobuf::Message;
use super::{Resource, SCOPE, nanoseconds};
use crate::trace::{Finished, Kind, Status, Value};
use crate::version;

/// The method to call.
pub(super) const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

pub(super) fn encode(batch: &[Box<Finished>], resource: &Resource) -> Vec<u8> {
    let mut request = Message::default();
    request.message(1, |resource_spans| {
        resource_spans.message(1, |message| {
            text_attribute(message, 1, "service.name", &resource.service);
            for (key, value) in &resource.attributes {
                text_attribute(message, 1, key, value);
            }
        });
        resource_spans.message(2, |scope_spans| {
            scope_spans.message(1, |scope| {
                scope.text(1, SCOPE);
                scope.text(2, version::VERSION);
            });
            for finished in batch {
                scope_spans.message(2, |message| span(message, finished));
            }
        });
    });
    request.finish()
}

fn span(message: &mut Message, span: &Finished) {
    message.bytes(1, &span.context.trace_id().to_be_bytes());
    message.bytes(2, &span.context.span_id().to_be_bytes());
    if let Some(state) = span.context.tracestate() {
        message.text(3, state);
    }
    if span.parent != 0 {
        message.bytes(4, &span.parent.to_be_bytes());
    }
    message.text(5, &span.name);
    message.varint(
        6,
        match span.kind {
            Kind::Internal => 1,
            Kind::Server => 2,
            Kind::Client => 3,
            Kind::Producer => 4,
            Kind::Consumer => 5,
        },
    );
    message.fixed64(7, nanoseconds(span.start));
    message.fixed64(8, nanoseconds(span.start + span.duration));
    for (key, value) in &span.attributes {
        match value {
            Value::Text(text) => text_attribute(message, 9, key, text),
            Value::Bool(value) => attribute(message, 9, key, |any| any.varint(2, u64::from(*value))),
            // Negative numbers are written as their two's complement.
            Value::Integer(number) => attribute(message, 9, key, |any| any.varint(3, number.cast_unsigned())),
        }
    }
    if span.dropped_attributes > 0 {
        message.varint(10, span.dropped_attributes.into());
    }
    match &span.status {
        Status::Unset => {}
        Status::Ok => message.message(15, |status| status.varint(3, 1)),
        Status::Error(description) => message.message(15, |status| {
            status.text(2, description);
            status.varint(3, 2);
        }),
    }
    message.fixed32(16, span.context.flags().into());
}

fn text_attribute(message: &mut Message, field: u32, key: &str, value: &str) {
    attribute(message, field, key, |any| any.text(1, value));
}

/// A `KeyValue`.
fn attribute(message: &mut Message, field: u32, key: &str, value: impl FnOnce(&mut Message)) {
    message.message(field, |pair| {
        pair.text(1, key);
        pair.message(2, value);
    });
}
