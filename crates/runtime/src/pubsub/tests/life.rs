use super::fakes::app::Answer;
use super::fakes::broker::FakeBroker;
use super::fakes::{Plan, World, document, message, subscription, world};
use crate::pubsub::active::Kind;
use outrigger_channel::app::Subscription;
use outrigger_channel::error::Error as AppError;
use outrigger_component::error::Kind as Failure;
use outrigger_component::pubsub::Outcome::{Ack, Nack};
use std::time::Duration;

const EVENT: &str = r#"{"id":"1"}"#;
const PATIENCE: Duration = Duration::from_secs(5);

fn topics(world: &World) -> Vec<(Kind, String, String)> {
    let active = world.pubsub.active();
    active
        .into_iter()
        .map(|it| (it.kind, it.topic, it.rules[0].path.clone()))
        .collect()
}

fn listed(kind: Kind, path: &str) -> Vec<(Kind, String, String)> {
    vec![(kind, "new".to_owned(), path.to_owned())]
}

#[tokio::test]
async fn nothing_is_taken_before_the_app_is_healthy() {
    let world = world(Plan {
        declared: vec![document()],
        ..Plan::default()
    });
    assert_eq!(topics(&world), listed(Kind::Declarative, "/new"));
    world.broker.shared.push(message(EVENT));
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!((*world.app.asked.lock().unwrap(), world.app.seen()), (0, 0));
    world.pubsub.resume();
    world.app.events(1).await;
}

#[tokio::test]
async fn the_apps_word_wins() {
    let world = world(Plan {
        declared: vec![document()],
        ..Plan::default()
    });
    let unrouted = Subscription {
        topic: "other".to_owned(),
        rules: Vec::new(),
        ..subscription("")
    };
    let elsewhere = Subscription {
        pubsub: "nowhere".to_owned(),
        ..subscription("/x")
    };
    world
        .app
        .subscriptions
        .lock()
        .unwrap()
        .push_back(Ok(vec![subscription("/said"), unrouted, elsewhere]));
    world.pubsub.resume();
    world.broker.shared.push(message(EVENT));
    assert_eq!(world.app.events(1).await[0].path, "/said");
    assert_eq!(topics(&world)[..1], listed(Kind::Programmatic, "/said"));
    let log = world.bench.logged();
    assert!(
        log.contains("topic other has an empty routes. removing from subscriptions list"),
        "{log}"
    );
    assert!(
        log.contains("app is subscribed to the following topics: [[new]] through pubsub=orders"),
        "{log}"
    );
    assert!(
        log.contains("no subscription to topic new: pubsub nowhere is not loaded"),
        "{log}"
    );
}

#[tokio::test]
async fn an_app_may_be_left_unasked() {
    let world = world(Plan {
        declared: vec![document()],
        do_not_ask: true,
        ..Plan::default()
    });
    world.pubsub.resume();
    world.broker.shared.push(message(EVENT));
    world.app.events(1).await;
    assert_eq!(*world.app.asked.lock().unwrap(), 0);
    assert!(world.bench.logged().contains(
        "Skipping programmatic subscription loading (see 'disable-init-endpoints' flag/annotation)"
    ));
}

#[tokio::test(start_paused = true)]
async fn an_app_that_does_not_answer_is_asked_again() {
    let world = world(Plan {
        declared: vec![document()],
        ..Plan::default()
    });
    let down = || Err(AppError::Unavailable("connection refused".to_owned()));
    world.app.subscriptions.lock().unwrap().extend([
        down(),
        down(),
        down(),
        down(),
        down(),
        Ok(vec![subscription("/said")]),
    ]);
    world.pubsub.resume();
    // Meanwhile, what is declared runs.
    world.broker.shared.push(message(EVENT));
    assert_eq!(world.app.events(1).await[0].path, "/new");
    let mut changes = world.pubsub.changes();
    changes
        .wait_for(|lists| lists.all().any(|it| it.kind == Kind::Programmatic))
        .await
        .unwrap();
    world.broker.shared.push(message(EVENT));
    assert_eq!(world.app.events(2).await[1].path, "/said");
}

