//! Contents, content types and metadata of all kinds come as they were sent.

use super::inbox::{Inbox, Sender};
use bytes::Bytes;
use outrigger_component::pubsub::{Outcome, Outgoing};

pub(super) async fn all(on: &Sender<'_>) {
    let mut inbox = on.subscribe().await;
    let every_byte: Vec<u8> = (0..=255).collect();
    let large = every_byte
        .iter()
        .copied()
        .cycle()
        .take(on.nature.largest)
        .collect::<Vec<u8>>();
    for (content_type, data) in [
        (Some("text/plain; charset=utf-8"), "\u{e9}\u{20ac}\n".as_bytes()),
        (Some("application/json"), br#"{"a": [1, null]}"#),
        (
            Some("application/cloudevents+json"),
            br#"{"specversion":"1.0","data":1}"#,
        ),
        (Some("application/octet-stream"), &every_byte),
        (None, b"{}"),
        (None, b" "),
        (None, &large),
    ] {
        let mut metadata = on.metadata("key");
        metadata.insert("x-plain", "a, b; c=\"d\"");
        metadata.insert(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        );
        let message = Outgoing {
            topic: on.topic.clone(),
            data: Bytes::copy_from_slice(data),
            content_type: content_type.map(str::to_owned),
            metadata,
        };
        on.broker
            .publish(message.clone())
            .await
            .unwrap_or_else(|error| panic!("{content_type:?} of {} bytes: {error}", data.len()));
        came(&mut inbox, on, &message).await;
    }
    inbox.quiet("each once").await;
}

async fn came(inbox: &mut Inbox, on: &Sender<'_>, sent: &Outgoing) {
    let delivery = inbox.next().await;
    let message = &delivery.message;
    // Not `assert_eq`: nobody wants to read a megabyte.
    assert!(
        message.data == sent.data,
        "{:?}: {} bytes came instead of {}",
        sent.content_type,
        message.data.len(),
        sent.data.len()
    );
    if message.content_type.is_some() {
        // A broker need not carry it, but must not make it up.
        assert_eq!(message.content_type, sent.content_type, "content type");
    }
    if on.nature.metadata {
        for (name, value) in sent.metadata.iter() {
            assert_eq!(message.metadata.get(name), Some(value), "metadata {name}");
        }
    }
    delivery.settle(Outcome::Ack);
}
