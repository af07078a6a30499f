use super::record::{Change, Cursor, Raw, Stored};
use super::volume::memory::Memory;
use super::*;
use bytes::Bytes;
use rand::{RngExt, SeedableRng, rngs::StdRng};

const SEGMENT: u64 = 1 << 20;

fn message(offset: u64, size: usize) -> Record {
    Record::Message(Stored {
        topic: 7,
        offset,
        published: 1_000,
        expires: 0,
        metadata: vec![("name".to_owned(), "value".to_owned())],
        data: Bytes::from(vec![offset as u8; size]),
    })
}

fn append(log: &mut Log, records: &[Record], sync: Sync) -> Result<Written, Refused> {
    let mut batch = Batch::default();
    for record in records {
        batch.push(record);
    }
    log.append(&mut batch, sync, 42)
}

/// Opens and reads everything.
fn open(volume: &Memory, segment: u64) -> Result<(Log, Option<Torn>, Vec<Record>)> {
    let mut records = Vec::new();
    let (log, torn) = Log::open(Arc::new(volume.clone()), segment, 99, 1, &mut |_, frame| {
        let mut payload = frame.payload.clone();
        while let Some(record) = Record::decode(&mut payload).unwrap() {
            records.push(record);
        }
        Ok(())
    })?;
    assert_eq!(log.next() as usize, records.len());
    Ok((log, torn, records))
}

fn records() -> Vec<Record> {
    vec![
        message(1, 0),
        message(u64::MAX - 1, 5_000),
        Record::Topic {
            id: 1,
            name: "orders/ä".to_owned(),
        },
        Record::Group {
            id: 2,
            topic: 1,
            name: "billing".to_owned(),
            next: 3,
        },
        Record::Cursor {
            group: 2,
            cursor: Cursor {
                next: 9,
                open: vec![(4, 1), (6, 3)],
            },
        },
        Record::GroupGone { id: 2 },
        Record::Write(vec![
            Change::Put {
                key: Bytes::from_static(b"space\0key"),
                value: Bytes::from_static(&[0, 255]),
                content_type: "text/plain".to_owned(),
                expires: 5,
            },
            Change::Delete {
                key: Bytes::from_static(b"space\0other"),
            },
        ]),
    ]
}

#[test]
fn records_survive_a_reopen_and_a_rotation() {
    let volume = Memory::default();
    let (mut log, torn, found) = open(&volume, 8 << 10).unwrap();
    assert_eq!((torn, found), (None, vec![]));
    let mut expected = Vec::new();
    for _ in 0..4 {
        append(&mut log, &records(), Sync::Now).unwrap();
        expected.extend(records());
    }
    assert!(volume.names().len() > 1, "it rotated");
    drop(log);
    let (mut log, torn, found) = open(&volume, 8 << 10).unwrap();
    assert_eq!((torn, &found), (None, &expected));
    append(&mut log, &records(), Sync::Later).unwrap();
    log.sync().unwrap();
    expected.extend(records());
    assert_eq!(open(&volume, 8 << 10).unwrap().2, expected);
}

/// Found by fuzzing: counting on from such a record would overflow.
#[test]
fn records_that_end_all_counting_are_malformed() {
    let group = |id, topic, next| Record::Group {
        id,
        topic,
        name: "g".to_owned(),
        next,
    };
    let cursor = |next, open: &[(u64, u32)]| Record::Cursor {
        group: 1,
        cursor: Cursor {
            next,
            open: open.to_vec(),
        },
    };
    for record in [
        message(u64::MAX, 0),
        Record::Topic {
            id: u32::MAX,
            name: "t".to_owned(),
        },
        group(u32::MAX, 1, 1),
        group(1, u32::MAX, 1),
        group(1, 1, u64::MAX),
        cursor(u64::MAX, &[]),
        cursor(1, &[(u64::MAX, 1)]),
        Record::GroupGone { id: u32::MAX },
    ] {
        let mut whole = Vec::new();
        record.encode(&mut whole);
        let raw = Raw::next(&mut Bytes::copy_from_slice(&whole)).unwrap().unwrap();
        assert_eq!(raw.message(), None, "{record:?}");
        assert!(
            Record::decode(&mut Bytes::from(whole)).is_err(),
            "{record:?} is taken"
        );
    }
}

