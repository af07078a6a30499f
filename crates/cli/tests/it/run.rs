//! One app with its sidecar: how they start, and that they end together however one of them ends.

use crate::world::{World, has, send, sidecars, text, until, with_text};
use rustix::process::Signal;
use std::fs;

const RUNNING: &str = "You're up and running! Both Dapr and your app logs will appear here.";

#[test]
fn an_app_finds_its_sidecar_and_its_code_is_ours() {
    let world = World::new();
    let script = "echo id=$APP_ID http=$DAPR_HTTP_PORT grpc=$DAPR_GRPC_PORT; echo aside >&2; sleep 1; exit 3";
    let mut run = world.run("cli-code", script);
    assert_eq!(run.ended(), Some(3), "{}", run.output());
    let output = run.output();
    let line = output
        .lines()
        .find(|line| line.contains("== APP == id="))
        .unwrap_or_else(|| panic!("{output}"));
    assert!(
        line.starts_with("== APP == id=cli-code http="),
        "plain in a pipe: {line}"
    );
    assert!(!line.contains("http= ") && !line.ends_with("grpc="), "{line}");
    for expected in [
        RUNNING,
        "== APP == aside",
        "== DAPR == time=",
        "the app ended with exit code 3",
        "Exited Dapr successfully",
    ] {
        assert!(output.contains(expected), "{expected}: {output}");
    }
    assert!(!output.contains('\x1b'), "{output}");
    assert!(sidecars("cli-code").is_empty(), "the sidecar has ended");
}

#[test]
fn list_sees_it_and_stop_ends_it() {
    let world = World::new();
    let mut run = world.run(
        "cli-stop",
        "trap 'echo bye; exit 0' TERM; echo polite; while :; do sleep 0.05; done",
    );
    run.says(RUNNING);
    run.says("== APP == polite");
    let list = text(&world.outrigger(&["list", "-o", "json"]).stdout);
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let row = list
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["appId"] == "cli-stop")
        .unwrap();
    assert_eq!(row["cliPid"], run.pid());
    assert_eq!(row["daprdPid"], sidecars("cli-stop")[0]);
    assert_eq!(row["command"], "sh -c trap 'echo ...");

    let stop = world.outrigger(&["stop", "--app-id", "cli-stop"]);
    assert!(stop.status.success(), "{}", text(&stop.stdout));
    assert_eq!(run.ended(), Some(0), "stopped on request");
    assert!(run.output().contains("== APP == bye"), "{}", run.output());
    assert!(sidecars("cli-stop").is_empty());
}

#[test]
fn nobody_outlives_a_killed_command() {
    let world = World::new();
    let mut run = world.run("cli-killed", "while :; do sleep 0.05; done # app-of-cli-killed");
    run.says(RUNNING);
    assert!(!with_text("app-of-cli-killed").is_empty());
    run.signal(Signal::KILL);
    run.ended();
    until(
        "end of the sidecar",
        || sidecars("cli-killed").is_empty(),
        || format!("{:?}", sidecars("cli-killed")),
    );
    until(
        "end of the app",
        || with_text("app-of-cli-killed").is_empty(),
        || "it still runs".to_owned(),
    );
}

#[test]
fn a_killed_app_takes_its_sidecar_with_it() {
    let world = World::new();
    let mut run = world.run("cli-app", "kill -9 $$");
    assert_eq!(run.ended(), Some(137), "{}", run.output());
    assert!(
        run.output().contains("the app ended with signal 9"),
        "{}",
        run.output()
    );
    assert!(sidecars("cli-app").is_empty());
}

#[test]
fn a_killed_sidecar_takes_its_app_with_it() {
    let world = World::new();
    let mut run = world.run("cli-sidecar", "while :; do sleep 0.05; done # app-of-cli-sidecar");
    run.says(RUNNING);
    crate::world::send(sidecars("cli-sidecar")[0], Signal::KILL);
    assert_eq!(run.ended(), Some(125), "{}", run.output());
    assert!(
        run.output().contains("the sidecar ended with signal 9"),
        "{}",
        run.output()
    );
    assert!(with_text("app-of-cli-sidecar").is_empty());
}

#[test]
fn a_second_interrupt_kills() {
    let world = World::new();
    let mut run = world.run(
        "cli-twice",
        "trap '' INT TERM; echo deaf; while :; do sleep 0.05; done",
    );
    run.says(RUNNING);
    run.says("== APP == deaf");
    run.signal(Signal::INT);
    run.says("terminated signal received");
    run.signal(Signal::INT);
    assert_eq!(run.ended(), Some(137), "{}", run.output());
    assert!(sidecars("cli-twice").is_empty());
}

