//! Connections to one broker: made, and made again.

use crate::amqp::Failure;
use crate::amqp::channel::Channel;
use crate::amqp::connection::{Connection, Login};
use crate::amqp::content::Properties;
use crate::amqp::method::Exchange;
use crate::config::Access;
use crate::consumer::{self, Plan};
use bytes::Bytes;
use outrigger_component::error::{Error, Result};
use outrigger_daemon::backoff::Backoff;
use outrigger_daemon::dial::Dial;
use outrigger_daemon::drain::Watch;
use outrigger_daemon::log::Log;
use outrigger_daemon::tasks::Spawner;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OnceCell, watch};
use tokio::time::{Instant, timeout};

const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
/// COMPAT(components-contrib pubsub/rabbitmq): how often a message is sent before its publisher is told.
const ATTEMPTS: u32 = 3;
/// How long a message may wait for a connection.
const CONNECTION_PATIENCE: Duration = Duration::from_secs(10);
/// How long a message may take until the broker has confirmed it.
const CONFIRM_PATIENCE: Duration = Duration::from_secs(30);
/// How long it may wait for a broker that says that it takes no messages.
const BLOCKED_PATIENCE: Duration = Duration::from_secs(3);

/// Where connections come from.
pub(crate) struct Broker {
    dial: Dial,
    login: Login,
    timeout: Duration,
    reconnect_wait: Duration,
    spawner: Spawner,
    /// `host:port`, for people.
    pub address: String,
}

/// The connection that publishes, whichever it is at present.
pub(crate) struct Publisher {
    line: watch::Receiver<Line>,
}

#[derive(Clone)]
enum Line {
    Up(Arc<Link>),
    Down(Failure),
    /// The component is closed.
    Over,
}

/// One connection with a channel for publishing.
struct Link {
    // Closed in this order.
    channel: Channel,
    connection: Connection,
    /// Exchanges that exist as far as this connection knows.
    declared: Mutex<BTreeMap<String, Arc<OnceCell<()>>>>,
}

/// A message on its way.
pub(crate) struct Message<'a> {
    /// `None` is the broker's own exchange, whose keys are names of queues.
    pub exchange: Option<Exchange<'a>>,
    pub key: &'a str,
    pub properties: Properties,
    pub body: Bytes,
}

impl Broker {
    /// # Errors
    /// `Invalid` for a host that TLS cannot be spoken with.
    pub(crate) fn new(access: Access, spawner: Spawner) -> Result<Self> {
        let address = access.uri.address();
        let dial = match access.tls {
            None => Dial::plain(address.clone()),
            Some(tls) => Dial::secure(address.clone(), &access.uri.host, tls)
                .map_err(|error| Error::invalid(format!("rabbitmq: {error}")))?,
        };
        Ok(Self {
            dial,
            login: access.login,
            timeout: access.timeout,
            reconnect_wait: access.reconnect_wait,
            spawner,
            address,
        })
    }

    /// One attempt.
    pub(crate) async fn connect(&self) -> Result<Connection, Failure> {
        let connecting = async {
            let stream = self.dial.connect().await;
            let stream = stream.map_err(|failure| Failure::Lost(failure.to_string()))?;
            Connection::open(stream, &self.login, &self.spawner).await
        };
        timeout(self.timeout, connecting)
            .await
            .unwrap_or(Err(Failure::Silent(self.timeout)))
    }

    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::new(SHORTEST_PAUSE, self.reconnect_wait)
    }
}

impl Publisher {
    /// Connects; from then on, a task keeps the connection until `closing`.
    ///
    /// # Errors
    /// Why the first connection could not be had.
    pub(crate) async fn start(
        broker: &Arc<Broker>,
        confirm: bool,
        closing: Watch,
        log: &Log,
    ) -> Result<Self, Failure> {
        let first = Link::open(broker, confirm).await?;
        let (lines, line) = watch::channel(Line::Up(Arc::new(first)));
        let (broker_here, log) = (Arc::clone(broker), log.clone());
        broker.spawner.spawn("publishing to rabbitmq", async move {
            tokio::select! {
                () = keep(&broker_here, confirm, &lines, &log) => {}
                () = closing.draining() => {
                    lines.send_replace(Line::Over);
                }
            }
        });
        Ok(Self { line })
    }

