//! From requests to records: decides offsets, versions and conditions for one frame, against what is committed
//! plus what the same frame already holds.
//!
//! INVARIANT: nothing outside the stage changes before the frame is written. A stage that is thrown away leaves
//! no trace.

use super::{Condition, Failure, Outgoing, Reason, Step, Wrote};
use crate::catalog::Catalog;
use crate::config::Limits;
use crate::kv::{Item, Key, Kv};
use crate::log::Batch;
use crate::log::record::{Change, Cursor, Record, Stored};
use crate::topics::Topics;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What is committed.
pub(super) struct View<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) topics: &'a Topics,
    pub(super) kv: &'a Kv,
    pub(super) limits: &'a Limits,
    /// Sequence number of the frame's first record.
    pub(super) sequence: u64,
    /// Wall clock, milliseconds.
    pub(super) now: u64,
}

/// What one frame will change.
#[derive(Default)]
pub(super) struct Stage {
    pub(super) batch: Batch,
    /// Records for the catalog, in order.
    pub(super) catalog: Vec<Record>,
    pub(super) messages: BTreeMap<u32, Vec<Arc<Stored>>>,
    pub(super) items: HashMap<Key, Option<Item>>,
    new_topics: HashMap<String, u32>,
    new_groups: HashMap<(u32, String), (u32, u64)>,
    /// Holds something that somebody is waiting to be durable.
    pub(super) awaited: bool,
}

impl Stage {
    /// `batch` is empty; it is passed in so that its memory is used again.
    pub(super) fn new(batch: Batch) -> Self {
        Self {
            batch,
            ..Self::default()
        }
    }

    pub(super) fn publish(&mut self, view: &View<'_>, message: Outgoing) -> Result<u64, Failure> {
        let bytes = message.bytes();
        if bytes > view.limits.message_bytes {
            let limit = view.limits.message_bytes;
            let what = format!("a message of {bytes} bytes exceeds the hub's limit of {limit}");
            return Err(Failure::new(Reason::Limit, what));
        }
        let topic = self.topic(view, &message.topic)?;
        let offset = self.next_offset(view, topic);
        let stored = Stored {
            topic,
            offset,
            published: view.now,
            expires: expiry(view.now, message.ttl),
            metadata: message.metadata,
            // What arrived may be a slice of a much larger buffer, and recent messages are kept.
            data: Bytes::copy_from_slice(&message.data),
        };
        self.batch.push_message(&stored);
        self.messages.entry(topic).or_default().push(Arc::new(stored));
        self.awaited = true;
        Ok(offset)
    }

    pub(super) fn write(&mut self, view: &View<'_>, steps: Vec<Step>) -> Result<Wrote, Failure> {
        let version = view.sequence + u64::from(self.batch.records());
        let mut staged: HashMap<Key, Option<Item>> = HashMap::new();
        let mut changes = Vec::with_capacity(steps.len());
        let mut deleted = 0;
        for step in steps {
            let bytes = step.bytes();
            if bytes > view.limits.message_bytes {
                let limit = view.limits.message_bytes;
                let what = format!("a key and value of {bytes} bytes exceed the hub's limit of {limit}");
                return Err(Failure::new(Reason::Limit, what));
            }
            // A plain overwrite need not know what was there.
            let known = step.condition != Condition::None || step.put.is_none();
            let current = match known {
                true => self.current(view, &staged, &step.key)?,
                false => None,
            };
            check(&step, current)?;
            match step.put {
                Some(put) => {
                    let item = Item {
                        version,
                        expires: expiry(view.now, put.ttl),
                        content_type: put.content_type,
                        value: Bytes::copy_from_slice(&put.value),
                    };
                    changes.push(Change::Put {
                        key: step.key.clone(),
                        value: item.value.clone(),
                        content_type: item.content_type.clone(),
                        expires: item.expires,
                    });
                    staged.insert(step.key, Some(item));
                }
                None if current.is_some() => {
                    deleted += 1;
                    changes.push(Change::Delete {
                        key: step.key.clone(),
                    });
                    staged.insert(step.key, None);
                }
                None => {}
            }
        }
        if !changes.is_empty() {
            self.batch.push(&Record::Write(changes));
            self.items.extend(staged);
        }
        // Even one that changes nothing may have seen what this frame is about to write.
        self.awaited = true;
        Ok(Wrote { version, deleted })
    }

