//! One subscription: a task between the server and whoever polls.
//!
//! The server pushes up to `maxAckPending` messages. They wait here, and for each of them, waiting or with the app, the server
//! is told in time that it is being worked on. The task ends when the subscription was dropped and what it had handed out is
//! settled.

use super::book::{Book, Came, Pauses, Tell};
use super::consumer::{self, Joined};
use super::{Shared, metadata};
use crate::api::{Again, nanos};
use async_nats::{Message, StatusCode};
use bytes::Bytes;
use futures::StreamExt;
use outrigger_component::pubsub::{Delivery, Incoming, Outcome, Settle};
use outrigger_daemon::backoff::Backoff;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};

const ACK: &[u8] = b"+ACK";
const AGAIN: &str = "-NAK";
const WORKING: &[u8] = b"+WPI";
/// Header of a heartbeat of a consumer that waits for flow control: whom to answer.
const STALLED: &str = "Nats-Consumer-Stalled";
/// How often the server is asked whether the consumer is still there.
const CHECK: Duration = Duration::from_secs(30);
/// With heartbeats, so many of them.
const HEARTBEATS: u32 = 3;
/// Of new attempts while the server is away.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long leaving waits until the server knows.
const FAREWELL: Duration = Duration::from_secs(2);

pub(super) struct Feed {
    shared: Arc<Shared>,
    topic: String,
    joined: Joined,
    book: Book,
    ledger: Arc<Ledger>,
    /// `None` when nobody polls any more.
    out: Option<mpsc::Sender<Delivery>>,
    limit: usize,
    working: Interval,
    check: Instant,
    /// Between looks while the consumer cannot be found.
    backoff: Backoff,
    closed: watch::Receiver<bool>,
    _alive: mpsc::Sender<()>,
}

/// The polled side.
pub(super) struct Inbox {
    waiting: mpsc::Receiver<Delivery>,
    ledger: Arc<Ledger>,
}

/// What was settled and is not yet told; bounded by what is in somebody's hands.
#[derive(Default)]
struct Ledger {
    settled: Mutex<Vec<(u64, Outcome)>>,
    more: Notify,
    /// What comes back now was not refused, but is left behind.
    leaving: AtomicBool,
}

impl Feed {
    pub(super) fn new(
        shared: &Arc<Shared>,
        topic: String,
        joined: Joined,
        alive: mpsc::Sender<()>,
        closed: watch::Receiver<bool>,
    ) -> (Self, Inbox) {
        let limit = joined.limit();
        let (out, waiting) = mpsc::channel(limit);
        let ledger = Arc::new(Ledger::default());
        let config = &shared.config;
        let pauses = Pauses {
            ack_wait: config.ack_wait.filter(|wait| !wait.is_zero()),
            back_off: config.back_off.clone(),
            most: config
                .max_deliver
                .and_then(|most| most.try_into().ok())
                .unwrap_or(0),
        };
        let feed = Self {
            book: Book::new(shared.acks, pauses),
            ledger: Arc::clone(&ledger),
            out: Some(out),
            limit,
            working: working(&joined),
            check: Instant::now() + check_period(&joined),
            backoff: Backoff::new(SHORTEST_PAUSE, LONGEST_PAUSE),
            shared: Arc::clone(shared),
            topic,
            joined,
            closed,
            _alive: alive,
        };
        (feed, Inbox { waiting, ledger })
    }

    pub(super) async fn run(mut self) {
        let mut connected = self.shared.client.connected();
        connected.borrow_and_update();
        let mut closed = self.closed.clone();
        while let Some(out) = self.out.clone() {
            let room = self.book.held() < self.limit;
            tokio::select! {
                // What is rare goes first: messages and what was settled may be there all the time.
                biased;
                () = out.closed() => break,
                () = ended(&mut closed) => break,
                changed = connected.changed() => {
                    // Whatever was not said before the connection was lost may be unknown; the consumer, too.
                    if changed.is_err() {
                        break;
                    }
                    self.check = Instant::now();
                }
                () = sleep_until(self.check) => self.look().await,
                _ = self.working.tick() => self.tell_working().await,
                () = self.ledger.more.notified() => self.tell_settled().await,
                message = self.joined.messages.next(), if room => match message {
                    Some(message) => self.take(message, &out).await,
                    // The client library has closed the connection for good.
                    None => break,
                },
            }
        }
        self.leave().await;
    }

    async fn take(&mut self, message: Message, out: &mpsc::Sender<Delivery>) {
        let Some(reply) = consumer::reply(&message) else {
            return self.answer(&message).await;
        };
        match self.book.came(reply) {
            Came::New(token) => {
                let incoming = Incoming {
                    topic: self.topic.clone(),
                    metadata: metadata(&message.subject, message.headers.as_ref()),
                    data: message.payload,
                    content_type: None,
                };
                let to = Arc::clone(&self.ledger) as Arc<dyn Settle>;
                // There is room for as many as can be held. Dropped, if nobody polls any more, it comes back as settled.
                drop(out.try_send(Delivery::new(incoming, to, token)));
            }
            Came::Held => {}
            Came::Done(tell) => self.tell(tell).await,
        }
    }

    /// What the server says itself: heartbeats, flow control, the end of the consumer.
    async fn answer(&mut self, message: &Message) {
        if message.status != Some(StatusCode::IDLE_HEARTBEAT) {
            self.check = Instant::now();
            return;
        }
        self.check = self.check.max(Instant::now() + check_period(&self.joined));
        let stalled = message.headers.as_ref().and_then(|headers| headers.get(STALLED));
        let asked = message.reply.as_ref().map(|reply| reply.as_str());
        if let Some(subject) = asked.or(stalled.map(async_nats::HeaderValue::as_str)) {
            self.send(subject, Bytes::new()).await;
        }
    }

