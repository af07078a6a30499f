//! The unix socket: who may connect, how many are connected, and when nobody has been for long.

use crate::error::{Error, Result};
use outrigger_daemon::drain::serve::Accept;
use std::future::{Future, Ready, ready};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

/// While the hub decides to end, its socket has this name: nobody finds it, and whoever was quicker is served.
const ASIDE: &str = "ending";
/// Connections that were made before the socket was moved aside are accepted within this.
const LAST_CALL: Duration = Duration::from_millis(100);

pub(crate) struct Door {
    listener: UnixListener,
    path: PathBuf,
    connections: watch::Sender<u32>,
}

/// A connection that is counted while it lives.
pub(crate) struct Connection {
    stream: UnixStream,
    connections: watch::Sender<u32>,
}

impl Door {
    /// Listens, for this user only. A socket file that nobody listens on is replaced.
    pub(crate) async fn bind(path: &Path) -> Result<Self> {
        let shown = path.display().to_string();
        if UnixStream::connect(path).await.is_ok() {
            return Err(Error::Held {
                folder: shown,
                holder: "(somebody listens on the socket)".to_owned(),
            });
        }
        match std::fs::remove_file(path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("cannot remove the old socket", &shown, source));
            }
            _ => {}
        }
        let listener =
            UnixListener::bind(path).map_err(|source| Error::io("cannot listen on", &shown, source))?;
        // Until here the folder's own permissions keep others out.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
            .map_err(|source| Error::io("cannot protect the socket", &shown, source))?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            connections: watch::Sender::new(0),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn connections(&self) -> watch::Receiver<u32> {
        self.connections.subscribe()
    }

    /// Returns when nobody was connected for `patience`, and nobody can connect any more. Zero never returns.
    pub(crate) fn idle(&self, patience: Duration) -> impl Future<Output = ()> + Send + use<> {
        let mut connections = self.connections.subscribe();
        let path = self.path.clone();
        async move {
            loop {
                // An error means that the door is gone: then there is nothing to wait for.
                if patience.is_zero() || connections.wait_for(|count| *count == 0).await.is_err() {
                    std::future::pending::<()>().await;
                }
                if tokio::time::timeout(patience, connections.wait_for(|count| *count > 0))
                    .await
                    .is_ok()
                {
                    continue;
                }
                let aside = path.with_extension(ASIDE);
                if std::fs::rename(&path, &aside).is_err() {
                    // Somebody removed the socket: nobody can connect, which is what is wanted.
                    return;
                }
                let late = tokio::time::timeout(LAST_CALL, connections.wait_for(|count| *count > 0)).await;
                if late.is_err() || std::fs::rename(&aside, &path).is_err() {
                    drop(std::fs::remove_file(&aside));
                    return;
                }
            }
        }
    }
}

impl Accept for Door {
    type Io = Connection;
    type Handshake = Ready<io::Result<Connection>>;

    async fn accept(&mut self) -> io::Result<Self::Handshake> {
        let (stream, _) = self.listener.accept().await?;
        self.connections.send_modify(|count| *count += 1);
        Ok(ready(Ok(Connection {
            stream,
            connections: self.connections.clone(),
        })))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.connections.send_modify(|count| *count -= 1);
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
