//! What one subscription has yet to acknowledge: waiting, held by the app, or refused and resting.
//!
//! INVARIANT: the three together are never more than [`CAPACITY`]; each message has a place from [`Queue::place`]
//! until it is acknowledged.

use outrigger_component::pubsub::{Delivery, Incoming, Outcome, Settle};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// Messages that one subscription may be behind.
pub(super) const CAPACITY: usize = 4096;
/// Pause before a refused message comes back; doubles with each refusal.
const FIRST_REST: Duration = Duration::from_secs(2);
const LONGEST_REST: Duration = Duration::from_secs(30);

pub(super) struct Queue {
    topic: String,
    state: Mutex<State>,
    more: Notify,
    room: Semaphore,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Incoming>,
    held: HashMap<u64, Message>,
    /// By when it comes back; the token keeps apart what comes back at the same moment.
    resting: BTreeMap<(Instant, u64), Message>,
    next: u64,
    ended: bool,
}

struct Message {
    content: Incoming,
    refusals: u32,
}

/// Room for one message.
pub(super) struct Place<'a> {
    queue: &'a Queue,
    /// `None` if the subscription has ended: then there is nowhere to put anything.
    permit: Option<SemaphorePermit<'a>>,
}

impl Queue {
    pub(super) fn new(topic: String) -> Self {
        Self {
            topic,
            state: Mutex::default(),
            more: Notify::new(),
            room: Semaphore::new(CAPACITY),
        }
    }

    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    /// `None` if there is no room just now.
    pub(super) fn place_now(&self) -> Option<Place<'_>> {
        let permit = self.room.try_acquire().ok()?;
        Some(Place {
            queue: self,
            permit: Some(permit),
        })
    }

    /// Waits for room, or for the end of the subscription.
    pub(super) async fn place(&self) -> Place<'_> {
        Place {
            queue: self,
            permit: self.room.acquire().await.ok(),
        }
    }

    /// The subscription is over: nothing is handed out or taken in any more.
    pub(super) fn end(&self) {
        self.room.close();
        let mut state = self.state();
        let gone = std::mem::replace(
            &mut *state,
            State {
                ended: true,
                ..State::default()
            },
        );
        drop(state);
        drop(gone);
        self.more.notify_one();
    }

    /// The next message; waits for one. `None` when the subscription is over. For one caller at a time.
    pub(super) async fn next(self: &Arc<Self>) -> Option<Delivery> {
        loop {
            let wake = {
                let mut state = self.state();
                if state.ended {
                    return None;
                }
                if let Some((token, content)) = state.take(Instant::now()) {
                    drop(state);
                    let message = Incoming {
                        topic: self.topic.clone(),
                        ..content
                    };
                    return Some(Delivery::new(message, Arc::clone(self) as Arc<dyn Settle>, token));
                }
                state.resting.keys().next().map(|(at, _)| *at)
            };
            match wake {
                Some(at) => {
                    tokio::select! {
                        () = self.more.notified() => {}
                        () = tokio::time::sleep_until(at) => {}
                    }
                }
                None => self.more.notified().await,
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What has rested comes before what waits: it is older.
    fn take(&mut self, now: Instant) -> Option<(u64, Incoming)> {
        let message = match self.resting.first_entry() {
            Some(first) if first.key().0 <= now => first.remove(),
            _ => Message {
                content: self.waiting.pop_front()?,
                refusals: 0,
            },
        };
        let content = message.content.clone();
        self.next += 1;
        self.held.insert(self.next, message);
        Some((self.next, content))
    }
}

impl Place<'_> {
    pub(super) fn put(self, message: Incoming) {
        let Some(permit) = self.permit else { return };
        let mut state = self.queue.state();
        if state.ended {
            return;
        }
        // Given back when the message is acknowledged.
        permit.forget();
        state.waiting.push_back(message);
        drop(state);
        self.queue.more.notify_one();
    }
}

impl Settle for Queue {
    fn settle(&self, token: u64, outcome: Outcome) {
        let mut state = self.state();
        // Absent when the subscription has ended meanwhile.
        let Some(mut message) = state.held.remove(&token) else {
            return;
        };
        match outcome {
            Outcome::Ack => {
                drop(state);
                self.room.add_permits(1);
            }
            Outcome::Nack => {
                let rest = FIRST_REST
                    .saturating_mul(1 << message.refusals.min(10))
                    .min(LONGEST_REST);
                message.refusals += 1;
                state.resting.insert((Instant::now() + rest, token), message);
                drop(state);
                self.more.notify_one();
            }
        }
    }
}
