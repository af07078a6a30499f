//! A broker that redelivers at once, an app that answers as it is told, and a [`Pubsub`] between them.

use crate::components::snapshot::{Broker, Live, Loaded, Snapshot};
use crate::fakes::Bench;
use crate::pubsub::scopes::Scopes;
use crate::pubsub::{Parts, Pubsub};
use bytes::Bytes;
use futures::StreamExt as _;
use outrigger_channel::app::{AppChannel, Outcome, Rule, Subscription, TopicEvent};
use outrigger_channel::body::Body;
use outrigger_channel::call::{Call, Reply};
use outrigger_channel::error::Error as AppError;
use outrigger_component::Component;
use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::metadata::Metadata;
use outrigger_component::pubsub::{
    self, Delivery, Entry, Failed, Features, Incoming, Outgoing, PubSub, Settle, Subscribe,
};
use outrigger_daemon::drain;
use outrigger_daemon::tasks::Tasks;
use outrigger_daemon::trace::Tracer;
use outrigger_resources::resiliency::Resiliency;
use outrigger_resources::subscription::Subscription as Document;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, Semaphore, watch};

/// One topic in memory. What is published to it is kept apart from what is delivered, which tests put in.
pub(super) struct FakeBroker {
    pub features: Features,
    pub concurrency: usize,
    pub shared: Arc<Shared>,
    pub published: Mutex<Vec<Outgoing>>,
    /// Errors for the next publishes, in order; `None` lets one through.
    pub refuse: Mutex<VecDeque<Option<Kind>>>,
    /// Topics that cannot be published to.
    pub broken: Mutex<Vec<String>>,
    /// Topics whose publishing never ends.
    pub hanging: Mutex<Vec<String>>,
    /// Errors for the next subscribes.
    pub refuse_subscribe: Mutex<VecDeque<Kind>>,
    pub subscribed: Mutex<Vec<Subscribe>>,
}

#[derive(Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    more: Notify,
    /// Counts settled messages.
    pub settled: watch::Sender<Vec<(u64, pubsub::Outcome)>>,
}

#[derive(Default)]
struct State {
    next: u64,
    waiting: VecDeque<(u64, Incoming)>,
    held: BTreeMap<u64, Incoming>,
    most_held: usize,
    ended: bool,
}

impl Shared {
    pub(super) fn push(&self, message: Incoming) -> u64 {
        let mut state = self.state.lock().unwrap();
        state.next += 1;
        let token = state.next;
        state.waiting.push_back((token, message));
        self.more.notify_waiters();
        token
    }

    /// Ends the deliveries of whoever is subscribed now.
    pub(super) fn end(&self) {
        self.state.lock().unwrap().ended = true;
        self.more.notify_waiters();
    }

    pub(super) fn most_held(&self) -> usize {
        self.state.lock().unwrap().most_held
    }

    /// Messages that nobody holds and that are not acknowledged.
    pub(super) fn waiting(&self) -> Vec<u64> {
        self.state
            .lock()
            .unwrap()
            .waiting
            .iter()
            .map(|(token, _)| *token)
            .collect()
    }

    pub(super) fn held(&self) -> usize {
        self.state.lock().unwrap().held.len()
    }

    /// The first so many outcomes, once they are in.
    pub(super) async fn outcomes(&self, count: usize) -> Vec<(u64, pubsub::Outcome)> {
        let mut settled = self.settled.subscribe();
        let settled = settled.wait_for(|settled| settled.len() >= count).await.unwrap();
        settled[..count].to_vec()
    }

    async fn next(&self) -> Option<(u64, Incoming)> {
        loop {
            let more = self.more.notified();
            tokio::pin!(more);
            more.as_mut().enable();
            {
                let mut state = self.state.lock().unwrap();
                if std::mem::take(&mut state.ended) {
                    return None;
                }
                if let Some((token, message)) = state.waiting.pop_front() {
                    state.held.insert(token, message.clone());
                    state.most_held = state.most_held.max(state.held.len());
                    return Some((token, message));
                }
            }
            more.await;
        }
    }
}

impl Settle for Shared {
    fn settle(&self, token: u64, outcome: pubsub::Outcome) {
        let mut state = self.state.lock().unwrap();
        let message = state.held.remove(&token).expect("settled once");
        if outcome == pubsub::Outcome::Nack {
            state.waiting.push_front((token, message));
        }
        drop(state);
        self.more.notify_waiters();
        self.settled.send_modify(|settled| settled.push((token, outcome)));
    }
}

