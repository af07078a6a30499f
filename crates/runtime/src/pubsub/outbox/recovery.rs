//! Records that a crash has left in the store, published when the sidecar starts.
//!
//! Usually the broker brings the internal events again and this finds nothing to do. It is for brokers that forget
//! when a process ends, and it needs a store that can list its keys; with another one, only the broker's memory counts.
//!
//! A record that is there when we start may belong to another sidecar of the app that is about to publish its event. So
//! each is given a while to vanish first. Events of the same key wait meanwhile.

use super::event::{Event, PREFIX};
use super::order::Turn;
use super::relay::Relay;
use crate::components::snapshot::StateStore;
use futures::StreamExt as _;
use outrigger_component::error::Error;
use outrigger_component::state::{Get, KeysLike};
use std::time::Duration;
use tokio::time::Instant;

/// How long a record may be somebody else's business.
const GRACE: Duration = Duration::from_secs(5);
/// Between looks whether it was.
const FIRST_LOOK: Duration = Duration::from_millis(20);
const LONGEST_LOOK: Duration = Duration::from_secs(1);
const PAGE: u32 = 1_000;
/// Records taken on in one go; with more, the search is repeated.
const MOST: usize = 10_000;
/// Events published at once.
const AT_ONCE: usize = 16;

/// What was found.
#[derive(Default)]
pub(super) struct Left {
    /// In the order in which they were made, with their places in the order of their keys.
    events: Vec<(Event, Turn)>,
    more: bool,
}

/// Looks for records.
pub(super) async fn find(relay: &Relay) -> Left {
    let Some(store) = relay.state_store().filter(|store| store.features.keys_like) else {
        return Left::default();
    };
    let found = tokio::select! {
        found = records(relay, &store) => found,
        () = relay.halted() => return Left::default(),
    };
    let (mut events, more) = found.unwrap_or_else(|error| {
        relay.shared().log.error(format_args!(
            "cannot look for outbox records in state store {}: {error}",
            relay.store_name()
        ));
        Default::default()
    });
    events.sort_by_key(|event| event.made);
    if !events.is_empty() {
        relay.shared().log.info(format_args!(
            "{} outbox records in state store {} are still to be published",
            events.len(),
            relay.store_name()
        ));
    }
    let with_turn = |event: Event| {
        let turn = relay.join(&event.key);
        (event, turn)
    };
    Left {
        events: events.into_iter().map(with_turn).collect(),
        more,
    }
}

/// Our records, and whether there may be more.
async fn records(relay: &Relay, store: &StateStore) -> Result<(Vec<Event>, bool), Error> {
    let mut events = Vec::new();
    let mut like = KeysLike {
        pattern: format!("{PREFIX}%"),
        page_size: Some(PAGE),
        continuation: None,
    };
    loop {
        let page = store.store.keys_like(&like).await?;
        for key in page.keys {
            if events.len() >= MOST {
                return Ok((events, true));
            }
            let get = Get {
                key,
                ..Get::default()
            };
            let Some(item) = store.store.get(&get).await? else {
                continue;
            };
            let item = match &store.encryption {
                None => item,
                Some(keys) => match keys.decrypt(item) {
                    Ok(item) => item,
                    // Not ours: we encrypt. The reference does not.
                    Err(_) => continue,
                },
            };
            events.extend(relay.event(&get.key, &item.value));
        }
        if page.continuation.is_none() {
            return Ok((events, false));
        }
        like.continuation = page.continuation;
    }
}

/// Publishes what is left.
pub(super) async fn finish(relay: &Relay, mut left: Left) {
    while !left.events.is_empty() {
        let due = Instant::now() + GRACE;
        let one = |(event, turn)| publish(relay, event, turn, due);
        let mut all = futures::stream::iter(left.events).map(one).buffered(AT_ONCE);
        while all.next().await.is_some() {}
        drop(all);
        if !left.more {
            return;
        }
        left = find(relay).await;
    }
}

async fn publish(relay: &Relay, event: Event, mut turn: Turn, due: Instant) {
    turn.come().await;
    let mut pause = FIRST_LOOK;
    loop {
        let Some(store) = relay.state_store() else { return };
        let get = Get {
            key: event.id.clone(),
            ..Get::default()
        };
        match store.store.get(&get).await {
            // Somebody else was faster.
            Ok(None) => return,
            Ok(Some(_)) if Instant::now() >= due => break,
            Ok(Some(_)) => {}
            Err(error) => {
                relay.shared().log.error(format_args!(
                    "outbox record {} in state store {} cannot be read and stays: {error}",
                    event.id,
                    relay.store_name()
                ));
                return;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_LOOK),
            () = relay.halted() => return,
        }
    }
    if relay.publish(&event.id, &event.envelope).await.is_ok() {
        relay.forget(&event.id).await;
    }
}
