//! `state.etcd`: each value is a key of etcd, its tag the revision of its last write, its lifetime a lease.
//!
//! Every write is one transaction of etcd: its guards and its writes happen together or not at all, whatever it consists of.
//!
//! COMPAT(components-contrib state/etcd): keys, [values](value), tags and texts; that the time until a lease ends is at least
//! the cluster's smallest (about two seconds by default). Unlike there, a write whose guard fails is never answered with
//! success, and a transaction may write a key more than once.

mod keys;
mod plan;
pub(crate) mod value;

use crate::client::{Client, Repeat};
use crate::config::Config;
use crate::failure::failure;
use crate::wire;
use bytes::Bytes;
use outrigger_component::Component;
use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::metadata::Metadata;
use outrigger_component::setup::Setup;
use outrigger_component::state::{Delete, Features, Get, Item, Keys, KeysLike, Set, StateStore, Write};
use plan::{Plan, Step};
use std::collections::BTreeMap;
use value::Schema;

pub(crate) struct Store {
    client: Client,
    /// Stands before every key, its `/` included.
    prefix: String,
    schema: Schema,
    /// Operations in one transaction.
    most: usize,
}

impl Store {
    /// Connects nothing yet: COMPAT(components-contrib state/etcd).
    ///
    /// # Errors
    /// `Invalid`, naming the metadata.
    pub(crate) fn connect(setup: Setup<Config>, schema: Schema) -> Result<Self> {
        let Setup { config, .. } = setup;
        if config.max_txn_ops == 0 {
            return Err(Error::invalid("metadata maxTxnOps must be at least 1"));
        }
        Ok(Self {
            client: Client::new(&config)?,
            prefix: format!("{}/", config.key_prefix_path),
            schema,
            most: config.max_txn_ops,
        })
    }

    fn key(&self, key: &str) -> Bytes {
        Bytes::from([&self.prefix, key].concat())
    }

    fn range(&self, key: &str) -> wire::Range {
        wire::Range {
            key: self.key(key),
            ..wire::Range::default()
        }
    }

    fn item(&self, found: wire::Found) -> Result<Option<Item>> {
        let Some(kv) = found.kvs.into_iter().next() else {
            return Ok(None);
        };
        let (value, metadata) = self.schema.decode(kv.value).map_err(|error| {
            let key = String::from_utf8_lossy(&kv.key);
            Error::caused(
                Kind::Internal,
                &format!("value of key {key} is not laid out as version v2 of state.etcd does"),
                error,
            )
        })?;
        Ok(Some(Item {
            value,
            etag: Some(kv.mod_revision.to_string()),
            metadata,
            ..Item::default()
        }))
    }

    async fn write(&self, writes: Vec<Write>) -> Result<()> {
        let what = match writes.as_slice() {
            [] => return Ok(()),
            [Write::Set(set)] => format!("couldn't set key {}{}", self.prefix, set.key),
            [Write::Delete(delete)] => format!("couldn't delete key {}{}", self.prefix, delete.key),
            many => format!("couldn't write {} keys", many.len()),
        };
        let plan = Plan::new(writes)?;
        let leases = self.leases(&plan).await?;
        let success = plan
            .steps
            .iter()
            .map(|step| self.request(step, &leases))
            .collect();
        let guarded = || plan.guards.iter();
        let txn = wire::Txn {
            compare: guarded()
                .map(|guard| wire::Compare::revision(self.key(&guard.key), guard.revision))
                .collect(),
            success,
            // Which guard it was, should one fail.
            failure: guarded()
                .map(|guard| wire::Request {
                    act: Some(wire::Do::Range(wire::Range {
                        keys_only: true,
                        ..self.range(&guard.key)
                    })),
                })
                .collect(),
        };
        let done: Result<wire::TxnDone, _> = self.client.call(wire::TXN, &txn, Repeat::IfUnsent).await;
        match done {
            Ok(done) if done.succeeded => Ok(()),
            Ok(done) => {
                self.revoke(leases).await;
                let found = done.responses.into_iter().map(|response| {
                    let found = response.range.unwrap_or_default();
                    found.kvs.first().map_or(0, |kv| kv.mod_revision)
                });
                Err(plan.mismatch(&self.prefix, found))
            }
            // It may have been done: its leases, if any, end by themselves.
            Err(status) => Err(failure(&what, &status)),
        }
    }

