//! An app that answers as it is told.

use outrigger_channel::app::{AppChannel, Outcome, Subscription, TopicEvent};
use outrigger_channel::body::Body;
use outrigger_channel::call::{Call, Reply};
use outrigger_channel::error::Error as AppError;
use std::collections::VecDeque;
use std::sync::Mutex;
use tokio::sync::{Semaphore, watch};

/// What the app answers to one event.
#[derive(Clone, Copy, Debug)]
pub(in crate::pubsub::tests) enum Answer {
    Is(Outcome),
    Fails,
    Unimplemented,
    Http(u16),
    /// Waits for a permit of [`FakeApp::gate`], then succeeds.
    Waits,
    /// Never answers.
    Hangs,
    Panics,
}

#[derive(Default)]
pub(in crate::pubsub::tests) struct FakeApp {
    /// In order; when there is none left, events succeed.
    pub answers: Mutex<VecDeque<Answer>>,
    pub subscriptions: Mutex<VecDeque<Result<Vec<Subscription>, AppError>>>,
    pub asked: Mutex<usize>,
    pub seen: watch::Sender<Vec<TopicEvent>>,
    pub gate: Gate,
}

pub(in crate::pubsub::tests) struct Gate(pub Semaphore);

impl Default for Gate {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

impl FakeApp {
    pub(in crate::pubsub::tests) fn answer(&self, answers: impl IntoIterator<Item = Answer>) {
        self.answers.lock().unwrap().extend(answers);
    }

    /// Waits until the app has seen that many events.
    pub(in crate::pubsub::tests) async fn events(&self, count: usize) -> Vec<TopicEvent> {
        let mut seen = self.seen.subscribe();
        seen.wait_for(|seen| seen.len() >= count).await.unwrap().clone()
    }

    pub(in crate::pubsub::tests) fn seen(&self) -> usize {
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
            Some(Answer::Http(status)) => Err(AppError::Http {
                status,
                message: format!("status {status}"),
            }),
            Some(Answer::Unimplemented) => Err(AppError::Unimplemented("OnTopicEvent")),
            Some(Answer::Waits) => {
                self.gate.0.acquire().await.unwrap().forget();
                Ok(Outcome::Success)
            }
            Some(Answer::Hangs) => std::future::pending().await,
            Some(Answer::Panics) => panic!("as asked"),
        }
    }

    async fn proxy(&self, _request: http::Request<Body>) -> Result<http::Response<Body>, AppError> {
        Err(AppError::Unimplemented("proxy"))
    }

    async fn healthy(&self) -> Result<(), AppError> {
        Ok(())
    }
}
