//! TLS, users, and peers that are not what was expected.

use crate::others::configuration_conforms;
use crate::support::{build, quick, refused};
use outrigger_component::error::Kind;
use outrigger_testkit::conformance::{lock, pubsub, state};
use outrigger_testkit::pki::Pki;
use outrigger_testkit::servers::redis::{start, start_tls};
use outrigger_testkit::store::{get, set};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_conforms_over_tls() {
    let pki = Pki::new();
    let Some(redis) = start_tls(&pki, false).await else {
        return;
    };
    let host = redis.tls_host();
    let tls = [
        ("redisHost", host.as_str()),
        ("enableTLS", "true"),
        ("caCert", &pki.root),
    ];
    state::run(&*build::store(&tls).await, "app").await;
    lock::run(&*build::locks(&tls).await, "lock||app").await;
    let nature = pubsub::Nature::durable(Duration::from_secs(3));
    let broker = build::broker(&quick(&host, &tls[1..])).await;
    pubsub::run(&*broker, "topic-", nature).await;
    redis.raw("FLUSHALL").await;
    configuration_conforms(redis, &tls).await;
}

#[tokio::test]
async fn certificates_are_checked_on_both_sides() {
    let pki = Pki::new();
    let Some(redis) = start_tls(&pki, true).await else {
        return;
    };
    let host = redis.tls_host();
    let base = [
        ("redisHost", host.as_str()),
        ("enableTLS", "true"),
        ("redisMaxRetries", "-1"),
    ];
    let ours = [
        ("clientCert", pki.certificate.as_str()),
        ("clientKey", pki.key.as_str()),
    ];
    let root = ("caCert", pki.root.as_str());
    let store = build::store(&[&base[..], &ours, &[root]].concat()).await;
    store.set(set("k", "v")).await.unwrap();
    assert!(get(&*store, "k").await.is_some());
    let careless = [&base[..], &ours, &[("insecureSkipTLSVerify", "true")]].concat();
    build::store(&careless).await;

    let other = Pki::new();
    let plain = redis.host();
    for (metadata, expected) in [
        (&[root][..], "refuses the certificate"),
        (&ours, "failed to verify certificate"),
        (
            &[ours[0], ours[1], ("caCert", &other.root)],
            "failed to verify certificate",
        ),
        (&[ours[0], root], "clientCert is set, but clientKey is not"),
        (&[ours[1], root], "clientKey is set, but clientCert is not"),
        (
            &[("clientCert", "x"), ours[1], root],
            "clientCert holds no certificate",
        ),
        (
            &[ours[0], ("clientKey", "x"), root],
            "clientKey is not a private key",
        ),
        (
            &[ours[0], ours[1], ("caCert", "x")],
            "caCert holds no certificate",
        ),
        (
            &[
                ours[0],
                ours[1],
                root,
                ("redisHost", &plain),
                ("dialTimeout", "500"),
            ],
            "does the server speak TLS on this port?",
        ),
        (&[("enableTLS", "false")], "without TLS"),
    ] {
        let metadata = [&base[..], metadata].concat();
        let error = refused(&metadata).await;
        assert!(error.message.contains(expected), "{expected}: {}", error.message);
        assert!(!error.message.contains("PRIVATE KEY"), "{}", error.message);
    }
}

/// Somebody else's certificate, of an authority that is trusted.
#[tokio::test]
async fn names_are_checked() {
    let pki = Pki::of(&["redis.example"]);
    let Some(redis) = start_tls(&pki, false).await else {
        return;
    };
    let host = redis.tls_host();
    let tls = [
        ("redisHost", host.as_str()),
        ("enableTLS", "true"),
        ("caCert", &pki.root),
        ("redisMaxRetries", "-1"),
    ];
    let error = refused(&tls).await;
    assert!(
        error.message.contains("not valid for name") && error.message.contains("redisHost must be a name"),
        "{}",
        error.message
    );
}

#[tokio::test]
async fn users_may_do_what_they_may() {
    let Some(redis) = start(&[]).await else { return };
    redis
        .raw("ACL SETUSER ann on >hunter2 ~app||* ~t &* +@all -@dangerous +info")
        .await;
    redis.raw("ACL SETUSER default off").await;
    let host = redis.host();
    let ann = [
        ("redisHost", host.as_str()),
        ("redisUsername", "ann"),
        ("redisPassword", "hunter2"),
    ];
    let store = build::store(&ann).await;
    store.set(set("app||k", "v")).await.unwrap();
    assert!(get(&*store, "app||k").await.is_some());
    let error = store.set(set("other", "v")).await.unwrap_err();
    assert_eq!(error.kind, Kind::PermissionDenied, "{error:?}");

    let locks = build::locks(&ann).await;
    let wanted = outrigger_component::lock::TryLock {
        resource: "app||r".to_owned(),
        owner: "o".to_owned(),
        expiry: Duration::from_secs(9),
    };
    let granted = locks.try_lock(&wanted).await.unwrap().expect("free");
    assert!(
        granted.metadata.is_empty(),
        "no right to the counter, no token: {granted:?}"
    );
    assert_eq!(locks.try_lock(&wanted).await.unwrap(), None);

    for metadata in [
        &[ann[0], ann[1], ("redisPassword", "hunter3")][..],
        &[ann[0], ("redisUsername", "bob"), ann[2]],
        &[ann[0], ann[2]],
        &[ann[0]],
    ] {
        let error = refused(metadata).await;
        assert_eq!(error.kind, Kind::PermissionDenied, "{error:?}");
        assert!(
            error.message.contains(&host) && !error.message.contains("hunter"),
            "{}",
            error.message
        );
    }
}

/// Something else listens on the port.
#[tokio::test]
async fn another_protocol_is_recognised() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let answering = async {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 64];
            let _read = stream.read(&mut request).await;
            let _written = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    };
    let metadata = [("redisHost", host.as_str()), ("redisMaxRetries", "1")];
    let asking = refused(&metadata);
    let error = tokio::select! {
        error = asking => error,
        () = answering => unreachable!("it does not end"),
    };
    assert!(
        error.message.contains(&host) && error.message.contains("is it Redis that listens there"),
        "{}",
        error.message
    );
}

/// A server that falls silent does not keep those who come later from a connection that works.
#[tokio::test]
async fn silence_is_noticed() {
    let Some(redis) = start(&[]).await else { return };
    let host = redis.host();
    let store = build::store(&[
        ("redisHost", &host),
        ("readTimeout", "300"),
        ("redisMaxRetries", "-1"),
    ])
    .await;
    redis.pause(true);
    let error = store.set(set("k", "v")).await.unwrap_err();
    assert_eq!(error.kind, Kind::Timeout, "{error:?}");
    redis.pause(false);
    store.set(set("k", "w")).await.unwrap();
    redis
        .until("CLIENT LIST TYPE normal", |list| {
            list.matches("cmd=eval").count() == 1
        })
        .await;
}
