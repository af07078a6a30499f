//! Publishing: one task for all topics of a component.
//!
//! Messages wait in the [lane](lane::Lane) of their partition. Whenever a broker can take another request, it gets one batch of
//! each lane that it leads: under load, batches grow by themselves while a request is under way, and without load a message
//! leaves at once.
//!
//! INVARIANT: every message is answered exactly once: by the broker, by a limit, or by the end of the task.

mod lane;
pub(crate) mod partition;

use crate::cluster::{Cluster, pause};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::wire::Request;
use crate::wire::batch::{self, Record};
use crate::wire::code::Code;
use crate::wire::compress::Compression;
use crate::wire::data::{ByTopic, Produce};
use crate::wire::setup::InitProducerId;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use lane::{Answers, Lane, Limits, Told};
use partition::{Place, Run};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Messages on their way to the task.
const QUEUE: usize = 4096;
/// What the task holds; beyond that, publishers wait.
const MOST_BYTES: usize = 64 << 20;
/// Requests under way at one broker.
const REQUESTS: usize = 3;
/// What waits with less than this lets the request before it be answered first, and becomes one batch with what comes
/// meanwhile: a broker takes the next request from a connection when it has answered the one before, and small batches cost it
/// as much as large ones. Messages without a key go to the same partition until they leave as a batch or are so many bytes
/// (KIP-480, KIP-794). As `batch.size` of Kafka's own client.
const WORTH_IT: usize = 16 << 10;
/// Of one request, all batches together.
const REQUEST_BYTES: usize = 8 << 20;
/// What brokers count beside the messages when they measure a batch.
const BATCH_HEAD: usize = 64;
/// How long replicas may take to confirm.
const REPLICAS: Duration = Duration::from_secs(10);

pub(crate) struct Settings {
    pub acks: i16,
    pub compression: Compression,
    pub max_message_bytes: usize,
    pub retries: u32,
    pub refresh_interval: Duration,
}

/// Where messages are handed in.
pub(crate) struct Producer {
    messages: mpsc::Sender<Message>,
    max_message_bytes: usize,
}

/// The answer to one message.
pub(crate) type Answer = oneshot::Receiver<Result<(), Failure>>;

struct Message {
    topic: Arc<str>,
    place: Place,
    waiter: Waiter,
}

/// A message, and who wants to know.
struct Waiter {
    record: Record,
    length: usize,
    reply: oneshot::Sender<Result<(), Failure>>,
}

impl Producer {
    /// The task is to be spawned by the caller. It ends when the producer is dropped and everything is answered.
    pub(crate) fn new(cluster: Arc<Cluster>, settings: Settings) -> (Self, impl Future<Output = ()> + Send) {
        let (messages, inbox) = mpsc::channel(QUEUE);
        let max_message_bytes = settings.max_message_bytes;
        let this = Self {
            messages,
            max_message_bytes,
        };
        (this, Task::new(cluster, settings).run(inbox))
    }

    /// Hands a message in; waits while too many are under way. What became of it comes as the answer.
    ///
    /// # Errors
    /// When it is too large, or the producer has ended.
    pub(crate) async fn send(&self, topic: &str, place: Place, record: Record) -> Result<Answer, Failure> {
        let length = record.length();
        if length > self.max_message_bytes {
            return Err(Failure::TooLarge(format!(
                "a message of {length} bytes is larger than maxMessageBytes, which is {}",
                self.max_message_bytes
            )));
        }
        let (reply, answer) = oneshot::channel();
        let waiter = Waiter {
            record,
            length,
            reply,
        };
        let message = Message {
            topic: topic.into(),
            place,
            waiter,
        };
        self.messages.send(message).await.map_err(|_| Failure::Closed)?;
        Ok(answer)
    }
}

struct Task {
    cluster: Arc<Cluster>,
    settings: Settings,
    limits: Limits,
    topics: HashMap<Arc<str>, Topic>,
    /// Topics about which something is to be learned.
    stale: HashSet<Arc<str>>,
    learning: bool,
    links: BTreeMap<i32, Link>,
    events: FuturesUnordered<BoxFuture<'static, Event>>,
    held_bytes: usize,
}