    /// Finds or makes a group. Answers topic, group and how far it is.
    pub(super) fn open(
        &mut self,
        view: &View<'_>,
        topic: &str,
        group: String,
        earliest: bool,
    ) -> Result<(u32, u32, Cursor), Failure> {
        let topic = self.topic(view, topic)?;
        self.awaited = true;
        if let Some(id) = view.catalog.group_id(topic, &group)
            && let Some(row) = view.catalog.groups.get(&id)
        {
            return Ok((topic, id, row.cursor.clone()));
        }
        let key = (topic, group);
        if let Some(&(id, next)) = self.new_groups.get(&key) {
            return Ok((
                topic,
                id,
                Cursor {
                    next,
                    open: Vec::new(),
                },
            ));
        }
        let there = view
            .catalog
            .groups
            .values()
            .filter(|row| row.topic == topic)
            .count();
        let fresh = self.new_groups.keys().filter(|(of, _)| *of == topic).count();
        if there + fresh >= view.limits.groups_per_topic {
            let limit = view.limits.groups_per_topic;
            let what = format!("a topic has at most {limit} groups");
            return Err(Failure::new(Reason::Limit, what));
        }
        let count = u32::try_from(self.new_groups.len()).unwrap_or(u32::MAX);
        let id = view.catalog.next_group_id() + count;
        let next = match view.topics.get(topic) {
            Some(topic) if earliest => topic.range().0,
            // The topic is made in this frame: it begins with offset 1.
            None if earliest => 1,
            _ => self.next_offset(view, topic),
        };
        self.record(Record::Group {
            id,
            topic,
            name: key.1.clone(),
            next,
        });
        self.new_groups.insert(key, (id, next));
        Ok((
            topic,
            id,
            Cursor {
                next,
                open: Vec::new(),
            },
        ))
    }

    pub(super) fn advance(&mut self, group: u32, cursor: Cursor) {
        self.record(Record::Cursor { group, cursor });
    }

    pub(super) fn record(&mut self, record: Record) {
        self.batch.push(&record);
        self.catalog.push(record);
    }

    fn topic(&mut self, view: &View<'_>, name: &str) -> Result<u32, Failure> {
        if let Some(id) = view
            .catalog
            .topic_id(name)
            .or_else(|| self.new_topics.get(name).copied())
        {
            return Ok(id);
        }
        if view.catalog.topics.len() + self.new_topics.len() >= view.limits.topics {
            let limit = view.limits.topics;
            let what = format!("the hub has {limit} topics, its limit; topic {name:?} cannot be added");
            return Err(Failure::new(Reason::Limit, what));
        }
        let count = u32::try_from(self.new_topics.len()).unwrap_or(u32::MAX);
        let id = view.catalog.next_topic_id() + count;
        self.record(Record::Topic {
            id,
            name: name.to_owned(),
        });
        self.new_topics.insert(name.to_owned(), id);
        Ok(id)
    }

    fn next_offset(&self, view: &View<'_>, topic: u32) -> u64 {
        let staged = self.messages.get(&topic).and_then(|messages| messages.last());
        match staged {
            Some(last) => last.offset + 1,
            None => view.catalog.topics.get(&topic).map_or(1, |topic| topic.next),
        }
    }

    /// The version a key has now.
    fn current(
        &self,
        view: &View<'_>,
        staged: &HashMap<Key, Option<Item>>,
        key: &Key,
    ) -> Result<Option<u64>, Failure> {
        let item = match staged.get(key).or_else(|| self.items.get(key)) {
            Some(item) => item
                .as_ref()
                .filter(|item| !item.expired(view.now))
                .map(|item| item.version),
            None => view
                .kv
                .get(key, view.now)
                .map_err(|error| Failure::new(Reason::DiskFailed, error.to_string()))?
                .map(|item| item.version),
        };
        Ok(item)
    }
}

fn check(step: &Step, current: Option<u64>) -> Result<(), Failure> {
    let conflict = |message: String| Err(Failure::new(Reason::Conflict, message));
    match (step.condition, current) {
        (Condition::Version(expected), Some(version)) if expected != version => {
            conflict(format!("the etag is {expected}, the stored one is {version}"))
        }
        (Condition::Version(expected), None) => {
            conflict(format!("the etag is {expected}, the key does not exist"))
        }
        (Condition::Absent, Some(version)) => {
            conflict(format!("the key exists already, with etag {version}"))
        }
        _ => Ok(()),
    }
}

fn expiry(now: u64, ttl: u64) -> u64 {
    match ttl {
        0 => 0,
        ttl => now.saturating_add(ttl),
    }
}
