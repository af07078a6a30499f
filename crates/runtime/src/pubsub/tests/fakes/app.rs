//! An app that answers as it is told.

use outrigger_channel::app::bulk::{BulkEvent, Verdict};
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
    pub batches: watch::Sender<Vec<BulkEvent>>,
    /// What is said of the entries of each batch, in order; what is missing succeeds.
    pub words: Mutex<VecDeque<Words>>,
    pub gate: Gate,
}

/// What the app answers to a batch.
#[derive(Clone, Copy, Debug)]
pub(in crate::pubsub::tests) enum Words {
    /// Of the entries, in their order: `s`uccess, `r`etry, `d`rop, `u`nknown word, `-` nothing at all.
    Are(&'static str),
    /// As for a single event.
    All(Answer),
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

    /// Waits until the app has seen that many batches.
    pub(in crate::pubsub::tests) async fn batches(&self, count: usize) -> Vec<BulkEvent> {
        let mut seen = self.batches.subscribe();
        seen.wait_for(|seen| seen.len() >= count).await.unwrap().clone()
    }

    /// How many entries each batch had so far.
    pub(in crate::pubsub::tests) fn sizes(&self) -> Vec<usize> {
        self.batches
            .borrow()
            .iter()
            .map(|batch| batch.entries.len())
            .collect()
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
        self.give(answer).await
    }

    async fn deliver_bulk(&self, event: BulkEvent) -> Result<Vec<Verdict>, AppError> {
        let ids: Vec<String> = event.entries.iter().map(|entry| entry.id.clone()).collect();
        self.batches.send_modify(|seen| seen.push(event));
        let words = self.words.lock().unwrap().pop_front();
        let verdict = |(id, word)| {
            let outcome = match word {
                's' => Ok(Outcome::Success),
                'r' => Ok(Outcome::Retry),
                'd' => Ok(Outcome::Drop),
                'u' => Err("unknown status".to_owned()),
                '-' => return None,
                other => panic!("no word: {other}"),
            };
            Some(Verdict { id, outcome })
        };
        match words {
            Some(Words::Are(words)) => Ok(ids.into_iter().zip(words.chars()).filter_map(verdict).collect()),
            Some(Words::All(answer)) => {
                let outcome = self.give(Some(answer)).await?;
                let all = ids.into_iter().map(|id| Verdict {
                    id,
                    outcome: Ok(outcome),
                });
                Ok(all.collect())
            }
            None => Ok(ids.into_iter().map(|id| (id, 's')).filter_map(verdict).collect()),
        }
    }

    async fn proxy(&self, _request: http::Request<Body>) -> Result<http::Response<Body>, AppError> {
        Err(AppError::Unimplemented("proxy"))
    }

    async fn healthy(&self) -> Result<(), AppError> {
        Ok(())
    }
}

impl FakeApp {
    async fn give(&self, answer: Option<Answer>) -> Result<Outcome, AppError> {
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
}
