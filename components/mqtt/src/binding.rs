//! `bindings.mqtt3`: one topic, written to and read from, with at least once.
//!
//! COMPAT(components-contrib bindings/mqtt3): client ids, metadata `topic` both ways, the pause of five seconds before an
//! event is tried again. Unlike there, that is not the end of it unless `backOffMaxRetries` is written.

use crate::config::Binding as Config;
use crate::connection::Broker;
use crate::filter;
use crate::packet::Qos;
use crate::session::{Inbox, Line, Outgoing, Session};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use outrigger_component::Component;
use outrigger_component::binding::{
    Answer, Event, Failed, InputBinding, Invoke, Output as Answered, OutputBinding, Reading,
};
use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::metadata::Metadata;
use outrigger_component::pubsub::Outcome;
use outrigger_component::setup::Setup;
use outrigger_daemon::drain::{self, Trigger, Watch};
use outrigger_daemon::log::Log;
use outrigger_daemon::tasks::Tasks;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// COMPAT(components-contrib bindings/mqtt3): four attempts of ten seconds.
const PATIENCE: Duration = Duration::from_secs(40);
/// COMPAT(components-contrib bindings/mqtt3).
const PAUSE: Duration = Duration::from_secs(5);
/// Events in the hands of the app.
const CONCURRENCY: usize = 16;
/// How long closing waits for what is to be written.
const FAREWELL: Duration = Duration::from_secs(3);

pub(crate) struct Output {
    session: Arc<Session>,
    broker: Arc<Broker>,
    topic: String,
    retain: bool,
    /// Owns the connection.
    tasks: Tasks,
    log: Log,
}

pub(crate) struct Input {
    broker: Arc<Broker>,
    topic: String,
    clean: bool,
    retries: Option<u64>,
    closing: Trigger,
    /// Owns the connections.
    tasks: Tasks,
    log: Log,
}

impl Output {
    /// Connects.
    ///
    /// # Errors
    /// `Invalid` for metadata, otherwise what kept the broker from letting us in.
    pub(crate) async fn connect(setup: Setup<Config>) -> Result<Self> {
        let Setup { config, log, .. } = setup;
        let broker = Arc::new(config.broker("producer", &log)?);
        let session = Arc::new(Session::new(Qos::One));
        let tasks = Tasks::new(&log, drain::channel().0);
        Arc::clone(&broker)
            .run(&session, &tasks, &log)
            .await
            .map_err(|failure| {
                failure.error(&format!("mqtt binding: cannot connect to {}", broker.address()))
            })?;
        Ok(Self {
            session,
            broker,
            topic: config.topic().to_owned(),
            retain: config.retain,
            tasks,
            log,
        })
    }
}

#[async_trait::async_trait]
impl Component for Output {
    async fn ping(&self) -> Result<()> {
        let line = self.session.line().borrow().clone();
        match line {
            Line::Up => Ok(()),
            Line::Down(failure) => Err(failure.error(&format!(
                "mqtt binding: no connection to {}",
                self.broker.address()
            ))),
        }
    }

    async fn close(&self) {
        self.session.close();
        farewell(&self.tasks, &self.log).await;
    }
}

#[async_trait::async_trait]
impl OutputBinding for Output {
    fn operations(&self) -> &[&'static str] {
        &["create"]
    }

    async fn invoke(&self, invoke: Invoke) -> Result<Option<Answered>, Failed> {
        if invoke.operation != "create" {
            return Err(Error::new(
                Kind::Unsupported,
                format!(
                    "mqtt binding: there is no operation {:?}, only create",
                    invoke.operation
                ),
            )
            .into());
        }
        let topic = invoke.metadata.get("topic").filter(|topic| !topic.is_empty());
        let topic = topic.unwrap_or(&self.topic);
        if let Some(fault) = filter::fault(topic) {
            return Err(Error::invalid(format!("mqtt binding: {fault}")).into());
        }
        let outgoing = Outgoing {
            topic,
            payload: invoke.data,
            retain: self.retain,
        };
        let published = self.session.publish(outgoing, PATIENCE).await;
        published.map_err(|failure| failure.error(&format!("mqtt binding: failed to publish to {topic}")))?;
        Ok(None)
    }
}

