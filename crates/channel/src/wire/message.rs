//! The messages of the internal protocol, with header fields that are read into and written out of a [`HeaderMap`]
//! directly. On the wire they are `dapr.proto.internals.v1`'s messages of nearly the same names; the generated ones go
//! through a map of strings, which cost a fifth of an invocation.

use super::MOST_FIELDS;
use bytes::{Buf, BufMut, Bytes};
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, header::GetAll};
use outrigger_proto::dapr::common::v1 as common;
use outrigger_proto::dapr::internals::v1 as internals;
use prost::encoding::{self, DecodeContext, WireType};
use prost::{DecodeError, Message};
use std::borrow::Cow;

/// `InternalInvokeRequest`. Its field `actor` is skipped: calls of actors come another way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    pub ver: i32,
    pub metadata: Fields,
    pub message: Option<common::InvokeRequest>,
}

/// `InternalInvokeResponse`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Response {
    pub status: Option<internals::Status>,
    pub headers: Fields,
    pub trailers: Fields,
    pub message: Option<common::InvokeResponse>,
}

/// `InternalInvokeRequestStream`: the first one carries `request` without body; `payload` may begin in it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RequestChunk {
    #[prost(message, optional, tag = "1")]
    pub request: Option<Request>,
    #[prost(message, optional, tag = "2")]
    pub payload: Option<common::StreamPayload>,
}

/// `InternalInvokeResponseStream`, likewise.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ResponseChunk {
    #[prost(message, optional, tag = "1")]
    pub response: Option<Response>,
    #[prost(message, optional, tag = "2")]
    pub payload: Option<common::StreamPayload>,
}

/// `map<string, ListStringValue>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fields {
    pub map: HeaderMap,
    /// Names are written in Go's canonical form (`Content-Type`).
    pub canonical: bool,
    /// More than [`MOST_FIELDS`] came in; the rest was left out.
    pub overflow: bool,
    taken: usize,
}

impl Fields {
    pub fn new(map: HeaderMap, canonical: bool) -> Self {
        Self {
            map,
            canonical,
            overflow: false,
            taken: 0,
        }
    }

    fn is_empty(&self) -> bool {
        self.map.is_empty() && !self.overflow
    }

    fn encoded_len(&self, tag: u32) -> usize {
        self.map
            .keys()
            .map(|name| {
                let length = entry_len(name, list_len(&self.map.get_all(name)));
                encoding::key_len(tag) + delimited(length)
            })
            .sum()
    }

    fn encode(&self, tag: u32, buf: &mut impl BufMut) {
        for name in self.map.keys() {
            let values = self.map.get_all(name);
            let list = list_len(&values);
            header(tag, entry_len(name, list), buf);
            header(1, name.as_str().len(), buf);
            if self.canonical {
                canonical(name.as_str()).for_each(|byte| buf.put_u8(byte));
            } else {
                buf.put_slice(name.as_str().as_bytes());
            }
            header(2, list, buf);
            for value in &values {
                let text = text(value);
                header(1, text.len(), buf);
                buf.put_slice(&text);
            }
        }
    }

    fn merge(
        &mut self,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        let mut entry = Entry::default();
        encoding::message::merge(wire_type, &mut entry, buf, ctx)?;
        let values = entry.values.unwrap_or_default();
        // A name without values takes no place in the map, yet it is a field that was sent.
        self.taken += usize::from(values.first.is_some()).max(1) + values.more.len();
        if self.taken > MOST_FIELDS {
            self.overflow = true;
            return Ok(());
        }
        let Ok(name) = HeaderName::from_bytes(&entry.name) else {
            return Ok(());
        };
        let mut values = values
            .first
            .into_iter()
            .chain(values.more)
            .filter_map(field)
            .peekable();
        while let Some(value) = values.next() {
            if values.peek().is_none() {
                self.map.append(name, value);
                return Ok(());
            }
            self.map.append(name.clone(), value);
        }
        Ok(())
    }
}

/// What is no text, or no HTTP field value (a line break could split the message), is left out.
fn field(value: Bytes) -> Option<HeaderValue> {
    std::str::from_utf8(&value).ok()?;
    HeaderValue::from_maybe_shared(value).ok()
}

/// One entry of the map, as bytes shared with the message.
#[derive(Clone, PartialEq, prost::Message)]
struct Entry {
    #[prost(bytes = "bytes", tag = "1")]
    name: Bytes,
    #[prost(message, optional, tag = "2")]
    values: Option<Values>,
}

