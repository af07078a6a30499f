use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Notify, Semaphore};

use super::serve::{Accept, Listener, Options, Protocol, Socket, serve};
use super::{Trigger, channel};
use crate::tasks::{OnExit, Tasks};
use crate::testing;

/// A server that answers `hello`, and requests for `/slow` only when told to.
struct Server {
    address: std::net::SocketAddr,
    trigger: Trigger,
    /// Notified when a slow request has arrived.
    arrived: Arc<Notify>,
    /// Permits for slow requests to go on.
    go_on: Arc<Semaphore>,
    ended: Arc<Notify>,
    _tasks: Tasks,
}

async fn start(options: Options) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    start_on(listener.into(), address, options)
}

fn start_on(listener: Listener, address: std::net::SocketAddr, options: Options) -> Server {
    let (log, _) = testing::log();
    let (trigger, watch) = channel();
    let tasks = Tasks::new(&log, channel().0);
    let arrived = Arc::new(Notify::new());
    let go_on = Arc::new(Semaphore::new(0));
    let ended = Arc::new(Notify::new());
    let service = {
        let (arrived, go_on) = (Arc::clone(&arrived), Arc::clone(&go_on));
        move |_: &_| {
            let (arrived, go_on) = (Arc::clone(&arrived), Arc::clone(&go_on));
            service_fn(move |request: Request<Incoming>| {
                let (arrived, go_on) = (Arc::clone(&arrived), Arc::clone(&go_on));
                async move {
                    if request.uri().path() == "/slow" {
                        arrived.notify_one();
                        go_on.acquire().await.unwrap().forget();
                    }
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let mut answer = b"hello".to_vec();
                    answer.extend_from_slice(&body);
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(answer))))
                }
            })
        }
    };
    let spawner = tasks.spawner();
    let done = Arc::clone(&ended);
    tasks.spawn("server", OnExit::Log, async move {
        serve(listener, service, watch, options, &spawner, &log).await;
        done.notify_one();
    });
    Server {
        address,
        trigger,
        arrived,
        go_on,
        ended,
        _tasks: tasks,
    }
}

type Sender1 = hyper::client::conn::http1::SendRequest<Empty<Bytes>>;
type Sender2 = hyper::client::conn::http2::SendRequest<Empty<Bytes>>;

async fn http1(server: &Server) -> Sender1 {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    testing::spawn(connection);
    sender
}

async fn http2(server: &Server) -> Sender2 {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    testing::spawn(connection);
    sender
}

fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::builder()
        .uri(format!("http://test{path}"))
        .body(Empty::new())
        .unwrap()
}

