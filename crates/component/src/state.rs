//! State stores: key/value with entity tags, time to live and transactions.
//!
//! Keys arrive complete (prefix included); a store neither adds nor parses prefixes.

pub mod cleanup;
pub mod like;
pub mod query;

use crate::Component;
use crate::error::{Error, Result};
use crate::metadata::Metadata;
use bytes::Bytes;
use query::{Page, Query};

/// What a store can do. A `true` is tested by the conformance suite; a `false` must answer
/// [`Kind::Unsupported`](crate::error::Kind::Unsupported).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features {
    pub etag: bool,
    pub transactional: bool,
    pub ttl: bool,
    pub query: bool,
    pub delete_with_prefix: bool,
    pub keys_like: bool,
    /// Largest number of writes in one transaction; `None` is no limit.
    pub max_transaction: Option<usize>,
}

impl Features {
    /// The names under which `/v1.0/metadata` lists capabilities, in the reference's order.
    pub fn names(&self) -> Vec<&'static str> {
        [
            (self.etag, "ETAG"),
            (self.transactional, "TRANSACTIONAL"),
            (self.ttl, "TTL"),
            (self.query, "QUERY_API"),
            (self.delete_with_prefix, "DELETE_WITH_PREFIX"),
            (self.keys_like, "KEYS_LIKE"),
        ]
        .into_iter()
        .filter_map(|(on, name)| on.then_some(name))
        .collect()
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Consistency {
    #[default]
    Unspecified,
    Eventual,
    Strong,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Concurrency {
    #[default]
    Unspecified,
    FirstWrite,
    LastWrite,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Get {
    pub key: String,
    pub consistency: Consistency,
    pub metadata: Metadata,
}

/// A stored value. `metadata` may hold `ttlExpireTime` (RFC 3339) where the store knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Item {
    pub value: Bytes,
    pub etag: Option<String>,
    pub content_type: Option<String>,
    pub metadata: Metadata,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Set {
    pub key: String,
    /// Stored and given back byte for byte.
    pub value: Bytes,
    /// The caller says that the value is JSON. A store that tells JSON from other bytes keeps it as such.
    pub is_json: bool,
    /// When given, the write happens only if the stored tag is the same; an empty text is "not given".
    pub etag: Option<String>,
    pub concurrency: Concurrency,
    pub consistency: Consistency,
    pub content_type: Option<String>,
    /// May hold `ttlInSeconds`; see [`ttl`].
    pub metadata: Metadata,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delete {
    pub key: String,
    pub etag: Option<String>,
    pub concurrency: Concurrency,
    pub consistency: Consistency,
    pub metadata: Metadata,
}

/// One step of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    Set(Set),
    Delete(Delete),
}

impl Write {
    pub fn key(&self) -> &str {
        match self {
            Self::Set(set) => &set.key,
            Self::Delete(delete) => &delete.key,
        }
    }
}

/// A question for the keys that match a pattern, page by page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeysLike {
    /// As in SQL: `%` is any text, `_` any one character, `\` takes the next character as it is. Never empty.
    pub pattern: String,
    /// At most that many keys; `None` is all.
    pub page_size: Option<u32>,
    /// From the page before.
    pub continuation: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    pub keys: Vec<String>,
    /// Asks for the next page; `None` on the last.
    pub continuation: Option<String>,
}

/// Time to live of a write, from its `ttlInSeconds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ttl {
    /// Not said: keep whatever the store's default is (normally: no expiry).
    Unset,
    /// `-1` and other negative numbers: never expires, an earlier expiry is removed.
    Never,
    /// Seconds from now; always above zero.
    Seconds(u32),
}

/// Reads `ttlInSeconds` (any case). `0` counts as [`Ttl::Unset`].
pub fn ttl(metadata: &Metadata) -> Result<Ttl> {
    let Some(text) = metadata
        .get_any_case("ttlInSeconds")
        .filter(|text| !text.is_empty())
    else {
        return Ok(Ttl::Unset);
    };
    let seconds: i64 = text.trim().parse().map_err(|_| {
        Error::invalid(format!(
            "incorrect value for metadata ttlInSeconds: {text:?} is not a whole number"
        ))
    })?;
    match u32::try_from(seconds) {
        Ok(0) => Ok(Ttl::Unset),
        Ok(seconds) => Ok(Ttl::Seconds(seconds)),
        Err(_) if seconds < 0 => Ok(Ttl::Never),
        Err(_) => Err(Error::invalid(format!(
            "metadata ttlInSeconds is out of range: {seconds}, at most {}",
            u32::MAX
        ))),
    }
}

#[async_trait::async_trait]
pub trait StateStore: Component {
    fn features(&self) -> Features;

    /// `None` when the key is absent or expired.
    async fn get(&self, get: &Get) -> Result<Option<Item>>;

    /// Writes one value. With [`Concurrency::FirstWrite`] and no tag the key must be absent.
    async fn set(&self, set: Set) -> Result<()>;

    /// Deleting an absent key succeeds unless a tag was given.
    async fn delete(&self, delete: Delete) -> Result<()>;

    /// All or nothing, in order. Entity tags of the single writes are honoured.
    async fn transact(&self, _writes: Vec<Write>, _metadata: &Metadata) -> Result<()> {
        Err(Error::unsupported("transaction"))
    }

    /// Reads many keys in one round trip. `None` when the store has no such call: the runtime then reads
    /// one by one, in parallel.
    async fn bulk_get(&self, _gets: &[Get]) -> Option<Vec<Result<Option<Item>>>> {
        None
    }

    /// Writes many values in one round trip, without atomicity. `None` as for [`StateStore::bulk_get`].
    async fn bulk_set(&self, sets: Vec<Set>) -> std::result::Result<Vec<Result<()>>, Vec<Set>> {
        Err(sets)
    }

    /// Deletes every key that begins with the prefix; answers how many.
    async fn delete_with_prefix(&self, _prefix: &str) -> Result<u64> {
        Err(Error::unsupported("delete with prefix"))
    }

    /// One page of the values that match.
    async fn query(&self, _query: &Query) -> Result<Page> {
        Err(Error::unsupported("query"))
    }

    /// Keys that match a pattern, in an order that is stable while nothing is written.
    async fn keys_like(&self, _like: &KeysLike) -> Result<Keys> {
        Err(Error::unsupported("keys like"))
    }
}
