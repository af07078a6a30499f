//! What the tests of this crate share: servers to talk to, with TLS or without.

use crate::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use outrigger_daemon::drain;
use outrigger_daemon::log::{Config, Format, Level, Log, Output};
use outrigger_daemon::tasks::{Spawner, Tasks};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Owner of everything a test starts.
pub(crate) fn tasks() -> Tasks {
    let log = Log::open(Config {
        level: Level::Fatal,
        format: Format::Text,
        output: Output::Writer(Box::new(std::io::sink())),
        app_id: None,
        instance: "test".to_owned(),
        version: "0".to_owned(),
        scope: "test".to_owned(),
    })
    .unwrap();
    Tasks::new(&log, drain::channel().0)
}

/// A certificate for `localhost` that is its own authority.
pub(crate) struct Certificate {
    pub(crate) pem: String,
    key: String,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        Self {
            pem: cert.pem(),
            key: signing_key.serialize_pem(),
        }
    }

    fn acceptor(&self, speaks: Speaks) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let chain = vec![CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = vec![match speaks {
            Speaks::Http1 => b"http/1.1".to_vec(),
            Speaks::Http2 => b"h2".to_vec(),
        }];
        TlsAcceptor::from(Arc::new(config))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http1,
    /// With 100 streams on a connection at most.
    Http2,
}

/// A server under way.
pub(crate) struct Server {
    pub(crate) port: u16,
    /// Connections accepted so far.
    pub(crate) accepted: Arc<AtomicUsize>,
}

/// Answers every request with `answer`.
pub(crate) async fn serve<F, Fut>(
    spawner: Spawner,
    speaks: Speaks,
    certificate: Option<&Certificate>,
    answer: F,
) -> Server
where
    F: Fn(Request<Incoming>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Response<Body>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let accepted = Arc::new(AtomicUsize::new(0));
    let acceptor = certificate.map(|certificate| certificate.acceptor(speaks));
    let (counted, inner) = (accepted.clone(), spawner.clone());
    spawner.spawn("server", async move {
        while let Ok((tcp, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            let (acceptor, answer) = (acceptor.clone(), answer.clone());
            inner.spawn("server connection", async move {
                match acceptor {
                    None => converse(tcp, speaks, answer).await,
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(tcp).await {
                            converse(stream, speaks, answer).await;
                        }
                    }
                }
            });
        }
    });
    Server { port, accepted }
}

pub(crate) async fn converse<S, F, Fut>(stream: S, speaks: Speaks, answer: F)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    F: Fn(Request<Incoming>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    // How a connection ends is the client's business.
    let _ended = match speaks {
        Speaks::Http1 => {
            http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await
        }
        Speaks::Http2 => {
            http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_concurrent_streams(100)
                .serve_connection(TokioIo::new(stream), service)
                .await
        }
    };
}
