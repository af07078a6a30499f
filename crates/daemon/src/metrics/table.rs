//! Values by a fixed number of label values: read without a lock, bounded in size.
//!
//! Readers take a snapshot of an open-addressed table and compare in place, so that a hit costs a hash and a pointer
//! load. Adding an entry copies the table of pointers, which happens at most as often as the table may have entries.

use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use hashbrown::{DefaultHashBuilder, HashTable};

/// What free-form labels read in the series that all further values share.
const OTHER: &str = "other";
/// Shared series may differ in labels from closed sets; once there are this many, all their labels read `other`.
const SHARED: usize = 128;

pub(super) struct Table<V, const N: usize> {
    hasher: DefaultHashBuilder,
    entries: ArcSwap<Entries<V, N>>,
    /// Held while adding.
    adding: Mutex<()>,
    limit: usize,
    /// Which labels take any value.
    open: [bool; N],
}

type Entries<V, const N: usize> = HashTable<Arc<Entry<V, N>>>;

pub(super) struct Entry<V, const N: usize> {
    hash: u64,
    labels: [Box<str>; N],
    pub(super) value: V,
}

impl<V, const N: usize> Table<V, N> {
    pub(super) fn new(limit: usize, open: [bool; N]) -> Self {
        Self {
            hasher: DefaultHashBuilder::default(),
            entries: ArcSwap::from_pointee(HashTable::new()),
            adding: Mutex::new(()),
            limit,
            open,
        }
    }

    /// Calls `then` with the value for these labels, made by `make` if there is none yet. When the table is full, both
    /// get to see the labels and value of a shared entry.
    pub(super) fn with<R>(
        &self,
        labels: [&str; N],
        make: impl FnOnce([&str; N]) -> V,
        then: impl FnOnce(&V) -> R,
    ) -> R {
        let hash = self.hasher.hash_one(labels);
        if let Some(entry) = find(&self.entries.load(), hash, labels) {
            return then(&entry.value);
        }
        self.miss(labels, make, then)
    }

    pub(super) fn entries(&self) -> Vec<Arc<Entry<V, N>>> {
        self.entries.load().iter().cloned().collect()
    }

    #[cold]
    fn miss<R>(&self, labels: [&str; N], make: impl FnOnce([&str; N]) -> V, then: impl FnOnce(&V) -> R) -> R {
        let mut shared = labels;
        for (label, open) in shared.iter_mut().zip(self.open) {
            if open {
                *label = OTHER;
            }
        }
        // From the last choice to the first: what does not fit goes one step coarser.
        let candidates = [
            (labels, self.limit),
            (shared, self.limit + SHARED),
            ([OTHER; N], usize::MAX),
        ];
        for (labels, limit) in candidates {
            let hash = self.hasher.hash_one(labels);
            // A full table stays full, and its shared entries are found without the lock.
            let entries = self.entries.load();
            if let Some(entry) = find(&entries, hash, labels) {
                return then(&entry.value);
            }
            if entries.len() >= limit {
                continue;
            }
            let adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
            // Since then someone else may have added it, or taken the last place.
            let entries = self.entries.load();
            if let Some(entry) = find(&entries, hash, labels) {
                return then(&entry.value);
            }
            if entries.len() >= limit {
                continue;
            }
            let entry = Arc::new(Entry {
                hash,
                labels: labels.map(Box::from),
                value: make(labels),
            });
            let mut next = Entries::clone(&entries);
            next.insert_unique(hash, Arc::clone(&entry), |entry| entry.hash);
            self.entries.store(Arc::new(next));
            drop(adding);
            return then(&entry.value);
        }
        unreachable!("the last candidate has no limit")
    }
}

fn find<'a, V, const N: usize>(
    entries: &'a Entries<V, N>,
    hash: u64,
    labels: [&str; N],
) -> Option<&'a Arc<Entry<V, N>>> {
    entries.find(hash, |entry| {
        entry
            .labels
            .iter()
            .zip(labels)
            .all(|(ours, theirs)| **ours == *theirs)
    })
}
