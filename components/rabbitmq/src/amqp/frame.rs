//! Frames: type, channel, length, payload, end mark.

use super::Failure;
use bytes::{Buf, Bytes, BytesMut};

/// What a frame costs beside its payload.
pub(super) const OVERHEAD: usize = 8;
pub(super) const END: u8 = 0xCE;
/// What a client begins with.
pub(super) const GREETING: [u8; 8] = *b"AMQP\x00\x00\x09\x01";
/// Nothing to say, and still here.
pub(super) const HEARTBEAT: [u8; 8] = [8, 0, 0, 0, 0, 0, 0, END];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Method,
    Header,
    Body,
    Heartbeat,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub kind: Kind,
    pub channel: u16,
    pub payload: Bytes,
}

impl Kind {
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Method => 1,
            Self::Header => 2,
            Self::Body => 3,
            Self::Heartbeat => 8,
        }
    }
}

impl Frame {
    /// Takes the next frame off the front of what was read; `None` while it is not complete. `most` bytes are the longest
    /// frame that was agreed upon.
    pub(super) fn next(read: &mut BytesMut, most: usize) -> Result<Option<Self>, Failure> {
        let Some(&first) = read.first() else {
            return Ok(None);
        };
        let kind = match first {
            1 => Kind::Method,
            2 => Kind::Header,
            3 => Kind::Body,
            8 => Kind::Heartbeat,
            _ => return Err(Failure::NotAmqp),
        };
        let Some(mut head) = read.get(1..7) else {
            return Ok(None);
        };
        let channel = head.get_u16();
        let size = usize::try_from(head.get_u32()).unwrap_or(usize::MAX);
        if size > most.saturating_sub(OVERHEAD) {
            return Err(Failure::Malformed("a frame longer than was agreed"));
        }
        let whole = size + OVERHEAD;
        if read.len() < whole {
            return Ok(None);
        }
        let mut payload = read.split_to(whole).freeze();
        payload.advance(7);
        if payload.last() != Some(&END) {
            return Err(Failure::Malformed("a frame without its end mark"));
        }
        payload.truncate(size);
        Ok(Some(Self {
            kind,
            channel,
            payload,
        }))
    }
}
