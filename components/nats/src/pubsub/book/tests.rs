use super::{Book, Came, Pauses, Tell};
use crate::config::Acks;
use crate::pubsub::reply::{Id, Reply};
use outrigger_component::pubsub::Outcome;
use std::collections::BTreeMap;
use std::time::Duration;

fn reply(sequence: u64, delivered: u64) -> Reply {
    Reply {
        subject: format!("{sequence}/{delivered}"),
        id: Id { sequence, time: 1 },
        delivered,
    }
}

fn ack(subject: &str) -> Option<Tell> {
    Some(Tell::Ack(subject.to_owned()))
}

#[test]
fn messages_come_once_while_they_are_held_and_after_they_are_done() {
    let mut book = Book::new(Acks::Explicit, Pauses::default());
    assert_eq!(book.resume(), None);
    assert_eq!(book.came(reply(1, 1)), Came::New(0));
    assert_eq!(book.came(reply(2, 1)), Came::New(1));
    assert_eq!(book.came(reply(1, 2)), Came::Held);
    let mut working: Vec<&str> = book.in_progress().collect();
    working.sort_unstable();
    assert_eq!(working, ["1/2", "2/1"]);
    assert_eq!(book.resume(), Some(1));
    assert_eq!(
        book.settled(0, Outcome::Ack, false),
        ack("1/2"),
        "on the newer subject"
    );
    assert_eq!(book.settled(0, Outcome::Ack, false), None, "once");
    assert_eq!(book.came(reply(1, 3)), Came::Done(Tell::Ack("1/3".to_owned())));
    assert_eq!(book.resume(), Some(2));
    let other = Reply {
        id: Id { sequence: 1, time: 2 },
        ..reply(1, 1)
    };
    assert_eq!(book.came(other), Came::New(2), "of another stream of that name");
}

#[test]
fn refused_messages_come_again_when_they_should() {
    let seconds = Duration::from_secs;
    let listed = Pauses {
        back_off: vec![seconds(1), seconds(5)],
        ..Pauses::default()
    };
    let fixed = Pauses {
        ack_wait: Some(seconds(3)),
        ..listed.clone()
    };
    for (pauses, delivered, leaving, expected) in [
        (&fixed, 1, false, seconds(3)),
        (&fixed, 9, false, seconds(3)),
        (&fixed, 9, true, Duration::ZERO),
        (&listed, 1, false, seconds(1)),
        (&listed, 2, false, seconds(5)),
        (&listed, u64::MAX, false, seconds(5)),
        (&Pauses::default(), 1, false, Duration::from_millis(100)),
        (&Pauses::default(), 3, false, Duration::from_millis(400)),
        (&Pauses::default(), 60, false, seconds(10)),
    ] {
        let mut book = Book::new(Acks::Explicit, pauses.clone());
        book.came(reply(1, delivered));
        assert_eq!(
            book.settled(0, Outcome::Nack, leaving),
            Some(Tell::Again(format!("1/{delivered}"), expected))
        );
        book.came(reply(2, 1));
        assert_eq!(book.settled(1, Outcome::Ack, false), ack("2/1"));
        assert_eq!(book.resume(), Some(1), "what is refused is not forgotten");
        assert_eq!(book.came(reply(1, 2)), Came::New(2));
    }
}

#[test]
fn a_mark_stops_before_what_is_open() {
    let mut book = Book::new(
        Acks::All,
        Pauses {
            most: 2,
            ..Pauses::default()
        },
    );
    for sequence in 1..=4 {
        book.came(reply(sequence, 1));
    }
    assert_eq!(book.settled(1, Outcome::Ack, false), None);
    assert_eq!(book.settled(0, Outcome::Ack, false), ack("2/1"));
    assert!(matches!(
        book.settled(2, Outcome::Nack, false),
        Some(Tell::Again(..))
    ));
    assert_eq!(book.settled(3, Outcome::Ack, false), None, "3 was refused");
    assert_eq!(
        book.came(reply(4, 2)),
        Came::Held,
        "the server is not told that 3 is done"
    );
    assert_eq!(book.resume(), Some(3));
    assert_eq!(book.came(reply(3, 2)), Came::New(4));
    assert!(matches!(
        book.settled(4, Outcome::Nack, false),
        Some(Tell::Again(..))
    ));
    book.came(reply(5, 1));
    assert_eq!(
        book.settled(5, Outcome::Ack, false),
        ack("5/1"),
        "3 does not come any more"
    );
}

#[test]
fn nothing_is_acknowledged_where_nothing_is_wanted() {
    let mut book = Book::new(Acks::None, Pauses::default());
    for (sequence, outcome) in [(1, Outcome::Ack), (2, Outcome::Nack)] {
        book.came(reply(sequence, 1));
        assert_eq!(book.in_progress().count(), 0);
        assert_eq!(book.settled(sequence - 1, outcome, false), None);
    }
    assert_eq!(book.resume(), Some(3));
}

/// Seeded: whatever order messages come, are refused, lost and settled in, the server is told of all that are done and, under
/// either policy, of no other.
#[test]
fn random_walks() {
    for acks in [Acks::Explicit, Acks::All] {
        for seed in 0..200_u64 {
            let mut state = seed;
            let mut random = |most: u64| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % most
            };
            let mut book = Book::new(acks, Pauses::default());
            // The server's side: what was sent so far, what is acknowledged.
            let mut sent: BTreeMap<u64, u64> = BTreeMap::new();
            let mut known: BTreeMap<u64, bool> = BTreeMap::new();
            let mut hands: Vec<(u64, u64)> = Vec::new();
            let mut done = std::collections::BTreeSet::new();
            for step in 0..400 {
                let closing = step > 300;
                let tell = match random(if closing { 2 } else { 3 }) {
                    0 => {
                        let Some(sequence) = (if closing {
                            known
                                .iter()
                                .find(|(_, told)| !**told)
                                .map(|(sequence, _)| *sequence)
                        } else {
                            Some(random(20) + 1)
                        }) else {
                            continue;
                        };
                        if known.get(&sequence) == Some(&true) {
                            continue;
                        }
                        known.entry(sequence).or_insert(false);
                        let delivered = sent.entry(sequence).or_default();
                        *delivered += 1;
                        match book.came(reply(sequence, *delivered)) {
                            Came::New(token) => {
                                assert!(!done.contains(&sequence), "seed {seed}: {sequence} is done");
                                hands.push((token, sequence));
                                None
                            }
                            Came::Held => None,
                            Came::Done(tell) => Some(tell),
                        }
                    }
                    _ if hands.is_empty() => None,
                    which => {
                        let at = usize::try_from(random(u64::try_from(hands.len()).unwrap())).unwrap();
                        let (token, sequence) = hands.remove(at);
                        let outcome = if which == 2 { Outcome::Nack } else { Outcome::Ack };
                        if outcome == Outcome::Ack {
                            done.insert(sequence);
                        }
                        book.settled(token, outcome, false)
                    }
                };
                let Some(Tell::Ack(subject)) = tell else { continue };
                let sequence: u64 = subject.split_once('/').unwrap().0.parse().unwrap();
                for (known, told) in &mut known {
                    if *known == sequence || (acks == Acks::All && *known < sequence) {
                        *told = true;
                        assert!(
                            done.contains(known),
                            "seed {seed}, step {step}: {known} is not done"
                        );
                    }
                }
            }
            assert!(hands.len() < 20);
        }
    }
}