#[derive(Default)]
struct Topic {
    /// Messages whose partition cannot be said yet.
    unplaced: Vec<Message>,
    attempts: u32,
    /// When to ask for its partitions again.
    ask_at: Option<Instant>,
    run: Run,
    lanes: BTreeMap<i32, Led>,
}

struct Led {
    lane: Lane<Waiter>,
    leader: Option<i32>,
}

/// The way to a broker.
enum Link {
    Dialing,
    Open { connection: Connection, requests: usize },
}

type Partition = (Arc<str>, i32);

enum Event {
    Learned {
        topics: Vec<Arc<str>>,
        outcome: Result<Vec<(String, Code)>, Failure>,
    },
    Dialed {
        broker: i32,
        outcome: Result<Connection, Failure>,
    },
    Identified {
        partition: Partition,
        outcome: Result<(i64, i16), Failure>,
    },
    Produced {
        broker: i32,
        batches: Vec<(Partition, u64)>,
        outcome: Result<<Produce as Request>::Answer, Failure>,
    },
}

/// What is put together for one broker.
#[derive(Default)]
struct Load {
    batches: BTreeMap<Arc<str>, Vec<(i32, bytes::Bytes)>>,
    names: Vec<(Partition, u64)>,
    bytes: usize,
}

impl Task {
    fn new(cluster: Arc<Cluster>, settings: Settings) -> Self {
        let limits = Limits {
            bytes: settings.max_message_bytes.saturating_sub(BATCH_HEAD),
            retries: settings.retries,
            watched: settings.acks == -1,
        };
        Self {
            cluster,
            settings,
            limits,
            topics: HashMap::new(),
            stale: HashSet::new(),
            learning: false,
            links: BTreeMap::new(),
            events: FuturesUnordered::new(),
            held_bytes: 0,
        }
    }

