use std::time::Duration;

use super::{OnExit, Tasks};
use crate::drain;
use crate::testing::{self, Captured};

fn tasks() -> (Tasks, drain::Trigger, Captured) {
    let (log, lines) = testing::log();
    let (trigger, _) = drain::channel();
    (Tasks::new(&log, trigger.clone()), trigger, lines)
}

const LONG: Duration = Duration::from_secs(60);

/// What a task does, what its end means, whether that shuts the process down, and a line that must appear.
type Row = (
    &'static str,
    OnExit,
    fn() -> Result<(), String>,
    bool,
    Option<&'static str>,
);

#[tokio::test]
async fn ends() {
    let rows: [Row; 6] = [
        ("done", OnExit::Log, || Ok(()), false, None),
        (
            "fails",
            OnExit::Log,
            || Err("no disk".to_owned()),
            false,
            Some("task \\\"fails\\\" failed: no disk"),
        ),
        (
            "panics",
            OnExit::Log,
            || panic!("index {}", 7),
            false,
            Some("task \\\"panics\\\" panicked: index 7"),
        ),
        (
            "stops",
            OnExit::Shutdown,
            || Ok(()),
            true,
            Some("task \\\"stops\\\" is needed and has ended"),
        ),
        (
            "breaks",
            OnExit::Shutdown,
            || Err("gone".to_owned()),
            true,
            Some("task \\\"breaks\\\" failed: gone"),
        ),
        (
            "bursts",
            OnExit::Shutdown,
            || panic!("static"),
            true,
            Some("task \\\"bursts\\\" panicked: static"),
        ),
    ];
    for (name, on_exit, work, shuts_down, line) in rows {
        let (tasks, trigger, lines) = tasks();
        tasks.spawn(name, on_exit, async move { work() });
        tasks.join(LONG).await.unwrap();
        assert_eq!(trigger.fired(), shuts_down, "{name}");
        assert_eq!(tasks.casualty().is_some(), shuts_down, "{name}");
        let text = lines.text();
        match line {
            Some(line) => assert!(text.contains(line), "{name}: {text}"),
            None => assert_eq!(text, "", "{name}"),
        }
    }
}

#[tokio::test]
async fn ending_after_the_shutdown_began_is_no_casualty() {
    let (tasks, trigger, lines) = tasks();
    trigger.fire();
    tasks.spawn("server", OnExit::Shutdown, async {});
    tasks.join(LONG).await.unwrap();
    assert_eq!(tasks.casualty(), None);
    assert_eq!(lines.text(), "");
}

#[tokio::test]
async fn what_does_not_end_is_named_and_aborted() {
    let (tasks, ..) = tasks();
    let (alive, mut aborted) = tokio::sync::mpsc::channel::<()>(1);
    tasks.spawn("stuck", OnExit::Log, async move {
        let _alive = alive;
        std::future::pending::<()>().await;
    });
    tasks.spawn("quick", OnExit::Log, async {});
    tasks.spawner().spawn("connection", std::future::pending::<()>());
    let unfinished = tasks.join(Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(
        unfinished.to_string(),
        "tasks did not end in time and were aborted: stuck, 1 unnamed"
    );
    assert!(aborted.recv().await.is_none());
}

#[tokio::test]
async fn dropping_the_owner_aborts_and_refuses() {
    let (tasks, ..) = tasks();
    let spawner = tasks.spawner();
    let (alive, mut aborted) = tokio::sync::mpsc::channel::<()>(1);
    tasks.spawn("forever", OnExit::Log, async move {
        let _alive = alive;
        std::future::pending::<()>().await;
    });
    drop(tasks);
    assert!(aborted.recv().await.is_none());
    assert!(spawner.named("late", OnExit::Log, async {}).is_none());
}

#[tokio::test]
async fn one_task_can_be_aborted_alone() {
    let (tasks, ..) = tasks();
    let handle = tasks
        .spawner()
        .named("watcher", OnExit::Log, std::future::pending::<()>())
        .unwrap();
    handle.abort();
    tasks.join(LONG).await.unwrap();
}
