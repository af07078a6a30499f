//! The metrics endpoint.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;

use super::Registry;
use crate::drain::serve::{Accept, Options, Protocol};
use crate::drain::{self, Watch};
use crate::log::Log;
use crate::tasks::Spawner;

/// Scrapers are few.
const MAX_CONNECTIONS: u32 = 256;

/// Answers every request of a listener, whatever its path, with the exposition until `watch` is draining.
pub async fn serve(listener: impl Accept, registry: Registry, watch: Watch, spawner: &Spawner, log: &Log) {
    let options = Options {
        protocol: Protocol::Auto,
        max_connections: MAX_CONNECTIONS,
        ..Options::default()
    };
    let service = move |_: &_| {
        let registry = registry.clone();
        service_fn(move |_: Request<Incoming>| {
            let answer = answer(&registry);
            async move { Ok::<_, Infallible>(answer) }
        })
    };
    drain::serve::serve(listener, service, watch, options, spawner, log).await;
}

fn answer(registry: &Registry) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(registry.expose())));
    answer.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8; escaping=underscores"),
    );
    answer
}