#[tokio::test(start_paused = true)]
async fn nonsense_is_not_asked_for_again() {
    let world = world(Plan {
        declared: vec![document()],
        ..Plan::default()
    });
    world
        .app
        .subscriptions
        .lock()
        .unwrap()
        .push_back(Err(AppError::Malformed("not a list".to_owned())));
    world.pubsub.resume();
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(*world.app.asked.lock().unwrap(), 1);
    assert!(
        world
            .bench
            .logged()
            .contains("error getting topic list from app: not a list")
    );
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_refuses_or_ends_is_tried_again() {
    let world = world(Plan {
        declared: vec![document()],
        ..Plan::default()
    });
    world
        .broker
        .refuse_subscribe
        .lock()
        .unwrap()
        .extend([Failure::Unavailable, Failure::Unavailable]);
    world.pubsub.resume();
    world.broker.shared.push(message(EVENT));
    world.broker.shared.outcomes(1).await;
    world.broker.shared.end();
    world.broker.shared.push(message(EVENT));
    assert_eq!(world.broker.shared.outcomes(2).await, [(1, Ack), (2, Ack)]);
    assert_eq!(world.broker.subscribed.lock().unwrap().len(), 2);
    let log = world.bench.logged();
    assert!(
        log.contains("Failed to start subscription for pubsub orders, topic new: broker is not ready"),
        "{log}"
    );
    assert!(
        log.contains("pubsub orders ended the subscription to topic new: subscribing again"),
        "{log}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_panic_loses_nothing_and_ends_nothing() {
    let world = world(Plan {
        declared: vec![document()],
        ..Plan::default()
    });
    world.app.answer([Answer::Panics]);
    world.broker.shared.push(message(EVENT));
    world.broker.shared.push(message(EVENT));
    world.pubsub.resume();
    assert_eq!(
        world.broker.shared.outcomes(3).await,
        [(1, Nack), (1, Ack), (2, Ack)]
    );
}

#[tokio::test]
async fn a_topic_out_of_scope_is_not_subscribed_to() {
    let world = world(Plan {
        declared: vec![document()],
        metadata: &[("subscriptionScopes", "shop=other")],
        ..Plan::default()
    });
    world.pubsub.resume();
    world.pubsub.stop(PATIENCE).await;
    assert_eq!(world.broker.subscribed.lock().unwrap().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn pause_and_resume() {
    let world = world(Plan {
        declared: vec![document()],
        ..Plan::default()
    });
    world.app.answer([Answer::Waits]);
    world.broker.shared.push(message(EVENT));
    world.pubsub.resume();
    world.app.events(1).await;
    world.pubsub.pause();
    world.broker.shared.push(message(EVENT));
    // What the app holds is settled; the second is not taken.
    world.app.gate.0.add_permits(1);
    assert_eq!(world.broker.shared.outcomes(1).await, [(1, Ack)]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((world.app.seen(), world.broker.shared.waiting()), (1, vec![2]));
    world.pubsub.resume();
    assert_eq!(world.broker.shared.outcomes(2).await[1], (2, Ack));
    assert_eq!(*world.app.asked.lock().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn stop_settles_what_is_answered_in_time_and_gives_back_the_rest() {
    for (permits, settled) in [(2, [Ack, Ack]), (1, [Ack, Nack]), (0, [Nack, Nack])] {
        let broker = FakeBroker {
            concurrency: 2,
            ..FakeBroker::default()
        };
        let mut declared = document();
        declared.dead_letter_topic = "dead".to_owned();
        let world = world(Plan {
            broker,
            declared: vec![declared],
            ..Plan::default()
        });
        world.app.answer([Answer::Waits; 3]);
        for _ in 0..3 {
            world.broker.shared.push(message(EVENT));
        }
        world.pubsub.resume();
        world.app.events(2).await;
        let began = tokio::time::Instant::now();
        let answer = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            world.app.gate.0.add_permits(permits);
        };
        tokio::join!(world.pubsub.stop(PATIENCE), answer);
        assert_eq!(began.elapsed() >= PATIENCE, permits < 2);
        let mut outcomes: Vec<_> = world
            .broker
            .shared
            .outcomes(2)
            .await
            .into_iter()
            .map(|it| it.1)
            .collect();
        outcomes.sort_by_key(|outcome| *outcome == Nack);
        assert_eq!(outcomes, settled);
        // Nothing is lost, nothing buried, and nothing begins again.
        assert_eq!(world.broker.shared.waiting().len(), 3 - permits);
        assert_eq!(
            (world.broker.shared.held(), world.broker.published().len()),
            (0, 0)
        );
        world.pubsub.resume();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(world.app.seen(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_fails_while_stopping_is_not_buried() {
    let mut declared = document();
    declared.dead_letter_topic = "dead".to_owned();
    let policies = serde_json::json!({
        "policies": {"timeouts": {"t": "2s"}},
        "targets": {"components": {"orders": {"inbound": {"timeout": "t"}}}},
    });
    let world = world(Plan {
        declared: vec![declared],
        policies,
        ..Plan::default()
    });
    world.app.answer([Answer::Hangs]);
    world.broker.shared.push(message(EVENT));
    world.pubsub.resume();
    world.app.events(1).await;
    world.pubsub.stop(PATIENCE).await;
    assert_eq!(world.broker.shared.outcomes(1).await, [(1, Nack)]);
    assert_eq!(world.broker.published().len(), 0);
}

/// Also one whose next attempt is far away: it is given back, and a stop does not wait longer than it may.
#[tokio::test(start_paused = true)]
async fn a_message_between_two_attempts_is_given_back() {
    let mut declared = document();
    declared.dead_letter_topic = "dead".to_owned();
    let policies = serde_json::json!({
        "policies": {"retries": {"late": {"policy": "constant", "duration": "1h", "maxRetries": 3}}},
        "targets": {"components": {"orders": {"inbound": {"retry": "late"}}}},
    });
    let world = world(Plan {
        declared: vec![declared],
        policies,
        ..Plan::default()
    });
    world.app.answer([Answer::Fails; 5]);
    world.broker.shared.push(message(EVENT));
    world.pubsub.resume();
    world.app.events(1).await;
    let began = tokio::time::Instant::now();
    world.pubsub.stop(PATIENCE).await;
    assert!(
        began.elapsed() <= PATIENCE + Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(world.broker.shared.outcomes(1).await, [(1, Nack)]);
    assert_eq!((world.app.seen(), world.broker.published().len()), (1, 0));
}

#[tokio::test]
async fn a_kill_leaves_everything_with_the_broker() {
    let broker = FakeBroker {
        concurrency: 4,
        ..FakeBroker::default()
    };
    let World {
        pubsub,
        broker,
        app,
        tasks,
        bench: _,
        state: _,
    } = world(Plan {
        broker,
        declared: vec![document()],
        ..Plan::default()
    });
    app.answer([Answer::Hangs; 8]);
    for _ in 0..8 {
        broker.shared.push(message(EVENT));
    }
    pubsub.resume();
    app.events(4).await;
    drop((pubsub, tasks));
    let settled = broker.shared.outcomes(4).await;
    assert!(settled.iter().all(|(_, outcome)| *outcome == Nack));
    assert_eq!((broker.shared.held(), broker.shared.waiting().len()), (0, 8));
}

#[tokio::test]
async fn without_an_app_nothing_runs_and_stop_returns() {
    let world = world(Plan {
        declared: vec![document()],
        no_app: true,
        ..Plan::default()
    });
    world.pubsub.resume();
    assert_eq!(topics(&world), listed(Kind::Declarative, "/new"));
    world.pubsub.stop(PATIENCE).await;
    assert_eq!(world.broker.subscribed.lock().unwrap().len(), 0);
}
