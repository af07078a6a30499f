//! Waiting for what nobody tells of: asking again and again, but not for ever.

use std::time::Duration;

const POLL: Duration = Duration::from_millis(20);

/// Asks until there is an answer; `None` when there is none within `patience`.
pub async fn answered<T>(patience: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(patience, asking).await.ok()
}

/// Asks until the answer is yes.
///
/// # Panics
/// When it is not within `patience`; `what` says what did not come true.
pub async fn until(what: &str, patience: Duration, mut ask: impl AsyncFnMut() -> bool) {
    let done = answered(patience, async || ask().await.then_some(())).await;
    assert!(done.is_some(), "not within {patience:?}: {what}");
}
