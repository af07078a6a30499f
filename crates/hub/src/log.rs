//! The commit log: append-only segment files, one frame per group commit, one sync per frame.
//!
//! INVARIANT: what [`Log::append`] answered for with `Sync::Now` is on disk. A frame is seen by readers only
//! after that. What was not synced when the machine stopped is cut off by the next open and reported; what was
//! synced and cannot be read any more is an error, never skipped.
//!
//! It knows nothing about topics or keys; records pass through it as bytes.

pub(crate) mod frame;
pub(crate) mod record;
pub(crate) mod segment;
mod tail;
#[cfg(test)]
mod tests;
pub(crate) mod volume;

use crate::error::{Error, Result};
use frame::{FRAME_HEADER, Frame, SEGMENT_HEADER, SegmentHeader};
use record::Record;
use segment::{Segment, Unreadable};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use volume::{Media, Volume};

/// Room is reserved in steps of this many bytes.
const RESERVE: u64 = 1 << 20;

/// When an append is made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sync {
    /// Before it returns.
    Now,
    /// With a later one. What it wrote may be lost when the machine (not the process) stops.
    Later,
}

/// The segments that exist, by base; shared with readers.
#[derive(Default)]
pub(crate) struct Segments(RwLock<BTreeMap<u64, Arc<Segment>>>);

impl Segments {
    pub(crate) fn get(&self, base: u64) -> Option<Arc<Segment>> {
        self.read().get(&base).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Segment>> {
        self.read().values().cloned().collect()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<u64, Arc<Segment>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<u64, Arc<Segment>>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Records on their way into one frame.
pub(crate) struct Batch {
    frame: Vec<u8>,
    records: u32,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            frame: vec![0; FRAME_HEADER],
            records: 0,
        }
    }
}

impl Batch {
    pub(crate) fn push(&mut self, record: &Record) {
        record.encode(&mut self.frame);
        self.records += 1;
    }

    pub(crate) fn push_message(&mut self, message: &record::Stored) {
        message.encode(&mut self.frame);
        self.records += 1;
    }

    pub(crate) fn records(&self) -> u32 {
        self.records
    }

    pub(crate) fn bytes(&self) -> usize {
        self.frame.len()
    }

    pub(crate) fn clear(&mut self) {
        self.frame.truncate(FRAME_HEADER);
        // One huge value must not keep its memory for ever.
        self.frame.shrink_to(1 << 20);
        self.records = 0;
    }
}

/// Where a batch went.
pub(crate) struct Written {
    pub(crate) segment: Arc<Segment>,
    pub(crate) at: u64,
}

/// Nothing of the batch was written.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Refused {
    #[error("no room on the disk of {place}: {cause}; writes work again as soon as there is")]
    Full { place: String, cause: String },
    #[error("the log in {place} cannot be written: {cause}; look after the disk, then start the hub again")]
    Failed { place: String, cause: String },
}

/// A tail that was cut off at open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Torn {
    pub(crate) segment: String,
    pub(crate) at: u64,
    pub(crate) bytes: u64,
}

pub(crate) struct Log {
    volume: Arc<dyn Volume>,
    id: u64,
    segment_bytes: u64,
    segments: Arc<Segments>,
    active: Arc<Segment>,
    /// Where the next frame goes, in the active segment.
    at: u64,
    reserved: u64,
    next: u64,
    /// Position and next sequence number at the last sync.
    synced: (u64, u64),
    failed: Option<String>,
}

