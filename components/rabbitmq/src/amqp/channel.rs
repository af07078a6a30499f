//! A channel, as its owner holds it. Dropping it closes it.

use super::Failure;
use super::content::{Delivery, Properties, header};
use super::method::{self, Exchange, Method, Queue, Refuse};
use super::state::{CREDIT, Shared, UNIT};
use bytes::{Bytes, BytesMut};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long the server may take for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Channel {
    shared: Arc<Shared>,
    number: u16,
}

/// What [`Channel::consume`] is to consume.
pub(crate) struct Consume<'a> {
    pub queue: &'a str,
    pub tag: &'a str,
    /// Messages count as handled when they are sent.
    pub auto_ack: bool,
    /// Messages that may wait here to be taken. With acknowledgements, the prefetch window is the better bound.
    pub room: usize,
}

impl Channel {
    pub(super) async fn open(shared: &Arc<Shared>) -> Result<Self, Failure> {
        let mut channel = Self {
            shared: Arc::clone(shared),
            number: shared.claim()?,
        };
        let number = channel.number;
        match channel.ask(|to| method::channel_open(to, number)).await? {
            Method::ChannelOpenOk => Ok(channel),
            _ => Err(unexpected()),
        }
    }

    pub(crate) async fn declare_exchange(&mut self, exchange: &Exchange<'_>) -> Result<(), Failure> {
        let number = self.number;
        match self
            .ask(|to| method::exchange_declare(to, number, exchange))
            .await?
        {
            Method::ExchangeDeclareOk => Ok(()),
            _ => Err(unexpected()),
        }
    }

    /// Answers the queue's name.
    pub(crate) async fn declare_queue(&mut self, queue: &Queue<'_>) -> Result<String, Failure> {
        let number = self.number;
        match self.ask(|to| method::queue_declare(to, number, queue)).await? {
            Method::QueueDeclareOk { name } => Ok(name),
            _ => Err(unexpected()),
        }
    }

    pub(crate) async fn bind(&mut self, queue: &str, exchange: &str, key: &str) -> Result<(), Failure> {
        let number = self.number;
        match self
            .ask(|to| method::queue_bind(to, number, queue, exchange, key))
            .await?
        {
            Method::QueueBindOk => Ok(()),
            _ => Err(unexpected()),
        }
    }

    /// Messages that the server may send before any is acknowledged; 0 is no limit.
    pub(crate) async fn prefetch(&mut self, count: u16) -> Result<(), Failure> {
        let number = self.number;
        match self.ask(|to| method::qos(to, number, count)).await? {
            Method::QosOk => Ok(()),
            _ => Err(unexpected()),
        }
    }

    /// From now on, [`Channel::publish`] waits for the server to take responsibility.
    pub(crate) async fn confirm(&mut self) -> Result<(), Failure> {
        let number = self.number;
        match self.ask(|to| method::confirm_select(to, number)).await? {
            Method::ConfirmSelectOk => {
                self.shared.set_confirms(number);
                Ok(())
            }
            _ => Err(unexpected()),
        }
    }

    /// At most once per channel. The deliveries end with the channel, or when the queue is deleted.
    pub(crate) async fn consume(
        &mut self,
        consume: Consume<'_>,
    ) -> Result<mpsc::Receiver<Delivery>, Failure> {
        let number = self.number;
        let Consume {
            queue,
            tag,
            auto_ack,
            room,
        } = consume;
        let (to, deliveries) = mpsc::channel(room.max(1));
        // Before the question: messages may come right behind the answer.
        self.shared.set_consumer(number, to, auto_ack);
        match self
            .ask(|to| method::consume(to, number, queue, tag, auto_ack))
            .await?
        {
            Method::ConsumeOk => Ok(deliveries),
            _ => Err(unexpected()),
        }
    }

    /// Ends the deliveries; those under way go back to the queue.
    pub(crate) fn cancel(&self, tag: &str) {
        // A connection that is gone has cancelled already.
        let _gone = self.shared.send(|to| method::cancel(to, self.number, tag));
    }

    /// Publishes. With [`Channel::confirm`], returns when the server has taken responsibility; otherwise as soon as the
    /// message is queued to be written. Any number of messages may be under way, up to some megabytes; further ones wait.
    ///
    /// # Errors
    /// Why the message may not have been taken over.
    pub(crate) async fn publish(
        &self,
        exchange: &str,
        key: &str,
        properties: &Properties,
        body: &Bytes,
    ) -> Result<(), Failure> {
        let shared = &self.shared;
        let mut head = BytesMut::with_capacity(256);
        method::publish(&mut head, self.number, exchange, key)?;
        header(&mut head, self.number, properties, body.len())?;
        if head.len() > shared.longest_frame {
            return Err(Failure::TooLong("what accompanies the message"));
        }
        let cost = u32::try_from(body.len() / UNIT)
            .unwrap_or(CREDIT)
            .clamp(1, CREDIT);
        let credit = Arc::clone(&shared.credit).acquire_many_owned(cost).await;
        let credit = credit.map_err(|_| shared.failure())?;
        match shared.publish(self.number, &head, body, credit)? {
            Some(confirmed) => confirmed.await.unwrap_or_else(|_| Err(shared.failure())),
            None => Ok(()),
        }
    }

    /// Does not wait: the server hears of it soon, or delivers again.
    pub(crate) fn ack(&self, tag: u64) {
        // A connection that is gone has given back everything already.
        let _gone = self.shared.send(|to| {
            method::ack(to, self.number, tag);
            Ok(())
        });
    }

    /// The same, for a refusal.
    pub(crate) fn nack(&self, tag: u64, refuse: Refuse) {
        // A connection that is gone has given back everything already.
        let _gone = self.shared.send(|to| {
            method::nack(to, self.number, tag, refuse);
            Ok(())
        });
    }

    async fn ask(
        &mut self,
        write: impl FnOnce(&mut BytesMut) -> Result<(), Failure>,
    ) -> Result<Method, Failure> {
        let answer = self.shared.ask(self.number, write)?;
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(self.shared.failure())),
            Err(_) => Err(Failure::Silent(PATIENCE)),
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.shared.release(self.number);
    }
}

fn unexpected() -> Failure {
    Failure::Malformed("an answer to another question")
}
