//! Distributed locks: try, unlock.

use crate::error::Failure;
use crate::observe::Observed;
use crate::unary::{self, Answer, Inbound};
use http::{HeaderName, HeaderValue};
use outrigger_proto::dapr::runtime::v1 as proto;
use outrigger_runtime::error::Result;
use outrigger_runtime::lock::{Lock, TryLock};

/// `TryLockAlpha1`. A fencing token comes as the answer's metadata `metadata.fencingtoken`.
pub(crate) async fn try_lock(lock: &Lock, call: Inbound, seen: &mut Observed) -> Result<Answer, Failure> {
    let request = unary::read::<proto::TryLockRequest>(call.body, call.limit).await?;
    seen.received(&request.message, request.size);
    let granted = lock
        .try_lock(TryLock {
            store: request.message.store_name,
            resource: request.message.resource_id,
            owner: request.message.lock_owner,
            expiry: request.message.expiry_in_seconds,
        })
        .await?;
    let told = proto::TryLockResponse {
        success: granted.is_some(),
    };
    let mut answer = unary::answer(&told, call.limit)?;
    for (name, value) in granted.iter().flat_map(|granted| granted.metadata.iter()) {
        // What cannot be metadata is left out.
        if let (Ok(name), Ok(value)) = (
            HeaderName::try_from(format!("metadata.{name}")),
            HeaderValue::try_from(value),
        ) {
            answer.headers.insert(name, value);
        }
    }
    Ok(answer)
}

pub(crate) async fn unlock(lock: &Lock, request: proto::UnlockRequest) -> Result<proto::UnlockResponse> {
    let unlocked = lock
        .unlock(&request.store_name, &request.resource_id, request.lock_owner)
        .await?;
    Ok(proto::UnlockResponse {
        status: unlocked as i32,
    })
}
