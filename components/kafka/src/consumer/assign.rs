//! Who of a consumer group gets which partitions. The group's leader computes it for all; no input or output here.
//!
//! `range`, `roundrobin` and `sticky` are what the reference offers, and how members of both get along in one group: with
//! them, everybody gives everything up before the group is distributed anew. With `cooperative-sticky` (KIP-429), members
//! keep what stays theirs and go on with it meanwhile.

use crate::wire::data::ByTopic;
use crate::wire::group::Subscription;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strategy {
    Range,
    RoundRobin,
    Sticky,
    CooperativeSticky,
}

impl Strategy {
    const ALL: [Self; 4] = [
        Self::Range,
        Self::RoundRobin,
        Self::Sticky,
        Self::CooperativeSticky,
    ];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|strategy| strategy.name() == name)
    }

    /// As it is called in metadata and among members.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
            Self::Sticky => "sticky",
            Self::CooperativeSticky => "cooperative-sticky",
        }
    }

    pub(crate) fn is_cooperative(self) -> bool {
        self == Self::CooperativeSticky
    }
}

/// One partition. The topic is shared, since this goes along with each message.
pub(crate) type Part = (Arc<str>, i32);
/// What each member gets, by its id.
pub(crate) type Assignments = BTreeMap<String, BTreeSet<Part>>;

/// Distributes the partitions of `topics`. Members without any get an empty set.
pub(crate) fn assign(
    strategy: Strategy,
    members: &BTreeMap<String, Subscription>,
    topics: &BTreeMap<Arc<str>, Vec<i32>>,
) -> Assignments {
    let mut assignments: Assignments = members.keys().map(|id| (id.clone(), BTreeSet::new())).collect();
    match strategy {
        Strategy::Range => range(members, topics, &mut assignments),
        Strategy::RoundRobin => round_robin(members, topics, &mut assignments),
        Strategy::Sticky => sticky(members, topics, &mut assignments),
        Strategy::CooperativeSticky => {
            sticky(members, topics, &mut assignments);
            hold_back(members, &mut assignments);
        }
    }
    assignments
}

fn wants(member: &Subscription, topic: &str) -> bool {
    member.topics.iter().any(|wanted| wanted == topic)
}

/// Topic by topic, neighbouring partitions to each member; the first members get one more if they cannot be divided.
fn range(
    members: &BTreeMap<String, Subscription>,
    topics: &BTreeMap<Arc<str>, Vec<i32>>,
    assignments: &mut Assignments,
) {
    for (topic, partitions) in topics {
        let takers: Vec<&String> = members
            .iter()
            .filter(|(_, member)| wants(member, topic))
            .map(|(id, _)| id)
            .collect();
        let mut rest = partitions.iter();
        let mut left = partitions.len();
        for (index, taker) in takers.iter().enumerate() {
            let share = left.div_ceil(takers.len() - index);
            left -= share;
            if let Some(parts) = assignments.get_mut(*taker) {
                parts.extend(rest.by_ref().take(share).map(|number| (topic.clone(), *number)));
            }
        }
    }
}

/// One partition after the other to one member after the other.
fn round_robin(
    members: &BTreeMap<String, Subscription>,
    topics: &BTreeMap<Arc<str>, Vec<i32>>,
    assignments: &mut Assignments,
) {
    let mut turn = members.iter().cycle();
    for (topic, partitions) in topics {
        if !members.values().any(|member| wants(member, topic)) {
            continue;
        }
        for number in partitions {
            if let Some((id, _)) = turn.by_ref().find(|(_, member)| wants(member, topic))
                && let Some(parts) = assignments.get_mut(id)
            {
                parts.insert((topic.clone(), *number));
            }
        }
    }
}

