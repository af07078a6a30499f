use super::*;
use rand::{RngExt, SeedableRng, rngs::StdRng};

const LIMITS: Limits = Limits {
    messages: 100,
    bytes: 1 << 20,
};

fn message(offset: u64) -> Arc<Stored> {
    expiring(offset, 0)
}

fn expiring(offset: u64, expires: u64) -> Arc<Stored> {
    Arc::new(Stored {
        topic: 1,
        offset,
        published: 0,
        expires,
        metadata: Vec::new(),
        data: bytes::Bytes::from(offset.to_string()),
    })
}

fn at(millis: u64) -> Now {
    Now {
        steady: millis,
        wall: 1_000_000 + millis,
    }
}

fn join(member: Member, window: usize, timeout: u64) -> Event {
    Event::Join {
        member,
        window,
        timeout,
    }
}

fn nack(member: Member, offset: u64, delay: u64) -> Event {
    Event::Nack {
        member,
        offset,
        delay,
    }
}

/// Member, offset, attempt.
type Sent = (u64, u64, u32);

/// Plays events at their times and compares what is sent after each.
fn check(limits: Limits, script: Vec<(u64, Event, &[Sent])>) -> Group {
    let mut group = Group::new(1, limits);
    for (index, (millis, event, expected)) in script.into_iter().enumerate() {
        let shown = format!("step {index}: {event:?}");
        let sent: Vec<Sent> = group
            .step(event, at(millis))
            .into_iter()
            .map(|deliver| (deliver.member, deliver.message.offset, deliver.attempt))
            .collect();
        assert_eq!(sent, expected, "{shown}");
    }
    group
}

#[test]
fn scripts() {
    use Event::{Ack, Leave, Offer, Restore, Skip, Tick};
    // One member that holds one message sees the order; what it gives back comes before what is new.
    let group = check(
        LIMITS,
        vec![
            (0, join(1, 1, 0), &[]),
            (0, Offer(message(1)), &[(1, 1, 1)]),
            (0, Offer(message(2)), &[]),
            (1, nack(1, 1, 0), &[(1, 1, 2)]),
            (2, Ack(1), &[(1, 2, 1)]),
            (3, Ack(2), &[]),
        ],
    );
    assert_eq!(
        group.cursor(),
        Cursor {
            next: 3,
            open: vec![]
        }
    );
    // Members share the work and take turns; who leaves gives back what it held.
    let group = check(
        LIMITS,
        vec![
            (0, join(1, 2, 0), &[]),
            (0, join(2, 2, 0), &[]),
            (0, Offer(message(1)), &[(1, 1, 1)]),
            (0, Offer(message(2)), &[(2, 2, 1)]),
            (0, Offer(message(3)), &[(1, 3, 1)]),
            (0, Leave(1), &[(2, 1, 2)]),
            (0, Ack(2), &[(2, 3, 2)]),
            (0, Leave(2), &[]),
        ],
    );
    assert_eq!(
        group.cursor(),
        Cursor {
            next: 4,
            open: vec![(1, 2), (3, 2)]
        }
    );
    // A delay is kept, by the steady clock; a nack of somebody else's message changes nothing.
    let group = check(
        LIMITS,
        vec![
            (0, join(1, 1, 0), &[]),
            (0, join(2, 1, 0), &[]),
            (0, Offer(message(1)), &[(1, 1, 1)]),
            (5, nack(2, 1, 0), &[]),
            (5, nack(1, 1, 100), &[]),
            (104, Tick, &[]),
            (105, Tick, &[(2, 1, 2)]),
        ],
    );
    assert_eq!(group.deadline(), None);
    // A delivery nobody settles in time goes to another member; the late answer counts, and only once.
    let group = check(
        LIMITS,
        vec![
            (0, join(1, 1, 50), &[]),
            (0, Offer(message(1)), &[(1, 1, 1)]),
            (1, join(2, 1, 50), &[]),
            (49, Tick, &[]),
            (50, Tick, &[(2, 1, 2)]),
            (51, Ack(1), &[]),
            (52, Ack(1), &[]),
            (53, nack(2, 1, 0), &[]),
            (54, Offer(message(2)), &[(1, 2, 1)]),
            (55, Offer(message(3)), &[(2, 3, 1)]),
        ],
    );
    assert_eq!(group.unsettled(), 2);
    // Expired messages are never sent and count as settled, fresh or waiting.
    let group = check(
        LIMITS,
        vec![
            (0, join(1, 1, 0), &[]),
            (0, Offer(expiring(1, 1_000_010)), &[(1, 1, 1)]),
            (0, Offer(expiring(2, 1_000_000)), &[]),
            (5, Offer(expiring(3, 1_000_020)), &[]),
            (10, nack(1, 1, 0), &[(1, 3, 1)]),
        ],
    );
    assert_eq!(group.counts().expired, 2);
    assert_eq!(group.cursor().open, [(3, 1)]);
    // After a restart: what was open comes first, and counts its attempts on.
    check(
        LIMITS,
        vec![
            (0, Skip(10), &[]),
            (0, Restore(message(4), 2), &[]),
            (0, Restore(message(7), 1), &[]),
            (0, join(1, 3, 0), &[(1, 4, 3), (1, 7, 2)]),
            (0, Offer(message(10)), &[(1, 10, 1)]),
        ],
    );
}

