//! One segment file as readers see it, and the scan that walks its frames.

use super::frame::{FRAME_HEADER, Frame, FrameHeader, SEGMENT_HEADER};
use super::volume::Media;
use bytes::{Bytes, BytesMut};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes read from a file at once; a frame that is longer is read whole.
const CHUNK: usize = 256 << 10;

/// Shared by the writer and all readers.
pub(crate) struct Segment {
    /// Sequence number of its first record.
    pub(crate) base: u64,
    pub(crate) name: String,
    pub(crate) log: u64,
    pub(crate) media: Arc<dyn Media>,
    /// Readers may read below this position. Moves after the bytes are as durable as the policy says.
    readable: AtomicU64,
    /// When its newest frame was written, milliseconds.
    newest: AtomicU64,
}

/// Bytes that are not what was written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no intact frame at byte {at}")]
    Damaged { at: u64 },
}

impl Segment {
    pub(crate) fn new(base: u64, log: u64, media: Arc<dyn Media>) -> Self {
        Self {
            base,
            name: name(base),
            log,
            media,
            readable: AtomicU64::new(SEGMENT_HEADER as u64),
            newest: AtomicU64::new(0),
        }
    }

    pub(crate) fn readable(&self) -> u64 {
        self.readable.load(Ordering::Acquire)
    }

    pub(crate) fn newest(&self) -> u64 {
        self.newest.load(Ordering::Acquire)
    }

    pub(crate) fn publish(&self, end: u64, written: u64) {
        self.newest.store(written, Ordering::Release);
        self.readable.store(end, Ordering::Release);
    }

    /// Walks the frames from `at`, which must be the beginning of one, up to `end`.
    pub(crate) fn scan(&self, at: u64, end: u64) -> Scan<'_> {
        Scan {
            segment: self,
            at,
            end,
            window: Bytes::new(),
        }
    }
}

/// See [`Segment::scan`]. After an error it stays where it is.
pub(crate) struct Scan<'a> {
    segment: &'a Segment,
    at: u64,
    end: u64,
    /// Bytes already read, from `at` on.
    window: Bytes,
}

impl Scan<'_> {
    /// Where the next frame begins.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// The next frame, `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, Unreadable> {
        if self.at >= self.end {
            return Ok(None);
        }
        let damaged = Unreadable::Damaged { at: self.at };
        if !self.fill(FRAME_HEADER)? {
            return Err(damaged);
        }
        let Some(header) = FrameHeader::decode(&self.window) else {
            return Err(damaged);
        };
        let length = header.length as usize;
        if !self.fill(FRAME_HEADER + length)? {
            return Err(damaged);
        }
        let payload = self.window.slice(FRAME_HEADER..FRAME_HEADER + length);
        if !header.fits(self.segment.log, &payload) {
            return Err(damaged);
        }
        let frame = Frame {
            at: self.at,
            header,
            payload,
        };
        self.window = self.window.split_off(FRAME_HEADER + length);
        self.at = frame.end();
        Ok(Some(frame))
    }

    /// Has at least `need` bytes in the window, or answers `false` when there are not as many before the end.
    fn fill(&mut self, need: usize) -> Result<bool, Unreadable> {
        if self.window.len() >= need {
            return Ok(true);
        }
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        if left < need {
            return Ok(false);
        }
        let want = need.max(CHUNK).min(left);
        let mut window = BytesMut::zeroed(want);
        let read = self.segment.media.read(&mut window, self.at)?;
        window.truncate(read);
        self.window = window.freeze();
        Ok(read >= need)
    }
}

/// `<base, 20 digits>.log`: names sort as sequence numbers do.
pub(crate) fn name(base: u64) -> String {
    format!("{base:020}.log")
}

/// The base of a segment's file name; `None` for any other file.
pub(crate) fn base(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| digits.parse().ok())
        .flatten()
}
