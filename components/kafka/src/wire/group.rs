//! Requests of a member of a consumer group to the coordinator, and what members tell each other through it.

use super::data::{ByTopic, milliseconds};
use super::{Malformed, Put, Request, Take};
use bytes::Bytes;
use std::time::Duration;

/// JoinGroup v4.
pub(crate) struct Join<'a> {
    pub group: &'a str,
    pub session_timeout: Duration,
    pub rebalance_timeout: Duration,
    /// Empty at first.
    pub member: &'a str,
    pub strategy: &'a str,
    pub subscription: &'a [u8],
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joined {
    pub code: i16,
    pub generation: i32,
    pub leader: String,
    pub member: String,
    /// Id and subscription; of the leader only.
    pub members: Vec<(String, Bytes)>,
}

const CONSUMER: &str = "consumer";

impl Request for Join<'_> {
    const API: i16 = 11;
    const VERSION: i16 = 4;
    type Answer = Joined;

    fn put(&self, to: &mut Put) {
        to.text(self.group);
        to.i32(milliseconds(self.session_timeout));
        to.i32(milliseconds(self.rebalance_timeout));
        to.text(self.member);
        to.text(CONSUMER);
        to.length(1);
        to.text(self.strategy);
        to.bytes(self.subscription);
    }

    fn take(from: &mut Take) -> Result<Joined, Malformed> {
        let (_throttled, code, generation) = (from.i32()?, from.i16()?, from.i32()?);
        let _strategy = from.text()?;
        Ok(Joined {
            code,
            generation,
            leader: from.text()?,
            member: from.text()?,
            members: from.array(|from| Ok((from.text()?, from.bytes()?)))?,
        })
    }
}

/// SyncGroup v1: the leader says who gets what, everybody learns it.
pub(crate) struct Sync<'a> {
    pub group: &'a str,
    pub generation: i32,
    pub member: &'a str,
    pub assignments: Vec<(String, Bytes)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Synced {
    pub code: i16,
    pub assignment: Bytes,
}

impl Request for Sync<'_> {
    const API: i16 = 14;
    const VERSION: i16 = 1;
    type Answer = Synced;

    fn put(&self, to: &mut Put) {
        to.text(self.group);
        to.i32(self.generation);
        to.text(self.member);
        to.array(&self.assignments, |to, (member, assignment)| {
            to.text(member);
            to.bytes(assignment);
        });
    }

    fn take(from: &mut Take) -> Result<Synced, Malformed> {
        let _throttled = from.i32()?;
        Ok(Synced {
            code: from.i16()?,
            assignment: from.bytes()?,
        })
    }
}

/// Heartbeat v1.
pub(crate) struct Heartbeat<'a> {
    pub group: &'a str,
    pub generation: i32,
    pub member: &'a str,
}

impl Request for Heartbeat<'_> {
    const API: i16 = 12;
    const VERSION: i16 = 1;
    type Answer = i16;

    fn put(&self, to: &mut Put) {
        to.text(self.group);
        to.i32(self.generation);
        to.text(self.member);
    }

    fn take(from: &mut Take) -> Result<i16, Malformed> {
        let _throttled = from.i32()?;
        from.i16()
    }
}

/// LeaveGroup v1.
pub(crate) struct Leave<'a> {
    pub group: &'a str,
    pub member: &'a str,
}

impl Request for Leave<'_> {
    const API: i16 = 13;
    const VERSION: i16 = 1;
    type Answer = i16;

    fn put(&self, to: &mut Put) {
        to.text(self.group);
        to.text(self.member);
    }

    fn take(from: &mut Take) -> Result<i16, Malformed> {
        let _throttled = from.i32()?;
        from.i16()
    }
}

/// OffsetCommit v2.
pub(crate) struct Commit<'a> {
    pub group: &'a str,
    pub generation: i32,
    pub member: &'a str,
    /// Partition and the next offset to be read.
    pub marks: ByTopic<(i32, i64)>,
}

impl Request for Commit<'_> {
    const API: i16 = 8;
    const VERSION: i16 = 2;
    /// Partition and code.
    type Answer = ByTopic<(i32, i16)>;

    fn put(&self, to: &mut Put) {
        to.text(self.group);
        to.i32(self.generation);
        to.text(self.member);
        // How long to keep them: as the broker is configured.
        to.i64(-1);
        to.array(&self.marks, |to, (topic, marks)| {
            to.text(topic);
            to.array(marks, |to, (partition, offset)| {
                to.i32(*partition);
                to.i64(*offset);
                to.text("");
            });
        });
    }

    fn take(from: &mut Take) -> Result<Self::Answer, Malformed> {
        from.array(|from| Ok((from.name()?, from.array(|from| Ok((from.i32()?, from.i16()?)))?)))
    }
}

