use super::Marks;
use crate::wire::batch::{Found, Record};
use rand::{RngExt as _, SeedableRng as _};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

const PAUSE: Duration = Duration::from_millis(100);

fn found(offset: i64) -> Found {
    Found {
        offset,
        time: 0,
        record: Record::default(),
    }
}

fn marks(depth: usize, offsets: std::ops::Range<i64>) -> Marks {
    let mut marks = Marks::new(offsets.start, true, depth);
    let next = Some(offsets.end);
    marks.fetched(offsets.start, offsets.map(found).collect(), next);
    marks
}

fn take(marks: &mut Marks, now: Instant) -> Option<i64> {
    marks.take(now).map(|found| found.offset)
}

#[tokio::test]
async fn one_at_a_time_and_a_refused_one_keeps_its_place() {
    let mut marks = marks(1, 10..13);
    let now = Instant::now();
    assert_eq!(take(&mut marks, now), Some(10));
    assert_eq!(take(&mut marks, now), None);
    marks.refused(10, now, PAUSE);
    assert_eq!((take(&mut marks, now), marks.due()), (None, Some(now + PAUSE)));
    assert_eq!(marks.uncommitted(), None);
    assert_eq!(take(&mut marks, now + PAUSE), Some(10));
    marks.acknowledged(10);
    assert_eq!(marks.uncommitted(), Some(11));
    marks.committed(11);
    assert_eq!(marks.uncommitted(), None);
    assert_eq!(take(&mut marks, now), Some(11));
}

#[tokio::test]
async fn marks_move_in_order_however_outcomes_come() {
    let mut marks = marks(3, 0..5);
    let now = Instant::now();
    for offset in 0..3 {
        assert_eq!(take(&mut marks, now), Some(offset));
    }
    assert_eq!(take(&mut marks, now), None, "three are in hand");
    marks.acknowledged(2);
    marks.acknowledged(1);
    assert_eq!(marks.mark(), 0);
    assert_eq!(take(&mut marks, now), Some(3));
    marks.refused(0, now, PAUSE);
    assert_eq!(take(&mut marks, now), Some(4));
    assert_eq!(take(&mut marks, now + PAUSE), Some(0));
    marks.acknowledged(0);
    assert_eq!(marks.mark(), 3);
    marks.acknowledged(4);
    marks.acknowledged(3);
    assert_eq!(marks.mark(), 5, "where the next fetch goes on");
}

#[tokio::test]
async fn a_gap_is_passed_when_everything_before_it_is_settled() {
    let mut marks = Marks::new(0, true, 1);
    marks.fetched(0, vec![found(4)], Some(9));
    assert_eq!(marks.mark(), 4);
    let now = Instant::now();
    assert_eq!(take(&mut marks, now), Some(4));
    marks.acknowledged(4);
    assert_eq!(marks.mark(), 9);
    assert_eq!(marks.wanted(1), Some(9));
    marks.fetched(0, vec![found(0)], Some(1));
    assert_eq!(take(&mut marks, now), None, "an answer to an older question");
    marks.jump(9, 20);
    assert_eq!((marks.mark(), marks.wanted(1)), (20, Some(20)));
}

#[tokio::test]
async fn what_is_given_up_hands_out_no_more_and_is_free_once_settled() {
    let mut marks = marks(2, 0..4);
    let now = Instant::now();
    assert_eq!((take(&mut marks, now), take(&mut marks, now)), (Some(0), Some(1)));
    marks.close();
    assert!(marks.is_held());
    marks.refused(1, now, PAUSE);
    marks.acknowledged(0);
    assert!(!marks.is_held());
    assert_eq!(
        (take(&mut marks, now + PAUSE), marks.due(), marks.wanted(9)),
        (None, None, None)
    );
    assert_eq!(marks.uncommitted(), Some(1));
}

#[tokio::test]
async fn a_place_the_group_does_not_know_is_to_be_committed() {
    assert_eq!(Marks::new(7, false, 1).uncommitted(), Some(7));
    assert_eq!(Marks::new(0, false, 1).uncommitted(), Some(0));
    assert_eq!(Marks::new(7, true, 1).uncommitted(), None);
}

/// Whatever happens in which order: the mark is never beyond a message that is not acknowledged, never goes back, and gets to
/// the end.
#[tokio::test]
async fn random_walks() {
    for seed in 0..200 {
        let mut random = rand::rngs::SmallRng::seed_from_u64(seed);
        let depth = random.random_range(1..6);
        let mut marks = marks(depth, 0..30);
        let mut now = Instant::now();
        let mut held = Vec::new();
        let mut done = BTreeSet::new();
        let mut last = 0;
        while done.len() < 30 {
            now += PAUSE / 3;
            if let Some(offset) = take(&mut marks, now) {
                assert!(!done.contains(&offset), "{offset} again");
                held.push(offset);
                assert!(held.len() <= depth);
            }
            if !held.is_empty() && random.random_bool(0.6) {
                let offset = held.swap_remove(random.random_range(0..held.len()));
                if random.random_bool(0.3) {
                    marks.refused(offset, now, PAUSE);
                } else {
                    marks.acknowledged(offset);
                    done.insert(offset);
                }
            }
            let first_open = (0..30).find(|offset| !done.contains(offset)).unwrap_or(30);
            assert_eq!(marks.mark(), first_open, "seed {seed}");
            assert!(marks.mark() >= last);
            last = marks.mark();
        }
    }
}
