//! Pools against a real server that allows 100 streams on a connection.

use super::{Pool, STREAMS};
use crate::body::Body;
use crate::testing::{Certificate, Server, Speaks, serve, tasks};
use bytes::Bytes;
use futures::future::join_all;
use http::{Request, Response, Version};
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
        assert_eq!(connection.streams.load(Ordering::Relaxed), 0);
        pool.shared.retire(&connection.streams);
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
    let taken = || pool.shared.connections.load()[0].streams.load(Ordering::Relaxed);
    assert_eq!(taken(), 1);
    pool.shared.retire(&pool.shared.connections.load()[0].streams);
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
