//! Lock stores.

use outrigger_component::lock::{LockStore, TryLock, Unlock, Unlocked};
use std::time::Duration;

/// Runs all cases. `prefix` keeps apart runs on the same server. Takes about two seconds of the clock.
///
/// # Panics
/// When the store does not do what the trait says.
pub async fn run(store: &dyn LockStore, prefix: &str) {
    let run = Run { store, prefix };
    let first = run.lock("r", "ann", 30).await.expect("it is free");
    assert_eq!(run.lock("r", "bob", 30).await, None, "ann holds it");
    assert_eq!(run.lock("r", "ann", 30).await, None, "also for ann herself");
    run.lock("s", "bob", 30).await.expect("another resource");
    assert_eq!(run.unlock("r", "bob").await, Unlocked::HeldByOther);
    assert_eq!(run.lock("r", "bob", 30).await, None, "still ann's");
    assert_eq!(run.unlock("r", "ann").await, Unlocked::Done);
    assert_eq!(run.unlock("r", "ann").await, Unlocked::Absent);
    assert_eq!(run.unlock("absent", "ann").await, Unlocked::Absent);
    let second = run.lock("r", "bob", 1).await.expect("it is free again");
    if let (Some(first), Some(second)) = (first, second) {
        assert!(second > first, "tokens grow: {first}, then {second}");
    }
    tokio::time::sleep(Duration::from_millis(1300)).await;
    assert_eq!(run.unlock("r", "bob").await, Unlocked::Absent, "expired");
    let third = run.lock("r", "ann", 30).await.expect("expired locks are free");
    if let (Some(second), Some(third)) = (second, third) {
        assert!(third > second, "tokens grow: {second}, then {third}");
    }
    assert_eq!(run.unlock("r", "bob").await, Unlocked::HeldByOther);
    assert_eq!(run.unlock("r", "ann").await, Unlocked::Done);
    assert_eq!(run.unlock("s", "bob").await, Unlocked::Done);
}

struct Run<'a> {
    store: &'a dyn LockStore,
    prefix: &'a str,
}

impl Run<'_> {
    /// The fencing token, where the store has one.
    async fn lock(&self, resource: &str, owner: &str, seconds: u64) -> Option<Option<u64>> {
        let lock = TryLock {
            resource: format!("{}||{resource}", self.prefix),
            owner: owner.to_owned(),
            expiry: Duration::from_secs(seconds),
        };
        let granted = self
            .store
            .try_lock(&lock)
            .await
            .unwrap_or_else(|error| panic!("{lock:?}: {error}"))?;
        let token = granted.metadata.get("fencingToken");
        Some(token.map(|token| token.parse().expect("a whole number")))
    }

    async fn unlock(&self, resource: &str, owner: &str) -> Unlocked {
        let unlock = Unlock {
            resource: format!("{}||{resource}", self.prefix),
            owner: owner.to_owned(),
        };
        self.store
            .unlock(&unlock)
            .await
            .unwrap_or_else(|error| panic!("{unlock:?}: {error}"))
    }
}
