//! Against a real server; skipped loudly where none is installed.

#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

use futures::StreamExt as _;
use futures::future::BoxFuture;
use outrigger_component::binding::{InputBinding, Invoke, OutputBinding};
use outrigger_component::error::{Error, Kind};
use outrigger_component::metadata::Metadata;
use outrigger_component::pubsub::{Outcome, PubSub};
use outrigger_component::registry::Registry;
use outrigger_components_mqtt::register;
use outrigger_testkit::broker::{expect, message, message_with, next, quiet, subscribe, text};
use outrigger_testkit::conformance::pubsub::{Nature, churn};
use outrigger_testkit::conformance::{binding, pubsub};
use outrigger_testkit::pki::Pki;
use outrigger_testkit::port::Port;
use outrigger_testkit::relay::Relay;
use outrigger_testkit::servers::mosquitto::{Mosquitto, start};
use outrigger_testkit::setup::setup;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

type Pairs<'a> = [(&'a str, &'a str)];

const NATURE: Nature = Nature {
    metadata: false,
    wildcard: None,
    ..Nature::durable(Duration::from_secs(2))
};

fn registry() -> Registry {
    let mut registry = Registry::default();
    register(&mut registry);
    registry
}

fn url(server: &Mosquitto) -> String {
    format!("mqtt://{}", server.host())
}

async fn try_broker(url: &str, metadata: &Pairs<'_>) -> Result<Arc<dyn PubSub>, Error> {
    let metadata = [&[("url", url)], metadata].concat();
    registry().brokers().build("mqtt3", "v1", setup(&metadata)).await
}

