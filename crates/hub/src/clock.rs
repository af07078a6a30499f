//! The two clocks of a hub, in milliseconds.

use crate::group::Now;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Wall clock. A clock before 1970 counts as 1970.
pub(crate) fn wall() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Both clocks, the steady one since `start`.
pub(crate) fn now(start: Instant) -> Now {
    Now {
        steady: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
        wall: wall(),
    }
}
