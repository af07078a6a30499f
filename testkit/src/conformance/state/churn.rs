//! A store whose server goes away and comes back while many write.

use crate::audit::Writes;
use crate::store::{set, text};
use crate::until::until;
use futures::future::join_all;
use outrigger_component::state::StateStore;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const WRITERS: u64 = 16;
/// Of each writer, which writes them in turn.
const KEYS: u64 = 50;
/// Writes that are accepted before the next trouble, and after the last.
const BETWEEN: u64 = 20 * WRITERS;
const PATIENCE: Duration = Duration::from_secs(60);
/// Between a refused write and the next.
const PAUSE: Duration = Duration::from_millis(10);

/// What writers have met with.
#[derive(Debug)]
pub struct Load {
    /// Writes that were answered with success.
    pub accepted: u64,
    /// Writes of each writer that failed.
    pub refused: Vec<u64>,
}

/// There is `trouble` so many times in the middle of writing: it ends the server and starts it again. What was accepted
/// is there afterwards, what was refused may be tried again, no write takes longer than `longest`, and the store works again
/// by itself.
///
/// # Panics
/// When it is otherwise.
pub async fn interrupted(
    store: &dyn StateStore,
    times: usize,
    longest: Duration,
    mut trouble: impl AsyncFnMut(),
) -> Load {
    let (accepted, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let writer = async |writer: u64| {
        let (mut writes, mut refused) = (Writes::default(), 0);
        for number in 0_u64.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let key = format!("k{writer}-{}", number % KEYS);
            let began = Instant::now();
            match store.set(set(&key, &number.to_string())).await {
                Ok(()) => {
                    writes.acknowledged(&key, number);
                    accepted.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    assert!(error.is_retryable(), "{error:?}");
                    writes.unknown(&key, number);
                    refused += 1;
                    tokio::time::sleep(PAUSE).await;
                }
            }
            let took = began.elapsed();
            assert!(took <= longest, "a write took {took:?}");
        }
        (writes, refused)
    };
    let going_on = async || {
        let enough = accepted.load(Ordering::Relaxed) + BETWEEN;
        let what = "writes are accepted";
        until(what, PATIENCE, async || {
            accepted.load(Ordering::Relaxed) >= enough
        })
        .await;
    };
    let world = async {
        for _ in 0..times {
            going_on().await;
            trouble().await;
        }
        going_on().await;
        stop.store(true, Ordering::Relaxed);
    };
    let (written, ()) = tokio::join!(join_all((0..WRITERS).map(writer)), world);
    let mut load = Load {
        accepted: accepted.load(Ordering::Relaxed),
        refused: Vec::new(),
    };
    let mut wrong = Vec::new();
    for (writes, refused) in written {
        for key in writes.keys() {
            let read = text(store, key).await;
            wrong.extend(writes.wrong(key, read.map(|text| text.parse().expect("as it was written"))));
        }
        load.refused.push(refused);
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    load
}
