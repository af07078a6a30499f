mod fakes;

use super::{Call, NO_TRACE};
use crate::pubsub::publish::Door;
use fakes::{Answer, Plan, World, world};
use outrigger_channel::app::binding::FollowUp;
use outrigger_component::binding::Invoke;
use outrigger_component::metadata::Metadata;
use outrigger_component::state::Set;
use outrigger_daemon::trace::Context;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);

fn call(binding: &str, operation: &str, data: &str) -> Call {
    Call {
        binding: binding.to_owned(),
        invoke: Invoke {
            operation: operation.to_owned(),
            data: data.to_owned().into(),
            metadata: Metadata::new(),
        },
        carried: Metadata::new(),
        trace: None,
        baggage: None,
        door: Door::Http,
    }
}

/// Lets everything happen that can happen now.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn calls_and_what_they_answer() {
    let world = world(Plan::default()).await;
    for (binding, operation, data, expected) in [
        ("both", "create", "x", Ok("said x")),
        ("both", "delete", "x", Ok("-")),
        ("both", "", "x", Err("operation field is missing from request")),
        (
            "nowhere",
            "create",
            "x",
            Err("couldn't find output binding nowhere"),
        ),
        (
            "both",
            "list",
            "x",
            Err("binding both does not support operation list. supported operations:create delete"),
        ),
        ("both", "create", "broken", Err("it is broken")),
    ] {
        let outcome = world.bindings.invoke(call(binding, operation, data)).await;
        match (outcome, expected) {
            (Ok(None), Ok("-")) => {}
            (Ok(Some(output)), Ok(expected)) => {
                assert_eq!(output.data, expected);
                assert_eq!(output.metadata.get("of"), Some("both"));
            }
            (Err(refused), Err(expected)) => {
                let text = format!("error invoking output binding {binding}: {expected}");
                assert_eq!(
                    (refused.error.code.tag, refused.error.message),
                    ("ERR_INVOKE_OUTPUT_BINDING", text)
                );
                let said = (data == "broken").then_some("no");
                assert_eq!(refused.metadata.get("why"), said, "the resource's words are kept");
            }
            (outcome, expected) => panic!("{binding} {operation} {data}: {outcome:?}, not {expected:?}"),
        }
    }
    let metrics = world.bench.registry.expose();
    for labels in [
        r#"component="both",namespace="",operation="create",success="true""#,
        r#"component="nowhere",namespace="",operation="create",success="false""#,
    ] {
        let line = format!(r#"dapr_component_output_binding_count{{app_id="shop",{labels}}} 1"#);
        assert!(metrics.contains(&line), "{line} is missing in\n{metrics}");
    }
}

#[tokio::test(start_paused = true)]
async fn calls_follow_the_outbound_policy() {
    let world = world(Plan {
        policies: serde_json::json!({
            "policies": {"retries": {"twice": {"policy": "constant", "duration": "1s", "maxRetries": 2}}},
            "targets": {"components": {"both": {"outbound": {"retry": "twice"}}}},
        }),
        ..Plan::default()
    })
    .await;
    assert!(
        world
            .bindings
            .invoke(call("both", "create", "flaky"))
            .await
            .is_ok()
    );
    assert_eq!(world.output.calls().len(), 2);
    let refused = world
        .bindings
        .invoke(call("both", "create", "broken"))
        .await
        .unwrap_err();
    assert_eq!(refused.metadata.get("why"), Some("no"));
    assert_eq!(world.output.calls().len(), 3);
    // Repeating cannot help.
    world
        .bindings
        .invoke(call("both", "create", "invalid"))
        .await
        .unwrap_err();
    assert_eq!(world.output.calls().len(), 1);
}

