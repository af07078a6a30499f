use super::breaker::{Change, Core, Counts, Refusal, Settings, State, Ticket};
use super::retry::{Backoff, Matching, Range, Retry, Schedule, Status};
use super::run::{Ended, Next, Run};
use super::trip::Trip;
use std::time::Duration;
use tokio::time::Instant;

const MS: Duration = Duration::from_millis(1);

fn settings(max_requests: u32, interval: u32, timeout: u32, trip: &str) -> Settings {
    Settings {
        max_requests,
        interval: MS * interval,
        timeout: MS * timeout,
        trip: Trip::compile(trip).unwrap(),
    }
}

/// A script of steps, each `time:action=expectation`; actions: `+` admit and succeed, `-` admit and fail, `a` admit,
/// `s`/`f` the oldest admitted succeeds or fails, `?` look. The expectation is the state afterwards, or the refusal.
fn walk(settings: &Settings, script: &str) {
    let start = Instant::now();
    let mut core = Core::new(settings, start);
    let mut held: Vec<Ticket> = Vec::new();
    for step in script.split_whitespace() {
        let (time, rest) = step.split_once(':').unwrap();
        let (action, expect) = rest.split_once('=').unwrap();
        let now = start + MS * time.parse().unwrap();
        let admitted = match action {
            "+" | "-" | "a" => match core.admit(settings, now) {
                Ok(ticket) => Some(ticket),
                Err(refusal) => {
                    let found = match refusal {
                        Refusal::Open => "open!",
                        Refusal::TooMany => "many!",
                    };
                    assert_eq!(found, expect, "{step} of {script}");
                    continue;
                }
            },
            _ => None,
        };
        match (action, admitted) {
            ("+" | "-", Some(ticket)) => drop(core.settle(ticket, action == "+", settings, now)),
            ("a", Some(ticket)) => held.push(ticket),
            ("s" | "f", _) => drop(core.settle(held.remove(0), action == "s", settings, now)),
            _ => {}
        }
        assert_eq!(core.state(settings, now).0.as_str(), expect, "{step} of {script}");
    }
}

#[test]
fn breaker_walks() {
    for (settings, script) in [
        // By default the sixth failure in a row opens, for 60 s.
        (
            settings(0, 0, 0, ""),
            "0:-=closed 0:-=closed 0:-=closed 0:-=closed 0:-=closed 0:-=open 1:a=open! 60000:a=open! 60001:?=half-open",
        ),
        (
            settings(0, 0, 0, ""),
            "0:-=closed 0:-=closed 0:-=closed 0:-=closed 0:-=closed 0:+=closed 0:-=closed 0:-=closed",
        ),
        // Half-open: one attempt at a time, one success closes, one failure opens again.
        (
            settings(1, 0, 100, "consecutiveFailures >= 2"),
            "0:-=closed 0:-=open 101:a=half-open 101:a=many! 102:s=closed 103:-=closed 103:-=open",
        ),
        (
            settings(1, 0, 100, "consecutiveFailures >= 2"),
            "0:-=closed 0:-=open 101:-=open 150:a=open! 201:a=open! 202:+=closed",
        ),
        // As many successes as allowed attempts.
        (
            settings(2, 0, 100, "totalFailures > 0"),
            "0:-=open 101:a=half-open 101:a=half-open 101:a=many! 101:s=half-open 101:s=closed",
        ),
        (
            settings(2, 0, 100, "totalFailures > 0"),
            "0:-=open 101:+=half-open 102:+=closed",
        ),
        // The interval forgets counts, also those of attempts under way.
        (
            settings(1, 50, 100, "totalFailures > 1"),
            "0:-=closed 51:-=closed 52:-=open",
        ),
        (
            settings(1, 50, 100, "totalFailures > 1"),
            "0:-=closed 1:a=closed 51:f=closed 52:-=closed 52:-=open",
        ),
        // What was admitted before a change does not count after it.
        (
            settings(1, 0, 100, "totalFailures > 0"),
            "0:a=closed 0:a=closed 1:f=open 102:a=half-open 103:f=half-open 104:s=closed",
        ),
        // Ratios, and what cannot be evaluated.
        (
            settings(1, 0, 100, "requests > 3 && totalFailures * 2 >= requests"),
            "0:-=closed 0:-=closed 0:+=closed 0:+=closed 0:-=open",
        ),
        (settings(1, 0, 100, "unknown > 1"), "0:-=closed 0:-=closed"),
        (settings(1, 0, 100, "requests + 1"), "0:-=closed 0:-=closed"),
        (
            settings(1, 0, 100, "requests / (requests - requests) > 0"),
            "0:-=closed 0:-=closed",
        ),
        (settings(1, 0, 100, "true"), "0:+=closed 0:-=open"),
        (settings(1, 0, 100, "totalFailures > 1.5"), "0:-=closed 0:-=open"),
        (
            settings(1, 0, 100, "double(totalFailures) / double(requests) >= 0.6"),
            "0:+=closed 0:-=closed 0:-=open",
        ),
    ] {
        walk(&settings, script);
    }
}

