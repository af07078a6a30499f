use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, getpid, kill_process};
use tokio::sync::watch;

use super::{Event, Signals};
use crate::drain;
use crate::log::{Config, Format, Level, Log, Output};
use crate::testing;

#[tokio::test]
async fn signals_are_events() {
    let mut signals = Signals::listen().unwrap();
    for (signal, event) in [
        (Signal::HUP, Event::Reload),
        (Signal::TERM, Event::Stop("terminated")),
        (Signal::INT, Event::Stop("interrupt")),
        (Signal::HUP, Event::Reload),
    ] {
        kill_process(getpid(), signal).unwrap();
        assert_eq!(signals.next().await, event);
    }
}

/// Not a test by itself: the process that `two_signals_end_the_process` sends signals to.
#[tokio::test]
#[ignore = "run by two_signals_end_the_process in a process of its own"]
async fn child() {
    let log = Log::open(Config {
        level: Level::Info,
        format: Format::Text,
        output: Output::Stdout,
        app_id: None,
        instance: "i".to_owned(),
        version: "v".to_owned(),
        scope: "s".to_owned(),
    })
    .unwrap();
    let (trigger, watch) = drain::channel();
    let (reloads, mut reloaded) = watch::channel(0);
    let signals = testing::spawn(Signals::listen().unwrap().run(log.clone(), trigger, reloads));
    log.info("listening");
    reloaded.changed().await.unwrap();
    log.info(format_args!("reload {}", *reloaded.borrow()));
    watch.draining().await;
    log.info("draining");
    signals.await.unwrap();
}

struct Process {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "signals::tests::child", "--ignored", "--nocapture"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn wait_for(&mut self, text: &str) {
        let found = self.lines.by_ref().any(|line| line.unwrap().contains(text));
        assert!(found, "{text}");
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone when the test has succeeded.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn two_signals_end_the_process() {
    let mut process = Process::start();
    process.wait_for("msg=listening");
    process.signal(Signal::HUP);
    process.wait_for("msg=\"reload 1\"");
    process.signal(Signal::TERM);
    process
        .wait_for("msg=\"Received signal 'terminated'; beginning shutdown\" instance=i scope=dapr.signals");
    process.wait_for("msg=draining");
    process.signal(Signal::INT);
    process.wait_for("level=fatal msg=\"Received signal 'interrupt' during shutdown; exiting immediately\"");
    assert_eq!(process.child.wait().unwrap().code(), Some(1));
}
