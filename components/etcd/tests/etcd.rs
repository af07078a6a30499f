//! Against a real server; skipped loudly where none is installed.

#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

use outrigger_component::error::{Error, Kind};
use outrigger_component::metadata::Metadata;
use outrigger_component::registry::Registry;
use outrigger_component::state::{Concurrency, Delete, Get, Item, KeysLike, Set, StateStore, Write};
use outrigger_components_etcd::register;
use outrigger_testkit::conformance::state::{self, churn};
use outrigger_testkit::servers::etcd::{Etcd, start};
use outrigger_testkit::setup::setup;
use outrigger_testkit::store::{get, of, set, text};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Leases end within so much of their time: the server looks twice a second.
const LATE: Duration = Duration::from_millis(1500);

async fn build(version: &str, metadata: &[(&str, &str)]) -> Result<Arc<dyn StateStore>, Error> {
    let mut registry = Registry::default();
    register(&mut registry);
    registry
        .state_stores()
        .build("etcd", version, setup(metadata))
        .await
}

async fn store(etcd: &Etcd, version: &str, metadata: &[(&str, &str)]) -> Arc<dyn StateStore> {
    let endpoint = etcd.endpoint();
    let metadata = [&[("endpoints", endpoint.as_str())], metadata].concat();
    build(version, &metadata).await.unwrap()
}

#[tokio::test]
async fn both_versions_conform() {
    let Some(etcd) = start(&[]).await else { return };
    let (one, two) = (
        store(&etcd, "v1", &[("keyPrefixPath", "one")]).await,
        store(&etcd, "v2", &[("keyPrefixPath", "two")]).await,
    );
    let nature = state::Nature {
        late: LATE,
        ..state::Nature::default()
    };
    tokio::join!(
        state::run_as(&*one, "app", nature),
        state::run_as(&*two, "app", nature)
    );
    assert_eq!(
        one.features().names(),
        ["ETAG", "TRANSACTIONAL", "TTL", "KEYS_LIKE"]
    );
    assert_eq!(one.features().max_transaction, Some(128));
}

/// COMPAT(components-contrib state/etcd): the same keys with and without a prefix, values as they are in version 1.
#[tokio::test]
async fn keys_and_values_are_laid_out_as_the_reference_does() {
    let Some(etcd) = start(&[]).await else { return };
    let plain = store(&etcd, "v1", &[("keyPrefixPath", "dapr")]).await;
    let stamped = store(&etcd, "v2", &[("keyPrefixPath", "dapr")]).await;
    let root = store(&etcd, "", &[]).await;
    plain.set(set("app||a", "1")).await.unwrap();
    assert_eq!(text(&*root, "app||a").await, None, "root keys begin with a slash");
    let nested = store(&etcd, "v1", &[("keyPrefixPath", "")]).await;
    nested.set(set("x", "2")).await.unwrap();
    let found = nested
        .keys_like(&KeysLike {
            pattern: "%".to_owned(),
            ..KeysLike::default()
        })
        .await
        .unwrap();
    assert_eq!(found.keys, ["x"], "and only those");
    let unreadable = stamped
        .get(&Get {
            key: "app||a".to_owned(),
            ..Get::default()
        })
        .await
        .unwrap_err();
    assert!(
        unreadable.message.contains("dapr/app||a") && unreadable.message.contains("v2"),
        "{}",
        unreadable.message
    );
}

/// 64 writers add to one number by tag: no addition is lost, and each failure is a mismatch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tags_of_64_writers() {
    const WRITERS: usize = 64;
    let Some(etcd) = start(&[]).await else { return };
    let store = store(&etcd, "v2", &[]).await;
    store.set(set("n", "0")).await.unwrap();
    let add = async |store: &Arc<dyn StateStore>| loop {
        let (number, tag) = get(&**store, "n").await.unwrap();
        let number: u64 = number.parse().unwrap();
        let next = Set {
            etag: Some(tag),
            ..set("n", &(number + 1).to_string())
        };
        match store.set(next).await {
            Ok(()) => return,
            Err(error) => assert_eq!(error.kind, Kind::EtagMismatch, "{error}"),
        }
    };
    futures::future::join_all((0..WRITERS).map(|_| add(&store))).await;
    assert_eq!(text(&*store, "n").await.unwrap(), WRITERS.to_string());

    // And of those who want to be the first, one is.
    let claim = async |number: usize| {
        let first = Set {
            concurrency: Concurrency::FirstWrite,
            ..set("first", &number.to_string())
        };
        store.set(first).await
    };
    let results = futures::future::join_all((0..WRITERS).map(claim)).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    for error in results.into_iter().filter_map(Result::err) {
        assert_eq!(
            (error.kind, error.message.as_str()),
            (Kind::EtagMismatch, "item already exists and no etag was passed")
        );
    }
}