#[test]
fn a_sidecar_that_cannot_start_says_why() {
    let world = World::new();
    fs::write(world.path("resources/broken.yaml"), "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: x\nspec:\n  type: state.nonsense\n  version: v1\n").unwrap();
    let mut run = world.run("cli-broken", "echo never");
    assert_eq!(run.ended(), Some(125));
    let output = run.output();
    assert!(
        output.contains("state.nonsense") && output.contains("the sidecar did not start"),
        "{output}"
    );
    assert!(!output.contains("never"), "{output}");
}

/// Kill -9 of the hub costs nothing but a moment; one that was ended on purpose stays away.
#[test]
fn a_hub_that_was_killed_is_started_again() {
    let world = World::new();
    let script = "trap 'exit 0' TERM; while :; do sleep 0.05; done";
    let mut run = world.start(
        "hub-lost",
        &["run", "--app-id", "cli-hub", "--", "sh", "-c", script],
    );
    run.says(RUNNING);
    let hub = || -> u64 {
        let status = text(&world.outrigger(&["status", "-o", "json"]).stdout);
        let status: serde_json::Value = serde_json::from_str(&status).unwrap_or_default();
        status["hub"]["pid"].as_u64().unwrap_or_default()
    };
    let first = hub();
    assert_ne!(first, 0);
    send(u32::try_from(first).unwrap(), Signal::KILL);
    run.says("the hub is there again");
    let second = hub();
    assert!(second != 0 && second != first, "{first} and then {second}");
    let publish = |data| {
        let args = [
            "publish",
            "--publish-app-id",
            "cli-hub",
            "--pubsub",
            "pubsub",
            "--topic",
            "t",
            "--data",
            data,
        ];
        world.code(&args)
    };
    until(
        "a publish that the new hub takes",
        || publish(r#"{"n":1}"#) == 0,
        || run.output(),
    );

    assert_eq!(world.code(&["down", "--hub-only"]), 0);
    run.says("the hub was ended");
    assert_eq!(hub(), 0, "{}", run.output());
    run.signal(Signal::TERM);
    assert_eq!(run.ended(), Some(0), "{}", run.output());
}

#[test]
fn apps_of_two_commands_share_a_hub_without_any_yaml() {
    if !has("python3") {
        return;
    }
    let world = World::new();
    fs::write(world.path("hello.txt"), "hello from an app").unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
        .to_string();
    let server = [
        "run",
        "--app-id",
        "cli-server",
        "--app-port",
        &port,
        "--",
        "python3",
        "-m",
        "http.server",
        "--bind",
        "127.0.0.1",
        &port,
    ];
    let mut server = world.start("server", &server);
    let mut client = world.start(
        "client",
        &["run", "--app-id", "cli-client", "--", "sleep", "1000"],
    );
    server.says("application discovered on port");
    client.says(RUNNING);

    let answer = world.outrigger(&[
        "invoke",
        "--app-id",
        "cli-server",
        "--method",
        "hello.txt",
        "--verb",
        "GET",
    ]);
    assert!(
        text(&answer.stdout).contains("hello from an app"),
        "{}{}",
        text(&answer.stdout),
        text(&answer.stderr)
    );
    let answer = world.outrigger(&[
        "invoke",
        "--app-id",
        "cli-server",
        "--method",
        "none.txt",
        "--verb",
        "GET",
    ]);
    assert_eq!(answer.status.code(), Some(1));
    assert!(
        text(&answer.stderr).contains("status 404"),
        "{}",
        text(&answer.stderr)
    );

    let publish = [
        "publish",
        "-i",
        "cli-client",
        "--pubsub",
        "pubsub",
        "--topic",
        "t/x",
        "--data",
        "{\"a\":1}",
    ];
    let published = world.outrigger(&publish);
    assert!(published.status.success(), "{}", text(&published.stderr));
    let status = world.outrigger(&["status"]);
    assert!(text(&status.stdout).contains("t/x"), "{}", text(&status.stdout));

    let down = world.outrigger(&["down"]);
    assert!(down.status.success(), "{}", text(&down.stdout));
    assert_eq!((server.ended(), client.ended()), (Some(0), Some(0)));
}
