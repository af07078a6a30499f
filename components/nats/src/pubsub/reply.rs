//! Subjects on which messages are acknowledged; they say which message it is.
//!
//! `$JS.ACK.STREAM.CONSUMER.DELIVERED.SEQUENCE.CONSUMER_SEQUENCE.TIME.PENDING`, or, newer, with domain and account after `ACK`
//! and possibly more at the end (NATS ADR-15).

/// One delivery of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub subject: String,
    pub id: Id,
    /// Counts from 1.
    pub delivered: u64,
}

/// A message. The time tells it from one of an earlier stream of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Id {
    pub sequence: u64,
    /// Nanoseconds.
    pub time: u64,
}

impl Reply {
    /// `None` if it is not such a subject.
    pub(super) fn parse(subject: &str) -> Option<Self> {
        let rest = subject.strip_prefix("$JS.ACK.")?;
        let parts: Vec<&str> = rest.split('.').collect();
        let numbers = match parts.len() {
            7 => parts.get(2..)?,
            9.. => parts.get(4..)?,
            _ => return None,
        };
        let number = |at: usize| numbers.get(at)?.parse::<u64>().ok();
        Some(Self {
            subject: subject.to_owned(),
            id: Id {
                sequence: number(1)?,
                time: number(3)?,
            },
            delivered: number(0)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Id, Reply};

    #[test]
    fn subjects() {
        let expected = Some((
            2,
            Id {
                sequence: 7,
                time: 1_700_000_000_000_000_000,
            },
        ));
        for (subject, expected) in [
            ("$JS.ACK.orders.app.2.7.9.1700000000000000000.5", expected),
            ("$JS.ACK._.hash.orders.app.2.7.9.1700000000000000000.5", expected),
            (
                "$JS.ACK.hub.hash.orders.app.2.7.9.1700000000000000000.5.random",
                expected,
            ),
            ("$JS.ACK.orders.app.2.7.9.1700000000000000000", None),
            ("$JS.ACK.orders.app.x.7.9.1700000000000000000.5", None),
            ("$JS.ACK.a.orders.app.2.7.9.1700000000000000000", None),
            ("_INBOX.x", None),
            ("", None),
        ] {
            let found = Reply::parse(subject).map(|reply| (reply.delivered, reply.id));
            assert_eq!(found, expected, "{subject}");
        }
    }
}
