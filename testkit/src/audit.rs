//! Sequence numbers: what was promised, what came, and whether anything is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Events by their number.
#[derive(Debug, Default)]
pub struct Events {
    acknowledged: BTreeSet<u64>,
    /// The ids under which each came, once per delivery.
    delivered: BTreeMap<u64, Vec<String>>,
    /// Events that came for the first time after one with a higher number.
    reordered: usize,
    /// Acknowledged and not yet delivered.
    missing: usize,
}

/// What became of the events.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub acknowledged: usize,
    /// Different events that came, acknowledged or not.
    pub delivered: usize,
    /// Deliveries beyond the first of each event.
    pub duplicates: usize,
    /// Acknowledged and never delivered.
    pub lost: Vec<u64>,
    /// Delivered several times, under different ids.
    pub renamed: Vec<u64>,
    /// Came for the first time after one with a higher number.
    pub reordered: usize,
}

impl Events {
    pub fn acknowledged(&mut self, number: u64) {
        if self.acknowledged.insert(number) && !self.delivered.contains_key(&number) {
            self.missing += 1;
        }
    }

    pub fn delivered(&mut self, number: u64, id: impl Into<String>) {
        let highest = self.delivered.last_key_value().map(|(highest, _)| *highest);
        if !self.delivered.contains_key(&number) {
            self.reordered += usize::from(highest > Some(number));
            self.missing -= usize::from(self.acknowledged.contains(&number));
        }
        self.delivered.entry(number).or_default().push(id.into());
    }

    pub fn verdict(&self) -> Verdict {
        let lost = self
            .acknowledged
            .iter()
            .filter(|number| !self.delivered.contains_key(number));
        let renamed = self
            .delivered
            .iter()
            .filter(|(_, ids)| ids.iter().any(|id| Some(id) != ids.first()));
        Verdict {
            acknowledged: self.acknowledged.len(),
            delivered: self.delivered.len(),
            duplicates: self.delivered.values().map(|ids| ids.len() - 1).sum(),
            lost: lost.copied().collect(),
            renamed: renamed.map(|(number, _)| *number).collect(),
            reordered: self.reordered,
        }
    }

    /// How many of those that were acknowledged have not come.
    pub fn missing(&self) -> usize {
        self.missing
    }

    /// How many different ones came.
    pub fn distinct(&self) -> usize {
        self.delivered.len()
    }
}

impl Verdict {
    /// # Panics
    /// When anything was lost or came under a second id.
    pub fn check(&self) {
        assert!(self.lost.is_empty(), "lost: {:?}", self.lost);
        assert!(
            self.renamed.is_empty(),
            "delivered again under another id: {:?}",
            self.renamed
        );
    }

    /// Adds what became of other events.
    pub fn add(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.delivered += other.delivered;
        self.duplicates += other.duplicates;
        self.lost.extend(other.lost);
        self.renamed.extend(other.renamed);
        self.reordered += other.reordered;
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} events acknowledged, {} delivered, {} duplicates, {} lost, {} reordered",
            self.acknowledged,
            self.delivered,
            self.duplicates,
            self.lost.len(),
            self.reordered
        )
    }
}

/// The last value of each key that a single writer wrote one after the other.
#[derive(Debug, Default)]
pub struct Writes {
    keys: BTreeMap<String, Key>,
}

#[derive(Debug, Default)]
struct Key {
    acknowledged: Option<u64>,
    /// Attempted after the last acknowledged one, with an unknown outcome.
    unknown: BTreeSet<u64>,
}

impl Writes {
    /// A write that was answered with success.
    pub fn acknowledged(&mut self, key: &str, value: u64) {
        let key = self.keys.entry(key.to_owned()).or_default();
        key.acknowledged = Some(value);
        key.unknown.clear();
    }

    /// A write without an answer, or with a failure: it may have been done or not.
    pub fn unknown(&mut self, key: &str, value: u64) {
        self.keys.entry(key.to_owned()).or_default().unknown.insert(value);
    }

    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(String::as_str)
    }

    /// Keys with an acknowledged write.
    pub fn count(&self) -> usize {
        self.keys
            .values()
            .filter(|key| key.acknowledged.is_some())
            .count()
    }

    /// What is wrong with the value that was read.
    pub fn wrong(&self, name: &str, read: Option<u64>) -> Option<String> {
        let key = self.keys.get(name)?;
        let right = read == key.acknowledged || read.is_some_and(|read| key.unknown.contains(&read));
        (!right).then(|| {
            format!(
                "{name} is {read:?}, and should be {:?} or one of {:?}",
                key.acknowledged, key.unknown
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Events, Verdict, Writes};

    #[test]
    fn finds_what_is_missing_doubled_and_renamed() {
        let mut events = Events::default();
        for number in [1, 2, 3, 4] {
            events.acknowledged(number);
        }
        for (number, id) in [
            (1, "a"),
            (2, "b"),
            (2, "b"),
            (4, "d"),
            (4, "e"),
            (9, "never acknowledged"),
            (8, "late"),
        ] {
            events.delivered(number, id);
        }
        let verdict = events.verdict();
        assert_eq!((events.missing(), events.distinct()), (1, 5));
        assert_eq!(
            verdict,
            Verdict {
                acknowledged: 4,
                delivered: 5,
                duplicates: 2,
                lost: vec![3],
                renamed: vec![4],
                reordered: 1,
            }
        );
        assert!(std::panic::catch_unwind(|| verdict.check()).is_err());
        Events::default().verdict().check();
    }

    #[test]
    fn a_write_is_there_or_a_later_one_with_unknown_outcome() {
        let mut writes = Writes::default();
        writes.acknowledged("k", 1);
        writes.unknown("k", 2);
        writes.unknown("new", 3);
        assert_eq!(writes.count(), 1);
        for (key, read, fine) in [
            ("k", Some(1), true),
            ("k", Some(2), true),
            ("k", Some(3), false),
            ("k", None, false),
            ("new", None, true),
            ("new", Some(3), true),
            ("new", Some(4), false),
        ] {
            assert_eq!(writes.wrong(key, read).is_none(), fine, "{key} {read:?}");
        }
        writes.acknowledged("k", 5);
        assert!(writes.wrong("k", Some(2)).is_some());
    }
}
