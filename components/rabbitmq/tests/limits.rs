//! A broker that takes no more, for real; skipped loudly where none is installed.

#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

use futures::StreamExt as _;
use outrigger_component::error::{Error, Kind};
use outrigger_component::pubsub::{Outcome, Outgoing, PubSub, Subscribe, Subscription};
use outrigger_component::registry::Registry;
use outrigger_components_rabbitmq::register;
use outrigger_testkit::servers::rabbitmq::{RabbitMq, start};
use outrigger_testkit::setup::setup;
use std::sync::Arc;
use std::time::{Duration, Instant};

async fn broker(server: &RabbitMq, confirm: &str) -> Arc<dyn PubSub> {
    let mut registry = Registry::default();
    register(&mut registry);
    let uri = server.uri();
    let metadata = [
        ("connectionString", uri.as_str()),
        ("durable", "true"),
        ("deletedWhenUnused", "false"),
        ("publisherConfirm", confirm),
    ];
    let brokers = registry.brokers();
    brokers.build("rabbitmq", "v1", setup(&metadata)).await.unwrap()
}

async fn publish(broker: &Arc<dyn PubSub>, topic: &str, content: &str) -> Result<(), Error> {
    let message = Outgoing {
        topic: topic.to_owned(),
        data: content.as_bytes().to_vec().into(),
        ..Outgoing::default()
    };
    broker.publish(message).await
}

async fn subscribe(broker: &Arc<dyn PubSub>, topic: &str) -> Subscription {
    let subscribe = Subscribe {
        topic: topic.to_owned(),
        ..Subscribe::default()
    };
    broker.subscribe(subscribe).await.unwrap()
}

/// Takes until this one has come.
async fn until(inbox: &mut Subscription, content: &str) {
    let coming = async {
        loop {
            let delivery = inbox.deliveries.next().await.expect("goes on");
            let found = delivery.message.data == content;
            delivery.settle(Outcome::Ack);
            if found {
                return;
            }
        }
    };
    let came = tokio::time::timeout(Duration::from_secs(20), coming).await;
    came.unwrap_or_else(|_| panic!("{content} does not come"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_takes_no_more() {
    let Some(server) = start(&[]).await else { return };
    alarms(&server).await;
    full_queue(&server).await;
}

/// Out of memory, as far as it knows: whoever publishes is told in seconds, whoever subscribes goes on, and so do both when
/// the alarm is over.
async fn alarms(server: &RabbitMq) {
    let (sure, unsure) = (broker(server, "true").await, broker(server, "false").await);
    let mut inbox = subscribe(&sure, "t").await;
    publish(&sure, "t", "before").await.unwrap();
    server.control(&["set_vm_memory_high_watermark", "0"]);
    let began = Instant::now();
    // Without confirms, the first one is only found out about behind it.
    publish(&unsure, "t", "into the blue").await.unwrap();
    for (broker, name) in [(&sure, "confirmed"), (&sure, "not sent"), (&unsure, "not sent")] {
        let mut error = publish(broker, "t", name).await;
        if error.is_ok() {
            error = publish(broker, "t", name).await;
        }
        let error = error.unwrap_err();
        assert_eq!(error.kind, Kind::Exhausted, "{name}: {error:?}");
        for expected in [
            "publishing to t failed",
            "low on memory",
            "rabbitmq-diagnostics alarms",
        ] {
            assert!(error.message.contains(expected), "{name}: {expected}: {error}");
        }
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    until(&mut inbox, "before").await;
    sure.ping().await.unwrap();
    server.control(&["set_vm_memory_high_watermark", "absolute", "512MB"]);
    for (broker, content) in [(&sure, "after"), (&unsure, "after, unsure")] {
        // The broker says so in its own time; until then, publishing waits.
        publish(broker, "t", content).await.unwrap();
        until(&mut inbox, content).await;
    }
}

/// A queue that is full and refuses: the message is not lost silently.
async fn full_queue(server: &RabbitMq) {
    let broker = broker(server, "true").await;
    drop(subscribe(&broker, "full").await);
    let policy = r#"{"max-length":2,"overflow":"reject-publish"}"#;
    server.control(&["set_policy", "full", "app-full", policy, "--apply-to", "queues"]);
    let mut taken = 0;
    let error = loop {
        match publish(&broker, "full", "m").await {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 10, "a queue for two has {taken}");
    };
    assert_eq!(error.kind, Kind::Unavailable, "{error:?}");
    for expected in ["publishing to full failed", "reject-publish"] {
        assert!(error.message.contains(expected), "{expected}: {error}");
    }
    let mut inbox = subscribe(&broker, "full").await;
    for _ in 0..taken {
        until(&mut inbox, "m").await;
    }
    publish(&broker, "full", "after").await.unwrap();
    until(&mut inbox, "after").await;
}
