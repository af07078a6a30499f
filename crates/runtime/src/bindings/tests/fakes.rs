//! Bindings between a source and a resource that can be scripted, and an app that answers as it is told.

use crate::bindings::{Bindings, Parts};
use crate::components::snapshot::{Binding, Live, Loaded, Snapshot, StateStore};
use crate::fakes::{Bench, document, load};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream;
use http::{Request, Response};
use outrigger_channel::app::binding::{Event as AppEvent, FollowUp, Reply};
use outrigger_channel::app::{AppChannel, Outcome, Subscription, TopicEvent};
use outrigger_channel::body::Body;
use outrigger_channel::call;
use outrigger_channel::error::Error as AppError;
use outrigger_component::Component;
use outrigger_component::binding::{Event, Failed, InputBinding, Invoke, Output, OutputBinding, Reading};
use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::metadata::Metadata;
use outrigger_daemon::drain;
use outrigger_daemon::tasks::Tasks;
use outrigger_daemon::trace::Tracer;
use outrigger_resources::resiliency::Resiliency;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Mutex as AsyncMutex, Semaphore, mpsc, watch};

/// Everything a test needs. The binding, with both sides, is `both`; the state store is `s`.
pub(super) struct World {
    pub bindings: Bindings,
    pub input: Arc<Source>,
    pub output: Arc<Resource>,
    pub app: Arc<App>,
    pub bench: Bench,
    _tasks: Tasks,
}

impl World {
    pub(super) const CONCURRENCY: usize = 3;
}

/// What to build a [`World`] from.
#[derive(Default)]
pub(super) struct Plan {
    /// Of a Resiliency document.
    pub policies: serde_json::Value,
    pub declared_input: bool,
    /// What the app says when it is asked; when there is none left, it wants events.
    pub wants: Vec<Result<bool, ()>>,
    pub slow_to_say: Duration,
}

pub(super) async fn world(plan: Plan) -> World {
    let bench = Bench::new();
    let (input, output) = (Arc::new(Source::new()), Arc::new(Resource::default()));
    let app = Arc::new(App {
        wants: Mutex::new(plan.wants.into()),
        slow_to_say: plan.slow_to_say,
        ..App::default()
    });
    let mut snapshot = Snapshot::default();
    let loaded = Binding {
        name: "both".to_owned(),
        input: Some(input.clone()),
        output: Some(output.clone()),
        route: "/way".to_owned(),
        declared_input: plan.declared_input,
    };
    snapshot.insert("bindings.fake", "v1", Loaded::Binding(Arc::new(loaded)));
    snapshot.insert("state.fake", "v1", Loaded::State(store(&bench).await));
    let resiliency: Option<Resiliency> = (!plan.policies.is_null()).then(|| {
        serde_json::from_value(serde_json::json!({"metadata": {"name": "test"}, "spec": plan.policies}))
            .unwrap()
    });
    let policies = Arc::new(outrigger_resiliency::load::load(&resiliency, Arc::new(())));
    let live = Live::new(snapshot);
    let metrics = bench.component_metrics();
    let tasks = Tasks::new(&bench.log, drain::channel().0);
    let bindings = Bindings::new(Parts {
        components: live.clone(),
        app: Some(app.clone()),
        // Metrics are declared once per registry: state has a bench of its own.
        state: Arc::new(Bench::new().state(live, 0)),
        policies,
        metrics,
        tracer: Tracer::off(),
        log: bench.log.clone(),
        tasks: tasks.spawner(),
        probe_timeout: Duration::from_secs(3),
    });
    World {
        bindings,
        input,
        output,
        app,
        bench,
        _tasks: tasks,
    }
}

async fn store(bench: &Bench) -> Arc<StateStore> {
    let documents = vec![document("s", "state.fake", &[])];
    let loaded = load(&bench.settings(), documents).await.unwrap();
    let live = loaded.live();
    let now = live.now();
    now.state_store("s").unwrap().clone()
}

