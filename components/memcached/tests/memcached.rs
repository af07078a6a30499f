//! Against a real server; skipped loudly where none is installed.

use outrigger_component::error::{Error, Kind};
use outrigger_component::registry::Registry;
use outrigger_component::state::{Get, Set, StateStore};
use outrigger_components_memcached::register;
use outrigger_testkit::conformance::state;
use outrigger_testkit::servers::memcached::{start, start_with};
use outrigger_testkit::setup::setup;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

async fn store(metadata: &[(&str, &str)]) -> Result<Arc<dyn StateStore>, Error> {
    let mut registry = Registry::default();
    register(&mut registry);
    registry
        .state_stores()
        .build("memcached", "v1", setup(metadata))
        .await
}

async fn set(store: &Arc<dyn StateStore>, key: &str, value: Vec<u8>) -> Result<(), Error> {
    let set = Set {
        key: key.to_owned(),
        value: value.into(),
        ..Set::default()
    };
    store.set(set).await
}

async fn get(store: &Arc<dyn StateStore>, key: &str) -> Result<Option<Vec<u8>>, Error> {
    let get = Get {
        key: key.to_owned(),
        ..Get::default()
    };
    Ok(store.get(&get).await?.map(|item| item.value.to_vec()))
}

#[tokio::test]
async fn state_conforms() {
    let Some(server) = start().await else { return };
    let store = store(&[("hosts", &server.host())]).await.unwrap();
    let nature = state::Nature {
        plain_keys: true,
        late: Duration::from_millis(1100),
    };
    state::run_as(&*store, "app", nature).await;
    assert_eq!(store.features().names(), ["TTL"]);
    assert_eq!(server.raw("get app||absent").await, "END");
    set(&store, "app||k", b"v".to_vec()).await.unwrap();
    assert_eq!(
        server.raw("get app||k").await,
        "VALUE app||k 0 1 v END",
        "as the reference"
    );
}

#[tokio::test]
async fn keys_are_dealt_to_hosts_as_the_reference_does() {
    let (Some(first), Some(second)) = (start().await, start().await) else {
        return;
    };
    let hosts = format!("{},{}", first.host(), second.host());
    let store = store(&[("hosts", &hosts)]).await.unwrap();
    // Even and odd checksums.
    for (key, host, other) in [("123456789", &first, &second), ("a", &second, &first)] {
        set(&store, key, b"v".to_vec()).await.unwrap();
        assert_eq!(get(&store, key).await.unwrap().as_deref(), Some(&b"v"[..]));
        assert!(
            host.raw(&format!("get {key}")).await.starts_with("VALUE"),
            "{key}"
        );
        assert_eq!(other.raw(&format!("get {key}")).await, "END", "{key}");
    }
}

/// What it forgets is its own affair; whoever asks does not notice that it was away.
#[tokio::test]
async fn a_server_that_is_started_again() {
    let Some(mut server) = start().await else { return };
    let store = store(&[("hosts", &server.host())]).await.unwrap();
    for _ in 0..3 {
        set(&store, "k", b"v".to_vec()).await.unwrap();
        server.kill();
        let error = set(&store, "k", b"v".to_vec()).await.unwrap_err();
        assert!(
            error.is_retryable() && error.message.contains(&server.host()),
            "{error:?}"
        );
        server.restart().await;
        assert_eq!(get(&store, "k").await.unwrap(), None);
    }
}

/// Sixty-four callers on two connections: each gets its own answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_find_their_callers() {
    let Some(server) = start().await else { return };
    let store = store(&[("hosts", &server.host())]).await.unwrap();
    let callers = (0..64).map(|caller: usize| {
        let store = Arc::clone(&store);
        async move {
            for round in 0..50 {
                let (key, value) = (format!("key-{caller}"), format!("{caller} {round}").repeat(round));
                set(&store, &key, value.clone().into_bytes()).await.unwrap();
                assert_eq!(get(&store, &key).await.unwrap(), Some(value.into_bytes()));
            }
        }
    });
    futures::future::join_all(callers).await;
}

#[tokio::test]
async fn what_is_not_possible_is_said() {
    let Some(server) = start().await else { return };
    let store = store(&[("hosts", &server.host())]).await.unwrap();
    let large = set(&store, "large", vec![0; 2 << 20]).await.unwrap_err();
    assert_eq!(large.kind, Kind::Exhausted);
    assert!(
        large.message.contains("failed to set key large") && large.message.contains("-I"),
        "{large}"
    );
    assert_eq!(
        get(&store, "large").await.unwrap(),
        None,
        "the connection goes on"
    );
    for key in ["a b", "", &"k".repeat(251)] {
        let error = set(&store, key, Vec::new()).await.unwrap_err();
        assert_eq!(error.kind, Kind::Invalid);
        assert!(error.message.contains("memcached cannot keep key"), "{error}");
        assert_eq!(get(&store, key).await.unwrap_err().kind, Kind::Invalid);
    }
}

/// A server that does not forget to make room.
#[tokio::test]
async fn a_server_without_memory() {
    let Some(server) = start_with(&["-M", "-m", "2"]).await else {
        return;
    };
    let store = store(&[("hosts", &server.host())]).await.unwrap();
    let mut kept = 0;
    let error = loop {
        match set(&store, &format!("k{kept}"), vec![0; 100_000]).await {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 1000, "two mebibytes are full some time");
    };
    assert_eq!(error.kind, Kind::Exhausted, "{error:?}");
    for expected in [
        format!("failed to set key k{kept}"),
        "out of memory".to_owned(),
        "-m".to_owned(),
    ] {
        assert!(error.message.contains(&expected), "{expected}: {error}");
    }
    assert!(
        get(&store, "k0").await.unwrap().is_some(),
        "the connection goes on"
    );
    server.raw("flush_all").await;
    server.raw("delete k0").await;
    set(&store, "k0", vec![0; 100_000]).await.unwrap();
}

#[tokio::test]
async fn hosts_that_are_not_there_are_named() {
    let error = store(&[("hosts", "127.0.0.1:1")]).await.err().expect("refused");
    assert_eq!(error.kind, Kind::Unavailable);
    assert!(error.message.contains("127.0.0.1:1"), "{error}");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let metadata = [("hosts", host.as_str()), ("timeout", "300")];
    // It accepts and says nothing.
    let error = store(&metadata).await.err().expect("refused");
    assert_eq!(error.kind, Kind::Timeout, "{error}");
    let answering = async {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 64];
            let _read = stream.read(&mut request).await;
            let _written = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    };
    let error = tokio::select! {
        built = store(&metadata) => built.err().expect("refused"),
        () = answering => unreachable!("it does not end"),
    };
    assert!(
        error.message.contains("is it Memcached that listens there"),
        "{error}"
    );
}