/// A refused transaction leaves neither its writes nor its leases behind; a permitted one may be as large as said.
#[tokio::test]
async fn transactions() {
    let Some(etcd) = start(&["--max-txn-ops", "1000"]).await else {
        return;
    };
    let store = store(&etcd, "v1", &[("maxTxnOps", "1000")]).await;
    let many = |count: usize| -> Vec<Write> {
        (0..count)
            .map(|number| Write::Set(set(&format!("k{number}"), "v")))
            .collect()
    };
    store.transact(many(1000), &Metadata::new()).await.unwrap();
    let over = store.transact(many(1001), &Metadata::new()).await.unwrap_err();
    assert_eq!(over.kind, Kind::Invalid, "{over}");
    assert!(over.message.contains("too many operations"), "{over}");
    let gets: Vec<Get> = (0..2500)
        .map(|number| Get {
            key: format!("k{number}"),
            ..Get::default()
        })
        .collect();
    let found = store.bulk_get(&gets).await.unwrap();
    let there = |item: &Result<Option<Item>, Error>| item.as_ref().unwrap().is_some();
    assert_eq!(
        (found.len(), found.iter().filter(|item| there(item)).count()),
        (2500, 1000)
    );

    let lasting = Set {
        metadata: Metadata::from_iter([("ttlInSeconds", "1000")]),
        ..set("x", "1")
    };
    let refused = [
        Write::Set(lasting),
        Write::Delete(Delete {
            key: "k0".to_owned(),
            etag: Some("1".to_owned()),
            ..Delete::default()
        }),
    ];
    let error = store
        .transact(refused.to_vec(), &Metadata::new())
        .await
        .unwrap_err();
    assert_eq!(error.kind, Kind::EtagMismatch);
    assert!(
        error
            .message
            .starts_with("state etag not match for key=/k0: current="),
        "{error}"
    );
    assert_eq!(text(&*store, "x").await, None);
    assert_eq!(text(&*store, "k0").await.as_deref(), Some("v"));
    let leases = post(&etcd, "/v3/lease/leases", "{}").await;
    assert!(leases.contains("header") && !leases.contains("ID"), "{leases}");
}

/// Keys beyond one batch, and those of one transaction, which share their revision: every one comes once.
#[tokio::test]
async fn many_keys_by_pattern() {
    let Some(etcd) = start(&[]).await else { return };
    let store = store(&etcd, "v1", &[("keyPrefixPath", "p")]).await;
    for chunk in 0..24 {
        let writes = (0..100).map(|number| Write::Set(set(&format!("a||{chunk:02}{number:02}"), "")));
        store.transact(writes.collect(), &Metadata::new()).await.unwrap();
    }
    for (pattern, size, expected) in [
        ("a||%", 700, 2400),
        ("a||__07", 5, 24),
        ("%23__", 1000, 100),
        ("b%", 1, 0),
    ] {
        let mut like = KeysLike {
            pattern: pattern.to_owned(),
            page_size: Some(size),
            continuation: None,
        };
        let mut keys = Vec::new();
        loop {
            let page = store.keys_like(&like).await.unwrap();
            assert!(page.keys.len() <= usize::try_from(size).unwrap());
            keys.extend(page.keys);
            like.continuation = page.continuation;
            if like.continuation.is_none() {
                break;
            }
        }
        let all = keys.len();
        keys.dedup();
        assert_eq!((keys.len(), all), (expected, expected), "{pattern}");
    }
    let odd = KeysLike {
        pattern: "a%".to_owned(),
        continuation: Some("b".to_owned()),
        ..KeysLike::default()
    };
    assert_eq!(store.keys_like(&odd).await.unwrap_err().kind, Kind::Invalid);
}

