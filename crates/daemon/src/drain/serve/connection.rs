//! One connection from handshake to close.
//!
//! An HTTP/1 connection that has been idle for a while is *parked*: hyper's state with its two buffers is given back, and only
//! the socket is waited for. Ten thousand clients that keep their connections cost little that way, and a busy connection
//! pays one timer every few seconds for it.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::Instant;

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
/// After how long without a request a connection is parked; twice as long at most.
const PARK_AFTER: Duration = Duration::from_secs(2);
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
    // Boxed: a connection that has not begun, and one that is parked, keeps no room for either.
    let ended = if http2 {
        Box::pin(as_http2(io, service, timer, &progress, watch, options)).await
    } else {
        as_http1(io, service, timer, &progress, watch, options).await
    };
    if let Err(error) = ended {
        // Peers that go away in the middle of something are everyday business.
        shared.log.debug(format_args!("connection ended: {error}"));
    }
}

async fn as_http2<I, S, B>(
    io: Prefixed<I>,
    service: Marked<S>,
    timer: Pin<&mut tokio::time::Sleep>,
    progress: &Progress,
    watch: Watch,
    options: &Options,
) -> Result<(), hyper::Error>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    // Hyper runs each stream as a task of its own. They belong to the connection: they end when it does.
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(options.max_streams)
        .max_header_list_size(u32::try_from(options.max_head.saturating_add(GRACE)).unwrap_or(u32::MAX))
        .keep_alive_interval(options.keep_alive);
    let connection = pin!(builder.serve_connection(io, service));
    match drive(connection, timer, false, progress, watch, options).await {
        Driven::Ended(ended) => ended,
        Driven::Idle => unreachable!("only HTTP/1 connections are watched for it"),
    }
}

async fn as_http1<I, S, B>(
    mut io: Prefixed<I>,
    mut service: Marked<S>,
    mut timer: Pin<&mut tokio::time::Sleep>,
    progress: &Progress,
    watch: Watch,
    options: &Options,
) -> Result<(), hyper::Error>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let max_head = options.max_head.saturating_add(GRACE);
    let mut builder = http1::Builder::new();
    builder
        // See the header of `serve`.
        .header_read_timeout(None)
        .max_header_size(max_head)
        .max_buf_size(MAX_READ.max(max_head));
    if let Some(max_headers) = options.max_headers {
        builder.max_headers(max_headers);
    }
    loop {
        let mut connection = Box::new(builder.serve_connection(io, service).with_upgrades());
        let driven = drive(
            Pin::new(&mut *connection),
            timer.as_mut(),
            true,
            progress,
            watch.clone(),
            options,
        );
        if let Driven::Ended(ended) = Box::pin(driven).await {
            return ended;
        }
        let Some(parts) = connection.into_parts() else {
            return Ok(());
        };
        (io, service) = (parts.io, parts.service);
        // What hyper had read already, as a rule nothing. Dropped before waiting: empty, too, it is the whole buffer.
        io.put_back(&parts.read_buf);
        drop(parts.read_buf);
        if !io.wait(&watch).await {
            return Ok(());
        }
    }
}

/// How [`drive`] returned.
enum Driven {
    Ended(Result<(), hyper::Error>),
    /// No request for a while, nothing read and nothing left to write: hyper's state can be taken apart.
    Idle,
}

/// Polls a connection to its end: until the peer closes it, a head is overdue (the first, or with HTTP/1 one that has
/// begun), or draining takes too long. With HTTP/1, until it idles, too.
///
/// It is woken for every packet, so everything but the connection itself costs a few atomic loads per turn: the other
/// futures are polled once, keep the task's waker, and are looked at again only when they may have something to say.
async fn drive<C: Connection>(
    mut connection: Pin<&mut C>,
    mut timer: Pin<&mut tokio::time::Sleep>,
    is_http1: bool,
    progress: &Progress,
    watch: Watch,
    options: &Options,
) -> Driven {
    let mut draining = pin!(watch.draining());
    let mut waker: Option<Waker> = None;
    let mut stopping = false;
    let mut opening = !progress.has_begun();
    let mut timing = Timing::Off;
    poll_fn(|cx| {
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            return Poll::Ready(Driven::Ended(ended));
        }
        let rewaken = !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if rewaken {
            waker = Some(cx.waker().clone());
        }
        if !stopping && (rewaken || watch.is_draining()) && draining.as_mut().poll(cx).is_ready() {
            stopping = true;
            timer.as_mut().reset(Instant::now() + options.deadline);
            connection.as_mut().graceful_shutdown();
            // It may be idle and thus done already.
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(Driven::Ended(ended));
            }
        }
        if opening && progress.has_begun() {
            opening = false;
        }
        if opening || stopping {
            // The timer that came with the connection, or the one just set.
            return timer.as_mut().poll(cx).map(|()| Driven::Ended(Ok(())));
        }
        if !is_http1 {
            return Poll::Pending;
        }
        if progress.is_in_head() {
            if !matches!(timing, Timing::Head) {
                timing = Timing::Head;
                timer.as_mut().reset(Instant::now() + options.head_timeout);
            }
            return timer.as_mut().poll(cx).map(|()| Driven::Ended(Ok(())));
        }
        // The timer is set once for many requests: when it is due, it is seen whether there were any.
        if !matches!(timing, Timing::Idle { .. }) {
            timing = Timing::Idle {
                since: progress.served(),
            };
            timer.as_mut().reset(Instant::now() + PARK_AFTER);
        }
        while timer.as_mut().poll(cx).is_ready() {
            let served = progress.served();
            if matches!(timing, Timing::Idle { since } if since == served) && progress.is_idle() {
                return Poll::Ready(Driven::Idle);
            }
            timing = Timing::Idle { since: served };
            timer.as_mut().reset(Instant::now() + PARK_AFTER);
        }
        Poll::Pending
    })
    .await
}

/// What the timer of a connection under way is for.
enum Timing {
    Off,
    /// A head that has begun.
    Head,
    /// Parking, should there be no more requests than those so far.
    Idle {
        since: usize,
    },
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
    /// Has these bytes read once more.
    fn put_back(&mut self, read: &[u8]) {
        if !read.is_empty() {
            self.prefix = [read, &self.prefix].concat().into();
        }
    }

    fn heard(&self) {
        self.progress.hear();
        // HTTP/2 clients connect ahead of their first request, so there the first bytes have to do.
        if self.http2 {
            self.progress.begin();
        }
    }
}

impl<I: AsyncRead + Unpin> Prefixed<I> {
    /// Waits for more bytes, keeping no room for them; they are in `prefix` then. `false` when the connection is to be closed.
    async fn wait(&mut self, watch: &Watch) -> bool {
        let more = poll_fn(|cx| {
            if !self.prefix.is_empty() {
                return Poll::Ready(true);
            }
            let mut room = [0; 256];
            let mut room = ReadBuf::new(&mut room);
            let read = ready!(Pin::new(self.io.inner_mut()).poll_read(cx, &mut room));
            self.prefix = Bytes::copy_from_slice(room.filled());
            // A connection that breaks while nothing is under way has ended, no more.
            Poll::Ready(read.is_ok() && !self.prefix.is_empty())
        });
        tokio::select! {
            more = more => more,
            () = watch.draining() => false,
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
        let this = self.get_mut();
        this.progress.write();
        Pin::new(&mut this.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.progress.write();
        Pin::new(&mut this.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.io).poll_flush(cx);
        if flushed.is_ready() {
            this.progress.flush();
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
