//! The least that two sidecars could possibly do: a bare HTTP/1.1-to-HTTP/2 hop and its counterpart, without any policy.
//!
//! `app <- h1 - [egress] <- h2 - [ingress] <- h1 - caller` is the shape of an invocation; what it costs is the floor under B1.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use futures::StreamExt;
use futures::future::{Either, LocalBoxFuture};
use futures::stream::FuturesUnordered;
use http::uri::{Authority, Scheme, Uri};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};

use crate::process::local;

#[derive(Args)]
pub(crate) struct Options {
    /// Port on 127.0.0.1
    #[arg(long)]
    port: u16,
    /// Where requests go
    #[arg(long)]
    to: SocketAddr,
    #[arg(long)]
    side: Side,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Side {
    /// Takes HTTP/1.1, sends HTTP/2 on one connection
    Ingress,
    /// Takes HTTP/2, sends HTTP/1.1 on pooled connections
    Egress,
}

/// Forwards until it is killed.
pub(crate) async fn run(options: Options) -> Result<()> {
    let listener = TcpListener::bind(local(options.port))
        .await
        .with_context(|| format!("listen on {}", options.port))?;
    match options.side {
        Side::Ingress => ingress(listener, options.to).await,
        Side::Egress => egress(listener, options.to).await,
    }
}

async fn ingress(listener: TcpListener, to: SocketAddr) -> Result<()> {
    let stream = TcpStream::connect(to)
        .await
        .with_context(|| format!("connect to {to}"))?;
    stream.set_nodelay(true)?;
    let (sender, driver) = Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(stream))
        .await?;
    let authority: Authority = to.to_string().parse()?;
    let serve = accept(listener, |stream| {
        let (sender, authority) = (sender.clone(), authority.clone());
        let service = service_fn(move |request| forward_h2(sender.clone(), request, &authority));
        http1::Builder::new().serve_connection(TokioIo::new(stream), service)
    });
    match futures::future::select(std::pin::pin!(serve), std::pin::pin!(driver)).await {
        Either::Left((served, _driver)) => served,
        Either::Right((closed, _serve)) => closed.context("the connection to the other hop failed"),
    }
}

async fn egress(listener: TcpListener, to: SocketAddr) -> Result<()> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<_, Incoming> = Client::builder(TokioExecutor::new()).build(connector);
    let authority: Authority = to.to_string().parse()?;
    accept(listener, |stream| {
        let (client, authority) = (client.clone(), authority.clone());
        let service = service_fn(move |request| {
            let sent = aim(request, &authority).map(|request| client.request(request));
            async move { anyhow::Ok(sent?.await?) }
        });
        http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service)
    })
    .await
}

fn forward_h2(
    mut sender: SendRequest<Incoming>,
    request: Request<Incoming>,
    authority: &Authority,
) -> LocalBoxFuture<'static, Result<Response<Incoming>>> {
    let request = aim(request, authority);
    Box::pin(async move {
        sender.ready().await?;
        Ok(sender.send_request(request?).await?)
    })
}

/// Points a request at the next hop. Connection headers end here; nothing else is touched.
fn aim(mut request: Request<Incoming>, authority: &Authority) -> Result<Request<Incoming>> {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority.clone());
    *request.uri_mut() = Uri::from_parts(parts)?;
    *request.version_mut() = http::Version::default();
    request.headers_mut().remove(http::header::HOST);
    request.headers_mut().remove(http::header::CONNECTION);
    Ok(request)
}

/// Serves each connection with what `serve` makes of it, all in this task.
pub(crate) async fn accept<S: Future>(listener: TcpListener, serve: impl Fn(TcpStream) -> S) -> Result<()> {
    let mut connections = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _peer) = accepted.context("accept")?;
                stream.set_nodelay(true)?;
                connections.push(serve(stream));
            }
            // How a connection ends is its peer's business.
            Some(_ended) = connections.next(), if !connections.is_empty() => {}
        }
    }
}
