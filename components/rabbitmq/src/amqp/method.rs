//! Methods: those that we send, as functions that append frames, and those that may come, as one enum.

use super::Failure;
use super::frame::{END, Kind};
use super::wire::{Reader, Table, put_long_text, put_table, put_text};
use bytes::{BufMut, Bytes, BytesMut};

/// What comes.
#[derive(Debug, PartialEq)]
pub(super) enum Method {
    Start {
        mechanisms: Bytes,
    },
    Secure,
    Tune {
        channels: u16,
        frame: u32,
        heartbeat: u16,
    },
    OpenOk,
    Close {
        code: u16,
        text: String,
    },
    CloseOk,
    Blocked {
        reason: String,
    },
    Unblocked,
    ChannelOpenOk,
    ChannelClose {
        code: u16,
        text: String,
    },
    ChannelCloseOk,
    Flow {
        active: bool,
    },
    ExchangeDeclareOk,
    QueueDeclareOk {
        name: String,
    },
    QueueBindOk,
    QosOk,
    ConsumeOk,
    Cancel,
    CancelOk,
    ConfirmSelectOk,
    Deliver(Deliver),
    Ack {
        tag: u64,
        multiple: bool,
    },
    Nack {
        tag: u64,
        multiple: bool,
    },
}

/// Which message follows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Deliver {
    pub tag: u64,
    pub redelivered: bool,
}

impl Method {
    pub(super) fn read(payload: Bytes) -> Result<Self, Failure> {
        let mut from = Reader(payload);
        let number = (from.u16()?, from.u16()?);
        Ok(match number {
            (10, 10) => {
                let _version = from.u16()?;
                from.table()?;
                Self::Start {
                    mechanisms: from.long_text()?,
                }
            }
            (10, 20) => Self::Secure,
            (10, 30) => Self::Tune {
                channels: from.u16()?,
                frame: from.u32()?,
                heartbeat: from.u16()?,
            },
            (10, 41) => Self::OpenOk,
            (10, 50) => Self::Close {
                code: from.u16()?,
                text: from.text()?,
            },
            (10, 51) => Self::CloseOk,
            (10, 60) => Self::Blocked { reason: from.text()? },
            (10, 61) => Self::Unblocked,
            (20, 11) => Self::ChannelOpenOk,
            (20, 20) => Self::Flow {
                active: from.u8()? & 1 == 1,
            },
            (20, 40) => Self::ChannelClose {
                code: from.u16()?,
                text: from.text()?,
            },
            (20, 41) => Self::ChannelCloseOk,
            (40, 11) => Self::ExchangeDeclareOk,
            (50, 11) => Self::QueueDeclareOk { name: from.text()? },
            (50, 21) => Self::QueueBindOk,
            (60, 11) => Self::QosOk,
            (60, 21) => Self::ConsumeOk,
            (60, 30) => Self::Cancel,
            (60, 31) => Self::CancelOk,
            (60, 60) => {
                from.text()?;
                Self::Deliver(Deliver {
                    tag: from.u64()?,
                    redelivered: from.u8()? & 1 == 1,
                })
            }
            (60, 80) => Self::Ack {
                tag: from.u64()?,
                multiple: from.u8()? & 1 == 1,
            },
            (60, 120) => Self::Nack {
                tag: from.u64()?,
                multiple: from.u8()? & 1 == 1,
            },
            (85, 11) => Self::ConfirmSelectOk,
            _ => return Err(Failure::Malformed("a method that nobody asked for")),
        })
    }
}

/// Which exchange.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Exchange<'a> {
    pub name: &'a str,
    pub kind: &'a str,
    pub durable: bool,
    pub auto_delete: bool,
}

/// Which queue.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Queue<'a> {
    pub name: &'a str,
    pub durable: bool,
    pub exclusive: bool,
    pub auto_delete: bool,
    pub arguments: Table,
}

/// How a delivery is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refuse {
    /// It comes again, here or elsewhere.
    Requeue,
    /// It goes to the dead-letter exchange of the queue, if there is one, and is gone otherwise.
    Reject,
}

/// Appends one method as a frame. On failure, nothing is appended.
fn method(
    to: &mut BytesMut,
    channel: u16,
    number: (u16, u16),
    arguments: impl FnOnce(&mut BytesMut) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let start = to.len();
    to.put_u8(Kind::Method.number());
    to.put_u16(channel);
    to.put_u32(0);
    to.put_u16(number.0);
    to.put_u16(number.1);
    if let Err(failure) = arguments(to) {
        to.truncate(start);
        return Err(failure);
    }
    let size = u32::try_from(to.len() - start - 7).map_err(|_| Failure::TooLong("a method"))?;
    if let Some(place) = to.get_mut(start + 3..start + 7) {
        place.copy_from_slice(&size.to_be_bytes());
    }
    to.put_u8(END);
    Ok(())
}

/// Appends a method without arguments, which cannot fail.
fn bare(to: &mut BytesMut, channel: u16, number: (u16, u16)) {
    to.put_u8(Kind::Method.number());
    to.put_u16(channel);
    to.put_u32(4);
    to.put_u16(number.0);
    to.put_u16(number.1);
    to.put_u8(END);
}

pub(super) fn start_ok(
    to: &mut BytesMut,
    properties: &Table,
    mechanism: &str,
    response: &[u8],
) -> Result<(), Failure> {
    method(to, 0, (10, 11), |to| {
        put_table(to, properties)?;
        put_text(to, mechanism, "the mechanism")?;
        put_long_text(to, response)?;
        put_text(to, "en_US", "the locale")
    })
}

