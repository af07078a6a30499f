//! Apps of a run file.

use crate::world::{World, sidecars, text, until};
use std::fs;

fn world(script: &str) -> World {
    let world = World::new();
    for id in ["one", "two"] {
        fs::create_dir(world.path(id)).unwrap();
    }
    let file = format!(
        "version: 1\nname: pair\ncommon:\n  resourcesPath: ./resources\n  env:\n    GREETING: hello\n    WHO: common\n\
         apps:\n- appID: file-one\n  appDirPath: ./one\n  command: [sh, -c, {script:?}]\n  env: {{WHO: one}}\n\
         - appID: file-two\n  appDirPath: ./two\n  command: [sh, -c, {script:?}]\n  daprdLogDestination: console\n  \
         nonsense: 1\n"
    );
    fs::write(world.path("dapr.yaml"), file).unwrap();
    world
}

#[test]
fn every_app_runs_in_its_folder_with_its_environment() {
    let world = world("echo $GREETING $WHO $(basename $PWD); while :; do sleep 0.05; done");
    let mut run = world.start("file", &["run", "--no-hub", "-f", "."]);
    run.says("file-one: You're up and running!");
    run.says("file-two: You're up and running!");
    run.says("== APP - file-one == hello one one");
    run.says("== APP - file-two == hello common two");
    let output = run.output();
    assert!(
        output.contains("unknown key nonsense in apps[1] is ignored"),
        "{output}"
    );
    assert!(
        output.contains("== DAPR - file-two == ") && !output.contains("== DAPR - file-one == "),
        "{output}"
    );

    let list = text(&world.outrigger(&["list", "-o", "json"]).stdout);
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let row = list
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["appId"] == "file-one")
        .unwrap();
    assert!(
        row["runTemplatePath"].as_str().unwrap().ends_with("/dapr.yaml"),
        "{row}"
    );
    assert_eq!(row["runTemplateName"], "pair");
    assert!(
        fs::read_to_string(row["daprdLogPath"].as_str().unwrap())
            .unwrap()
            .contains("level=info")
    );

    let logs = world.outrigger(&["logs", "--app-id", "file-one"]);
    assert_eq!(text(&logs.stdout), "hello one one\n");
    let logs = world.outrigger(&["logs", "--app-id", "file-two", "--of", "daprd"]);
    assert_eq!(logs.status.code(), Some(1), "it goes to the console");

    // One app alone; the other goes on.
    assert_eq!(world.code(&["stop", "file-one"]), 0);
    assert_eq!(sidecars("file-two").len(), 1);
    let stop = world.outrigger(&["stop", "-f", "dapr.yaml"]);
    assert!(stop.status.success(), "{}", text(&stop.stdout));
    assert_eq!(run.ended(), Some(0), "stopped on request");
    until(
        "end of all",
        || sidecars("file-one").is_empty() && sidecars("file-two").is_empty(),
        || run.output(),
    );
    let logs = world.outrigger(&["logs", "-a", "file-two", "-f", "."]);
    assert_eq!(text(&logs.stdout), "hello common two\n", "also afterwards");
}

#[test]
fn the_first_failure_is_the_answer() {
    let world = world("exit $(test $WHO = one && echo 4 || echo 0)");
    let mut run = world.start("file", &["run", "--no-hub", "-f", "dapr.yaml"]);
    assert_eq!(run.ended(), Some(4), "{}", run.output());
}
