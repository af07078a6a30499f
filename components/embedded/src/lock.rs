//! `lock.outrigger`: locks in the hub, durable: neither the end of a sidecar nor of the hub gives a lock to two.
//!
//! A lock is a key that must not exist when it is taken, with the owner as its value and the expiry as its time to live.
//! Its entity tag, which only grows, is the fencing token. Metadata: `space` (default: the component's name).
//!
//! A lock that was taken by a request whose answer was lost stays taken until it expires: trying again says that it is held.

use crate::failure;
use crate::space::{Config, Space};
use outrigger_component::Component;
use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::lock::{Granted, LockStore, TryLock, Unlock, Unlocked};
use outrigger_component::setup::Setup;
use outrigger_proto::hub::v1;
use std::path::PathBuf;

pub(crate) struct Locks(Space);

impl Locks {
    pub(crate) async fn connect(setup: Setup<Config>, socket: Option<PathBuf>) -> Result<Self> {
        Space::connect(setup, socket, "lock.outrigger").await.map(Self)
    }

    /// Not repeated when its answer is lost: the second try would meet what the first one did.
    async fn write(&self, kind: v1::operation::Kind) -> Result<v1::WriteResult> {
        let request = v1::WriteRequest {
            transactions: vec![v1::Transaction {
                space: self.0.name.clone(),
                operations: vec![v1::Operation { kind: Some(kind) }],
            }],
        };
        let link = &self.0.link;
        let answer = link
            .call(false, || {
                let (mut state, request) = (link.state(), request.clone());
                async move { state.write(request).await }
            })
            .await?;
        let result = answer.into_inner().results.pop();
        let mut result =
            result.ok_or_else(|| Error::new(Kind::Unavailable, "the hub did not answer for this write"))?;
        match result.failure.take() {
            None => Ok(result),
            Some(failure) => Err(failure::refused(failure)),
        }
    }

    async fn holder(&self, resource: &str) -> Result<Option<v1::Item>> {
        Ok(self.0.get(vec![resource.to_owned()]).await?.pop().flatten())
    }
}

#[async_trait::async_trait]
impl Component for Locks {
    async fn ping(&self) -> Result<()> {
        self.0.link.ping().await
    }
}

#[async_trait::async_trait]
impl LockStore for Locks {
    async fn try_lock(&self, lock: &TryLock) -> Result<Option<Granted>> {
        let set = v1::Set {
            key: lock.resource.clone(),
            value: lock.owner.clone().into(),
            condition: Some(v1::Condition {
                kind: Some(v1::condition::Kind::Absent(true)),
            }),
            ttl_ms: u64::try_from(lock.expiry.as_millis()).unwrap_or(u64::MAX),
            content_type: String::new(),
        };
        match self.write(v1::operation::Kind::Set(set)).await {
            Ok(wrote) => Ok(Some(Granted {
                metadata: [("fencingToken", wrote.etag)].into_iter().collect(),
            })),
            Err(error) if error.kind == Kind::EtagMismatch => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn unlock(&self, unlock: &Unlock) -> Result<Unlocked> {
        loop {
            let Some(item) = self.holder(&unlock.resource).await? else {
                return Ok(Unlocked::Absent);
            };
            if item.value != unlock.owner.as_bytes() {
                return Ok(Unlocked::HeldByOther);
            }
            let delete = v1::Delete {
                key: unlock.resource.clone(),
                condition: Some(v1::Condition {
                    kind: Some(v1::condition::Kind::Etag(item.etag)),
                }),
            };
            match self.write(v1::operation::Kind::Delete(delete)).await {
                Ok(_) => return Ok(Unlocked::Done),
                // It expired just now, and may be somebody else's already.
                Err(error) if error.kind == Kind::EtagMismatch => {}
                Err(error) => return Err(error),
            }
        }
    }
}
