use super::{Assignments, Part, Strategy, assign, plan};
use crate::wire::group::Subscription;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

type Members = BTreeMap<String, Subscription>;

/// Members with their topics (one letter each) and what they hold (`a0 b1`).
fn members(of: &[(&str, &str, &str)]) -> Members {
    of.iter()
        .map(|(id, topics, owned)| {
            let subscription = Subscription {
                topics: topics.chars().map(String::from).collect(),
                owned: super::by_topic(parts(owned)),
                generation: 1,
            };
            ((*id).to_owned(), subscription)
        })
        .collect()
}

fn parts(text: &str) -> BTreeSet<Part> {
    text.split_whitespace()
        .map(|part| (part[..1].into(), part[1..].parse().unwrap()))
        .collect()
}

fn topics(of: &[(&str, i32)]) -> BTreeMap<Arc<str>, Vec<i32>> {
    of.iter()
        .map(|(topic, count)| ((*topic).into(), (0..*count).collect()))
        .collect()
}

fn text(assignments: &Assignments) -> Vec<String> {
    let text = |parts: &BTreeSet<Part>| {
        let parts: Vec<String> = parts
            .iter()
            .map(|(topic, number)| format!("{topic}{number}"))
            .collect();
        parts.join(" ")
    };
    assignments.values().map(text).collect()
}

#[test]
fn everybody_gets_their_share() {
    use Strategy::{CooperativeSticky, Range, RoundRobin, Sticky};
    for (strategy, of, expected) in [
        (
            Range,
            vec![("x", "a", ""), ("y", "a", "")],
            vec!["a0 a1 a2", "a3 a4"],
        ),
        (
            RoundRobin,
            vec![("x", "a", ""), ("y", "a", "")],
            vec!["a0 a2 a4", "a1 a3"],
        ),
        (
            Range,
            vec![("x", "a", ""), ("y", "b", ""), ("z", "ab", "")],
            vec!["a0 a1 a2", "b0 b1", "a3 a4 b2"],
        ),
        (
            RoundRobin,
            vec![("x", "a", ""), ("y", "b", "")],
            vec!["a0 a1 a2 a3 a4", "b0 b1 b2"],
        ),
        (Range, vec![("x", "", "")], vec![""]),
        (
            Sticky,
            vec![("x", "a", "a3 a4"), ("y", "a", "a0 a1 a2")],
            vec!["a3 a4", "a0 a1 a2"],
        ),
        // What the newcomer is to get is still held: it comes in the next round.
        (
            CooperativeSticky,
            vec![("x", "a", "a0 a1 a2 a3 a4"), ("y", "a", "")],
            vec!["a0 a1 a2", ""],
        ),
        (
            CooperativeSticky,
            vec![("x", "a", "a0 a1 a2"), ("y", "a", "")],
            vec!["a0 a1 a2", "a3 a4"],
        ),
        // What somebody holds of a topic that they do not read any more is nobody's.
        (
            Sticky,
            vec![("x", "b", "a0"), ("y", "a", "")],
            vec!["b0 b1 b2", "a0 a1 a2 a3 a4"],
        ),
    ] {
        let assignments = assign(strategy, &members(&of), &topics(&[("a", 5), ("b", 3)]));
        assert_eq!(text(&assignments), expected, "{strategy:?} {of:?}");
    }
}

#[test]
fn of_two_claims_the_later_counts() {
    let mut both = members(&[("x", "a", "a0 a1"), ("y", "a", "a0 a1")]);
    let neither = assign(Strategy::Sticky, &both, &topics(&[("a", 2)]));
    assert_eq!(text(&neither), ["a0", "a1"]);
    both.get_mut("y").unwrap().generation = 2;
    let later = assign(Strategy::Sticky, &both, &topics(&[("a", 1)]));
    assert_eq!(text(&later), ["", "a0"]);
}

/// Groups that grow and shrink: everything has an owner, nothing two, nobody has two more than anybody else, what can
/// stay stays, and cooperative groups get there in two rounds.
#[test]
fn groups_in_motion() {
    let mut random = rand::rngs::SmallRng::seed_from_u64(11);
    for strategy in [
        Strategy::Range,
        Strategy::RoundRobin,
        Strategy::Sticky,
        Strategy::CooperativeSticky,
    ] {
        let mut owned: BTreeMap<String, BTreeSet<Part>> = BTreeMap::new();
        for generation in 0..200 {
            let id = format!("m{}", random.random_range(0..6));
            if owned.remove(&id).is_none() || owned.is_empty() {
                owned.insert(id, BTreeSet::new());
            }
            for round in 0..2 {
                let group: Members = owned
                    .iter()
                    .map(|(id, parts)| {
                        let subscription = Subscription {
                            topics: vec!["a".to_owned()],
                            owned: super::by_topic(parts.clone()),
                            generation,
                        };
                        (id.clone(), subscription)
                    })
                    .collect();
                let assignments = assign(strategy, &group, &topics(&[("a", 12)]));
                if strategy.is_cooperative() {
                    for (id, parts) in &assignments {
                        for (other, held) in &owned {
                            assert!(
                                id == other || parts.is_disjoint(held),
                                "{id} gets what {other} holds"
                            );
                        }
                    }
                }
                owned = assignments;
                if !strategy.is_cooperative() || round == 1 {
                    let counts: Vec<usize> = owned.values().map(BTreeSet::len).collect();
                    let (most, least) = (counts.iter().max().unwrap(), counts.iter().min().unwrap());
                    assert!(most - least <= 1, "{strategy:?}: {counts:?}");
                    assert_eq!(counts.iter().sum::<usize>(), 12, "{strategy:?}: each once");
                    let all: BTreeSet<&Part> = owned.values().flatten().collect();
                    assert_eq!(all.len(), 12, "{strategy:?}: nothing twice");
                }
            }
        }
    }
}

#[test]
fn a_member_gives_up_what_is_not_its_own_any_more() {
    let plan = plan(&parts("a0 a1"), &parts("a1 a2"));
    assert_eq!((plan.give_up, plan.take_up), (parts("a0"), parts("a2")));
}

#[test]
fn strategies_have_the_names_of_metadata() {
    for (name, cooperative) in [
        ("range", false),
        ("roundrobin", false),
        ("sticky", false),
        ("cooperative-sticky", true),
    ] {
        let strategy = Strategy::named(name).unwrap();
        assert_eq!((strategy.name(), strategy.is_cooperative()), (name, cooperative));
    }
    assert_eq!(Strategy::named("Range"), None);
}