async fn text(response: Response<Incoming>) -> (Version, String) {
    let version = response.version();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (version, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn both_protocols_on_one_port() {
    let server = start(Options::default()).await;
    let mut one = http1(&server).await;
    let mut two = http2(&server).await;
    for _ in 0..3 {
        assert_eq!(
            text(one.send_request(get("/")).await.unwrap()).await,
            (Version::HTTP_11, "hello".to_owned())
        );
        one.ready().await.unwrap();
        assert_eq!(
            text(two.send_request(get("/")).await.unwrap()).await,
            (Version::HTTP_2, "hello".to_owned())
        );
    }
}

#[tokio::test]
async fn a_head_that_trickles_in_is_still_told_apart() {
    // The first byte is that of the HTTP/2 preface.
    let rows = [
        "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nok",
        "POST / HTTP/1.0\r\ncontent-length: 2\r\n\r\nok",
    ];
    let server = start(Options::default()).await;
    for request in rows {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        for byte in request.as_bytes() {
            stream.write_all(&[*byte]).await.unwrap();
            stream.flush().await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut answer = vec![0; 4096];
        let mut length = 0;
        while !String::from_utf8_lossy(&answer[..length]).ends_with("hellook") {
            let read = stream.read(&mut answer[length..]).await.unwrap();
            assert_ne!(
                read,
                0,
                "{request}: {}",
                String::from_utf8_lossy(&answer[..length])
            );
            length += read;
        }
    }
}

#[tokio::test]
async fn a_unix_socket_serves_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let _server = start_on(listener.into(), ([127, 0, 0, 1], 0).into(), Options::default());
    let stream = UnixStream::connect(&path).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    testing::spawn(connection);
    assert_eq!(
        text(sender.send_request(get("/")).await.unwrap()).await.1,
        "hello"
    );
}

#[tokio::test]
async fn http2_only_sends_settings_unasked() {
    let server = start(Options {
        protocol: Protocol::Http2,
        ..Options::default()
    })
    .await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).await.unwrap();
    assert_eq!(
        (frame[3], &frame[5..]),
        (4, &[0; 4][..]),
        "a SETTINGS frame on stream 0: {frame:?}"
    );
}

#[tokio::test]
async fn requests_in_flight_finish_and_idle_connections_close() {
    let server = start(Options::default()).await;
    let mut idle = http1(&server).await;
    text(idle.send_request(get("/")).await.unwrap()).await;
    let (mut one, mut two) = (http1(&server).await, http2(&server).await);
    let slow1 = testing::spawn(one.send_request(get("/slow")));
    server.arrived.notified().await;
    let slow2 = testing::spawn(two.send_request(get("/slow")));
    server.arrived.notified().await;

    server.trigger.fire();
    // The idle connection and the listener are gone, the others are not.
    while idle.ready().await.is_ok() {
        tokio::task::yield_now().await;
    }
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    server.go_on.add_permits(2);
    assert_eq!(text(slow1.await.unwrap().unwrap()).await.1, "hello");
    assert_eq!(text(slow2.await.unwrap().unwrap()).await.1, "hello");
    server.ended.notified().await;
    server.trigger.drained().await;
}

#[tokio::test]
async fn what_exceeds_the_deadline_is_cut() {
    let server = start(Options {
        deadline: Duration::from_millis(50),
        ..Options::default()
    })
    .await;
    let mut one = http1(&server).await;
    let slow = testing::spawn(one.send_request(get("/slow")));
    server.arrived.notified().await;
    server.trigger.fire();
    server.ended.notified().await;
    assert!(slow.await.unwrap().is_err());
}

#[tokio::test]
async fn a_first_head_that_does_not_come_ends_the_connection() {
    let rows: [(Protocol, &[u8]); 4] = [
        (Protocol::Auto, b""),
        (Protocol::Auto, b"GET / HTTP/1.1\r\nhost:"),
        (Protocol::Http1, b"GET"),
        (Protocol::Auto, b"PRI * HTTP"),
    ];
    for (protocol, sent) in rows {
        let options = Options {
            protocol,
            head_timeout: Duration::from_millis(50),
            ..Options::default()
        };
        let server = start(options).await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        let mut rest = Vec::new();
        let end = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
        assert!(end.is_ok(), "{protocol:?} {sent:?}");
    }
}

#[tokio::test]
async fn idling_after_a_request_is_fine() {
    let server = start(Options {
        head_timeout: Duration::from_millis(50),
        ..Options::default()
    })
    .await;
    let (mut one, mut two) = (http1(&server).await, http2(&server).await);
    text(one.send_request(get("/")).await.unwrap()).await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    one.ready().await.unwrap();
    assert_eq!(text(one.send_request(get("/")).await.unwrap()).await.1, "hello");
    // HTTP/2 clients connect ahead of their first call.
    assert_eq!(text(two.send_request(get("/")).await.unwrap()).await.1, "hello");
}

#[tokio::test]
async fn heads_and_connections_are_bounded() {
    let options = Options {
        max_head: 8 << 10,
        max_headers: Some(4),
        max_connections: 1,
        ..Options::default()
    };
    let server = start(options).await;
    let rows = [
        format!(
            "GET / HTTP/1.1\r\nhost: a\r\nlarge: {}\r\n\r\n",
            "x".repeat(16 << 10)
        ),
        format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "many: x\r\n".repeat(5)),
    ];
    for request in rows {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 431");
    }
    // The second connection is served when the first is gone.
    let mut first = http1(&server).await;
    text(first.send_request(get("/")).await.unwrap()).await;
    let mut second = http1(&server).await;
    let answer = testing::spawn(second.send_request(get("/")));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!answer.is_finished());
    drop(first);
    assert_eq!(text(answer.await.unwrap().unwrap()).await.1, "hello");
}

