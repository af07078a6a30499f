//! A bounded map that forgets what was used least recently.

use std::collections::{BTreeMap, HashMap};

pub(crate) struct Cache<V> {
    capacity: usize,
    entries: HashMap<String, (V, u64)>,
    /// Keys by the time of their last use.
    order: BTreeMap<u64, String>,
    clock: u64,
}

impl<V: Clone> Cache<V> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            entries: HashMap::new(),
            order: BTreeMap::new(),
            clock: 0,
        }
    }

    /// The value of a key, made if it is not there.
    pub(crate) fn get_or_insert(&mut self, key: &str, make: impl FnOnce() -> V) -> V {
        self.clock += 1;
        if let Some((value, used)) = self.entries.get_mut(key) {
            if let Some(key) = self.order.remove(used) {
                self.order.insert(self.clock, key);
            }
            *used = self.clock;
            return value.clone();
        }
        if self.entries.len() >= self.capacity
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.entries.remove(&oldest);
        }
        let value = make();
        self.order.insert(self.clock, key.to_owned());
        self.entries.insert(key.to_owned(), (value.clone(), self.clock));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::Cache;

    #[test]
    fn forgets_the_least_recently_used() {
        let mut cache = Cache::new(2);
        let mut made = 0;
        let mut get = |key: &str| {
            cache.get_or_insert(key, || {
                made += 1;
                made
            })
        };
        let found: Vec<_> = ["a", "b", "a", "c", "a", "b", "c"].map(&mut get).into();
        assert_eq!(found, [1, 2, 1, 3, 1, 4, 5]);
    }
}