    fn request(&self, step: &Step, leases: &BTreeMap<u32, i64>) -> wire::Request {
        let act = match step {
            Step::Put { key, value, ttl } => wire::Do::Put(wire::Put {
                key: self.key(key),
                value: self.schema.encode(value.clone(), *ttl),
                lease: ttl.and_then(|ttl| leases.get(&ttl).copied()).unwrap_or(0),
            }),
            Step::Delete { key } => wire::Do::Delete(wire::Delete { key: self.key(key) }),
        };
        wire::Request { act: Some(act) }
    }

    /// One for each lifetime that occurs.
    async fn leases(&self, plan: &Plan) -> Result<BTreeMap<u32, i64>> {
        let mut leases = BTreeMap::new();
        for step in &plan.steps {
            let Step::Put {
                key, ttl: Some(ttl), ..
            } = step
            else {
                continue;
            };
            if leases.contains_key(ttl) {
                continue;
            }
            let request = wire::LeaseGrant { ttl: i64::from(*ttl) };
            // One too many ends by itself.
            let granted: wire::LeaseGranted = self
                .client
                .call(wire::LEASE_GRANT, &request, Repeat::Yes)
                .await
                .map_err(|status| failure(&format!("couldn't grant lease {}{key}", self.prefix), &status))?;
            leases.insert(*ttl, granted.id);
        }
        Ok(leases)
    }

    /// Gives back what a refused write needs no more. What cannot be given back ends by itself.
    async fn revoke(&self, leases: BTreeMap<u32, i64>) {
        for id in leases.into_values() {
            let request = wire::LeaseRevoke { id };
            let _ends_by_itself: Result<wire::Nothing, _> = self
                .client
                .call(wire::LEASE_REVOKE, &request, Repeat::IfUnsent)
                .await;
        }
    }

    async fn read_many(&self, gets: &[Get]) -> Vec<Result<Option<Item>>> {
        let mut items = Vec::with_capacity(gets.len());
        for chunk in gets.chunks(self.most) {
            let request = |get: &Get| wire::Request {
                act: Some(wire::Do::Range(self.range(&get.key))),
            };
            let txn = wire::Txn {
                success: chunk.iter().map(request).collect(),
                ..wire::Txn::default()
            };
            let done: Result<wire::TxnDone, _> = self.client.call(wire::TXN, &txn, Repeat::Yes).await;
            match done {
                Ok(done) if done.responses.len() == chunk.len() => {
                    let found = done.responses.into_iter();
                    items.extend(found.map(|response| self.item(response.range.unwrap_or_default())));
                }
                Ok(_) => items.extend(chunk.iter().map(|get| {
                    let text = format!("couldn't get key {}{}: unexpected answer", self.prefix, get.key);
                    Err(Error::internal(text))
                })),
                Err(status) => items.extend(chunk.iter().map(|get| {
                    let what = format!("couldn't get key {}{}", self.prefix, get.key);
                    Err(failure(&what, &status))
                })),
            }
        }
        items
    }
}

#[async_trait::async_trait]
impl Component for Store {
    async fn ping(&self) -> Result<()> {
        let health = wire::Range {
            key: Bytes::from_static(b"health"),
            ..wire::Range::default()
        };
        let found: Result<wire::Found, _> = self.client.call(wire::RANGE, &health, Repeat::Yes).await;
        found.map(drop).map_err(|status| {
            let what = format!(
                "etcd store: error connecting to etcd at {}",
                self.client.addresses()
            );
            failure(&what, &status)
        })
    }
}

#[async_trait::async_trait]
impl StateStore for Store {
    fn features(&self) -> Features {
        Features {
            etag: true,
            transactional: true,
            ttl: true,
            query: false,
            delete_with_prefix: false,
            keys_like: true,
            max_transaction: Some(self.most),
        }
    }

    async fn get(&self, get: &Get) -> Result<Option<Item>> {
        let found = self
            .client
            .call(wire::RANGE, &self.range(&get.key), Repeat::Yes)
            .await
            .map_err(|status| failure(&format!("couldn't get key {}{}", self.prefix, get.key), &status))?;
        self.item(found)
    }

    async fn set(&self, set: Set) -> Result<()> {
        self.write(vec![Write::Set(set)]).await
    }

    async fn delete(&self, delete: Delete) -> Result<()> {
        self.write(vec![Write::Delete(delete)]).await
    }

    async fn transact(&self, writes: Vec<Write>, _metadata: &Metadata) -> Result<()> {
        self.write(writes).await
    }

    async fn bulk_get(&self, gets: &[Get]) -> Option<Vec<Result<Option<Item>>>> {
        Some(self.read_many(gets).await)
    }

    async fn keys_like(&self, like: &KeysLike) -> Result<Keys> {
        keys::like(&self.client, &self.prefix, like).await
    }
}
