//! An app for tests: an HTTP server on a port of its own, as small as an app of a user.

use crate::client::Body;
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A running app. Dropping it closes its port and all its connections at once, whatever they were doing.
pub struct App {
    port: u16,
    _server: JoinSet<()>,
}

impl App {
    /// Serves on a port of the loopback interface; 0 is any free one.
    ///
    /// # Panics
    /// When the port is taken.
    pub async fn start<F, R>(port: u16, answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
        R: Future<Output = Response<Body>> + Send + 'static,
    {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        // What a predecessor left behind in the kernel is no reason to refuse.
        socket.set_reuseaddr(true).expect("a socket takes options");
        socket
            .bind(([127, 0, 0, 1], port).into())
            .expect("the app's port is free");
        let listener = socket.listen(1024).expect("the app's port is free");
        let port = listener.local_addr().expect("a bound address").port();
        let mut server = JoinSet::new();
        server.spawn(serve(listener, Arc::new(answer)));
        Self {
            port,
            _server: server,
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

async fn serve<F, R>(listener: TcpListener, answer: Arc<F>)
where
    F: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    // Ends with the set of this task, which ends with the app.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        stream.set_nodelay(true).ok();
        let answer = Arc::clone(&answer);
        connections.spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let answer = answer(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            // A peer that goes away in the middle is what tests are about.
            http.half_close(true)
                .serve_connection(TokioIo::new(stream), service)
                .await
                .ok();
        });
    }
}
