//! What arrives, and how the app is given it.

use super::fakes::{Plan, counted, document, message, world};
use outrigger_component::pubsub::Incoming;
use outrigger_component::pubsub::Outcome::Ack;
use serde_json::{Value, json};

const EVENT: &str =
    r#"{"id":"1","data":"x","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}"#;

#[tokio::test]
async fn what_the_app_is_given() {
    let mut declared = document();
    declared.metadata.insert("own".to_owned(), "1".to_owned());
    let world = world(Plan {
        declared: vec![declared],
        topic_prefix: "prod",
        ..Plan::default()
    });
    world.pubsub.resume();
    world.broker.shared.push(Incoming {
        topic: "prodnew".to_owned(),
        content_type: Some("application/cloudevents+json".to_owned()),
        metadata: [("key", "k")].into_iter().collect(),
        ..message(EVENT)
    });
    let event = world.app.events(1).await.remove(0);
    assert_eq!(
        (event.pubsub.as_str(), event.topic.as_str(), event.path.as_str()),
        ("orders", "new", "/new")
    );
    assert_eq!(event.envelope, EVENT);
    let metadata: Vec<_> = event.metadata.iter().collect();
    assert_eq!(
        metadata,
        [
            ("content-type", "application/cloudevents+json"),
            ("key", "k"),
            ("pubsubName", "orders")
        ]
    );
    assert_eq!(
        event.trace.unwrap().traceparent().as_str(),
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    );
    let subscribed = world.broker.subscribed.lock().unwrap().remove(0);
    assert_eq!(
        (subscribed.topic.as_str(), subscribed.metadata.get("own")),
        ("prodnew", Some("1"))
    );
}

#[tokio::test]
async fn forms_of_messages_table() {
    let raw = &[("rawPayload", "true")][..];
    let bytes = Some("application/octet-stream");
    type Pairs = &'static [(&'static str, &'static str)];
    // (subscription's metadata, content type, message's metadata, members of the event)
    let rows: &[(Pairs, Option<&str>, Pairs, Value)] = &[
        (
            raw,
            None,
            &[("traceparent", "p"), ("traceid", "i")],
            json!({
                "data_base64": "aGk=", "datacontenttype": "application/octet-stream", "source": "Dapr", "topic": "new",
                "pubsubname": "orders", "traceparent": "p", "traceid": "p",
            }),
        ),
        (
            raw,
            None,
            &[("traceid", "i")],
            json!({"traceid": "i", "traceparent": null}),
        ),
        (
            raw,
            bytes,
            &[("ce_id", "7")],
            json!({"data_base64": "aGk=", "type": "com.dapr.event.sent"}),
        ),
        (
            &[],
            bytes,
            &[("ce_id", "7"), ("CE_Type", "t"), ("other", "x")],
            json!({
                "id": "7", "type": "t", "other": null, "data_base64": "aGk=", "datacontenttype": "application/octet-stream",
            }),
        ),
        (
            &[],
            None,
            &[("content-type", "application/octet-stream"), ("ce_id", "7")],
            json!({"id": "7"}),
        ),
    ];
    for (subscription, content_type, metadata, expected) in rows {
        let mut declared = document();
        declared.metadata = subscription
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let world = world(Plan {
            declared: vec![declared],
            ..Plan::default()
        });
        world.pubsub.resume();
        world.broker.shared.push(Incoming {
            content_type: content_type.map(str::to_owned),
            metadata: metadata.iter().copied().collect(),
            ..message("hi")
        });
        let event = world.app.events(1).await.remove(0);
        let event: Value = serde_json::from_slice(&event.envelope).unwrap();
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(&event[name], value, "{name} of {event}");
        }
    }
}

#[tokio::test]
async fn routes_decide() {
    let mut declared = document();
    declared.dead_letter_topic = "dead".to_owned();
    declared.routes = serde_json::from_value(json!({"rules": [
        {"match": "event.type == 'a'", "path": "/a"},
        {"match": "event.data.n > 1", "path": "/n"},
    ]}))
    .unwrap();
    let world = world(Plan {
        declared: vec![declared],
        ..Plan::default()
    });
    world.pubsub.resume();
    // The third has no route, the fourth cannot be decided: both are buried.
    for event in [
        r#"{"type":"a"}"#,
        r#"{"type":"b","data":{"n":2}}"#,
        r#"{"type":"b","data":{"n":0}}"#,
        r#"{"type":"b"}"#,
    ] {
        world.broker.shared.push(message(event));
    }
    let settled = world.broker.shared.outcomes(4).await;
    assert_eq!(settled, [(1, Ack), (2, Ack), (3, Ack), (4, Ack)]);
    let paths: Vec<String> = world
        .app
        .events(2)
        .await
        .into_iter()
        .map(|event| event.path)
        .collect();
    assert_eq!(paths, ["/a", "/n"]);
    assert_eq!(world.broker.published().len(), 2);
    assert_eq!(
        counted(&world),
        ["drop/drop=1", "drop/success=1", "success/success=2"]
    );
}