impl Default for FakeBroker {
    fn default() -> Self {
        Self {
            features: Features::default(),
            concurrency: 1,
            shared: Arc::default(),
            published: Mutex::default(),
            refuse: Mutex::default(),
            broken: Mutex::default(),
            hanging: Mutex::default(),
            refuse_subscribe: Mutex::default(),
            subscribed: Mutex::default(),
        }
    }
}

impl FakeBroker {
    fn take(&self, message: Outgoing) -> Result<()> {
        if self.broken.lock().unwrap().contains(&message.topic) {
            return Err(Error::new(Kind::Unavailable, "topic is broken"));
        }
        if let Some(Some(kind)) = self.refuse.lock().unwrap().pop_front() {
            return Err(Error::new(kind, "broker says no"));
        }
        self.published.lock().unwrap().push(message);
        Ok(())
    }

    pub(super) fn published(&self) -> Vec<Outgoing> {
        self.published.lock().unwrap().clone()
    }
}

#[async_trait::async_trait]
impl Component for FakeBroker {}

#[async_trait::async_trait]
impl PubSub for FakeBroker {
    fn features(&self) -> Features {
        self.features
    }

    async fn publish(&self, message: Outgoing) -> Result<()> {
        if self.hanging.lock().unwrap().contains(&message.topic) {
            std::future::pending::<()>().await;
        }
        self.take(message)
    }

    async fn publish_bulk(
        &self,
        topic: &str,
        entries: Vec<Entry>,
        _metadata: &Metadata,
    ) -> std::result::Result<Vec<Failed>, Vec<Entry>> {
        if !self.features.bulk {
            return Err(entries);
        }
        let put = |Entry {
                       id,
                       data,
                       content_type,
                       metadata,
                   }| {
            let topic = topic.to_owned();
            let message = Outgoing {
                topic,
                data,
                content_type: Some(content_type),
                metadata,
            };
            self.take(message).err().map(|error| Failed { id, error })
        };
        Ok(entries.into_iter().filter_map(put).collect())
    }

    async fn subscribe(&self, subscribe: Subscribe) -> Result<pubsub::Subscription> {
        if let Some(kind) = self.refuse_subscribe.lock().unwrap().pop_front() {
            return Err(Error::new(kind, "broker is not ready"));
        }
        self.subscribed.lock().unwrap().push(subscribe);
        let shared = Arc::clone(&self.shared);
        let deliveries = futures::stream::unfold(shared, |shared| async move {
            let (token, message) = shared.next().await?;
            let settle: Arc<dyn Settle> = shared.clone();
            Some((Delivery::new(message, settle, token), shared))
        });
        Ok(pubsub::Subscription {
            deliveries: deliveries.boxed(),
            concurrency: self.concurrency,
        })
    }
}

/// What the app answers to one event.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    Is(Outcome),
    Fails,
    Unimplemented,
    /// Waits for a permit of [`FakeApp::gate`], then succeeds.
    Waits,
    /// Never answers.
    Hangs,
}

#[derive(Default)]
pub(super) struct FakeApp {
    /// In order; when there is none left, events succeed.
    pub answers: Mutex<VecDeque<Answer>>,
    pub subscriptions: Mutex<VecDeque<Result<Vec<Subscription>, AppError>>>,
    pub asked: Mutex<usize>,
    pub seen: watch::Sender<Vec<TopicEvent>>,
    pub gate: Gate,
}

pub(super) struct Gate(pub Semaphore);

impl Default for Gate {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

impl FakeApp {
    pub(super) fn answer(&self, answers: impl IntoIterator<Item = Answer>) {
        self.answers.lock().unwrap().extend(answers);
    }

    /// Waits until the app has seen that many events.
    pub(super) async fn events(&self, count: usize) -> Vec<TopicEvent> {
        let mut seen = self.seen.subscribe();
        seen.wait_for(|seen| seen.len() >= count).await.unwrap().clone()
    }

    pub(super) fn seen(&self) -> usize {
        self.seen.borrow().len()
    }
}

#[async_trait::async_trait]
impl AppChannel for FakeApp {
    async fn subscriptions(&self) -> Result<Vec<Subscription>, AppError> {
        *self.asked.lock().unwrap() += 1;
        self.subscriptions
            .lock()
            .unwrap()
            .pop_front()
            .unwrap_or_else(|| Ok(Vec::new()))
    }

