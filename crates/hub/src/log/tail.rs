//! Whether what follows a damaged frame was durable: a search for an intact frame further on.
//!
//! A torn tail may hold anything, also what somebody wrote to make us work. Therefore the time grows with the length alone:
//! each place that looks like a frame costs the same whatever length it claims, because checksums of stretches are taken
//! from those of beginnings ([`Sums`]).

use super::frame::{FRAME_HEADER, FrameHeader};
use std::ops::Range;

/// Where in `rest`, behind its first byte, a frame begins that is intact and was written when sequence number `next` was
/// on disk already.
pub(super) fn durable(rest: &[u8], log: u64, next: u64) -> Option<usize> {
    let sums = Sums::new(rest);
    (1..rest.len().saturating_sub(FRAME_HEADER)).find(|&start| {
        let Some(header) = FrameHeader::decode(&rest[start..]) else {
            return false;
        };
        let payload = start + FRAME_HEADER..start + FRAME_HEADER + header.length as usize;
        // The records between `next` and this frame took at least a byte each, and what was synced came before it.
        let is_plausible = header.synced > next
            && header.synced <= header.sequence
            && header.sequence - next <= start as u64
            && payload.end <= rest.len();
        is_plausible && header.fits_sum(log, sums.of(payload))
    })
}

/// The CRC32C of any stretch of some bytes, in a time that does not depend on its length.
struct Sums<'a> {
    bytes: &'a [u8],
    /// Of the bytes before each block.
    blocks: Vec<u32>,
}

const BLOCK: usize = 4 << 10;

impl<'a> Sums<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let mut blocks = vec![0];
        let mut sum = 0;
        for block in bytes.chunks(BLOCK) {
            sum = crc32c::crc32c_append(sum, block);
            blocks.push(sum);
        }
        Self { bytes, blocks }
    }

    fn before(&self, end: usize) -> u32 {
        let block = end / BLOCK;
        crc32c::crc32c_append(self.blocks[block], &self.bytes[block * BLOCK..end])
    }

    /// `stretch` must lie within the bytes. The sum of two strings is the first's, moved on by the length of the second,
    /// xor the second's; so the second's is found from the other two.
    fn of(&self, stretch: Range<usize>) -> u32 {
        let moved = crc32c::crc32c_combine(self.before(stretch.start), 0, stretch.len());
        self.before(stretch.end) ^ moved
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{FRAME_HEADER, MAX_PAYLOAD, seal};
    use super::{BLOCK, Sums, durable};

    #[test]
    fn sums_of_stretches() {
        let bytes: Vec<u8> = (0..3 * BLOCK + 7).map(|n| (n * n / 3) as u8).collect();
        let sums = Sums::new(&bytes);
        for (start, end) in [
            (0, 0),
            (5, 5),
            (0, 1),
            (7, 4_000),
            (BLOCK, 2 * BLOCK),
            (BLOCK - 1, BLOCK + 1),
            (1, bytes.len()),
            (0, bytes.len()),
            (bytes.len(), bytes.len()),
        ] {
            assert_eq!(
                sums.of(start..end),
                crc32c::crc32c(&bytes[start..end]),
                "{start}..{end}"
            );
        }
    }

    fn frame(log: u64, payload: usize, sequence: u64, synced: u64) -> Vec<u8> {
        let mut frame = vec![7; FRAME_HEADER + payload];
        seal(&mut frame, log, 1, sequence, synced, 1);
        frame
    }

    #[test]
    fn frames_that_count() {
        let broken = |mut frame: Vec<u8>| {
            frame[FRAME_HEADER] ^= 1;
            frame
        };
        // What stands 100 bytes into the tail, where 10 comes next, of log 1.
        for (what, found, counts) in [
            ("an intact one", frame(1, 5_000, 12, 11), true),
            ("as long as can be", frame(1, 60_000, 12, 11), true),
            ("of another log", frame(2, 5_000, 12, 11), false),
            ("not intact", broken(frame(1, 5_000, 12, 11)), false),
            (
                "written before anything more was synced",
                frame(1, 5_000, 12, 10),
                false,
            ),
            (
                "that was synced before it was written",
                frame(1, 5_000, 12, 13),
                false,
            ),
            ("too far ahead", frame(1, 5_000, 1_000, 11), false),
            ("cut", frame(1, 5_000, 12, 11)[..4_000].to_vec(), false),
            ("too short for its records", frame(1, 4, 12, 11), false),
        ] {
            let mut rest = vec![0xF4; 100];
            rest.extend(found);
            rest.push(0);
            assert_eq!(durable(&rest, 1, 10), counts.then_some(100), "{what}");
        }
        const { assert!(60_000 < MAX_PAYLOAD) };
        for length in 0..=FRAME_HEADER + 1 {
            assert_eq!(durable(&vec![0xF4; length], 1, 0), None);
        }
    }

    #[test]
    fn a_tail_full_of_headers_is_no_frame() {
        let mut rest = vec![0];
        for _ in 0..1_000 {
            let mut header = frame(2, 0, 12, 11);
            header[4..8].copy_from_slice(&20_000_u32.to_le_bytes());
            rest.extend(header);
        }
        assert_eq!(durable(&rest, 1, 10), None);
    }
}
