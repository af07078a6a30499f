//! Messages: properties and body.

use super::Failure;
use super::frame::{END, Kind, OVERHEAD};
use super::wire::{Reader, Table, put_table, put_text};
use bytes::{BufMut, Bytes, BytesMut};

/// The largest message that RabbitMQ lets through under any setting.
const LARGEST: u64 = 512 << 20;
/// Room that is made for a body before it is there: who announces a lot need not send it.
const TRUSTED: u64 = 1 << 20;
const CLASS: u16 = 60;

const CONTENT_TYPE: u16 = 1 << 15;
const CONTENT_ENCODING: u16 = 1 << 14;
const HEADERS: u16 = 1 << 13;
const DELIVERY_MODE: u16 = 1 << 12;
const PRIORITY: u16 = 1 << 11;
const CORRELATION_ID: u16 = 1 << 10;
const REPLY_TO: u16 = 1 << 9;
const EXPIRATION: u16 = 1 << 8;
const MESSAGE_ID: u16 = 1 << 7;
const TIMESTAMP: u16 = 1 << 6;
const TYPE: u16 = 1 << 5;

/// What is known of a message beside its body. Properties that nobody here reads or writes are skipped.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Properties {
    pub content_type: String,
    pub headers: Table,
    /// 2 is persistent.
    pub delivery_mode: u8,
    pub priority: u8,
    pub correlation_id: String,
    /// Milliseconds, as text.
    pub expiration: String,
    pub message_id: String,
    pub kind: String,
}

/// A message that came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Delivery {
    pub tag: u64,
    pub redelivered: bool,
    properties: Bytes,
    pub body: Bytes,
}

/// A message of which not all frames are here.
#[derive(Debug)]
pub(super) struct Assembly {
    tag: u64,
    redelivered: bool,
    properties: Option<Bytes>,
    missing: u64,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Empty,
    /// Of one frame: not copied.
    One(Bytes),
    Many(BytesMut),
}

impl Properties {
    fn write(&self, to: &mut BytesMut) -> Result<(), Failure> {
        let texts = [
            (CONTENT_TYPE, &self.content_type),
            (CORRELATION_ID, &self.correlation_id),
            (EXPIRATION, &self.expiration),
            (MESSAGE_ID, &self.message_id),
            (TYPE, &self.kind),
        ];
        let mut flags = 0;
        for (flag, text) in texts {
            flags |= if text.is_empty() { 0 } else { flag };
        }
        flags |= if self.headers.is_empty() { 0 } else { HEADERS };
        flags |= if self.delivery_mode == 0 { 0 } else { DELIVERY_MODE };
        flags |= if self.priority == 0 { 0 } else { PRIORITY };
        to.put_u16(flags);
        if flags & CONTENT_TYPE != 0 {
            put_text(to, &self.content_type, "the content type")?;
        }
        if flags & HEADERS != 0 {
            put_table(to, &self.headers)?;
        }
        if flags & DELIVERY_MODE != 0 {
            to.put_u8(self.delivery_mode);
        }
        if flags & PRIORITY != 0 {
            to.put_u8(self.priority);
        }
        for (flag, text, what) in [
            (CORRELATION_ID, &self.correlation_id, "the correlation id"),
            (EXPIRATION, &self.expiration, "the expiration"),
            (MESSAGE_ID, &self.message_id, "the message id"),
            (TYPE, &self.kind, "the type of a message"),
        ] {
            if flags & flag != 0 {
                put_text(to, text, what)?;
            }
        }
        Ok(())
    }

    fn read(from: Bytes) -> Result<Self, Failure> {
        let mut from = Reader(from);
        let flags = from.u16()?;
        let mut properties = Self::default();
        if flags & CONTENT_TYPE != 0 {
            properties.content_type = from.text()?;
        }
        if flags & CONTENT_ENCODING != 0 {
            from.text()?;
        }
        if flags & HEADERS != 0 {
            properties.headers = from.table()?;
        }
        if flags & DELIVERY_MODE != 0 {
            properties.delivery_mode = from.u8()?;
        }
        if flags & PRIORITY != 0 {
            properties.priority = from.u8()?;
        }
        if flags & CORRELATION_ID != 0 {
            properties.correlation_id = from.text()?;
        }
        if flags & REPLY_TO != 0 {
            from.text()?;
        }
        if flags & EXPIRATION != 0 {
            properties.expiration = from.text()?;
        }
        if flags & MESSAGE_ID != 0 {
            properties.message_id = from.text()?;
        }
        if flags & TIMESTAMP != 0 {
            from.u64()?;
        }
        if flags & TYPE != 0 {
            properties.kind = from.text()?;
        }
        Ok(properties)
    }
}

