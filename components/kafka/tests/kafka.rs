//! Against a real broker; skipped loudly where none can be had. Cases share a broker where they can: it takes seconds to
//! start.

#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::RsaKeyPair;
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD as BASE64};
use futures::future::BoxFuture;
use outrigger_component::binding::{InputBinding, OutputBinding};
use outrigger_component::error::{Error, Kind};
use outrigger_component::metadata::Metadata;
use outrigger_component::pubsub::{Entry, Outcome, PubSub};
use outrigger_component::registry::Registry;
use outrigger_components_kafka::register;
use outrigger_testkit::broker::{expect, message, message_with, next, subscribe, text};
use outrigger_testkit::conformance::binding::{self, Ask};
use outrigger_testkit::conformance::pubsub::churn::{self, Group};
use outrigger_testkit::conformance::pubsub::{self, Nature, Order};
use outrigger_testkit::disk::Disk;
use outrigger_testkit::limits::exhausted;
use outrigger_testkit::servers::kafka::{Kafka, start, start_on};
use outrigger_testkit::setup::setup;
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const SOON: Duration = Duration::from_secs(30);

fn registry() -> Registry {
    let mut registry = Registry::default();
    register(&mut registry);
    registry
}

async fn try_broker(metadata: &[(&str, &str)]) -> Result<Arc<dyn PubSub>, Error> {
    let quick = [("heartbeatInterval", "300ms"), ("sessionTimeout", "6s")];
    let metadata = [&quick, metadata].concat();
    registry().brokers().build("kafka", "v1", setup(&metadata)).await
}

async fn broker(brokers: &str, metadata: &[(&str, &str)]) -> Arc<dyn PubSub> {
    let plain = [("brokers", brokers), ("authType", "none")];
    try_broker(&[&plain, metadata].concat()).await.unwrap()
}

async fn refused(metadata: &[(&str, &str)]) -> Error {
    try_broker(metadata).await.err().expect("refused")
}

/// One message there and back.
async fn round_trip(broker: &Arc<dyn PubSub>, topic: &str) {
    let mut inbox = subscribe(&**broker, topic).await;
    broker.publish(message(topic, topic)).await.unwrap();
    expect(&mut inbox, topic).await;
}

