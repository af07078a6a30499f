use super::*;
use crate::log::volume::memory::Memory;
use crate::log::{Batch, Log, Sync};

fn stored(topic: u32, offset: u64, size: usize) -> Arc<Stored> {
    Arc::new(Stored {
        topic,
        offset,
        published: 0,
        expires: 0,
        metadata: Vec::new(),
        data: Bytes::from(vec![offset as u8; size]),
    })
}

struct Setup {
    volume: Memory,
    log: Log,
    topics: [Topic; 2],
}

impl Setup {
    fn new() -> Self {
        let volume = Memory::default();
        let (log, _) = Log::open(Arc::new(volume.clone()), 1 << 20, 1, 0, &mut |_, _| Ok(())).unwrap();
        let topics = [1, 2].map(|id| Topic::new(id, format!("topic {id}"), 1));
        Self { volume, log, topics }
    }

    /// One frame with messages for one of the topics.
    fn add(&mut self, topic: usize, count: u64, size: usize) {
        let next = self.topics[topic].range().1;
        let id = self.topics[topic].id;
        let messages: Vec<_> = (next..next + count)
            .map(|offset| stored(id, offset, size))
            .collect();
        let mut batch = Batch::default();
        for message in &messages {
            batch.push_message(message);
        }
        let written = self.log.append(&mut batch, Sync::Now, 0).unwrap();
        self.topics[topic].add(written.segment.base, written.at, &messages);
    }

    fn offsets(&self, topic: usize, from: u64, messages: usize, bytes: usize) -> Vec<u64> {
        let found = self.topics[topic]
            .read(self.log.segments(), from, messages, bytes)
            .unwrap();
        for message in &found {
            assert_eq!(message.data, vec![message.offset as u8; message.data.len()]);
        }
        found.iter().map(|message| message.offset).collect()
    }
}

#[test]
fn any_offset_is_found_among_other_topics_and_across_segments() {
    let mut setup = Setup::new();
    for _ in 0..100 {
        setup.add(0, 3, 4_000);
        setup.add(1, 1, 20_000);
    }
    // The rare one: two messages with megabytes of others between.
    assert!(setup.volume.names().len() > 2);
    for from in [1, 2, 3, 4, 100, 150, 299, 300] {
        let expected: Vec<u64> = (from..=300).take(7).collect();
        assert_eq!(setup.offsets(0, from, 7, usize::MAX), expected);
    }
    let all: Vec<u64> = (1..=300).collect();
    assert_eq!(setup.offsets(0, 1, 1_000, usize::MAX), all);
    assert_eq!(setup.offsets(1, 57, 1, usize::MAX), [57]);
    assert_eq!(setup.offsets(1, 1, 1_000, 1), [1], "one message always fits");
    let marks: usize = setup.topics[1].state().marks.values().map(Vec::len).sum();
    assert!(marks < 25, "{marks} marks for 3 MB");
    assert!(setup.topics[0].read(setup.log.segments(), 301, 1, 1).is_err());
    assert!(setup.topics[0].read(setup.log.segments(), 0, 1, 1).is_err());
}

#[test]
fn the_index_that_is_rebuilt_from_the_log_finds_the_same() {
    let mut setup = Setup::new();
    for _ in 0..60 {
        setup.add(0, 2, 9_000);
        setup.add(1, 1, 9_000);
    }
    let rebuilt = [1, 2].map(|id| Topic::new(id, String::new(), 1));
    let volume: Arc<Memory> = Arc::new(setup.volume.copy());
    let opened = Log::open(volume, 1 << 20, 1, 0, &mut |segment, frame| {
        let mut payload = frame.payload.clone();
        while let Some(Record::Message(message)) = Record::decode(&mut payload).unwrap() {
            rebuilt[message.topic as usize - 1].found(segment.base, frame.at, message.offset);
        }
        Ok(())
    });
    let (log, _) = opened.unwrap();
    for (before, after) in setup.topics.iter().zip(&rebuilt) {
        assert_eq!(before.range(), after.range());
        assert_eq!(before.state().marks, after.state().marks);
        let (first, next) = after.range();
        let count = after
            .read(log.segments(), first, usize::MAX, usize::MAX)
            .unwrap()
            .len();
        assert_eq!(count as u64, next - first);
    }
}

#[test]
fn removed_segments_are_forgotten_and_damage_is_told() {
    let mut setup = Setup::new();
    for _ in 0..60 {
        setup.add(0, 1, 50_000);
    }
    let bases: Vec<u64> = setup
        .log
        .segments()
        .all()
        .iter()
        .map(|segment| segment.base)
        .collect();
    let last = setup.topics[0].last_in(bases[0]).unwrap();
    assert!(setup.log.remove_oldest().unwrap());
    assert_eq!(setup.topics[0].forget(bases[0]), last);
    assert_eq!(setup.topics[0].range(), (last + 1, 61));
    assert!(matches!(setup.topics[0].recent(last, 1), Recent::Gone(first) if first == last + 1));
    assert!(matches!(setup.topics[0].recent(61, 1), Recent::End));
    assert!(matches!(setup.topics[0].recent(60, 1), Recent::Older));
    assert!(matches!(
        setup.topics[0].read(setup.log.segments(), last, 1, 1),
        Err(Lost::Gone { .. })
    ));
    let name = crate::log::segment::name(bases[1]);
    setup.volume.edit(&name, |data| data[70_000] ^= 1);
    let lost = setup.topics[0].read(setup.log.segments(), last + 2, 1, 1);
    assert!(matches!(lost, Err(Lost::Segment { .. })), "{lost:?}");
    // What is before the damage can be read.
    assert_eq!(setup.offsets(0, last + 1, 1, 1), [last + 1]);
}

#[test]
fn recent_messages_are_kept_only_while_somebody_consumes_and_within_bounds() {
    let mut setup = Setup::new();
    setup.add(0, 1, 10);
    assert!(matches!(setup.topics[0].recent(1, 10), Recent::Older));
    setup.topics[0].set_joined(BTreeSet::from([1]));
    assert!(setup.topics[0].is_joined(1) && !setup.topics[0].is_joined(2));
    for _ in 0..50 {
        setup.add(0, 1, 100_000);
    }
    let Recent::Messages(found) = setup.topics[0].recent(51, 10) else {
        panic!("the newest is not there");
    };
    assert_eq!(found[0].offset, 51);
    assert!(
        matches!(setup.topics[0].recent(2, 10), Recent::Older),
        "5 MB do not fit"
    );
    assert!(setup.topics[0].state().recent_bytes <= RECENT_BYTES);
    setup.topics[0].set_joined(BTreeSet::new());
    assert!(matches!(setup.topics[0].recent(51, 10), Recent::Older));
}