#[test]
fn records_cut_short_or_too_long_are_malformed_and_never_a_panic() {
    for record in records() {
        let mut whole = Vec::new();
        record.encode(&mut whole);
        for length in 1..whole.len() {
            let mut cut = Bytes::copy_from_slice(&whole[..length]);
            assert!(Record::decode(&mut cut).is_err(), "{record:?} cut to {length}");
            // The same with a length that fits: the fields are what is short.
            if length > 4 {
                let mut cut = whole[..length].to_vec();
                cut[..4].copy_from_slice(&((length - 4) as u32).to_le_bytes());
                assert!(
                    Record::decode(&mut Bytes::from(cut)).is_err(),
                    "{record:?} shortened to {length}"
                );
            }
        }
        let mut long = whole.clone();
        long.push(0);
        long[..4].copy_from_slice(&((whole.len() - 3) as u32).to_le_bytes());
        assert!(
            Record::decode(&mut Bytes::from(long)).is_err(),
            "{record:?} with more"
        );
    }
}

#[test]
fn a_tail_cut_at_any_byte_is_cut_back_to_the_last_whole_frame_and_reported() {
    let volume = Memory::default();
    let (mut log, ..) = open(&volume, SEGMENT).unwrap();
    append(&mut log, &[message(1, 50), message(2, 60)], Sync::Now).unwrap();
    let last = append(&mut log, &[message(3, 70)], Sync::Now).unwrap().at as usize;
    let end = log.at as usize;
    drop(log);
    let name = segment::name(0);
    for length in last..=end {
        let copy = volume.copy();
        copy.edit(&name, |data| data.truncate(length));
        let (mut log, torn, found) = open(&copy, SEGMENT).unwrap();
        let whole = length == end;
        assert_eq!(found.len(), if whole { 3 } else { 2 }, "cut at {length}");
        let expected = (!whole && length > last).then(|| Torn {
            segment: name.clone(),
            at: last as u64,
            bytes: torn.as_ref().map_or(0, |torn| torn.bytes),
        });
        assert_eq!(torn, expected, "cut at {length}");
        assert!(torn.is_none_or(|torn| torn.bytes <= (length - last) as u64));
        // What is written now takes the place of the torn frame.
        append(&mut log, &[message(4, 10)], Sync::Now).unwrap();
        let again = open(&copy, SEGMENT).unwrap();
        assert_eq!((again.1, again.2.len()), (None, found.len() + 1));
    }
}

#[test]
fn a_changed_byte_is_damage_in_the_middle_and_torn_at_the_end() {
    let volume = Memory::default();
    let (mut log, ..) = open(&volume, SEGMENT).unwrap();
    let first = append(&mut log, &[message(1, 50)], Sync::Now).unwrap().at as usize;
    let last = append(&mut log, &[message(2, 60)], Sync::Now).unwrap().at as usize;
    let end = log.at as usize;
    drop(log);
    let name = segment::name(0);
    for at in 0..end {
        let copy = volume.copy();
        copy.edit(&name, |data| data[at] ^= 0x40);
        let opened = open(&copy, SEGMENT);
        if at >= last {
            let (_, torn, found) = opened.unwrap();
            assert_eq!(
                (torn.map(|torn| torn.at), found.len()),
                (Some(last as u64), 1),
                "byte {at}"
            );
        } else if (40..first).contains(&at) {
            // The unused rest of the segment header is covered by its checksum as well.
            assert!(matches!(opened, Err(Error::Damaged { .. })), "byte {at}");
        } else {
            let Err(Error::Damaged { at: found, .. }) = opened else {
                panic!("byte {at} went unnoticed");
            };
            assert_eq!(found as usize, if at < first { 0 } else { first }, "byte {at}");
        }
    }
}

