//! From HTTP/1.1 to HTTP/2 on the same connection (`Upgrade: h2c`), which some HTTP clients ask for with every first
//! request. Source: RFC 7540 section 3.2.
//!
//! hyper knows HTTP/2 only from its beginning, so the request that asked is put into the client's byte stream as what it
//! is in HTTP/2: stream 1, opened right behind the client's first SETTINGS frame. Its header block uses literals
//! only, which leave the client's compression state alone.
//!
//! Only requests without a body change protocol; others are answered in HTTP/1.1, as any server may.

pub(crate) mod splice;

use crate::Door;
use crate::reply;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use http::header::{CONNECTION, HOST, HeaderName, HeaderValue, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode, Version};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use outrigger_channel::body::Body;
use outrigger_channel::wire;
use outrigger_daemon::drain::Watch;
use outrigger_daemon::log::Log;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

const SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
/// How long requests may take once the sidecar is draining.
const DEADLINE: Duration = Duration::from_secs(10);

/// The 101 answer, when the request asks for HTTP/2 and can have it. What follows runs in a task of its own.
pub(crate) fn begin(
    door: &Door,
    request: &mut Request<Incoming>,
    peer: Option<SocketAddr>,
    blocks: &crate::Blocks,
) -> Option<Response<Body>> {
    if request.version() != Version::HTTP_11 || !asks(request.headers()) || !request.body().is_end_stream() {
        return None;
    }
    let opening = splice::opening(request);
    let upgraded = hyper::upgrade::on(request);
    let (service, watch, log) = (door.service(peer), blocks.drain.watch(), door.shared.log.clone());
    blocks.tasks.spawn("h2c connection", async move {
        match upgraded.await {
            Ok(io) => serve(splice::Spliced::new(io, opening), service, watch, &log).await,
            Err(error) => log.debug(format_args!("connection did not change to HTTP/2: {error}")),
        }
    });
    let mut response = reply::status(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("h2c"));
    Some(response)
}

async fn serve<S>(io: splice::Spliced, service: S, watch: Watch, log: &Log)
where
    S: hyper::service::Service<
            Request<Incoming>,
            Response = Response<Body>,
            Error = std::convert::Infallible,
            Future: Send + 'static,
        >,
{
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new());
    let mut connection = pin!(builder.serve_connection(io, service));
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = watch.draining() => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(DEADLINE, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        log.debug(format_args!("h2c connection ended: {error}"));
    }
}

/// COMPAT(golang.org/x/net/http2/h2c): the token in `Upgrade`, `HTTP2-Settings` in `Connection`, and settings that decode.
fn asks(headers: &HeaderMap) -> bool {
    let has = |name: HeaderName, token: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|given| given.trim().eq_ignore_ascii_case(token))
    };
    let mut settings = headers.get_all(SETTINGS).iter();
    has(UPGRADE, "h2c")
        && has(CONNECTION, SETTINGS.as_str())
        && matches!((settings.next(), settings.next()), (Some(one), None) if BASE64URL.decode(one.as_bytes()).is_ok())
}

/// What of a request's headers is not for HTTP/2.
fn is_of_connection(name: &HeaderName) -> bool {
    *name == HOST || wire::is_hop_by_hop(name)
}

#[cfg(test)]
mod tests {
    use super::asks;
    use http::HeaderMap;

    #[test]
    fn who_asks() {
        for (upgrade, connection, settings, expected) in [
            (
                "h2c",
                "Upgrade, HTTP2-Settings",
                Some("AAMAAABkAARAAAAAAAIAAAAA"),
                true,
            ),
            ("websocket, H2C", "http2-settings,upgrade", Some(""), true),
            ("h2c", "Upgrade", Some("AAMAAABk"), false),
            ("h2c", "Upgrade, HTTP2-Settings", None, false),
            ("h2c", "Upgrade, HTTP2-Settings", Some("%%%"), false),
            ("websocket", "Upgrade, HTTP2-Settings", Some("AAMAAABk"), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("upgrade", upgrade.parse().unwrap());
            headers.insert("connection", connection.parse().unwrap());
            if let Some(settings) = settings {
                headers.insert("http2-settings", settings.parse().unwrap());
            }
            assert_eq!(asks(&headers), expected, "{upgrade} {connection} {settings:?}");
        }
    }
}
