use super::batch::{Found, Record, Stamp, decode, encode};
use super::compress::Compression;
use super::data::{End, Fetch, ListOffsets, Produce};
use super::group::{Committed, Join, Subscription, assignment, take_assignment};
use super::setup::{FindCoordinator, Metadata, SaslHandshake};
use super::{Malformed, Put, Request, Take, frame, put_varint, varint_length};
use bytes::{Bytes, BytesMut};
use rand::{RngExt as _, SeedableRng as _};
use std::time::Duration;

const STAMP: Stamp = Stamp {
    producer: 7,
    epoch: 1,
    sequence: 5,
};

fn records() -> Vec<Record> {
    (0..40)
        .map(|number| Record {
            key: (number % 3 == 0).then(|| Bytes::from(format!("key {number}"))),
            value: (number % 7 != 0).then(|| Bytes::from("value ".repeat(number))),
            headers: (0..number % 4)
                .map(|header| (Bytes::from(format!("h{header}")), Bytes::from("x")))
                .collect(),
        })
        .collect()
}

fn batch(compression: Compression) -> Bytes {
    encode(records().iter(), STAMP, 1_700_000_000_123, compression).unwrap()
}

/// The same batch as a broker would store it.
fn stored(batch: &Bytes, base: i64) -> Bytes {
    let mut stored = BytesMut::from(&batch[..]);
    stored[..8].copy_from_slice(&base.to_be_bytes());
    stored.freeze()
}

#[test]
fn batches_come_back_as_they_were() {
    for compression in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let compression = Compression::named(compression).unwrap();
        let all = [stored(&batch(compression), 100), stored(&batch(compression), 140)].concat();
        let decoded = decode(Bytes::from(all), 120).unwrap();
        assert_eq!(decoded.next, Some(180), "{compression:?}");
        let expected: Vec<Found> = (100..)
            .zip(records())
            .chain((140..).zip(records()))
            .filter(|(offset, _)| *offset >= 120)
            .map(|(offset, record)| Found {
                offset,
                time: 1_700_000_000_123,
                record,
            })
            .collect();
        assert_eq!(decoded.records, expected, "{compression:?}");
    }
    assert_eq!(Compression::named("brotli"), None);
}

#[test]
fn a_cut_batch_is_left_and_a_damaged_one_refused() {
    let whole = batch(Compression::None);
    let two = [&whole[..], &whole[..whole.len() - 1]].concat();
    assert_eq!(decode(Bytes::from(two), 0).unwrap().records.len(), 40);
    assert_eq!(
        decode(whole.slice(..30), 0).unwrap(),
        super::batch::Decoded::default()
    );
    let mut damaged = BytesMut::from(&whole[..]);
    damaged[100] ^= 1;
    assert_eq!(
        decode(damaged.freeze(), 0),
        Err(Malformed("the checksum of a batch"))
    );
    let mut old = BytesMut::from(&whole[..]);
    old[16] = 1;
    assert!(decode(old.freeze(), 0).is_err());
}

#[test]
fn marks_of_transactions_are_passed_over() {
    let mut control = BytesMut::from(&stored(&batch(Compression::None), 10)[..]);
    control[22] |= 0x20;
    let checksum = crc32c::crc32c(&control[21..]);
    control[17..21].copy_from_slice(&checksum.to_be_bytes());
    let decoded = decode(control.freeze(), 10).unwrap();
    assert!(decoded.records.is_empty());
    assert_eq!(decoded.next, Some(50));
}

/// With the checksum mended, so that what is behind it is read.
#[test]
fn no_batch_brings_the_reader_down() {
    let mut random = rand::rngs::SmallRng::seed_from_u64(7);
    for compression in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let whole = batch(Compression::named(compression).unwrap());
        for _ in 0..300 {
            let mut damaged = BytesMut::from(&whole[..]);
            for _ in 0..random.random_range(1..8) {
                let place = random.random_range(21..damaged.len());
                damaged[place] = random.random();
            }
            let checksum = crc32c::crc32c(&damaged[21..]);
            damaged[17..21].copy_from_slice(&checksum.to_be_bytes());
            drop(decode(damaged.freeze(), 0));
        }
    }
}

