//! What becomes of a message, by what the subscriber says of it.

use super::fakes::app::Answer;
use super::fakes::broker::FakeBroker;
use super::fakes::{Plan, counted, document, message, world};
use outrigger_channel::app::Outcome;
use outrigger_component::error::Kind;
use outrigger_component::pubsub::Outcome::{Ack, Nack};
use serde_json::{Value, json};

const DONE: Answer = Answer::Is(Outcome::Success);
const AGAIN: Answer = Answer::Is(Outcome::Retry);
const DROP: Answer = Answer::Is(Outcome::Drop);

fn plan(dead_letters: bool, policies: Value) -> Plan {
    let mut declared = document();
    if dead_letters {
        declared.dead_letter_topic = "dead".to_owned();
    }
    Plan {
        declared: vec![declared],
        policies,
        ..Plan::default()
    }
}

fn retries(times: i32) -> Value {
    json!({
        "policies": {"retries": {"again": {"policy": "constant", "duration": "1s", "maxRetries": times}}},
        "targets": {"components": {"orders": {"inbound": {"retry": "again"}}}},
    })
}

const EVENT: &str =
    r#"{"id":"1","data":"x","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}"#;

#[tokio::test(start_paused = true)]
async fn answers_table() {
    struct Row {
        name: &'static str,
        message: &'static str,
        dead_letters: bool,
        policies: Value,
        answers: &'static [Answer],
        /// What the app saw.
        seen: usize,
        settled: &'static [outrigger_component::pubsub::Outcome],
        buried: usize,
        counted: &'static [&'static str],
    }
    let expired = r#"{"id":"1","expiration":"2020-01-01T00:00:00Z"}"#;
    let row = |name, answers, seen, settled, counted| Row {
        name,
        message: EVENT,
        dead_letters: false,
        policies: Value::Null,
        answers,
        seen,
        settled,
        buried: 0,
        counted,
    };
    let rows = [
        row("taken", &[DONE], 1, &[Ack], &["success/success=1"]),
        row(
            "retry goes back to the broker",
            &[AGAIN, DONE],
            2,
            &[Nack, Ack],
            &["retry/retry=2", "success/success=1"],
        ),
        row(
            "failure goes back to the broker",
            &[Answer::Fails, DONE],
            2,
            &[Nack, Ack],
            &["retry/retry=2", "success/success=1"],
        ),
        row("dropped", &[DROP], 1, &[Ack], &["drop/success=1"]),
        row(
            "not implemented",
            &[Answer::Unimplemented],
            1,
            &[Ack],
            &["drop/drop=1"],
        ),
        Row {
            dead_letters: true,
            ..row(
                "not implemented is not buried",
                &[Answer::Unimplemented],
                1,
                &[Ack],
                &["drop/drop=1"],
            )
        },
        Row {
            dead_letters: true,
            buried: 1,
            ..row("dropped is buried", &[DROP], 1, &[Ack], &["drop/success=1"])
        },
        Row {
            dead_letters: true,
            buried: 1,
            ..row(
                "failure is buried",
                &[Answer::Fails],
                1,
                &[Ack],
                &["drop/drop=1", "retry/retry=1"],
            )
        },
        Row {
            dead_letters: true,
            buried: 1,
            ..row(
                "retry is buried",
                &[AGAIN],
                1,
                &[Ack],
                &["drop/drop=1", "retry/retry=1"],
            )
        },
        Row {
            policies: retries(2),
            ..row(
                "policy",
                &[AGAIN, Answer::Fails, DONE],
                3,
                &[Ack],
                &["retry/retry=2", "success/success=1"],
            )
        },
        Row {
            policies: retries(1),
            ..row(
                "policy exhausted",
                &[AGAIN, AGAIN, DONE],
                3,
                &[Nack, Ack],
                &["retry/retry=3", "success/success=1"],
            )
        },
        Row {
            policies: retries(1),
            dead_letters: true,
            buried: 1,
            ..row(
                "policy exhausted, buried",
                &[AGAIN, AGAIN],
                2,
                &[Ack],
                &["drop/drop=1", "retry/retry=2"],
            )
        },
        Row {
            message: expired,
            ..row("expired", &[], 0, &[Ack], &["drop/drop=1"])
        },
        Row {
            message: expired,
            dead_letters: true,
            buried: 1,
            ..row("expired, buried", &[], 0, &[Ack], &["drop/drop=1"])
        },
        Row {
            message: "no json",
            dead_letters: true,
            buried: 1,
            ..row("unreadable, buried", &[], 0, &[Ack], &["drop/drop=1"])
        },
        Row {
            message: "[]",
            dead_letters: true,
            buried: 1,
            ..row("no object, buried", &[], 0, &[Ack], &["drop/drop=1"])
        },
    ];
    for row in rows {
        let name = row.name;
        let world = world(plan(row.dead_letters, row.policies));
        world.app.answer(row.answers.iter().copied());
        world.broker.shared.push(message(row.message));
        world.pubsub.resume();
        let settled: Vec<_> = world
            .broker
            .shared
            .outcomes(row.settled.len())
            .await
            .into_iter()
            .map(|it| it.1)
            .collect();
        assert_eq!(settled, row.settled, "{name}");
        assert_eq!(world.app.seen(), row.seen, "{name}");
        let buried = world.broker.published();
        assert_eq!(buried.len(), row.buried, "{name}");
        for letter in buried {
            // As it came, not as it was delivered.
            assert_eq!(
                (letter.topic.as_str(), &letter.data[..]),
                ("dead", row.message.as_bytes()),
                "{name}"
            );
        }
        assert_eq!(counted(&world), row.counted, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_may_pick_by_status() {
    // (list, the app's first answer, answers of the app that were waited for)
    let rows = [
        (json!({"httpStatusCodes": "500"}), Answer::Http(500), 2),
        (json!({"httpStatusCodes": "500"}), Answer::Http(503), 1),
        (json!({"httpStatusCodes": "500-599"}), Answer::Http(503), 2),
        // What has no code is repeated whatever the list says.
        (json!({"httpStatusCodes": "500"}), AGAIN, 2),
        (json!({"gRPCStatusCodes": "2"}), Answer::Fails, 2),
    ];
    for (matching, answer, seen) in rows {
        let mut policies = retries(1);
        policies["policies"]["retries"]["again"]["matching"] = matching.clone();
        let world = world(plan(true, policies));
        world.app.answer([answer]);
        world.pubsub.resume();
        world.broker.shared.push(message(EVENT));
        assert_eq!(world.broker.shared.outcomes(1).await, [(1, Ack)]);
        assert_eq!(world.app.seen(), seen, "{matching} {answer:?}");
        assert_eq!(world.broker.published().len(), usize::from(seen == 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_cannot_be_written_is_not_lost() {
    for answer in [DROP, Answer::Fails] {
        let world = world(plan(true, Value::Null));
        world
            .broker
            .refuse
            .lock()
            .unwrap()
            .push_back(Some(Kind::Unavailable));
        world.app.answer([answer, answer]);
        world.pubsub.resume();
        world.broker.shared.push(message(EVENT));
        assert_eq!(world.broker.shared.outcomes(2).await, [(1, Nack), (1, Ack)]);
        assert_eq!(world.broker.published().len(), 1);
        assert!(world.bench.logged().contains(
            "error sending message to dead letter, origin topic: new dead letter topic dead err: "
        ));
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_hangs_is_given_up() {
    let world = world(plan(true, Value::Null));
    world.broker.hanging.lock().unwrap().push("dead".to_owned());
    world.app.answer([DROP]);
    world.pubsub.resume();
    world.broker.shared.push(message(EVENT));
    let began = tokio::time::Instant::now();
    assert_eq!(world.broker.shared.outcomes(1).await, [(1, Nack)]);
    assert!(began.elapsed() >= std::time::Duration::from_secs(30));
    assert!(world.bench.logged().contains("not published within 30s"));
}

#[tokio::test(start_paused = true)]
async fn a_failing_message_does_not_spin() {
    let world = world(plan(false, Value::Null));
    world.app.answer([Answer::Fails; 1000]);
    world.pubsub.resume();
    world.broker.shared.push(message(EVENT));
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    // 50 ms doubling to 2 s: about 35 attempts a minute.
    assert!((20..40).contains(&world.app.seen()), "{}", world.app.seen());
}

/// What waits for its next attempt takes one place, and no more: the broker is polled, and the others go through.
#[tokio::test(start_paused = true)]
async fn a_message_in_its_retries_holds_up_no_other() {
    let policies = json!({
        "policies": {"retries": {"late": {"policy": "constant", "duration": "1h", "maxRetries": 3}}},
        "targets": {"components": {"orders": {"inbound": {"retry": "late"}}}},
    });
    let broker = FakeBroker {
        concurrency: 2,
        ..FakeBroker::default()
    };
    let world = world(Plan {
        broker,
        ..plan(true, policies)
    });
    world.app.answer([AGAIN]);
    world.app.answer([DONE; 21]);
    world.pubsub.resume();
    world.broker.shared.push(message(EVENT));
    world.app.events(1).await;
    let began = tokio::time::Instant::now();
    for _ in 0..20 {
        world.broker.shared.push(message(EVENT));
    }
    let others = world.broker.shared.outcomes(20).await;
    assert!(
        began.elapsed() < std::time::Duration::from_secs(60),
        "{:?}",
        began.elapsed()
    );
    let expected: Vec<_> = (2..=21).map(|token| (token, Ack)).collect();
    assert_eq!(others, expected, "all but the first");
    assert_eq!(world.broker.shared.outcomes(21).await[20], (1, Ack), "in the end");
    assert!(began.elapsed() >= std::time::Duration::from_secs(3600));
    assert_eq!(world.broker.published().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_policys_timeout_cancels_the_attempt() {
    let policies = json!({
        "policies": {"timeouts": {"short": "1s"}},
        "targets": {"components": {"orders": {"inbound": {"timeout": "short"}}}},
    });
    let world = world(plan(true, policies));
    world.app.answer([Answer::Hangs]);
    world.pubsub.resume();
    world.broker.shared.push(message(EVENT));
    assert_eq!(world.broker.shared.outcomes(1).await, [(1, Ack)]);
    assert_eq!(world.broker.published().len(), 1);
}

#[tokio::test]
async fn concurrency_bounds_what_is_held_and_one_keeps_the_order() {
    for concurrency in [1, 3] {
        let broker = FakeBroker {
            concurrency,
            ..FakeBroker::default()
        };
        let world = world(Plan {
            broker,
            declared: vec![document()],
            ..Plan::default()
        });
        world.app.answer([Answer::Waits; 20]);
        for number in 0..20 {
            world
                .broker
                .shared
                .push(message(&format!(r#"{{"id":"{number}"}}"#)));
        }
        world.pubsub.resume();
        world.app.events(concurrency).await;
        tokio::task::yield_now().await;
        assert_eq!(
            (world.app.seen(), world.broker.shared.held()),
            (concurrency, concurrency)
        );
        world.app.gate.0.add_permits(20);
        let settled = world.broker.shared.outcomes(20).await;
        assert!(settled.iter().all(|(_, outcome)| *outcome == Ack));
        assert_eq!(world.broker.shared.most_held(), concurrency);
        if concurrency == 1 {
            assert!(settled.is_sorted_by_key(|(token, _)| *token));
        }
    }
}