/// A source of events. What it was answered is kept.
pub(super) struct Source {
    events: mpsc::Sender<String>,
    pushed: Arc<AsyncMutex<mpsc::Receiver<String>>>,
    answers: watch::Sender<Vec<String>>,
    fails: Mutex<bool>,
    ends: watch::Sender<u32>,
    number: Mutex<u32>,
}

impl Source {
    fn new() -> Self {
        let (events, pushed) = mpsc::channel(64);
        Self {
            events,
            pushed: Arc::new(AsyncMutex::new(pushed)),
            answers: watch::Sender::default(),
            fails: Mutex::default(),
            ends: watch::Sender::default(),
            number: Mutex::default(),
        }
    }

    pub(super) fn push(&self, data: &str) {
        self.events.try_send(data.to_owned()).unwrap();
    }

    /// Waits until so many events were answered.
    pub(super) async fn answered(&self, count: usize) -> Vec<String> {
        let mut answers = self.answers.subscribe();
        answers
            .wait_for(|answers| answers.len() >= count)
            .await
            .unwrap()
            .clone()
    }

    pub(super) fn fail_next(&self) {
        *self.fails.lock().unwrap() = true;
    }

    pub(super) fn end(&self) {
        self.ends.send_modify(|ends| *ends += 1);
    }
}

impl Component for Source {}

#[async_trait::async_trait]
impl InputBinding for Source {
    async fn read(&self) -> Result<Reading> {
        if std::mem::take(&mut *self.fails.lock().unwrap()) {
            return Err(Error::internal("cannot read"));
        }
        let (pushed, answers) = (Arc::clone(&self.pushed), self.answers.clone());
        let number = {
            let mut number = self.number.lock().unwrap();
            *number += 1;
            number.to_string()
        };
        let events = stream::unfold((), move |()| {
            let (pushed, answers, number) = (pushed.clone(), answers.clone(), number.clone());
            async move {
                let data = pushed.lock().await.recv().await?;
                let metadata: Metadata = [("number", number)].into_iter().collect();
                let (event, answer) = Event::answered(Bytes::from(data), metadata);
                // Ends with the answer, at the latest when the event is dropped.
                #[expect(clippy::disallowed_methods, reason = "a fake's own errand")]
                tokio::spawn(async move {
                    let text = match answer.outcome().await {
                        Ok(data) => String::from_utf8(data.to_vec()).unwrap(),
                        Err(error) => format!("error: {error}"),
                    };
                    answers.send_modify(|answers| answers.push(text));
                });
                Some((event, ()))
            }
        });
        let mut ends = self.ends.subscribe();
        let over = async move {
            let _over = ends.changed().await;
        };
        Ok(Reading {
            events: events.take_until(Box::pin(over)).boxed(),
            concurrency: World::CONCURRENCY,
        })
    }
}

/// What is called. Data steers it: `broken` fails, `flaky` fails the first time.
#[derive(Default)]
pub(super) struct Resource {
    calls: Mutex<Vec<Invoke>>,
}

impl Resource {
    /// The calls since the last time.
    pub(super) fn calls(&self) -> Vec<Invoke> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }
}

impl Component for Resource {}

#[async_trait::async_trait]
impl OutputBinding for Resource {
    fn operations(&self) -> &[&'static str] {
        &["create", "delete"]
    }

    async fn invoke(&self, invoke: Invoke) -> Result<Option<Output>, Failed> {
        let data = String::from_utf8(invoke.data.to_vec()).unwrap();
        let operation = invoke.operation.clone();
        let before = {
            let mut calls = self.calls.lock().unwrap();
            calls.push(invoke);
            calls.len()
        };
        let failed = |kind, text: &str| Failed {
            error: Error::new(kind, text),
            metadata: [("why", "no")].into_iter().collect(),
        };
        match data.as_str() {
            "broken" => Err(failed(Kind::Internal, "it is broken")),
            "invalid" => Err(failed(Kind::Invalid, "it makes no sense")),
            "flaky" if before < 2 => Err(failed(Kind::Unavailable, "try again")),
            _ if operation == "delete" => Ok(None),
            data => Ok(Some(Output {
                data: format!("said {data}").into(),
                metadata: [("of", "both")].into_iter().collect(),
            })),
        }
    }
}

