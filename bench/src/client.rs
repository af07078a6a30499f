//! One HTTP/1.1 connection on hyper, driven by its caller's own task: no pool, no spawn, no redirect, no retry.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::future::{Either, select};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Connection, SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

pub(crate) type Sender = SendRequest<Full<Bytes>>;
pub(crate) type Driver = Connection<TokioIo<TcpStream>, Full<Bytes>>;

/// Connects with `TCP_NODELAY`; the driver must be polled beside whatever uses the sender.
pub(crate) async fn connect(target: SocketAddr) -> Result<(Sender, Driver)> {
    let stream = TcpStream::connect(target)
        .await
        .with_context(|| format!("connect to {target}"))?;
    stream.set_nodelay(true)?;
    Ok(handshake(TokioIo::new(stream)).await?)
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
    let (mut sender, driver) = connect(target).await?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, target.to_string())
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))?;
    let exchange = std::pin::pin!(async move {
        let response = sender.send_request(request).await?;
        let status = response.status();
        anyhow::Ok((status, response.into_body().collect().await?.to_bytes()))
    });
    match select(exchange, std::pin::pin!(driver)).await {
        Either::Left((answer, _driver)) => answer,
        Either::Right((_closed, exchange)) => exchange.await,
    }
    .with_context(|| format!("{path} at {target}"))
}
