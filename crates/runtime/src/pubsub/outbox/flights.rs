//! Transactions under way in this process, and how they ended: so that an event that arrives before, during or right
//! after its transaction needs no look into the store.
//!
//! Also where transactions on the same key wait for each other, so that their events are announced in the order in which
//! they commit.

use super::event::Event;
use super::order::{Chains, Turn};
use outrigger_component::error::Kind;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Outcomes that are remembered. What is forgotten is looked up in the store.
const REMEMBERED: usize = 10_000;

#[derive(Default, Clone)]
pub(crate) struct Flights(Arc<Inner>);

#[derive(Default)]
struct Inner {
    table: Mutex<Table>,
    keys: Chains,
}

#[derive(Default)]
struct Table {
    by_id: HashMap<String, Known>,
    /// Those that have ended, oldest first.
    ended: VecDeque<String>,
}

enum Known {
    /// The sender is the flight's: its end is the end of the flight.
    Flying(watch::Receiver<()>),
    Ended(Outcome),
}

/// What is known of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Its record is in the store.
    Committed,
    /// Its transaction failed: a record that is not in the store now will never be.
    Over,
    /// It has been published.
    Published,
    /// Not of this process, or forgotten, or nobody knows how its transaction ended.
    Unknown,
}

/// A transaction whose events are announced. Dropped without an end, its outcome is unknown.
pub(crate) struct Flight {
    flights: Flights,
    ids: Vec<String>,
    events: Vec<Event>,
    began: Instant,
    outcome: Outcome,
    /// Dropped last, when the outcome is in the table.
    _over: watch::Sender<()>,
    _turns: Vec<Turn>,
}

impl Flights {
    /// Waits for the transactions on the same keys, then registers the events: ids with their keys.
    pub(super) async fn begin<'a>(&self, events: impl Iterator<Item = (&'a str, &'a str)>) -> Flight {
        let (ids, keys): (Vec<&str>, BTreeSet<&str>) = events.unzip();
        // One after the other in the order of keys, so that no two transactions wait for each other.
        let mut turns = Vec::with_capacity(keys.len());
        for key in keys {
            let mut turn = self.0.keys.join(key);
            turn.come().await;
            turns.push(turn);
        }
        let (over, flying) = watch::channel(());
        let ids: Vec<String> = ids.into_iter().map(str::to_owned).collect();
        let mut table = self.lock();
        for id in &ids {
            table.by_id.insert(id.clone(), Known::Flying(flying.clone()));
        }
        drop(table);
        Flight {
            flights: self.clone(),
            ids,
            events: Vec::new(),
            began: Instant::now(),
            outcome: Outcome::Unknown,
            _over: over,
            _turns: turns,
        }
    }

    /// Waits for the end of the event's transaction if it is under way here.
    pub(super) async fn outcome(&self, id: &str) -> Outcome {
        loop {
            let mut flying = match self.lock().by_id.get(id) {
                None => return Outcome::Unknown,
                Some(Known::Ended(outcome)) => return *outcome,
                Some(Known::Flying(flying)) => flying.clone(),
            };
            // Nothing is ever sent: this is the end of the sender.
            let _over = flying.changed().await;
        }
    }

    pub(super) fn published(&self, id: &str) {
        self.lock().end(id.to_owned(), Outcome::Published);
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn end(&mut self, id: String, outcome: Outcome) {
        let before = self.by_id.insert(id.clone(), Known::Ended(outcome));
        if !matches!(before, Some(Known::Ended(_))) {
            self.ended.push_back(id);
        }
        if self.ended.len() > REMEMBERED
            && let Some(oldest) = self.ended.pop_front()
        {
            self.by_id.remove(&oldest);
        }
    }
}

impl Flight {
    /// Keeps the events until the end.
    pub(super) fn carry(&mut self, events: Vec<Event>) {
        self.events = events;
    }

    pub(super) fn unload(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    pub(super) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// `failure` is why the store refused; `None` if the transaction is committed.
    pub(super) fn end(mut self, failure: Option<Kind>) {
        self.outcome = match failure {
            None => Outcome::Committed,
            Some(
                Kind::EtagMismatch
                | Kind::EtagInvalid
                | Kind::Invalid
                | Kind::NotFound
                | Kind::PermissionDenied
                | Kind::Unsupported,
            ) => Outcome::Over,
            // It may still come to pass.
            Some(_) => Outcome::Unknown,
        };
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut table = self.flights.lock();
        for id in self.ids.drain(..) {
            if self.outcome == Outcome::Unknown {
                table.by_id.remove(&id);
            } else {
                table.end(id, self.outcome);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Flights, Outcome, REMEMBERED};
    use outrigger_component::error::Kind;

    #[tokio::test]
    async fn outcomes_table() {
        for (failure, expect) in [
            (Some(None), Outcome::Committed),
            (Some(Some(Kind::EtagMismatch)), Outcome::Over),
            (Some(Some(Kind::Timeout)), Outcome::Unknown),
            (Some(Some(Kind::Unavailable)), Outcome::Unknown),
            // Given up.
            (None, Outcome::Unknown),
        ] {
            let flights = Flights::default();
            let flight = flights.begin([("a", "k"), ("b", "k")].into_iter()).await;
            let waiting = flights.outcome("b");
            let end = async {
                tokio::task::yield_now().await;
                match failure {
                    Some(failure) => flight.end(failure),
                    None => drop(flight),
                }
            };
            let (outcome, ()) = tokio::join!(waiting, end);
            assert_eq!(outcome, expect, "{failure:?}");
            flights.published("a");
            assert_eq!(flights.outcome("a").await, Outcome::Published);
        }
    }

    #[tokio::test]
    async fn transactions_on_a_key_wait_for_each_other() {
        let flights = Flights::default();
        let first = flights.begin([("1", "a"), ("2", "b")].into_iter()).await;
        let mut second = std::pin::pin!(flights.begin([("3", "b"), ("4", "c")].into_iter()));
        let other = flights.begin([("5", "d")].into_iter()).await;
        assert!(futures::poll!(second.as_mut()).is_pending());
        first.end(None);
        second.await.end(None);
        other.end(None);
    }

    #[tokio::test]
    async fn memory_is_bounded() {
        let flights = Flights::default();
        for number in 0..REMEMBERED + 10 {
            let id = number.to_string();
            flights.begin(std::iter::once((id.as_str(), "k"))).await.end(None);
            flights.published(&id);
        }
        assert_eq!(flights.lock().by_id.len(), REMEMBERED);
        assert_eq!(flights.outcome("3").await, Outcome::Unknown);
    }
}
