//! Calls to output bindings.
//!
//! COMPAT(pkg/api/http/http.go onOutputBindingMessage).

use crate::error;
use crate::json;
use crate::middleware::limit;
use crate::middleware::trace::baggage;
use crate::reply;
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use outrigger_channel::body::Body;
use outrigger_channel::json::{Object, or_default, texts};
use outrigger_component::binding::Invoke;
use outrigger_component::metadata::Metadata;
use outrigger_daemon::trace::Context;
use outrigger_runtime::bindings::{Bindings, Call, Refused};
use outrigger_runtime::catalogue::common;
use outrigger_runtime::error::Result;
use outrigger_runtime::pubsub::publish::Door;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// `POST /v1.0/bindings/{name}`
pub(crate) async fn invoke(
    bindings: &Bindings,
    name: &str,
    headers: &HeaderMap,
    body: Body,
    trace: Option<&Context>,
) -> Result<Answer> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Request<'b> {
        #[serde(borrow)]
        data: Option<&'b RawValue>,
        #[serde(deserialize_with = "texts")]
        metadata: BTreeMap<String, String>,
        #[serde(deserialize_with = "or_default")]
        operation: String,
    }

    let body = limit::read(body).await.map_err(common::malformed_body)?;
    let Object(request): Object<Request<'_>> =
        json::first(&body, "http.OutputBindingRequest").map_err(common::malformed_body)?;
    let baggage = baggage(headers)
        .map_err(|error| common::malformed(format_args!("invalid baggage header: {error}")))?;
    let call = Call {
        binding: name.to_owned(),
        invoke: Invoke {
            operation: request.operation,
            data: request
                .data
                .map_or(Bytes::from_static(b"null"), |data| json::value(&body, data)),
            metadata: request.metadata.into_iter().collect(),
        },
        carried: Metadata::new(),
        trace: trace.cloned(),
        baggage: baggage.map(|baggage| String::from_utf8_lossy(baggage.as_bytes()).into_owned()),
        door: Door::Http,
    };
    Ok(match bindings.invoke(call).await {
        Ok(None) => Answer::Done(reply::empty()),
        Ok(Some(output)) => {
            let mut response = reply::json_bytes(StatusCode::OK, output.data);
            reply::add_metadata(response.headers_mut(), &output.metadata);
            Answer::Done(response)
        }
        Err(refused) => Answer::Refused(refused),
    })
}

/// How a call ended.
pub(crate) enum Answer {
    Done(Response<Body>),
    /// With what the resource said about it.
    Refused(Refused),
}

impl Answer {
    pub(crate) fn response(self) -> Response<Body> {
        match self {
            Self::Done(response) => response,
            Self::Refused(refused) => {
                let mut response = error::response(&refused.error);
                reply::add_metadata(response.headers_mut(), &refused.metadata);
                response
            }
        }
    }
}
