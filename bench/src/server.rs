//! The brokers and databases that contenders and raw clients are measured on.
//!
//! Redis and the hub start anew for each contender. Kafka, RabbitMQ and PostgreSQL take seconds to start and longer to be
//! warm, so one of each serves the whole run; topics, groups and tables are new for each contender.

use std::collections::BTreeMap;
use std::fmt;

use outrigger_testkit::servers::kafka::{self, Kafka};
use outrigger_testkit::servers::postgresql::{self, Postgresql};
use outrigger_testkit::servers::rabbitmq::{self, RabbitMq};

use crate::meter::Member;

/// What holds the messages and the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Broker {
    InMemory,
    Embedded,
    Redis,
    /// A file: state only.
    Sqlite,
    /// Messages only.
    Kafka,
    /// Messages only.
    Rabbitmq,
    /// State only.
    Postgresql,
    /// Whatever the components in the folder given with `--resources` say.
    Resources,
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InMemory => "in-memory",
            Self::Embedded => "embedded",
            Self::Redis => "redis",
            Self::Sqlite => "sqlite",
            Self::Kafka => "kafka",
            Self::Rabbitmq => "rabbitmq",
            Self::Postgresql => "postgresql",
            Self::Resources => "resources",
        })
    }
}

impl Broker {
    pub(crate) fn carries_messages(self) -> bool {
        !matches!(self, Self::Sqlite | Self::Postgresql)
    }

    pub(crate) fn keeps_state(self) -> bool {
        !matches!(self, Self::Kafka | Self::Rabbitmq)
    }
}

/// The servers of a whole run.
#[derive(Default)]
pub(crate) struct Servers {
    pub(crate) kafka: Option<Kafka>,
    pub(crate) rabbitmq: Option<RabbitMq>,
    pub(crate) postgresql: Option<Postgresql>,
}

impl Servers {
    /// Starts those of `brokers` that are of this kind.
    pub(crate) async fn start(brokers: &[Broker]) -> Self {
        let mut servers = Self::default();
        for broker in brokers {
            match broker {
                Broker::Kafka => servers.kafka = kafka::start().await,
                Broker::Rabbitmq => servers.rabbitmq = rabbitmq::start(&[]).await,
                Broker::Postgresql => servers.postgresql = postgresql::start(&[]).await,
                Broker::InMemory | Broker::Embedded | Broker::Redis | Broker::Sqlite | Broker::Resources => {}
            }
        }
        servers
    }

    /// Whether loads on `broker` can run: its server is there, or it is not one of these.
    pub(crate) fn have(&self, broker: Broker) -> bool {
        match broker {
            Broker::Kafka => self.kafka.is_some(),
            Broker::Rabbitmq => self.rabbitmq.is_some(),
            Broker::Postgresql => self.postgresql.is_some(),
            Broker::InMemory | Broker::Embedded | Broker::Redis | Broker::Sqlite | Broker::Resources => true,
        }
    }

    /// The processes of the server of `broker`, if it is one of these.
    pub(crate) fn member(&self, broker: Broker) -> Option<Member> {
        let pid = match broker {
            Broker::Kafka => self.kafka.as_ref()?.pid(),
            Broker::Rabbitmq => self.rabbitmq.as_ref()?.pid(),
            Broker::Postgresql => self.postgresql.as_ref()?.pid(),
            Broker::InMemory | Broker::Embedded | Broker::Redis | Broker::Sqlite | Broker::Resources => None,
        };
        Some(Member::family(&broker.to_string(), pid?))
    }
}

/// Type and settings of a component.
pub(crate) struct Component {
    pub(crate) kind: &'static str,
    pub(crate) settings: BTreeMap<&'static str, String>,
}

impl Component {
    /// One without settings.
    pub(crate) fn plain(kind: &'static str) -> Self {
        Self::of(kind, [])
    }

    pub(crate) fn of<const N: usize>(kind: &'static str, settings: [(&'static str, String); N]) -> Self {
        Self {
            kind,
            settings: settings.into(),
        }
    }
}
