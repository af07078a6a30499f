//! Against a real server; skipped loudly where none is installed. A server takes seconds to start: each test does a lot
//! with one.

#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

use futures::StreamExt as _;
use futures::future::BoxFuture;
use outrigger_component::binding::{InputBinding, Invoke, OutputBinding};
use outrigger_component::error::{Error, Kind};
use outrigger_component::metadata::Metadata;
use outrigger_component::pubsub::{Outcome, PubSub, Subscribe, Subscription};
use outrigger_component::registry::Registry;
use outrigger_components_rabbitmq::register;
use outrigger_testkit::broker::{expect, message, message_with, next, quiet, subscribe, text, to};
use outrigger_testkit::conformance::pubsub::{Nature, churn};
use outrigger_testkit::conformance::{binding, pubsub};
use outrigger_testkit::pki::Pki;
use outrigger_testkit::port::Port;
use outrigger_testkit::relay::Relay;
use outrigger_testkit::servers::rabbitmq::{RabbitMq, start};
use outrigger_testkit::setup::setup;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

type Pairs<'a> = [(&'a str, &'a str)];

/// What keeps everything whatever happens.
const SAFE: &Pairs<'_> = &[
    ("durable", "true"),
    ("deletedWhenUnused", "false"),
    ("deliveryMode", "2"),
    ("publisherConfirm", "true"),
    ("reconnectWaitSeconds", "1"),
];

const NATURE: Nature = Nature {
    metadata: false,
    ..Nature::durable(Duration::from_secs(2))
};

fn registry() -> Registry {
    let mut registry = Registry::default();
    register(&mut registry);
    registry
}

async fn try_broker(uri: &str, metadata: &Pairs<'_>) -> Result<Arc<dyn PubSub>, Error> {
    let metadata = [&[("connectionString", uri)], metadata].concat();
    registry()
        .brokers()
        .build("rabbitmq", "v1", setup(&metadata))
        .await
}

async fn broker(uri: &str, metadata: &Pairs<'_>) -> Arc<dyn PubSub> {
    try_broker(uri, metadata).await.unwrap()
}

async fn output(uri: &str, metadata: &Pairs<'_>) -> Result<Arc<dyn OutputBinding>, Error> {
    let metadata = [&[("host", uri)], metadata].concat();
    registry()
        .output_bindings()
        .build("rabbitmq", "v1", setup(&metadata))
        .await
}

async fn input(uri: &str, metadata: &Pairs<'_>) -> Arc<dyn InputBinding> {
    let metadata = [&[("host", uri)], metadata].concat();
    let input = registry()
        .input_bindings()
        .build("rabbitmq", "v1", setup(&metadata))
        .await;
    input.unwrap()
}

/// With metadata of the subscription.
async fn subscribe_with(broker: &dyn PubSub, topic: &str, metadata: &Pairs<'_>) -> Subscription {
    let subscribe = Subscribe {
        metadata: Metadata::from_iter(metadata.iter().copied()),
        ..to(topic)
    };
    broker.subscribe(subscribe).await.unwrap()
}

/// All that needs one server which nobody disturbs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    let Some(server) = start(&[]).await else { return };
    let uri = server.uri();
    pubsub::run(&*broker(&uri, SAFE).await, "safe-", NATURE).await;
    // With the defaults of the reference, a queue goes with its last subscriber, also when the next is just coming: that one
    // makes it anew.
    let passing = Nature {
        durable: false,
        joining: Duration::from_secs(1),
        ..NATURE
    };
    pubsub::run(&*broker(&uri, &[]).await, "default-", passing).await;
    as_the_reference(&server, &uri).await;
    time_to_live_and_priority(&uri).await;
    refused(&uri).await;
    properties_reach_the_app(&uri).await;
    one_after_the_other(&uri).await;
    wrong_settings(&server, &uri).await;
    bindings(&uri).await;
}