#[test]
fn damage_before_the_last_segment_and_missing_segments_are_errors() {
    let volume = Memory::default();
    let (mut log, ..) = open(&volume, 4 << 10).unwrap();
    for offset in 1..20 {
        append(&mut log, &[message(offset, 1_000)], Sync::Now).unwrap();
    }
    drop(log);
    let names = volume.names();
    assert!(names.len() >= 4);
    let copy = volume.copy();
    let length = copy.data(&names[1]).len();
    copy.edit(&names[1], |data| data[length - 1] ^= 1);
    assert!(matches!(open(&copy, 4 << 10), Err(Error::Damaged { .. })));
    let copy = volume.copy();
    copy.edit(&names[1], |data| data.truncate(length - 10));
    assert!(matches!(open(&copy, 4 << 10), Err(Error::Damaged { .. })));
    let copy = volume.copy();
    copy.remove(&names[2]).unwrap();
    assert!(matches!(open(&copy, 4 << 10), Err(Error::Missing { .. })));
    // The oldest may go: that is what retention does.
    let copy = volume.copy();
    copy.remove(&names[0]).unwrap();
    let mut count = 0;
    let opened = Log::open(Arc::new(copy), 4 << 10, 99, 1, &mut |_, _| {
        count += 1;
        Ok(())
    });
    assert!(opened.is_ok() && count > 0);
}

#[test]
fn a_segment_that_was_just_being_made_is_forgotten() {
    for blank in [vec![], vec![0; 64], vec![0; 5_000], torn_header()] {
        let volume = Memory::default();
        let (mut log, ..) = open(&volume, SEGMENT).unwrap();
        append(&mut log, &[message(1, 10)], Sync::Now).unwrap();
        log.rotate(1).unwrap();
        drop(log);
        volume.edit(&segment::name(1), |data| *data = blank);
        let (_, torn, found) = open(&volume, SEGMENT).unwrap();
        assert_eq!((torn, found.len()), (None, 1));
        assert_eq!(volume.names(), [segment::name(0)]);
    }
}

fn torn_header() -> Vec<u8> {
    let header = SegmentHeader {
        log: 99,
        base: 1,
        created: 1,
    };
    header.encode()[..30].to_vec()
}

#[test]
fn a_full_disk_refuses_and_heals() {
    let volume = Memory::default();
    let (mut log, ..) = open(&volume, SEGMENT).unwrap();
    append(&mut log, &[message(1, 1_000)], Sync::Now).unwrap();
    let used = volume.data(&segment::name(0)).len();
    volume.state().limit = Some(used + 100);
    for _ in 0..3 {
        let refused = append(&mut log, &[message(2, 9_000)], Sync::Now).map(drop);
        assert!(matches!(refused, Err(Refused::Full { .. })), "{refused:?}");
    }
    // What was there can still be read.
    assert_eq!(open(&volume.copy(), SEGMENT).unwrap().2, [message(1, 1_000)]);
    volume.state().limit = None;
    append(&mut log, &[message(2, 9_000)], Sync::Now).unwrap();
    drop(log);
    let (_, torn, found) = open(&volume, SEGMENT).unwrap();
    assert_eq!((torn, found), (None, vec![message(1, 1_000), message(2, 9_000)]));
}

