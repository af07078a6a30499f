//! Pools against a real server that allows 100 streams on a connection.

use super::{Pool, STREAMS};
use crate::body::Body;
use crate::testing::{Certificate, Server, Speaks, serve, tasks};
use bytes::Bytes;
use futures::SinkExt as _;
use futures::channel::mpsc;
use futures::future::join_all;
use http::{Method, Request, Response, Version};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use outrigger_daemon::dial::Dial;
use outrigger_daemon::tasks::Tasks;
use outrigger_daemon::tls::{self, Trust};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::Barrier;

fn pool(server: &Server, tasks: &Tasks) -> Pool {
    let dial = Dial::plain(format!("127.0.0.1:{}", server.port));
    Pool::new(dial, "the test".to_owned(), tasks.spawner())
}

async fn get(pool: &Pool) -> Result<Bytes, String> {
    let mut request = Request::new(Body::Empty);
    *request.uri_mut() = super::path("/");
    let response = pool.send(request).await.map_err(|error| error.to_string())?;
    let body = Body::from(response.into_body());
    body.collect(1 << 20).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn more_streams_than_one_connection_allows() {
    const AT_ONCE: usize = STREAMS * 2 + 50;
    let tasks = tasks();
    let all = Arc::new(Barrier::new(AT_ONCE));
    let answer = move |_| {
        let all = all.clone();
        async move {
            // Nobody is answered before everybody is here.
            all.wait().await;
            Response::new(Body::from(Bytes::from_static(b"ok")))
        }
    };
    let server = serve(tasks.spawner(), Speaks::Http2, None, answer).await;
    let pool = pool(&server, &tasks);
    let answers = join_all((0..AT_ONCE).map(|_| get(&pool))).await;
    assert!(
        answers
            .iter()
            .all(|answer| answer.as_deref() == Ok(b"ok".as_slice()))
    );
    assert_eq!(server.accepted.load(Ordering::Relaxed), 3);
    // Every place is free again, and what is unused can go; one connection stays.
    let connections = pool.shared.connections.load_full();
    assert_eq!(connections.len(), 3);
    for connection in connections.iter() {
        assert_eq!(connection.usage.streams(), 0);
        pool.shared.retire(&connection.usage);
    }
    assert_eq!(pool.shared.connections.load().len(), 1);
}

#[tokio::test]
async fn a_stream_is_taken_until_its_answer_was_read() {
    let tasks = tasks();
    let answer = |_| async { Response::new(Body::from(Bytes::from(vec![7; 4 << 20]))) };
    let server = serve(tasks.spawner(), Speaks::Http2, None, answer).await;
    let pool = pool(&server, &tasks);
    let mut request = Request::new(Body::Empty);
    *request.uri_mut() = super::path("/");
    let response = pool.send(request).await.unwrap();
    let taken = || pool.shared.connections.load()[0].usage.streams();
    assert_eq!(taken(), 1);
    pool.shared.retire(&pool.shared.connections.load()[0].usage);
    assert_eq!(pool.shared.connections.load().len(), 1);
    drop(response);
    assert_eq!(taken(), 0);
}

#[tokio::test]
async fn with_tls() {
    let tasks = tasks();
    let (mine, other) = (Certificate::new(), Certificate::new());
    let answer = |request: Request<_>| async move {
        assert_eq!(request.version(), Version::HTTP_2);
        let seen = format!("{}", request.uri());
        Response::new(Body::from(Bytes::from(seen)))
    };
    let server = serve(tasks.spawner(), Speaks::Http2, Some(&mine), answer).await;
    let pem = |text| tls::Pem { field: "ca", text };
    for (trust, expected) in [
        (Trust::Anybody, Ok(format!("https://127.0.0.1:{}/", server.port))),
        (
            Trust::Only(pem(&other.pem)),
            Err("tls: failed to verify certificate: x509: "),
        ),
    ] {
        let settings = tls::Client {
            trust,
            identity: None,
            protocols: &[b"h2"],
        };
        let config = Arc::new(tls::client(&settings).unwrap());
        let address = format!("127.0.0.1:{}", server.port);
        let dial = Dial::secure(address, "127.0.0.1", config).unwrap();
        let pool = Pool::new(dial, "the app".to_owned(), tasks.spawner());
        match (get(&pool).await, expected) {
            (Ok(seen), Ok(expected)) => assert_eq!(seen, expected),
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
            (got, expected) => panic!("{got:?} instead of {expected:?}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_is_gone_is_named() {
    let (ours, theirs) = (tasks(), tasks());
    let answer = |_| async { Response::new(Body::Empty) };
    let server = serve(theirs.spawner(), Speaks::Http2, None, answer).await;
    let pool = pool(&server, &ours);
    get(&pool).await.unwrap();
    // What it runs ends with its owner.
    drop(theirs);
    let error = get(&pool).await.unwrap_err();
    assert!(
        error.starts_with("cannot reach the test at 127.0.0.1:"),
        "{error}"
    );
}

/// A server that is there again, at the same place, after its connections were lost.
#[tokio::test]
async fn a_lost_connection_is_replaced() {
    let ours = tasks();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let listener = Arc::new(listener);
    let dial = Dial::plain(format!("127.0.0.1:{port}"));
    let pool = Pool::new(dial, "the test".to_owned(), ours.spawner());
    for _ in 0..3 {
        let theirs = tasks();
        let listener = listener.clone();
        theirs.spawner().spawn("one connection", async move {
            let (tcp, _) = listener.accept().await.unwrap();
            crate::testing::converse(tcp, Speaks::Http2, |_| async {
                Response::new(Body::from(Bytes::from_static(b"ok")))
            })
            .await;
        });
        assert_eq!(get(&pool).await.as_deref(), Ok(b"ok".as_slice()));
        drop(theirs);
        // Until the loss is noticed; a call under way with it would fail, as it must.
        while pool.shared.is_connected() {
            tokio::task::yield_now().await;
        }
    }
}

/// A request whose body is what comes through the channel.
fn streamed() -> (mpsc::Sender<Piece>, Request<Body>) {
    let (pieces, body) = mpsc::channel(0);
    let mut request = Request::new(Body::stream(StreamBody::new(body)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = super::path("/");
    (pieces, request)
}

type Piece = Result<Frame<Bytes>, crate::body::Error>;

#[tokio::test]
async fn bodies_stream_both_ways_at_once() {
    let tasks = tasks();
    let echo = |request: Request<Incoming>| async move { Response::new(Body::from(request.into_body())) };
    let server = serve(tasks.spawner(), Speaks::Http2, None, echo).await;
    let pool = pool(&server, &tasks);
    let (mut pieces, request) = streamed();
    let mut answer = pool.send(request).await.unwrap().into_body();
    for piece in [1_usize, 1 << 10, 2 << 20] {
        let sent = Bytes::from(vec![7; piece]);
        let send = pieces.send(Ok(Frame::data(sent.clone())));
        let receive = async {
            let mut got = 0;
            while got < piece {
                got += answer.frame().await.unwrap().unwrap().into_data().unwrap().len();
            }
            got
        };
        let (sent, got) = tokio::join!(send, receive);
        sent.unwrap();
        assert_eq!(got, piece);
    }
    drop(pieces);
    assert!(
        answer
            .frame()
            .await
            .is_none_or(|last| last.unwrap().data_ref().is_some_and(Bytes::is_empty))
    );
}

#[tokio::test]
async fn a_call_given_up_is_cancelled_at_the_server() {
    let tasks = tasks();
    let (ended, mut end) = mpsc::unbounded();
    let owner = tasks.spawner();
    let answer = move |request: Request<Incoming>| {
        let (ended, owner) = (ended.clone(), owner.clone());
        async move {
            owner.spawn("reader", async move {
                let read = request.into_body().collect().await;
                ended.unbounded_send(read.is_err()).unwrap();
            });
            Response::new(Body::stream(StreamBody::new(futures::stream::pending::<Piece>())))
        }
    };
    let server = serve(tasks.spawner(), Speaks::Http2, None, answer).await;
    let pool = pool(&server, &tasks);
    let (_kept, request) = streamed();
    let response = pool.send(request).await.unwrap();
    drop(response);
    assert_eq!(futures::StreamExt::next(&mut end).await, Some(true));
    assert_eq!(pool.shared.connections.load()[0].usage.streams(), 0);
}

#[tokio::test]
async fn a_body_that_breaks_fails_the_call() {
    let tasks = tasks();
    let answer = |request: Request<Incoming>| async move {
        let read = request.into_body().collect().await;
        assert!(read.is_err());
        Response::new(Body::Empty)
    };
    let server = serve(tasks.spawner(), Speaks::Http2, None, answer).await;
    let pool = pool(&server, &tasks);
    let (mut pieces, request) = streamed();
    let (sent, answered) = tokio::join!(pieces.send(Err("broken".into())), pool.send(request));
    sent.unwrap();
    let Err(error) = answered else {
        panic!("an answer to half a request");
    };
    assert!(
        error.to_string().starts_with("cannot reach the test at"),
        "{error}"
    );
}

/// A server that says goodbye after each answer: nothing fails, and the next call goes over another connection.
#[tokio::test]
async fn a_connection_that_takes_no_more_is_replaced() {
    let (ours, theirs) = (tasks(), tasks());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dial = Dial::plain(listener.local_addr().unwrap().to_string());
    let pool = Pool::new(dial, "the test".to_owned(), ours.spawner());
    let (accepted, mut connections) = mpsc::unbounded();
    let spawner = theirs.spawner();
    theirs.spawner().spawn("server", async move {
        while let Ok((tcp, _)) = listener.accept().await {
            accepted.unbounded_send(()).unwrap();
            spawner.spawn("connection", async move {
                let mut connection = ::h2::server::handshake(tcp).await.unwrap();
                while let Some(Ok((_request, mut respond))) = connection.accept().await {
                    let mut body = respond.send_response(Response::new(()), false).unwrap();
                    body.send_data(Bytes::from_static(b"ok"), true).unwrap();
                    connection.graceful_shutdown();
                }
            });
        }
    });
    let mut seen = 0;
    while seen < 3 {
        assert_eq!(get(&pool).await.as_deref(), Ok(b"ok".as_slice()));
        while connections.try_recv().is_ok() {
            seen += 1;
        }
    }
}
