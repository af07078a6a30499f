//! Reading many keys at once.

use super::layout::Layout;
use crate::group::Job;
use crate::pool::{Pool, failed, within};
use outrigger_component::error::Result;
use outrigger_component::state::Item;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::oneshot;

/// A caller who waits for a value.
pub(super) struct Read {
    pub(super) key: String,
    pub(super) reply: oneshot::Sender<Result<Option<Item>>>,
}

impl Job for Read {
    fn bytes(&self) -> usize {
        self.key.len()
    }
}

/// Values by their keys.
pub(super) type Found = HashMap<String, Item>;

pub(super) async fn all(pool: Pool, layout: Arc<Layout>, mut jobs: Vec<Read>) {
    // Whoever has left needs no answer.
    jobs.retain(|job| !job.reply.is_closed());
    let keys: Vec<&str> = jobs.iter().map(|job| job.key.as_str()).collect();
    let found = within(pool.timeout(), "cannot read", many(&pool, &layout, &keys)).await;
    for job in jobs {
        let answer = match &found {
            Ok(found) => pick(found, &job.key),
            Err(error) => Err(error.copy()),
        };
        drop(job.reply.send(answer));
    }
}

pub(super) fn pick(found: &Found, key: &str) -> Result<Option<Item>> {
    Ok(found.get(key).cloned())
}

/// A connection that was lost since it was used last is replaced once: reading twice does no harm.
pub(super) async fn many(pool: &Pool, layout: &Layout, keys: &[&str]) -> Result<Found> {
    let mut again = true;
    loop {
        let mut lane = pool.lane().await?;
        match lane.rows(layout.get(), &[&keys]).await {
            Err(error) if again && error.is_closed() => again = false,
            rows => {
                lane.give_back();
                let rows = rows.map_err(failed("cannot read"))?;
                return rows.iter().map(|row| layout.row(row)).collect();
            }
        }
    }
}
