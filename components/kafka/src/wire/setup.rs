//! Requests about the cluster and the connection: who leads what, who coordinates, logging in.

use super::{Malformed, Put, Request, Take};
use bytes::Bytes;

/// Metadata v4: brokers and partitions' leaders. Topics that are not there are made, if the broker allows it.
pub(crate) struct Metadata<'a> {
    /// Empty asks for the brokers only.
    pub topics: &'a [String],
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cluster {
    pub brokers: Vec<Broker>,
    pub topics: Vec<Topic>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broker {
    pub id: i32,
    pub host: String,
    pub port: i32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Topic {
    pub code: i16,
    pub name: String,
    pub partitions: Vec<Partition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Partition {
    pub number: i32,
    /// -1 while there is none.
    pub leader: i32,
}

impl Request for Metadata<'_> {
    const API: i16 = 3;
    const VERSION: i16 = 4;
    type Answer = Cluster;

    fn put(&self, to: &mut Put) {
        to.array(self.topics, |to, topic| to.text(topic));
        to.i8(1);
    }

    fn take(from: &mut Take) -> Result<Cluster, Malformed> {
        let _throttled = from.i32()?;
        let brokers = from.array(|from| {
            let broker = Broker {
                id: from.i32()?,
                host: from.text()?,
                port: from.i32()?,
            };
            let _rack = from.text_or_none()?;
            Ok(broker)
        })?;
        let (_cluster, _controller) = (from.text_or_none()?, from.i32()?);
        let topics = from.array(|from| {
            let (code, name, _internal) = (from.i16()?, from.text()?, from.bool()?);
            let partitions = from.array(|from| {
                let _code = from.i16()?;
                let partition = Partition {
                    number: from.i32()?,
                    leader: from.i32()?,
                };
                let (_replicas, _in_sync) = (from.array(Take::i32)?, from.array(Take::i32)?);
                Ok(partition)
            })?;
            Ok(Topic {
                code,
                name,
                partitions,
            })
        })?;
        Ok(Cluster { brokers, topics })
    }
}

/// FindCoordinator v1, of a consumer group.
pub(crate) struct FindCoordinator<'a> {
    pub group: &'a str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Coordinator {
    pub code: i16,
    pub host: String,
    pub port: i32,
}

impl Request for FindCoordinator<'_> {
    const API: i16 = 10;
    const VERSION: i16 = 1;
    type Answer = Coordinator;

    fn put(&self, to: &mut Put) {
        to.text(self.group);
        to.i8(0);
    }

    fn take(from: &mut Take) -> Result<Coordinator, Malformed> {
        let (_throttled, code, _message, _id) = (from.i32()?, from.i16()?, from.text_or_none()?, from.i32()?);
        Ok(Coordinator {
            code,
            host: from.text()?,
            port: from.i32()?,
        })
    }
}

/// InitProducerId v0, without transactions.
pub(crate) struct InitProducerId;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProducerId {
    pub code: i16,
    pub id: i64,
    pub epoch: i16,
}

impl Request for InitProducerId {
    const API: i16 = 22;
    const VERSION: i16 = 0;
    type Answer = ProducerId;

    fn put(&self, to: &mut Put) {
        to.no_text();
        to.i32(60_000);
    }

    fn take(from: &mut Take) -> Result<ProducerId, Malformed> {
        let _throttled = from.i32()?;
        Ok(ProducerId {
            code: from.i16()?,
            id: from.i64()?,
            epoch: from.i16()?,
        })
    }
}

/// SaslHandshake v1: says which mechanism follows.
pub(crate) struct SaslHandshake<'a> {
    pub mechanism: &'a str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mechanisms {
    pub code: i16,
    pub offered: Vec<String>,
}

impl Request for SaslHandshake<'_> {
    const API: i16 = 17;
    const VERSION: i16 = 1;
    type Answer = Mechanisms;

    fn put(&self, to: &mut Put) {
        to.text(self.mechanism);
    }

    fn take(from: &mut Take) -> Result<Mechanisms, Malformed> {
        Ok(Mechanisms {
            code: from.i16()?,
            offered: from.array(Take::text)?,
        })
    }
}

/// SaslAuthenticate v0: one message of the mechanism.
pub(crate) struct SaslAuthenticate<'a> {
    pub bytes: &'a [u8],
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Authenticated {
    pub code: i16,
    pub message: String,
    pub bytes: Bytes,
}

impl Request for SaslAuthenticate<'_> {
    const API: i16 = 36;
    const VERSION: i16 = 0;
    type Answer = Authenticated;

    fn put(&self, to: &mut Put) {
        to.bytes(self.bytes);
    }

    fn take(from: &mut Take) -> Result<Authenticated, Malformed> {
        Ok(Authenticated {
            code: from.i16()?,
            message: from.text()?,
            bytes: from.bytes()?,
        })
    }
}
