//! The demo in small.

use crate::world::{World, text, with_text};
use rustix::process::Signal;

#[test]
fn nothing_is_lost_when_a_service_is_killed() {
    let world = World::new();
    std::fs::create_dir(world.path("tmp")).unwrap();
    let output = world
        .command(&["demo", "--orders", "100", "--rate", "50", "--trace", "--json"])
        .env("TMPDIR", world.path("tmp"))
        .output()
        .unwrap();
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}{}", text(&output.stderr));
    let last: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    let keys: Vec<&String> = last.as_object().unwrap().keys().collect();
    let expected = [
        "orders",
        "billed",
        "notified",
        "shipped",
        "lost",
        "duplicates",
        "killed",
        "p50_ms",
        "p99_ms",
    ];
    assert_eq!(keys, expected);
    for (key, value) in [
        ("orders", 100),
        ("billed", 100),
        ("notified", 100),
        ("shipped", 100),
        ("lost", 0),
        ("killed", 2),
    ] {
        assert_eq!(last[key], value, "{key}: {said}");
    }
    for service in ["order: ", "billing: ", "notification: ", "shipping: "] {
        assert!(
            said.contains(&format!("─ {service}")),
            "the trace has {service}: {said}"
        );
    }
    assert_eq!(
        std::fs::read_dir(world.path("tmp")).unwrap().count(),
        0,
        "its folder is gone"
    );
}

#[test]
fn an_interrupted_demo_leaves_nothing_behind() {
    let world = World::new();
    std::fs::create_dir(world.path("tmp")).unwrap();
    let output = world.path("demo.out");
    let file = std::fs::File::create(&output).unwrap();
    let mut child = world
        .command(&["demo", "--no-kill"])
        .env("TMPDIR", world.path("tmp"))
        .stdout(file)
        .spawn()
        .unwrap();
    let said = || std::fs::read_to_string(&output).unwrap();
    crate::world::until("orders", || said().contains("All ready"), said);
    crate::world::send(child.id(), Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(130), "{}", said());
    assert_eq!(
        std::fs::read_dir(world.path("tmp")).unwrap().count(),
        0,
        "its folder is gone"
    );
    let inside = world.path("tmp").display().to_string();
    crate::world::until(
        "end of its processes",
        || with_text(&inside).is_empty(),
        || format!("{:?}", with_text(&inside)),
    );
}