/// Refused messages keep their place in their partition.
fn nature() -> Nature {
    Nature {
        order: Order::PerKey("partitionKey"),
        holds: true,
        patience: Duration::from_secs(30),
        ..Nature::durable(Duration::from_secs(3))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    let Some(kafka) = start().await else { return };
    for strategy in ["range", "cooperative-sticky"] {
        let metadata = [
            ("consumerGroup", strategy),
            ("consumerGroupRebalanceStrategy", strategy),
        ];
        let broker = broker(&kafka.plain(), &metadata).await;
        pubsub::run(&*broker, &format!("{strategy}-"), nature()).await;
        broker.close().await;
    }
    messages_and_partitions(&kafka).await;
    a_new_group_begins_where_it_is_told(&kafka).await;
    bindings(&kafka).await;
    limits(&kafka).await;
}

/// Topics that take no large messages, or no old ones, and a quota: the former are errors, the latter takes its time.
async fn limits(kafka: &Kafka) {
    kafka.create("limits", 1).await;
    let small = ["--entity-type", "topics", "--entity-name", "limits"];
    kafka.alter(&[&small[..], &["--add-config", "max.message.bytes=30000"]].concat());
    let broker = broker(&kafka.plain(), &[]).await;
    let error = broker
        .publish(message("limits", &"x".repeat(40_000)))
        .await
        .unwrap_err();
    assert_eq!(error.kind, Kind::Exhausted, "{error:?}");
    for expected in ["topic limits", "MESSAGE_TOO_LARGE", "max.message.bytes"] {
        assert!(error.message.contains(expected), "{expected}: {error}");
    }
    broker.publish(message("limits", "small")).await.unwrap();

    // A clock that is behind, if only by the time that a message is on its way.
    kafka.create("late", 1).await;
    let late = ["--entity-type", "topics", "--entity-name", "late"];
    kafka.alter(&[&late[..], &["--add-config", "message.timestamp.before.max.ms=0"]].concat());
    let (_, error) = exhausted(1000, async |_| broker.publish(message("late", "?")).await).await;
    for expected in ["topic late", "INVALID_TIMESTAMP", "set the clocks"] {
        assert!(error.message.contains(expected), "{expected}: {error}");
    }

    // Over ten seconds, as brokers count: more than that is answered late, and what comes behind it is read late.
    let clients = ["--entity-type", "clients", "--entity-default"];
    kafka.alter(&[&clients[..], &["--add-config", "producer_byte_rate=2000"]].concat());
    let began = Instant::now();
    let many = (0..12).map(|_| broker.publish(message("limits", &"x".repeat(2_000))));
    for published in futures::future::join_all(many).await {
        published.unwrap();
    }
    broker.publish(message("limits", "behind")).await.unwrap();
    let took = began.elapsed();
    assert!(
        took > Duration::from_millis(300),
        "the quota was no matter: {took:?}"
    );
    kafka.alter(&[&clients[..], &["--delete-config", "producer_byte_rate"]].concat());
    broker.close().await;
}

/// A broker whose only disk is full ends itself: publishers are told in seconds, and what it has confirmed is there when it
/// comes back with room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk() {
    let Some(disk) = Disk::mount(64) else { return };
    let Some(mut kafka) = start_on(Some(disk.path())).await else {
        return;
    };
    kafka.create("t", 1).await;
    let broker = broker(&kafka.plain(), &[("initialOffset", "oldest")]).await;
    broker.publish(message("t", "before")).await.unwrap();
    let ballast = disk.path().join("ballast");
    // As much as there is room for, but for some messages.
    std::fs::write(&ballast, vec![0; 64 << 20]).unwrap_err();
    let file = File::options().write(true).open(&ballast).unwrap();
    file.set_len(file.metadata().unwrap().len() - (200 << 10))
        .unwrap();
    drop(file);
    let began = Instant::now();
    let large = |number: usize| format!("{number} {}", "x".repeat(10_000));
    let publish = async |number| broker.publish(message("t", &large(number))).await;
    let (kept, error) = exhausted(100, publish).await;
    assert!(
        !kept.is_empty() && began.elapsed() < SOON,
        "{} {error}",
        kept.len()
    );
    assert_eq!(error.kind, Kind::Unavailable, "{error:?}");
    assert!(error.message.contains(&kafka.plain()), "{error}");
    std::fs::remove_file(&ballast).unwrap();
    kafka.kill();
    kafka.restart().await;
    broker.publish(message("t", "after")).await.unwrap();
    let mut inbox = subscribe(&*broker, "t").await;
    expect(&mut inbox, "before").await;
    for number in 0..kept.len() {
        expect(&mut inbox, &large(number)).await;
    }
    expect(&mut inbox, "after").await;
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_in_motion() {
    let Some(mut kafka) = start().await else { return };
    for strategy in ["range", "roundrobin", "sticky", "cooperative-sticky"] {
        kafka.create(&format!("{strategy}-members"), 6).await;
    }
    for case in ["interrupted", "poison", "slow", "parallel"] {
        kafka.create(&format!("range-{case}"), 4).await;
    }
    let host = kafka.plain();
    for strategy in ["range", "roundrobin", "sticky", "cooperative-sticky"] {
        let connect = || -> BoxFuture<'_, Arc<dyn PubSub>> {
            let host = host.clone();
            Box::pin(async move {
                let metadata = [
                    ("consumerGroup", strategy),
                    ("consumerGroupRebalanceStrategy", strategy),
                    // Some publish before the first member is there.
                    ("initialOffset", "oldest"),
                ];
                broker(&host, &metadata).await
            })
        };
        let prefix = format!("{strategy}-");
        let group = Group {
            connect: &connect,
            prefix: &prefix,
            nature: Nature {
                repeats: true,
                ..nature()
            },
        };
        if strategy == "range" {
            churn::poison(&group, 640).await;
            churn::parallel(&group, 64, 150).await;
            churn::slow(&group, 320, Duration::from_secs(8)).await;
            let killed = async {
                kafka.kill();
                kafka.restart().await;
            };
            churn::interrupted(&group, 10_000, killed).await;
        }
        let time = match strategy {
            "range" | "cooperative-sticky" => 15,
            _ => 6,
        };
        churn::members(&group, Duration::from_secs(time)).await;
    }
}