async fn broker(url: &str, metadata: &Pairs<'_>) -> Arc<dyn PubSub> {
    try_broker(url, metadata).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pubsub_conforms() {
    let Some(server) = start(&[]).await else { return };
    pubsub::run(&*broker(&url(&server), &[]).await, "one-", NATURE).await;
    let twice = [("qos", "2"), ("consumerID", "exactly-once")];
    pubsub::run(&*broker(&url(&server), &twice).await, "two-", NATURE).await;
}

/// Both sides, under both names.
async fn bindings(metadata: &[(&str, &str)]) -> (Arc<dyn OutputBinding>, Arc<dyn InputBinding>) {
    let output = registry()
        .output_bindings()
        .build("mqtt3", "v1", setup(metadata))
        .await
        .unwrap();
    let input = registry()
        .input_bindings()
        .build("mqtt", "v1", setup(metadata))
        .await
        .unwrap();
    (output, input)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bindings_read_what_they_sent() {
    let Some(server) = start(&[]).await else { return };
    let url = url(&server);
    let metadata = [("url", url.as_str()), ("topic", "orders"), ("consumerID", "me")];
    let (output, input) = bindings(&metadata).await;
    let mut reading = input.read().await.unwrap();
    let create = |operation: &str, topic: &str| Invoke {
        operation: operation.to_owned(),
        data: "hello".into(),
        metadata: Metadata::from_iter([("topic", topic)]),
    };
    output.invoke(create("create", "")).await.unwrap();
    output.invoke(create("create", "elsewhere")).await.unwrap();
    let event = reading.events.next().await.unwrap();
    assert_eq!(
        (&event.data[..], event.metadata.get("topic")),
        (&b"hello"[..], Some("orders"))
    );
    event.settle(Ok(bytes::Bytes::new()));
    drop(reading);
    for (invoke, kind) in [
        (create("get", ""), Kind::Unsupported),
        (create("create", "a/#"), Kind::Invalid),
    ] {
        assert_eq!(output.invoke(invoke).await.unwrap_err().error.kind, kind);
    }
    // What was not answered before the reading ended comes with the next.
    output.invoke(create("create", "")).await.unwrap();
    let mut reading = input.read().await.unwrap();
    let event = reading.events.next().await.unwrap();
    assert_eq!(&event.data[..], b"hello");
    drop((event, reading));
    let mut reading = input.read().await.unwrap();
    let event = tokio::time::timeout(Duration::from_secs(10), reading.events.next()).await;
    event.unwrap().unwrap().settle(Ok(bytes::Bytes::new()));
    drop(reading);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bindings_conform() {
    let Some(server) = start(&[]).await else { return };
    let url = url(&server);
    let metadata = [("url", url.as_str()), ("topic", "orders"), ("consumerID", "me")];
    let (output, input) = bindings(&metadata).await;
    let ask = binding::Ask {
        redelivery: Some(Duration::from_secs(6)),
        ..binding::Ask::new(&["create"], &[], b"order")
    };
    binding::run(Some(&*output), Some(&*input), ask).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wildcards_and_shares() {
    let Some(server) = start(&[]).await else { return };
    let url = url(&server);
    let broker_one = broker(&url, &[("consumerID", "one")]).await;
    let broker_two = broker(&url, &[("consumerID", "two")]).await;
    let mut level = subscribe(&*broker_one, "w/+/x").await;
    let mut below = subscribe(&*broker_one, "w/#").await;
    let mut exact = subscribe(&*broker_one, "w/a/x").await;
    broker_two.publish(message("w/a/x", "1")).await.unwrap();
    for inbox in [&mut level, &mut below, &mut exact] {
        let delivery = next(inbox).await;
        assert_eq!(
            (text(&delivery).as_str(), delivery.message.topic.as_str()),
            ("1", "w/a/x")
        );
        delivery.settle(Outcome::Ack);
    }
    broker_two.publish(message("w/b", "2")).await.unwrap();
    expect(&mut below, "2").await;
    quiet(&mut level).await;
    quiet(&mut exact).await;
    let shared = "$share/group/jobs/+";
    let (mut first, mut second) = (
        subscribe(&*broker_one, shared).await,
        subscribe(&*broker_two, shared).await,
    );
    for number in 0..20 {
        let content = number.to_string();
        broker_two.publish(message("jobs/a", &content)).await.unwrap();
    }
    let mut seen = Vec::new();
    while seen.len() < 20 {
        let delivery = tokio::select! {
            delivery = next(&mut first) => delivery,
            delivery = next(&mut second) => delivery,
        };
        seen.push(text(&delivery).parse::<u8>().unwrap());
        delivery.settle(Outcome::Ack);
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..20).collect::<Vec<_>>(), "each once, to one of them");
    quiet(&mut first).await;
    quiet(&mut second).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_and_retained_messages() {
    let Some(server) = start(&[]).await else { return };
    let url = url(&server);
    let other = broker(&url, &[("consumerID", "other")]).await;
    other
        .publish(message_with("kept", "last", &[("retain", "true")]))
        .await
        .unwrap();
    // Away, and remembered.
    let away = broker(&url, &[]).await;
    let mut inbox = subscribe(&*away, "t").await;
    other.publish(message("t", "held")).await.unwrap();
    let held = next(&mut inbox).await;
    drop((inbox, held));
    away.close().await;
    other.publish(message("t", "missed")).await.unwrap();
    let back = broker(&url, &[]).await;
    let mut inbox = subscribe(&*back, "t").await;
    let mut contents = Vec::new();
    for _ in 0..2 {
        let delivery = next(&mut inbox).await;
        assert_eq!(delivery.message.metadata.get("retained"), Some("false"));
        contents.push(text(&delivery));
        delivery.settle(Outcome::Ack);
    }
    contents.sort();
    assert_eq!(contents, ["held", "missed"]);
    let mut kept = subscribe(&*back, "kept").await;
    let delivery = next(&mut kept).await;
    assert_eq!(
        (
            text(&delivery).as_str(),
            delivery.message.metadata.get("retained")
        ),
        ("last", Some("true"))
    );
    delivery.settle(Outcome::Ack);
    // Away, and forgotten.
    let clean = [("cleanSession", "true"), ("consumerID", "clean")];
    let forgotten = broker(&url, &clean).await;
    drop(subscribe(&*forgotten, "c").await);
    // What the broker acknowledges on the same connection, it read after the end of the subscription.
    forgotten.publish(message("elsewhere", "after")).await.unwrap();
    other.publish(message("c", "missed")).await.unwrap();
    let mut inbox = subscribe(&*forgotten, "c").await;
    quiet(&mut inbox).await;
    other.publish(message("c", "new")).await.unwrap();
    expect(&mut inbox, "new").await;
    // At most once.
    let careless = [("qos", "0"), ("consumerID", "careless")];
    let careless = broker(&url, &careless).await;
    let mut inbox = subscribe(&*careless, "q").await;
    careless.publish(message("q", "once")).await.unwrap();
    expect(&mut inbox, "once").await;
    for (topic, metadata, expected) in [
        ("", &[][..], "topic name is empty"),
        ("a/#", &[], "wildcards"),
        ("a", &[("retain", "perhaps")], "mqtt invalid retain perhaps"),
    ] {
        let error = other
            .publish(message_with(topic, "x", metadata))
            .await
            .unwrap_err();
        assert!(
            error.kind == Kind::Invalid && error.message.contains(expected),
            "{error:?}"
        );
    }
    other.close().await;
    let late = other.publish(message("t", "late")).await.unwrap_err();
    assert_eq!(late.message, "component is closed");
}

/// The broker ends and starts again in the middle of 10,000 messages; connections are cut, and fall silent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost() {
    let Some(mut server) = start(&[]).await else {
        return;
    };
    let url = url(&server);
    let connect = || -> BoxFuture<'_, Arc<dyn PubSub>> { Box::pin(broker(&url, &[])) };
    let group = churn::Group {
        connect: &connect,
        prefix: "churn-",
        nature: NATURE,
    };
    churn::interrupted(&group, 10_000, async {
        server.stop().await;
        server.restart().await;
    })
    .await;
    churn::poison(&group, 200).await;
    churn::slow(&group, 2_000, Duration::from_millis(5)).await;
    churn::parallel(&group, 64, 100).await;
    let relay = Relay::start(server.host().parse().unwrap()).await;
    let through = format!("tcp://127.0.0.1:{}", relay.port());
    let connect =
        || -> BoxFuture<'_, Arc<dyn PubSub>> { Box::pin(broker(&through, &[("consumerID", "cut")])) };
    let group = churn::Group {
        connect: &connect,
        prefix: "cut-",
        nature: NATURE,
    };
    churn::interrupted(&group, 3_000, async {
        // How long each lasts is the case.
        relay.cut();
        tokio::time::sleep(Duration::from_secs(2)).await;
        relay.heal();
        tokio::time::sleep(Duration::from_secs(1)).await;
        relay.silence();
        tokio::time::sleep(Duration::from_secs(5)).await;
        relay.heal();
    })
    .await;
}

/// A broker that is killed forgets; messages that nobody has acknowledged are sent to it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_forgot_everything() {
    let Some(mut server) = start(&[]).await else {
        return;
    };
    let broker = broker(&url(&server), &[]).await;
    let mut inbox = subscribe(&*broker, "t").await;
    broker.publish(message("t", "1")).await.unwrap();
    let held = next(&mut inbox).await;
    server.kill();
    let publishing = async {
        let published = broker.publish(message("t", "2")).await;
        published.unwrap();
    };
    let (_, ()) = tokio::join!(publishing, server.restart());
    held.settle(Outcome::Nack);
    let mut contents = vec![text(&next(&mut inbox).await), text(&next(&mut inbox).await)];
    contents.sort();
    assert_eq!(
        contents,
        ["1", "2"],
        "what was in memory here, and what waited to be sent"
    );
    broker.ping().await.unwrap();
    server.kill();
    let down = tokio::time::timeout(Duration::from_secs(10), async {
        while broker.ping().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    down.await.expect("noticed");
    assert_eq!(broker.ping().await.unwrap_err().kind, Kind::Unavailable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_and_certificates() {
    let (protected, secure) = (Port::take(), Port::take());
    let pki = Pki::new();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    // Hashed by the tool that the server comes with.
    let passwords = write("passwords", "");
    let made = std::process::Command::new("mosquitto_passwd")
        .args(["-b", "-c", &passwords, "user", "hunter2"])
        .status();
    let lines = [
        format!("listener {} 127.0.0.1", protected.number()),
        "allow_anonymous false".to_owned(),
        format!("password_file {passwords}"),
        format!("listener {} 127.0.0.1", secure.number()),
        "allow_anonymous true".to_owned(),
        format!("cafile {}", write("ca.pem", &pki.root)),
        format!("certfile {}", write("server.pem", &pki.certificate)),
        format!("keyfile {}", write("server.key", &pki.key)),
        "require_certificate true".to_owned(),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let Some(_server) = start(&lines).await else {
        return;
    };
    assert!(made.unwrap().success());
    let at = |login: &str| format!("tcp://{login}127.0.0.1:{}", protected.number());
    broker(&at("user:hunter2@"), &[]).await.ping().await.unwrap();
    for login in ["user:hunter3@", "user@", ""] {
        let error = try_broker(&at(login), &[]).await.err().expect("refused");
        assert_eq!(error.kind, Kind::PermissionDenied, "{login}: {error:?}");
        assert!(
            error.message.contains("not authorized") && !error.message.contains("hunter"),
            "{}",
            error.message
        );
    }
    let at = format!("ssl://127.0.0.1:{}", secure.number());
    let trusted = [
        ("caCert", pki.root.as_str()),
        ("clientCert", pki.certificate.as_str()),
        ("clientKey", pki.key.as_str()),
    ];
    let safe = broker(&at, &trusted).await;
    let mut inbox = subscribe(&*safe, "t").await;
    let large = "x".repeat(300_000);
    safe.publish(message("t", &large)).await.unwrap();
    expect(&mut inbox, &large).await;
    for metadata in [&[][..], &trusted[..1], &[("caCert", Pki::new().root.as_str())]] {
        let error = try_broker(&at, metadata).await.err().expect("not let in");
        assert!(error.message.contains("tls: "), "{}", error.message);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_no_broker() {
    let nobody = try_broker("tcp://127.0.0.1:1", &[]).await.err().unwrap();
    assert_eq!(nobody.kind, Kind::Unavailable);
    assert!(nobody.message.contains("127.0.0.1:1"), "{}", nobody.message);
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", other.local_addr().unwrap());
    let answering = async {
        let (mut stream, _) = other.accept().await.unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
    };
    let ((), outcome) = tokio::join!(answering, try_broker(&address, &[]));
    let error = outcome.err().unwrap();
    assert!(
        error.kind == Kind::Invalid && error.message.contains("does not speak MQTT"),
        "{error:?}"
    );
}

/// A broker that throws out whoever sends too much at once: that message fails soon, and the others go on.
#[tokio::test]
async fn a_broker_that_takes_no_large_packets() {
    let Some(server) = start(&["max_packet_size 2000"]).await else {
        return;
    };
    for qos in ["1", "2"] {
        let metadata = [("qos", qos), ("consumerID", qos)];
        let broker = broker(&url(&server), &metadata).await;
        let mut inbox = subscribe(&*broker, qos).await;
        broker.publish(message(qos, "before")).await.unwrap();
        expect(&mut inbox, "before").await;
        let (large, behind) = tokio::join!(
            broker.publish(message(qos, &"x".repeat(5000))),
            broker.publish(message(qos, "behind"))
        );
        let error = large.unwrap_err();
        assert_eq!(error.kind, Kind::Exhausted, "{error:?}");
        assert!(error.message.contains("max_packet_size"), "{error}");
        behind.unwrap();
        expect(&mut inbox, "behind").await;
    }
}
