//! hyper's pooled client over TLS, for servers that are neither our app nor a sidecar.

use crate::tasks::Spawner;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::ClientConfig;
use std::future::Future;
use std::time::Duration;

/// Time for one TCP connection. COMPAT(pkg/runtime/channels/channels.go).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(90);

/// Makes connections for `http://` and `https://`, HTTP/2 where a server offers it.
pub type Connector = HttpsConnector<HttpConnector>;
/// A client with kept connections; clones share them.
pub type Web<B> = Client<Connector, B>;

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

/// A client whose connections are tasks of `spawner`. It sets no time limit for answers and follows no redirects.
pub fn web<B>(config: ClientConfig, spawner: Spawner) -> Web<B>
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
