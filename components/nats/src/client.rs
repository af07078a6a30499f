//! The connection to the servers, and requests over it.
//!
//! Answers of all requests come to one subject each below a common one, so that any number may be in flight. A lost
//! connection comes back by itself, after pauses that grow and differ; requests have a stated time meanwhile.

use crate::api;
use crate::config::{Config, Secret, Servers};
use crate::failure::{Fault, connecting};
use async_nats::client::PublishErrorKind;
use async_nats::{AuthError, ClientError, ConnectOptions, Event, HeaderMap, Message, StatusCode, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use outrigger_component::error::{Error, Kind, Result};
use outrigger_daemon::log::Log;
use outrigger_daemon::tasks::{OnExit, Spawner, Tasks};
use outrigger_daemon::{backoff, drain};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

/// For a connection, and for each of JetStream's answers. COMPAT(nats-io/nats.go): five seconds for the latter.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// After which a silent server is asked whether it is there; not answering twice ends the connection.
const PING: Duration = Duration::from_secs(10);
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// COMPAT(nats-io/nats.go): a stream that has no leader now may have one in a moment.
const NO_RESPONDERS: (u32, Duration) = (2, Duration::from_millis(250));
/// By which JetStream knows a message that it already has.
pub(crate) const MESSAGE_ID: &str = "Nats-Msg-Id";

pub(crate) struct Client {
    nats: async_nats::Client,
    /// `host:port, …`.
    address: String,
    api: String,
    /// What the subjects of answers begin with; no other connection has it.
    inbox: String,
    pending: Arc<Pending>,
    /// How often a connection was made.
    connected: watch::Receiver<u64>,
    /// Own the reading of answers, and whatever else belongs to the component.
    tasks: Tasks,
}

/// Requests that wait for their answers.
#[derive(Default)]
struct Pending {
    waiting: Mutex<HashMap<u64, oneshot::Sender<Message>>>,
    next: AtomicU64,
}

/// A place among [`Pending`], given back when it is dropped.
struct Place {
    number: u64,
    pending: Arc<Pending>,
}

impl Client {
    /// # Errors
    /// `Invalid` for settings; otherwise what kept the servers from answering.
    pub(crate) async fn connect(config: &Config, name: &str, log: &Log) -> Result<Self> {
        config.check()?;
        let Servers { addresses, secret } = config.servers()?;
        let address = addresses
            .iter()
            .map(|address| format!("{}:{}", address.host(), address.port()))
            .collect::<Vec<_>>()
            .join(", ");
        let (changes, connected) = watch::channel(0_u64);
        let told = log.clone();
        let mut options = ConnectOptions::new()
            .name(config.name(name))
            .connection_timeout(PATIENCE)
            .ping_interval(PING)
            .tls_client_config(config.tls().await?)
            .reconnect_delay_callback(pause)
            .event_callback(move |event| {
                tell(&told, &event);
                if event == Event::Connected {
                    changes.send_modify(|times| *times += 1);
                }
                std::future::ready(())
            });
        if !config.jwt.0.is_empty() {
            options = with_jwt(options, config)?;
        } else if let Some(secret) = secret {
            options = match secret {
                Secret::Token(token) => options.token(token),
                Secret::Password(user, password) => options.user_and_password(user, password),
            };
        }
        let nats = options
            .connect(addresses)
            .await
            .map_err(|error| connecting(&address, error))?;
        let inbox = nats.new_inbox();
        let answers = nats.subscribe(format!("{inbox}.*")).await.map_err(|error| {
            Error::caused(
                Kind::Internal,
                &format!("nats at {address}: cannot receive answers"),
                error,
            )
        })?;
        let pending = Arc::new(Pending::default());
        let tasks = Tasks::new(log, drain::channel().0);
        tasks.spawn(
            "nats answers",
            OnExit::Log,
            receive(answers, Arc::clone(&pending)),
        );
        let mut settled = connected.clone();
        // It has been made; the event may be on its way.
        drop(timeout(PATIENCE, settled.wait_for(|times| *times > 0)).await);
        Ok(Self {
            nats,
            address,
            api: config.api(),
            inbox,
            pending,
            connected,
            tasks,
        })
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Counts connections: a change means that there is a new one.
    pub(crate) fn connected(&self) -> watch::Receiver<u64> {
        self.connected.clone()
    }

    pub(crate) fn spawner(&self) -> Spawner {
        self.tasks.spawner()
    }

    pub(crate) async fn ping(&self) -> Result<()> {
        let failed = |cause: &str| {
            Error::new(
                Kind::Unavailable,
                format!("error connecting to nats at {}: {cause}", self.address),
            )
        };
        match timeout(PATIENCE, self.nats.flush()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(failed(&error.to_string())),
            Err(_) => Err(failed("no answer in time")),
        }
    }

    /// Publishes without waiting for an answer.
    ///
    /// # Errors
    /// For what cannot be sent at all; that a connection is lost is none.
    pub(crate) async fn send(&self, subject: &str, body: Bytes) -> Result<(), Fault> {
        let sent = self.nats.publish(subject.to_owned(), body).await;
        sent.map_err(|error| self.unsent(subject, error.kind()))
    }

    /// A subject that nobody else has, and its messages.
    pub(crate) fn fresh_subject(&self) -> String {
        self.nats.new_inbox()
    }

    pub(crate) async fn subscribe(&self, subject: &str, group: Option<&str>) -> Result<Subscriber, Fault> {
        let subscribed = match group {
            Some(group) => {
                self.nats
                    .queue_subscribe(subject.to_owned(), group.to_owned())
                    .await
            }
            None => self.nats.subscribe(subject.to_owned()).await,
        };
        subscribed.map_err(|error| match error.kind() {
            async_nats::SubscribeErrorKind::Other => Fault::Closed,
            _ => Fault::Subject(format!("{subject} ({})", group.unwrap_or_default())),
        })
    }

    /// Waits until what was sent is on its way; a lost connection keeps it back for a stated time.
    pub(crate) async fn flush(&self, patience: Duration) -> bool {
        matches!(timeout(patience, self.nats.flush()).await, Ok(Ok(())))
    }

    /// One of JetStream's requests, `name` without prefix.
    pub(crate) async fn api<T: DeserializeOwned>(
        &self,
        name: &str,
        request: &impl Serialize,
    ) -> Result<T, Fault> {
        let body = serde_json::to_vec(request).map_err(|error| Fault::Unexpected(error.to_string()))?;
        let answer = self
            .ask(&self.api_subject(name), None, Bytes::from(body), false)
            .await?;
        api::answer(&answer)
    }

    /// One that says all in its name.
    pub(crate) async fn look_up<T: DeserializeOwned>(&self, name: &str) -> Result<T, Fault> {
        let answer = self
            .ask(&self.api_subject(name), None, Bytes::new(), true)
            .await?;
        api::answer(&answer)
    }

    /// The subject of one of JetStream's requests.
    pub(crate) fn api_subject(&self, name: &str) -> String {
        format!("{}{name}", self.api)
    }

    /// Publishes into a stream and waits until it is there.
    ///
    /// It is sent again over each new connection: the stream knows it by its id, which it gets if it has none.
    pub(crate) async fn store(
        &self,
        subject: &str,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<(), Fault> {
        if headers.get(MESSAGE_ID).is_none() {
            let number = self.pending.next.fetch_add(1, Ordering::Relaxed);
            headers.insert(MESSAGE_ID, format!("{}.{number}", self.inbox));
        }
        let (attempts, between) = NO_RESPONDERS;
        for _ in 0..attempts {
            match self.ask(subject, Some(&headers), body.clone(), true).await {
                Err(Fault::NoResponders) => tokio::time::sleep(between).await,
                answer => return answer.and_then(|answer| published(&answer)),
            }
        }
        let answer = self.ask(subject, Some(&headers), body, true).await?;
        published(&answer)
    }

    /// Publishes and waits for an answer.
    ///
    /// `repeat`: sends it again over each new connection.
    pub(crate) async fn ask(
        &self,
        subject: &str,
        headers: Option<&HeaderMap>,
        body: Bytes,
        repeat: bool,
    ) -> Result<Message, Fault> {
        let (place, mut answer) = Place::take(&self.pending);
        let reply = format!("{}.{}", self.inbox, place.number);
        let mut connected = self.connected.clone();
        let exchange = async {
            loop {
                connected.borrow_and_update();
                self.send_with_reply(subject, &reply, headers, body.clone())
                    .await?;
                tokio::select! {
                    answer = &mut answer => return answer.map_err(|_| Fault::Closed),
                    new = connected.changed(), if repeat => new.map_err(|_| Fault::Closed)?,
                }
            }
        };
        let answer = timeout(PATIENCE, exchange).await.map_err(|_| Fault::Late)??;
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            return Err(Fault::NoResponders);
        }
        Ok(answer)
    }

    async fn send_with_reply(
        &self,
        subject: &str,
        reply: &str,
        headers: Option<&HeaderMap>,
        body: Bytes,
    ) -> Result<(), Fault> {
        let (to, reply) = (subject.to_owned(), reply.to_owned());
        let sent = match headers {
            Some(headers) => {
                self.nats
                    .publish_with_reply_and_headers(to, reply, headers.clone(), body)
                    .await
            }
            None => self.nats.publish_with_reply(to, reply, body).await,
        };
        sent.map_err(|error| self.unsent(subject, error.kind()))
    }

    fn unsent(&self, subject: &str, kind: PublishErrorKind) -> Fault {
        match kind {
            PublishErrorKind::MaxPayloadExceeded => Fault::TooLarge(self.nats.max_payload()),
            PublishErrorKind::InvalidSubject => Fault::Subject(subject.to_owned()),
            PublishErrorKind::Send => Fault::Closed,
        }
    }
}

impl Place {
    fn take(pending: &Arc<Pending>) -> (Self, oneshot::Receiver<Message>) {
        let (sender, receiver) = oneshot::channel();
        let number = pending.next.fetch_add(1, Ordering::Relaxed);
        pending.waiting().insert(number, sender);
        let place = Self {
            number,
            pending: Arc::clone(pending),
        };
        (place, receiver)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pending.waiting().remove(&self.number);
    }
}

impl Pending {
    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Message>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands answers to those who wait; those who do no longer are passed over.
async fn receive(mut answers: Subscriber, pending: Arc<Pending>) {
    while let Some(answer) = answers.next().await {
        let number = answer
            .subject
            .rsplit('.')
            .next()
            .and_then(|number| number.parse().ok());
        let waiting = number.and_then(|number: u64| pending.waiting().remove(&number));
        if let Some(waiting) = waiting {
            let _gone = waiting.send(answer);
        }
    }
}

fn published(answer: &Message) -> Result<(), Fault> {
    api::answer::<api::Published>(answer).map(drop)
}

/// The server sends a challenge that is signed with the user's key.
fn with_jwt(options: ConnectOptions, config: &Config) -> Result<ConnectOptions> {
    let key = nkeys::KeyPair::from_seed(&config.seed_key.0)
        .map_err(|_| Error::invalid("metadata seedKey is no seed of a user's key (SU…)"))?;
    let key = Arc::new(key);
    Ok(options.jwt(config.jwt.0.clone(), move |challenge| {
        std::future::ready(key.sign(&challenge).map_err(AuthError::new))
    }))
}

fn tell(log: &Log, event: &Event) {
    match event {
        Event::Disconnected => log.warn("nats: the connection is lost; it is made again"),
        Event::Connected => log.debug("nats: connected"),
        Event::SlowConsumer(_) => {
            log.warn("nats: more messages came than may wait; the server delivers those left out again");
        }
        Event::ServerError(error) => log.error(format_args!("nats: {error}")),
        Event::ClientError(ClientError::Other(cause)) => log.debug(format_args!("nats: {cause}")),
        other => log.debug(format_args!("nats: {other}")),
    }
}

/// Before the given attempt to connect: doubling, and never quite the same.
fn pause(attempt: usize) -> Duration {
    if attempt <= 1 {
        return Duration::ZERO;
    }
    let failures = u32::try_from(attempt.saturating_sub(2)).unwrap_or(u32::MAX);
    backoff::after(SHORTEST_PAUSE, LONGEST_PAUSE, failures)
}
