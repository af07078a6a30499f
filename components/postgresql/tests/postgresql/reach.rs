//! How a server is reached, or is not.

use super::{store, try_store};
use outrigger_component::error::Kind;
use outrigger_testkit::servers::postgresql::{PASSWORD, USER, start};
use outrigger_testkit::store::{get, set};
use outrigger_testkit::until::until;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;

#[tokio::test]
async fn logging_in() {
    let Some(server) = start(&[]).await else { return };
    let port = server.port().to_string();
    let parts = |password| {
        [
            ("host", "127.0.0.1"),
            ("port", port.as_str()),
            ("user", USER),
            ("password", password),
            ("database", "postgres"),
        ]
    };
    let store = try_store("v2", &parts(PASSWORD))
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    store.set(set("k", "v")).await.unwrap();
    let wrong = try_store("v2", &parts("hunter2")).await.err().expect("refused");
    assert_eq!(wrong.kind, Kind::PermissionDenied, "{wrong:?}");
    let expected = format!(
        "failed to connect to the database at 127.0.0.1:{port}: FATAL: password authentication failed for user \"dapr\" (SQLSTATE 28P01)"
    );
    assert_eq!(wrong.message, expected);
    let url = format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{port}/nowhere");
    let nowhere = try_store("v1", &[("connectionString", &url)])
        .await
        .err()
        .expect("refused");
    assert_eq!(nowhere.kind, Kind::Invalid, "{nowhere:?}");
    assert!(
        nowhere.message.contains("database \"nowhere\" does not exist"),
        "{nowhere}"
    );
    let secret = server.connection_string().replace(PASSWORD, "hunter2");
    let both = try_store("v2", &[("connectionString", &secret), ("password", PASSWORD)]).await;
    both.unwrap_or_else(|error| panic!("metadata of its own wins: {error}"));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let text = "host=127.0.0.1 port=1 user=u";
    let error = try_store("v1", &[("connectionString", text)])
        .await
        .err()
        .expect("refused");
    assert_eq!(error.kind, Kind::Unavailable, "{error:?}");
    assert!(
        error
            .message
            .starts_with("failed to connect to the database at 127.0.0.1:1: "),
        "{error}"
    );
    let text = "host=nowhere.invalid user=u";
    let error = try_store("v2", &[("connectionString", text)])
        .await
        .err()
        .expect("refused");
    assert_eq!(error.kind, Kind::Unavailable, "{error:?}");
    assert!(error.message.contains("nowhere.invalid"), "{error}");
}

/// Somebody who speaks something else, and somebody who says nothing.
#[tokio::test]
async fn another_protocol_on_the_port() {
    for answer in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"-ERR unknown command\r\n",
        b"",
    ] {
        for mode in ["prefer", "disable"] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let answering = async {
                let mut held = Vec::new();
                loop {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    stream.write_all(answer).await.unwrap();
                    held.push(stream);
                }
            };
            let text = format!("host=127.0.0.1 port={port} user=u sslmode={mode}");
            let metadata = [("connectionString", text.as_str()), ("timeout", "2s")];
            let trying = tokio::time::timeout(Duration::from_secs(10), try_store("v1", &metadata));
            let error = tokio::select! {
                error = trying => error.expect("in time").err().expect("refused"),
                () = answering => unreachable!("the loop does not end"),
            };
            assert!(error.message.contains(&format!("127.0.0.1:{port}")), "{error}");
            assert!(error.is_retryable(), "{answer:?} {mode}: {error:?}");
        }
    }
}

#[tokio::test]
async fn over_tls() {
    let Some(mut server) = start(&[]).await else {
        return;
    };
    let authority = rcgen::KeyPair::generate().unwrap();
    let mut of_authority = rcgen::CertificateParams::new(vec![]).unwrap();
    of_authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_certificate = of_authority.self_signed(&authority).unwrap();
    let issuer = rcgen::Issuer::new(of_authority, authority);
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned()];
    let certificate = rcgen::CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let root = server.file("ca.pem", &authority_certificate.pem());
    let certificate = server.file("server.pem", &certificate.pem());
    let key = server.file("server.key", &key.serialize_pem());
    server.kill();
    let (certificate, key) = (
        format!("ssl_cert_file={}", certificate.display()),
        format!("ssl_key_file={}", key.display()),
    );
    server.options(&["-c", "ssl=on", "-c", &certificate, "-c", &key]);
    server.restart().await;
    let root = root.display().to_string();
    let port = server.port();
    for (host, more, fits) in [
        ("127.0.0.1", "sslmode=require".to_owned(), true),
        ("127.0.0.1", String::new(), true),
        (
            "localhost",
            format!("sslmode=verify-full sslrootcert={root}"),
            true,
        ),
        ("127.0.0.1", format!("sslmode=verify-ca sslrootcert={root}"), true),
        ("127.0.0.1", format!("sslmode=require sslrootcert={root}"), true),
        (
            "127.0.0.1",
            format!("sslmode=verify-full sslrootcert={root}"),
            false,
        ),
        ("localhost", "sslmode=verify-full".to_owned(), false),
    ] {
        let text = format!("host={host} port={port} user={USER} password={PASSWORD} dbname=postgres {more}");
        match try_store("v2", &[("connectionString", &text)]).await {
            Ok(store) => {
                assert!(fits, "{host} {more}");
                store.set(set("k", "v")).await.unwrap();
                let over_tls = server.sql("SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'outrigger'").await;
                assert_eq!(over_tls, "t", "{host} {more}");
                store.close().await;
            }
            Err(error) => {
                assert!(!fits, "{host} {more}: {error}");
                assert!(
                    error
                        .message
                        .contains("tls: failed to verify certificate: x509: "),
                    "{error}"
                );
            }
        }
    }
    let missing =
        format!("host=localhost port={port} user={USER} sslmode=verify-full sslrootcert=/nowhere.pem");
    let error = try_store("v2", &[("connectionString", &missing)])
        .await
        .err()
        .expect("refused");
    assert!(error.message.contains("cannot read /nowhere.pem"), "{error}");
}

/// Connections that nobody uses are closed, and there are never more than was said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_few_and_end() {
    let Some(server) = start(&[]).await else { return };
    let store = store(
        &server,
        "v1",
        &[("maxConns", "3"), ("connectionMaxIdleTime", "1s")],
    )
    .await;
    let writes: Vec<_> = (0..500).map(|number| set(&format!("k{number}"), "1")).collect();
    for outcome in futures::future::join_all(writes.into_iter().map(|set| store.set(set))).await {
        outcome.unwrap();
    }
    let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'outrigger'";
    let open: u32 = server.sql(count).await.parse().unwrap();
    assert!((1..=3).contains(&open), "{open} connections");
    let closed = async || server.sql(count).await == "0";
    until("unused connections are closed", Duration::from_secs(10), closed).await;
    assert_eq!(get(&*store, "k499").await.unwrap().0, "1");
}
