//! hyper's pooled client over TLS, for servers that are neither our app nor a sidecar.

use crate::tasks::Spawner;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use rustls::ClientConfig;
use std::future::Future;
use std::time::Duration;

/// Time for one TCP connection. COMPAT(pkg/runtime/channels/channels.go).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(90);

/// Makes connections for `http://` and `https://`, HTTP/2 where a server offers it.
pub type Connector = HttpsConnector<HttpConnector>;
/// A client with kept connections for bodies that stream; clones share them.
pub type Streaming<B> = Client<Connector, B>;

/// A client with kept connections for bodies that are in memory; clones share them.
#[derive(Debug, Clone)]
pub struct Web(Client<Connector, Full<Bytes>>);

impl Web {
    /// A client whose connections are tasks of `spawner`. It sets no time limit for answers and follows no redirects.
    pub fn new(config: ClientConfig, spawner: Spawner) -> Self {
        Self(streaming(config, spawner))
    }

    /// The answer, once its head is there. Boxed, so that the program has hyper's client once, and not once for each
    /// crate that asks somebody something.
    ///
    /// # Errors
    /// The server cannot be reached, or hangs up; [`failure`](super::failure) says it in words.
    pub fn request(
        &self,
        request: Request<Full<Bytes>>,
    ) -> BoxFuture<'static, Result<Response<Incoming>, Error>> {
        Box::pin(self.0.request(request))
    }
}

/// `config` must offer no protocols of its own.
pub fn connector(config: ClientConfig) -> Connector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http()
        .enable_all_versions()
        .wrap_connector(tcp)
}

/// As [`Web::new`].
pub fn streaming<B>(config: ClientConfig, spawner: Spawner) -> Streaming<B>
where
    B: http_body::Body<Data: Send> + Send,
{
    Client::builder(Owned(spawner))
        .pool_idle_timeout(IDLE)
        .pool_timer(hyper_util::rt::TokioTimer::new())
        .build(connector(config))
}

/// Gives the tasks of a client an owner.
#[derive(Clone)]
struct Owned(Spawner);

impl<F> hyper::rt::Executor<F> for Owned
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn("connection to a server", future);
    }
}
