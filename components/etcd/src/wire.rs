//! The messages of etcd's API version 3, as far as they are used: of each, the fields that we set or read.
//!
//! Facts of `etcdserverpb` and `mvccpb` (`api/etcdserverpb/rpc.proto`, `api/mvccpb/kv.proto`): names of the calls, numbers of
//! the fields.

use bytes::Bytes;
use prost::{Message, Oneof};
use std::fmt;

pub(crate) const RANGE: &str = "/etcdserverpb.KV/Range";
pub(crate) const TXN: &str = "/etcdserverpb.KV/Txn";
pub(crate) const LEASE_GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
pub(crate) const LEASE_REVOKE: &str = "/etcdserverpb.Lease/LeaseRevoke";
pub(crate) const AUTHENTICATE: &str = "/etcdserverpb.Auth/Authenticate";

#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeyValue {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    #[prost(int64, tag = "3")]
    pub mod_revision: i64,
    #[prost(bytes = "bytes", tag = "5")]
    pub value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Range {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// Not included; empty is "only this key", a zero byte is "to the last".
    #[prost(bytes = "bytes", tag = "2")]
    pub range_end: Bytes,
    /// Zero is none.
    #[prost(int64, tag = "3")]
    pub limit: i64,
    #[prost(bool, tag = "8")]
    pub keys_only: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Found {
    #[prost(message, repeated, tag = "2")]
    pub kvs: Vec<KeyValue>,
    /// There are keys beyond the limit.
    #[prost(bool, tag = "3")]
    pub more: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Put {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
    /// Zero is none.
    #[prost(int64, tag = "3")]
    pub lease: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Delete {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Request {
    #[prost(oneof = "Do", tags = "1, 2, 3")]
    pub act: Option<Do>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Do {
    #[prost(message, tag = "1")]
    Range(Range),
    #[prost(message, tag = "2")]
    Put(Put),
    #[prost(message, tag = "3")]
    Delete(Delete),
}

/// The answer to a [`Request`]; those to writes are empty here.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Response {
    #[prost(message, optional, tag = "1")]
    pub range: Option<Found>,
}

/// That a key was last written at a revision; zero is "does not exist".
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Compare {
    /// Zero is "equal".
    #[prost(int32, tag = "1")]
    result: i32,
    #[prost(int32, tag = "2")]
    target: i32,
    #[prost(bytes = "bytes", tag = "3")]
    pub key: Bytes,
    /// One of several in a oneof, hence written even if zero.
    #[prost(int64, optional, tag = "6")]
    pub mod_revision: Option<i64>,
}

impl Compare {
    const MOD_REVISION: i32 = 2;

    pub(crate) fn revision(key: Bytes, revision: i64) -> Self {
        Self {
            result: 0,
            target: Self::MOD_REVISION,
            key,
            mod_revision: Some(revision),
        }
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Txn {
    #[prost(message, repeated, tag = "1")]
    pub compare: Vec<Compare>,
    #[prost(message, repeated, tag = "2")]
    pub success: Vec<Request>,
    #[prost(message, repeated, tag = "3")]
    pub failure: Vec<Request>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TxnDone {
    #[prost(bool, tag = "2")]
    pub succeeded: bool,
    #[prost(message, repeated, tag = "3")]
    pub responses: Vec<Response>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LeaseGrant {
    /// Seconds.
    #[prost(int64, tag = "1")]
    pub ttl: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LeaseRevoke {
    #[prost(int64, tag = "1")]
    pub id: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LeaseGranted {
    #[prost(int64, tag = "2")]
    pub id: i64,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(crate) struct Authenticate {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub password: String,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(crate) struct Authenticated {
    #[prost(string, tag = "2")]
    pub token: String,
}

/// An answer of which nothing is read.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Nothing {}

impl fmt::Debug for Authenticate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authenticate(***)")
    }
}

impl fmt::Debug for Authenticated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authenticated(***)")
    }
}
