//! Parking, over connections in memory and with a clock that jumps.

use super::{Shared, run};
use crate::drain::serve::{Options, Protocol};
use crate::drain::{self, Trigger};
use crate::testing;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use std::convert::Infallible;
use std::future::ready;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf};
use tokio::time::sleep;

/// The server's end; notes how much room the last read had.
struct Noting {
    stream: DuplexStream,
    room: Arc<AtomicUsize>,
}

impl AsyncRead for Noting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.room.store(buf.remaining(), Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Noting {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

const ANSWER: usize = 4000;

/// A connection to a server that answers [`ANSWER`] times `x`. At most `pipe` bytes are under way in either direction.
struct Peer {
    stream: DuplexStream,
    room: Arc<AtomicUsize>,
    trigger: Trigger,
}

impl Peer {
    fn new(pipe: usize) -> Self {
        let (stream, theirs) = tokio::io::duplex(pipe);
        let room = Arc::new(AtomicUsize::new(0));
        let io = Noting {
            stream: theirs,
            room: room.clone(),
        };
        let (trigger, watch) = drain::channel();
        let shared = Shared {
            options: Options {
                protocol: Protocol::Auto,
                ..Options::default()
            },
            log: testing::log().0,
        };
        let service = |_: &Noting| {
            service_fn(|_: Request<Incoming>| async {
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(vec![b'x'; ANSWER]))))
            })
        };
        testing::spawn(async move { run(ready(Ok(io)), service, watch, &shared).await });
        Self {
            stream,
            room,
            trigger,
        }
    }

    /// Whether no more than a glance is taken at what may come.
    fn is_parked(&self) -> bool {
        self.room.load(Ordering::Relaxed) <= 256
    }

    async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads one answer.
    async fn answer(&mut self) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.stream.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 200 OK\r\n"));
        let mut body = vec![0; ANSWER];
        self.stream.read_exact(&mut body).await.unwrap();
        assert!(body.iter().all(|byte| *byte == b'x'));
    }

    async fn ended(&mut self) {
        assert_eq!(self.stream.read(&mut [0]).await.unwrap(), 0);
    }
}

const REQUEST: &str = "GET / HTTP/1.1\r\nhost: d\r\n\r\n";
const LONG: Duration = Duration::from_secs(100);

#[tokio::test(start_paused = true)]
async fn who_idles_is_parked_and_served_again() {
    let mut peer = Peer::new(1 << 20);
    for _ in 0..3 {
        peer.send(REQUEST).await;
        peer.answer().await;
        sleep(Duration::from_secs(1)).await;
        assert!(!peer.is_parked(), "too early");
        sleep(LONG).await;
        assert!(peer.is_parked());
    }
    // A busy connection is not parked, however long it lives.
    for _ in 0..20 {
        peer.send(REQUEST).await;
        peer.answer().await;
        sleep(Duration::from_millis(900)).await;
        assert!(!peer.is_parked());
    }
    // In pieces, with several requests at once, and more than the glance takes.
    sleep(LONG).await;
    peer.send("GET / HT").await;
    sleep(Duration::from_secs(5)).await;
    peer.send(&format!(
        "TP/1.1\r\nhost: {}\r\n\r\n{REQUEST}{REQUEST}",
        "d".repeat(5000)
    ))
    .await;
    for _ in 0..3 {
        peer.answer().await;
    }
    sleep(LONG).await;
    assert!(peer.is_parked());
    drop(peer.trigger);
    assert_eq!(peer.stream.read(&mut [0]).await.unwrap(), 0, "draining ends it");
}

#[tokio::test(start_paused = true)]
async fn a_parked_connection_has_the_same_limits() {
    let mut peer = Peer::new(1 << 20);
    peer.send(REQUEST).await;
    peer.answer().await;
    sleep(LONG).await;
    // A head that does not come to its end.
    peer.send("GET / HT").await;
    sleep(Duration::from_secs(9)).await;
    peer.send("T").await;
    let begun = tokio::time::Instant::now();
    peer.ended().await;
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());

    let mut peer = Peer::new(1 << 20);
    peer.send(REQUEST).await;
    peer.answer().await;
    sleep(LONG).await;
    // Nothing more will come.
    peer.stream.shutdown().await.unwrap();
    peer.ended().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_has_not_left_keeps_a_connection_from_being_parked() {
    let mut peer = Peer::new(100);
    peer.send(REQUEST).await;
    sleep(LONG).await;
    assert!(!peer.is_parked());
    peer.answer().await;
    sleep(LONG).await;
    assert!(peer.is_parked());
    peer.send(REQUEST).await;
    peer.answer().await;
}
