use super::fakes::broker::FakeBroker;
use super::fakes::{Plan, World, world};
use crate::pubsub::bulk::{Entry, Event, FailedEntry, PublishBulk, Rejected};
use crate::pubsub::publish::Door;
use outrigger_component::error::Kind;
use outrigger_component::metadata::Metadata;
use outrigger_component::pubsub::Features;
use serde_json::{Value, json};

fn entry(id: &str, content_type: &str, event: Event) -> Entry {
    Entry {
        id: id.to_owned(),
        event,
        content_type: content_type.to_owned(),
        metadata: Metadata::new(),
    }
}

fn text(id: &str) -> Entry {
    entry(id, "text/plain", Event::Bytes(id.to_owned().into()))
}

async fn publish(world: &World, topic: &str, entries: Vec<Entry>) -> Result<(), Rejected> {
    let request = PublishBulk {
        pubsub: "orders".to_owned(),
        topic: topic.to_owned(),
        entries,
        metadata: [("ttlInSeconds", "9"), ("key", "all")].into_iter().collect(),
        trace: None,
        door: Door::Grpc,
    };
    world.pubsub.publish_bulk(request).await
}

const NO: Option<Kind> = Some(Kind::Unavailable);

fn plan(bulk: bool) -> Plan {
    let features = Features {
        bulk,
        ..Features::default()
    };
    Plan {
        broker: FakeBroker {
            features,
            ..FakeBroker::default()
        },
        ..Plan::default()
    }
}