impl Log {
    /// Opens the log of a folder and hands every frame from the oldest segment on to `sink`.
    ///
    /// `fresh` is the id of a log that does not exist yet.
    ///
    /// # Errors
    /// Damage that is not a torn tail, a missing segment, an unreadable folder, or what `sink` answered.
    pub(crate) fn open(
        volume: Arc<dyn Volume>,
        segment_bytes: u64,
        fresh: u64,
        now: u64,
        sink: &mut dyn FnMut(&Arc<Segment>, &Frame) -> Result<()>,
    ) -> Result<(Self, Option<Torn>)> {
        let names = volume
            .list()
            .map_err(|source| Error::io("cannot list", &volume.place(), source))?;
        let mut bases: Vec<u64> = names.iter().filter_map(|name| segment::base(name)).collect();
        bases.sort_unstable();
        let segments = Arc::new(Segments::default());
        let mut torn = None;
        let mut tail: Option<Tail> = None;
        let mut id = None;
        for (index, base) in bases.iter().copied().enumerate() {
            let last = index + 1 == bases.len();
            let name = segment::name(base);
            let media = open_media(&*volume, &name)?;
            let header =
                match read_header(&*media).map_err(|source| Error::io("cannot read", &name, source))? {
                    Ok(header) => header,
                    // Written and synced before the first frame: a file without it holds nothing yet.
                    Err(_) if last && is_blank(&*media, &name)? => {
                        remove(&*volume, &name)?;
                        continue;
                    }
                    Err(what) => return Err(damage(&*volume, &name, 0, &what)),
                };
            let expected = tail.as_ref().map(|tail| tail.next);
            if header.base != base || id.is_some_and(|id| id != header.log) {
                return Err(damage(
                    &*volume,
                    &name,
                    0,
                    "it belongs to another place or another log",
                ));
            }
            if let Some(expected) = expected.filter(|expected| *expected != base) {
                return Err(Error::Missing {
                    place: volume.place(),
                    expected: segment::name(expected),
                    found: name,
                });
            }
            id = Some(header.log);
            let found = Arc::new(Segment::new(base, header.log, media));
            let (at, next, written) = replay(&*volume, &found, last, sink, &mut torn)?;
            found.publish(at, written.unwrap_or(header.created));
            segments.write().insert(base, found.clone());
            tail = Some(Tail {
                segment: found,
                at,
                next,
            });
        }
        let id = id.unwrap_or(fresh);
        let tail = match tail {
            Some(tail) => tail,
            None => {
                let first = create(&*volume, id, 0, now)
                    .map_err(|source| Error::io("cannot create a log segment in", &volume.place(), source))?;
                segments.write().insert(0, first.clone());
                Tail {
                    segment: first,
                    at: SEGMENT_HEADER as u64,
                    next: 0,
                }
            }
        };
        let mut log = Self {
            volume,
            id,
            segment_bytes,
            segments,
            active: tail.segment,
            at: tail.at,
            reserved: tail.at,
            next: tail.next,
            synced: (tail.at, tail.next),
            failed: None,
        };
        // What a killed process wrote may still be in the page cache only; from here on it counts as durable.
        // Cutting also removes the rest of a torn frame and the room reserved before.
        let settle = log
            .active
            .media
            .truncate(log.at)
            .and_then(|()| log.active.media.sync());
        settle.map_err(|source| Error::io("cannot sync", &log.active.name, source))?;
        log.synced = (log.at, log.next);
        Ok((log, torn))
    }

    pub(crate) fn segments(&self) -> &Arc<Segments> {
        &self.segments
    }

