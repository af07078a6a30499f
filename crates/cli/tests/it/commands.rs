//! Commands that need nothing to run.

use crate::world::{World, exists, text};
use std::fs;

#[test]
fn exit_codes() {
    let world = World::new();
    let cases: [(&[&str], i32, &str); 18] = [
        (&["--version"], 0, "outrigger "),
        (&["--help"], 0, "Exit codes"),
        (&[], 2, "Usage"),
        (&["nonsense"], 2, "nonsense"),
        (&["run", "--nonsense"], 2, "--nonsense"),
        (&["run", "-k"], 125, "Kubernetes is not available"),
        (
            &[
                "run",
                "--no-hub",
                "--resources-path",
                "resources",
                "--",
                "no-such-command",
            ],
            127,
            "cannot find the command",
        ),
        (
            &["run", "--no-hub", "--resources-path", "nowhere", "--", "true"],
            125,
            "cannot read the resources",
        ),
        (
            &["run", "--no-hub", "--dapr-http-port", "70000"],
            125,
            "is not a port",
        ),
        (&["run", "-f", "nowhere"], 125, "cannot find the run file"),
        (&["stop"], 2, "nothing to stop"),
        (&["stop", "no-such-app"], 1, "no-such-app"),
        (
            &["invoke", "--app-id", "no-such-app", "--method", "m"],
            1,
            "no sidecar of app",
        ),
        (&["version", "-o", "json"], 0, r#""Runtime version":"1."#),
        (&["demo", "--orders", "0"], 2, "--orders"),
        (&["hub", "--fsync", "never"], 2, "always"),
        (&["daprd", "--version"], 0, "1."),
        (&["down"], 0, "no hub runs"),
    ];
    for (args, code, says) in cases {
        let output = world.outrigger(args);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(says), "{args:?}: {said}");
    }
}

#[test]
fn completion_for_every_shell() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let output = world.outrigger(&["completion", shell]);
        assert!(output.status.success());
        assert!(text(&output.stdout).contains("publish-app-id"), "{shell}");
    }
}

#[test]
fn init_writes_once() {
    let world = World::new();
    assert_eq!(world.code(&["init"]), 0);
    let store = world.path("home/components/statestore.yaml");
    assert!(
        exists(&store) && exists(&world.path("home/config.yaml")) && exists(&world.path("home/bin/daprd"))
    );
    fs::write(&store, "mine").unwrap();
    let again = world.outrigger(&["init"]);
    assert!(text(&again.stdout).contains("kept"), "{}", text(&again.stdout));
    assert_eq!(fs::read_to_string(&store).unwrap(), "mine");
}

#[test]
fn a_second_hub_on_the_same_folder_names_the_first() {
    let world = World::new();
    let mut first = world.start("hub", &["hub", "--idle-after", "0"]);
    first.says("hub is ready");
    let second = world.outrigger(&["hub"]);
    assert_eq!(second.status.code(), Some(1));
    let said = text(&second.stderr);
    assert!(
        said.contains(&format!("held by process {}", first.pid())),
        "{said}"
    );

    let status = world.outrigger(&["status", "-o", "json"]);
    assert!(
        text(&status.stdout).contains(&format!("\"pid\": {}", first.pid())),
        "{}",
        text(&status.stdout)
    );
    assert_eq!(world.code(&["down"]), 0);
    assert_eq!(first.ended(), Some(0));
}