#[test]
fn varints() {
    for (value, bytes) in [
        (0, &[0][..]),
        (-1, &[1]),
        (1, &[2]),
        (63, &[126]),
        (-64, &[127]),
        (64, &[128, 1]),
        (300, &[216, 4]),
        (i64::MAX, &[254, 255, 255, 255, 255, 255, 255, 255, 255, 1]),
        (i64::MIN, &[255, 255, 255, 255, 255, 255, 255, 255, 255, 1]),
    ] {
        let mut put = BytesMut::new();
        put_varint(&mut put, value);
        assert_eq!(&put[..], bytes, "{value}");
        assert_eq!(varint_length(value), bytes.len(), "{value}");
        assert_eq!(Take(put.freeze()).varint(), Ok(value));
    }
    assert!(Take(Bytes::from_static(&[0x80; 12])).varint().is_err());
    assert!(Take(Bytes::from_static(&[0x80])).varint().is_err());
}

#[test]
fn what_members_say_of_themselves() {
    let said = Subscription {
        topics: vec!["a".to_owned(), "b".to_owned()],
        owned: vec![("a".into(), vec![0, 2])],
        generation: 4,
    };
    for sticky in [false, true] {
        assert_eq!(Subscription::take(said.bytes(sticky)).unwrap(), said);
    }
    // The first version, as the reference's library sends it for `sticky`: what is held is in the user data.
    let mut put = Put::default();
    put.i16(0);
    put.array(&["a"], |put, topic| put.text(topic));
    let mut user = Put::default();
    user.array(&["a"], |user, topic| {
        user.text(topic);
        user.array(&[1], |user, number| user.i32(*number));
    });
    user.i32(3);
    put.bytes(&user.0);
    let taken = Subscription::take(put.0.freeze()).unwrap();
    assert_eq!((taken.owned, taken.generation), (vec![("a".into(), vec![1])], 3));
    let parts = vec![("a".into(), vec![0]), ("b".into(), vec![])];
    assert_eq!(take_assignment(assignment(&parts)).unwrap(), parts);
    assert_eq!(take_assignment(Bytes::new()).unwrap(), vec![]);
    assert!(take_assignment(Bytes::from_static(&[0, 0, 0, 0, 0, 9])).is_err());
}

#[test]
fn requests_begin_with_length_api_version_and_client() {
    let frame = frame("me", &SaslHandshake { mechanism: "PLAIN" });
    assert_eq!(
        &frame[..],
        [
            &[0, 0, 0, 19, 0, 17, 0, 1, 0, 0, 0, 0, 0, 2][..],
            b"me",
            &[0, 5],
            b"PLAIN"
        ]
        .concat()
    );
}

/// Answers of brokers are not to be trusted.
#[test]
fn no_answer_brings_the_reader_down() {
    fn read<R: Request>(bytes: &Bytes) {
        drop(R::take(&mut Take(bytes.clone())));
    }
    let mut random = rand::rngs::SmallRng::seed_from_u64(3);
    for _ in 0..3000 {
        let length = random.random_range(0..80);
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                if random.random_bool(0.7) {
                    random.random_range(0..4)
                } else {
                    random.random()
                }
            })
            .collect();
        let bytes = Bytes::from(bytes);
        read::<Metadata<'_>>(&bytes);
        read::<FindCoordinator<'_>>(&bytes);
        read::<Produce>(&bytes);
        read::<Fetch>(&bytes);
        read::<ListOffsets>(&bytes);
        read::<Join<'_>>(&bytes);
        read::<Committed<'_>>(&bytes);
        drop(Subscription::take(bytes));
    }
    // An array that claims to be longer than everything there is.
    assert!(
        Take(Bytes::from_static(&[0x7f, 255, 255, 255, 0]))
            .array(Take::i8)
            .is_err()
    );
}

#[test]
fn fetches_and_offsets_are_laid_out_as_kafka_says() {
    let fetch = Fetch {
        wait: Duration::from_millis(500),
        min_bytes: 1,
        partition_bytes: 1 << 20,
        from: vec![("t".into(), vec![(3, 42)])],
    };
    let mut put = Put::default();
    fetch.put(&mut put);
    assert_eq!(
        &put.0[..],
        [
            &[
                255, 255, 255, 255, 0, 0, 1, 244, 0, 0, 0, 1, 3, 32, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255
            ][..],
            &[0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 3, 255, 255, 255, 255],
            &[
                0, 0, 0, 0, 0, 0, 0, 42, 255, 255, 255, 255, 255, 255, 255, 255, 0, 16, 0, 0, 0, 0, 0, 0
            ],
        ]
        .concat()
    );
    let mut put = Put::default();
    let newest = ListOffsets {
        of: vec![("t".into(), vec![3])],
        end: End::Newest,
    };
    newest.put(&mut put);
    assert_eq!(
        put.0[put.0.len() - 12..],
        [0, 0, 0, 3, 255, 255, 255, 255, 255, 255, 255, 255]
    );
}
