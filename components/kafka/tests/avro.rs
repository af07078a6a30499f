//! Values as Avro, against a real broker and a real schema registry; skipped loudly where one of them cannot be had.

#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

use futures::StreamExt;
use outrigger_component::error::{Error, Kind};
use outrigger_component::pubsub::{Delivery, Entry, Outcome, Outgoing, PubSub, Subscribe, Subscription};
use outrigger_component::registry::Registry;
use outrigger_components_kafka::register;
use outrigger_testkit::log::{Lines, captured};
use outrigger_testkit::servers::kafka::{self, Kafka};
use outrigger_testkit::servers::schema_registry::{self, SchemaRegistry};
use outrigger_testkit::setup::setup;
use outrigger_testkit::until::until;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(30);
const AVRO: (&str, &str) = ("valueSchemaType", "Avro");
const ORDER: &str = r#"{"type": "record", "name": "Order", "fields": [
    {"name": "id", "type": "string"},
    {"name": "note", "type": ["null", "string"], "default": null}]}"#;
const NEWER: &str = r#"{"type": "record", "name": "Order", "fields": [
    {"name": "id", "type": "string"},
    {"name": "note", "type": ["null", "string"], "default": null},
    {"name": "count", "type": "int", "default": 1}]}"#;

struct World {
    kafka: Kafka,
    registry: SchemaRegistry,
}

impl World {
    async fn start() -> Option<Self> {
        Some(Self {
            registry: schema_registry::start().await?,
            kafka: kafka::start().await?,
        })
    }

    async fn broker(&self, group: &str, metadata: &[(&str, &str)]) -> (Arc<dyn PubSub>, Lines) {
        let (brokers, url) = (self.kafka.plain(), self.registry.url());
        let (log, lines) = captured();
        let mut all = vec![
            ("brokers", brokers.as_str()),
            ("authType", "none"),
            ("consumerGroup", group),
            ("heartbeatInterval", "300ms"),
            ("sessionTimeout", "6s"),
            ("initialOffset", "oldest"),
            ("schemaRegistryURL", &url),
        ];
        all.extend(metadata);
        let mut setup = setup(&all);
        setup.log = log;
        let mut registry = Registry::default();
        register(&mut registry);
        (
            registry.brokers().build("kafka", "v1", setup).await.unwrap(),
            lines,
        )
    }
}

fn message(topic: &str, value: &str, metadata: &[(&str, &str)]) -> Outgoing {
    Outgoing {
        topic: topic.to_owned(),
        data: value.as_bytes().to_vec().into(),
        metadata: metadata.iter().copied().collect(),
        ..Outgoing::default()
    }
}

async fn subscribe(broker: &Arc<dyn PubSub>, topic: &str, metadata: &[(&str, &str)]) -> Subscription {
    let subscribe = Subscribe {
        topic: topic.to_owned(),
        metadata: metadata.iter().copied().collect(),
        ..Subscribe::default()
    };
    broker.subscribe(subscribe).await.unwrap()
}

async fn next(inbox: &mut Subscription) -> Delivery {
    timeout(SOON, inbox.deliveries.next())
        .await
        .expect("in time")
        .expect("goes on")
}

async fn value(inbox: &mut Subscription) -> Value {
    let delivery = next(inbox).await;
    let value = serde_json::from_slice(&delivery.message.data).expect("JSON");
    delivery.settle(Outcome::Ack);
    value
}

