//! What a frame carries: records, each with its length and kind.
//!
//! Records hold *outcomes*, never conditions: applying all of them in order to an empty hub gives its state,
//! and applying some of them twice changes nothing. Field order below is the format; numbers are
//! little-endian, texts and blobs have a length before them.

use bytes::{Buf, BufMut, Bytes};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    Message(Stored),
    Topic {
        id: u32,
        name: String,
    },
    /// A new group, or one whose beginning is set anew.
    Group {
        id: u32,
        topic: u32,
        name: String,
        next: u64,
    },
    Cursor {
        group: u32,
        cursor: Cursor,
    },
    GroupGone {
        id: u32,
    },
    /// One transaction. The version of every value it puts is the record's sequence number.
    Write(Vec<Change>),
}

/// A message as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) topic: u32,
    /// Position in the topic, from 1, without gaps.
    pub(crate) offset: u64,
    /// Milliseconds of the wall clock.
    pub(crate) published: u64,
    /// Likewise; 0 is never.
    pub(crate) expires: u64,
    pub(crate) metadata: Vec<(String, String)>,
    pub(crate) data: Bytes,
}

/// How far a group is: everything below `next` is settled, but for `open`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) next: u64,
    /// Offsets that were handed out and not settled, ascending, and how often each was delivered.
    pub(crate) open: Vec<(u64, u32)>,
}

impl Cursor {
    /// The oldest offset that is still needed.
    pub(crate) fn floor(&self) -> u64 {
        self.open.first().map_or(self.next, |&(offset, _)| offset)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Put {
        key: Bytes,
        value: Bytes,
        content_type: String,
        /// Milliseconds of the wall clock; 0 is never.
        expires: u64,
    },
    Delete {
        key: Bytes,
    },
}

const MESSAGE: u8 = 1;
const TOPIC: u8 = 2;
const GROUP: u8 = 3;
const CURSOR: u8 = 4;
const GROUP_GONE: u8 = 5;
const WRITE: u8 = 6;
const PUT: u8 = 1;
const DELETE: u8 = 2;

/// The payload is not what a record of its kind looks like. The checksum was right, so a newer program wrote
/// it, or there is a fault in this one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a record of kind {kind} cannot be read: {what}")]
pub(crate) struct Malformed {
    kind: u8,
    what: &'static str,
}

impl Stored {
    /// The same as encoding a [`Record::Message`] of it.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        framed(out, |out| {
            out.put_u8(MESSAGE);
            out.put_u32_le(self.topic);
            out.put_u64_le(self.offset);
            out.put_u64_le(self.published);
            out.put_u64_le(self.expires);
            put_count(out, self.metadata.len());
            for (name, value) in &self.metadata {
                put_blob(out, name.as_bytes());
                put_blob(out, value.as_bytes());
            }
            put_blob(out, &self.data);
        });
    }
}

impl Record {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        if let Self::Message(message) = self {
            return message.encode(out);
        }
        framed(out, |out| self.encode_body(out));
    }

    fn encode_body(&self, out: &mut Vec<u8>) {
        match self {
            // Has its own encoding, which is called for it.
            Self::Message(_) => {}
            Self::Topic { id, name } => {
                out.put_u8(TOPIC);
                out.put_u32_le(*id);
                put_blob(out, name.as_bytes());
            }
            Self::Group {
                id,
                topic,
                name,
                next,
            } => {
                out.put_u8(GROUP);
                out.put_u32_le(*id);
                out.put_u32_le(*topic);
                out.put_u64_le(*next);
                put_blob(out, name.as_bytes());
            }
            Self::Cursor { group, cursor } => {
                out.put_u8(CURSOR);
                out.put_u32_le(*group);
                cursor.encode(out);
            }
            Self::GroupGone { id } => {
                out.put_u8(GROUP_GONE);
                out.put_u32_le(*id);
            }
            Self::Write(changes) => {
                out.put_u8(WRITE);
                put_count(out, changes.len());
                for change in changes {
                    match change {
                        Change::Put {
                            key,
                            value,
                            content_type,
                            expires,
                        } => {
                            out.put_u8(PUT);
                            put_blob(out, key);
                            out.put_u64_le(*expires);
                            put_blob(out, content_type.as_bytes());
                            put_blob(out, value);
                        }
                        Change::Delete { key } => {
                            out.put_u8(DELETE);
                            put_blob(out, key);
                        }
                    }
                }
            }
        }
    }

    /// The next record of a payload, `None` at its end. Blobs are slices of the payload.
    #[cfg(test)]
    pub(crate) fn decode(payload: &mut Bytes) -> Result<Option<Self>, Malformed> {
        Raw::next(payload)?.map(Raw::decode).transpose()
    }
}

/// A record of which only the kind is known: most that a reader passes are not for it.
pub(crate) struct Raw {
    kind: u8,
    body: Bytes,
}

impl Raw {
    pub(crate) fn next(payload: &mut Bytes) -> Result<Option<Self>, Malformed> {
        if payload.is_empty() {
            return Ok(None);
        }
        let mut body = take_blob(payload).ok_or(Malformed {
            kind: 0,
            what: "its length goes beyond the frame",
        })?;
        let kind = body.try_get_u8().unwrap_or(0);
        Ok(Some(Self { kind, body }))
    }

