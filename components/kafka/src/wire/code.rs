//! The brokers' error codes: what they are called, and what to do about them.

use outrigger_component::error::Kind;
use std::fmt;

/// A code other than 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Code(pub i16);

impl Code {
    pub(crate) const OFFSET_OUT_OF_RANGE: Self = Self(1);
    pub(crate) const MESSAGE_TOO_LARGE: Self = Self(10);
    pub(crate) const RECORD_LIST_TOO_LARGE: Self = Self(18);
    pub(crate) const ILLEGAL_GENERATION: Self = Self(22);
    pub(crate) const UNKNOWN_MEMBER: Self = Self(25);
    pub(crate) const REBALANCE_IN_PROGRESS: Self = Self(27);
    pub(crate) const OUT_OF_ORDER_SEQUENCE: Self = Self(45);
    pub(crate) const DUPLICATE_SEQUENCE: Self = Self(46);
    pub(crate) const INVALID_PRODUCER_EPOCH: Self = Self(47);
    pub(crate) const UNKNOWN_PRODUCER_ID: Self = Self(59);
    pub(crate) const MEMBER_ID_REQUIRED: Self = Self(79);

    /// `None` for success.
    pub(crate) fn of(number: i16) -> Option<Self> {
        (number != 0).then_some(Self(number))
    }

    pub(crate) fn check(number: i16) -> Result<(), Self> {
        Self::of(number).map_or(Ok(()), Err)
    }

    /// Whether the same request can succeed a little later, perhaps at another broker.
    pub(crate) fn is_passing(self) -> bool {
        matches!(
            self.0,
            2 | 3 | 5..=9 | 13..=16 | 19 | 20 | 27 | 41 | 51 | 56 | 72 | 74 | 75 | 84 | 89
        )
    }

    pub(crate) fn kind(self) -> Kind {
        match self.0 {
            7 => Kind::Timeout,
            10 | 18 | 89 | 44 => Kind::Exhausted,
            29..=31 | 53 | 58 => Kind::PermissionDenied,
            17 | 24 | 26 | 33 | 34 | 35 | 37 | 38 | 42 | 43 | 76 | 87 => Kind::Invalid,
            _ if self.is_passing() => Kind::Unavailable,
            _ => Kind::Internal,
        }
    }

    fn words(self) -> (&'static str, &'static str) {
        match self.0 {
            1 => ("OFFSET_OUT_OF_RANGE", "the broker has no such offset any more"),
            2 => ("CORRUPT_MESSAGE", "the data was damaged on its way"),
            3 => (
                "UNKNOWN_TOPIC_OR_PARTITION",
                "create the topic, or let brokers create topics (auto.create.topics.enable)",
            ),
            5 => (
                "LEADER_NOT_AVAILABLE",
                "the partition has no leader at the moment",
            ),
            6 => (
                "NOT_LEADER_OR_FOLLOWER",
                "the partition has moved to another broker",
            ),
            7 => ("REQUEST_TIMED_OUT", "the replicas did not confirm in time"),
            8 => ("BROKER_NOT_AVAILABLE", "the broker is not available"),
            9 => ("REPLICA_NOT_AVAILABLE", "the replica is not available"),
            10 => (
                "MESSAGE_TOO_LARGE",
                "the broker takes no message of this size (message.max.bytes, max.message.bytes of the topic)",
            ),
            13 => ("NETWORK_EXCEPTION", "the broker lost a connection"),
            14 => ("COORDINATOR_LOAD_IN_PROGRESS", "the coordinator is starting"),
            15 => ("COORDINATOR_NOT_AVAILABLE", "the coordinator is not available"),
            16 => ("NOT_COORDINATOR", "the group has moved to another broker"),
            17 => ("INVALID_TOPIC_EXCEPTION", "topics cannot be named like this"),
            18 => (
                "RECORD_LIST_TOO_LARGE",
                "the batch is larger than the segment of the topic",
            ),
            19 => (
                "NOT_ENOUGH_REPLICAS",
                "too few replicas are in sync (min.insync.replicas)",
            ),
            20 => (
                "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
                "too few replicas are in sync (min.insync.replicas)",
            ),
            22 => ("ILLEGAL_GENERATION", "the group was distributed anew"),
            23 => (
                "INCONSISTENT_GROUP_PROTOCOL",
                "other members of the consumer group use another consumerGroupRebalanceStrategy",
            ),
            24 => ("INVALID_GROUP_ID", "set consumerGroup or consumerID"),
            25 => ("UNKNOWN_MEMBER_ID", "the group has given up on this member"),
            26 => (
                "INVALID_SESSION_TIMEOUT",
                "sessionTimeout is outside of what the broker allows (group.min.session.timeout.ms, group.max.session.timeout.ms)",
            ),
            27 => ("REBALANCE_IN_PROGRESS", "the group is being distributed anew"),
            29 => ("TOPIC_AUTHORIZATION_FAILED", "the user has no right to the topic"),
            30 => (
                "GROUP_AUTHORIZATION_FAILED",
                "the user has no right to the consumer group",
            ),
            31 => (
                "CLUSTER_AUTHORIZATION_FAILED",
                "the user has no such right in the cluster (IDEMPOTENT_WRITE)",
            ),
            32 => (
                "INVALID_TIMESTAMP",
                "the time of the message is too far from the broker's: set the clocks of this machine and of the broker right, or see \
                 message.timestamp.before.max.ms and message.timestamp.after.max.ms of the topic",
            ),
            33 => (
                "UNSUPPORTED_SASL_MECHANISM",
                "the listener does not offer this SASL mechanism",
            ),
            34 => ("ILLEGAL_SASL_STATE", "the listener did not expect a login"),
            35 => ("UNSUPPORTED_VERSION", "the broker is older than Kafka 2.1"),
            36 => ("TOPIC_ALREADY_EXISTS", "the topic exists"),
            41 => ("NOT_CONTROLLER", "the broker is not the controller"),
            44 => ("POLICY_VIOLATION", "a policy of the broker forbids it"),
            45 => (
                "OUT_OF_ORDER_SEQUENCE_NUMBER",
                "a batch before this one is missing",
            ),
            46 => ("DUPLICATE_SEQUENCE_NUMBER", "the batch is there already"),
            47 => ("INVALID_PRODUCER_EPOCH", "the producer was replaced"),
            56 => ("KAFKA_STORAGE_ERROR", "the broker cannot write to its disk"),
            58 => ("SASL_AUTHENTICATION_FAILED", "user or password is wrong"),
            59 => ("UNKNOWN_PRODUCER_ID", "the broker has forgotten the producer"),
            74 => ("FENCED_LEADER_EPOCH", "the partition has a new leader"),
            75 => ("UNKNOWN_LEADER_EPOCH", "the partition has a new leader"),
            76 => (
                "UNSUPPORTED_COMPRESSION_TYPE",
                "the topic does not take this compression",
            ),
            79 => ("MEMBER_ID_REQUIRED", "join again with the id that was given"),
            81 => (
                "GROUP_MAX_SIZE_REACHED",
                "the consumer group has no room for another member",
            ),
            82 => ("FENCED_INSTANCE_ID", "another member has the same instance id"),
            87 => (
                "INVALID_RECORD",
                "the broker does not take this record (a compacted topic needs keys: partitionKey)",
            ),
            89 => ("THROTTLING_QUOTA_EXCEEDED", "a quota is used up"),
            _ => (
                "error",
                "see https://kafka.apache.org/protocol#protocol_error_codes",
            ),
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, words) = self.words();
        write!(f, "{name} ({}): {words}", self.0)
    }
}
