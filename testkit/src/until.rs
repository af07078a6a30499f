//! Waiting for what nobody tells of: asking again and again, but not for ever.

use std::time::Duration;

const POLL: Duration = Duration::from_millis(20);

/// Asks until the answer is yes.
///
/// # Panics
/// When it is not within `patience`; `what` says what did not come true.
pub async fn until(what: &str, patience: Duration, mut ask: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !ask().await {
            tokio::time::sleep(POLL).await;
        }
    };
    let done = tokio::time::timeout(patience, asking).await.is_ok();
    assert!(done, "not within {patience:?}: {what}");
}
