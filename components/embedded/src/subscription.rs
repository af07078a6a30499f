//! One subscription: a conversation with the hub that is begun again whenever it breaks.
//!
//! INVARIANT: a message that the runtime holds is not handed to it a second time. When the conversation breaks,
//! the hub delivers what was unsettled again; what the runtime still holds, or has acknowledged meanwhile, is
//! recognised (by offset and time of publication) and answered here.
//!
//! Dropping the stream of deliveries ends the subscription: what the runtime still holds may be acknowledged for
//! [`FAREWELL`], everything else goes to the other members of the group when the conversation ends.

use crate::link::{Backoff, Link};
use crate::pubsub::CONTENT_TYPE;
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use outrigger_component::error::Result;
use outrigger_component::metadata::Metadata;
use outrigger_component::pubsub::{Delivery, Incoming, Outcome, Settle};
use outrigger_daemon::log::Log;
use outrigger_daemon::tasks::{OnExit, Tasks};
use outrigger_proto::hub::v1;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tonic::{Status, Streaming};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// How long held deliveries may be acknowledged after the subscription was dropped.
const FAREWELL: Duration = Duration::from_secs(60);
/// How many acknowledged messages are remembered, for when the conversation broke before the hub knew.
const REMEMBERED: usize = 2_048;

/// Which message: its offset, and when it was published, should the hub's folder have been replaced.
type Identity = (u64, u64);

/// What the runtime's settlements and the conversation share.
struct Ledger {
    state: Mutex<State>,
    changed: Notify,
    longest_pause: Duration,
}

#[derive(Default)]
struct State {
    /// Held by the runtime or on the way to it: time of publication and attempt.
    held: HashMap<u64, (u64, u32)>,
    acks: Vec<u64>,
    nacks: Vec<v1::Nack>,
    acknowledged: HashSet<Identity>,
    order: VecDeque<Identity>,
    /// The subscription was dropped: what is not acknowledged is left to the others.
    leaving: bool,
}

enum Arrival {
    New,
    /// The runtime has it.
    Held,
    /// The runtime is done with it.
    Done,
    Leaving,
}

/// Joins the group, and returns once the hub has noted it durably.
pub(crate) async fn open(
    link: Link,
    open: v1::Open,
    longest_pause: Duration,
    log: Log,
    tasks: &Tasks,
) -> Result<BoxStream<'static, Delivery>> {
    let first = link
        .call(true, || {
            let (link, open) = (link.clone(), open.clone());
            async move { Conversation::begin(&link, open).await }
        })
        .await?;
    let ledger = Arc::new(Ledger {
        state: Mutex::default(),
        changed: Notify::new(),
        longest_pause,
    });
    // What is held and what was sent anew after a break: at most two windows.
    let window = usize::try_from(open.window).unwrap_or(usize::MAX).clamp(1, 1_024);
    let (deliveries, receiver) = mpsc::channel(window * 2);
    let name = format!("subscription to {:?}", open.topic);
    let subscriber = Subscriber {
        link,
        open,
        ledger,
        deliveries,
        log,
    };
    tasks.spawn(name, OnExit::Log, subscriber.run(first));
    Ok(stream::unfold(receiver, |mut receiver| async {
        let delivery = receiver.recv().await?;
        Some((delivery, receiver))
    })
    .boxed())
}

struct Subscriber {
    link: Link,
    open: v1::Open,
    ledger: Arc<Ledger>,
    deliveries: mpsc::Sender<Delivery>,
    log: Log,
}

/// Both directions of a call that was accepted.
struct Conversation {
    requests: mpsc::Sender<v1::SubscribeRequest>,
    responses: Streaming<v1::SubscribeResponse>,
}

impl Conversation {
    async fn begin(link: &Link, open: v1::Open) -> Result<Self, Status> {
        let (requests, outgoing) = mpsc::channel(8);
        let kind = Some(v1::subscribe_request::Kind::Open(open));
        // The channel is new: it has room.
        requests.try_send(v1::SubscribeRequest { kind }).ok();
        let outgoing = tokio_stream::wrappers::ReceiverStream::new(outgoing);
        let mut responses = link.topics().subscribe(outgoing).await?.into_inner();
        match responses.message().await?.and_then(|response| response.kind) {
            Some(v1::subscribe_response::Kind::Opened(_)) => Ok(Self { requests, responses }),
            _ => Err(Status::unavailable("the hub did not open the subscription")),
        }
    }
}

impl Subscriber {
    async fn run(self, first: Conversation) {
        let mut next = Some(first);
        let mut backoff = Backoff::default();
        let mut lost = false;
        loop {
            if let Some(conversation) = next.take() {
                if std::mem::take(&mut lost) {
                    self.log
                        .info(format_args!("subscription to {:?} goes on", self.open.topic));
                }
                let Some(status) = self.converse(conversation).await else {
                    return;
                };
                self.log.warn(format_args!(
                    "the hub left the subscription to {:?}, joining again: {}",
                    self.open.topic,
                    status.message()
                ));
                lost = true;
                backoff = Backoff::default();
            }
            // The outlet's end is the end of the subscription: nothing is held that a hub waits for.
            tokio::select! {
                () = self.deliveries.closed() => return,
                () = sleep(backoff.next()) => {}
            }
            match Conversation::begin(&self.link, self.open.clone()).await {
                Ok(conversation) => next = Some(conversation),
                Err(status) if crate::failure::is_gone(&status) => {}
                Err(status) => self.log.error(format_args!(
                    "the hub refuses the subscription to {:?}, trying again: {}",
                    self.open.topic,
                    status.message()
                )),
            }
        }
    }

