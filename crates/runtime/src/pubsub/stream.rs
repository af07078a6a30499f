//! Subscriptions that an app holds open as a stream, instead of being called.
//!
//! The door that accepted the stream gets a [`Stream`]: [`Events`] to pass on to the app, one after the other, and
//! [`Replies`] to pass the app's answers to. Both belong to one subscription that lives while both are held: dropping
//! either ends it, and what the app has not answered goes back to the broker. Nothing is queued: an event waits at the
//! broker until the door asks for it.
//!
//! COMPAT(pkg/runtime/pubsub/streamer, pkg/api/grpc/subscribe.go): any number of streams may subscribe to the same
//! topic; each is a subscription of its own, also beside one of the app's. Answers name an event by its id; an answer
//! to no event is reported and otherwise ignored.

use super::Pubsub;
use super::deliver::{Engine, Subscriber};
use crate::catalogue::pubsub as catalogue;
use crate::error::Result;
use outrigger_channel::app::{self, Outcome, TopicEvent};
use outrigger_channel::error::Error;
use outrigger_component::metadata::Metadata;
use outrigger_daemon::log::Log;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, mpsc, oneshot};

/// The path that events of a stream carry.
const PATH: &str = "/";

/// The first message of a stream.
#[derive(Debug, Clone, Default)]
pub struct Subscribe {
    pub pubsub: String,
    pub topic: String,
    pub metadata: Metadata,
    /// Empty: none.
    pub dead_letter_topic: String,
}

/// A running subscription of a stream.
#[derive(Debug)]
pub struct Stream {
    pub events: Events,
    pub replies: Replies,
}

/// An event for the app; `id` is what its answer will name.
#[derive(Debug, Clone)]
pub struct Event {
    pub id: String,
    pub event: TopicEvent,
}

/// The events of a stream, in the order of delivery.
pub struct Events(mpsc::Receiver<Box<Event>>);

impl Events {
    /// The next event; `None` once the subscription has ended on our side (shutdown). Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.0.recv().await.map(|event| *event)
    }
}

/// Where the app's answers go.
pub struct Replies(Arc<Line>);

impl Replies {
    /// Settles the oldest unanswered event with this id.
    pub fn settle(&self, id: &str, outcome: Outcome) {
        self.0.settle(id, outcome);
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        self.0.gone.notify_one();
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Replies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replies").finish_non_exhaustive()
    }
}

impl Pubsub {
    /// Subscribes for a stream. On `Ok` the broker has accepted the subscription.
    pub async fn stream(&self, request: Subscribe) -> Result<Stream> {
        let broker = self.target(&request.pubsub, &request.topic, &Metadata::new())?;
        let spec = app::Subscription {
            pubsub: request.pubsub,
            topic: request.topic,
            metadata: request.metadata,
            rules: vec![app::Rule {
                expression: String::new(),
                path: PATH.to_owned(),
            }],
            dead_letter_topic: request.dead_letter_topic,
            bulk: app::Bulk::default(),
        };
        let refused = |cause: String| catalogue::subscribe_failed(&spec.pubsub, &spec.topic, cause);
        let surroundings = self.subscriptions.surroundings();
        let line = Arc::new(Line {
            waiting: Mutex::default(),
            gone: Notify::new(),
            log: surroundings.log.clone(),
        });
        // One event on its way to the door; all others wait at the broker. Boxed, as a channel takes memory for 32 ahead.
        let (events, receiver) = mpsc::channel(1);
        let subscriber = Subscriber::Stream {
            events,
            line: Arc::clone(&line),
        };
        let halt = self.subscriptions.halt();
        if halt.borrow().is_some() {
            return Err(refused("the sidecar is stopping".to_owned()));
        }
        let engine = Engine::new(surroundings, halt, broker, &spec, subscriber)
            .map_err(|error| refused(error.to_string()))?;
        let first = engine
            .subscribe()
            .await
            .map_err(|error| refused(format!("failed to subscribe to topic {}: {error}", spec.topic)))?;
        self.subscriptions.run_stream(engine, first, &spec);
        Ok(Stream {
            events: Events(receiver),
            replies: Replies(line),
        })
    }
}

/// What the engine and the two halves of a stream share.
pub(super) struct Line {
    waiting: Mutex<Waiting>,
    /// The door hung up.
    gone: Notify,
    log: Log,
}

/// Events without an answer yet, by id. Ids need not be unique: publishers choose them.
#[derive(Default)]
struct Waiting {
    by_id: HashMap<String, VecDeque<(u64, oneshot::Sender<Outcome>)>>,
    tickets: u64,
}

impl Line {
    /// Sends an event to the app and waits for its answer. Cancelling it forgets the event.
    pub(super) async fn deliver(
        &self,
        events: &mpsc::Sender<Box<Event>>,
        id: &str,
        event: TopicEvent,
    ) -> Result<Outcome, Error> {
        let closed = || Error::Unavailable("stream closed".to_owned());
        let (answer, outcome) = oneshot::channel();
        let _waiting = self.wait(id, answer);
        events
            .send(Box::new(Event {
                id: id.to_owned(),
                event,
            }))
            .await
            .map_err(|_| closed())?;
        outcome.await.map_err(|_| closed())
    }

    /// Returns when the door has dropped a half.
    pub(super) async fn gone(&self, events: &mpsc::Sender<Box<Event>>) {
        tokio::select! {
            () = events.closed() => {}
            () = self.gone.notified() => {}
        }
    }

    fn wait<'a>(&'a self, id: &'a str, answer: oneshot::Sender<Outcome>) -> Ticket<'a> {
        let mut waiting = self.lock();
        waiting.tickets += 1;
        let number = waiting.tickets;
        waiting
            .by_id
            .entry(id.to_owned())
            .or_default()
            .push_back((number, answer));
        Ticket {
            line: self,
            id,
            number,
        }
    }

    fn settle(&self, id: &str, outcome: Outcome) {
        let mut waiting = self.lock();
        let answer = waiting.by_id.get_mut(id).and_then(VecDeque::pop_front);
        if waiting.by_id.get(id).is_some_and(VecDeque::is_empty) {
            waiting.by_id.remove(id);
        }
        drop(waiting);
        match answer {
            // A delivery that was given up meanwhile does not mind.
            Some((_, answer)) => drop(answer.send(outcome)),
            None => self.log.error(format_args!(
                "no event with id {id} waits for a response of this stream"
            )),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An event's place among those that wait; given up when dropped.
struct Ticket<'a> {
    line: &'a Line,
    id: &'a str,
    number: u64,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut waiting = self.line.lock();
        if let Some(queue) = waiting.by_id.get_mut(self.id) {
            queue.retain(|(number, _)| *number != self.number);
            if queue.is_empty() {
                waiting.by_id.remove(self.id);
            }
        }
    }
}
