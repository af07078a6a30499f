use super::fakes::broker::FakeBroker;
use super::fakes::{Plan, World, world};
use crate::error::{ApiError, Detail};
use crate::pubsub::publish::{Door, Publish};
use outrigger_component::error::Kind;
use outrigger_component::pubsub::Features;
use outrigger_daemon::trace::Context;
use serde_json::{Value, json};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn publish(topic: &str, metadata: &[(&str, &str)]) -> Publish {
    Publish {
        pubsub: "orders".to_owned(),
        topic: topic.to_owned(),
        data: r#"{"a":1}"#.into(),
        content_type: "application/json".to_owned(),
        metadata: metadata.iter().copied().collect(),
        trace: Context::from_headers(PARENT, Some("a=1")),
        door: Door::Http,
    }
}

fn sent(world: &World) -> Value {
    let published = world.broker.published();
    serde_json::from_slice(&published.last().unwrap().data).unwrap()
}

#[tokio::test]
async fn a_message_goes_out_in_an_envelope() {
    let world = world(Plan {
        topic_prefix: "prod",
        ..Plan::default()
    });
    world
        .pubsub
        .publish(publish("new", &[("ttlInSeconds", "5"), ("key", "k")]))
        .await
        .unwrap();
    let message = world.broker.published().remove(0);
    assert_eq!(
        (message.topic.as_str(), message.content_type.as_deref()),
        ("prodnew", None)
    );
    assert_eq!(
        (message.metadata.get("key"), message.metadata.get("ttlInSeconds")),
        (Some("k"), Some("5"))
    );
    let event = sent(&world);
    assert_eq!(event["topic"], "new");
    assert_eq!(event["data"], json!({"a": 1}));
    assert_eq!(event["traceparent"], PARENT);
    assert_eq!(event["tracestate"], "a=1");
    assert!(event["expiration"].is_string());
    let metrics = world.bench.registry.expose();
    let expected = r#"dapr_component_pubsub_egress_count{app_id="shop",component="orders",namespace="",success="true",topic="new"} 1"#;
    assert!(metrics.contains(expected), "{metrics}");
}

#[tokio::test]
async fn what_the_broker_expires_itself_has_no_expiration() {
    let broker = FakeBroker {
        features: Features {
            message_ttl: true,
            ..Features::default()
        },
        ..FakeBroker::default()
    };
    let world = world(Plan {
        broker,
        ..Plan::default()
    });
    world
        .pubsub
        .publish(publish("new", &[("ttlInSeconds", "5")]))
        .await
        .unwrap();
    assert_eq!(sent(&world)["expiration"], Value::Null);
}