    /// Until the conversation breaks (why), or the subscription is over (`None`).
    async fn converse(&self, conversation: Conversation) -> Option<Status> {
        let Conversation {
            requests,
            mut responses,
        } = conversation;
        let mut farewell: Option<Instant> = None;
        loop {
            if let Some(settle) = self.ledger.take() {
                let kind = Some(v1::subscribe_request::Kind::Settle(settle));
                if requests.send(v1::SubscribeRequest { kind }).await.is_err() {
                    return Some(broken(&mut responses).await);
                }
            }
            if farewell.is_some_and(|until| Instant::now() >= until || self.ledger.is_idle()) {
                // Half closing lets the hub read what was sent before it takes the rest back.
                drop(requests);
                broken(&mut responses).await;
                return None;
            }
            tokio::select! {
                response = responses.message() => match response {
                    Ok(Some(response)) => self.receive(response),
                    Ok(None) => return Some(Status::unavailable("it ended the stream")),
                    Err(status) => return Some(status),
                },
                () = self.ledger.changed.notified() => {}
                () = self.deliveries.closed(), if farewell.is_none() => {
                    self.ledger.state().leaving = true;
                    farewell = Some(Instant::now() + FAREWELL);
                }
                () = until(farewell) => {}
            }
        }
    }

    fn receive(&self, response: v1::SubscribeResponse) {
        let Some(v1::subscribe_response::Kind::Deliveries(deliveries)) = response.kind else {
            return;
        };
        for delivery in deliveries.deliveries {
            let offset = delivery.offset;
            match self
                .ledger
                .arrive(offset, delivery.published_ms, delivery.attempt)
            {
                Arrival::New => {
                    let delivery = Delivery::new(self.incoming(delivery), self.ledger.clone(), offset);
                    // Full or closed: dropping it gives it back.
                    self.deliveries.try_send(delivery).ok();
                }
                Arrival::Done => self.ledger.repeat(offset),
                Arrival::Held | Arrival::Leaving => {}
            }
        }
    }

    fn incoming(&self, delivery: v1::Delivery) -> Incoming {
        let mut metadata = delivery.metadata;
        Incoming {
            topic: self.open.topic.clone(),
            data: delivery.data,
            content_type: metadata.remove(CONTENT_TYPE),
            metadata: Metadata::from_iter(metadata),
        }
    }
}

impl Ledger {
    fn arrive(&self, offset: u64, published: u64, attempt: u32) -> Arrival {
        let mut state = self.state();
        if state.leaving {
            return Arrival::Leaving;
        }
        match state.held.get_mut(&offset) {
            Some((of, attempts)) if *of == published => {
                *attempts = attempt;
                return Arrival::Held;
            }
            // The runtime holds another hub's message of this offset: this one has to come later.
            Some(_) => {
                state.nacks.push(v1::Nack {
                    offset,
                    delay_ms: millis(self.longest_pause),
                });
                drop(state);
                self.changed.notify_one();
                return Arrival::Held;
            }
            None => {}
        }
        if state.acknowledged.contains(&(offset, published)) {
            return Arrival::Done;
        }
        state.held.insert(offset, (published, attempt));
        Arrival::New
    }

    fn repeat(&self, offset: u64) {
        self.state().acks.push(offset);
        self.changed.notify_one();
    }

    fn take(&self) -> Option<v1::Settle> {
        let mut state = self.state();
        if state.acks.is_empty() && state.nacks.is_empty() {
            return None;
        }
        Some(v1::Settle {
            acks: std::mem::take(&mut state.acks),
            nacks: std::mem::take(&mut state.nacks),
        })
    }

    /// Nothing is held, and nothing is left to tell the hub.
    fn is_idle(&self) -> bool {
        let state = self.state();
        state.held.is_empty() && state.acks.is_empty() && state.nacks.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Settle for Ledger {
    fn settle(&self, token: u64, outcome: Outcome) {
        let mut state = self.state();
        let Some((published, attempt)) = state.held.remove(&token) else {
            return;
        };
        match outcome {
            Outcome::Ack => {
                state.acks.push(token);
                if state.acknowledged.insert((token, published)) {
                    state.order.push_back((token, published));
                }
                if state.order.len() > REMEMBERED
                    && let Some(oldest) = state.order.pop_front()
                {
                    state.acknowledged.remove(&oldest);
                }
            }
            Outcome::Nack if state.leaving => {}
            Outcome::Nack => {
                let doubled = FIRST_PAUSE.saturating_mul(1 << attempt.saturating_sub(1).min(16));
                state.nacks.push(v1::Nack {
                    offset: token,
                    delay_ms: millis(doubled.min(self.longest_pause)),
                });
            }
        }
        drop(state);
        self.changed.notify_one();
    }
}

/// Reads on until the hub says how it ended, for a moment.
async fn broken(responses: &mut Streaming<v1::SubscribeResponse>) -> Status {
    let end = async {
        loop {
            match responses.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::unavailable("it ended the stream"),
                Err(status) => return status,
            }
        }
    };
    let late = || Status::unavailable("it does not answer");
    timeout(Duration::from_secs(1), end)
        .await
        .unwrap_or_else(|_| late())
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
