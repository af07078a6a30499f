//! Reading a log segment without a hub: for people (`--example inspect`) and for fuzzing the format.
//!
//! Shows what there is and how large it is, never the content of messages and values.

use crate::log::frame::{SEGMENT_HEADER, SegmentHeader};
use crate::log::record::{Change, Raw, Record};
use crate::log::segment::Segment;
use crate::log::volume::Media;
use bytes::Bytes;
use std::io;
use std::sync::Arc;

/// What a segment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Sequence number of the first record.
    pub base: u64,
    pub frames: u64,
    pub records: u64,
    /// Where the last intact frame ends, bytes.
    pub end: u64,
}

/// Walks the bytes of a segment file and calls `each` with every record's sequence number and description. Stops
/// at the first thing that is not an intact frame, as reserved room is not.
///
/// # Errors
/// A sentence, when this is no segment or an intact frame holds a record that cannot be read.
pub fn segment(bytes: Bytes, each: &mut dyn FnMut(u64, &str)) -> Result<Summary, String> {
    let header = SegmentHeader::decode(&bytes)?;
    let length = bytes.len() as u64;
    let segment = Segment::new(header.base, header.log, Arc::new(Slice(bytes)));
    let mut scan = segment.scan(SEGMENT_HEADER as u64, length);
    let mut summary = Summary {
        base: header.base,
        frames: 0,
        records: 0,
        end: scan.at(),
    };
    while let Ok(Some(frame)) = scan.next() {
        summary.frames += 1;
        summary.end = scan.at();
        let mut payload = frame.payload.clone();
        let mut sequence = frame.header.sequence;
        while let Some(raw) = Raw::next(&mut payload).map_err(|error| error.to_string())? {
            let record = raw
                .decode()
                .map_err(|error| format!("record {sequence}: {error}"))?;
            each(sequence, &describe(&record));
            sequence = sequence.wrapping_add(1);
            summary.records += 1;
        }
    }
    Ok(summary)
}

fn describe(record: &Record) -> String {
    match record {
        Record::Message(message) => format!(
            "message {} of topic {}, {} bytes",
            message.offset,
            message.topic,
            message.data.len()
        ),
        Record::Topic { id, name } => format!("topic {id} is {name:?}"),
        Record::Group {
            id,
            topic,
            name,
            next,
        } => {
            format!("group {id} of topic {topic} is {name:?}, begins at {next}")
        }
        Record::Cursor { group, cursor } => {
            format!("group {group} is at {}, {} open", cursor.next, cursor.open.len())
        }
        Record::GroupGone { id } => format!("group {id} is removed"),
        Record::Write(changes) => {
            let puts = changes
                .iter()
                .filter(|change| matches!(change, Change::Put { .. }))
                .count();
            format!("transaction of {puts} puts and {} deletes", changes.len() - puts)
        }
    }
}

/// A file that is in memory and stays as it is.
struct Slice(Bytes);

impl Media for Slice {
    fn read(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let rest = usize::try_from(at)
            .ok()
            .and_then(|at| self.0.get(at..))
            .unwrap_or_default();
        let length = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..length), rest.get(..length)) {
            to.copy_from_slice(from);
        }
        Ok(length)
    }

    fn write(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn reserve(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }
}