#[tokio::test]
async fn conversions_table() {
    let json = |text: &str| Event::Json(text.to_owned().into());
    type Row = (&'static str, Event, Result<(&'static str, Value), &'static str>);
    let rows: &[Row] = &[
        (
            "application/json",
            json(r#"{"n":1.50}"#),
            Ok(("data", json!({"n": 1.5}))),
        ),
        ("application/json", json("\"x\""), Ok(("data", json!("x")))),
        ("text/plain", json(r#""a\nb""#), Ok(("data", json!("a\nb")))),
        (
            "text/plain",
            json("5"),
            Err("error: mismatch between contentType and event"),
        ),
        (
            "application/octet-stream",
            json("\"aGk=\""),
            Ok(("data_base64", json!("aGk="))),
        ),
        (
            "application/octet-stream",
            json("\"a!\""),
            Err(
                "error: unable to decode base64 application/octect-stream data: illegal base64 data at input byte 1",
            ),
        ),
        (
            "application/octet-stream",
            json("{}"),
            Err("error: mismatch between contentType and event"),
        ),
        (
            "",
            json("\"x\""),
            Err("error: mismatch between contentType and event"),
        ),
        (
            "image/png",
            json("\"x\""),
            Err("error: mismatch between contentType and event"),
        ),
        ("image/png", Event::Bytes("x".into()), Ok(("data", json!("x")))),
        (
            "application/cloudevents+json",
            json(r#"{"id":"own","data":5}"#),
            Ok(("id", json!("own"))),
        ),
    ];
    for (content_type, event, expected) in rows {
        let world = world(plan(false));
        let outcome = publish(&world, "new", vec![entry("1", content_type, event.clone())]).await;
        match expected {
            Ok((name, value)) => {
                outcome.unwrap();
                let sent: Value = serde_json::from_slice(&world.broker.published()[0].data).unwrap();
                assert_eq!(&sent[*name], value, "{content_type}");
            }
            Err(cause) => {
                let rejected = outcome.unwrap_err();
                assert_eq!(rejected.error.code.tag, "ERR_PUBSUB_EVENTS_SER");
                assert_eq!(
                    rejected.error.message,
                    format!(
                        "error when marshalling cloud event envelope for topic new pubsub orders: {cause}"
                    )
                );
                assert_eq!(rejected.failed, []);
            }
        }
    }
}

#[tokio::test]
async fn ids_must_be_there_and_unique() {
    for ids in [&["1", "1"][..], &["1", ""], &[""]] {
        let world = world(plan(true));
        let rejected = publish(&world, "new", ids.iter().map(|id| text(id)).collect())
            .await
            .unwrap_err();
        assert_eq!(
            rejected.error.message,
            "error marshaling events to bytes for topic new pubsub orders. error: entryId is duplicated or not present for entry"
        );
        assert_eq!((rejected.failed.len(), world.broker.published().len()), (0, 0));
    }
}

#[tokio::test]
async fn failures_table() {
    /// One call at the broker, what it says, entries that failed.
    type Row = (bool, &'static [Option<Kind>], &'static [&'static str]);
    let rows: &[Row] = &[
        (true, &[], &[]),
        (false, &[], &[]),
        (true, &[None, NO], &["2"]),
        (false, &[None, NO], &["2"]),
        (true, &[NO, NO, NO], &["1", "2", "3"]),
    ];
    for (bulk, refusals, failed) in rows {
        let world = world(plan(*bulk));
        world.broker.refuse.lock().unwrap().extend(*refusals);
        let outcome = publish(&world, "new", ["1", "2", "3"].map(text).into()).await;
        assert_eq!(world.broker.published().len(), 3 - failed.len());
        match outcome {
            Ok(()) => assert!(failed.is_empty()),
            Err(rejected) => {
                let expected: Vec<_> = failed
                    .iter()
                    .map(|&id| FailedEntry {
                        id: id.to_owned(),
                        error: "broker says no".to_owned(),
                    })
                    .collect();
                assert_eq!(rejected.failed, expected);
                assert_eq!(
                    rejected.error.message,
                    "error when publishing to topic new in pubsub orders: broker says no"
                );
            }
        }
        let metrics = world.bench.registry.expose();
        let labels = format!(
            r#"app_id="shop",component="orders",namespace="",success="{}",topic="new""#,
            failed.is_empty()
        );
        assert!(
            metrics.contains(&format!("dapr_component_pubsub_egress_bulk_count{{{labels}}} 1")),
            "{metrics}"
        );
    }
}

#[tokio::test]
async fn the_requests_metadata_is_every_entrys() {
    let world = world(plan(false));
    let own = Entry {
        metadata: [("key", "own")].into_iter().collect(),
        ..text("2")
    };
    publish(&world, "new", vec![text("1"), own]).await.unwrap();
    let published = world.broker.published();
    let keys: Vec<_> = published
        .iter()
        .map(|message| message.metadata.get("key"))
        .collect();
    assert_eq!(keys, [Some("all"), Some("own")]);
    for message in &published {
        let event: Value = serde_json::from_slice(&message.data).unwrap();
        assert!(event["expiration"].is_string());
        assert_eq!(
            message.content_type.as_deref(),
            Some("application/cloudevents+json")
        );
    }
}

#[tokio::test]
async fn a_forbidden_topic_has_no_failed_entries() {
    let world = world(Plan {
        metadata: &[("allowedTopics", "other")],
        ..plan(true)
    });
    let rejected = publish(&world, "new", vec![text("1")]).await.unwrap_err();
    assert_eq!(
        (rejected.error.code.tag, rejected.failed.len()),
        ("ERR_PUBSUB_FORBIDDEN", 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_retry_repeats_only_what_failed() {
    let policies = json!({
        "policies": {"retries": {"again": {"policy": "constant", "duration": "1ms", "maxRetries": 2}}},
        "targets": {"components": {"orders": {"outbound": {"retry": "again"}}}},
    });
    for bulk in [true, false] {
        let world = world(Plan {
            policies: policies.clone(),
            ..plan(bulk)
        });
        world.broker.refuse.lock().unwrap().extend([None, NO, NO, NO]);
        publish(&world, "new", ["1", "2", "3"].map(text).into())
            .await
            .unwrap();
        let mut data: Vec<String> = world
            .broker
            .published()
            .iter()
            .map(|message| {
                serde_json::from_slice::<Value>(&message.data).unwrap()["data"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        data.sort();
        assert_eq!(data, ["1", "2", "3"]);
    }
}
