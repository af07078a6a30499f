use super::{Answers, Lane, Limits, MOST_BATCHES, Told};
use crate::failure::Failure;
use crate::wire::code::Code;
use std::time::Duration;
use tokio::time::Instant;

const PAUSE: Duration = Duration::from_millis(10);

fn lane(bytes: usize) -> Lane<u32> {
    let mut lane = Lane::new(Limits {
        bytes,
        retries: 2,
        watched: true,
    });
    assert!(lane.ask_identity());
    assert!(!lane.ask_identity(), "asked once");
    lane.identified(9, 0);
    lane
}

fn push(lane: &mut Lane<u32>, records: std::ops::Range<u32>) {
    for record in records {
        lane.push(record, 1);
    }
}

/// Name, sequence and records of the next batch.
fn next(lane: &mut Lane<u32>, now: Instant) -> Option<(u64, i32, Vec<u32>)> {
    let next = lane.next(now)?;
    Some((next.name, next.stamp.sequence, next.records.to_vec()))
}

fn told(lane: &mut Lane<u32>, name: u64, told: Told) -> Vec<(u32, bool)> {
    fine(lane.told(name, told, Instant::now(), |_| PAUSE))
}

fn fine(answers: Answers<u32>) -> Vec<(u32, bool)> {
    answers
        .into_iter()
        .map(|(record, outcome)| (record, outcome.is_ok()))
        .collect()
}

fn again() -> Told {
    Told::Again(Failure::NoLeader("moved".to_owned()))
}

fn later() -> Instant {
    Instant::now() + PAUSE * 2
}

#[tokio::test]
async fn batches_are_numbered_in_order_and_bounded() {
    let mut lane = lane(2);
    push(&mut lane, 0..20);
    let now = Instant::now();
    for (sequence, first) in [(0, 0), (2, 2), (4, 4), (6, 6), (8, 8)] {
        let (_, number, records) = next(&mut lane, now).unwrap();
        assert_eq!((number, records), (sequence, vec![first, first + 1]));
    }
    assert_eq!(MOST_BATCHES, 5);
    assert_eq!(next(&mut lane, now), None, "as many as the broker remembers");
    assert_eq!(told(&mut lane, 1, Told::Written), [(0, true), (1, true)]);
    assert_eq!(next(&mut lane, now), Some((6, 10, vec![10, 11])));
}

#[tokio::test]
async fn what_failed_is_sent_again_under_its_numbers_when_nothing_is_under_way() {
    let mut lane = lane(1);
    push(&mut lane, 0..4);
    let now = Instant::now();
    for _ in 0..3 {
        next(&mut lane, now).unwrap();
    }
    assert_eq!(told(&mut lane, 1, again()), []);
    assert_eq!(next(&mut lane, later()), None, "two are under way");
    assert_eq!(told(&mut lane, 3, again()), []);
    assert_eq!(told(&mut lane, 2, Told::Written), [(1, true)]);
    assert_eq!(next(&mut lane, now), None, "rests");
    assert!(lane.until().is_some());
    assert_eq!(next(&mut lane, later()), Some((1, 0, vec![0])));
    assert_eq!(next(&mut lane, later()), Some((3, 2, vec![2])));
    assert_eq!(next(&mut lane, later()), Some((4, 3, vec![3])));
}

#[tokio::test]
async fn what_can_never_be_written_leaves_no_gap() {
    let mut lane = lane(1);
    push(&mut lane, 0..3);
    let now = Instant::now();
    for _ in 0..3 {
        next(&mut lane, now).unwrap();
    }
    let never = Told::Never(Failure::code("t", Code(10)));
    assert_eq!(told(&mut lane, 1, never), []);
    let gap = || Told::Forgotten(Failure::code("t", Code::OUT_OF_ORDER_SEQUENCE));
    assert_eq!(told(&mut lane, 2, gap()), []);
    assert_eq!(told(&mut lane, 3, gap()), [(0, false)]);
    assert_eq!(next(&mut lane, later()), None, "who are we now");
    assert!(lane.is_ready(later()) && lane.ask_identity());
    lane.identified(10, 0);
    assert_eq!(next(&mut lane, later()), Some((2, 0, vec![1])));
    assert_eq!(next(&mut lane, later()), Some((3, 1, vec![2])));
}

#[tokio::test]
async fn a_batch_that_is_too_large_goes_in_halves() {
    let mut lane = lane(4);
    push(&mut lane, 0..4);
    let (name, ..) = next(&mut lane, Instant::now()).unwrap();
    let too_large = || Told::TooLarge(Failure::code("t", Code::MESSAGE_TOO_LARGE));
    assert_eq!(told(&mut lane, name, too_large()), []);
    assert!(lane.ask_identity());
    lane.identified(12, 0);
    assert_eq!(next(&mut lane, later()), Some((1, 0, vec![0, 1])));
    assert_eq!(next(&mut lane, later()), Some((2, 2, vec![2, 3])));
    assert_eq!(told(&mut lane, 2, Told::Written), [(2, true), (3, true)]);
    assert_eq!(told(&mut lane, 1, too_large()), []);
    lane.ask_identity();
    lane.identified(13, 0);
    let (name, _, records) = next(&mut lane, later()).unwrap();
    assert_eq!(records, [0]);
    assert_eq!(
        told(&mut lane, name, too_large()),
        [(0, false)],
        "alone it is too large for good"
    );
}

#[tokio::test]
async fn a_producer_that_was_forgotten_gets_another_identity() {
    let mut lane = lane(1);
    push(&mut lane, 0..1);
    let (name, ..) = next(&mut lane, Instant::now()).unwrap();
    let forgotten = Told::Forgotten(Failure::code("t", Code::UNKNOWN_PRODUCER_ID));
    assert_eq!(told(&mut lane, name, forgotten), []);
    assert!(lane.ask_identity());
    lane.identified(11, 0);
    assert_eq!(lane.next(later()).unwrap().stamp.producer, 11);
}

#[tokio::test]
async fn attempts_come_to_an_end() {
    let mut lane = lane(1);
    push(&mut lane, 0..1);
    for attempt in 0..3 {
        let (name, sequence, _) = next(&mut lane, Instant::now() + PAUSE * 9).unwrap();
        assert_eq!(sequence, 0);
        let answers = told(&mut lane, name, again());
        assert_eq!(answers.len(), usize::from(attempt == 2), "attempt {attempt}");
    }
    assert!(lane.is_idle());
    push(&mut lane, 1..2);
    assert!(lane.ask_identity(), "nobody knows whether the number was used");
}

#[tokio::test]
async fn who_cannot_be_reached_is_given_up_on() {
    let mut lane = lane(10);
    push(&mut lane, 0..2);
    let away = Failure::NoLeader("away".to_owned());
    for _ in 0..2 {
        assert_eq!(fine(lane.missed(&away, Instant::now(), |_| PAUSE)), []);
        assert!(!lane.is_ready(Instant::now()) && lane.is_ready(later()));
    }
    assert_eq!(
        fine(lane.missed(&away, Instant::now(), |_| PAUSE)),
        [(0, false), (1, false)]
    );
    push(&mut lane, 2..3);
    let refused = Failure::Invalid("no".to_owned());
    assert_eq!(
        fine(lane.missed(&refused, Instant::now(), |_| PAUSE)),
        [(2, false)]
    );
}

#[tokio::test]
async fn numbers_wrap() {
    assert_eq!(super::after(i32::MAX - 1, 1), i32::MAX);
    assert_eq!(super::after(i32::MAX, 1), 0);
    assert_eq!(super::after(i32::MAX, 3), 2);
}
