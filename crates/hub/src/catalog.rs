//! Which topics and groups exist and how far they are: the part of the state that is small enough to be kept
//! whole in memory and written whole at every checkpoint.
//!
//! Owned by the commit thread. Applying a record twice changes nothing.

use crate::log::record::{Cursor, Record, put_blob, put_count, take_count, take_text};
use bytes::{Buf, BufMut, Bytes};
use std::collections::{BTreeMap, HashMap};

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Catalog {
    pub(crate) topics: BTreeMap<u32, TopicRow>,
    pub(crate) groups: BTreeMap<u32, GroupRow>,
    topic_ids: HashMap<String, u32>,
    group_ids: HashMap<(u32, String), u32>,
    /// Highest group id ever given. A late cursor of a removed group must not meet a new one.
    last_group: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicRow {
    pub(crate) name: String,
    /// Offset of the next message.
    pub(crate) next: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupRow {
    pub(crate) topic: u32,
    pub(crate) name: String,
    pub(crate) cursor: Cursor,
    /// When it last had a member, milliseconds of the wall clock.
    pub(crate) seen: u64,
}

const FORMAT: u32 = 1;

impl Catalog {
    pub(crate) fn topic_id(&self, name: &str) -> Option<u32> {
        self.topic_ids.get(name).copied()
    }

    pub(crate) fn group_id(&self, topic: u32, name: &str) -> Option<u32> {
        // The key is owned; groups are looked up when somebody subscribes, not per message.
        self.group_ids.get(&(topic, name.to_owned())).copied()
    }

    /// Topics are never removed, so their ids only grow.
    pub(crate) fn next_topic_id(&self) -> u32 {
        self.topics.last_key_value().map_or(1, |(id, _)| id + 1)
    }

    pub(crate) fn next_group_id(&self) -> u32 {
        self.last_group + 1
    }

    /// `written` is when the record was, milliseconds.
    pub(crate) fn apply(&mut self, record: &Record, written: u64) {
        match record {
            Record::Topic { id, name } => {
                self.topic_ids.insert(name.clone(), *id);
                self.topics.entry(*id).or_insert_with(|| TopicRow {
                    name: name.clone(),
                    next: 1,
                });
            }
            Record::Message(message) => self.found(message.topic, message.offset),
            Record::Group {
                id,
                topic,
                name,
                next,
            } => {
                self.group_ids.insert((*topic, name.clone()), *id);
                self.last_group = self.last_group.max(*id);
                self.groups.insert(
                    *id,
                    GroupRow {
                        topic: *topic,
                        name: name.clone(),
                        cursor: Cursor {
                            next: *next,
                            open: Vec::new(),
                        },
                        seen: written,
                    },
                );
            }
            Record::Cursor { group, cursor } => {
                if let Some(group) = self.groups.get_mut(group) {
                    group.cursor = cursor.clone();
                    group.seen = written;
                }
            }
            Record::GroupGone { id } => {
                if let Some(group) = self.groups.remove(id) {
                    self.group_ids.remove(&(group.topic, group.name));
                }
            }
            Record::Write(_) => {}
        }
    }

    /// A message of a topic exists.
    pub(crate) fn found(&mut self, topic: u32, offset: u64) {
        if let Some(topic) = self.topics.get_mut(&topic) {
            topic.next = topic.next.max(offset + 1);
        }
    }

    /// The oldest offset of a topic that some group still needs; `None` when no group does.
    pub(crate) fn floor(&self, topic: u32) -> Option<u64> {
        self.groups
            .values()
            .filter(|group| group.topic == topic)
            .map(|group| group.cursor.floor())
            .min()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u32_le(FORMAT);
        put_count(&mut out, self.topics.len());
        for (id, topic) in &self.topics {
            out.put_u32_le(*id);
            out.put_u64_le(topic.next);
            put_blob(&mut out, topic.name.as_bytes());
        }
        out.put_u32_le(self.last_group);
        put_count(&mut out, self.groups.len());
        for (id, group) in &self.groups {
            out.put_u32_le(*id);
            out.put_u32_le(group.topic);
            out.put_u64_le(group.seen);
            put_blob(&mut out, group.name.as_bytes());
            group.cursor.encode(&mut out);
        }
        out
    }

    /// `None` when the bytes are not a catalog of this format.
    pub(crate) fn decode(mut from: Bytes) -> Option<Self> {
        if from.try_get_u32_le().ok()? != FORMAT {
            return None;
        }
        let mut catalog = Self::default();
        for _ in 0..take_count(&mut from, 16)? {
            let id = from.try_get_u32_le().ok()?;
            let next = from.try_get_u64_le().ok()?;
            let name = take_text(&mut from)?;
            catalog.topic_ids.insert(name.clone(), id);
            catalog.topics.insert(id, TopicRow { name, next });
        }
        catalog.last_group = from.try_get_u32_le().ok()?;
        for _ in 0..take_count(&mut from, 32)? {
            let id = from.try_get_u32_le().ok()?;
            let topic = from.try_get_u32_le().ok()?;
            let seen = from.try_get_u64_le().ok()?;
            let name = take_text(&mut from)?;
            let cursor = Cursor::decode(&mut from)?;
            catalog.group_ids.insert((topic, name.clone()), id);
            catalog.groups.insert(
                id,
                GroupRow {
                    topic,
                    name,
                    cursor,
                    seen,
                },
            );
        }
        from.is_empty().then_some(catalog)
    }
}
