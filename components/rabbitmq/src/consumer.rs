//! Reading from one queue, on a connection of its own that is made again when it is lost.
//!
//! Not polling pauses it: the broker stops when its window is full. Dropping it gives back what has not been handed out;
//! the connection lives on until the last message that was handed out is settled.

use crate::amqp::Failure;
use crate::amqp::channel::{Channel, Consume};
use crate::amqp::connection::Connection;
use crate::amqp::content::Delivery;
use crate::amqp::method::{Exchange, Queue, Refuse};
use crate::amqp::wire::Table;
use crate::client::Broker;
use outrigger_component::pubsub::{Outcome, Settle};
use outrigger_daemon::backoff::Backoff;
use outrigger_daemon::drain::Watch;
use outrigger_daemon::log::Log;
use std::sync::Arc;
use tokio::sync::mpsc;

/// AMQP's limit for consumer tags.
const LONGEST_TAG: usize = 255;

/// What is declared, and how it is read.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Plan {
    /// What the queue is bound to.
    pub source: Option<Source>,
    pub dead_letter: Option<DeadLetter>,
    pub queue: String,
    pub durable: bool,
    pub exclusive: bool,
    pub auto_delete: bool,
    pub arguments: Table,
    /// Messages that the broker sends before any is settled.
    pub prefetch: u16,
    pub auto_ack: bool,
    /// Refused messages come again.
    pub requeue: bool,
}

/// An exchange, and which of its messages are wanted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Source {
    pub exchange: String,
    pub kind: String,
    pub keys: Vec<String>,
}

/// Where refused messages go.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DeadLetter {
    pub exchange: String,
    pub queue: String,
    pub arguments: Table,
}

pub(crate) struct Consumer {
    broker: Arc<Broker>,
    plan: Plan,
    live: Option<Live>,
    backoff: Backoff,
    /// The last failure has been told.
    said: bool,
    closing: Watch,
    log: Log,
}

struct Live {
    tag: String,
    held: Arc<Held>,
    inbox: mpsc::Receiver<Delivery>,
}

/// What outcomes of one connection's messages go through.
pub(crate) struct Held {
    // Closed in this order.
    channel: Channel,
    _connection: Connection,
    auto_ack: bool,
    refuse: Refuse,
}

impl Consumer {
    /// Connects and declares.
    ///
    /// # Errors
    /// What the broker says against the plan, or why it cannot be reached.
    pub(crate) async fn open(
        broker: &Arc<Broker>,
        plan: Plan,
        closing: Watch,
        log: &Log,
    ) -> Result<Self, Failure> {
        let live = Live::open(broker, &plan).await?;
        Ok(Self {
            broker: Arc::clone(broker),
            plan,
            live: Some(live),
            backoff: broker.backoff(),
            said: false,
            closing,
            log: log.clone(),
        })
    }

    /// The next message, and who hears of its outcome; waits for one. `None` when the component is closed. Failures are
    /// logged and survived.
    pub(crate) async fn next(&mut self) -> Option<(Delivery, Arc<Held>)> {
        let closed = self.closing.draining();
        tokio::select! {
            () = closed => None,
            next = self.next_open() => Some(next),
        }
    }

    async fn next_open(&mut self) -> (Delivery, Arc<Held>) {
        loop {
            if let Some(live) = &mut self.live {
                if let Some(delivery) = live.inbox.recv().await {
                    self.backoff.reset();
                    self.said = false;
                    return (delivery, Arc::clone(&live.held));
                }
                self.tell(format_args!(
                    "reading from queue {} was ended by the broker, or the connection is lost; it is made again",
                    self.plan.queue
                ));
                self.live = None;
            }
            self.backoff.wait().await;
            match Live::open(&self.broker, &self.plan).await {
                Ok(live) => self.live = Some(live),
                Err(failure) => {
                    self.tell(format_args!(
                        "cannot read from queue {}: {failure}",
                        self.plan.queue
                    ));
                    self.said = true;
                }
            }
        }
    }

    /// The same trouble is told once.
    fn tell(&self, what: std::fmt::Arguments<'_>) {
        if !self.said {
            self.log
                .warn(format_args!("rabbitmq at {}: {what}", self.broker.address));
        }
    }
}

impl Live {
    async fn open(broker: &Broker, plan: &Plan) -> Result<Self, Failure> {
        let connection = broker.connect().await?;
        let mut channel = connection.channel().await?;
        declare(&mut channel, plan).await?;
        let room = usize::from(plan.prefetch.max(1));
        let consume = Consume {
            queue: &plan.queue,
            tag: tag(&plan.queue),
            auto_ack: plan.auto_ack,
            room,
        };
        let inbox = channel.consume(consume).await?;
        let held = Held {
            channel,
            _connection: connection,
            auto_ack: plan.auto_ack,
            refuse: if plan.requeue {
                Refuse::Requeue
            } else {
                Refuse::Reject
            },
        };
        Ok(Self {
            tag: tag(&plan.queue).to_owned(),
            held: Arc::new(held),
            inbox,
        })
    }
}

/// COMPAT(components-contrib pubsub/rabbitmq): the order, so that a broker sees the same from either.
pub(crate) async fn declare(channel: &mut Channel, plan: &Plan) -> Result<(), Failure> {
    let Plan {
        source,
        dead_letter,
        queue,
        durable,
        exclusive,
        auto_delete,
        arguments,
        prefetch,
        ..
    } = plan;
    if let Some(Source { exchange, kind, .. }) = source {
        channel
            .declare_exchange(&Exchange {
                name: exchange,
                kind,
                durable: *durable,
                auto_delete: *auto_delete,
            })
            .await?;
    }
    if let Some(dead) = dead_letter {
        // Always durable.
        channel
            .declare_exchange(&Exchange {
                name: &dead.exchange,
                kind: "fanout",
                durable: true,
                auto_delete: *auto_delete,
            })
            .await?;
        channel
            .declare_queue(&Queue {
                name: &dead.queue,
                durable: true,
                exclusive: false,
                auto_delete: *auto_delete,
                arguments: dead.arguments.clone(),
            })
            .await?;
        channel.bind(&dead.queue, &dead.exchange, "").await?;
    }
    channel
        .declare_queue(&Queue {
            name: queue,
            durable: *durable,
            exclusive: *exclusive,
            auto_delete: *auto_delete,
            arguments: arguments.clone(),
        })
        .await?;
    channel.prefetch(*prefetch).await?;
    if let Some(Source { exchange, keys, .. }) = source {
        for key in keys {
            channel.bind(queue, exchange, key).await?;
        }
    }
    Ok(())
}

impl Settle for Held {
    fn settle(&self, token: u64, outcome: Outcome) {
        match outcome {
            _ if self.auto_ack => {}
            Outcome::Ack => self.channel.ack(token),
            Outcome::Nack => self.channel.nack(token, self.refuse),
        }
    }

    fn give_back(&self, token: u64) {
        if !self.auto_ack {
            self.channel.nack(token, Refuse::Requeue);
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.held.channel.cancel(&self.tag);
        self.inbox.close();
        while let Ok(delivery) = self.inbox.try_recv() {
            self.held.give_back(delivery.tag);
        }
    }
}

/// There is one consumer per channel: its tag is for people who look at the broker.
fn tag(queue: &str) -> &str {
    let most = queue.len().min(LONGEST_TAG);
    let cut = (0..=most).rev().find(|&at| queue.is_char_boundary(at));
    queue.get(..cut.unwrap_or_default()).unwrap_or_default()
}