/// A value outlives its lease by less than [`LATE`]; writing anew ends the old lease's power over it.
#[tokio::test]
async fn leases_end() {
    let Some(etcd) = start(&[]).await else { return };
    let store = store(&etcd, "v2", &[]).await;
    let lasting = |key: &str, seconds: &str| Set {
        metadata: Metadata::from_iter([("ttlInSeconds", seconds)]),
        ..set(key, "v")
    };
    store.set(lasting("a", "2")).await.unwrap();
    store.set(lasting("b", "2")).await.unwrap();
    store.set(lasting("b", "1000")).await.unwrap();
    store.set(lasting("c", "2")).await.unwrap();
    store.set(lasting("c", "-1")).await.unwrap();
    let began = Instant::now();
    while get(&*store, "a").await.is_some() {
        assert!(
            began.elapsed() < Duration::from_secs(2) + LATE,
            "it should be gone"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        began.elapsed() > Duration::from_millis(1800),
        "{:?}",
        began.elapsed()
    );
    assert!(
        store
            .get(&of("b"))
            .await
            .unwrap()
            .unwrap()
            .metadata
            .get("ttlExpireTime")
            .is_some()
    );
    assert!(store.get(&of("c")).await.unwrap().unwrap().metadata.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_loses_no_answered_write() {
    let Some(mut etcd) = start(&[]).await else { return };
    let store = store(&etcd, "v2", &[]).await;
    churn::interrupted(&*store, 2, Duration::from_secs(30), async || {
        etcd.kill();
        etcd.restart().await;
    })
    .await;
}

/// Of several endpoints, those that are not there do no harm.
#[tokio::test]
async fn other_endpoints_are_tried() {
    let Some(etcd) = start(&[]).await else { return };
    let endpoints = format!("127.0.0.1:1,http://127.0.0.1:2, {}", etcd.endpoint());
    let store = build("v1", &[("endpoints", &endpoints)]).await.unwrap();
    store.set(set("a", "1")).await.unwrap();
    assert_eq!(text(&*store, "a").await.as_deref(), Some("1"));
    store.ping().await.unwrap();
}

/// Nothing is connected before it is needed; then, what is missing is named, in time.
#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    for version in ["v1", "v2"] {
        let store = build(version, &[("endpoints", "127.0.0.1:1")]).await.unwrap();
        let began = Instant::now();
        let error = store.ping().await.unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
        assert_eq!(error.kind, Kind::Unavailable, "{error}");
        assert!(
            error
                .message
                .contains("error connecting to etcd at [127.0.0.1:1]")
                && error.message.contains("refused"),
            "{error}"
        );
    }
}

/// Somebody else on the port, and somebody who says nothing.
#[tokio::test]
async fn another_protocol_on_the_port() {
    for greeting in [
        &b"+OK hello\r\n"[..],
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        b"",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let other = async {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(greeting).await.unwrap();
                if greeting.is_empty() {
                    // Reads and never answers.
                    let mut sink = Vec::new();
                    let _gone = stream.read_to_end(&mut sink).await;
                }
            }
        };
        let store = build("v1", &[("endpoints", &address)]).await.unwrap();
        let began = Instant::now();
        let error = tokio::select! {
            result = store.set(set("a", "1")) => result.unwrap_err(),
            () = other => unreachable!("it goes on"),
        };
        assert!(began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
        assert!(error.is_retryable(), "{error:?}");
        assert!(error.message.starts_with("couldn't set key /a: "), "{error}");
    }
}

/// Users and passwords; tokens that the server has forgotten are replaced.
#[tokio::test]
async fn logging_in() {
    let Some(mut etcd) = start(&["--auth-token", "simple"]).await else {
        return;
    };
    let named = [("username", "root"), ("password", "hunter2")];
    let early = store(&etcd, "v1", &named).await;
    early
        .set(set("a", "before authentication is enabled"))
        .await
        .unwrap();
    for (path, body) in [
        ("/v3/auth/user/add", r#"{"name":"root","password":"hunter2"}"#),
        ("/v3/auth/user/grant", r#"{"user":"root","role":"root"}"#),
        ("/v3/auth/enable", "{}"),
    ] {
        let answer = post(&etcd, path, body).await;
        assert!(!answer.contains("error"), "{path}: {answer}");
    }
    early.set(set("a", "1")).await.unwrap();
    let store_with =
        async |password: &str| store(&etcd, "v1", &[("username", "root"), ("password", password)]).await;
    let error = store_with("hunter3").await.set(set("a", "2")).await.unwrap_err();
    assert_eq!(error.kind, Kind::PermissionDenied, "{error}");
    assert!(!error.message.contains("hunter"), "{error}");
    let nobody = store(&etcd, "v1", &[]).await;
    assert_eq!(
        nobody.set(set("a", "3")).await.unwrap_err().kind,
        Kind::PermissionDenied
    );
    let right = store_with("hunter2").await;
    assert_eq!(text(&*right, "a").await.as_deref(), Some("1"));
    etcd.kill();
    etcd.restart().await;
    right.set(set("a", "4")).await.unwrap();
    assert_eq!(text(&*early, "a").await.as_deref(), Some("4"));
}

/// TLS with client certificates; strangers and those who speak plainly are kept out.
#[tokio::test]
async fn tls() {
    let folder = tempfile::tempdir().unwrap();
    let ours = authority();
    let strange = authority();
    let server = ours.sign("localhost");
    let client = ours.sign("client");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (cert, key, ca) = (
        write("cert.pem", &server.certificate),
        write("key.pem", &server.key),
        write("ca.pem", &ours.pem),
    );
    let options = [
        "--cert-file",
        &cert,
        "--key-file",
        &key,
        "--trusted-ca-file",
        &ca,
        "--client-cert-auth",
    ];
    let Some(etcd) = start(&options).await else { return };
    let endpoints = etcd.endpoint();
    let with = async |ca: &str, identity: &Signed| {
        let metadata = [
            ("endpoints", endpoints.as_str()),
            ("tlsEnable", "true"),
            ("ca", ca),
            ("cert", &identity.certificate),
            ("key", &identity.key),
        ];
        build("v2", &metadata).await.unwrap().set(set("a", "1")).await
    };
    with(&ours.pem, &client).await.unwrap();
    let distrusted = with(&strange.pem, &client).await.unwrap_err();
    assert_eq!(distrusted.kind, Kind::Unavailable, "{distrusted}");
    assert!(
        distrusted
            .message
            .contains("tls: failed to verify certificate: x509: "),
        "{distrusted}"
    );
    let stranger = with(&ours.pem, &strange.sign("client")).await.unwrap_err();
    assert_eq!(stranger.kind, Kind::Unavailable, "{stranger}");
    let plain = store(&etcd, "v1", &[])
        .await
        .set(set("a", "1"))
        .await
        .unwrap_err();
    assert_eq!(plain.kind, Kind::Unavailable, "{plain}");
}

#[tokio::test]
async fn settings_refused() {
    for (metadata, expected) in [
        (&[][..], "endpoints required"),
        (&[("endpoints", "")], "endpoints required"),
        (&[("endpoints", "localhost")], "endpoints"),
        (
            &[("endpoints", "a:1"), ("tlsEnable", "true"), ("ca", "x")],
            "tls authentication information is incomplete",
        ),
        (
            &[
                ("endpoints", "a:1"),
                ("tlsEnable", "true"),
                ("ca", "x"),
                ("cert", "y"),
                ("key", "z"),
            ],
            "ca holds no certificate",
        ),
        (&[("endpoints", "a:1"), ("maxTxnOps", "0")], "maxTxnOps"),
        (&[("endpoints", "a:1"), ("maxTxnOps", "many")], "maxTxnOps"),
    ] {
        let error = build("v1", metadata).await.err().expect(expected);
        assert_eq!(error.kind, Kind::Invalid, "{error}");
        assert!(error.message.contains(expected), "{error}");
    }
    assert!(build("v3", &[("endpoints", "a:1")]).await.is_err());
}

/// Speaks to the server's JSON gateway as any other client would.
async fn post(etcd: &Etcd, path: &str, body: &str) -> String {
    let output = Command::new("curl")
        .args(["-s", "-d", body])
        .arg(format!("http://{}{path}", etcd.endpoint()))
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// A certificate authority for one test.
struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pem: String,
}

/// PEM.
struct Signed {
    certificate: String,
    key: String,
}

fn authority() -> Authority {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    Authority {
        issuer: rcgen::Issuer::new(params, key),
        pem,
    }
}

impl Authority {
    fn sign(&self, name: &str) -> Signed {
        let names = vec![name.to_owned(), "127.0.0.1".to_owned()];
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(names)
            .unwrap()
            .signed_by(&key, &self.issuer)
            .unwrap();
        Signed {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

/// Nothing is written any more until somebody makes room; what is there is read and deleted.
#[tokio::test]
async fn a_server_without_space() {
    let Some(etcd) = start(&["--quota-backend-bytes", "200000"]).await else {
        return;
    };
    for version in ["v1", "v2"] {
        let store = store(&etcd, version, &[("keyPrefixPath", version)]).await;
        // The server judges by the size of its file, which grows with a delay.
        let (mut kept, began) = (0, Instant::now());
        let error = loop {
            match store.set(set(&format!("k{kept}"), &"x".repeat(20_000))).await {
                Ok(()) => kept += 1,
                Err(error) => break error,
            }
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "the quota is reached some time"
            );
        };
        assert_eq!(error.kind, Kind::Exhausted, "{version}: {error:?}");
        for expected in ["database space exceeded", "--quota-backend-bytes"] {
            assert!(error.message.contains(expected), "{version}: {expected}: {error}");
        }
        assert_eq!(text(&*store, "absent").await, None);
        let delete = Delete {
            key: "k0".to_owned(),
            ..Delete::default()
        };
        store.delete(delete).await.unwrap();
    }
}
