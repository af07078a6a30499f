use super::{CONCURRENCY, Config, Cron};
use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use outrigger_component::Component as _;
use outrigger_component::binding::InputBinding as _;
use outrigger_component::error::Result;
use outrigger_component::setup::Setup;
use outrigger_testkit::setup::setup;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// A cron whose wall clock runs with tokio's from noon on, plus `set` seconds.
fn cron(schedule: &str, set: &Arc<AtomicI64>) -> Result<Cron> {
    let plain = setup(&[("schedule", schedule)]);
    let (began, set) = (Instant::now(), Arc::clone(set));
    let noon: Timestamp = "2026-11-21T12:00:00.25Z".parse().unwrap();
    let clock = move || {
        let passed = SignedDuration::try_from(began.elapsed()).unwrap();
        noon + passed + SignedDuration::from_secs(set.load(Ordering::Relaxed))
    };
    let setup = Setup {
        config: Config {
            schedule: schedule.to_owned(),
        },
        name: plain.name,
        app_id: plain.app_id,
        namespace: plain.namespace,
        metadata: plain.metadata,
        log: plain.log,
        instance: plain.instance,
    };
    Cron::with(setup, Arc::new(clock))
}

fn still() -> Arc<AtomicI64> {
    Arc::default()
}

#[tokio::test(start_paused = true)]
async fn events_come_in_time_and_say_when() {
    let cron = cron("TZ=UTC */20 * * * * *", &still()).unwrap();
    let mut reading = cron.read().await.unwrap();
    assert_eq!(reading.concurrency, CONCURRENCY);
    for expected in [
        "2026-11-21 12:00:20 +0000 UTC",
        "2026-11-21 12:00:40 +0000 UTC",
        "2026-11-21 12:01:00 +0000 UTC",
    ] {
        let event = reading.events.next().await.unwrap();
        assert_eq!(event.metadata.get("readTimeUTC"), Some(expected));
        assert_eq!(event.metadata.get("timeZone"), Some("Local"));
        assert!(event.data.is_empty());
    }
    // Nobody reads for a while: what passed by is gone.
    tokio::time::sleep(Duration::from_secs(65)).await;
    let event = reading.events.next().await.unwrap();
    assert_eq!(
        event.metadata.get("readTimeUTC"),
        Some("2026-11-21 12:02:20 +0000 UTC")
    );
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_counts() {
    let set = still();
    let cron = cron("TZ=UTC 0 13 * * *", &set).unwrap();
    let mut reading = cron.read().await.unwrap();
    let began = Instant::now();
    let (event, ()) = tokio::join!(reading.events.next(), async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        set.store(58 * 60, Ordering::Relaxed);
    });
    assert_eq!(
        event.unwrap().metadata.get("readTimeUTC"),
        Some("2026-11-21 13:00:00 +0000 UTC")
    );
    assert!(
        began.elapsed() < Duration::from_secs(180),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn closing_ends_a_reading_and_dropping_it_stops_it() {
    let cron = cron("@every 1s", &still()).unwrap();
    let mut first = cron.read().await.unwrap();
    assert!(first.events.next().await.is_some());
    drop(first);
    let mut second = cron.read().await.unwrap();
    cron.close().await;
    assert!(second.events.next().await.is_none());
}

#[tokio::test]
async fn schedules_that_cannot_be() {
    for (schedule, expected) in [
        ("", "schedule not set"),
        (
            "* * *",
            "invalid schedule format '* * *': expected 5 to 6 fields, found 3: [* * *]",
        ),
    ] {
        let error = cron(schedule, &still()).err().unwrap();
        assert_eq!(error.to_string(), expected);
    }
    let never = cron("0 0 31 2 *", &still()).unwrap();
    let mut reading = never.read().await.unwrap();
    let waited = tokio::time::timeout(Duration::from_millis(50), reading.events.next()).await;
    assert!(waited.is_err());
}
