//! One connection from handshake to close.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::progress::{Marked, Progress};
use super::{Options, Protocol};
use crate::drain::Watch;
use crate::log::Log;

/// What the connections of a server share.
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) log: Log,
}

/// What every HTTP/2 client sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Most bytes that one read of an HTTP/1 connection may take: grows up to this while the peer keeps up.
const MAX_READ: usize = 256 << 10;
/// COMPAT(Go net/http): what its server grants above the configured size of a head.
const GRACE: usize = 4 << 10;
/// Room for data in flight per HTTP/2 stream and per connection: enough for a fast body on a fast network, small enough to
/// bound what a peer can make us hold.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

pub(super) async fn run<H, I, M, S, B>(handshake: H, service: M, watch: Watch, shared: &Shared)
where
    H: Future<Output = io::Result<I>> + Send,
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    M: Fn(&I) -> S,
    S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let options = &shared.options;
    // One timer covers handshake, protocol detection and the first head.
    let mut timer = pin!(tokio::time::sleep(options.head_timeout));
    let mut prefix = BytesMut::new();
    let opening = async {
        let mut io = handshake.await?;
        let http2 = match options.protocol {
            Protocol::Http1 => false,
            Protocol::Http2 => true,
            Protocol::Auto => starts_with_preface(&mut io, &mut prefix).await?,
        };
        Ok::<_, io::Error>((io, http2))
    };
    let opened = tokio::select! {
        biased;
        opened = opening => opened,
        () = &mut timer => return,
        () = watch.draining() => return,
    };
    let (io, http2) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            shared
                .log
                .debug(format_args!("connection ended before its first request: {error}"));
            return;
        }
    };
    let progress = Arc::new(Progress::default());
    let service = Marked {
        service: service(&io),
        progress: Arc::clone(&progress),
    };
    let io = Prefixed {
        prefix: prefix.freeze(),
        io: TokioIo::new(io),
        progress: Arc::clone(&progress),
        http2,
    };
    let max_head = options.max_head.saturating_add(GRACE);
    let ended = if http2 {
        // Hyper runs each stream as a task of its own. They belong to the connection: they end when it does.
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(options.max_streams)
            .max_header_list_size(u32::try_from(max_head).unwrap_or(u32::MAX))
            .keep_alive_interval(options.keep_alive);
        drive(
            pin!(builder.serve_connection(io, service)),
            timer,
            |_| false,
            &progress,
            watch,
            options,
        )
        .await
    } else {
        let mut builder = http1::Builder::new();
        builder
            // See the header of `serve`.
            .header_read_timeout(None)
            .max_header_size(max_head)
            .max_buf_size(MAX_READ.max(max_head));
        if let Some(max_headers) = options.max_headers {
            builder.max_headers(max_headers);
        }
        drive(
            pin!(builder.serve_connection(io, service).with_upgrades()),
            timer,
            Progress::is_in_head,
            &progress,
            watch,
            options,
        )
        .await
    };
    if let Err(error) = ended {
        // Peers that go away in the middle of something are everyday business.
        shared.log.debug(format_args!("connection ended: {error}"));
    }
}

/// Polls a connection to its end: until the peer closes it, a head is overdue (the first, or one that `is_in_head` says has
/// begun), or draining takes too long.
///
/// It is woken for every packet, so everything but the connection itself costs one atomic load per turn: the other
/// futures are polled once, keep the task's waker, and are looked at again only when they may have something to say.
async fn drive<C: Connection>(
    mut connection: Pin<&mut C>,
    mut timer: Pin<&mut tokio::time::Sleep>,
    is_in_head: fn(&Progress) -> bool,
    progress: &Progress,
    watch: Watch,
    options: &Options,
) -> Result<(), hyper::Error> {
    let mut draining = pin!(watch.draining());
    let mut waker: Option<Waker> = None;
    let mut stopping = false;
    let mut opening = true;
    // The timer runs for a head that has begun.
    let mut overdue_later = false;
    poll_fn(|cx| {
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            return Poll::Ready(ended);
        }
        let rewaken = !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if rewaken {
            waker = Some(cx.waker().clone());
        }
        if !stopping && (rewaken || watch.is_draining()) && draining.as_mut().poll(cx).is_ready() {
            stopping = true;
            timer
                .as_mut()
                .reset(tokio::time::Instant::now() + options.deadline);
            connection.as_mut().graceful_shutdown();
            // It may be idle and thus done already.
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(ended);
            }
        }
        if opening && progress.has_begun() {
            opening = false;
        }
        let in_head = !stopping && !opening && is_in_head(progress);
        if in_head && !overdue_later {
            timer
                .as_mut()
                .reset(tokio::time::Instant::now() + options.head_timeout);
        }
        overdue_later = in_head;
        if (opening || in_head || stopping) && timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    })
    .await
}

/// What the two kinds of hyper connections have in common.
trait Connection: Future<Output = Result<(), hyper::Error>> {
    fn graceful_shutdown(self: Pin<&mut Self>);
}

impl<I, S, B> Connection for http1::UpgradeableConnection<I, S>
where
    I: Read + Write + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        http1::UpgradeableConnection::graceful_shutdown(self);
    }
}

impl<I, S, B> Connection for http2::Connection<I, S, TokioExecutor>
where
    I: Read + Write + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        http2::Connection::graceful_shutdown(self);
    }
}

/// Reads just enough to tell whether the client speaks HTTP/2. Those bytes are left in `read`.
async fn starts_with_preface<I: AsyncRead + Unpin>(io: &mut I, read: &mut BytesMut) -> io::Result<bool> {
    read.reserve(PREFACE.len());
    while read.len() < PREFACE.len() {
        let mut limited = (&mut *io).take((PREFACE.len() - read.len()) as u64);
        if limited.read_buf(read).await? == 0 {
            return Ok(false);
        }
        if !PREFACE.starts_with(read) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A connection with the bytes that were read from it to detect the protocol put back in front.
struct Prefixed<I> {
    prefix: Bytes,
    io: TokioIo<I>,
    progress: Arc<Progress>,
    http2: bool,
}

impl<I> Prefixed<I> {
    fn heard(&self) {
        self.progress.hear();
        // HTTP/2 clients connect ahead of their first request, so there the first bytes have to do.
        if self.http2 {
            self.progress.begin();
        }
    }
}

impl<I: AsyncRead + Unpin> Read for Prefixed<I> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.prefix.is_empty() {
            let read = Pin::new(&mut this.io).poll_read(cx, buf);
            if read.is_ready() {
                this.heard();
            }
            return read;
        }
        let length = this.prefix.len().min(buf.remaining());
        buf.put_slice(&this.prefix[..length]);
        this.prefix.advance(length);
        this.heard();
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> Write for Prefixed<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