#[test]
fn a_full_disk_while_rotating_refuses_and_heals() {
    let volume = Memory::default();
    let (mut log, ..) = open(&volume, 4 << 10).unwrap();
    append(&mut log, &[message(1, 3_000)], Sync::Now).unwrap();
    volume.state().limit = Some(0);
    for _ in 0..3 {
        let refused = append(&mut log, &[message(2, 3_000)], Sync::Now).map(drop);
        assert!(matches!(refused, Err(Refused::Full { .. })), "{refused:?}");
    }
    volume.state().limit = None;
    append(&mut log, &[message(2, 3_000)], Sync::Now).unwrap();
    drop(log);
    assert_eq!(open(&volume, 4 << 10).unwrap().2.len(), 2);
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_any_more() {
    let volume = Memory::default();
    let (mut log, ..) = open(&volume, SEGMENT).unwrap();
    append(&mut log, &[message(1, 10)], Sync::Now).unwrap();
    volume.state().fail_sync = true;
    assert!(matches!(
        append(&mut log, &[message(2, 10)], Sync::Now),
        Err(Refused::Failed { .. })
    ));
    volume.state().fail_sync = false;
    assert!(matches!(
        append(&mut log, &[message(2, 10)], Sync::Now),
        Err(Refused::Failed { .. })
    ));
    drop(log);
    assert_eq!(open(&volume, SEGMENT).unwrap().2, [message(1, 10)]);
}

#[test]
fn a_stored_frame_is_never_taken_for_one_of_the_log() {
    let volume = Memory::default();
    let (mut log, ..) = open(&volume, SEGMENT).unwrap();
    append(&mut log, &[message(1, 10)], Sync::Now).unwrap();
    // Somebody publishes the bytes of a frame of another log, which claims that everything was synced.
    let mut forged = vec![0; FRAME_HEADER];
    message(1, 5).encode(&mut forged);
    frame::seal(&mut forged, 12_345, 1, 1, u64::MAX, 0);
    let record = Record::Write(vec![Change::Put {
        key: Bytes::from_static(b"k"),
        value: Bytes::from(forged),
        content_type: String::new(),
        expires: 0,
    }]);
    let at = append(&mut log, &[record], Sync::Now).unwrap().at as usize;
    drop(log);
    volume.edit(&segment::name(0), |data| data[at + FRAME_HEADER] ^= 1);
    let (_, torn, found) = open(&volume, SEGMENT).unwrap();
    assert_eq!((torn.map(|torn| torn.at), found.len()), (Some(at as u64), 1));
}

/// Loss of power at a random moment, again and again: whatever was synced is there, in order.
#[test]
fn synced_records_survive_any_crash() {
    for seed in 0..300 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut volume = Memory::default();
        let mut written: Vec<Record> = Vec::new();
        let mut safe = 0;
        for _ in 0..4 {
            let (mut log, _, found) =
                open(&volume, 16 << 10).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            assert!(found.len() >= safe, "seed {seed}: {} of {safe} left", found.len());
            assert_eq!(found, written[..found.len()], "seed {seed}");
            // What is left is durable from here on.
            written.truncate(found.len());
            safe = found.len();
            for _ in 0..random.random_range(0..20) {
                let batch: Vec<Record> = (0..random.random_range(1..4))
                    .map(|n| message((written.len() + n) as u64, random.random_range(0..700)))
                    .collect();
                let sync = if random.random_bool(0.5) {
                    Sync::Now
                } else {
                    Sync::Later
                };
                append(&mut log, &batch, sync).unwrap();
                written.extend(batch);
                if sync == Sync::Now {
                    safe = written.len();
                }
            }
            volume = volume.crash(&mut random);
        }
    }
}

#[test]
fn a_segment_can_be_inspected_and_garbage_never_panics() {
    let volume = Memory::default();
    let (mut log, ..) = open(&volume, SEGMENT).unwrap();
    append(&mut log, &records(), Sync::Now).unwrap();
    drop(log);
    let data = volume.data(&segment::name(0));
    let mut lines = Vec::new();
    let look = |data: Vec<u8>, lines: &mut Vec<String>| {
        crate::inspect::segment(data.into(), &mut |sequence, what| {
            lines.push(format!("{sequence} {what}"))
        })
    };
    let summary = look(data.clone(), &mut lines).unwrap();
    assert_eq!((summary.base, summary.frames, summary.records), (0, 1, 7));
    assert_eq!(lines[6], "6 transaction of 1 puts and 1 deletes");
    let mut random = StdRng::seed_from_u64(1);
    for _ in 0..2_000 {
        let mut data = data.clone();
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..data.len());
            data[at] = random.random();
        }
        data.truncate(random.random_range(0..=data.len()));
        // With a checksum that fits, so that the records are looked at.
        if data.len() > 200 && random.random_bool(0.5) {
            let end = random.random_range(120..data.len());
            frame::seal(&mut data[SEGMENT_HEADER..end], 99, 7, 0, 0, 0);
        }
        look(data, &mut lines).ok();
    }
}