pub(super) fn tune_ok(to: &mut BytesMut, channels: u16, frame: u32, heartbeat: u16) -> Result<(), Failure> {
    method(to, 0, (10, 31), |to| {
        to.put_u16(channels);
        to.put_u32(frame);
        to.put_u16(heartbeat);
        Ok(())
    })
}

pub(super) fn open(to: &mut BytesMut, vhost: &str) -> Result<(), Failure> {
    method(to, 0, (10, 40), |to| {
        put_text(to, vhost, "the virtual host")?;
        to.put_u8(0);
        to.put_u8(0);
        Ok(())
    })
}

/// Of the connection, or of a channel.
pub(super) fn close(to: &mut BytesMut, channel: u16) -> Result<(), Failure> {
    let number = if channel == 0 { (10, 50) } else { (20, 40) };
    method(to, channel, number, |to| {
        to.put_u16(200);
        put_text(to, "bye", "the farewell")?;
        to.put_u32(0);
        Ok(())
    })
}

/// Of the connection, or of a channel.
pub(super) fn close_ok(to: &mut BytesMut, channel: u16) {
    bare(to, channel, if channel == 0 { (10, 51) } else { (20, 41) });
}

pub(super) fn channel_open(to: &mut BytesMut, channel: u16) -> Result<(), Failure> {
    method(to, channel, (20, 10), |to| {
        to.put_u8(0);
        Ok(())
    })
}

pub(super) fn flow_ok(to: &mut BytesMut, channel: u16, active: bool) -> Result<(), Failure> {
    method(to, channel, (20, 21), |to| {
        to.put_u8(u8::from(active));
        Ok(())
    })
}

pub(super) fn exchange_declare(
    to: &mut BytesMut,
    channel: u16,
    exchange: &Exchange<'_>,
) -> Result<(), Failure> {
    method(to, channel, (40, 10), |to| {
        to.put_u16(0);
        put_text(to, exchange.name, "the name of an exchange (a topic)")?;
        put_text(to, exchange.kind, "the kind of an exchange")?;
        to.put_u8(u8::from(exchange.durable) << 1 | u8::from(exchange.auto_delete) << 2);
        put_table(to, &Table::new())
    })
}

pub(super) fn queue_declare(to: &mut BytesMut, channel: u16, queue: &Queue<'_>) -> Result<(), Failure> {
    method(to, channel, (50, 10), |to| {
        to.put_u16(0);
        put_text(to, queue.name, "the name of a queue")?;
        to.put_u8(
            u8::from(queue.durable) << 1 | u8::from(queue.exclusive) << 2 | u8::from(queue.auto_delete) << 3,
        );
        put_table(to, &queue.arguments)
    })
}

pub(super) fn queue_bind(
    to: &mut BytesMut,
    channel: u16,
    queue: &str,
    exchange: &str,
    key: &str,
) -> Result<(), Failure> {
    method(to, channel, (50, 20), |to| {
        to.put_u16(0);
        put_text(to, queue, "the name of a queue")?;
        put_text(to, exchange, "the name of an exchange (a topic)")?;
        put_text(to, key, "a routing key")?;
        to.put_u8(0);
        put_table(to, &Table::new())
    })
}

pub(super) fn qos(to: &mut BytesMut, channel: u16, prefetch: u16) -> Result<(), Failure> {
    method(to, channel, (60, 10), |to| {
        to.put_u32(0);
        to.put_u16(prefetch);
        to.put_u8(0);
        Ok(())
    })
}

pub(super) fn consume(
    to: &mut BytesMut,
    channel: u16,
    queue: &str,
    tag: &str,
    auto_ack: bool,
) -> Result<(), Failure> {
    method(to, channel, (60, 20), |to| {
        to.put_u16(0);
        put_text(to, queue, "the name of a queue")?;
        put_text(to, tag, "a consumer tag")?;
        to.put_u8(u8::from(auto_ack) << 1);
        put_table(to, &Table::new())
    })
}

/// Without waiting for an answer.
pub(super) fn cancel(to: &mut BytesMut, channel: u16, tag: &str) -> Result<(), Failure> {
    method(to, channel, (60, 30), |to| {
        put_text(to, tag, "a consumer tag")?;
        to.put_u8(1);
        Ok(())
    })
}

pub(super) fn confirm_select(to: &mut BytesMut, channel: u16) -> Result<(), Failure> {
    method(to, channel, (85, 10), |to| {
        to.put_u8(0);
        Ok(())
    })
}

pub(super) fn publish(to: &mut BytesMut, channel: u16, exchange: &str, key: &str) -> Result<(), Failure> {
    method(to, channel, (60, 40), |to| {
        to.put_u16(0);
        put_text(to, exchange, "the name of an exchange (a topic)")?;
        put_text(to, key, "a routing key")?;
        to.put_u8(0);
        Ok(())
    })
}

pub(super) fn ack(to: &mut BytesMut, channel: u16, tag: u64) {
    to.put_u8(Kind::Method.number());
    to.put_u16(channel);
    to.put_u32(13);
    to.put_u16(60);
    to.put_u16(80);
    to.put_u64(tag);
    to.put_u8(0);
    to.put_u8(END);
}

pub(super) fn nack(to: &mut BytesMut, channel: u16, tag: u64, refuse: Refuse) {
    to.put_u8(Kind::Method.number());
    to.put_u16(channel);
    to.put_u32(13);
    to.put_u16(60);
    to.put_u16(120);
    to.put_u64(tag);
    to.put_u8(u8::from(refuse == Refuse::Requeue) << 1);
    to.put_u8(END);
}
