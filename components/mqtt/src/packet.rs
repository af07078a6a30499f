//! Packets of MQTT 3.1.1 (OASIS standard, sections 2 and 3): what may come, as one enum, and what we send, as functions
//! that append bytes. Pure; everything that comes is checked.

#[cfg(test)]
mod tests;

use crate::{Failure, Refusal};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The longest packet that the protocol knows, without its head.
pub(crate) const LONGEST: usize = 268_435_455;

/// How hard both sides try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Qos {
    /// At most once.
    Zero,
    /// At least once.
    One,
    /// Exactly once, as long as both sides remember.
    Two,
}

/// What comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Packet {
    Welcome {
        session: bool,
    },
    NotWelcome(Refusal),
    Publish(Publish),
    /// Of a message with [`Qos::One`].
    PubAck(u16),
    /// Of a message with [`Qos::Two`]: it is there.
    PubRec(u16),
    /// Of theirs: they know that it is here.
    PubRel(u16),
    /// Of ours: done.
    PubComp(u16),
    /// For each filter, whether it was granted.
    SubAck(u16, Vec<bool>),
    UnsubAck(u16),
    Pong,
}

/// A message that comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Publish {
    pub topic: String,
    pub payload: Bytes,
    pub qos: Qos,
    /// It was kept by the broker from before the subscription.
    pub retained: bool,
    /// Zero with [`Qos::Zero`].
    pub id: u16,
}

/// What we begin with.
#[derive(Clone)]
pub(crate) struct Hello {
    pub client: String,
    pub user: Option<String>,
    pub password: Option<String>,
    /// The broker is to forget what it knows of us, and to keep nothing when we are away.
    pub clean: bool,
    pub keep_alive_seconds: u16,
}

/// What acknowledges a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ack {
    /// PUBACK.
    Done,
    /// PUBREC.
    Received,
    /// PUBREL.
    Release,
    /// PUBCOMP.
    Complete,
}

impl Qos {
    pub(crate) fn of(number: u8) -> Option<Self> {
        [Self::Zero, Self::One, Self::Two]
            .get(usize::from(number))
            .copied()
    }

    const fn number(self) -> u8 {
        match self {
            Self::Zero => 0,
            Self::One => 1,
            Self::Two => 2,
        }
    }
}

impl Packet {
    /// Takes the next packet off the front of what was read; `None` while it is not complete.
    pub(crate) fn next(read: &mut BytesMut) -> Result<Option<Self>, Failure> {
        let Some((&first, rest)) = read.split_first() else {
            return Ok(None);
        };
        if !may_begin(first) {
            // Before the rest is there, which may never come.
            return Err(Failure::NotMqtt);
        }
        let Some((length, digits)) = length(rest)? else {
            return Ok(None);
        };
        if read.len() < 1 + digits + length {
            // For one piece instead of many.
            read.reserve((1 + digits + length - read.len()).min(1 << 20));
            return Ok(None);
        }
        read.advance(1 + digits);
        Self::read(first, read.split_to(length).freeze()).map(Some)
    }

    fn read(first: u8, mut from: Bytes) -> Result<Self, Failure> {
        let flags = first & 0x0f;
        let packet = match (first >> 4, flags) {
            (2, 0) => {
                let present = u8_of(&mut from)?;
                match u8_of(&mut from)? {
                    0 => Self::Welcome {
                        session: present & 1 == 1,
                    },
                    code => Self::NotWelcome(Refusal::of(code)),
                }
            }
            (3, flags) => {
                let qos = Qos::of(flags >> 1 & 3)
                    .ok_or(Failure::Malformed("a message of an unknown quality of service"))?;
                let length = usize::from(u16_of(&mut from)?);
                if length > from.len() {
                    return Err(short());
                }
                let topic = from.split_to(length);
                let topic = std::str::from_utf8(&topic)
                    .map_err(|_| Failure::Malformed("a topic that is not UTF-8"))?;
                let topic = topic.to_owned();
                let id = match qos {
                    Qos::Zero => 0,
                    Qos::One | Qos::Two => id_of(&mut from)?,
                };
                return Ok(Self::Publish(Publish {
                    topic,
                    payload: from,
                    qos,
                    retained: flags & 1 == 1,
                    id,
                }));
            }
            (4, 0) => Self::PubAck(id_of(&mut from)?),
            (5, 0) => Self::PubRec(id_of(&mut from)?),
            (6, 2) => Self::PubRel(id_of(&mut from)?),
            (7, 0) => Self::PubComp(id_of(&mut from)?),
            (9, 0) => {
                let id = id_of(&mut from)?;
                let granted = std::mem::take(&mut from).iter().map(|code| *code <= 2).collect();
                Self::SubAck(id, granted)
            }
            (11, 0) => Self::UnsubAck(id_of(&mut from)?),
            (13, 0) => Self::Pong,
            _ => return Err(Failure::NotMqtt),
        };
        if from.is_empty() {
            Ok(packet)
        } else {
            Err(Failure::Malformed("a packet that is too long"))
        }
    }
}

