//! How one address is connected to: plain, or with TLS.

use crate::tls;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// An address and the way to it.
#[derive(Clone)]
pub struct Dial {
    /// `host:port`, IPv6 hosts in brackets.
    address: String,
    tls: Option<Tls>,
}

#[derive(Clone)]
struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Dial {
    /// Without TLS.
    pub fn plain(address: String) -> Self {
        Self { address, tls: None }
    }

    /// With TLS. `host` is who the certificate must be for, where the configuration cares: a DNS name or an IP address
    /// without brackets.
    ///
    /// # Errors
    /// When `host` is neither.
    pub fn secure(address: String, host: &str, config: Arc<ClientConfig>) -> Result<Self, NoName> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| NoName(host.to_owned()))?;
        let connector = TlsConnector::from(config);
        Ok(Self {
            address,
            tls: Some(Tls { connector, name }),
        })
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// Sets no time limit: the caller does.
    pub async fn connect(&self) -> Result<Stream, Failure> {
        self.over(TcpStream::connect(&self.address).await?).await
    }

    /// The same on a connection to the address that is made already.
    pub async fn over(&self, tcp: TcpStream) -> Result<Stream, Failure> {
        tcp.set_nodelay(true)?;
        Ok(match &self.tls {
            None => Stream::Plain(tcp),
            Some(tls) => {
                let stream = tls.connector.connect(tls.name.clone(), tcp).await?;
                Stream::Secure(Box::new(stream))
            }
        })
    }
}

/// There is no TLS with such a host.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no host that TLS could be spoken with")]
pub struct NoName(String);

/// Why there is no connection; a failure of TLS is said as such.
#[derive(Debug)]
pub struct Failure(io::Error);

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self(error)
    }
}

impl From<Failure> for io::Error {
    fn from(Failure(error): Failure) -> Self {
        Self::new(error.kind(), tls::failure(&error))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&tls::failure(&self.0))
    }
}

/// A connection.
pub enum Stream {
    Plain(TcpStream),
    Secure(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Secure(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Secure(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Secure(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Secure(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Secure(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Secure(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