    /// Topic and offset, if it is a message.
    pub(crate) fn message(&self) -> Option<(u32, u64)> {
        let mut from = self.body.as_ref();
        let found = (take_id(&mut from)?, take_number(&mut from)?);
        (self.kind == MESSAGE).then_some(found)
    }

    pub(crate) fn decode(self) -> Result<Record, Malformed> {
        let Self { kind, mut body } = self;
        let record = match kind {
            MESSAGE => decode_message(&mut body).map(Record::Message),
            TOPIC => decode_topic(&mut body),
            GROUP => decode_group(&mut body),
            CURSOR => decode_cursor(&mut body),
            GROUP_GONE => take_id(&mut body).map(|id| Record::GroupGone { id }),
            WRITE => decode_write(&mut body).map(Record::Write),
            _ => {
                return Err(Malformed {
                    kind,
                    what: "the kind is unknown",
                });
            }
        }
        .ok_or(Malformed {
            kind,
            what: "it ends too early, or a number in it is beyond anything that was ever counted",
        })?;
        if !body.is_empty() {
            return Err(Malformed {
                kind,
                what: "it is longer than its fields",
            });
        }
        Ok(record)
    }
}

impl Cursor {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64_le(self.next);
        put_count(out, self.open.len());
        for &(offset, attempts) in &self.open {
            out.put_u64_le(offset);
            out.put_u32_le(attempts);
        }
    }

    pub(crate) fn decode(from: &mut Bytes) -> Option<Self> {
        let next = take_number(from)?;
        let count = take_count(from, 12)?;
        let mut open = Vec::with_capacity(count);
        for _ in 0..count {
            open.push((take_number(from)?, from.try_get_u32_le().ok()?));
        }
        Some(Self { next, open })
    }
}

/// Puts the length of what `body` writes before it.
fn framed(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.put_u32_le(0);
    body(out);
    let length = u32::try_from(out.len() - start - 4).expect("request limits keep records below 4 GiB");
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

fn decode_message(from: &mut Bytes) -> Option<Stored> {
    let topic = take_id(from)?;
    let offset = take_number(from)?;
    let published = from.try_get_u64_le().ok()?;
    let expires = from.try_get_u64_le().ok()?;
    let count = take_count(from, 8)?;
    let mut metadata = Vec::with_capacity(count);
    for _ in 0..count {
        metadata.push((take_text(from)?, take_text(from)?));
    }
    Some(Stored {
        topic,
        offset,
        published,
        expires,
        metadata,
        data: take_blob(from)?,
    })
}

fn decode_topic(from: &mut Bytes) -> Option<Record> {
    Some(Record::Topic {
        id: take_id(from)?,
        name: take_text(from)?,
    })
}

fn decode_group(from: &mut Bytes) -> Option<Record> {
    let id = take_id(from)?;
    let topic = take_id(from)?;
    let next = take_number(from)?;
    Some(Record::Group {
        id,
        topic,
        name: take_text(from)?,
        next,
    })
}

fn decode_cursor(from: &mut Bytes) -> Option<Record> {
    Some(Record::Cursor {
        group: take_id(from)?,
        cursor: Cursor::decode(from)?,
    })
}

fn decode_write(from: &mut Bytes) -> Option<Vec<Change>> {
    let count = take_count(from, 5)?;
    let mut changes = Vec::with_capacity(count);
    for _ in 0..count {
        let kind = from.try_get_u8().ok()?;
        let key = take_blob(from)?;
        changes.push(match kind {
            PUT => {
                let expires = from.try_get_u64_le().ok()?;
                let content_type = take_text(from)?;
                Change::Put {
                    key,
                    value: take_blob(from)?,
                    content_type,
                    expires,
                }
            }
            DELETE => Change::Delete { key },
            _ => return None,
        });
    }
    Some(changes)
}

pub(crate) fn put_count(out: &mut Vec<u8>, count: usize) {
    out.put_u32_le(u32::try_from(count).expect("request limits keep counts below 2^32"));
}

pub(crate) fn put_blob(out: &mut Vec<u8>, blob: &[u8]) {
    put_count(out, blob.len());
    out.put_slice(blob);
}

/// An id. The highest was never given, since counting goes on after it.
fn take_id(from: &mut impl Buf) -> Option<u32> {
    from.try_get_u32_le().ok().filter(|id| *id < u32::MAX)
}

/// An offset, likewise.
fn take_number(from: &mut impl Buf) -> Option<u64> {
    from.try_get_u64_le().ok().filter(|number| *number < u64::MAX)
}

/// A count of things that take at least `each` bytes: one that cannot be right is refused before anything is
/// allocated for it.
pub(crate) fn take_count(from: &mut Bytes, each: usize) -> Option<usize> {
    let count = usize::try_from(from.try_get_u32_le().ok()?).ok()?;
    (count.checked_mul(each)? <= from.len()).then_some(count)
}

pub(crate) fn take_blob(from: &mut Bytes) -> Option<Bytes> {
    let length = take_count(from, 1)?;
    Some(from.split_to(length))
}

pub(crate) fn take_text(from: &mut Bytes) -> Option<String> {
    String::from_utf8(take_blob(from)?.to_vec()).ok()
}
