//! Which partition a message goes to.

use super::WORTH_IT;
use crate::cluster::Partition;

/// What the publisher said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nothing: any.
    Any,
    /// The same for the same key.
    Key,
    Number(i32),
}

/// The partition of a key. COMPAT(IBM/sarama partitioner.go NewHashPartitioner): FNV-1a of 32 bits, the remainder's amount,
/// so that both sidecars find the same partition.
pub(super) fn of_key(key: &[u8], partitions: &[Partition]) -> Option<i32> {
    let hash = key.iter().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    });
    let count = i32::try_from(partitions.len()).ok().filter(|count| *count > 0)?;
    let index = (hash.cast_signed() % count).unsigned_abs();
    partitions
        .get(usize::try_from(index).ok()?)
        .map(|partition| partition.number)
}

/// Where messages without a key go: all to one partition until they leave it as a batch, or are as many bytes as a batch
/// should have; then to the next.
#[derive(Default)]
pub(super) struct Run {
    turn: usize,
    /// The partition in turn, once something went there.
    number: Option<i32>,
    bytes: usize,
}

impl Run {
    /// For a message of so many bytes.
    pub(super) fn take(&mut self, length: usize, partitions: &[Partition]) -> Option<i32> {
        if self.bytes >= WORTH_IT {
            self.end();
        }
        self.number = in_turn(self.turn, partitions);
        self.bytes += length;
        self.number
    }

    /// What waited in the partition has left it.
    pub(super) fn left(&mut self, number: i32) {
        if self.number == Some(number) {
            self.end();
        }
    }

    fn end(&mut self) {
        self.turn = self.turn.wrapping_add(1);
        self.number = None;
        self.bytes = 0;
    }
}

/// Of those with a leader the one in turn.
fn in_turn(turn: usize, partitions: &[Partition]) -> Option<i32> {
    let led = partitions.iter().filter(|partition| partition.leader.is_some());
    let count = led.clone().count();
    match count {
        0 => partitions.first().map(|partition| partition.number),
        count => led.skip(turn % count).map(|partition| partition.number).next(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Run, WORTH_IT, in_turn, of_key};
    use crate::cluster::Partition;

    fn partitions(count: i32) -> Vec<Partition> {
        (0..count)
            .map(|number| Partition {
                number,
                leader: (number != 1).then_some(1),
            })
            .collect()
    }

    /// FNV-1a: of nothing 0x811c9dc5, of "a" 0xe40c292c, of "foobar" 0xbf9cf968; all negative as signed numbers.
    #[test]
    fn keys_have_their_partition() {
        for (key, count, expected) in [
            ("", 10, 0x811c_9dc5_u32),
            ("a", 10, 0xe40c_292c),
            ("foobar", 7, 0xbf9c_f968),
            ("foobar", 1, 0xbf9c_f968),
        ] {
            let expected = (expected.cast_signed() % count).abs();
            assert_eq!(
                of_key(key.as_bytes(), &partitions(count)),
                Some(expected),
                "{key}"
            );
        }
        assert_eq!(of_key(b"a", &[]), None);
    }

    #[test]
    fn what_leaves_as_a_batch_was_one_partition_s() {
        let partitions = partitions(3);
        let mut run = Run::default();
        let take = |run: &mut Run, length| run.take(length, &partitions).unwrap();
        assert_eq!([10, 10, 10].map(|length| take(&mut run, length)), [0, 0, 0]);
        run.left(2);
        assert_eq!(take(&mut run, 10), 0, "another one was none of its own");
        run.left(0);
        assert_eq!([WORTH_IT - 1, 1].map(|length| take(&mut run, length)), [2, 2]);
        assert_eq!(
            [1, 1].map(|length| take(&mut run, length)),
            [0, 0],
            "a full batch waits there"
        );
        run.left(2);
        assert_eq!(take(&mut run, 1), 0, "that one is filled no longer");
        assert_eq!(Run::default().take(1, &[]), None);
    }

    #[test]
    fn partitions_without_a_leader_are_passed_over() {
        let turns: Vec<_> = (0..4).filter_map(|turn| in_turn(turn, &partitions(3))).collect();
        assert_eq!(turns, [0, 2, 0, 2]);
        assert_eq!(in_turn(5, &partitions(0)), None);
    }
}
