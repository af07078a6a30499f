use super::fakes::broker::FakeBroker;
use super::fakes::{Plan, message, world};
use crate::pubsub::active::Kind;
use crate::pubsub::stream::{Stream, Subscribe};
use outrigger_channel::app::Outcome;
use outrigger_component::error::Kind as Failure;
use outrigger_component::pubsub::Outcome::{Ack, Nack};
use std::time::Duration;

fn subscribe() -> Subscribe {
    Subscribe {
        pubsub: "orders".to_owned(),
        topic: "new".to_owned(),
        ..Subscribe::default()
    }
}

fn event(id: u32) -> outrigger_component::pubsub::Incoming {
    message(&format!(r#"{{"id":"{id}"}}"#))
}

#[tokio::test(start_paused = true)]
async fn answers_settle() {
    let world = world(Plan {
        no_app: true,
        ..Plan::default()
    });
    let request = Subscribe {
        dead_letter_topic: "dead".to_owned(),
        ..subscribe()
    };
    let Stream { mut events, replies } = world.pubsub.stream(request).await.unwrap();
    let active = world.pubsub.active();
    assert_eq!(
        (active[0].kind, active[0].rules[0].path.as_str()),
        (Kind::Streaming, "/")
    );

    let rows = [(Outcome::Success, 0), (Outcome::Drop, 1), (Outcome::Retry, 2)];
    for (number, (outcome, buried)) in (1..).zip(rows) {
        world.broker.shared.push(event(number));
        let event = events.next().await.unwrap();
        assert_eq!(
            (event.id.as_str(), event.event.path.as_str()),
            (number.to_string().as_str(), "/")
        );
        // Answers to nothing are ignored.
        replies.settle("other", Outcome::Retry);
        replies.settle(&event.id, outcome);
        replies.settle(&event.id, Outcome::Retry);
        let settled = world.broker.shared.outcomes(number as usize).await;
        assert_eq!(settled.last(), Some(&(u64::from(number), Ack)));
        assert_eq!(world.broker.published().len(), buried);
    }
    assert!(
        world
            .bench
            .logged()
            .contains("no event with id other waits for a response of this stream")
    );
}

#[tokio::test(start_paused = true)]
async fn retry_comes_again() {
    let world = world(Plan {
        no_app: true,
        ..Plan::default()
    });
    let Stream { mut events, replies } = world.pubsub.stream(subscribe()).await.unwrap();
    world.broker.shared.push(event(1));
    for outcome in [Outcome::Retry, Outcome::Retry, Outcome::Drop] {
        assert_eq!(events.next().await.unwrap().id, "1");
        replies.settle("1", outcome);
    }
    assert_eq!(
        world.broker.shared.outcomes(3).await,
        [(1, Nack), (1, Nack), (1, Ack)]
    );
}

#[tokio::test]
async fn events_with_one_id_are_answered_in_order() {
    let broker = FakeBroker {
        concurrency: 3,
        ..FakeBroker::default()
    };
    let world = world(Plan {
        no_app: true,
        broker,
        ..Plan::default()
    });
    let Stream { mut events, replies } = world.pubsub.stream(subscribe()).await.unwrap();
    for _ in 0..3 {
        world.broker.shared.push(event(7));
    }
    for _ in 0..3 {
        assert_eq!(events.next().await.unwrap().id, "7");
    }
    replies.settle("7", Outcome::Success);
    assert_eq!(world.broker.shared.outcomes(1).await.len(), 1);
    replies.settle("7", Outcome::Success);
    replies.settle("7", Outcome::Success);
    world.broker.shared.outcomes(3).await;
}

#[tokio::test]
async fn hanging_up_gives_everything_back() {
    for keep_replies in [true, false] {
        let broker = FakeBroker {
            concurrency: 3,
            ..FakeBroker::default()
        };
        let world = world(Plan {
            no_app: true,
            broker,
            ..Plan::default()
        });
        let Stream { mut events, replies } = world.pubsub.stream(subscribe()).await.unwrap();
        for number in 1..=5 {
            world.broker.shared.push(event(number));
        }
        events.next().await.unwrap();
        let mut kept = None;
        if keep_replies {
            drop(events);
            kept = Some(replies);
        } else {
            drop(replies);
            // The door learns that it is over.
            while events.next().await.is_some() {}
        }
        world
            .pubsub
            .changes()
            .wait_for(|lists| lists.all().next().is_none())
            .await
            .unwrap();
        assert_eq!(
            (world.broker.shared.held(), world.broker.shared.waiting().len()),
            (0, 5)
        );
        drop(kept);
    }
}

#[tokio::test(start_paused = true)]
async fn stop_ends_streams() {
    let world = world(Plan {
        no_app: true,
        ..Plan::default()
    });
    let Stream { mut events, replies } = world.pubsub.stream(subscribe()).await.unwrap();
    world.broker.shared.push(event(1));
    world.broker.shared.push(event(2));
    let first = events.next().await.unwrap();
    let answer = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        replies.settle(&first.id, Outcome::Success);
    };
    tokio::join!(world.pubsub.stop(Duration::from_secs(5)), answer);
    assert!(events.next().await.is_none());
    assert_eq!(world.broker.shared.outcomes(1).await, [(1, Ack)]);
    assert_eq!(world.broker.shared.waiting(), [2]);
    let error = world.pubsub.stream(subscribe()).await.unwrap_err();
    assert!(error.message.ends_with("the sidecar is stopping"), "{error}");
}

#[tokio::test]
async fn many_streams_may_have_one_topic() {
    let world = world(Plan {
        no_app: true,
        ..Plan::default()
    });
    let first = world.pubsub.stream(subscribe()).await.unwrap();
    let second = world.pubsub.stream(subscribe()).await.unwrap();
    assert_eq!(world.pubsub.active().len(), 2);
    drop(first);
    world
        .pubsub
        .changes()
        .wait_for(|lists| lists.all().count() == 1)
        .await
        .unwrap();
    drop(second);
}

#[tokio::test]
async fn refusals_table() {
    let rows = [
        (
            Subscribe {
                pubsub: "nope".to_owned(),
                ..subscribe()
            },
            "ERR_PUBSUB_NOT_FOUND",
            "pubsub nope is not found",
        ),
        (
            Subscribe {
                topic: String::new(),
                ..subscribe()
            },
            "ERR_TOPIC_NAME_EMPTY",
            "topic is empty in pubsub orders",
        ),
        (
            Subscribe {
                topic: "secret".to_owned(),
                ..subscribe()
            },
            "ERR_PUBSUB_SUBSCRIBE",
            "failed to create subscription for orders: subscription to topic 'secret' on pubsub 'orders' is not allowed",
        ),
        (
            Subscribe {
                metadata: [("rawPayload", "x")].into_iter().collect(),
                ..subscribe()
            },
            "ERR_PUBSUB_SUBSCRIBE",
            "failed to create subscription for orders: rawPayload value must be a valid boolean: actual is 'x'",
        ),
        (
            subscribe(),
            "ERR_PUBSUB_SUBSCRIBE",
            "failed to create subscription for orders: failed to subscribe to topic new: broker is not ready",
        ),
    ];
    for (request, tag, message) in rows {
        let world = world(Plan {
            no_app: true,
            metadata: &[("protectedTopics", "secret")],
            ..Plan::default()
        });
        world
            .broker
            .refuse_subscribe
            .lock()
            .unwrap()
            .push_back(Failure::Unavailable);
        let error = world.pubsub.stream(request).await.unwrap_err();
        assert_eq!((error.code.tag, error.message.as_str()), (tag, message));
        assert_eq!(world.pubsub.active(), []);
    }
}
