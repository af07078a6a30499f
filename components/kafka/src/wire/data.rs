//! Requests that carry messages, or say where they are.

use super::{Malformed, Put, Request, Take};
use bytes::{BufMut as _, Bytes};
use std::sync::Arc;
use std::time::Duration;

/// Something about partitions, topic by topic.
pub(crate) type ByTopic<T> = Vec<(Arc<str>, Vec<T>)>;

/// Produce v7.
pub(crate) struct Produce {
    /// -1 all replicas in sync, 1 the leader, 0 nobody: then there is no answer.
    pub acks: i16,
    pub timeout: Duration,
    /// Partition and one batch.
    pub batches: ByTopic<(i32, Bytes)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Produced {
    pub partition: i32,
    pub code: i16,
}

impl Request for Produce {
    const API: i16 = 0;
    const VERSION: i16 = 7;
    type Answer = ByTopic<Produced>;

    fn put(&self, to: &mut Put) {
        let bytes: usize = self
            .batches
            .iter()
            .flat_map(|(_, of)| of)
            .map(|(_, batch)| batch.len() + 64)
            .sum();
        to.0.reserve(bytes);
        to.no_text();
        to.i16(self.acks);
        to.i32(milliseconds(self.timeout));
        to.array(&self.batches, |to, (topic, batches)| {
            to.text(topic);
            to.array(batches, |to, (partition, batch)| {
                to.i32(*partition);
                to.length(batch.len());
                to.0.put_slice(batch);
            });
        });
    }

    fn take(from: &mut Take) -> Result<Self::Answer, Malformed> {
        let topics = from.array(|from| {
            let topic = from.name()?;
            let produced = from.array(|from| {
                let produced = Produced {
                    partition: from.i32()?,
                    code: from.i16()?,
                };
                let (_offset, _appended, _start) = (from.i64()?, from.i64()?, from.i64()?);
                Ok(produced)
            })?;
            Ok((topic, produced))
        })?;
        let _throttled = from.i32()?;
        Ok(topics)
    }
}

/// Fetch v10, without a session at the broker.
pub(crate) struct Fetch {
    /// How long the broker waits for `min_bytes`.
    pub wait: Duration,
    pub min_bytes: i32,
    /// Of one partition; a larger message comes whole all the same.
    pub partition_bytes: i32,
    /// Partition and offset.
    pub from: ByTopic<(i32, i64)>,
}

/// Of one answer; a partition's first batch comes whole all the same.
const FETCH_BYTES: i32 = 50 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fetched {
    pub partition: i32,
    pub code: i16,
    /// Batches; the last may be cut.
    pub batches: Bytes,
}

impl Request for Fetch {
    const API: i16 = 1;
    const VERSION: i16 = 10;
    type Answer = (i16, ByTopic<Fetched>);

    fn put(&self, to: &mut Put) {
        to.i32(-1);
        to.i32(milliseconds(self.wait));
        to.i32(self.min_bytes);
        to.i32(FETCH_BYTES);
        // Read uncommitted, as the reference.
        to.i8(0);
        to.i32(0);
        to.i32(-1);
        to.array(&self.from, |to, (topic, partitions)| {
            to.text(topic);
            to.array(partitions, |to, (partition, offset)| {
                to.i32(*partition);
                to.i32(-1);
                to.i64(*offset);
                to.i64(-1);
                to.i32(self.partition_bytes);
            });
        });
        to.length(0);
    }

    fn take(from: &mut Take) -> Result<Self::Answer, Malformed> {
        let (_throttled, code, _session) = (from.i32()?, from.i16()?, from.i32()?);
        let topics = from.array(|from| {
            let topic = from.name()?;
            let fetched = from.array(|from| {
                let (partition, code) = (from.i32()?, from.i16()?);
                let (_high, _stable, _start) = (from.i64()?, from.i64()?, from.i64()?);
                let _aborted = from.array(|from| Ok((from.i64()?, from.i64()?)))?;
                Ok(Fetched {
                    partition,
                    code,
                    batches: from.bytes()?,
                })
            })?;
            Ok((topic, fetched))
        })?;
        Ok((code, topics))
    }
}

/// ListOffsets v1: the oldest or the next offset of partitions.
pub(crate) struct ListOffsets {
    pub of: ByTopic<i32>,
    pub end: End,
}

/// An end of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Oldest,
    Newest,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub partition: i32,
    pub code: i16,
    pub offset: i64,
}

impl Request for ListOffsets {
    const API: i16 = 2;
    const VERSION: i16 = 1;
    type Answer = ByTopic<Listed>;

    fn put(&self, to: &mut Put) {
        to.i32(-1);
        to.array(&self.of, |to, (topic, partitions)| {
            to.text(topic);
            to.array(partitions, |to, partition| {
                to.i32(*partition);
                to.i64(match self.end {
                    End::Oldest => -2,
                    End::Newest => -1,
                });
            });
        });
    }

    fn take(from: &mut Take) -> Result<Self::Answer, Malformed> {
        from.array(|from| {
            let topic = from.name()?;
            let listed = from.array(|from| {
                let (partition, code, _timestamp) = (from.i32()?, from.i16()?, from.i64()?);
                Ok(Listed {
                    partition,
                    code,
                    offset: from.i64()?,
                })
            })?;
            Ok((topic, listed))
        })
    }
}

pub(crate) fn milliseconds(of: Duration) -> i32 {
    i32::try_from(of.as_millis()).unwrap_or(i32::MAX)
}