async fn refused(broker: &Arc<dyn PubSub>, message: Outgoing) -> Error {
    broker.publish(message).await.expect_err("refused")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_are_avro_between_apps() {
    let Some(mut world) = World::start().await else {
        return;
    };
    round_trips(&world).await;
    the_newest_schema_counts(&world).await;
    what_cannot_be_read_waits(&world).await;
    what_cannot_be_written_is_refused(&world).await;
    without_the_registry(&mut world).await;
}

async fn round_trips(world: &World) {
    let number = world.registry.register("orders-value", ORDER).await;
    let (broker, _) = world.broker("round", &[]).await;
    let (other, _) = world.broker("raw", &[]).await;
    let (strict, _) = world.broker("strict", &[("useAvroJSON", "true")]).await;
    let mut inbox = subscribe(&broker, "orders", &[AVRO]).await;
    let mut raw = subscribe(&other, "orders", &[]).await;
    let mut named = subscribe(&strict, "orders", &[AVRO]).await;
    broker
        .publish(message("orders", r#"{"note": "now", "id": "7"}"#, &[AVRO]))
        .await
        .unwrap();
    assert_eq!(value(&mut inbox).await, json!({"id": "7", "note": "now"}));
    assert_eq!(
        value(&mut named).await,
        json!({"id": "7", "note": {"string": "now"}})
    );
    let delivery = next(&mut raw).await;
    let mut expected = vec![0];
    expected.extend(number.to_be_bytes());
    expected.extend([2, b'7', 2, 6, b'n', b'o', b'w']);
    assert_eq!(delivery.message.data, expected);
    delivery.settle(Outcome::Ack);
    // Avro JSON in, and a tombstone, which has no schema.
    let strictly = message("orders", r#"{"id": "8", "note": {"string": "x"}}"#, &[AVRO]);
    strict.publish(strictly).await.unwrap();
    assert_eq!(value(&mut inbox).await, json!({"id": "8", "note": "x"}));
    broker.publish(message("orders", "null", &[AVRO])).await.unwrap();
    assert_eq!(value(&mut inbox).await, Value::Null);
    // Many at once, each with its own outcome.
    let entry = |id: &str, data: &str| Entry {
        id: id.to_owned(),
        data: data.as_bytes().to_vec().into(),
        ..Entry::default()
    };
    let entries = vec![
        entry("a", r#"{"id": "a"}"#),
        entry("b", r#"{"id": 5}"#),
        entry("c", r#"{"id": "c"}"#),
    ];
    let failed = broker
        .publish_bulk("orders", entries, &[AVRO].into_iter().collect())
        .await
        .unwrap();
    let failed: Vec<_> = failed
        .iter()
        .map(|failed| (failed.id.as_str(), failed.error.kind))
        .collect();
    assert_eq!(failed, [("b", Kind::Invalid)]);
    for id in ["a", "c"] {
        assert_eq!(value(&mut inbox).await, json!({"id": id, "note": null}));
    }
    for broker in [broker, other, strict] {
        broker.close().await;
    }
}

async fn the_newest_schema_counts(world: &World) {
    let old = world.registry.register("evolving-value", ORDER).await;
    let (broker, _) = world
        .broker("evolving", &[("schemaLatestVersionCacheTTL", "1s")])
        .await;
    let (uncached, _) = world
        .broker("uncached", &[("schemaCachingEnabled", "false")])
        .await;
    let mut inbox = subscribe(&uncached, "evolving", &[AVRO]).await;
    let publish = async |id: &str| {
        let order = json!({"id": id}).to_string();
        broker
            .publish(message("evolving", &order, &[AVRO]))
            .await
            .unwrap();
    };
    publish("old").await;
    assert_eq!(value(&mut inbox).await, json!({"id": "old", "note": null}));
    let new = world.registry.register("evolving-value", NEWER).await;
    assert_ne!(old, new);
    let uncached_order = message("evolving", r#"{"id": "new"}"#, &[AVRO]);
    uncached.publish(uncached_order).await.unwrap();
    assert_eq!(
        value(&mut inbox).await,
        json!({"id": "new", "note": null, "count": 1})
    );
    // Whoever remembers, remembers for a second.
    let newer = async {
        loop {
            publish("later").await;
            let value = value(&mut inbox).await;
            if value.get("count").is_some() {
                break value;
            }
        }
    };
    let newer = timeout(SOON, newer).await.expect("the newer schema is seen");
    assert_eq!(newer, json!({"id": "later", "note": null, "count": 1}));
    broker.close().await;
    uncached.close().await;
}

async fn what_cannot_be_read_waits(world: &World) {
    world.kafka.create("mixed", 2).await;
    world.registry.register("mixed-value", ORDER).await;
    let (broker, lines) = world.broker("mixed", &[]).await;
    let mut inbox = subscribe(&broker, "mixed", &[AVRO]).await;
    for (number, value, expected) in [
        ("0", "abc", "too short"),
        ("0", "\0\0\0\0", "too short"),
        ("0", "no number", "does not begin with a zero"),
        ("0", "\0\x7fabc", "404"),
    ] {
        let bad = message("mixed", value, &[("partitionNumber", number)]);
        broker.publish(bad).await.unwrap();
        let good = message("mixed", r#"{"id": "good"}"#, &[AVRO, ("partitionNumber", "1")]);
        broker.publish(good).await.unwrap();
        assert_eq!(
            self::value(&mut inbox).await["id"],
            "good",
            "the other partition goes on"
        );
        until(expected, SOON, async || lines.text().contains(expected)).await;
        // Somebody passes over it, as an operator would.
        drop(inbox);
        let (raw, _) = world.broker("mixed", &[]).await;
        let mut passing = subscribe(&raw, "mixed", &[]).await;
        let delivery = next(&mut passing).await;
        assert_eq!(delivery.message.data, value.as_bytes());
        delivery.settle(Outcome::Ack);
        raw.close().await;
        inbox = subscribe(&broker, "mixed", &[AVRO]).await;
    }
    let told = lines.text();
    assert_eq!(told.matches("does not begin with a zero").count(), 1, "{told}");
    broker.close().await;
}

async fn what_cannot_be_written_is_refused(world: &World) {
    world.registry.register("strict-value", ORDER).await;
    let (broker, _) = world.broker("refused", &[]).await;
    for (topic, value, format, kind, expected) in [
        (
            "strict",
            r#"{"id": 1}"#,
            "Avro",
            Kind::Invalid,
            "strict-value: id: it is not text",
        ),
        ("strict", "{}", "AVRO", Kind::Invalid, "id: the field is missing"),
        ("strict", "no JSON", "avro", Kind::Invalid, "not JSON"),
        (
            "strict",
            "{}",
            "Protobuf",
            Kind::Invalid,
            "'Protobuf' is not a supported value",
        ),
        ("unknown", "{}", "Avro", Kind::NotFound, "register a schema"),
    ] {
        let error = refused(&broker, message(topic, value, &[("valueSchemaType", format)])).await;
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(expected), "{error}");
    }
    broker.close().await;
    let (none, _) = world.broker("none", &[("schemaRegistryURL", "")]).await;
    let error = refused(&none, message("strict", "{}", &[AVRO])).await;
    assert!(
        error.message.contains("schema registry details not set"),
        "{error}"
    );
    for format in ["Avro", "Protobuf"] {
        let subscribe = Subscribe {
            topic: "strict".to_owned(),
            metadata: [("valueSchemaType", format)].into_iter().collect(),
            ..Subscribe::default()
        };
        let error = none.subscribe(subscribe).await.err().expect(format);
        assert_eq!(error.kind, Kind::Invalid, "{error}");
    }
    none.close().await;
}

async fn without_the_registry(world: &mut World) {
    let (broker, _) = world
        .broker("away", &[("schemaLatestVersionCacheTTL", "1ms")])
        .await;
    let mut inbox = subscribe(&broker, "orders", &[AVRO]).await;
    let order = |id: &str| message("orders", &json!({"id": id}).to_string(), &[AVRO]);
    broker.publish(order("before")).await.unwrap();
    while value(&mut inbox).await != json!({"id": "before", "note": null}) {}
    world.registry.kill();
    // What is known already goes on.
    broker.publish(order("meanwhile")).await.unwrap();
    assert_eq!(value(&mut inbox).await, json!({"id": "meanwhile", "note": null}));
    // Who knows nothing waits for it: nothing is lost, and nothing is passed over.
    let (fresh, _) = world.broker("fresh", &[]).await;
    let error = refused(&fresh, order("never")).await;
    assert!(
        error.is_retryable() && error.message.contains("schemaRegistryURL"),
        "{error}"
    );
    let mut late = subscribe(&fresh, "orders", &[AVRO]).await;
    let none = timeout(Duration::from_secs(2), late.deliveries.next()).await;
    assert!(none.is_err(), "its schema cannot be known");
    world.registry.restart().await;
    let number = world.registry.register("orders-value", ORDER).await;
    let first = next(&mut late).await;
    assert_eq!(
        first.message.metadata.get("__offset"),
        Some("0"),
        "schema {number}"
    );
    first.settle(Outcome::Ack);
    fresh.close().await;
    broker.close().await;
}

/// A registry of few words: it wants a login, and then says one thing.
async fn says(listener: &TcpListener, status: &str, body: &str) -> ! {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).await.unwrap();
        let request = String::from_utf8_lossy(&request[..length]).to_lowercase();
        // `key:secret`.
        let (status, body) = match request.contains("authorization: basic a2v5onnly3jlda==") {
            true => (status, body),
            false => ("401 Unauthorized", r#"{"error_code": 40101, "message": "who?"}"#),
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registries_that_are_wrong_are_named() {
    let Some(kafka) = kafka::start().await else { return };
    let plain = kafka.plain();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
    let [silent_at, url] = [at(&silent), at(&listener)];
    let https = url.replace("http:", "https:");
    let good = r#"{"id": 5, "schema": "\"string\""}"#;
    for (url, secret, status, body, kind, expected) in [
        (&url, "s", "200 OK", good, None, ""),
        (
            &url,
            "wrong",
            "200 OK",
            good,
            Some(Kind::PermissionDenied),
            "schemaRegistryAPISecret",
        ),
        (&url, "s", "503 Busy", "", Some(Kind::Unavailable), "503"),
        (
            &url,
            "s",
            "200 OK",
            "<html>",
            Some(Kind::Invalid),
            "schemaRegistryURL",
        ),
        (
            &url,
            "s",
            "200 OK",
            r#"{"schema": "\"int\""}"#,
            Some(Kind::Invalid),
            "no id",
        ),
        (
            &url,
            "s",
            "200 OK",
            r#"{"id": 5, "schema": "{"}"#,
            Some(Kind::Invalid),
            "cannot be used",
        ),
        (
            &url,
            "s",
            "200 OK",
            r#"{"id": 5, "schema": "x", "schemaType": "JSON"}"#,
            Some(Kind::Invalid),
            "JSON, and not Avro",
        ),
        (
            &url,
            "s",
            "302 Found",
            "",
            Some(Kind::Invalid),
            "schemaRegistryURL",
        ),
        (&silent_at, "s", "", "", Some(Kind::Timeout), "schemaRegistryURL"),
        (
            &https,
            "s",
            "200 OK",
            good,
            Some(Kind::Unavailable),
            "schemaRegistryURL",
        ),
        (
            &"http://127.0.0.1:1".to_owned(),
            "s",
            "",
            "",
            Some(Kind::Unavailable),
            "schemaRegistryURL",
        ),
    ] {
        let secret = if secret == "s" { "secret" } else { secret };
        let metadata = setup(&[
            ("brokers", plain.as_str()),
            ("authType", "none"),
            ("schemaRegistryURL", url),
            ("schemaRegistryAPIKey", "key"),
            ("schemaRegistryAPISecret", secret),
        ]);
        let mut registry = Registry::default();
        register(&mut registry);
        let broker = registry.brokers().build("kafka", "v1", metadata).await.unwrap();
        let publishing = broker.publish(message("t", "\"x\"", &[AVRO]));
        let outcome = tokio::select! {
            outcome = publishing => outcome,
            never = says(&listener, status, body) => never,
        };
        let error = outcome.err();
        assert_eq!(
            error.as_ref().map(|error| error.kind),
            kind,
            "{status} {body}: {error:?}"
        );
        if let Some(error) = error {
            assert!(
                error.message.contains(expected) && !error.message.contains("wrong"),
                "{error}"
            );
            assert!(error.message.contains(url.as_str()), "{error}");
        }
        broker.close().await;
    }
}