async fn messages_and_partitions(kafka: &Kafka) {
    kafka.create("parts", 3).await;
    for compression in ["gzip", "snappy", "lz4", "zstd"] {
        let metadata = [("compression", compression), ("consumerGroup", compression)];
        let broker = broker(&kafka.plain(), &metadata).await;
        let mut inbox = subscribe(&*broker, "parts").await;
        let entries: Vec<Entry> = (0..50)
            .map(|number| Entry {
                id: number.to_string(),
                data: "x".repeat(number).into(),
                metadata: [("partitionKey", "k"), ("own", "1")].into_iter().collect(),
                ..Entry::default()
            })
            .collect();
        let shared: Metadata = [("shared", "2")].into_iter().collect();
        let failed = broker.publish_bulk("parts", entries, &shared).await.unwrap();
        assert!(failed.is_empty(), "{failed:?}");
        for number in 0..50 {
            let delivery = next(&mut inbox).await;
            assert_eq!(delivery.message.data.len(), number, "{compression}");
            for (name, value) in [
                ("__key", "k"),
                ("partitionKey", "k"),
                ("own", "1"),
                ("shared", "2"),
                ("__topic", "parts"),
            ] {
                assert_eq!(
                    delivery.message.metadata.get(name),
                    Some(value),
                    "{compression} {name}"
                );
            }
            delivery.settle(Outcome::Ack);
        }
        broker.close().await;
    }
    let broker = broker(&kafka.plain(), &[("maxMessageBytes", "2000")]).await;
    let mut inbox = subscribe(&*broker, "parts").await;
    for number in ["0", "1", "2"] {
        let chosen = message_with("parts", number, &[("partitionNumber", number)]);
        broker.publish(chosen).await.unwrap();
        let delivery = next(&mut inbox).await;
        assert_eq!(delivery.message.metadata.get("__partition"), Some(number));
        delivery.settle(Outcome::Ack);
    }
    for (content, metadata, kind) in [
        ("x", ("partitionNumber", "3"), Kind::Invalid),
        (&"x".repeat(3000)[..], ("a", "b"), Kind::Exhausted),
    ] {
        let error = broker
            .publish(message_with("parts", content, &[metadata]))
            .await
            .unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
    }
    let error = broker.publish(message("no/such name", "x")).await.unwrap_err();
    assert_eq!(error.kind, Kind::Invalid, "{error}");
    // A refused message holds up its own partition only.
    broker
        .publish(message_with("parts", "bad", &[("partitionNumber", "0")]))
        .await
        .unwrap();
    let bad = next(&mut inbox).await;
    for number in ["1", "2", "1", "2"] {
        broker
            .publish(message_with("parts", number, &[("partitionNumber", number)]))
            .await
            .unwrap();
        let delivery = next(&mut inbox).await;
        assert_eq!(text(&delivery), number);
        delivery.settle(Outcome::Ack);
    }
    bad.settle(Outcome::Nack);
    assert_eq!(text(&next(&mut inbox).await), "bad");
    broker.close().await;
}