/// Everybody keeps what is theirs; what nobody has goes to those with the least, and those with the most give to
/// them until nobody has two more than somebody else who could take one.
fn sticky(
    members: &BTreeMap<String, Subscription>,
    topics: &BTreeMap<Arc<str>, Vec<i32>>,
    assignments: &mut Assignments,
) {
    let owners = owners(members);
    let mut free = Vec::new();
    for (topic, partitions) in topics {
        for number in partitions {
            let part = (topic.clone(), *number);
            let owner = owners
                .get(&part)
                .filter(|id| members.get(**id).is_some_and(|member| wants(member, topic)));
            match owner.and_then(|id| assignments.get_mut(*id)) {
                Some(parts) => {
                    parts.insert(part);
                }
                None => free.push(part),
            }
        }
    }
    for part in free {
        if let Some(id) = least(members, assignments, &part.0)
            && let Some(parts) = assignments.get_mut(&id)
        {
            parts.insert(part);
        }
    }
    while let Some((from, to, part)) = improvement(members, assignments) {
        if let Some(parts) = assignments.get_mut(&from) {
            parts.remove(&part);
        }
        if let Some(parts) = assignments.get_mut(&to) {
            parts.insert(part);
        }
    }
}

/// Who has what. Of two who claim the same, the one of the later generation; a claim of two in the same counts for nobody.
fn owners(members: &BTreeMap<String, Subscription>) -> BTreeMap<Part, &String> {
    let mut owners: BTreeMap<Part, (i32, Option<&String>)> = BTreeMap::new();
    for (id, member) in members {
        for (topic, numbers) in &member.owned {
            for number in numbers {
                let claim = (member.generation, Some(id));
                owners
                    .entry((topic.clone(), *number))
                    .and_modify(|best| match member.generation.cmp(&best.0) {
                        std::cmp::Ordering::Greater => *best = claim,
                        std::cmp::Ordering::Equal => best.1 = None,
                        std::cmp::Ordering::Less => {}
                    })
                    .or_insert(claim);
            }
        }
    }
    owners
        .into_iter()
        .filter_map(|(part, (_, id))| Some((part, id?)))
        .collect()
}

fn least(members: &BTreeMap<String, Subscription>, assignments: &Assignments, topic: &str) -> Option<String> {
    members
        .iter()
        .filter(|(_, member)| wants(member, topic))
        .map(|(id, _)| (assignments.get(id).map_or(0, BTreeSet::len), id))
        .min()
        .map(|(_, id)| id.clone())
}

/// A partition that somebody with at least two less could take.
fn improvement(
    members: &BTreeMap<String, Subscription>,
    assignments: &Assignments,
) -> Option<(String, String, Part)> {
    let mut givers: Vec<(&String, &BTreeSet<Part>)> = assignments.iter().collect();
    givers.sort_by_key(|(_, parts)| std::cmp::Reverse(parts.len()));
    for (from, parts) in givers {
        for part in parts.iter().rev() {
            let to = least(members, assignments, &part.0)?;
            if assignments.get(&to).map_or(0, BTreeSet::len) + 1 < parts.len() {
                return Some((from.clone(), to, part.clone()));
            }
        }
    }
    None
}

/// Nobody gets what somebody else still holds: it is given up first, and distributed when they join again.
fn hold_back(members: &BTreeMap<String, Subscription>, assignments: &mut Assignments) {
    let owners = owners(members);
    for (id, parts) in assignments {
        parts.retain(|part| owners.get(part).is_none_or(|owner| *owner == id));
    }
}

/// What a member does about what it is told to have.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub give_up: BTreeSet<Part>,
    pub take_up: BTreeSet<Part>,
}

pub(crate) fn plan(owned: &BTreeSet<Part>, assigned: &BTreeSet<Part>) -> Plan {
    Plan {
        give_up: owned.difference(assigned).cloned().collect(),
        take_up: assigned.difference(owned).cloned().collect(),
    }
}

/// Grouped as they are written on the wire.
pub(crate) fn by_topic<T>(parts: impl IntoIterator<Item = (Arc<str>, T)>) -> ByTopic<T> {
    let mut grouped: BTreeMap<Arc<str>, Vec<T>> = BTreeMap::new();
    for (topic, part) in parts {
        grouped.entry(topic).or_default().push(part);
    }
    grouped.into_iter().collect()
}

#[cfg(test)]
mod tests;
