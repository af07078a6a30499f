use super::*;
use outrigger_component::pubsub::Outcome;
use outrigger_component::registry::Registry;
use outrigger_testkit::setup::setup;
use tokio::time::Instant;

async fn bus() -> Arc<dyn PubSub> {
    let mut registry = Registry::default();
    registry.pubsub("in-memory", Bus::build);
    registry
        .brokers()
        .build("in-memory", "v1", setup(&[]))
        .await
        .unwrap()
}

async fn subscribe(bus: &Arc<dyn PubSub>, topic: &str) -> Subscription {
    bus.subscribe(Subscribe {
        topic: topic.to_owned(),
        ..Subscribe::default()
    })
    .await
    .unwrap()
}

fn message(topic: &str, content: &str) -> Outgoing {
    Outgoing {
        topic: topic.to_owned(),
        data: content.as_bytes().to_vec().into(),
        ..Outgoing::default()
    }
}

#[tokio::test(start_paused = true)]
async fn publishing_waits_for_the_slowest_and_then_gives_up_without_a_trace() {
    let bus = bus().await;
    let mut slow = subscribe(&bus, "t").await;
    let mut fast = subscribe(&bus, "t").await;
    for number in 0..queue::CAPACITY {
        bus.publish(message("t", &number.to_string())).await.unwrap();
        fast.deliveries.next().await.unwrap().settle(Outcome::Ack);
    }
    let began = Instant::now();
    let error = bus.publish(message("t", "too much")).await.unwrap_err();
    assert_eq!(
        (error.kind, began.elapsed().as_secs()),
        (Kind::Exhausted, PATIENCE.as_secs())
    );
    assert!(
        futures::poll!(fast.deliveries.next()).is_pending(),
        "nobody got it"
    );
    let room = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        slow.deliveries.next().await.unwrap().settle(Outcome::Ack);
    };
    let (published, ()) = tokio::join!(bus.publish(message("t", "just right")), room);
    published.unwrap();
}

#[tokio::test(start_paused = true)]
async fn refused_messages_rest_longer_each_time() {
    let bus = bus().await;
    let mut inbox = subscribe(&bus, "t").await;
    bus.publish(message("t", "1")).await.unwrap();
    let mut last = Instant::now();
    let mut rests = Vec::new();
    for _ in 0..10 {
        let delivery = inbox.deliveries.next().await.unwrap();
        rests.push(last.elapsed().as_millis());
        last = Instant::now();
        delivery.settle(Outcome::Nack);
    }
    let expected = [
        0, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000, 30_000, 30_000,
    ];
    for (rest, expected) in rests.iter().zip(expected) {
        // The timer has a resolution of a millisecond.
        assert!((expected..=expected + 2).contains(rest), "{rests:?}");
    }
}

#[tokio::test]
async fn a_subscriber_who_leaves_keeps_nobody_waiting() {
    let bus = bus().await;
    let slow = subscribe(&bus, "t").await;
    for _ in 0..queue::CAPACITY {
        bus.publish(message("t", "")).await.unwrap();
    }
    let leave = async {
        tokio::task::yield_now().await;
        drop(slow);
    };
    let (published, ()) = tokio::join!(bus.publish(message("t", "")), leave);
    published.unwrap();
}

#[tokio::test]
async fn closing_ends_subscriptions_and_refuses_publishing() {
    let bus = bus().await;
    let mut inbox = subscribe(&bus, "t").await;
    let mut wild = subscribe(&bus, "t*").await;
    bus.publish(message("t", "held")).await.unwrap();
    let held = inbox.deliveries.next().await.unwrap();
    bus.close().await;
    assert!(inbox.deliveries.next().await.is_none());
    assert!(wild.deliveries.next().await.is_none());
    held.settle(Outcome::Ack);
    assert_eq!(
        bus.publish(message("t", "late")).await.unwrap_err().message,
        "component is closed"
    );
}

#[tokio::test]
async fn a_pattern_gets_its_own_name_once() {
    let bus = bus().await;
    let mut wild = subscribe(&bus, "t*").await;
    bus.publish(message("t*", "1")).await.unwrap();
    let delivery = wild.deliveries.next().await.unwrap();
    assert_eq!(delivery.message.topic, "t*");
    delivery.settle(Outcome::Ack);
    assert!(futures::poll!(wild.deliveries.next()).is_pending());
}
