//! Subscriptions in bulk: when a batch leaves, and what becomes of its messages.

use super::fakes::app::{Answer, Words};
use super::fakes::broker::FakeBroker;
use super::fakes::{Plan, World, document, message, world};
use outrigger_channel::app::Outcome;
use outrigger_channel::app::bulk::Payload;
use outrigger_component::pubsub::Outcome::{Ack, Nack};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

const EVENT: &str =
    r#"{"id":"1","data":"x","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}"#;

fn plan(most: i32, wait: i32, concurrency: usize) -> Plan {
    let mut declared = document();
    declared.bulk.enabled = true;
    declared.bulk.max_messages = most;
    declared.bulk.max_await_ms = wait;
    Plan {
        declared: vec![declared],
        broker: FakeBroker {
            concurrency,
            ..FakeBroker::default()
        },
        ..Plan::default()
    }
}

fn push(world: &World, count: usize) {
    for _ in 0..count {
        world.broker.shared.push(message(EVENT));
    }
}

/// The counters of bulk events: outcome and how many.
fn counted(world: &World) -> Vec<String> {
    let text = world.bench.registry.expose();
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("dapr_component_pubsub_ingress_bulk_event_count{"));
    let outcome = |line: &str| {
        let outcome = line.split("process_status=\"").nth(1).unwrap();
        let count = line.rsplit(' ').next().unwrap();
        format!("{}={count}", outcome.split('"').next().unwrap())
    };
    let mut counted: Vec<String> = lines.map(outcome).collect();
    counted.sort();
    counted
}

#[tokio::test(start_paused = true)]
async fn a_batch_leaves_when_it_is_full() {
    let world = world(plan(3, 60_000, 100));
    world.pubsub.resume();
    push(&world, 7);
    let started = Instant::now();
    let batches = world.app.batches(2).await;
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(world.app.sizes(), [3, 3]);
    let batch = batches.first().unwrap();
    assert_eq!(
        (batch.pubsub.as_str(), batch.topic.as_str(), batch.path.as_str()),
        ("orders", "new", "/new")
    );
    let entry = batch.entries.first().unwrap();
    assert!(matches!(&entry.payload, Payload::CloudEvent(json) if json == EVENT));
    assert_eq!(entry.content_type, "application/cloudevents+json");
    assert!(batch.trace.is_some());
    assert_eq!(
        world.broker.shared.outcomes(6).await,
        (1..=6).map(|it| (it, Ack)).collect::<Vec<_>>()
    );
    // The seventh has waited long enough at last.
    world.app.batches(3).await;
    assert_eq!(started.elapsed(), Duration::from_secs(60));
    assert_eq!(world.broker.subscribed.lock().unwrap().first().unwrap().batch, 3);
}

