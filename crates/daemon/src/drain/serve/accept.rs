//! Where connections come from: TCP, unix sockets, and whatever is layered on them.

use std::future::{Future, Ready, ready};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// Silence after which a peer is probed, and time between probes.
const PROBE_EVERY: Duration = Duration::from_secs(15);
/// Probes without an answer after which a connection is cut.
const PROBES: u32 = 9;

/// A source of connections.
pub trait Accept: Send + 'static {
    /// A connection ready for HTTP.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// What is left to do before it is; runs in the connection's own task (a TLS handshake, for one).
    type Handshake: Future<Output = io::Result<Self::Io>> + Send + 'static;

    /// The next connection. Must be cancel-safe.
    fn accept(&mut self) -> impl Future<Output = io::Result<Self::Handshake>> + Send;
}

/// A plain listener.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A plain connection. TCP ones have `TCP_NODELAY` set: answers leave without waiting for more to send.
#[derive(Debug)]
pub enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    /// The bound TCP address; `None` for unix sockets.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }
}

impl Accept for Listener {
    type Io = Socket;
    type Handshake = Ready<io::Result<Socket>>;

    async fn accept(&mut self) -> io::Result<Self::Handshake> {
        Ok(match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Fails only when the peer is gone already; the connection's task finds that out.
                ready(stream.set_nodelay(true).map(|()| Socket::Tcp(stream)))
            }
            Self::Unix(listener) => ready(Ok(Socket::Unix(listener.accept().await?.0))),
        })
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        probe(&listener);
        Self::Tcp(listener)
    }
}

/// Has the kernel probe silent peers; accepted connections inherit it. A system that knows no such options goes without.
/// COMPAT(Go net): 15 s, 15 s, 9 times.
fn probe(listener: &TcpListener) {
    let _without = sockopt::set_socket_keepalive(listener, true)
        .and_then(|()| sockopt::set_tcp_keepidle(listener, PROBE_EVERY))
        .and_then(|()| sockopt::set_tcp_keepintvl(listener, PROBE_EVERY))
        .and_then(|()| sockopt::set_tcp_keepcnt(listener, PROBES));
}

impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Self {
        Self::Unix(listener)
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