impl Delivery {
    /// Read when they are wanted: most subscribers want none.
    ///
    /// # Errors
    /// When they are not well formed.
    pub(crate) fn properties(&self) -> Result<Properties, Failure> {
        Properties::read(self.properties.clone())
    }
}

impl Assembly {
    pub(super) fn new(tag: u64, redelivered: bool) -> Self {
        Self {
            tag,
            redelivered,
            properties: None,
            missing: 0,
            body: Body::Empty,
        }
    }

    pub(super) fn header(&mut self, payload: Bytes) -> Result<(), Failure> {
        let mut from = Reader(payload);
        let _class = from.u16()?;
        let _weight = from.u16()?;
        let size = from.u64()?;
        if self.properties.is_some() {
            return Err(Failure::Malformed("a message with two headers"));
        }
        if size > LARGEST {
            return Err(Failure::Malformed("a message of more than 512 MiB"));
        }
        self.missing = size;
        self.properties = Some(from.0);
        Ok(())
    }

    pub(super) fn body(&mut self, payload: Bytes) -> Result<(), Failure> {
        let length = u64::try_from(payload.len()).unwrap_or(u64::MAX);
        if self.properties.is_none() || length > self.missing {
            return Err(Failure::Malformed("a body that was not announced"));
        }
        self.missing -= length;
        match &mut self.body {
            Body::Empty if self.missing == 0 => self.body = Body::One(payload),
            Body::Empty => {
                let room = (self.missing + length).min(TRUSTED);
                let mut body = BytesMut::with_capacity(usize::try_from(room).unwrap_or_default());
                body.extend_from_slice(&payload);
                self.body = Body::Many(body);
            }
            Body::One(_) => return Err(Failure::Malformed("a body that goes on after its end")),
            Body::Many(body) => body.extend_from_slice(&payload),
        }
        Ok(())
    }

    pub(super) fn is_complete(&self) -> bool {
        self.properties.is_some() && self.missing == 0
    }

    pub(super) fn delivery(self) -> Delivery {
        Delivery {
            tag: self.tag,
            redelivered: self.redelivered,
            properties: self.properties.unwrap_or_default(),
            body: match self.body {
                Body::Empty => Bytes::new(),
                Body::One(body) => body,
                Body::Many(body) => body.freeze(),
            },
        }
    }
}

/// Appends the header frame of a message.
pub(super) fn header(
    to: &mut BytesMut,
    channel: u16,
    properties: &Properties,
    length: usize,
) -> Result<(), Failure> {
    let start = to.len();
    to.put_u8(Kind::Header.number());
    to.put_u16(channel);
    to.put_u32(0);
    to.put_u16(CLASS);
    to.put_u16(0);
    to.put_u64(u64::try_from(length).unwrap_or(u64::MAX));
    properties.write(to)?;
    let size = u32::try_from(to.len() - start - 7).map_err(|_| Failure::TooLong("the headers"))?;
    if let Some(place) = to.get_mut(start + 3..start + 7) {
        place.copy_from_slice(&size.to_be_bytes());
    }
    to.put_u8(END);
    Ok(())
}

/// The heads of the body frames of a message, each with its part of the body.
pub(super) fn bodies(
    channel: u16,
    body: &Bytes,
    longest_frame: usize,
) -> impl Iterator<Item = ([u8; 7], Bytes)> {
    let most = longest_frame.saturating_sub(OVERHEAD).max(1);
    let body = body.clone();
    (0..body.len()).step_by(most).map(move |start| {
        let part = body.slice(start..body.len().min(start + most));
        let length = u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes();
        let channel = channel.to_be_bytes();
        let head = [
            Kind::Body.number(),
            channel[0],
            channel[1],
            length[0],
            length[1],
            length[2],
            length[3],
        ];
        (head, part)
    })
}