/// `ListStringValue`. Nearly every field has one value, which takes no list.
#[derive(Clone, Debug, Default, PartialEq)]
struct Values {
    first: Option<Bytes>,
    more: Vec<Bytes>,
}

impl Values {
    fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.first.iter().chain(&self.more)
    }
}

impl Message for Values {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        self.iter()
            .for_each(|value| encoding::bytes::encode(1, value, buf));
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        if tag != 1 {
            return encoding::skip_field(wire_type, tag, buf, ctx);
        }
        let mut value = Bytes::new();
        encoding::bytes::merge(wire_type, &mut value, buf, ctx)?;
        match self.first {
            None => self.first = Some(value),
            Some(_) => self.more.push(value),
        }
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.iter()
            .map(|value| encoding::bytes::encoded_len(1, value))
            .sum()
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Message for Request {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        if self.ver != 0 {
            encoding::int32::encode(1, &self.ver, buf);
        }
        self.metadata.encode(2, buf);
        if let Some(message) = &self.message {
            encoding::message::encode(3, message, buf);
        }
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            1 => encoding::int32::merge(wire_type, &mut self.ver, buf, ctx),
            2 => self.metadata.merge(wire_type, buf, ctx),
            3 => encoding::message::merge(wire_type, self.message.get_or_insert_default(), buf, ctx),
            _ => encoding::skip_field(wire_type, tag, buf, ctx),
        }
    }

    fn encoded_len(&self) -> usize {
        let ver = if self.ver == 0 {
            0
        } else {
            encoding::int32::encoded_len(1, &self.ver)
        };
        ver + self.metadata.encoded_len(2) + optional_len(3, self.message.as_ref())
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Message for Response {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        if let Some(status) = &self.status {
            encoding::message::encode(1, status, buf);
        }
        self.headers.encode(2, buf);
        self.trailers.encode(3, buf);
        if let Some(message) = &self.message {
            encoding::message::encode(4, message, buf);
        }
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            1 => encoding::message::merge(wire_type, self.status.get_or_insert_default(), buf, ctx),
            2 => self.headers.merge(wire_type, buf, ctx),
            3 => self.trailers.merge(wire_type, buf, ctx),
            4 => encoding::message::merge(wire_type, self.message.get_or_insert_default(), buf, ctx),
            _ => encoding::skip_field(wire_type, tag, buf, ctx),
        }
    }

    fn encoded_len(&self) -> usize {
        optional_len(1, self.status.as_ref())
            + self.headers.encoded_len(2)
            + self.trailers.encoded_len(3)
            + optional_len(4, self.message.as_ref())
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Request {
    /// Whether this is more than the empty message that chunks after the leading one may carry.
    pub(crate) fn leads(&self) -> bool {
        !self.metadata.is_empty() || self.message.is_some()
    }
}

impl Response {
    pub(crate) fn leads(&self) -> bool {
        self.status.is_some() || !self.headers.is_empty() || self.message.is_some()
    }
}

fn optional_len(tag: u32, message: Option<&impl Message>) -> usize {
    message.map_or(0, |message| encoding::message::encoded_len(tag, message))
}

/// Bytes of something length-delimited: the length and what follows.
fn delimited(length: usize) -> usize {
    encoding::encoded_len_varint(length as u64) + length
}

/// `list`: bytes of the list of values.
fn entry_len(name: &HeaderName, list: usize) -> usize {
    1 + delimited(name.as_str().len()) + 1 + delimited(list)
}

fn list_len(values: &GetAll<'_, HeaderValue>) -> usize {
    values.iter().map(|value| 1 + delimited(text(value).len())).sum()
}

fn header(tag: u32, length: usize, buf: &mut impl BufMut) {
    encoding::encode_key(tag, WireType::LengthDelimited, buf);
    encoding::encode_varint(length as u64, buf);
}

/// A field value as text. Bytes that are not UTF-8 can not travel in a protobuf string: they are replaced.
fn text(value: &HeaderValue) -> Cow<'_, [u8]> {
    match String::from_utf8_lossy(value.as_bytes()) {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

/// `content-type` → `Content-Type`, as Go's net/http writes header names.
fn canonical(name: &str) -> impl Iterator<Item = u8> {
    let mut start = true;
    name.bytes().map(move |letter| {
        let shown = if start {
            letter.to_ascii_uppercase()
        } else {
            letter
        };
        start = letter == b'-';
        shown
    })
}

#[cfg(test)]
mod tests;