    async fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
        let mut refresh = tokio::time::interval(self.settings.refresh_interval);
        refresh.tick().await;
        let mut messages = Vec::with_capacity(QUEUE);
        let mut open = true;
        while open || self.held_bytes > 0 {
            let wake = self.dispatch();
            tokio::select! {
                count = inbox.recv_many(&mut messages, QUEUE), if open && self.held_bytes < MOST_BYTES => {
                    open = count > 0;
                    for message in messages.drain(..) {
                        self.held_bytes += message.waiter.length;
                        self.take(message);
                    }
                }
                Some(event) = self.events.next() => {
                    self.apply(event);
                    while let Some(Some(event)) = self.events.next().now_or_never() {
                        self.apply(event);
                    }
                }
                () = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
                _ = refresh.tick() => self.stale.extend(self.topics.keys().cloned()),
            }
        }
    }

    /// Finds the lane of a message.
    fn take(&mut self, message: Message) {
        let known = self
            .cluster
            .partitions(&message.topic)
            .filter(|known| !known.is_empty());
        let topic = self.topics.entry(Arc::clone(&message.topic)).or_default();
        let Some(partitions) = known else {
            if topic.ask_at.is_none() {
                self.stale.insert(Arc::clone(&message.topic));
            }
            topic.unplaced.push(message);
            return;
        };
        let Message {
            topic: name,
            place,
            waiter,
        } = message;
        let number = match (place, &waiter.record.key) {
            (Place::Number(number), _) => {
                Some(number).filter(|number| partitions.iter().any(|partition| partition.number == *number))
            }
            (Place::Key, Some(key)) => partition::of_key(key, &partitions),
            _ => topic.run.take(waiter.length, &partitions),
        };
        let Some(number) = number else {
            let failure = Failure::Invalid(format!(
                "partition number is out of range, topic {name} has {} partitions",
                partitions.len()
            ));
            return answer(&mut self.held_bytes, vec![(waiter, Err(failure))]);
        };
        let limits = self.limits;
        let leader = partitions.iter().find(|partition| partition.number == number);
        let led = topic.lanes.entry(number).or_insert_with(|| Led {
            lane: Lane::new(limits),
            leader: leader.and_then(|partition| partition.leader),
        });
        let length = waiter.length;
        led.lane.push(waiter, length);
    }

    /// Sends whatever can be sent; says when to look again.
    fn dispatch(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let mut wake: Option<Instant> = None;
        let mut later = |at: Instant| wake = Some(wake.map_or(at, |wake| wake.min(at)));
        let mut loads: BTreeMap<i32, Load> = BTreeMap::new();
        let mut dial = Vec::new();
        for (name, topic) in &mut self.topics {
            match topic.ask_at {
                Some(at) if at > now => later(at),
                Some(_) => {
                    topic.ask_at = None;
                    self.stale.insert(Arc::clone(name));
                }
                None => {}
            }
            for (number, led) in &mut topic.lanes {
                if !led.lane.is_ready(now) {
                    if let Some(until) = led.lane.until() {
                        later(until);
                    }
                    continue;
                }
                let Some(broker) = led.leader else {
                    self.stale.insert(Arc::clone(name));
                    continue;
                };
                let (connection, requests) = match self.links.get(&broker) {
                    Some(Link::Open { connection, requests }) => (connection, *requests),
                    Some(Link::Dialing) => continue,
                    None => {
                        dial.push(broker);
                        continue;
                    }
                };
                let partition = (Arc::clone(name), *number);
                if led.lane.ask_identity() {
                    self.events.push(identify(connection, partition));
                    continue;
                }
                let load = loads.entry(broker).or_default();
                let early = requests > 0 && led.lane.waiting_bytes() < WORTH_IT;
                if early || requests >= REQUESTS || load.bytes >= REQUEST_BYTES {
                    continue;
                }
                let Some(next) = led.lane.next(now) else { continue };
                topic.run.left(*number);
                let records = next.records.iter().map(|waiter| &waiter.record);
                let encoded = batch::encode(records, next.stamp, unix_time(), self.settings.compression);
                let told = |lane: &mut Lane<Waiter>, name, error: std::io::Error| {
                    let failure = Failure::Invalid(format!("a batch cannot be compressed: {error}"));
                    lane.told(name, Told::Never(failure), now, pause)
                };
                match encoded {
                    Ok(batch) => {
                        load.bytes += batch.len();
                        load.names.push((partition, next.name));
                        load.batches
                            .entry(Arc::clone(name))
                            .or_default()
                            .push((*number, batch));
                    }
                    Err(error) => {
                        let name = next.name;
                        answer(&mut self.held_bytes, told(&mut led.lane, name, error));
                    }
                }
            }
        }
        for broker in dial {
            self.dial(broker);
        }
        for (broker, load) in loads {
            self.produce(broker, load);
        }
        self.learn();
        wake
    }

    fn dial(&mut self, broker: i32) {
        if self.links.contains_key(&broker) {
            return;
        }
        self.links.insert(broker, Link::Dialing);
        let cluster = Arc::clone(&self.cluster);
        self.events.push(Box::pin(async move {
            Event::Dialed {
                broker,
                outcome: cluster.connect(broker).await,
            }
        }));
    }

    fn learn(&mut self) {
        if self.learning || self.stale.is_empty() {
            return;
        }
        self.learning = true;
        let topics: Vec<Arc<str>> = self.stale.drain().collect();
        let cluster = Arc::clone(&self.cluster);
        self.events.push(Box::pin(async move {
            let names: Vec<String> = topics.iter().map(ToString::to_string).collect();
            Event::Learned {
                topics,
                outcome: cluster.learn(&names).await,
            }
        }));
    }

    fn produce(&mut self, broker: i32, load: Load) {
        let Some(Link::Open { connection, requests }) = self.links.get_mut(&broker) else {
            return;
        };
        if load.names.is_empty() {
            return;
        }
        let batches: ByTopic<_> = load.batches.into_iter().collect();
        let request = Produce {
            acks: self.settings.acks,
            timeout: REPLICAS,
            batches,
        };
        let names = load.names;
        if self.settings.acks == 0 {
            // Nobody says more than that it is on its way.
            let told = match connection.tell(&request) {
                Ok(()) => Told::Written,
                Err(failure) => Told::Again(failure),
            };
            for ((topic, number), name) in names {
                self.told(&topic, number, name, told.clone());
            }
            return;
        }
        *requests += 1;
        let answer = connection.ask(&request, REPLICAS);
        self.events.push(Box::pin(async move {
            Event::Produced {
                broker,
                batches: names,
                outcome: answer.await,
            }
        }));
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Learned { topics, outcome } => self.learned(topics, outcome),
            Event::Dialed { broker, outcome } => match outcome {
                Ok(connection) => {
                    self.links.insert(
                        broker,
                        Link::Open {
                            connection,
                            requests: 0,
                        },
                    );
                }
                Err(failure) => {
                    self.links.remove(&broker);
                    self.unreachable(broker, &failure);
                }
            },
            Event::Identified {
                partition: (topic, number),
                outcome,
            } => {
                let Some(led) = self.lane(&topic, number) else {
                    return;
                };
                match outcome {
                    Ok((producer, epoch)) => led.lane.identified(producer, epoch),
                    Err(failure) => {
                        let answers = led.lane.missed(&failure, Instant::now(), pause);
                        let broker = led.leader;
                        answer(&mut self.held_bytes, answers);
                        self.unlink(broker);
                    }
                }
            }
            Event::Produced {
                broker,
                batches,
                outcome,
            } => {
                if let Some(Link::Open { requests, .. }) = self.links.get_mut(&broker) {
                    *requests = requests.saturating_sub(1);
                }
                self.produced(broker, batches, outcome);
            }
        }
    }

    fn produced(
        &mut self,
        broker: i32,
        batches: Vec<(Partition, u64)>,
        outcome: Result<<Produce as Request>::Answer, Failure>,
    ) {
        let answered: HashMap<(&str, i32), i16> = match &outcome {
            Ok(topics) => topics
                .iter()
                .flat_map(|(topic, of)| of.iter().map(|one| ((&**topic, one.partition), one.code)))
                .collect(),
            Err(_) => HashMap::new(),
        };
        for ((topic, number), name) in batches {
            let told = match &outcome {
                Err(failure) if failure.is_passing() => Told::Again(failure.clone()),
                Err(failure) => Told::Never(failure.clone()),
                Ok(_) => match answered.get(&(&*topic, number)) {
                    None => Told::Again(Failure::NoLeader(format!("topic {topic} was not answered for"))),
                    Some(code) => judge(*code, &topic),
                },
            };
            if matches!(told, Told::Again(_)) {
                self.stale.insert(Arc::clone(&topic));
            }
            self.told(&topic, number, name, told);
        }
        // A request of an earlier connection says nothing about this one.
        let slow = matches!(outcome, Err(Failure::Slow { .. }));
        let over =
            |link: &Link| matches!(link, Link::Open { connection, .. } if slow || connection.is_closed());
        if outcome.is_err() && self.links.get(&broker).is_some_and(over) {
            self.unlink(Some(broker));
        }
    }

    fn told(&mut self, topic: &Arc<str>, number: i32, name: u64, told: Told) {
        let Some(led) = self.lane(topic, number) else {
            return;
        };
        let answers = led.lane.told(name, told, Instant::now(), pause);
        answer(&mut self.held_bytes, answers);
    }

    /// The next request to the broker goes over another connection, after it was asked who leads.
    fn unlink(&mut self, broker: Option<i32>) {
        let Some(broker) = broker else { return };
        if matches!(self.links.get(&broker), Some(Link::Open { .. })) {
            self.links.remove(&broker);
        }
        for (name, topic) in &self.topics {
            if topic.lanes.values().any(|led| led.leader == Some(broker)) {
                self.stale.insert(Arc::clone(name));
            }
        }
    }

    fn unreachable(&mut self, broker: i32, failure: &Failure) {
        for (name, topic) in &mut self.topics {
            for led in topic.lanes.values_mut() {
                if led.leader == Some(broker) && !led.lane.is_idle() {
                    self.stale.insert(Arc::clone(name));
                    answer(
                        &mut self.held_bytes,
                        led.lane.missed(failure, Instant::now(), pause),
                    );
                }
            }
        }
    }

    fn learned(&mut self, topics: Vec<Arc<str>>, outcome: Result<Vec<(String, Code)>, Failure>) {
        self.learning = false;
        let now = Instant::now();
        let wrong: HashMap<String, Code> = match &outcome {
            Ok(wrong) => wrong.iter().cloned().collect(),
            Err(_) => HashMap::new(),
        };
        for name in topics {
            let partitions = self.cluster.partitions(&name).unwrap_or_default();
            let Some(topic) = self.topics.get_mut(&name) else {
                continue;
            };
            let failure = match &outcome {
                Err(failure) => Some(failure.clone()),
                Ok(_) => wrong
                    .get(&*name)
                    .map(|code| Failure::code(format!("topic {name}"), *code)),
            };
            for (number, led) in &mut topic.lanes {
                let found = partitions.iter().find(|partition| partition.number == *number);
                led.leader = found.and_then(|partition| partition.leader);
                if led.lane.is_ready(now) && (led.leader.is_none() || failure.is_some()) {
                    let none = Failure::NoLeader(format!("partition {number} of topic {name} has no leader"));
                    let failure = failure.clone().unwrap_or(none);
                    answer(&mut self.held_bytes, led.lane.missed(&failure, now, pause));
                }
            }
            if topic.unplaced.is_empty() {
                continue;
            }
            if !partitions.is_empty() {
                topic.attempts = 0;
                for message in std::mem::take(&mut topic.unplaced) {
                    self.take(message);
                }
                continue;
            }
            topic.attempts += 1;
            let failure =
                failure.unwrap_or_else(|| Failure::NoLeader(format!("topic {name} has no partitions")));
            if failure.is_passing() && topic.attempts <= self.limits.retries {
                topic.ask_at = Some(now + pause(topic.attempts));
                continue;
            }
            topic.attempts = 0;
            let given_up = std::mem::take(&mut topic.unplaced).into_iter();
            let answers = given_up
                .map(|message| (message.waiter, Err(failure.clone())))
                .collect();
            answer(&mut self.held_bytes, answers);
        }
    }

    fn lane(&mut self, topic: &Arc<str>, number: i32) -> Option<&mut Led> {
        self.topics.get_mut(topic)?.lanes.get_mut(&number)
    }
}