async fn a_new_group_begins_where_it_is_told(kafka: &Kafka) {
    let plain = kafka.plain();
    let publisher = broker(&plain, &[]).await;
    publisher.publish(message("begin", "old")).await.unwrap();
    for (offset, expected) in [("oldest", "old"), ("newest", "new newest")] {
        let broker = broker(&plain, &[("consumerGroup", offset), ("initialOffset", offset)]).await;
        let mut inbox = subscribe(&*broker, "begin").await;
        publisher
            .publish(message("begin", &format!("new {offset}")))
            .await
            .unwrap();
        let first = next(&mut inbox).await;
        assert_eq!(text(&first), expected);
        // Not settled: it comes again to whoever is next in the group.
        drop(inbox);
        drop(first);
        let mut inbox = subscribe(&*broker, "begin").await;
        assert_eq!(text(&next(&mut inbox).await), expected);
        broker.close().await;
    }
    publisher.close().await;
    let closed = publisher.publish(message("begin", "late")).await.unwrap_err();
    assert_eq!(closed.message, "component is closed");
}

async fn bindings(kafka: &Kafka) {
    let plain = kafka.plain();
    for (retry, redelivery) in [("true", Some(Duration::from_secs(3))), ("false", None)] {
        let topic = format!("binding-{retry}");
        let metadata = setup(&[
            ("brokers", &plain),
            ("authType", "none"),
            ("topics", &topic),
            ("publishTopic", &topic),
            ("consumerGroup", &topic),
            ("consumeRetryEnabled", retry),
        ]);
        let registry = registry();
        let output: Arc<dyn OutputBinding> = registry
            .output_bindings()
            .build("kafka", "v1", metadata.clone())
            .await
            .unwrap();
        let input: Arc<dyn InputBinding> = registry
            .input_bindings()
            .build("kafka", "v1", metadata)
            .await
            .unwrap();
        let ask = Ask {
            redelivery,
            patience: SOON,
            ..Ask::new(&["create"], &[("partitionKey", "k")], b"event")
        };
        binding::run(Some(&*output), Some(&*input), ask).await;
        output.close().await;
        input.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logging_in() {
    let Some(kafka) = start().await else { return };
    let sasl = kafka.sasl();
    for (user, mechanism) in [("alice", "PLAINTEXT"), ("bob", "SHA-256"), ("bob", "SHA-512")] {
        let password = format!("{user}-pw");
        let login = |password| {
            [
                ("brokers", sasl.as_str()),
                ("authType", "password"),
                ("disableTls", "true"),
                ("saslUsername", user),
                ("saslPassword", password),
                ("saslMechanism", mechanism),
                ("consumerGroup", mechanism),
            ]
        };
        let broker = try_broker(&login(&password)).await.unwrap();
        round_trip(&broker, mechanism).await;
        broker.close().await;
        let error = refused(&login("hunter2")).await;
        assert_eq!(error.kind, Kind::PermissionDenied, "{mechanism}: {error}");
        assert!(
            error.message.contains(&sasl) && !error.message.contains("hunter2"),
            "{error}"
        );
    }

    let (ca, (certificate, key)) = (&kafka.authority, &kafka.client);
    let (tls, mtls) = (kafka.tls(), kafka.mtls());
    let certificate_only = [
        ("brokers", tls.as_str()),
        ("authType", "certificate"),
        ("caCert", ca.as_str()),
    ];
    round_trip(&try_broker(&certificate_only).await.unwrap(), "tls").await;
    let both = [
        ("brokers", mtls.as_str()),
        ("authType", "mtls"),
        ("caCert", ca),
        ("clientCert", certificate),
        ("clientKey", key),
    ];
    round_trip(&try_broker(&both).await.unwrap(), "mtls").await;
    let nobody = [
        ("brokers", mtls.as_str()),
        ("authType", "certificate"),
        ("caCert", ca),
    ];
    let stranger = [
        ("brokers", tls.as_str()),
        ("authType", "certificate"),
        ("caCert", certificate),
    ];
    let plain = kafka.plain();
    let no_tls = [
        ("brokers", plain.as_str()),
        ("authType", "certificate"),
        ("caCert", ca),
    ];
    let tls_missing = [("brokers", tls.as_str()), ("authType", "none")];
    let login_missing = [("brokers", sasl.as_str()), ("authType", "none")];
    for wrong in [&nobody[..], &stranger, &no_tls, &tls_missing, &login_missing] {
        let wrong = [&[("dialTimeout", "5s"), ("readTimeout", "5s")], wrong].concat();
        let error = refused(&wrong).await;
        assert!(error.is_retryable(), "{wrong:?}: {error:?}");
    }
    tokens(&kafka).await;
}

fn private_key() -> String {
    let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
    let text = BASE64_STANDARD.encode(der.as_ref());
    format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
}

/// A token endpoint that gives a new token with each request.
async fn tokens(kafka: &Kafka) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/token", listener.local_addr().unwrap());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = format!(r#"{{"sub":"app","iat":{now},"exp":{}}}"#, now + 600);
    let token = format!(
        "{}.{}.",
        BASE64.encode(r#"{"alg":"none"}"#),
        BASE64.encode(claims)
    );
    let issuing = async {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = String::new();
            // What says who asks stands before the scope.
            while !request.contains("scope=") {
                let mut part = vec![0; 4096];
                let length = stream.read(&mut part).await.unwrap();
                request += &String::from_utf8_lossy(&part[..length]);
            }
            // `app:s/cret`, each part as in a form.
            let known = request
                .to_lowercase()
                .contains("authorization: basic yxbwonmlmkzjcmv0")
                || request.contains("&client_id=app&client_assertion_type=urn%3Aietf");
            let (status, body) = match known {
                true => (
                    "200 OK",
                    format!(r#"{{"access_token":"{token}","expires_in":600}}"#),
                ),
                false => ("401 Unauthorized", String::new()),
            };
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    };
    let trying = async {
        let sasl = kafka.sasl();
        let login = |secret| {
            [
                ("brokers", sasl.as_str()),
                ("authType", "oidc"),
                ("disableTls", "true"),
                ("oidcTokenEndpoint", endpoint.as_str()),
                ("oidcClientID", "app"),
                ("oidcClientSecret", secret),
                ("oidcScopes", "kafka"),
            ]
        };
        round_trip(&try_broker(&login("s/cret")).await.unwrap(), "oidc").await;
        let key = private_key();
        let assertion = [
            ("authType", "oidc_private_key_jwt"),
            ("oidcClientAssertionCert", "not looked at"),
            ("oidcClientAssertionKey", key.as_str()),
        ];
        let signed = try_broker(&[&login("")[..], &assertion].concat()).await.unwrap();
        round_trip(&signed, "signed").await;
        let error = refused(&login("wrong")).await;
        assert!(
            error.message.contains("401") && error.message.contains(&endpoint),
            "{error}"
        );
    };
    tokio::select! {
        () = issuing => unreachable!("it issues for ever"),
        () = trying => {}
    }
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_named() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let talkative = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let [silent_at, talkative_at] =
        [&silent, &talkative].map(|listener| listener.local_addr().unwrap().to_string());
    let talking = async {
        loop {
            let (mut stream, _) = talkative.accept().await.unwrap();
            stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .await
                .unwrap();
        }
    };
    let trying = async {
        for (address, kind) in [
            ("127.0.0.1:1", Kind::Unavailable),
            (&silent_at[..], Kind::Timeout),
            (&talkative_at, Kind::Unavailable),
        ] {
            let metadata = [
                ("brokers", address),
                ("authType", "none"),
                ("readTimeout", "1s"),
                ("dialTimeout", "1s"),
            ];
            let error = refused(&metadata).await;
            assert_eq!(error.kind, kind, "{error}");
            assert!(error.message.contains(address), "{error}");
        }
    };
    tokio::select! {
        () = talking => unreachable!("it talks for ever"),
        () = trying => {}
    }
}