    /// Whether there is a connection.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match &*self.line.borrow() {
            Line::Up(_) => Ok(()),
            Line::Down(failure) => Err(failure.clone()),
            Line::Over => Err(Failure::Ended),
        }
    }

    /// Publishes, on a new connection if need be, in which case the message may arrive twice.
    ///
    /// # Errors
    /// Why the broker may not have taken it.
    pub(crate) async fn publish(&self, message: &Message<'_>) -> Result<(), Failure> {
        let mut attempt = 1;
        loop {
            let link = self.link().await?;
            let failure = match link.publish_in_time(message).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            if attempt >= ATTEMPTS || !may_pass(&failure) {
                return Err(failure);
            }
            attempt += 1;
            // A channel that was closed cannot be used again; a new connection forgets what it thought to exist, too.
            link.connection.close();
            self.replaced(&link).await;
        }
    }

    /// Declares a queue on the present connection.
    ///
    /// # Errors
    /// What the broker has against it.
    pub(crate) async fn prepare(&self, plan: &Plan) -> Result<(), Failure> {
        let link = self.link().await?;
        let mut channel = link.connection.channel().await?;
        consumer::declare(&mut channel, plan).await
    }

    async fn link(&self) -> Result<Arc<Link>, Failure> {
        let mut line = self.line.clone();
        let settled = line.wait_for(|line| !matches!(line, Line::Down(_)));
        let now = match timeout(CONNECTION_PATIENCE, settled).await {
            Ok(settled) => settled.map_or(Line::Over, |line| line.clone()),
            Err(_) => self.line.borrow().clone(),
        };
        match now {
            Line::Up(link) => Ok(link),
            Line::Down(failure) => Err(failure),
            Line::Over => Err(Failure::Ended),
        }
    }

    /// Returns when this connection is no longer the one to use.
    async fn replaced(&self, link: &Arc<Link>) {
        let mut line = self.line.clone();
        let other = line.wait_for(|line| !matches!(line, Line::Up(now) if Arc::ptr_eq(now, link)));
        // When it takes too long, the next attempt finds out.
        let _late = timeout(CONNECTION_PATIENCE, other).await;
    }
}

impl Link {
    async fn open(broker: &Broker, confirm: bool) -> Result<Self, Failure> {
        let connection = broker.connect().await?;
        let mut channel = connection.channel().await?;
        if confirm {
            channel.confirm().await?;
        }
        Ok(Self {
            channel,
            connection,
            declared: Mutex::default(),
        })
    }

    /// A broker that is short of memory or disk reads nothing from those who publish: it says so when a message is on its
    /// way already, which is then taken later. Those who come after that are not sent.
    async fn publish_in_time(&self, message: &Message<'_>) -> Result<(), Failure> {
        if self.connection.blocked().is_some() {
            self.connection.open_to_messages(BLOCKED_PATIENCE).await?;
        }
        let mut publishing = pin!(self.publish(message));
        if let Ok(published) = timeout(BLOCKED_PATIENCE, &mut publishing).await {
            return published;
        }
        if let Some(reason) = self.connection.blocked() {
            return Err(Failure::Blocked(reason));
        }
        let rest = CONFIRM_PATIENCE.saturating_sub(BLOCKED_PATIENCE);
        match (timeout(rest, publishing).await, self.connection.blocked()) {
            (Ok(published), _) => published,
            (Err(_), Some(reason)) => Err(Failure::Blocked(reason)),
            (Err(_), None) => Err(Failure::Silent(CONFIRM_PATIENCE)),
        }
    }

    async fn publish(&self, message: &Message<'_>) -> Result<(), Failure> {
        let Message {
            exchange,
            key,
            properties,
            body,
        } = message;
        if let Some(exchange) = exchange {
            self.declare(exchange).await?;
        }
        let name = exchange.as_ref().map_or("", |exchange| exchange.name);
        self.channel.publish(name, key, properties, body).await
    }

    /// Once per exchange. On a channel of its own: a refusal closes the channel, and must not take along what others
    /// have under way.
    async fn declare(&self, exchange: &Exchange<'_>) -> Result<(), Failure> {
        let known = {
            let mut declared = self.declared.lock().unwrap_or_else(PoisonError::into_inner);
            match declared.get(exchange.name) {
                Some(known) => Arc::clone(known),
                None => Arc::clone(declared.entry(exchange.name.to_owned()).or_default()),
            }
        };
        let declare = || async {
            let mut channel = self.connection.channel().await?;
            channel.declare_exchange(exchange).await
        };
        known.get_or_try_init(declare).await.copied()
    }
}

/// Makes a new connection whenever the last one is gone.
async fn keep(broker: &Broker, confirm: bool, lines: &watch::Sender<Line>, log: &Log) {
    let mut backoff = broker.backoff();
    loop {
        let link = lines.borrow().clone();
        let Line::Up(link) = link else { return };
        let failure = link.connection.ended().await;
        drop(link);
        if failure != Failure::Ended {
            log.warn(format_args!(
                "rabbitmq: the connection to {} is lost: {failure}; it is made again",
                broker.address
            ));
        }
        lines.send_replace(Line::Down(failure));
        let lost = Instant::now();
        let mut said = false;
        loop {
            match Link::open(broker, confirm).await {
                Ok(link) => {
                    log.info(format_args!(
                        "rabbitmq: connected to {} again after {:?}",
                        broker.address,
                        lost.elapsed()
                    ));
                    backoff.reset();
                    lines.send_replace(Line::Up(Arc::new(link)));
                    break;
                }
                Err(failure) => {
                    // Said once, not with each attempt.
                    if !said {
                        log.error(format_args!(
                            "rabbitmq: cannot connect to {}: {failure}",
                            broker.address
                        ));
                        said = true;
                    }
                    lines.send_replace(Line::Down(failure));
                    backoff.wait().await;
                }
            }
        }
    }
}

/// Whether a new connection may help.
fn may_pass(failure: &Failure) -> bool {
    match failure {
        Failure::Lost(_) | Failure::Ended | Failure::Silent(_) => true,
        // An exchange that somebody deleted, a node that goes down.
        Failure::Closed { code, .. } => matches!(code, 404 | 320 | 541),
        _ => false,
    }
}