fn identify(connection: &Connection, partition: Partition) -> BoxFuture<'static, Event> {
    let answer = connection.ask(&InitProducerId, Duration::ZERO);
    Box::pin(async move {
        let outcome = answer.await.and_then(|answer| match Code::of(answer.code) {
            None => Ok((answer.id, answer.epoch)),
            Some(code) => Err(Failure::code("producer id", code)),
        });
        Event::Identified { partition, outcome }
    })
}

/// What a broker's code says about a batch.
fn judge(code: i16, topic: &str) -> Told {
    let Some(code) = Code::of(code) else {
        return Told::Written;
    };
    let failure = Failure::code(format!("topic {topic}"), code);
    match code {
        Code::DUPLICATE_SEQUENCE => Told::Written,
        Code::OUT_OF_ORDER_SEQUENCE | Code::UNKNOWN_PRODUCER_ID | Code::INVALID_PRODUCER_EPOCH => {
            Told::Forgotten(failure)
        }
        Code::MESSAGE_TOO_LARGE | Code::RECORD_LIST_TOO_LARGE => Told::TooLarge(failure),
        code if code.is_passing() => Told::Again(failure),
        _ => Told::Never(failure),
    }
}

fn answer(held_bytes: &mut usize, answers: Answers<Waiter>) {
    for (waiter, outcome) in answers {
        *held_bytes = held_bytes.saturating_sub(waiter.length);
        // Who has gone does not want to know.
        let _unheard = waiter.reply.send(outcome);
    }
}

fn unix_time() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
