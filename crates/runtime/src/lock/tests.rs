use super::{Lock, TryLock};
use crate::components::snapshot::{Live, Loaded, LockStore, Snapshot};
use crate::error::ApiError;
use crate::fakes::policies;
use crate::lock::keys::Prefix;
use outrigger_component::lock::{LockStore as _, Unlocked};
use outrigger_component::metadata::Metadata;
use outrigger_testkit::conformance::lock as suite;
use outrigger_testkit::stores::Locks;
use std::sync::Arc;
use std::time::Duration;

fn lock(with: Option<&Locks>) -> Lock {
    let mut snapshot = Snapshot::default();
    if let Some(locks) = with {
        let store = LockStore {
            name: "l".to_owned(),
            store: Arc::new(locks.clone()),
            prefix: Prefix::parse(&Metadata::new(), "l", "shop").unwrap(),
        };
        snapshot.insert("lock.memory", "v1", Loaded::Lock(Arc::new(store)));
    }
    Lock::new(Live::new(snapshot), policies(0))
}

fn ask(store: &str, resource: &str, owner: &str, expiry: i32) -> TryLock {
    TryLock {
        store: store.to_owned(),
        resource: resource.to_owned(),
        owner: owner.to_owned(),
        expiry,
    }
}

fn seen(error: &ApiError) -> (&str, &str) {
    (error.code.tag, &error.message)
}

#[tokio::test(start_paused = true)]
async fn one_holds_it() {
    let locks = Locks::default();
    let lock = lock(Some(&locks));
    let granted = lock.try_lock(ask("l", "r", "ann", 10)).await.unwrap().unwrap();
    assert_eq!(granted.metadata.get("fencingToken"), Some("1"));
    assert_eq!(lock.try_lock(ask("l", "r", "bob", 10)).await.unwrap(), None);
    // The store knows it under the app's prefix.
    let complete = outrigger_component::lock::Unlock {
        resource: "lock||shop||r".to_owned(),
        owner: "bob".to_owned(),
    };
    assert_eq!(locks.unlock(&complete).await.unwrap(), Unlocked::HeldByOther);
    assert_eq!(
        lock.unlock("l", "r", "bob".into()).await.unwrap(),
        Unlocked::HeldByOther
    );
    assert_eq!(lock.unlock("l", "r", "ann".into()).await.unwrap(), Unlocked::Done);
    assert_eq!(
        lock.unlock("l", "r", "ann".into()).await.unwrap(),
        Unlocked::Absent
    );
    lock.try_lock(ask("l", "r", "bob", 10)).await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert!(lock.try_lock(ask("l", "r", "ann", 10)).await.unwrap().is_some());
}

#[tokio::test]
async fn complaints_in_their_order() {
    let locks = Locks::default();
    for (with, request, expected) in [
        (
            None,
            ask("l", "", "", 0),
            (
                "ERR_MALFORMED_REQUEST",
                "ExpiryInSeconds is not positive in lock store l",
            ),
        ),
        (
            None,
            ask("l", "", "", 1),
            ("ERR_LOCK_STORE_NOT_CONFIGURED", "lock store is not configured"),
        ),
        (
            Some(&locks),
            ask("x", "", "", 1),
            ("ERR_MALFORMED_REQUEST", "ResourceId is empty in lock store x"),
        ),
        (
            Some(&locks),
            ask("x", "r", "", 1),
            ("ERR_MALFORMED_REQUEST", "LockOwner is empty in lock store x"),
        ),
        (
            Some(&locks),
            ask("x", "r", "o", 1),
            ("ERR_LOCK_STORE_NOT_FOUND", "lock store x not found"),
        ),
        (
            Some(&locks),
            ask("l", "a||b", "o", 1),
            (
                "ERR_TRY_LOCK",
                "failed to try acquiring lock: input key/keyPrefix 'a||b' can't contain '||'",
            ),
        ),
    ] {
        let error = lock(with).try_lock(request.clone()).await.unwrap_err();
        assert_eq!(seen(&error), expected, "{request:?}");
    }
    let error = lock(Some(&locks))
        .unlock("l", "a||b", "o".into())
        .await
        .unwrap_err();
    assert_eq!(
        seen(&error),
        (
            "ERR_UNLOCK",
            "failed to release lock: input key/keyPrefix 'a||b' can't contain '||'"
        )
    );
}

#[tokio::test(start_paused = true)]
async fn the_stand_in_passes_the_suite() {
    suite::run(&Locks::default(), "app").await;
}
