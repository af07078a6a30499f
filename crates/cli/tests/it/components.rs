//! `outrigger components` and `outrigger explain`, and that docs/components is what they say.

use crate::world::{World, text, until};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

fn json(world: &World, args: &[&str]) -> Value {
    let output = world.outrigger(args);
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn every_type_has_a_page_with_its_options() {
    let world = World::new();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let index = fs::read_to_string(docs.join("components.md")).expect("the index");
    let mut wrong = Vec::new();
    let mut pages = BTreeSet::new();
    for of in json(&world, &["components", "--json"])
        .as_array()
        .expect("a list")
    {
        let kind = of["type"].as_str().expect("a type");
        if !of["aliasOf"].is_null() || !pages.insert(format!("{kind}.md")) {
            continue;
        }
        let table = text(&world.outrigger(&["components", kind, "--markdown"]).stdout);
        let generated = format!("<!-- options -->\n\n{table}\n<!-- /options -->");
        match fs::read_to_string(docs.join(format!("components/{kind}.md"))) {
            Err(error) => wrong.push(format!("docs/components/{kind}.md: {error}")),
            Ok(page) if !page.contains(&generated) => {
                wrong.push(format!(
                    "docs/components/{kind}.md is stale: run `cargo xtask components`"
                ));
            }
            Ok(_) => {}
        }
        if !index.contains(&format!("(components/{kind}.md)")) {
            wrong.push(format!("docs/components.md does not lead to {kind}"));
        }
    }
    for entry in fs::read_dir(docs.join("components")).expect("the pages") {
        let name = entry
            .expect("a page")
            .file_name()
            .into_string()
            .expect("a plain name");
        if !pages.contains(&name) {
            wrong.push(format!(
                "docs/components/{name} is of a type that this build does not have"
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn types_and_their_options_are_shown() {
    let world = World::new();
    let all = text(&world.outrigger(&["components"]).stdout);
    assert!(
        all.contains("pubsub.in-memory") && all.contains("state.sqlite "),
        "{all}"
    );
    let one = text(&world.outrigger(&["components", "state.sqlite"]).stdout);
    assert!(
        one.contains("connectionString (or url)") && one.contains("keyPrefix"),
        "{one}"
    );
    let missing = world.outrigger(&["components", "state.sqlit"]);
    assert_eq!(missing.status.code(), Some(1));
    let said = text(&missing.stderr);
    assert!(said.contains("did you mean state.sqlite"), "{said}");
}

const RESOURCES: &str = "apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: bus}
spec:
  type: pubsub.in-memory
  version: v1
  metadata:
    - {name: concurrency, value: 1}
---
apiVersion: dapr.io/v2alpha1
kind: Subscription
metadata: {name: orders}
spec:
  pubsubname: bus
  topic: placed
  routes:
    rules:
      - {match: event.type == 'big', path: /big}
    default: /orders
  deadLetterTopic: lost
scopes: [shop]
---
apiVersion: dapr.io/v2alpha1
kind: Subscription
metadata: {name: again}
spec:
  pubsubname: bus
  topic: placed
  routes: {default: /again}
---
apiVersion: dapr.io/v1alpha1
kind: Resiliency
metadata: {name: policies}
spec:
  policies:
    retries: {often: {policy: constant, duration: 2s, maxRetries: 5}}
  targets:
    components: {bus: {inbound: {retry: often}}}
";

#[test]
fn a_subscription_is_explained() {
    let world = World::new();
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("all.yaml"), RESOURCES).expect("written");
    let path = folder.path().to_str().expect("a plain name");
    let explain = |name: &str, more: &[&str]| {
        let app = ["--app-id", "shop", "--resources-path", path];
        world.outrigger(&[&["explain", "subscription", name][..], &app[..], more].concat())
    };
    let said = text(&explain("orders", &[]).stdout);
    for expected in [
        "Subscription orders to bus/placed",
        "bus (pubsub.in-memory/v1)",
        "one event is with the app at a time",
        "event.type == 'big' to /big; everything else to /orders",
        "tried 5 more times, 2s apart",
        "topic lost of the same broker",
        "shop: sidecars of one group",
    ] {
        assert!(said.contains(expected), "{expected:?} in {said}");
    }
    let plans: Value = serde_json::from_slice(&explain("bus/placed", &["--json"]).stdout).expect("JSON");
    assert_eq!(plans[0]["name"], "orders");
    assert_eq!(plans[0]["group"], "shop");
    let but = plans[1]["says"]["but"].as_str().unwrap_or_default();
    assert!(but.contains("\"orders\""), "{plans}");
    let missing = explain("nothing", &[]);
    assert_eq!(missing.status.code(), Some(1));
    let said = text(&missing.stderr);
    assert!(said.contains("orders (bus/placed), again (bus/placed)"), "{said}");
    let configuration = folder.path().join("config.yml.txt");
    let denies = "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {name: c}\nspec: {components: {deny: [pubsub.in-memory]}}\n";
    fs::write(&configuration, denies).expect("written");
    let said = text(&explain("orders", &["--config", configuration.to_str().expect("plain")]).stdout);
    assert!(said.contains("denies components of its type"), "{said}");
}

/// What the app itself asks for is known while its sidecar runs, and not when it does not.
#[test]
fn a_running_sidecar_is_asked_what_its_app_wants() {
    const ASKED: &str = r#"[
        {"pubsubname": "bus", "topic": "own", "routes": {"rules": [{"match": "event.type == 'big'", "path": "/big"}], "default": "/own"},
         "metadata": {"rawPayload": "true"}, "deadLetterTopic": "dead"},
        {"pubsubname": "bus", "topic": "placed", "route": "/mine"},
        {"pubsubname": "nowhere", "topic": "own", "route": "/nowhere"}
    ]"#;
    let world = World::new();
    let folder = world.path("resources");
    fs::write(folder.join("all.yaml"), RESOURCES).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    // Both end with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || app(stream.unwrap(), ASKED));
        }
    });
    let explain = |name: &str, more: &[&str]| {
        let app = ["--app-id", "shop", "--resources-path", "resources"];
        let words = [&["explain", "subscription", name][..], &app[..], more].concat();
        world
            .command(&words)
            .env("DAPR_API_TOKEN", "secret")
            .output()
            .unwrap()
    };
    let before = explain("bus/own", &[]);
    assert_eq!(before.status.code(), Some(1));
    let said = text(&before.stderr);
    assert!(said.contains("is known while its sidecar runs"), "{said}");

    let words = ["run", "--no-hub", "--app-id", "shop", "--app-port", &port];
    let words = [&words[..], &["--resources-path", "resources"]].concat();
    let run = world.start_with("shop", &words, &[("DAPR_API_TOKEN", "secret")]);
    let mut said = String::new();
    until(
        "subscription of the app",
        || {
            said = text(&explain("bus/own", &[]).stdout);
            !said.is_empty()
        },
        || run.output(),
    );
    for expected in [
        "Subscription to bus/own",
        "by the app, when its sidecar asked it",
        "bus (pubsub.in-memory/v1)",
        "event.type == 'big' to /big; everything else to /own",
        "tried 5 more times, 2s apart",
        "topic dead of the same broker",
        "shop: sidecars of one group",
    ] {
        assert!(said.contains(expected), "{expected:?} in {said}");
    }
    let plans: Value = serde_json::from_slice(&explain("bus/placed", &["--json"]).stdout).unwrap();
    let kinds: Vec<&str> = plans
        .as_array()
        .unwrap()
        .iter()
        .map(|plan| plan["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["declarative", "declarative", "programmatic"], "{plans}");
    let but = plans[0]["says"]["but"].as_str().unwrap_or_default();
    assert!(
        but.contains("the app itself subscribes to the same topic"),
        "{plans}"
    );
    assert_eq!(plans[2]["says"]["routes"], "everything to /mine");
    let other = text(&explain("nothing", &[]).stderr);
    assert!(
        other.contains("bus/own") && !other.contains("while its sidecar runs"),
        "{other}"
    );
    // Another app's sidecar is none of ours.
    let words = [
        "explain",
        "subscription",
        "bus/own",
        "--app-id",
        "other",
        "-d",
        "resources",
    ];
    assert_eq!(world.code(&words), 1);
}

/// Answers what the app subscribes to, and `200` to everything else.
fn app(stream: TcpStream, asked: &str) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    // A sidecar that only looks whether somebody listens says nothing.
    while stream.read_line(&mut line).is_ok_and(|length| length > 0) {
        let body = if line.starts_with("GET /dapr/subscribe ") {
            asked
        } else {
            ""
        };
        let mut header = String::new();
        while stream.read_line(&mut header).unwrap() > 2 {
            header.clear();
        }
        let length = body.len();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
        stream.get_mut().write_all(answer.as_bytes()).unwrap();
        line.clear();
    }
}
