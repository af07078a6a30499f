//! Calls to output bindings.
//!
//! COMPAT(pkg/api/grpc/grpc.go InvokeBinding): what the resource says goes into the headers as well, also when the call
//! failed.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use outrigger_component::binding::Invoke;
use outrigger_component::metadata::Metadata;
use outrigger_daemon::trace::Context;
use outrigger_proto::dapr::runtime::v1 as proto;
use outrigger_runtime::bindings::{Bindings, Call, Refused};
use outrigger_runtime::pubsub::publish::Door;

const BAGGAGE: &str = "baggage";

pub(crate) async fn invoke(
    bindings: &Bindings,
    request: proto::InvokeBindingRequest,
    headers: &HeaderMap,
    trace: Option<Context>,
) -> Result<(proto::InvokeBindingResponse, HeaderMap), Refused> {
    let baggage: Vec<_> = headers
        .get_all(BAGGAGE)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()))
        .collect();
    let call = Call {
        binding: request.name,
        invoke: Invoke {
            operation: request.operation,
            data: request.data,
            metadata: request.metadata.into_iter().collect(),
        },
        carried: carried(headers),
        trace,
        baggage: (!baggage.is_empty()).then(|| baggage.join(",")),
        door: Door::Grpc,
    };
    let output = bindings.invoke(call).await?.unwrap_or_default();
    let headers = shown(&output.metadata);
    let answer = proto::InvokeBindingResponse {
        data: output.data,
        metadata: output.metadata.into_inner().into_iter().collect(),
    };
    Ok((answer, headers))
}

/// What a resource said, as headers of the answer; what cannot be one is left out.
pub(crate) fn shown(metadata: &Metadata) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in metadata.iter() {
        if let (Ok(name), Ok(value)) = (
            HeaderName::try_from(format!("metadata.{name}")),
            HeaderValue::try_from(value),
        ) {
            headers.append(name, value);
        }
    }
    headers
}

/// The text metadata of the call, each name's first value; names of the protocol get a prefix.
fn carried(headers: &HeaderMap) -> Metadata {
    let mut carried = Metadata::new();
    for name in headers.keys() {
        let text = name.as_str();
        if text.ends_with("-bin") || text == BAGGAGE {
            continue;
        }
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(value) = value {
            let prefix = if text.starts_with("grpc-") { "dapr-" } else { "" };
            carried.insert(format!("{prefix}{text}"), value);
        }
    }
    carried
}