/// OffsetFetch v2: what the group has committed.
pub(crate) struct Committed<'a> {
    pub group: &'a str,
    pub of: ByTopic<i32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offset {
    pub partition: i32,
    /// -1 if nothing was committed.
    pub offset: i64,
    pub code: i16,
}

impl Request for Committed<'_> {
    const API: i16 = 9;
    const VERSION: i16 = 2;
    type Answer = (i16, ByTopic<Offset>);

    fn put(&self, to: &mut Put) {
        to.text(self.group);
        to.array(&self.of, |to, (topic, partitions)| {
            to.text(topic);
            to.array(partitions, |to, partition| to.i32(*partition));
        });
    }

    fn take(from: &mut Take) -> Result<Self::Answer, Malformed> {
        let topics = from.array(|from| {
            let topic = from.name()?;
            let offsets = from.array(|from| {
                let (partition, offset, _metadata) = (from.i32()?, from.i64()?, from.text_or_none()?);
                Ok(Offset {
                    partition,
                    offset,
                    code: from.i16()?,
                })
            })?;
            Ok((topic, offsets))
        })?;
        Ok((from.i16()?, topics))
    }
}

/// What a member says of itself when it joins (`ConsumerProtocolSubscription`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub topics: Vec<String>,
    /// What it holds.
    pub owned: ByTopic<i32>,
    /// As of which generation it holds it; -1 for none.
    pub generation: i32,
}

impl Subscription {
    /// In version 2 of the format. `sticky` puts what is held where members of the strategy `sticky` look for it, too.
    pub(crate) fn bytes(&self, sticky: bool) -> Bytes {
        let mut put = Put::default();
        put.i16(2);
        put.array(&self.topics, |to, topic| to.text(topic));
        if sticky {
            let mut user = Put::default();
            put_partitions(&mut user, &self.owned);
            user.i32(self.generation);
            put.bytes(&user.0);
        } else {
            put.bytes(&[]);
        }
        put_partitions(&mut put, &self.owned);
        put.i32(self.generation);
        put.0.freeze()
    }

    /// # Errors
    /// When the bytes are no subscription.
    pub(crate) fn take(bytes: Bytes) -> Result<Self, Malformed> {
        let mut from = Take(bytes);
        let version = from.i16()?;
        let topics = from.array(Take::text)?;
        let user = from.bytes()?;
        let mut this = Self {
            topics,
            owned: Vec::new(),
            generation: -1,
        };
        if version >= 1 {
            this.owned = take_partitions(&mut from)?;
        }
        if version >= 2 {
            this.generation = from.i32()?;
        }
        // Members of the strategy `sticky` that speak the first version of the format.
        if this.owned.is_empty() && !user.is_empty() {
            let mut user = Take(user);
            if let Ok(owned) = take_partitions(&mut user) {
                this.owned = owned;
                this.generation = user.i32().unwrap_or(-1);
            }
        }
        Ok(this)
    }
}

/// What a member gets (`ConsumerProtocolAssignment`).
pub(crate) fn assignment(of: &ByTopic<i32>) -> Bytes {
    let mut put = Put::default();
    put.i16(0);
    put_partitions(&mut put, of);
    put.bytes(&[]);
    put.0.freeze()
}

/// # Errors
/// When the bytes are no assignment.
pub(crate) fn take_assignment(bytes: Bytes) -> Result<ByTopic<i32>, Malformed> {
    // A member that gets nothing may be told nothing.
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let mut from = Take(bytes);
    let _version = from.i16()?;
    take_partitions(&mut from)
}

fn put_partitions(to: &mut Put, of: &ByTopic<i32>) {
    to.array(of, |to, (topic, partitions)| {
        to.text(topic);
        to.array(partitions, |to, partition| to.i32(*partition));
    });
}

fn take_partitions(from: &mut Take) -> Result<ByTopic<i32>, Malformed> {
    from.array(|from| Ok((from.name()?, from.array(Take::i32)?)))
}