#[test]
fn changes_are_told_once() {
    let settings = settings(1, 0, 10, "totalFailures > 0");
    let start = Instant::now();
    let mut core = Core::new(&settings, start);
    let ticket = core.admit(&settings, start).unwrap();
    let change = |from, to| Some(Change { from, to });
    assert_eq!(core.counts().requests, 1);
    assert_eq!(
        core.settle(ticket, false, &settings, start),
        change(State::Closed, State::Open)
    );
    assert_eq!(core.state(&settings, start + MS), (State::Open, None));
    assert_eq!(
        core.state(&settings, start + MS * 11),
        (State::HalfOpen, change(State::Open, State::HalfOpen))
    );
    assert_eq!(core.state(&settings, start + MS * 12), (State::HalfOpen, None));
}

#[test]
fn trip_expressions() {
    for text in [
        "consecutiveFailures >",
        "1 +",
        "'",
        "((",
        ")",
        "a b",
        "\u{0}",
        "consecutiveFailures > 5)",
    ] {
        assert!(Trip::compile(text).is_err(), "{text:?}");
    }
    for (unit, end) in [
        ("(", "1"),
        ("!", "true"),
        ("-", "1"),
        ("[", "1"),
        ("1+", "1"),
        ("true?1:", "1"),
        ("a.", "a"),
    ] {
        for length in [10, 40, 50, 60, 70, 80, 100, 150, 200, 255, 510, 2000] {
            // Must not overflow the stack, whatever the answer.
            if let Ok(trip) = Trip::compile(&(unit.repeat(length) + end)) {
                trip.trips(&Counts::default());
            }
        }
    }
}

#[test]
fn matching() {
    let range = |first, last| Range { first, last };
    for (text, expect) in [
        ("", Ok(None)),
        ("500", Ok(Some(vec![range(500, 500)]))),
        ("500-599,429", Ok(Some(vec![range(500, 599), range(429, 429)]))),
        (",,", Ok(Some(vec![]))),
        ("100,,599", Ok(Some(vec![range(100, 100), range(599, 599)]))),
        ("99", Err(())),
        ("600", Err(())),
        ("500-", Err(())),
        ("-500", Err(())),
        ("500-400", Err(())),
        ("400-500-600", Err(())),
        ("500 ", Err(())),
        ("x", Err(())),
    ] {
        assert_eq!(
            Matching::parse(text, "").map(|m| m.http).map_err(drop),
            expect,
            "{text:?}"
        );
    }
    assert!(Matching::parse("", "17").is_err());
    let listed = Matching::parse("500-599", "0,14").unwrap();
    let all = Matching::default();
    for (status, by_list, by_none) in [
        (Status::Http(500), true, true),
        (Status::Http(404), false, true),
        (Status::Http(99), false, false),
        (Status::Http(600), false, false),
        (Status::Grpc(14), true, true),
        (Status::Grpc(0), true, true),
        (Status::Grpc(13), false, true),
        (Status::Grpc(17), false, false),
    ] {
        assert_eq!(
            (listed.retries(status), all.retries(status)),
            (by_list, by_none),
            "{status:?}"
        );
    }
}