impl Input {
    /// Nothing is connected before somebody reads: the broker would send what nobody takes.
    ///
    /// # Errors
    /// `Invalid` for metadata.
    pub(crate) async fn connect(setup: Setup<Config>) -> Result<Self> {
        let Setup { config, log, .. } = setup;
        Ok(Self {
            broker: Arc::new(config.broker("consumer", &log)?),
            topic: config.topic().to_owned(),
            clean: config.clean_session,
            retries: config.retries(),
            closing: drain::channel().0,
            tasks: Tasks::new(&log, drain::channel().0),
            log,
        })
    }
}

#[async_trait::async_trait]
impl Component for Input {
    async fn close(&self) {
        self.closing.fire();
        farewell(&self.tasks, &self.log).await;
    }
}

#[async_trait::async_trait]
impl InputBinding for Input {
    async fn read(&self) -> Result<Reading> {
        if self.closing.fired() {
            return Err(Error::new(Kind::Unavailable, "binding is closed"));
        }
        let session = Arc::new(Session::new(Qos::One));
        let failed = |what: &str| {
            let what = format!(
                "mqtt binding: cannot {what} {} at {}",
                self.topic,
                self.broker.address()
            );
            move |failure: crate::Failure| failure.error(&what)
        };
        Arc::clone(&self.broker)
            .run(&session, &self.tasks, &self.log)
            .await
            .map_err(failed("connect to read"))?;
        let inbox = Inbox::open(&session, &self.topic, self.clean, crate::connection::PATIENCE)
            .await
            .map_err(failed("read"))?;
        let reader = Reader {
            answers: FuturesUnordered::new(),
            failures: HashMap::new(),
            retries: self.retries,
            closed: self.closing.watch(),
            inbox,
            _farewell: Farewell(session),
        };
        let events = futures::stream::unfold(reader, |mut reader| async move {
            let event = reader.next().await?;
            Some((event, reader))
        });
        Ok(Reading {
            events: events.boxed(),
            concurrency: CONCURRENCY,
        })
    }
}

/// One reading, with a connection of its own: a broker knows a client id once.
struct Reader {
    /// Of the events in the hands of the app, and of those that wait to be tried again.
    answers: FuturesUnordered<BoxFuture<'static, (u64, bool)>>,
    /// How often an event was not taken.
    failures: HashMap<u64, u64>,
    retries: Option<u64>,
    closed: Watch,
    // Closed in this order.
    inbox: Inbox,
    _farewell: Farewell,
}

/// Says good-bye when the reading ends, after everything else.
struct Farewell(Arc<Session>);

impl Reader {
    async fn next(&mut self) -> Option<Event> {
        loop {
            tokio::select! {
                biased;
                () = self.closed.draining() => return None,
                Some((token, taken)) = self.answers.next() => self.answered(token, taken),
                (message, token) = self.inbox.next() => {
                    let metadata = Metadata::from_iter([("topic", message.topic)]);
                    let (event, answer) = Event::answered(message.payload, metadata);
                    self.answers.push(Box::pin(answered(token, answer)));
                    return Some(event);
                }
            }
        }
    }

    fn answered(&mut self, token: u64, taken: bool) {
        if taken {
            self.failures.remove(&token);
            self.inbox.settle().settle(token, Outcome::Ack);
            return;
        }
        let failures = self.failures.entry(token).or_default();
        *failures += 1;
        if self.retries.is_some_and(|most| *failures > most) {
            self.failures.remove(&token);
            self.inbox.forget(token);
        } else {
            self.inbox.settle().settle(token, Outcome::Nack);
        }
    }
}

async fn farewell(tasks: &Tasks, log: &Log) {
    if let Err(unfinished) = tasks.join(FAREWELL).await {
        log.warn(format_args!(
            "mqtt binding: messages may come again: {unfinished}"
        ));
    }
}

/// What the app said, a while later if that is to be tried again.
async fn answered(token: u64, answer: Answer) -> (u64, bool) {
    let taken = answer.outcome().await.is_ok();
    if !taken {
        tokio::time::sleep(PAUSE).await;
    }
    (token, taken)
}

impl Drop for Reader {
    fn drop(&mut self) {
        while let Some(Some((token, taken))) = self.answers.next().now_or_never() {
            self.answered(token, taken);
        }
    }
}

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.close();
    }
}