    /// Sequence number of the next record.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    pub(crate) fn is_synced(&self) -> bool {
        self.synced.1 == self.next
    }

    /// Writes a batch as one frame. `now` is the wall clock in milliseconds.
    pub(crate) fn append(&mut self, batch: &mut Batch, sync: Sync, now: u64) -> Result<Written, Refused> {
        if let Some(cause) = &self.failed {
            return Err(self.refuse_failed(cause.clone()));
        }
        let length = batch.frame.len() as u64;
        if self.at + length > self.segment_bytes && self.at > SEGMENT_HEADER as u64 {
            self.rotate(now)?;
        }
        if self.at + length > self.reserved {
            let target = (self.at + length).next_multiple_of(RESERVE);
            let reserve = self.active.media.reserve(target);
            reserve.map_err(|error| self.refuse(error, self.at))?;
            self.reserved = target;
        }
        frame::seal(
            &mut batch.frame,
            self.id,
            batch.records,
            self.next,
            self.synced.1,
            now,
        );
        let write = self.active.media.write(&batch.frame, self.at);
        write.map_err(|error| self.refuse(error, self.at))?;
        let at = self.at;
        let next = self.next + u64::from(batch.records);
        if sync == Sync::Now {
            self.sync_media()?;
            self.synced = (at + length, next);
        }
        self.at = at + length;
        self.next = next;
        self.active.publish(self.at, now);
        Ok(Written {
            segment: self.active.clone(),
            at,
        })
    }

    /// Makes everything appended so far durable.
    pub(crate) fn sync(&mut self) -> Result<(), Refused> {
        if self.is_synced() {
            return Ok(());
        }
        if let Some(cause) = &self.failed {
            return Err(self.refuse_failed(cause.clone()));
        }
        self.sync_media()?;
        self.synced = (self.at, self.next);
        Ok(())
    }

    /// Ends the active segment and begins the next one.
    pub(crate) fn rotate(&mut self, now: u64) -> Result<(), Refused> {
        self.sync()?;
        let end = self
            .active
            .media
            .truncate(self.at)
            .and_then(|()| self.active.media.sync());
        end.map_err(|error| self.refuse(error, self.at))?;
        self.reserved = self.at;
        let next =
            create(&*self.volume, self.id, self.next, now).map_err(|error| self.refuse(error, self.at))?;
        self.segments.write().insert(next.base, next.clone());
        self.active = next;
        self.at = SEGMENT_HEADER as u64;
        self.reserved = self.at;
        self.synced = (self.at, self.next);
        Ok(())
    }

    /// Deletes the oldest segment, unless it is the active one. Readers that have it open may finish.
    pub(crate) fn remove_oldest(&mut self) -> Result<bool> {
        let Some(oldest) = self.segments.all().into_iter().next() else {
            return Ok(false);
        };
        if oldest.base == self.active.base {
            return Ok(false);
        }
        // The name goes first: should the process end here, the file is gone or whole, and the next open
        // accepts a log that begins later.
        remove(&*self.volume, &oldest.name)?;
        self.segments.write().remove(&oldest.base);
        Ok(true)
    }

    fn sync_media(&mut self) -> Result<(), Refused> {
        let Err(error) = self.active.media.sync() else {
            return Ok(());
        };
        // After a failed sync nobody knows which unsynced pages were written. Everything from the last
        // successful sync on is written again, so only lazily logged records may be lost by this.
        let (at, next) = self.synced;
        let refused = self.refuse(error, at);
        self.at = at;
        self.next = next;
        self.active.publish(at, self.active.newest());
        Err(refused)
    }

    /// Gives back the room from `keep` on, so that no half-written frame stays, and says what the error means.
    fn refuse(&mut self, error: io::Error, keep: u64) -> Refused {
        let full = matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        );
        let cut = self.active.media.truncate(keep);
        self.reserved = keep;
        match (full, cut) {
            (true, Ok(())) => Refused::Full {
                place: self.volume.place(),
                cause: error.to_string(),
            },
            (_, cut) => {
                let mut cause = error.to_string();
                if let Err(also) = cut {
                    cause = format!("{cause}; cutting off the rest failed as well: {also}");
                }
                self.failed = Some(cause.clone());
                self.refuse_failed(cause)
            }
        }
    }

    fn refuse_failed(&self, cause: String) -> Refused {
        Refused::Failed {
            place: self.volume.place(),
            cause,
        }
    }
}

struct Tail {
    segment: Arc<Segment>,
    at: u64,
    next: u64,
}

/// Walks one segment. Answers its end, the next sequence number and when the last frame was written.
fn replay(
    volume: &dyn Volume,
    segment: &Arc<Segment>,
    last: bool,
    sink: &mut dyn FnMut(&Arc<Segment>, &Frame) -> Result<()>,
    torn: &mut Option<Torn>,
) -> Result<(u64, u64, Option<u64>)> {
    let length = segment
        .media
        .len()
        .map_err(|source| Error::io("cannot read", &segment.name, source))?;
    let mut scan = segment.scan(SEGMENT_HEADER as u64, length);
    let mut next = segment.base;
    let mut written = None;
    loop {
        match scan.next() {
            Ok(Some(frame)) if frame.header.sequence == next => {
                next = next
                    .checked_add(u64::from(frame.header.records))
                    .ok_or_else(|| damage(volume, &segment.name, frame.at, "it ends all counting"))?;
                sink(segment, &frame)?;
                written = Some(frame.header.written);
            }
            Ok(Some(frame)) => {
                let what = format!(
                    "a frame has sequence number {} instead of {next}",
                    frame.header.sequence
                );
                return Err(damage(volume, &segment.name, frame.at, &what));
            }
            Ok(None) => return Ok((scan.at(), next, written)),
            Err(Unreadable::Io(source)) => return Err(Error::io("cannot read", &segment.name, source)),
            Err(Unreadable::Damaged { at }) if last => {
                let bytes = judge_tail(volume, segment, at, length, next)?;
                if bytes > 0 {
                    *torn = Some(Torn {
                        segment: segment.name.clone(),
                        at,
                        bytes,
                    });
                }
                return Ok((at, next, written));
            }
            Err(Unreadable::Damaged { at }) => {
                return Err(damage(volume, &segment.name, at, "a frame's checksum is wrong"));
            }
        }
    }
}