#[test]
fn room_is_bounded_by_windows_messages_and_bytes() {
    let limits = Limits {
        messages: 3,
        bytes: 1 << 20,
    };
    let mut group = Group::new(1, limits);
    assert_eq!(group.room(), 0, "nobody is there");
    group.step(join(1, 2, 0), at(0));
    assert_eq!(group.room(), 2);
    group.step(join(2, 100, 0), at(0));
    assert_eq!(group.room(), 3);
    for offset in 1..=3 {
        group.step(Event::Offer(message(offset)), at(0));
    }
    assert_eq!(group.room(), 0);
    // Three that always fail fill the group; one that is settled makes room.
    for (member, offset) in [(1, 1), (2, 2), (1, 3)] {
        group.step(nack(member, offset, 1_000), at(0));
    }
    assert_eq!(group.room(), 0);
    group.step(Event::Ack(2), at(0));
    assert_eq!(group.room(), 1);
    let mut group = Group::new(
        1,
        Limits {
            messages: 10,
            bytes: 100,
        },
    );
    group.step(join(1, 10, 0), at(0));
    assert_eq!(group.room(), 10);
    group.step(Event::Offer(message(1)), at(0));
    assert_eq!(group.room(), 0, "one message always fits, a second does not");
}

/// Members come, go, settle, fail and crash with the group, which goes on from a cursor that is somewhat old.
/// Nothing is skipped, nothing settled-and-logged comes again, and a single patient member sees the order.
#[test]
fn nothing_is_lost_whatever_happens() {
    for seed in 0..400 {
        let mut random = StdRng::seed_from_u64(seed);
        let limits = Limits {
            messages: random.random_range(1..20),
            bytes: 1 << 20,
        };
        let total = random.random_range(1..60);
        let mut group = Group::new(1, limits);
        let mut logged = group.cursor();
        let mut settled_when_logged: BTreeSet<u64> = BTreeSet::new();
        let mut settled: BTreeSet<u64> = BTreeSet::new();
        let mut held: Vec<(Member, u64)> = Vec::new();
        let mut member = 0;
        let mut millis = 0;
        let mut first_sight: Vec<u64> = Vec::new();
        for turn in 0..5_000 {
            millis += random.random_range(0..20);
            // In the end everybody behaves, so that it must come to an end.
            let calm = turn > 2_000;
            let choice = if calm {
                random.random_range(3..8)
            } else {
                random.random_range(0..10)
            };
            let event = match choice {
                0 | 1 => {
                    member += 1;
                    join(
                        member,
                        random.random_range(1..5),
                        [0, 15][random.random_range(0..2)],
                    )
                }
                2 => {
                    let gone = random.random_range(0..=member);
                    held.retain(|(who, _)| *who != gone);
                    Event::Leave(gone)
                }
                3 if group.members() == 0 => {
                    member += 1;
                    join(member, 3, 0)
                }
                3..=4 if group.room() > 0 && group.next() <= total => Event::Offer(message(group.next())),
                5 | 6 if !held.is_empty() => {
                    let (_, offset) = held.remove(random.random_range(0..held.len()));
                    settled.insert(offset);
                    Event::Ack(offset)
                }
                8 if !held.is_empty() => {
                    let (who, offset) = held.remove(random.random_range(0..held.len()));
                    nack(who, offset, random.random_range(0..50))
                }
                9 if random.random_bool(0.1) => {
                    // The hub is killed: it goes on from what was logged.
                    group = Group::new(logged.next, limits);
                    for (offset, attempts) in &logged.open {
                        group.step(Event::Restore(message(*offset), *attempts), at(millis));
                    }
                    held.clear();
                    settled = settled_when_logged.clone();
                    Event::Tick
                }
                _ => Event::Tick,
            };
            for deliver in group.step(event, at(millis)) {
                let offset = deliver.message.offset;
                assert!(!settled.contains(&offset), "seed {seed}: {offset} came again");
                assert_eq!(deliver.message, message(offset), "seed {seed}");
                if deliver.attempt == 1 && first_sight.last().is_none_or(|last| *last < offset) {
                    first_sight.push(offset);
                }
                held.push((deliver.member, offset));
            }
            assert!(group.unsettled() <= limits.messages, "seed {seed}");
            let cursor = group.cursor();
            for offset in 1..cursor.next {
                let open = cursor.open.iter().any(|(open, _)| *open == offset);
                assert!(
                    open || settled.contains(&offset),
                    "seed {seed}: {offset} is forgotten"
                );
            }
            if random.random_bool(0.2) {
                logged = cursor;
                settled_when_logged = settled.clone();
            }
            if calm && settled.len() as u64 == total {
                break;
            }
        }
        assert_eq!(settled.len() as u64, total, "seed {seed}");
        // Whenever an offset was first seen, all before it had been.
        let all: Vec<u64> = (1..=total).collect();
        assert_eq!(first_sight, all, "seed {seed}");
    }
}
