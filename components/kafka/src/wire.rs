//! Kafka's wire format: numbers are big-endian, texts and arrays carry their length in front.
//!
//! Every request has one pinned version, the newest without "tagged fields" that Kafka 2.1 knows; Kafka 4 still knows them
//! all. So there is nothing to negotiate: a broker that is older answers `UNSUPPORTED_VERSION`.
//!
//! INVARIANT: reading never panics and never allocates more than the answer is long, whatever the bytes are.

pub(crate) mod batch;
pub(crate) mod code;
pub(crate) mod compress;
pub(crate) mod data;
pub(crate) mod group;
pub(crate) mod setup;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::sync::Arc;

/// Bytes that are not what they should be; says which part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is malformed")]
pub(crate) struct Malformed(pub &'static str);

/// A request and how its answer is read. Layouts: <https://kafka.apache.org/protocol>, by the name of the type.
pub(crate) trait Request {
    const API: i16;
    const VERSION: i16;
    type Answer;

    fn put(&self, to: &mut Put);
    /// # Errors
    /// When the bytes are no such answer.
    fn take(from: &mut Take) -> Result<Self::Answer, Malformed>;
}

/// Offset of the correlation id in a frame: after length, API and version.
pub(crate) const CORRELATION: usize = 8;

/// A whole request with its length in front and correlation id 0.
pub(crate) fn frame<R: Request>(client_id: &str, request: &R) -> BytesMut {
    let mut put = Put(BytesMut::with_capacity(256));
    put.i32(0);
    put.i16(R::API);
    put.i16(R::VERSION);
    put.i32(0);
    put.text(client_id);
    request.put(&mut put);
    let mut frame = put.0;
    let length = i32::try_from(frame.len() - 4).unwrap_or(i32::MAX);
    if let Some(head) = frame.first_chunk_mut() {
        *head = length.to_be_bytes();
    }
    frame
}

/// Where requests are written.
#[derive(Default)]
pub(crate) struct Put(pub BytesMut);

impl Put {
    pub(crate) fn i8(&mut self, value: i8) {
        self.0.put_i8(value);
    }

    pub(crate) fn i16(&mut self, value: i16) {
        self.0.put_i16(value);
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.0.put_i32(value);
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.0.put_i64(value);
    }

    /// A text; what does not fit the format (32 KB) is cut, which names and ids never are.
    pub(crate) fn text(&mut self, value: &str) {
        let fits = &value.as_bytes()[..value.len().min(usize::from(i16::MAX.unsigned_abs()))];
        self.i16(i16::try_from(fits.len()).unwrap_or(i16::MAX));
        self.0.put_slice(fits);
    }

    pub(crate) fn no_text(&mut self) {
        self.i16(-1);
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.length(value.len());
        self.0.put_slice(value);
    }

    /// Of an array or of bytes.
    pub(crate) fn length(&mut self, length: usize) {
        self.i32(i32::try_from(length).unwrap_or(i32::MAX));
    }

    /// An array whose elements are written by `each`.
    pub(crate) fn array<T>(&mut self, of: &[T], mut each: impl FnMut(&mut Self, &T)) {
        self.length(of.len());
        for element in of {
            each(self, element);
        }
    }
}

/// What is read of an answer.
#[derive(Debug, Clone)]
pub(crate) struct Take(pub Bytes);

impl Take {
    pub(crate) fn i8(&mut self) -> Result<i8, Malformed> {
        self.0.try_get_i8().map_err(|_| Malformed("a number"))
    }

    pub(crate) fn bool(&mut self) -> Result<bool, Malformed> {
        Ok(self.i8()? != 0)
    }

    pub(crate) fn i16(&mut self) -> Result<i16, Malformed> {
        self.0.try_get_i16().map_err(|_| Malformed("a number"))
    }

    pub(crate) fn i32(&mut self) -> Result<i32, Malformed> {
        self.0.try_get_i32().map_err(|_| Malformed("a number"))
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Malformed> {
        self.0.try_get_i64().map_err(|_| Malformed("a number"))
    }

    /// The next `length` bytes, without copying them; `None` for the length -1.
    fn part(&mut self, length: i64) -> Result<Option<Bytes>, Malformed> {
        if length == -1 {
            return Ok(None);
        }
        match usize::try_from(length) {
            Ok(length) if length <= self.0.len() => Ok(Some(self.0.split_to(length))),
            _ => Err(Malformed("a length")),
        }
    }

    pub(crate) fn text_or_none(&mut self) -> Result<Option<String>, Malformed> {
        let length = self.i16()?;
        let bytes = self.part(length.into())?;
        bytes
            .map(|bytes| String::from_utf8(bytes.to_vec()).map_err(|_| Malformed("a text")))
            .transpose()
    }

    /// Absent counts as empty.
    pub(crate) fn text(&mut self) -> Result<String, Malformed> {
        self.text_or_none().map(Option::unwrap_or_default)
    }

    /// A text that many will hold.
    pub(crate) fn name(&mut self) -> Result<Arc<str>, Malformed> {
        let length = self.i16()?;
        let bytes = self.part(length.into())?.unwrap_or_default();
        std::str::from_utf8(&bytes)
            .map(Arc::from)
            .map_err(|_| Malformed("a text"))
    }

    /// Absent counts as empty.
    pub(crate) fn bytes(&mut self) -> Result<Bytes, Malformed> {
        let length = self.i32()?;
        self.part(length.into()).map(Option::unwrap_or_default)
    }

    /// Absent counts as empty.
    pub(crate) fn array<T>(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let length = self.i32()?.max(0);
        // An element has one byte at least.
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= self.0.len())
            .ok_or(Malformed("an array"))?;
        (0..length).map(|_| each(self)).collect()
    }

    /// A number of the records' own format: zigzag, seven bits per byte.
    pub(crate) fn varint(&mut self) -> Result<i64, Malformed> {
        let mut bits: u64 = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.0.try_get_u8().map_err(|_| Malformed("a number"))?;
            bits |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let magnitude = (bits >> 1).cast_signed();
                return Ok(magnitude ^ -((bits & 1).cast_signed()));
            }
        }
        Err(Malformed("a number"))
    }

    /// Bytes of the records' own format; `None` for the length -1.
    pub(crate) fn varbytes(&mut self) -> Result<Option<Bytes>, Malformed> {
        let length = self.varint()?;
        self.part(length)
    }
}

/// Writes a number of the records' own format.
pub(crate) fn put_varint(to: &mut BytesMut, value: i64) {
    let mut bits = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while bits >= 0x80 {
        to.put_u8(u8::try_from(bits & 0x7f).unwrap_or_default() | 0x80);
        bits >>= 7;
    }
    to.put_u8(u8::try_from(bits).unwrap_or_default());
}

/// How many bytes [`put_varint`] writes.
pub(crate) fn varint_length(value: i64) -> usize {
    let bits = ((value << 1) ^ (value >> 63)).cast_unsigned();
    let significant = 64 - bits.leading_zeros().min(63);
    usize::try_from(significant.div_ceil(7)).unwrap_or(10)
}

#[cfg(test)]
mod tests;
