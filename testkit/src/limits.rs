//! Servers that have only so much: room, connections.

/// Asks for more until the server refuses: what it gave, and the refusal. `ask` is told how much there is already.
///
/// # Panics
/// When the server gives as much as `enough` without a refusal.
pub async fn exhausted<T, E>(enough: usize, mut ask: impl AsyncFnMut(usize) -> Result<T, E>) -> (Vec<T>, E) {
    let mut given = Vec::new();
    loop {
        match ask(given.len()).await {
            Ok(more) => given.push(more),
            Err(refusal) => return (given, refusal),
        }
        assert!(given.len() < enough, "{enough} are given, and no end is seen");
    }
}