fn retry(backoff: Backoff, max_retries: Option<u64>) -> Retry {
    Retry {
        backoff,
        max_retries,
        matching: Matching::default(),
    }
}

#[test]
fn schedules() {
    let exponential = |max_interval: u64, max_elapsed: Option<u64>| Backoff::Exponential {
        max_interval: Duration::from_millis(max_interval),
        max_elapsed: max_elapsed.map(Duration::from_millis),
    };
    for (retry, random, expect) in [
        (retry(Backoff::Constant(MS * 7), Some(0)), 0.5, vec![]),
        (retry(Backoff::Constant(MS * 7), Some(2)), 0.5, vec![7, 7]),
        (
            retry(exponential(60_000, None), Some(4)),
            0.5,
            vec![500, 750, 1125, 1687],
        ),
        (retry(exponential(60_000, None), Some(2)), 0.0, vec![250, 375]),
        (retry(exponential(60_000, None), Some(2)), 1.0, vec![750, 1125]),
        (
            retry(exponential(1_000, None), Some(4)),
            0.5,
            vec![500, 750, 1000, 1000],
        ),
        // The first pause is not capped.
        (retry(exponential(100, None), Some(3)), 0.5, vec![500, 100, 100]),
        // 500 + 750 + 1000 + 1000 fit into 3300 ms, another 1000 do not.
        (
            retry(exponential(1_000, Some(3_300)), None),
            0.5,
            vec![500, 750, 1000, 1000],
        ),
    ] {
        let start = Instant::now();
        let mut now = start;
        let mut schedule = Schedule::new(start);
        let mut found = Vec::new();
        while let Some(pause) = schedule.next(&retry, now, random) {
            found.push(u64::try_from(pause.as_millis()).unwrap());
            now += pause;
        }
        assert_eq!(found, expect, "{retry:?}");
    }
}

#[test]
fn runs() {
    let failed = |status, permanent| Ended::Failed { status, permanent };
    let finish = |recovered| Next::Finish { recovered };
    let pause = |first| Next::Pause { length: MS, first };
    let policy = Retry {
        matching: Matching::parse("500", "").unwrap(),
        ..retry(Backoff::Constant(MS), Some(2))
    };
    for (retry, ends, expect) in [
        (None, vec![Ended::Succeeded], finish(false)),
        (None, vec![Ended::TimedOut], finish(false)),
        (Some(&policy), vec![Ended::Succeeded], finish(false)),
        (Some(&policy), vec![failed(None, false)], pause(true)),
        (Some(&policy), vec![failed(None, true)], finish(false)),
        (
            Some(&policy),
            vec![failed(Some(Status::Http(500)), false)],
            pause(true),
        ),
        (
            Some(&policy),
            vec![failed(Some(Status::Http(500)), true)],
            finish(false),
        ),
        (
            Some(&policy),
            vec![failed(Some(Status::Http(404)), false)],
            finish(false),
        ),
        (Some(&policy), vec![Ended::TimedOut], pause(true)),
        (Some(&policy), vec![Ended::Refused(Refusal::Open)], finish(false)),
        (
            Some(&policy),
            vec![Ended::TimedOut, Ended::TimedOut],
            pause(false),
        ),
        (Some(&policy), vec![Ended::TimedOut; 3], finish(false)),
        (
            Some(&policy),
            vec![Ended::TimedOut, Ended::Succeeded],
            finish(true),
        ),
    ] {
        let now = Instant::now();
        let mut run = Run::new(retry, now);
        let mut last = None;
        for (index, end) in ends.iter().enumerate() {
            assert_eq!(run.begin() as usize, index + 1);
            last = Some(run.after(*end, now, 0.5));
        }
        assert_eq!(last, Some(expect), "{ends:?}");
    }
}