/// What the app answers to one event.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Status(u16),
    Asks(FollowUp),
    Gone,
    /// Waits for a permit of [`App::gate`], then succeeds.
    Waits,
    Panics,
}

pub(super) struct App {
    wants: Mutex<VecDeque<Result<bool, ()>>>,
    slow_to_say: Duration,
    asked: Mutex<usize>,
    answers: Mutex<VecDeque<Answer>>,
    seen: watch::Sender<Vec<AppEvent>>,
    pub gate: Semaphore,
}

impl Default for App {
    fn default() -> Self {
        Self {
            wants: Mutex::default(),
            slow_to_say: Duration::ZERO,
            asked: Mutex::default(),
            answers: Mutex::default(),
            seen: watch::Sender::default(),
            gate: Semaphore::new(0),
        }
    }
}

impl App {
    /// In order; when there is none left, events succeed.
    pub(super) fn answer(&self, answers: impl IntoIterator<Item = Answer>) {
        self.answers.lock().unwrap().extend(answers);
    }

    pub(super) fn seen(&self) -> Vec<AppEvent> {
        self.seen.borrow().clone()
    }

    /// Waits until the app has seen that many events.
    pub(super) async fn events(&self, count: usize) -> Vec<AppEvent> {
        let mut seen = self.seen.subscribe();
        seen.wait_for(|seen| seen.len() >= count).await.unwrap().clone()
    }

    pub(super) fn asked(&self) -> usize {
        *self.asked.lock().unwrap()
    }
}

#[async_trait::async_trait]
impl AppChannel for App {
    async fn subscriptions(&self) -> Result<Vec<Subscription>, AppError> {
        Ok(Vec::new())
    }

    async fn invoke(&self, _call: call::Call) -> Result<call::Reply, AppError> {
        Err(AppError::Unimplemented("invoke"))
    }

    async fn deliver(&self, _event: TopicEvent) -> Result<Outcome, AppError> {
        Err(AppError::Unimplemented("deliver"))
    }

    async fn takes(&self, _binding: &str, _route: &str) -> Result<bool, AppError> {
        *self.asked.lock().unwrap() += 1;
        tokio::time::sleep(self.slow_to_say).await;
        let said = self.wants.lock().unwrap().pop_front();
        said.unwrap_or(Ok(true))
            .map_err(|()| AppError::Unavailable("app is down".to_owned()))
    }

    async fn trigger(&self, event: AppEvent) -> Result<Reply, AppError> {
        let thanks = format!("thanks for {}", String::from_utf8_lossy(&event.data));
        self.seen.send_modify(|seen| seen.push(event));
        let answer = self.answers.lock().unwrap().pop_front();
        let mut reply = Reply {
            status: Some(200),
            data: thanks.into(),
            follow_up: FollowUp::default(),
        };
        match answer {
            None => {}
            Some(Answer::Status(status @ 200..300)) => reply.status = Some(status),
            Some(Answer::Status(status)) => {
                return Err(AppError::Http {
                    status,
                    message: format!(
                        "fails to send binding event to http app channel, status code: {status} body: no"
                    ),
                });
            }
            Some(Answer::Asks(follow_up)) => reply.follow_up = follow_up,
            Some(Answer::Gone) => return Err(AppError::Unavailable("app is down".to_owned())),
            Some(Answer::Waits) => self.gate.acquire().await.unwrap().forget(),
            Some(Answer::Panics) => panic!("the app's side broke, as the test wants"),
        }
        Ok(reply)
    }

    async fn proxy(&self, _request: Request<Body>) -> Result<Response<Body>, AppError> {
        Err(AppError::Unimplemented("proxy"))
    }

    async fn healthy(&self) -> Result<(), AppError> {
        Ok(())
    }
}
