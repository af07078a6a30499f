//! Health checks, and the request to stop.

use crate::query;
use crate::reply;
use http::{HeaderMap, Response};
use outrigger_channel::body::Body;
use outrigger_runtime::error::Result;
use outrigger_runtime::health::Health;

/// How the sidecar is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Finish what is under way.
    Graceful,
    /// `dapr-force-shutdown: true`: exit shortly after the answer has left.
    Force,
}

/// `GET /v1.0/healthz`
pub(crate) fn ready(health: &Health, query: Option<&str>) -> Result<Response<Body>> {
    health.ready(query::value(query, "appid").as_deref())?;
    Ok(reply::empty())
}

/// `GET /v1.0/healthz/outbound`
pub(crate) fn outbound(health: &Health) -> Result<Response<Body>> {
    health.outbound()?;
    Ok(reply::empty())
}

/// `POST /v1.0/shutdown`
pub(crate) fn shutdown(headers: &HeaderMap) -> Shutdown {
    let force = headers.get("dapr-force-shutdown");
    if force.is_some_and(|force| force.as_bytes().eq_ignore_ascii_case(b"true")) {
        Shutdown::Force
    } else {
        Shutdown::Graceful
    }
}