    async fn invoke(&self, _call: Call) -> Result<Reply, AppError> {
        Err(AppError::Unimplemented("invoke"))
    }

    async fn deliver(&self, event: TopicEvent) -> Result<Outcome, AppError> {
        self.seen.send_modify(|seen| seen.push(event));
        let answer = self.answers.lock().unwrap().pop_front();
        match answer {
            None => Ok(Outcome::Success),
            Some(Answer::Is(outcome)) => Ok(outcome),
            Some(Answer::Fails) => Err(AppError::Unavailable("app is down".to_owned())),
            Some(Answer::Unimplemented) => Err(AppError::Unimplemented("OnTopicEvent")),
            Some(Answer::Waits) => {
                self.gate.0.acquire().await.unwrap().forget();
                Ok(Outcome::Success)
            }
            Some(Answer::Hangs) => std::future::pending().await,
        }
    }

    async fn proxy(&self, _request: http::Request<Body>) -> Result<http::Response<Body>, AppError> {
        Err(AppError::Unimplemented("proxy"))
    }

    async fn healthy(&self) -> Result<(), AppError> {
        Ok(())
    }
}

/// Everything a test needs. The broker is `orders`.
pub(super) struct World {
    pub pubsub: Pubsub,
    pub broker: Arc<FakeBroker>,
    pub app: Arc<FakeApp>,
    pub bench: Bench,
    /// Owns what runs.
    pub tasks: Tasks,
}

/// What to build a [`World`] from.
#[derive(Default)]
pub(super) struct Plan {
    pub broker: FakeBroker,
    /// Of the component.
    pub metadata: &'static [(&'static str, &'static str)],
    pub topic_prefix: &'static str,
    pub declared: Vec<Document>,
    /// Of a Resiliency document.
    pub policies: serde_json::Value,
    pub do_not_ask: bool,
    pub no_app: bool,
}

pub(super) fn world(plan: Plan) -> World {
    let bench = Bench::new();
    let broker = Arc::new(plan.broker);
    let app = Arc::new(FakeApp::default());
    let metadata: Metadata = plan.metadata.iter().copied().collect();
    let mut snapshot = Snapshot::default();
    let loaded = Broker {
        name: "orders".to_owned(),
        broker: broker.clone(),
        features: broker.features,
        scopes: Scopes::parse(&metadata, "shop"),
        topic_prefix: plan.topic_prefix.to_owned(),
    };
    snapshot.insert("pubsub.fake", "v1", Loaded::Pubsub(Arc::new(loaded)));
    let document: Option<Resiliency> = (!plan.policies.is_null()).then(|| {
        serde_json::from_value(serde_json::json!({"metadata": {"name": "test"}, "spec": plan.policies}))
            .unwrap()
    });
    let tasks = Tasks::new(&bench.log, drain::channel().0);
    let channel: Arc<dyn AppChannel> = app.clone();
    let pubsub = Pubsub::new(Parts {
        app_id: "shop".to_owned(),
        components: Live::new(snapshot),
        app: (!plan.no_app).then_some(channel),
        declared: plan.declared,
        ask_app: !plan.do_not_ask,
        policies: Arc::new(outrigger_resiliency::load::load(&document, Arc::new(()))),
        metrics: bench.component_metrics(),
        tracer: Tracer::off(),
        log: bench.log.clone(),
        tasks: tasks.spawner(),
    })
    .unwrap();
    World {
        pubsub,
        broker,
        app,
        bench,
        tasks,
    }
}

/// A subscription of the app to topic `new`.
pub(super) fn subscription(path: &str) -> Subscription {
    Subscription {
        pubsub: "orders".to_owned(),
        topic: "new".to_owned(),
        rules: vec![Rule {
            expression: String::new(),
            path: path.to_owned(),
        }],
        ..Subscription::default()
    }
}

/// A declared subscription to topic `new`, route `/new`.
pub(super) fn document() -> Document {
    Document {
        name: "sub".to_owned(),
        pubsub: "orders".to_owned(),
        topic: "new".to_owned(),
        routes: outrigger_resources::subscription::Routes {
            rules: Vec::new(),
            default: "/new".to_owned(),
        },
        ..Document::default()
    }
}

/// A message as a broker delivers it.
pub(super) fn message(data: &str) -> Incoming {
    Incoming {
        topic: "new".to_owned(),
        data: Bytes::copy_from_slice(data.as_bytes()),
        ..Incoming::default()
    }
}
