//! The layout of a segment file: a header, then frames. One frame is one group commit.
//!
//! ```text
//! segment header, 64 bytes          frame header, 40 bytes
//!  0  "ORHUBLOG"                     0  magic            u32
//!  8  format version   u32           4  payload length   u32
//! 12  checksum         u32           8  checksum         u32
//! 16  log id           u64          12  records          u32
//! 24  base sequence    u64          16  first sequence   u64
//! 32  created, ms      u64          24  synced           u64
//! 40  zero                          32  written, ms      u64
//! ```
//!
//! Numbers are little-endian; checksums are CRC32C of everything else in the header and, for a frame, of its
//! payload. A frame's checksum is seeded with the log id, which is random: bytes that a client stored can
//! never pass for a frame.
//!
//! `synced` says: every record below this sequence number was on disk when the frame was written. It tells a
//! torn tail (never acknowledged as durable, may go) from damage (was on disk once, must not go unnoticed).

use bytes::Bytes;

pub(crate) const SEGMENT_HEADER: usize = 64;
pub(crate) const FRAME_HEADER: usize = 40;
pub(crate) const FRAME_MAGIC: [u8; 4] = *b"\xF4OHF";
const SEGMENT_MAGIC: [u8; 8] = *b"ORHUBLOG";
const VERSION: u32 = 1;
/// Bytes of the shortest record: its length and kind. A frame that claims more of them than fit is damage.
const MIN_RECORD: u64 = 5;
/// Most bytes of one frame's payload; a length above it is damage.
pub(crate) const MAX_PAYLOAD: usize = 128 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) log: u64,
    pub(crate) base: u64,
    pub(crate) created: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) length: u32,
    pub(crate) checksum: u32,
    pub(crate) records: u32,
    pub(crate) sequence: u64,
    pub(crate) synced: u64,
    pub(crate) written: u64,
}

/// A frame that was read and whose checksum is right.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    /// Position in the segment.
    pub(crate) at: u64,
    pub(crate) header: FrameHeader,
    pub(crate) payload: Bytes,
}

impl Frame {
    pub(crate) fn end(&self) -> u64 {
        self.at + FRAME_HEADER as u64 + self.payload.len() as u64
    }
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut out = [0; SEGMENT_HEADER];
        out[..8].copy_from_slice(&SEGMENT_MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[16..24].copy_from_slice(&self.log.to_le_bytes());
        out[24..32].copy_from_slice(&self.base.to_le_bytes());
        out[32..40].copy_from_slice(&self.created.to_le_bytes());
        let checksum = segment_checksum(&out);
        out[12..16].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// `Err` says what is wrong.
    pub(crate) fn decode(from: &[u8]) -> Result<Self, String> {
        let header: &[u8; SEGMENT_HEADER] = from
            .first_chunk()
            .ok_or("the file is shorter than a segment header")?;
        if header[..8] != SEGMENT_MAGIC {
            return Err("it does not begin like a log segment".to_owned());
        }
        let version = u32_at(header, 8);
        if u32_at(header, 12) != segment_checksum(header) {
            return Err("the checksum of its header is wrong".to_owned());
        }
        if version != VERSION {
            return Err(format!(
                "it has format version {version}, this program reads {VERSION}"
            ));
        }
        Ok(Self {
            log: u64_at(header, 16),
            base: u64_at(header, 24),
            created: u64_at(header, 32),
        })
    }
}

impl FrameHeader {
    /// `None` when these bytes cannot be a frame header.
    pub(crate) fn decode(from: &[u8]) -> Option<Self> {
        let header: &[u8; FRAME_HEADER] = from.first_chunk()?;
        if header[..4] != FRAME_MAGIC {
            return None;
        }
        let found = Self {
            length: u32_at(header, 4),
            checksum: u32_at(header, 8),
            records: u32_at(header, 12),
            sequence: u64_at(header, 16),
            synced: u64_at(header, 24),
            written: u64_at(header, 32),
        };
        let fits = u64::from(found.records) * MIN_RECORD <= u64::from(found.length);
        (found.length as usize <= MAX_PAYLOAD && found.records > 0 && fits).then_some(found)
    }

    fn encode(&self) -> [u8; FRAME_HEADER] {
        let mut out = [0; FRAME_HEADER];
        out[..4].copy_from_slice(&FRAME_MAGIC);
        out[4..8].copy_from_slice(&self.length.to_le_bytes());
        out[8..12].copy_from_slice(&self.checksum.to_le_bytes());
        out[12..16].copy_from_slice(&self.records.to_le_bytes());
        out[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        out[24..32].copy_from_slice(&self.synced.to_le_bytes());
        out[32..40].copy_from_slice(&self.written.to_le_bytes());
        out
    }

    /// Whether `payload` is the one this header was written for.
    pub(crate) fn fits(&self, log: u64, payload: &[u8]) -> bool {
        self.length as usize == payload.len() && self.checksum == frame_checksum(log, &self.encode(), payload)
    }

    /// The same for a payload of the right length, by its CRC32C.
    pub(crate) fn fits_sum(&self, log: u64, payload: u32) -> bool {
        let header = header_checksum(log, &self.encode());
        self.checksum == crc32c::crc32c_combine(header, payload, self.length as usize)
    }
}

/// Fills in the header of `frame`, whose first [`FRAME_HEADER`] bytes were left free for it.
pub(crate) fn seal(frame: &mut [u8], log: u64, records: u32, sequence: u64, synced: u64, written: u64) {
    let (head, payload) = frame.split_at_mut(FRAME_HEADER);
    let mut header = FrameHeader {
        length: u32::try_from(payload.len()).expect("the batch bounds keep payloads below MAX_PAYLOAD"),
        checksum: 0,
        records,
        sequence,
        synced,
        written,
    };
    header.checksum = frame_checksum(log, &header.encode(), payload);
    head.copy_from_slice(&header.encode());
}

fn frame_checksum(log: u64, header: &[u8; FRAME_HEADER], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(header_checksum(log, header), payload)
}

/// Of what goes before the payload.
fn header_checksum(log: u64, header: &[u8; FRAME_HEADER]) -> u32 {
    let mut sum = crc32c::crc32c(&log.to_le_bytes());
    sum = crc32c::crc32c_append(sum, &header[4..8]);
    crc32c::crc32c_append(sum, &header[12..])
}

fn segment_checksum(header: &[u8; SEGMENT_HEADER]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header[..12]), &header[16..])
}

fn u32_at(from: &[u8], at: usize) -> u32 {
    let mut raw = [0; 4];
    raw.copy_from_slice(&from[at..at + 4]);
    u32::from_le_bytes(raw)
}

fn u64_at(from: &[u8], at: usize) -> u64 {
    let mut raw = [0; 8];
    raw.copy_from_slice(&from[at..at + 8]);
    u64::from_le_bytes(raw)
}