/// Decides whether what begins at `at` is reserved room (0), a torn tail (its bytes), or damage to something
/// that was durable (an error).
fn judge_tail(volume: &dyn Volume, segment: &Segment, at: u64, length: u64, next: u64) -> Result<u64> {
    let io = |source| Error::io("cannot read", &segment.name, source);
    let mut rest = vec![0; usize::try_from(length - at).unwrap_or(usize::MAX)];
    let read = segment.media.read(&mut rest, at).map_err(io)?;
    rest.truncate(read);
    let Some(end) = rest.iter().rposition(|byte| *byte != 0) else {
        return Ok(0);
    };
    if let Some(start) = tail::durable(&rest, segment.log, next) {
        let what = format!(
            "a frame's checksum is wrong, and it is not the end of the log: byte {} has an intact one",
            at + start as u64
        );
        return Err(damage(volume, &segment.name, at, &what));
    }
    Ok(end as u64 + 1)
}

fn read_header(media: &dyn Media) -> io::Result<Result<SegmentHeader, String>> {
    let mut header = [0; SEGMENT_HEADER];
    let read = media.read(&mut header, 0)?;
    Ok(SegmentHeader::decode(&header[..read]))
}

/// Whether nothing but (part of) a header was ever written: no frame can be in it.
fn is_blank(media: &dyn Media, name: &str) -> Result<bool> {
    let io = |source| Error::io("cannot read", name, source);
    let length = media.len().map_err(io)?;
    if length <= SEGMENT_HEADER as u64 {
        return Ok(true);
    }
    let mut rest = vec![0; usize::try_from(length - SEGMENT_HEADER as u64).unwrap_or(usize::MAX)];
    media.read(&mut rest, SEGMENT_HEADER as u64).map_err(io)?;
    Ok(rest.iter().all(|byte| *byte == 0))
}

fn open_media(volume: &dyn Volume, name: &str) -> Result<Arc<dyn Media>> {
    volume
        .open(name)
        .map_err(|source| Error::io("cannot open", &format!("{}/{name}", volume.place()), source))
}

fn create(volume: &dyn Volume, log: u64, base: u64, created: u64) -> io::Result<Arc<Segment>> {
    let name = segment::name(base);
    let media = volume.create(&name)?;
    let header = SegmentHeader { log, base, created };
    let ready = media
        .write(&header.encode(), 0)
        .and_then(|()| media.sync())
        .and_then(|()| volume.sync());
    if let Err(error) = ready {
        // So that the next attempt finds the name free. Should this fail too, its error says so then.
        return Err(match volume.remove(&name) {
            Ok(()) => error,
            Err(also) => io::Error::new(error.kind(), format!("{error}; removing {name} failed: {also}")),
        });
    }
    let segment = Arc::new(Segment::new(base, log, media));
    segment.publish(SEGMENT_HEADER as u64, created);
    Ok(segment)
}

fn remove(volume: &dyn Volume, name: &str) -> Result<()> {
    volume
        .remove(name)
        .and_then(|()| volume.sync())
        .map_err(|source| Error::io("cannot remove", &format!("{}/{name}", volume.place()), source))
}

fn damage(volume: &dyn Volume, name: &str, at: u64, what: &str) -> Error {
    Error::Damaged {
        path: format!("{}/{name}", volume.place()),
        at,
        what: what.to_owned(),
    }
}
