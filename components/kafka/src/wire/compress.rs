//! What batches can be compressed with. All in Rust: nothing of C is linked for it.
//!
//! INVARIANT: an inflated batch is never longer than [`LONGEST`], however small it was.

use super::Malformed;
use bytes::Bytes;
use std::io::{Read, Write};

/// Of an inflated batch: the largest that brokers can be told to take is smaller by far.
const LONGEST: usize = 256 << 20;
/// Begins what Java's library for snappy writes: blocks with their length in front.
const XERIAL: &[u8] = b"\x82SNAPPY\0";
/// With the two version numbers.
const XERIAL_HEAD: usize = 16;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Compression {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    /// By its name in metadata; `None` for any other.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "none" => Self::None,
            "gzip" => Self::Gzip,
            "snappy" => Self::Snappy,
            "lz4" => Self::Lz4,
            "zstd" => Self::Zstd,
            _ => return None,
        })
    }

    pub(super) fn attributes(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }
}

/// # Errors
/// None that can be expected: everything is in memory.
pub(super) fn deflate(with: Compression, plain: &[u8]) -> std::io::Result<Vec<u8>> {
    match with {
        Compression::None => Ok(plain.to_vec()),
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(plain)?;
            encoder.finish()
        }
        Compression::Snappy => snap::raw::Encoder::new()
            .compress_vec(plain)
            .map_err(std::io::Error::other),
        Compression::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(plain)?;
            encoder.finish().map_err(std::io::Error::other)
        }
        Compression::Zstd => Ok(ruzstd::encoding::compress_to_vec(
            plain,
            ruzstd::encoding::CompressionLevel::Fastest,
        )),
    }
}

/// `attributes` of the batch say what it is compressed with.
pub(super) fn inflate(attributes: i16, packed: Bytes) -> Result<Bytes, Malformed> {
    let broken = Malformed("a compressed batch");
    match attributes & 7 {
        0 => Ok(packed),
        1 => all(flate2::read::MultiGzDecoder::new(&packed[..])).ok_or(broken),
        2 => snappy(&packed).ok_or(broken),
        3 => all(lz4_flex::frame::FrameDecoder::new(&packed[..])).ok_or(broken),
        4 => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(&packed[..]).map_err(|_| broken)?;
            all(decoder).ok_or(broken)
        }
        _ => Err(Malformed("the compression of a batch")),
    }
}

fn all(from: impl Read) -> Option<Bytes> {
    let mut plain = Vec::new();
    let most = u64::try_from(LONGEST).unwrap_or(u64::MAX);
    from.take(most + 1).read_to_end(&mut plain).ok()?;
    (plain.len() <= LONGEST).then(|| Bytes::from(plain))
}

fn snappy(packed: &[u8]) -> Option<Bytes> {
    let block = |block: &[u8], so_far: usize| {
        let length = snap::raw::decompress_len(block).ok()?;
        if so_far.checked_add(length)? > LONGEST {
            return None;
        }
        snap::raw::Decoder::new().decompress_vec(block).ok()
    };
    if !packed.starts_with(XERIAL) {
        return block(packed, 0).map(Bytes::from);
    }
    let mut rest = packed.get(XERIAL_HEAD..)?;
    let mut plain = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (next, after) = after.split_at_checked(length)?;
        plain.extend(block(next, plain.len())?);
        rest = after;
    }
    Some(Bytes::from(plain))
}