/// What is declared is what the reference declares, so that both can share a broker.
async fn as_the_reference(server: &RabbitMq, uri: &str) {
    let safe = broker(
        uri,
        &[
            SAFE,
            &[
                ("enableDeadLetter", "true"),
                ("exchangeKind", "topic"),
                ("maxLen", "9"),
            ],
        ]
        .concat(),
    )
    .await;
    let keys = [
        ("routingKey", "a.*,b"),
        ("maxPriority", "4"),
        ("singleActiveConsumer", "true"),
    ];
    let _inbox = subscribe_with(&*safe, "layout", &keys).await;
    let _quorum = subscribe_with(&*safe, "quorum", &[("queueType", "quorum"), ("queueName", "q")]).await;
    let queues = server.control(&["list_queues", "name", "durable", "auto_delete", "arguments"]);
    let line = |name: &str| {
        let found = queues.lines().find(|line| line.split('\t').next() == Some(name));
        found
            .unwrap_or_else(|| panic!("{name} is not in:\n{queues}"))
            .to_owned()
    };
    let layout = line("app-layout");
    assert!(layout.contains("\ttrue\tfalse\t"), "{layout}");
    for argument in [
        r#"{"x-dead-letter-exchange","dlx-app-layout"}"#,
        r#"{"x-max-length",9}"#,
        r#"{"x-max-priority",4}"#,
        r#"{"x-queue-type","classic"}"#,
        r#"{"x-single-active-consumer",true}"#,
    ] {
        assert!(layout.contains(argument), "{argument} is not in {layout}");
    }
    let dead = line("dlq-app-layout");
    assert!(
        dead.contains(r#"{"x-queue-mode","lazy"}"#) && dead.contains(r#"{"x-max-length",9}"#),
        "{dead}"
    );
    assert!(line("q").contains(r#"{"x-queue-type","quorum"}"#));
    let bindings = server.control(&["list_bindings", "source_name", "destination_name", "routing_key"]);
    for binding in [
        "layout\tapp-layout\ta.*",
        "layout\tapp-layout\tb",
        "dlx-app-layout\tdlq-app-layout\t",
    ] {
        assert!(
            bindings.lines().any(|line| line == binding),
            "{binding:?} is not in:\n{bindings}"
        );
    }
    let exchanges = server.control(&["list_exchanges", "name", "type", "durable", "auto_delete"]);
    for exchange in [
        "layout\ttopic\ttrue\tfalse",
        "dlx-app-layout\tfanout\ttrue\tfalse",
    ] {
        assert!(
            exchanges.lines().any(|line| line == exchange),
            "{exchange:?} is not in:\n{exchanges}"
        );
    }
}

async fn time_to_live_and_priority(uri: &str) {
    let safe = broker(
        uri,
        &[SAFE, &[("exchangeKind", "direct"), ("ttlInSeconds", "600")]].concat(),
    )
    .await;
    let keys = [("routingKey", "k"), ("maxPriority", "5")];
    drop(subscribe_with(&*safe, "prio", &keys).await);
    for (content, metadata) in [
        ("low", &[("routingKey", "k"), ("priority", "1")][..]),
        ("high", &[("routingKey", "k"), ("priority", "5")]),
        (
            "gone",
            &[("routingKey", "k"), ("ttlInSeconds", "50ms"), ("priority", "5")],
        ),
        ("nobody's", &[("routingKey", "other")]),
    ] {
        safe.publish(message_with("prio", content, metadata))
            .await
            .unwrap();
    }
    // Four times as long as "gone" may live.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut inbox = subscribe_with(&*safe, "prio", &keys).await;
    expect(&mut inbox, "high").await;
    expect(&mut inbox, "low").await;
    quiet(&mut inbox).await;
}

/// Refused for good: to the dead-letter queue. Given back: to the queue, even so.
async fn refused(uri: &str) {
    let dead_letters = broker(uri, &[SAFE, &[("enableDeadLetter", "true")]].concat()).await;
    let mut inbox = subscribe(&*dead_letters, "refused").await;
    let letters = broker(uri, SAFE).await;
    let mut dead = subscribe(&*letters, "dlx-app-refused").await;
    dead_letters.publish(message("refused", "back")).await.unwrap();
    drop(next(&mut inbox).await);
    expect(&mut inbox, "back").await;
    dead_letters.publish(message("refused", "bad")).await.unwrap();
    next(&mut inbox).await.settle(Outcome::Nack);
    expect(&mut dead, "bad").await;
    quiet(&mut inbox).await;
    quiet(&mut dead).await;
    let drops = broker(uri, &[SAFE, &[("requeueInFailure", "false")]].concat()).await;
    let mut inbox = subscribe(&*drops, "dropped").await;
    drops.publish(message("dropped", "bad")).await.unwrap();
    next(&mut inbox).await.settle(Outcome::Nack);
    quiet(&mut inbox).await;
    let careless = broker(uri, &[SAFE, &[("autoAck", "true")]].concat()).await;
    let mut inbox = subscribe(&*careless, "careless").await;
    careless.publish(message("careless", "lost")).await.unwrap();
    next(&mut inbox).await.settle(Outcome::Nack);
    quiet(&mut inbox).await;
}

async fn properties_reach_the_app(uri: &str) {
    let open = broker(
        uri,
        &[SAFE, &[("publishMessagePropertiesToMetadata", "true")]].concat(),
    )
    .await;
    let mut inbox = subscribe(&*open, "properties").await;
    let said = [
        ("messageID", "m"),
        ("correlationID", "c"),
        ("type", "t"),
        ("contentType", "a/b"),
    ];
    open.publish(message_with("properties", "x", &said))
        .await
        .unwrap();
    let delivery = next(&mut inbox).await;
    let expected = [
        ("metadata.messageid", "m"),
        ("metadata.correlationid", "c"),
        ("metadata.type", "t"),
        ("metadata.contenttype", "a/b"),
    ];
    assert_eq!(delivery.message.metadata, Metadata::from_iter(expected));
    delivery.settle(Outcome::Ack);
}

async fn one_after_the_other(uri: &str) {
    for (metadata, expected) in [
        (&[("concurrencyMode", "single")][..], 1),
        (&[("prefetchCount", "7")], 7),
        (&[], 256),
    ] {
        let broker = broker(uri, metadata).await;
        assert_eq!(subscribe(&*broker, "concurrency").await.concurrency, expected);
    }
    // The window holds: the broker sends no more before something is settled.
    let narrow = broker(uri, &[SAFE, &[("prefetchCount", "2")]].concat()).await;
    let mut inbox = subscribe(&*narrow, "narrow").await;
    for content in ["1", "2", "3"] {
        narrow.publish(message("narrow", content)).await.unwrap();
    }
    let held = [next(&mut inbox).await, next(&mut inbox).await];
    quiet(&mut inbox).await;
    let [first, second] = held;
    first.settle(Outcome::Ack);
    expect(&mut inbox, "3").await;
    second.settle(Outcome::Ack);
}

async fn wrong_settings(server: &RabbitMq, uri: &str) {
    let refused = |error: Option<Error>, kind, words: &[&str]| {
        let error = error.expect("refused");
        assert_eq!(error.kind, kind, "{error:?}");
        for word in words {
            assert!(error.message.contains(word), "{word} is not in {}", error.message);
        }
        assert!(!error.message.contains("hunter"), "{}", error.message);
    };
    let host = server.host();
    let wrong = format!("amqp://guest:hunter2@{host}");
    refused(
        try_broker(&wrong, &[]).await.err(),
        Kind::PermissionDenied,
        &[&host, "ACCESS_REFUSED"],
    );
    let nowhere = format!("amqp://guest:guest@{host}/nowhere");
    refused(
        try_broker(&nowhere, &[]).await.err(),
        Kind::PermissionDenied,
        &[&host, "vhost nowhere not found"],
    );
    let secure = format!("amqps://guest:guest@{host}");
    refused(try_broker(&secure, &[]).await.err(), Kind::Unavailable, &[&host]);
    let nobody = try_broker("amqp://127.0.0.1:1", &[]).await.err();
    refused(nobody, Kind::Unavailable, &["127.0.0.1:1", "refused"]);
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("amqp://{}", other.local_addr().unwrap());
    let answering = async {
        let (mut stream, _) = other.accept().await.unwrap();
        stream
            .write_all(b"-ERR unknown command 'AMQP'\r\n")
            .await
            .unwrap();
    };
    let ((), outcome) = tokio::join!(answering, try_broker(&address, &[]));
    refused(outcome.err(), Kind::Invalid, &["does not speak AMQP"]);
    let safe = broker(uri, SAFE).await;
    let _inbox = subscribe(&*safe, "declared").await;
    let otherwise = broker(uri, &[SAFE, &[("exchangeKind", "direct")]].concat()).await;
    refused(
        otherwise.subscribe(to("declared")).await.err(),
        Kind::Invalid,
        &["PRECONDITION_FAILED", "declared"],
    );
    refused(
        otherwise.publish(message("declared", "x")).await.err(),
        Kind::Invalid,
        &["PRECONDITION_FAILED"],
    );
    otherwise.publish(message("another", "x")).await.unwrap();
    let long = "x".repeat(300);
    refused(
        safe.publish(message(&long, "x")).await.err(),
        Kind::Invalid,
        &["255 bytes"],
    );
    safe.ping().await.unwrap();
    safe.close().await;
    let late = safe.publish(message("declared", "late")).await.unwrap_err();
    assert_eq!(late.message, "component is closed");
}

async fn bindings(uri: &str) {
    let metadata = [
        ("queueName", "orders"),
        ("durable", "true"),
        ("reconnectWaitInSeconds", "1"),
    ];
    let ask = binding::Ask {
        redelivery: Some(Duration::from_secs(1)),
        ..binding::Ask::new(
            &["create"],
            &[("a b", "c"), ("ttlInSeconds", "60"), ("priority", "1")],
            b"order",
        )
    };
    let out = output(uri, &metadata).await.unwrap();
    binding::run(Some(&*out), Some(&*input(uri, &metadata).await), ask).await;
    let out = output(uri, &metadata).await.unwrap();
    let reader = input(uri, &metadata).await;
    let mut reading = reader.read().await.unwrap();
    assert_eq!(reading.concurrency, 1);
    let invoke = Invoke {
        operation: "create".to_owned(),
        data: "headers".into(),
        metadata: Metadata::from_iter([("a b", "c"), ("contentType", "x/y")]),
    };
    out.invoke(invoke.clone()).await.unwrap();
    let event = reading.events.next().await.unwrap();
    assert_eq!(event.data, "headers");
    assert_eq!(
        (event.metadata.get("a+b"), event.metadata.get("contentType")),
        (Some("c"), Some("x/y"))
    );
    // Leaving without an answer gives it back.
    drop(reading);
    drop(event);
    let mut reading = reader.read().await.unwrap();
    let event = tokio::time::timeout(Duration::from_secs(10), reading.events.next()).await;
    let event = event.unwrap().unwrap();
    assert_eq!(event.data, "headers");
    event.settle(Ok(bytes::Bytes::new()));
    drop(reading);
    let other = Invoke {
        operation: "get".to_owned(),
        ..invoke
    };
    assert_eq!(out.invoke(other).await.unwrap_err().error.kind, Kind::Unsupported);
    let otherwise = output(uri, &[("queueName", "orders")]).await.err().unwrap();
    assert_eq!(otherwise.kind, Kind::Invalid);
    assert!(
        otherwise.message.contains("PRECONDITION_FAILED"),
        "{}",
        otherwise.message
    );
}

/// The broker is killed in the middle of 10,000 messages; connections are cut, and fall silent; members come and go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost() {
    let Some(mut server) = start(&[]).await else {
        return;
    };
    let uri = server.uri();
    let connect = || -> BoxFuture<'_, Arc<dyn PubSub>> { Box::pin(broker(&uri, SAFE)) };
    let group = churn::Group {
        connect: &connect,
        prefix: "churn-",
        nature: NATURE,
    };
    churn::interrupted(&group, 10_000, async {
        server.kill();
        server.restart().await;
    })
    .await;
    churn::poison(&group, 200).await;
    churn::slow(&group, 2_000, Duration::from_millis(5)).await;
    churn::parallel(&group, 64, 100).await;
    // An exchange without queues keeps nothing: there has been a subscriber before.
    drop(subscribe(&*broker(&uri, SAFE).await, "churn-members").await);
    churn::members(&group, Duration::from_secs(15)).await;

    let relay = Relay::start(server.host().parse().unwrap()).await;
    let through = format!("amqp://guest:guest@127.0.0.1:{}?heartbeat=1", relay.port());
    let connect = || -> BoxFuture<'_, Arc<dyn PubSub>> { Box::pin(broker(&through, SAFE)) };
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

/// An exchange that somebody deletes, and a queue: both are declared again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_deleted_comes_back() {
    let Some(server) = start(&[]).await else { return };
    let uri = server.uri();
    let safe = broker(&uri, SAFE).await;
    let mut inbox = subscribe(&*safe, "t").await;
    safe.publish(message("t", "1")).await.unwrap();
    expect(&mut inbox, "1").await;
    server.control(&[
        "eval",
        "rabbit_exchange:delete(rabbit_misc:r(<<\"/\">>, exchange, <<\"t\">>), false, <<\"test\">>).",
    ]);
    server.control(&["delete_queue", "app-t"]);
    // The subscription declares both when it comes back; nobody is told when.
    let reading = async {
        loop {
            let delivery = next(&mut inbox).await;
            let content = text(&delivery);
            delivery.settle(Outcome::Ack);
            if content == "2" {
                return;
            }
        }
    };
    let publishing = async {
        loop {
            safe.publish(message("t", "2")).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        () = reading => {}
        () = publishing => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn safe_connections() {
    let pki = Pki::new();
    let port = Port::take();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let lines = [
        format!("listeners.ssl.1 = 127.0.0.1:{}", port.number()),
        format!("ssl_options.cacertfile = {}", write("ca.pem", &pki.root)),
        format!("ssl_options.certfile = {}", write("server.pem", &pki.certificate)),
        format!("ssl_options.keyfile = {}", write("server.key", &pki.key)),
        "ssl_options.verify = verify_peer".to_owned(),
        "ssl_options.fail_if_no_peer_cert = false".to_owned(),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let Some(_server) = start(&lines).await else {
        return;
    };
    let uri = format!("amqps://guest:guest@127.0.0.1:{}", port.number());
    let ca = ("caCert", pki.root.as_str());
    let safe = broker(&uri, &[SAFE, &[ca]].concat()).await;
    let mut inbox = subscribe(&*safe, "t").await;
    let large = "x".repeat(300_000);
    safe.publish(message("t", &large)).await.unwrap();
    expect(&mut inbox, &large).await;
    let with_certificate = [
        ca,
        ("clientCert", pki.certificate.as_str()),
        ("clientKey", pki.key.as_str()),
    ];
    broker(&uri, &with_certificate).await.ping().await.unwrap();
    // The broker has no plugin for it, and says so.
    let external = try_broker(
        &uri,
        &[&with_certificate[..], &[("saslExternal", "true")]].concat(),
    )
    .await;
    assert_eq!(external.err().unwrap().kind, Kind::PermissionDenied);
    for metadata in [&[][..], &[("caCert", Pki::new().root.as_str())]] {
        let error = try_broker(&uri, metadata).await.err().expect("not trusted");
        assert!(
            error.message.contains("tls: failed to verify certificate"),
            "{}",
            error.message
        );
    }
    let name = format!("amqps://guest:guest@127.0.0.2:{}", port.number());
    assert!(try_broker(&name, &[ca]).await.is_err(), "another name");
}