pub(crate) fn connect(to: &mut BytesMut, hello: &Hello) -> Result<(), Failure> {
    let mut body = BytesMut::new();
    body.put_slice(b"\x00\x04MQTT\x04");
    body.put_u8(
        u8::from(hello.clean) << 1
            | u8::from(hello.password.is_some()) << 6
            | u8::from(hello.user.is_some()) << 7,
    );
    body.put_u16(hello.keep_alive_seconds);
    put_text(&mut body, &hello.client, "the client id")?;
    if let Some(user) = &hello.user {
        put_text(&mut body, user, "the user name")?;
    }
    if let Some(password) = &hello.password {
        put_text(&mut body, password, "the password")?;
    }
    put_head(to, 0x10, body.len())?;
    to.put_slice(&body);
    Ok(())
}

/// Everything before the payload.
pub(crate) fn publish(
    to: &mut BytesMut,
    topic: &str,
    (qos, id): (Qos, u16),
    retain: bool,
    length: usize,
) -> Result<(), Failure> {
    let id_length = if qos == Qos::Zero { 0 } else { 2 };
    put_head(
        to,
        0x30 | qos.number() << 1 | u8::from(retain),
        2 + topic.len() + id_length + length,
    )?;
    put_text(to, topic, "the topic")?;
    if qos != Qos::Zero {
        to.put_u16(id);
    }
    Ok(())
}

/// Marks a message, from its first byte, as one that may have been sent before.
pub(crate) fn mark_repeated(head: &mut [u8]) {
    if let Some(first) = head.first_mut() {
        *first |= 0x08;
    }
}

pub(crate) fn ack(to: &mut BytesMut, ack: Ack, id: u16) {
    to.put_u8(match ack {
        Ack::Done => 0x40,
        Ack::Received => 0x50,
        Ack::Release => 0x62,
        Ack::Complete => 0x70,
    });
    to.put_u8(2);
    to.put_u16(id);
}

pub(crate) fn subscribe<'a>(
    to: &mut BytesMut,
    id: u16,
    filters: impl IntoIterator<Item = &'a str>,
    qos: Qos,
) -> Result<(), Failure> {
    let mut body = BytesMut::new();
    body.put_u16(id);
    for filter in filters {
        put_text(&mut body, filter, "the topic of a subscription")?;
        body.put_u8(qos.number());
    }
    put_head(to, 0x82, body.len())?;
    to.put_slice(&body);
    Ok(())
}

pub(crate) fn unsubscribe(to: &mut BytesMut, id: u16, filter: &str) -> Result<(), Failure> {
    put_head(to, 0xa2, 4 + filter.len())?;
    to.put_u16(id);
    put_text(to, filter, "the topic of a subscription")
}

pub(crate) fn ping(to: &mut BytesMut) {
    to.put_slice(&[0xc0, 0]);
}

pub(crate) fn disconnect(to: &mut BytesMut) {
    to.put_slice(&[0xe0, 0]);
}

fn put_head(to: &mut BytesMut, first: u8, length: usize) -> Result<(), Failure> {
    if length > LONGEST {
        return Err(Failure::Invalid(format!(
            "a message of {length} bytes with its topic is longer than the {LONGEST} that MQTT allows"
        )));
    }
    to.put_u8(first);
    let mut left = length;
    loop {
        let digit = u8::try_from(left % 128).unwrap_or_default();
        left /= 128;
        to.put_u8(if left > 0 { digit | 0x80 } else { digit });
        if left == 0 {
            return Ok(());
        }
    }
}

fn put_text(to: &mut BytesMut, text: &str, what: &str) -> Result<(), Failure> {
    let length = u16::try_from(text.len())
        .map_err(|_| Failure::Invalid(format!("{what} is longer than the 65535 bytes that MQTT allows")))?;
    to.put_u16(length);
    to.put_slice(text.as_bytes());
    Ok(())
}

/// Whether a broker may send a packet with this first byte: its type, and flags that are fixed but for messages.
fn may_begin(first: u8) -> bool {
    matches!(
        first,
        0x20 | 0x30..=0x3f | 0x40 | 0x50 | 0x62 | 0x70 | 0x90 | 0xb0 | 0xd0
    )
}

/// The length of what follows, and how many digits it has. `None` while they are not all there.
fn length(from: &[u8]) -> Result<Option<(usize, usize)>, Failure> {
    let mut length = 0;
    for (place, &digit) in from.iter().take(4).enumerate() {
        length |= usize::from(digit & 0x7f) << (7 * place);
        if digit & 0x80 == 0 {
            return Ok(Some((length, place + 1)));
        }
    }
    if from.len() < 4 {
        Ok(None)
    } else {
        Err(Failure::NotMqtt)
    }
}

fn u8_of(from: &mut Bytes) -> Result<u8, Failure> {
    from.try_get_u8().map_err(|_| short())
}

fn u16_of(from: &mut Bytes) -> Result<u16, Failure> {
    from.try_get_u16().map_err(|_| short())
}

fn id_of(from: &mut Bytes) -> Result<u16, Failure> {
    match u16_of(from)? {
        0 => Err(Failure::Malformed("a packet with the number 0")),
        id => Ok(id),
    }
}

fn short() -> Failure {
    Failure::Malformed("a packet ends too early")
}