#[tokio::test]
async fn a_failing_listener_is_retried() {
    struct Flaky(u32, TcpListener);

    impl super::serve::Accept for Flaky {
        type Io = super::serve::Socket;
        type Handshake = std::future::Ready<io::Result<Self::Io>>;

        async fn accept(&mut self) -> io::Result<Self::Handshake> {
            if self.0 > 0 {
                self.0 -= 1;
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            let (stream, _) = self.1.accept().await?;
            Ok(std::future::ready(Ok(super::serve::Socket::Tcp(stream))))
        }
    }

    let (log, lines) = testing::log();
    let (trigger, watch) = channel();
    let tasks = Tasks::new(&log, channel().0);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let spawner = tasks.spawner();
    tasks.spawn("server", OnExit::Log, async move {
        let service =
            |_: &_| service_fn(async |_| Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("hello")))));
        serve(
            Flaky(2, listener),
            service,
            watch,
            Options::default(),
            &spawner,
            &log,
        )
        .await;
    });
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("hello"), "{answer}");
    assert_eq!(lines.text().matches("failed to accept a connection").count(), 2);
    trigger.fire();
    tasks.join(Duration::from_secs(60)).await.unwrap();
}

#[tokio::test]
async fn claims() {
    let (trigger, watch) = channel();
    let other = watch.clone();
    assert!(!watch.is_draining());
    trigger.fire();
    other.draining().await;
    assert!(watch.is_draining() && trigger.fired());
    let drained = testing::spawn({
        let trigger = trigger.clone();
        async move { trigger.drained().await }
    });
    drop(watch);
    tokio::task::yield_now().await;
    assert!(!drained.is_finished());
    drop(other);
    drained.await.unwrap();

    // Nobody left to ask means: finish.
    let (trigger, watch) = channel();
    drop(trigger);
    watch.draining().await;
}

/// A client that sends a head byte by byte is cut off, at its first request and at any later one; one that idles between
/// requests, waits for its answer or sends a body slowly is not.
#[tokio::test]
async fn heads_must_come_in_time() {
    const LIMIT: Duration = Duration::from_millis(400);
    let server = start(Options {
        head_timeout: LIMIT,
        ..Options::default()
    })
    .await;
    let whole = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n".as_slice();
    let mut answer = vec![0; 1024];
    for (what, before) in [("first", 0), ("second", 1), ("fifth", 4)] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        for _ in 0..before {
            stream.write_all(whole).await.unwrap();
            assert!(stream.read(&mut answer).await.unwrap() > 0, "{what}");
            // Idling is no offence.
            tokio::time::sleep(LIMIT + LIMIT / 2).await;
        }
        let cut = async {
            let (mut reading, mut writing) = stream.split();
            let trickle = async {
                for byte in b"GET / HTTP/1.1\r\nhost: h\r\nx: "
                    .iter()
                    .chain(std::iter::repeat(&b'x'))
                {
                    if writing.write_all(&[*byte]).await.is_err() {
                        break;
                    }
                    tokio::time::sleep(LIMIT / 20).await;
                }
            };
            let mut byte = [0];
            tokio::select! {
                () = trickle => {}
                read = reading.read(&mut byte) => assert!(matches!(read, Ok(0) | Err(_)), "{what}"),
            }
        };
        tokio::time::timeout(LIMIT * 5, cut)
            .await
            .unwrap_or_else(|_| panic!("the {what} head was waited for"));
    }

    // A request that waits for its answer, with a body that comes slowly, and the next one after it.
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream
        .write_all(b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 8\r\n\r\n")
        .await
        .unwrap();
    for _ in 0..8 {
        tokio::time::sleep(LIMIT / 4).await;
        stream.write_all(b"x").await.unwrap();
    }
    let length = stream.read(&mut answer).await.unwrap();
    assert!(answer[..length].ends_with(b"helloxxxxxxxx"));
    stream.write_all(whole).await.unwrap();
    assert!(stream.read(&mut answer).await.unwrap() > 0);
}

#[tokio::test]
async fn silent_peers_are_probed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut listener = Listener::from(listener);
    let _client = TcpStream::connect(address).await.unwrap();
    let accepted = Accept::accept(&mut listener).await.unwrap().await.unwrap();
    let Socket::Tcp(stream) = accepted else {
        panic!("a TCP listener accepts TCP")
    };
    assert!(rustix::net::sockopt::socket_keepalive(&stream).unwrap());
    assert_eq!(
        rustix::net::sockopt::tcp_keepidle(&stream).unwrap(),
        Duration::from_secs(15)
    );
}