#[tokio::test(start_paused = true)]
async fn a_batch_leaves_when_its_first_message_has_waited() {
    let world = world(plan(0, 500, 100));
    world.pubsub.resume();
    tokio::time::sleep(Duration::from_millis(2_200)).await;
    let started = Instant::now();
    push(&world, 1);
    tokio::time::sleep(Duration::from_millis(300)).await;
    push(&world, 1);
    world.app.batches(1).await;
    assert_eq!(
        (started.elapsed(), world.app.sizes()),
        (Duration::from_millis(500), vec![2])
    );
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_gives_one_at_a_time_is_not_overdrawn() {
    let world = world(plan(100, 500, 1));
    world.pubsub.resume();
    push(&world, 3);
    let started = Instant::now();
    world.app.batches(3).await;
    assert_eq!(world.app.sizes(), [1, 1, 1]);
    assert_eq!(started.elapsed(), Duration::from_millis(1_500));
    assert_eq!(world.broker.shared.most_held(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_next_batch_fills_while_one_is_with_the_app() {
    let world = world(plan(2, 50, 4));
    world
        .app
        .words
        .lock()
        .unwrap()
        .push_back(Words::All(Answer::Waits));
    world.pubsub.resume();
    push(&world, 9);
    world.app.batches(1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.app.sizes(), [2], "one at a time");
    assert_eq!(
        world.broker.shared.held(),
        4,
        "two with the app, two in the next batch"
    );
    world.app.gate.0.add_permits(1);
    let settled = world.broker.shared.outcomes(9).await;
    assert!(settled.is_sorted_by_key(|(token, _)| *token), "in order");
}

#[tokio::test(start_paused = true)]
async fn answers_table() {
    use Words::{All, Are};
    struct Row {
        name: &'static str,
        words: &'static [Words],
        policies: Value,
        dead_letters: bool,
        sizes: &'static [usize],
        settled: &'static [(u64, outrigger_component::pubsub::Outcome)],
        buried: usize,
        counted: &'static [&'static str],
    }
    let retries = json!({
        "policies": {"retries": {"again": {"policy": "constant", "duration": "1s", "maxRetries": 2}}},
        "targets": {"components": {"orders": {"inbound": {"retry": "again"}}}},
    });
    let row = |name, words, sizes, settled, counted| Row {
        name,
        words,
        policies: Value::Null,
        dead_letters: false,
        sizes,
        settled,
        buried: 0,
        counted,
    };
    let rows = [
        row(
            "taken",
            &[Are("sss")],
            &[3],
            &[(1, Ack), (2, Ack), (3, Ack)],
            &["SUCCESS=3"],
        ),
        row(
            "some go back to the broker",
            &[Are("sru")],
            &[3, 2],
            &[(1, Ack), (2, Nack), (3, Nack)],
            &["RETRY=2", "SUCCESS=3"],
        ),
        row(
            "no answer is a retry",
            &[Are("s-s")],
            &[3, 1],
            &[(1, Ack), (3, Ack), (2, Nack)],
            &["RETRY=1", "SUCCESS=3"],
        ),
        row(
            "dropped",
            &[Are("sds")],
            &[3],
            &[(1, Ack), (3, Ack), (2, Ack)],
            &["DROP=1", "SUCCESS=2"],
        ),
        row(
            "a failure is all of them",
            &[All(Answer::Fails)],
            &[3, 3],
            &[(1, Nack), (2, Nack), (3, Nack)],
            &["RETRY=3", "SUCCESS=3"],
        ),
        row(
            "not implemented",
            &[All(Answer::Unimplemented)],
            &[3],
            &[(1, Ack), (2, Ack), (3, Ack)],
            &["DROP=3"],
        ),
        row(
            "refused as a whole",
            &[All(Answer::Is(Outcome::Drop))],
            &[3],
            &[(1, Ack), (2, Ack), (3, Ack)],
            &["DROP=3"],
        ),
        Row {
            policies: retries.clone(),
            ..row(
                "a policy repeats what failed",
                &[Are("srr"), Are("rs"), Are("s")],
                &[3, 2, 1],
                &[(1, Ack), (2, Ack), (3, Ack)],
                &["RETRY=3", "SUCCESS=3"],
            )
        },
        Row {
            policies: retries,
            dead_letters: true,
            buried: 1,
            ..row(
                "what fails to the end is buried",
                &[Are("srs"), Are("r"), Are("r")],
                &[3, 1, 1],
                &[(1, Ack), (3, Ack), (2, Ack)],
                &["DROP=1", "RETRY=2", "SUCCESS=2"],
            )
        },
        Row {
            dead_letters: true,
            buried: 2,
            ..row(
                "dropped and failed are buried",
                &[Are("dsr")],
                &[3],
                &[(2, Ack), (1, Ack), (3, Ack)],
                &["DROP=2", "SUCCESS=1"],
            )
        },
        Row {
            dead_letters: true,
            ..row(
                "not implemented is not buried",
                &[All(Answer::Unimplemented)],
                &[3],
                &[(1, Ack), (2, Ack), (3, Ack)],
                &["DROP=3"],
            )
        },
    ];
    for row in rows {
        let mut plan = plan(3, 100, 100);
        plan.policies = row.policies;
        if row.dead_letters {
            plan.declared.first_mut().unwrap().dead_letter_topic = "dead".to_owned();
        }
        let world = world(plan);
        world.app.words.lock().unwrap().extend(row.words);
        world.pubsub.resume();
        push(&world, 3);
        let settled = world.broker.shared.outcomes(row.settled.len()).await;
        assert_eq!(settled, row.settled, "{}", row.name);
        world.app.batches(row.sizes.len()).await;
        // Until nothing is left to do.
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(world.app.sizes(), row.sizes, "{}", row.name);
        assert_eq!(world.broker.published().len(), row.buried, "{}", row.name);
        assert!(
            world
                .broker
                .published()
                .iter()
                .all(|it| it.topic == "dead" && it.data == EVENT)
        );
        assert_eq!(counted(&world), row.counted, "{}", row.name);
    }
}

#[tokio::test(start_paused = true)]
async fn messages_that_no_subscriber_may_see_stay_out() {
    let mut plan = plan(3, 100, 100);
    let routes = &mut plan.declared.first_mut().unwrap().routes;
    routes.rules = vec![
        serde_json::from_value(json!({"match": "event.kind == 'a'", "path": "/a"})).unwrap(),
        serde_json::from_value(json!({"match": "event.kind == 'b'", "path": "/b"})).unwrap(),
    ];
    routes.default.clear();
    let world = world(plan);
    world.pubsub.resume();
    for text in [
        r#"{"id":"1","kind":"a"}"#,
        r#"{"id":"2","expiration":"2020-01-01T00:00:00Z"}"#,
        r#"{"id":"3","kind":"b"}"#,
        r#"{"id":"4","kind":"c"}"#,
        r#"{"id":"5","kind":"a"}"#,
    ] {
        world.broker.shared.push(message(text));
    }
    let settled = world.broker.shared.outcomes(5).await;
    assert!(settled.iter().all(|(_, outcome)| *outcome == Ack), "{settled:?}");
    let mut seen: Vec<(String, usize)> = world
        .app
        .batches(3)
        .await
        .into_iter()
        .map(|batch| (batch.path, batch.entries.len()))
        .collect();
    seen.sort();
    assert_eq!(
        seen,
        [("/a".to_owned(), 1), ("/a".to_owned(), 1), ("/b".to_owned(), 1)]
    );
    world.broker.shared.push(message("no event"));
    assert_eq!(world.broker.shared.outcomes(6).await.last(), Some(&(6, Nack)));
}

#[tokio::test(start_paused = true)]
async fn raw_payloads_have_no_envelope() {
    let mut plan = plan(1, 100, 100);
    plan.declared.first_mut().unwrap().metadata = [("rawPayload".to_owned(), "true".to_owned())].into();
    let world = world(plan);
    world.pubsub.resume();
    world.broker.shared.push(message("\u{0}bytes"));
    let batches = world.app.batches(1).await;
    let entry = batches.first().unwrap().entries.first().unwrap();
    assert!(matches!(&entry.payload, Payload::Raw(bytes) if bytes == "\u{0}bytes"));
    assert_eq!(entry.content_type, "application/octet-stream");
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_delivered_at_the_end() {
    let world = world(plan(10, 60_000, 100));
    world.pubsub.resume();
    world.pubsub.begun().await;
    push(&world, 2);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.app.sizes().len(), 0);
    world.pubsub.stop(Duration::from_secs(5)).await;
    assert_eq!(world.app.sizes(), [2]);
    assert_eq!(world.broker.shared.outcomes(2).await, [(1, Ack), (2, Ack)]);
}

#[tokio::test(start_paused = true)]
async fn an_end_does_not_wait_for_ever() {
    let world = world(plan(1, 100, 100));
    world
        .app
        .words
        .lock()
        .unwrap()
        .push_back(Words::All(Answer::Hangs));
    world.pubsub.resume();
    push(&world, 3);
    world.app.batches(1).await;
    let started = Instant::now();
    world.pubsub.stop(Duration::from_secs(5)).await;
    assert_eq!(started.elapsed(), Duration::from_secs(5));
    assert_eq!(
        (world.broker.shared.held(), world.broker.shared.waiting().len()),
        (0, 3)
    );
}

#[tokio::test(start_paused = true)]
async fn sizes_are_bounded() {
    let world = world(plan(1_000_000, -5, 100));
    world.pubsub.resume();
    world.pubsub.begun().await;
    assert_eq!(
        world.broker.subscribed.lock().unwrap().first().unwrap().batch,
        1_000
    );
    assert!(
        world
            .bench
            .logged()
            .contains("maxMessagesCount 1000000 of topic new in pubsub orders is taken as 1000")
    );
}
