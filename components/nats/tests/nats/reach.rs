//! Reaching a server and being let in; and who is refused, or is no server.

use super::server::build;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use outrigger_component::error::Kind;
use outrigger_testkit::servers::nats::start;
use serde_json::{Value, json};
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

#[tokio::test]
async fn logging_in() {
    let plain = "authorization { user: bob, password: \"p@ss\" }";
    let token = "authorization { token: s3cr3t }";
    for (configuration, good, bad) in [
        (plain, ("bob:p%40ss@", ""), ("bob:hunter2@", "")),
        (token, ("", "s3cr3t"), ("", "hunter2")),
        (token, ("s3cr3t@", ""), ("hunter2@", "")),
    ] {
        let Some(nats) = start(configuration).await else {
            return;
        };
        let with = async |(user, token): (&str, &str)| {
            let url = format!("nats://{user}127.0.0.1:{}", nats.port());
            build(&[("natsURL", url.as_str()), ("token", token)]).await
        };
        with(good).await.unwrap().ping().await.unwrap();
        for wrong in [bad, ("", "")] {
            let error = with(wrong).await.err().expect("refused");
            assert_eq!(error.kind, Kind::PermissionDenied, "{error:?}");
            let text = format!("{error} {error:?}");
            assert!(
                text.contains(&nats.port().to_string()) && !text.contains("hunter2"),
                "{text}"
            );
        }
    }
}

/// A server whose users have JWTs, which an account's key has signed.
#[tokio::test]
async fn logging_in_with_a_signed_challenge() {
    use nkeys::KeyPair;
    let (operator, account, system) = (
        KeyPair::new_operator(),
        KeyPair::new_account(),
        KeyPair::new_account(),
    );
    let (user, other) = (KeyPair::new_user(), KeyPair::new_user());
    let sign = |kind: &str, subject: &KeyPair, issuer: &KeyPair, mut claims: Value| {
        claims["type"] = json!(kind);
        claims["version"] = json!(2);
        let claims = json!({
            "jti": "x", "iat": 1_700_000_000, "iss": issuer.public_key(), "name": kind, "sub": subject.public_key(),
            "nats": claims,
        });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!(
            "{}.{}",
            part(&json!({"typ": "JWT", "alg": "ed25519-nkey"})),
            part(&claims)
        );
        let signature = issuer.sign(signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    };
    let limits = json!({"limits": {
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
        "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
    }});
    // Which the system's account must not have.
    let mut without_jetstream = limits.clone();
    for name in ["mem_storage", "disk_storage", "streams", "consumer"] {
        without_jetstream["limits"][name] = json!(0);
    }
    let configuration = format!(
        "operator: {:?}\nresolver: MEMORY\nsystem_account: {}\nresolver_preload: {{ {}: {:?}, {}: {:?} }}",
        sign("operator", &operator, &operator, json!({})),
        system.public_key(),
        account.public_key(),
        sign("account", &account, &operator, limits),
        system.public_key(),
        sign("account", &system, &operator, without_jetstream),
    );
    let Some(nats) = start(&configuration).await else {
        return;
    };
    let jwt = sign(
        "user",
        &user,
        &account,
        json!({"subs": -1, "data": -1, "payload": -1}),
    );
    let url = nats.url();
    let with = async |seed: &str| build(&[("natsURL", url.as_str()), ("jwt", &jwt), ("seedKey", seed)]).await;
    let broker = with(&user.seed().unwrap()).await.unwrap();
    broker.ping().await.unwrap();
    let wrong = with(&other.seed().unwrap()).await.err().expect("another's key");
    assert_eq!(wrong.kind, Kind::PermissionDenied, "{wrong:?}");
}

/// With certificates on both sides. The authorities of this machine are trusted, and those are what `SSL_CERT_FILE` says to a
/// process; so this test starts itself as another one.
#[tokio::test]
#[expect(
    clippy::disallowed_methods,
    reason = "how one process of this test tells the other"
)]
async fn tls() {
    if let Ok(folder) = std::env::var("NATS_TEST_TLS") {
        let file = |name: &str| format!("{folder}/{name}");
        let url = std::fs::read_to_string(file("url")).unwrap();
        let identity = [
            ("natsURL", url.as_str()),
            ("tls_client_cert", &file("client.pem")),
            ("tls_client_key", &file("client.key")),
        ];
        build(&identity).await.unwrap().ping().await.unwrap();
        let pem = |name: &str| std::fs::read_to_string(file(name)).unwrap();
        let (certificate, key) = (pem("client.pem"), pem("client.key"));
        let identity = [
            ("natsURL", url.as_str()),
            ("tls_client_cert", &certificate),
            ("tls_client_key", &key),
        ];
        build(&identity).await.unwrap().ping().await.unwrap();
        let stranger = build(&[("natsURL", url.as_str())])
            .await
            .err()
            .expect("no client certificate");
        assert_eq!(stranger.kind, Kind::Unavailable, "{stranger:?}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    write("ca.pem", &params.self_signed(&key).unwrap().pem());
    let issuer = rcgen::Issuer::new(params, key);
    for name in ["server", "client"] {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        write(
            &format!("{name}.pem"),
            &params.signed_by(&key, &issuer).unwrap().pem(),
        );
        write(&format!("{name}.key"), &key.serialize_pem());
    }
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let configuration = format!(
        "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true }}",
        file("server.pem"),
        file("server.key"),
        file("ca.pem")
    );
    let Some(nats) = start(&configuration).await else {
        return;
    };
    write("url", &nats.url());
    let distrusted = build(&[("natsURL", nats.url().as_str())])
        .await
        .err()
        .expect("nobody trusts this authority");
    assert_eq!(distrusted.kind, Kind::Unavailable, "{distrusted:?}");
    assert!(
        distrusted
            .message
            .contains("tls: failed to verify certificate: x509: "),
        "{distrusted}"
    );
    let other = tokio::task::spawn_blocking(move || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "reach::tls"])
            .env("NATS_TEST_TLS", folder.path())
            .env("SSL_CERT_FILE", folder.path().join("ca.pem"))
            .output()
            .unwrap()
    });
    let output = other.await.unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

#[tokio::test]
async fn servers_that_are_not_there_or_are_others() {
    let error = build(&[("natsURL", "nats://bob:hunter2@127.0.0.1:1")])
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind, Kind::Unavailable, "{error:?}");
    assert!(
        error.message.contains("error connecting to nats at 127.0.0.1:1")
            && !error.message.contains("hunter2"),
        "{error}"
    );
    for greeting in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"+OK\r\n", b""] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("nats://{}", listener.local_addr().unwrap());
        let other = async {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(greeting).await.unwrap();
                let mut sink = Vec::new();
                let _gone = stream.read_to_end(&mut sink).await;
            }
        };
        let began = Instant::now();
        let metadata = [("natsURL", url.as_str())];
        let error = tokio::select! {
            result = build(&metadata) => result.err().expect("no server"),
            () = other => unreachable!("it goes on"),
        };
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        assert!(error.is_retryable(), "{error:?}");
    }
}
