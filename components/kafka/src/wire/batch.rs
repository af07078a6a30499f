//! Batches of records, version 2 of the format: the unit that is compressed, checked and numbered.
//!
//! Deliberately absent: the formats before Kafka 0.11, which brokers stopped writing then.

use super::compress::{self, Compression};
use super::{Malformed, Take, put_varint, varint_length};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Of everything before the records.
const HEAD: usize = 61;
/// What the length of a batch does not count: offset and the length itself.
const BEFORE_LENGTH: usize = 12;
/// Where the part begins that the checksum covers.
const CHECKED: usize = 21;
const MAGIC: i8 = 2;
const CONTROL: i16 = 0x20;

/// What is published, apart from where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<(Bytes, Bytes)>,
}

impl Record {
    /// How long it is on the wire, give or take its place in the batch.
    pub(crate) fn length(&self) -> usize {
        varint_length(i64::MAX) + self.body_length(0)
    }

    fn body_length(&self, place: i64) -> usize {
        let part = |part: &[u8]| varint_length(signed(part.len())) + part.len();
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| part(name) + part(value))
            .sum();
        // Attributes, and the time, which is that of the batch.
        2 + varint_length(place)
            + self.key.as_deref().map_or(1, part)
            + self.value.as_deref().map_or(1, part)
            + varint_length(signed(self.headers.len()))
            + headers
    }

    fn put(&self, to: &mut BytesMut, place: i64) {
        let part = |to: &mut BytesMut, part: Option<&Bytes>| match part {
            None => put_varint(to, -1),
            Some(part) => {
                put_varint(to, signed(part.len()));
                to.put_slice(part);
            }
        };
        put_varint(to, signed(self.body_length(place)));
        to.put_i8(0);
        put_varint(to, 0);
        put_varint(to, place);
        part(to, self.key.as_ref());
        part(to, self.value.as_ref());
        put_varint(to, signed(self.headers.len()));
        for (name, value) in &self.headers {
            part(to, Some(name));
            part(to, Some(value));
        }
    }
}

/// Who sends a batch, and which of its sender's batches it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// -1 if the broker is not to watch over the order.
    pub producer: i64,
    pub epoch: i16,
    /// Of the first record.
    pub sequence: i32,
}

/// Writes a batch. `time` is in milliseconds since 1970.
///
/// # Errors
/// When it cannot be compressed.
pub(crate) fn encode<'a>(
    records: impl Iterator<Item = &'a Record> + Clone,
    stamp: Stamp,
    time: i64,
    compression: Compression,
) -> std::io::Result<Bytes> {
    let (count, length) = records.clone().fold((0_i32, 0), |(count, length), record| {
        (count + 1, length + record.length())
    });
    let mut batch = BytesMut::with_capacity(HEAD + length);
    batch.put_i64(0);
    batch.put_i32(0);
    batch.put_i32(-1);
    batch.put_i8(MAGIC);
    batch.put_u32(0);
    batch.put_i16(compression.attributes());
    batch.put_i32(count - 1);
    batch.put_i64(time);
    batch.put_i64(time);
    batch.put_i64(stamp.producer);
    batch.put_i16(stamp.epoch);
    batch.put_i32(stamp.sequence);
    batch.put_i32(count);
    if compression == Compression::None {
        for (place, record) in (0..).zip(records) {
            record.put(&mut batch, place);
        }
    } else {
        let mut plain = BytesMut::with_capacity(length);
        for (place, record) in (0..).zip(records) {
            record.put(&mut plain, place);
        }
        batch.put_slice(&compress::deflate(compression, &plain)?);
    }
    let length = i32::try_from(batch.len() - BEFORE_LENGTH).unwrap_or(i32::MAX);
    let checksum = crc32c::crc32c(&batch[CHECKED..]);
    batch[8..BEFORE_LENGTH].copy_from_slice(&length.to_be_bytes());
    batch[17..CHECKED].copy_from_slice(&checksum.to_be_bytes());
    Ok(batch.freeze())
}

/// A record as it comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub offset: i64,
    /// Milliseconds since 1970.
    pub time: i64,
    pub record: Record,
}

/// What an answer to a fetch holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Decoded {
    pub records: Vec<Found>,
    /// Where the next fetch goes on; `None` if there was no whole batch.
    pub next: Option<i64>,
}

/// Reads the batches of an answer. A batch begins before the offset that was asked for if that is in the middle of it:
/// what is before `from` is left out. A last batch that is cut is left for the next fetch.
///
/// # Errors
/// When a checksum does not hold, or a batch is not what it should be.
pub(crate) fn decode(mut batches: Bytes, from: i64) -> Result<Decoded, Malformed> {
    let mut decoded = Decoded::default();
    while batches.len() > HEAD {
        let mut head = Take(batches.slice(..HEAD));
        let base = head.i64()?;
        let length = usize::try_from(head.i32()?).map_err(|_| Malformed("a batch"))? + BEFORE_LENGTH;
        let _leader_epoch = head.i32()?;
        if head.i8()? != MAGIC {
            return Err(Malformed("a batch of a format older than Kafka 0.11"));
        }
        if batches.len() < length {
            break;
        }
        if length < HEAD {
            return Err(Malformed("a batch"));
        }
        let batch = batches.split_to(length);
        let checksum = head.i32()?.cast_unsigned();
        if crc32c::crc32c(&batch[CHECKED..]) != checksum {
            return Err(Malformed("the checksum of a batch"));
        }
        let attributes = head.i16()?;
        let last = head.i32()?;
        let (first_time, last_time) = (head.i64()?, head.i64()?);
        let (_producer, _epoch, _sequence) = (head.i64()?, head.i16()?, head.i32()?);
        let count = head.i32()?;
        decoded.next = Some(base.saturating_add(i64::from(last)).saturating_add(1));
        // Marks of transactions are no messages.
        if attributes & CONTROL != 0 {
            continue;
        }
        let plain = compress::inflate(attributes, batch.slice(HEAD..))?;
        let mut records = Take(plain);
        for _ in 0..count {
            let found = record(&mut records, base, first_time)?;
            // The broker's clock counts for the whole batch (`message.timestamp.type=LogAppendTime`).
            let time = if attributes & 8 == 0 {
                found.time
            } else {
                last_time
            };
            if found.offset >= from {
                decoded.records.push(Found { time, ..found });
            }
        }
    }
    Ok(decoded)
}

fn record(from: &mut Take, base: i64, time: i64) -> Result<Found, Malformed> {
    let mut body = Take(from.varbytes()?.ok_or(Malformed("a record"))?);
    let _attributes = body.i8()?;
    let time = time.saturating_add(body.varint()?);
    let offset = base.saturating_add(body.varint()?);
    let (key, value) = (body.varbytes()?, body.varbytes()?);
    let count = usize::try_from(body.varint()?).map_err(|_| Malformed("a record"))?;
    // A header has two bytes at least.
    if count > body.0.remaining() {
        return Err(Malformed("a record"));
    }
    let headers = (0..count).map(|_| {
        let name = body.varbytes()?.unwrap_or_default();
        Ok((name, body.varbytes()?.unwrap_or_default()))
    });
    let headers = headers.collect::<Result<_, Malformed>>()?;
    Ok(Found {
        offset,
        time,
        record: Record { key, value, headers },
    })
}

fn signed(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}
