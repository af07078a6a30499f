//! Bindings: calls out to a resource ([`OutputBinding`]), and events in that the app answers ([`InputBinding`]).

pub mod sql;

use crate::Component;
use crate::error::{Error, Kind, Result};
use crate::metadata::Metadata;
use bytes::Bytes;
use futures::channel::oneshot;
use futures::stream::BoxStream;
use std::fmt;

/// A call to an output binding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Invoke {
    /// One of [`OutputBinding::operations`].
    pub operation: String,
    pub data: Bytes,
    pub metadata: Metadata,
}

/// What a resource answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    pub data: Bytes,
    pub metadata: Metadata,
}

/// A call that failed. A resource may say things about the failure, too: `metadata` reaches the caller beside the error.
#[derive(Debug)]
pub struct Failed {
    pub error: Error,
    pub metadata: Metadata,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self {
            error,
            metadata: Metadata::new(),
        }
    }
}

#[async_trait::async_trait]
pub trait OutputBinding: Component {
    /// What can be asked of it.
    fn operations(&self) -> &[&'static str];

    /// `None` when the resource has nothing to say.
    async fn invoke(&self, invoke: Invoke) -> Result<Option<Output>, Failed>;
}

/// One event, and the duty to answer it with what the app said. Dropped unanswered, it counts as not handled.
#[must_use = "an event that is dropped counts as not handled"]
pub struct Event {
    pub data: Bytes,
    pub metadata: Metadata,
    answer: Option<oneshot::Sender<Result<Bytes>>>,
}

/// Where the answer to an [`Event`] arrives.
pub struct Answer(oneshot::Receiver<Result<Bytes>>);

impl Event {
    /// An event whose source does not care what becomes of it.
    pub fn new(data: Bytes, metadata: Metadata) -> Self {
        Self {
            data,
            metadata,
            answer: None,
        }
    }

    /// An event whose source waits for the app's answer, to give it back or to try again.
    pub fn answered(data: Bytes, metadata: Metadata) -> (Self, Answer) {
        let (answer, answered) = oneshot::channel();
        let event = Self {
            data,
            metadata,
            answer: Some(answer),
        };
        (event, Answer(answered))
    }

    /// The app took the event and said this, or it could not be had.
    pub fn settle(self, outcome: Result<Bytes>) {
        if let Some(answer) = self.answer {
            // A source that has stopped waiting has given up on the event itself.
            let _unheard = answer.send(outcome);
        }
    }
}

impl Answer {
    /// # Errors
    /// What kept the app from taking the event, or that nobody handled it.
    pub async fn outcome(mut self) -> Result<Bytes> {
        self.heard().await
    }

    /// The same for who may have to stop waiting and come back; not to be asked again once it has answered.
    ///
    /// # Errors
    /// What kept the app from taking the event, or that nobody handled it.
    pub async fn heard(&mut self) -> Result<Bytes> {
        (&mut self.0)
            .await
            .unwrap_or_else(|_| Err(Error::new(Kind::Unavailable, "the event was not handled")))
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("data", &self.data)
            .field("metadata", &self.metadata)
            .finish_non_exhaustive()
    }
}

/// Events under way. Dropping `events` ends the reading; not polling it pauses it.
pub struct Reading {
    pub events: BoxStream<'static, Event>,
    /// How many events the runtime may hold unanswered at once; at least 1. `1` keeps the order.
    pub concurrency: usize,
}

#[async_trait::async_trait]
pub trait InputBinding: Component {
    /// Begins to read. Called again after a reading was dropped, or has ended by itself.
    async fn read(&self) -> Result<Reading>;
}

#[cfg(test)]
mod tests {
    use super::{Event, Kind};
    use crate::metadata::Metadata;
    use bytes::Bytes;
    use futures::FutureExt as _;

    #[test]
    fn an_event_is_answered_or_not_handled() {
        let event = || Event::answered(Bytes::from_static(b"e"), Metadata::new());
        let (taken, answer) = event();
        taken.settle(Ok(Bytes::from_static(b"thanks")));
        assert_eq!(answer.outcome().now_or_never().unwrap().unwrap(), "thanks");
        let (dropped, answer) = event();
        drop(dropped);
        assert_eq!(
            answer.outcome().now_or_never().unwrap().unwrap_err().kind,
            Kind::Unavailable
        );
        let (late, answer) = event();
        drop(answer);
        late.settle(Ok(Bytes::new()));
    }
}