#[tokio::test]
async fn raw_payload_table() {
    for (value, raw) in [
        ("true", true),
        ("1", true),
        ("T", true),
        ("false", false),
        ("", false),
    ] {
        let world = world(Plan::default());
        world
            .pubsub
            .publish(publish("new", &[("rawPayload", value)]))
            .await
            .unwrap();
        let message = world.broker.published().remove(0);
        assert_eq!(message.data == r#"{"a":1}"#, raw, "{value}");
        // The trace goes along in the metadata, for there is no envelope.
        let trace = raw.then_some(PARENT);
        assert_eq!(message.metadata.get("traceid"), trace);
        assert_eq!(message.metadata.get("tracestate"), raw.then_some("a=1"));
    }
}

#[tokio::test]
async fn an_event_of_its_own_passes_through() {
    let world = world(Plan::default());
    let mut request = publish("new", &[]);
    request.content_type = "application/cloudevents+json; charset=utf-8".to_owned();
    request.data = r#"{"id":"7","topic":"x","data":1.50}"#.into();
    world.pubsub.publish(request).await.unwrap();
    let event = sent(&world);
    assert_eq!(
        (&event["id"], &event["topic"], &event["source"]),
        (&json!("7"), &json!("new"), &json!("Dapr"))
    );
}

/// Tag, HTTP status, gRPC code, message, reason, and the resource named in the details.
fn shown(error: &ApiError) -> (String, u16, i32, String, String, String) {
    let (mut reason, mut resource) = (String::new(), "-".to_owned());
    for detail in &error.details {
        match detail {
            Detail::ErrorInfo { reason: found, .. } => reason.clone_from(found),
            Detail::ResourceInfo { resource_name, .. } => resource.clone_from(resource_name),
            Detail::BadRequest { .. } | Detail::Help { .. } => {}
        }
    }
    (
        error.code.tag.to_owned(),
        error.code.http,
        error.code.grpc,
        error.message.clone(),
        reason,
        resource,
    )
}

#[tokio::test]
async fn refusals_table() {
    let event = "application/cloudevents+json";
    type Row = (
        (&'static str, &'static str, &'static str, &'static str),
        (&'static str, u16, i32, &'static str, &'static str, &'static str),
    );
    let rows: &[Row] = &[
        (
            ("", "t", "", ""),
            (
                "ERR_PUBSUB_EMPTY",
                404,
                3,
                "pubsub name is empty",
                "DAPR_PUBSUB_NAME_EMPTY",
                "",
            ),
        ),
        (
            ("nope", "", "", "x"),
            (
                "ERR_PUBSUB_NOT_FOUND",
                404,
                3,
                "pubsub nope is not found",
                "DAPR_PUBSUB_NOT_FOUND",
                "-",
            ),
        ),
        (
            ("orders", "", "", "x"),
            (
                "ERR_TOPIC_NAME_EMPTY",
                404,
                3,
                "topic is empty in pubsub orders",
                "DAPR_PUBSUB_TOPIC_NAME_EMPTY",
                "orders",
            ),
        ),
        (
            ("orders", "secret", event, "nonsense"),
            (
                "ERR_PUBSUB_REQUEST_METADATA",
                400,
                3,
                "failed deserializing metadata. Error: rawPayload value must be a valid boolean: actual is 'nonsense'",
                "DAPR_PUBSUB_METADATA_DESERIALIZATION",
                "orders",
            ),
        ),
        (
            ("orders", "secret", event, ""),
            (
                "ERR_PUBSUB_CLOUD_EVENTS_SER",
                500,
                3,
                "cannot create cloudevent",
                "DAPR_PUBSUB_CLOUD_EVENT_CREATION",
                "orders",
            ),
        ),
        (
            ("orders", "secret", "", ""),
            (
                "ERR_PUBSUB_FORBIDDEN",
                403,
                7,
                "topic secret is not allowed for app id shop",
                "DAPR_PUBSUB_FORBIDDEN",
                "orders",
            ),
        ),
        (
            ("orders", "broken", "", ""),
            (
                "ERR_PUBSUB_PUBLISH_MESSAGE",
                500,
                13,
                "error when publishing to topic broken in pubsub orders: topic is broken",
                "DAPR_PUBSUB_PUBLISH_MESSAGE",
                "orders",
            ),
        ),
    ];
    for ((pubsub, topic, content_type, raw), (tag, http, grpc, message, reason, resource)) in rows {
        let world = world(Plan {
            metadata: &[("protectedTopics", "secret")],
            ..Plan::default()
        });
        world.broker.broken.lock().unwrap().push("broken".to_owned());
        let request = Publish {
            pubsub: (*pubsub).to_owned(),
            content_type: (*content_type).to_owned(),
            data: "{\"}".into(),
            ..publish(topic, &[("rawPayload", raw)])
        };
        let error = world.pubsub.publish(request).await.unwrap_err();
        let expected = (
            (*tag).to_owned(),
            *http,
            *grpc,
            (*message).to_owned(),
            (*reason).to_owned(),
            (*resource).to_owned(),
        );
        assert_eq!(shown(&error), expected);
        assert_eq!(world.broker.published(), []);
    }
}

#[tokio::test(start_paused = true)]
async fn retries_table() {
    let policy = |matching: Value| {
        json!({
            "policies": {"retries": {"again": {"policy": "constant", "duration": "1ms", "maxRetries": 3, "matching": matching}}},
            "targets": {"components": {"orders": {"outbound": {"retry": "again"}}}},
        })
    };
    // (policies, what the broker says, door, published)
    let rows: &[(Value, &[Option<Kind>], Door, bool)] = &[
        (Value::Null, &[Some(Kind::Unavailable)], Door::Http, false),
        (
            policy(Value::Null),
            &[Some(Kind::Unavailable), Some(Kind::Internal), Some(Kind::Timeout)],
            Door::Http,
            true,
        ),
        (
            policy(Value::Null),
            &[Some(Kind::Unavailable); 4],
            Door::Http,
            false,
        ),
        // What repeating cannot change is not repeated.
        (policy(Value::Null), &[Some(Kind::Invalid)], Door::Http, false),
        (
            policy(json!({"httpStatusCodes": "503"})),
            &[Some(Kind::Unavailable)],
            Door::Http,
            true,
        ),
        (
            policy(json!({"httpStatusCodes": "503"})),
            &[Some(Kind::Exhausted)],
            Door::Http,
            false,
        ),
        (
            policy(json!({"gRPCStatusCodes": "14"})),
            &[Some(Kind::Unavailable)],
            Door::Grpc,
            true,
        ),
        (
            policy(json!({"gRPCStatusCodes": "14"})),
            &[Some(Kind::Exhausted)],
            Door::Grpc,
            false,
        ),
        (
            policy(json!({"gRPCStatusCodes": "14"})),
            &[Some(Kind::Internal)],
            Door::Grpc,
            true,
        ),
    ];
    for (policies, refusals, door, published) in rows {
        let world = world(Plan {
            policies: policies.clone(),
            ..Plan::default()
        });
        world.broker.refuse.lock().unwrap().extend(*refusals);
        let outcome = world
            .pubsub
            .publish(Publish {
                door: *door,
                ..publish("new", &[])
            })
            .await;
        assert_eq!(
            outcome.is_ok(),
            *published,
            "{policies} {refusals:?}: {outcome:?}"
        );
        assert_eq!(world.broker.published().len(), usize::from(*published));
    }
}