#[tokio::test]
async fn the_trace_goes_into_the_metadata() {
    let own = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let other = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let trace = Context::from_headers(own, Some("a=1")).unwrap();
    let world = world(Plan::default()).await;
    for (door, given, carried, trace, expected) in [
        (Door::Http, None, None, Some(&trace), own),
        (Door::Http, Some(other), None, Some(&trace), own),
        (Door::Http, None, None, None, NO_TRACE),
        (Door::Grpc, Some(other), None, Some(&trace), other),
        (Door::Grpc, None, Some(other), Some(&trace), other),
        (Door::Grpc, Some(own), Some(other), None, other),
        (Door::Grpc, None, None, None, NO_TRACE),
    ] {
        let mut call = Call {
            door,
            trace: trace.cloned(),
            baggage: Some("b=2".to_owned()),
            ..call("both", "create", "x")
        };
        call.invoke.metadata.extend(given.map(|it| ("traceparent", it)));
        call.invoke.metadata.insert("kept", "1");
        call.carried.extend(carried.map(|it| ("traceparent", it)));
        call.carried.extend([("kept", "2"), ("more", "3")]);
        world.bindings.invoke(call).await.unwrap();
        let seen = world.output.calls().pop().unwrap().metadata;
        let get = |name| seen.get(name);
        assert_eq!(
            get("traceparent"),
            Some(expected),
            "{door:?} {given:?} {carried:?}"
        );
        assert_eq!(get("tracestate"), trace.map(|_| "a=1"));
        assert_eq!(
            [get("baggage"), get("kept"), get("more")],
            [Some("b=2"), Some("1"), Some("3")]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn events_reach_an_app_that_wants_them() {
    let world = world(Plan::default()).await;
    world.input.push("early");
    settle().await;
    assert!(world.app.seen().is_empty(), "the app is not ready");
    world.bindings.resume();
    world.bindings.begun().await;
    let event = world.app.events(1).await.remove(0);
    assert_eq!(
        (&*event.name, &*event.route, &event.data[..]),
        ("both", "/way", &b"early"[..])
    );
    assert_eq!(event.metadata.get("number"), Some("1"));
    assert_eq!(world.input.answered(1).await, ["thanks for early"]);
    let metrics = world.bench.registry.expose();
    let line =
        r#"dapr_component_input_binding_count{app_id="shop",component="both",namespace="",success="true"} 1"#;
    assert!(metrics.contains(line), "{metrics}");

    // Unhealthy: what is held is finished, nothing more is taken.
    world.app.answer([Answer::Waits]);
    world.input.push("held");
    world.app.events(2).await;
    world.bindings.pause();
    world.input.push("later");
    settle().await;
    assert_eq!(world.app.seen().len(), 2);
    world.app.gate.add_permits(1);
    assert_eq!(world.input.answered(2).await[1], "thanks for held");
    settle().await;
    assert_eq!(world.app.seen().len(), 2);
    world.bindings.resume();
    world.app.events(3).await;

    // The end: what is not answered in time stays with its source.
    world.app.answer([Answer::Waits]);
    world.input.push("last");
    world.app.events(4).await;
    world.bindings.stop(PATIENCE).await;
    assert_eq!(
        world.input.answered(4).await[3],
        "error: the event was not handled"
    );
    world.bindings.resume();
    world.input.push("too late");
    settle().await;
    assert_eq!(world.app.seen().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn the_app_is_asked_until_it_answers() {
    for (declared_input, wants, taken, asked) in [
        (false, vec![Ok(true)], true, 1),
        (false, vec![Ok(false)], false, 1),
        (false, vec![Err(()), Err(()), Ok(true)], true, 3),
        (true, vec![Ok(false)], true, 0),
    ] {
        let world = world(Plan {
            declared_input,
            wants,
            ..Plan::default()
        })
        .await;
        world.input.push("e");
        world.bindings.resume();
        world.bindings.begun().await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(world.app.seen().len(), usize::from(taken));
        assert_eq!(world.app.asked(), asked);
        let log = world.bench.logged();
        assert_eq!(
            log.contains("app has not subscribed to binding both."),
            !taken,
            "{log}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_app_that_takes_too_long_to_say_is_asked_again() {
    let world = world(Plan {
        slow_to_say: Duration::from_secs(10),
        ..Plan::default()
    })
    .await;
    world.input.push("e");
    world.bindings.resume();
    world.bindings.begun().await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(world.app.seen().is_empty());
    assert!(world.app.asked() > 1);
    assert!(
        world
            .bench
            .logged()
            .contains("could not ask the app about binding both")
    );
}

#[tokio::test(start_paused = true)]
async fn answers_decide_about_retries() {
    let text = |status: u16| {
        format!("fails to send binding event to http app channel, status code: {status} body: no")
    };
    for (answers, expected, attempts) in [
        (vec![Answer::Status(200)], "thanks for e".to_owned(), 1),
        // Policies count 200 only as a success; in the end any success is one.
        (
            vec![Answer::Status(201), Answer::Status(200)],
            "thanks for e".to_owned(),
            2,
        ),
        (vec![Answer::Status(204); 3], "thanks for e".to_owned(), 3),
        (
            vec![Answer::Status(503), Answer::Status(200)],
            "thanks for e".to_owned(),
            2,
        ),
        (vec![Answer::Status(503); 3], format!("error: {}", text(503)), 3),
        // Not among the codes that the policy repeats.
        (vec![Answer::Status(400)], format!("error: {}", text(400)), 1),
        (
            vec![Answer::Gone; 3],
            "error: error invoking app: app is down".to_owned(),
            3,
        ),
    ] {
        let world = world(Plan {
            policies: serde_json::json!({
                "policies": {"retries": {"twice": {
                    "policy": "constant", "duration": "1s", "maxRetries": 2,
                    "matching": {"httpStatusCodes": "201-204,500-599"},
                }}},
                "targets": {"components": {"both": {"inbound": {"retry": "twice"}}}},
            }),
            ..Plan::default()
        })
        .await;
        world.app.answer(answers.clone());
        world.input.push("e");
        world.bindings.resume();
        assert_eq!(world.input.answered(1).await, [expected], "{answers:?}");
        assert_eq!(world.app.seen().len(), attempts, "{answers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_app_asks_for_is_done() {
    let ask = |to: &[&str], parallel| FollowUp {
        states: Vec::new(),
        store: "s".to_owned(),
        to: to.iter().map(|&to| to.to_owned()).collect(),
        parallel,
        data: "d".into(),
    };
    let with_state = |store: &str| FollowUp {
        states: vec![Set {
            key: "k".to_owned(),
            value: "v".into(),
            ..Set::default()
        }],
        store: store.to_owned(),
        ..ask(&[], false)
    };
    for (asked, calls, logged) in [
        (ask(&["both", "both"], false), 2, None),
        (ask(&["both", "both"], true), 2, None),
        (
            ask(&["nowhere", "both"], false),
            0,
            Some("couldn't find output binding nowhere"),
        ),
        (
            ask(&["nowhere", "both"], true),
            1,
            Some("couldn't find output binding nowhere"),
        ),
        (with_state("s"), 0, None),
        (
            with_state("t"),
            0,
            Some("error saving state from app response: state store t is not found"),
        ),
    ] {
        let shown = format!("{asked:?}");
        let saved = !asked.states.is_empty() && logged.is_none();
        let world = world(Plan::default()).await;
        world.app.answer([Answer::Asks(asked)]);
        world.input.push("e");
        world.bindings.resume();
        assert_eq!(world.input.answered(1).await, ["thanks for e"], "{shown}");
        let made = world.output.calls();
        assert_eq!(made.len(), calls, "{shown}");
        assert!(
            made.iter()
                .all(|call| call.operation == "create" && call.data == "d")
        );
        assert_eq!(
            world.bench.journal.take().contains(&"set shop||k".to_owned()),
            saved,
            "{shown}"
        );
        let log = world.bench.logged();
        assert!(logged.is_none_or(|text| log.contains(text)), "{shown}\n{log}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_ends_or_breaks_is_read_again() {
    let world = world(Plan::default()).await;
    world.input.fail_next();
    world.bindings.resume();
    world.input.push("first");
    world.app.events(1).await;
    world.app.answer([Answer::Panics]);
    world.input.push("second");
    assert_eq!(
        world.input.answered(2).await[1],
        "error: the event was not handled"
    );
    world.input.push("third");
    world.app.events(3).await;
    world.input.end();
    world.input.push("fourth");
    world.app.events(4).await;
    let log = world.bench.logged();
    for line in [
        "error reading from input binding both: cannot read",
        "panicked",
        "ended by itself",
    ] {
        assert!(log.contains(line), "{line} is missing in\n{log}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_events_are_held_than_allowed() {
    let world = world(Plan::default()).await;
    world.app.answer(vec![Answer::Waits; 5]);
    for number in 0..5 {
        world.input.push(&number.to_string());
    }
    world.bindings.resume();
    world.app.events(World::CONCURRENCY).await;
    settle().await;
    assert_eq!(world.app.seen().len(), World::CONCURRENCY);
    world.app.gate.add_permits(5);
    world.app.events(5).await;
}
