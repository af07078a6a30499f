//! One HTTP connection on hyper, driven by its caller's own task: no pool, no redirect, no retry. HTTP/2 is for gRPC, with one
//! stream at a time.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::future::{Either, LocalBoxFuture, select};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// What a request is sent with.
pub(crate) enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    /// Without an upgrade, as gRPC begins.
    Http2,
}

/// Ends when the connection does.
pub(crate) type Driver = LocalBoxFuture<'static, hyper::Result<()>>;

impl Sender {
    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }
}

/// Connects with `TCP_NODELAY`; the driver must be polled beside whatever uses the sender.
pub(crate) async fn connect(target: SocketAddr, protocol: Protocol) -> Result<(Sender, Driver)> {
    let stream = TcpStream::connect(target)
        .await
        .with_context(|| format!("connect to {target}"))?;
    stream.set_nodelay(true)?;
    let stream = TokioIo::new(stream);
    Ok(match protocol {
        Protocol::Http1 => {
            let (sender, driver) = http1::handshake(stream).await?;
            (Sender::Http1(sender), Box::pin(driver))
        }
        Protocol::Http2 => {
            let (sender, driver) = http2::handshake(TokioExecutor::new(), stream).await?;
            (Sender::Http2(sender), Box::pin(driver))
        }
    })
}

/// Reads the body to its end and returns its length.
pub(crate) async fn drain(response: Response<Incoming>) -> hyper::Result<usize> {
    let mut body = response.into_body();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame?.data_ref().map_or(0, Bytes::len);
    }
    Ok(length)
}

/// One request on a connection of its own: for set-up and questions, not for load.
pub(crate) async fn once(
    target: SocketAddr,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<(StatusCode, Bytes)> {
    let (mut sender, driver) = connect(target, Protocol::Http1).await?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, target.to_string())
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))?;
    let exchange = std::pin::pin!(async move {
        let response = sender.send(request).await?;
        let status = response.status();
        anyhow::Ok((status, response.into_body().collect().await?.to_bytes()))
    });
    match select(exchange, driver).await {
        Either::Left((answer, _driver)) => answer,
        Either::Right((_closed, exchange)) => exchange.await,
    }
    .with_context(|| format!("{path} at {target}"))
}