    async fn tell_settled(&mut self) {
        let (settled, leaving) = {
            let mut settled = self.ledger.settled.lock().unwrap_or_else(PoisonError::into_inner);
            let leaving = self.ledger.leaving.load(Ordering::Acquire);
            if leaving && self.out.is_some() {
                // INVARIANT: what is left behind is given back when the server knows that we have left, not before: it would
                // come here again, on its way when the subscription ends, and to nobody until `ackWait` is over.
                return;
            }
            (std::mem::take(&mut *settled), leaving)
        };
        for (token, outcome) in settled {
            if let Some(tell) = self.book.settled(token, outcome, leaving) {
                self.tell(tell).await;
            }
        }
    }

    async fn tell(&self, tell: Tell) {
        match tell {
            Tell::Ack(subject) => self.send(&subject, Bytes::from_static(ACK)).await,
            Tell::Again(subject, pause) if pause.is_zero() => {
                self.send(&subject, Bytes::from_static(AGAIN.as_bytes())).await
            }
            Tell::Again(subject, pause) => {
                let delay = serde_json::json!(Again { delay: nanos(pause) });
                self.send(&subject, Bytes::from(format!("{AGAIN} {delay}"))).await;
            }
        }
    }

    async fn tell_working(&self) {
        for subject in self.book.in_progress() {
            self.send(subject, Bytes::from_static(WORKING)).await;
        }
    }

    /// What does not arrive is delivered again, and told again.
    async fn send(&self, subject: &str, body: Bytes) {
        if let Err(fault) = self.shared.client.send(subject, body).await {
            self.shared.log.warn(format_args!(
                "jetstream: a message of {} cannot be settled: {fault}",
                self.topic
            ));
        }
    }

    /// Whether the consumer is still there; if not, another takes its place.
    async fn look(&mut self) {
        let found = consumer::info(&self.shared, &self.joined.stream, &self.joined.info.name).await;
        let same = |now: &Joined, found: &crate::api::ConsumerInfo| {
            found.config.deliver_subject == now.info.config.deliver_subject
                && found.config.filter_subject == now.info.config.filter_subject
        };
        let error = match found {
            Ok(Some(found)) if same(&self.joined, &found) => return self.well(),
            Ok(_) => {
                self.shared.log.warn(format_args!(
                    "jetstream: consumer {} of stream {} is gone; another takes its place",
                    self.joined.info.name, self.joined.stream
                ));
                match consumer::join(&self.shared, &self.topic, self.book.resume()).await {
                    Ok(joined) => {
                        self.working = working(&joined);
                        self.joined = joined;
                        return self.well();
                    }
                    Err(error) => error,
                }
            }
            Err(fault) => fault.because("jetstream: cannot look for the consumer"),
        };
        // Said once, not with each attempt.
        if self.backoff.is_fresh() {
            self.shared
                .log
                .error(format_args!("jetstream: subscription to {}: {error}", self.topic));
        }
        self.check = Instant::now() + self.backoff.pause();
    }

    fn well(&mut self) {
        self.backoff.reset();
        self.check = Instant::now() + check_period(&self.joined);
    }

    /// No more messages; what is not in the app's hands goes to somebody else, what is may still be settled.
    async fn leave(&mut self) {
        self.ledger.leaving.store(true, Ordering::Release);
        // Deliveries that wait come back as refused when the other side is dropped, or with this one.
        self.out = None;
        if self.joined.messages.unsubscribe().await.is_ok() {
            while let Some(message) = self.joined.messages.next().await {
                let tell = match consumer::reply(&message).map(|reply| self.book.came(reply)) {
                    Some(Came::New(token)) => self.book.settled(token, Outcome::Nack, true),
                    Some(Came::Done(tell)) => Some(tell),
                    Some(Came::Held) | None => None,
                };
                if let Some(tell) = tell {
                    self.tell(tell).await;
                }
            }
        }
        self.tell_settled().await;
        while self.book.held() > 0 {
            tokio::select! {
                () = self.ledger.more.notified() => self.tell_settled().await,
                _ = self.working.tick() => self.tell_working().await,
            }
        }
        self.shared.client.flush(FAREWELL).await;
    }
}

impl Inbox {
    /// `None` when the component is closed.
    pub(super) async fn next(&mut self) -> Option<Delivery> {
        self.waiting.recv().await
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.ledger.leaving.store(true, Ordering::Release);
    }
}

impl Settle for Ledger {
    fn settle(&self, token: u64, outcome: Outcome) {
        self.settled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((token, outcome));
        self.more.notify_one();
    }
}

/// The component is closed, or gone.
async fn ended(closed: &mut watch::Receiver<bool>) {
    closed.wait_for(|closed| *closed).await.map(drop).ok();
}

fn working(joined: &Joined) -> Interval {
    let period = (joined.ack_wait() / 3).max(Duration::from_millis(10));
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

fn check_period(joined: &Joined) -> Duration {
    let heartbeat = joined.info.config.idle_heartbeat.unwrap_or(0);
    match Duration::from_nanos(heartbeat) * HEARTBEATS {
        Duration::ZERO => CHECK,
        period => period.min(CHECK),
    }
}
