//! Connections: made, driven, and made again.

use crate::Failure;
use crate::packet::{self, Hello, Packet};
use crate::session::{Session, Work};
use bytes::BytesMut;
use outrigger_daemon::backoff::Backoff;
use outrigger_daemon::dial::{Dial, Stream};
use outrigger_daemon::log::Log;
use outrigger_daemon::tasks::{OnExit, Tasks};
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::Instant;

/// Read in one go.
const READ: usize = 64 * 1024;
/// The longest silence of ours that the broker puts up with, less its own tolerance. COMPAT(paho.mqtt.golang).
pub(crate) const KEEP_ALIVE_SECONDS: u16 = 30;
/// How often we ask whether the broker is there, and how long its silence may be.
const PING: Duration = Duration::from_secs(8);
const SILENCE: Duration = Duration::from_secs(20);
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
/// COMPAT(components-contrib pubsub/mqtt3): the longest that anything of a connection may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// COMPAT(components-contrib pubsub/mqtt3): the longest pause between attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// Where the broker is, and who we are.
pub(crate) struct Broker {
    pub dial: Dial,
    pub hello: Hello,
}

/// A connection that is logged in.
struct Connection {
    stream: Stream,
    read: BytesMut,
    /// The broker remembers us.
    known: bool,
}

impl Broker {
    /// `host:port`, for people.
    pub(crate) fn address(&self) -> &str {
        self.dial.address()
    }

    /// Connects, and keeps the session connected in a task of `tasks` until it is closed.
    ///
    /// # Errors
    /// Why the first connection could not be had.
    pub(crate) async fn run(
        self: Arc<Self>,
        session: &Arc<Session>,
        tasks: &Tasks,
        log: &Log,
    ) -> Result<(), Failure> {
        let first = self.connect().await?;
        let (session, log) = (Arc::clone(session), log.clone());
        // Subscriptions and publishers that come next find it connected.
        session.connected(first.known)?;
        tasks.spawn("connection to mqtt", OnExit::Log, async move {
            self.keep(first, &session, &log).await;
        });
        Ok(())
    }

    async fn connect(&self) -> Result<Connection, Failure> {
        let connecting = async {
            let stream = self.dial.connect().await;
            let mut stream = stream.map_err(|failure| Failure::Lost(failure.to_string()))?;
            let mut to = BytesMut::new();
            packet::connect(&mut to, &self.hello)?;
            stream.write_all(&to).await.map_err(|error| lost(&error))?;
            stream.flush().await.map_err(|error| lost(&error))?;
            let mut read = BytesMut::with_capacity(READ);
            match next(&mut stream, &mut read).await? {
                Packet::Welcome { session } => Ok(Connection {
                    stream,
                    read,
                    known: session,
                }),
                Packet::NotWelcome(refusal) => Err(Failure::Refused(refusal)),
                _ => Err(Failure::NotMqtt),
            }
        };
        tokio::time::timeout(PATIENCE, connecting)
            .await
            .unwrap_or(Err(Failure::Silent(PATIENCE)))
    }

    async fn keep(&self, first: Connection, session: &Session, log: &Log) {
        let mut backoff = Backoff::new(SHORTEST_PAUSE, LONGEST_PAUSE);
        let mut connection = first;
        loop {
            let began = Instant::now();
            let Connection { stream, read, .. } = connection;
            let (reader, writer) = tokio::io::split(stream);
            let ended = tokio::select! {
                ended = keep_reading(reader, read, session) => ended,
                ended = keep_writing(writer, session) => ended,
            };
            let Err(failure) = ended;
            session.lost(failure.clone());
            if failure == Failure::Ended {
                return;
            }
            log.warn(format_args!(
                "mqtt: the connection to {} as {} is lost: {failure}; it is made again",
                self.address(),
                self.hello.client
            ));
            // Somebody who throws us out at once (another client with our id) must not make us spin.
            if began.elapsed() > LONGEST_PAUSE {
                backoff.reset();
            }
            let Some(again) = self.connect_again(session, &mut backoff, log).await else {
                return;
            };
            connection = again;
            if let Err(failure) = session.connected(connection.known) {
                log.error(format_args!("mqtt: the session cannot go on: {failure}"));
                return;
            }
            log.info(format_args!("mqtt: connected to {} again", self.address()));
        }
    }

    /// `None` when the session is closed.
    async fn connect_again(&self, session: &Session, backoff: &mut Backoff, log: &Log) -> Option<Connection> {
        let mut said = false;
        loop {
            tokio::select! {
                () = tokio::time::sleep(backoff.pause()) => {}
                () = session.farewell.notified() => return None,
            }
            match self.connect().await {
                Ok(connection) => return Some(connection),
                Err(failure) => {
                    // Said once, not with each attempt.
                    if !said {
                        log.error(format_args!(
                            "mqtt: cannot connect to {}: {failure}",
                            self.address()
                        ));
                        said = true;
                    }
                    session.lost(failure);
                }
            }
        }
    }
}

async fn keep_reading(
    mut from: impl AsyncRead + Unpin,
    mut read: BytesMut,
    session: &Session,
) -> Result<Infallible, Failure> {
    loop {
        while let Some(packet) = Packet::next(&mut read)? {
            session.take(packet)?;
        }
        session.room().await;
        read.reserve(READ);
        match tokio::time::timeout(SILENCE, from.read_buf(&mut read)).await {
            Ok(Ok(0)) => return Err(Failure::Lost("the broker hung up".to_owned())),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(lost(&error)),
            Err(_) => return Err(Failure::Silent(SILENCE)),
        }
    }
}

async fn keep_writing(mut to: impl AsyncWrite + Unpin, session: &Session) -> Result<Infallible, Failure> {
    let mut ping = Instant::now() + PING;
    loop {
        // Also while we write all the time: what is written asks for no answer with the lowest quality of service.
        if Instant::now() >= ping {
            session.ping();
            ping = Instant::now() + PING;
        }
        match session.work() {
            Work::Write(chunks, credit) => {
                for chunk in chunks {
                    to.write_all(&chunk).await.map_err(|error| lost(&error))?;
                }
                to.flush().await.map_err(|error| lost(&error))?;
                drop(credit);
            }
            Work::Stop => {
                // The farewell is written; what comes of closing no longer matters.
                let _closed = to.shutdown().await;
                return Err(Failure::Ended);
            }
            Work::Wait => {
                // When the time is over, the loop asks.
                let _woken = tokio::time::timeout_at(ping, session.wake.notified()).await;
            }
        }
    }
}

/// The first packet.
async fn next(stream: &mut Stream, read: &mut BytesMut) -> Result<Packet, Failure> {
    loop {
        if let Some(packet) = Packet::next(read)? {
            return Ok(packet);
        }
        match stream.read_buf(read).await {
            // COMPAT: brokers hang up on who is not allowed, or does not speak as they expect.
            Ok(0) => return Err(Failure::NotMqtt),
            Ok(_) => {}
            Err(error) => return Err(lost(&error)),
        }
    }
}

fn lost(error: &io::Error) -> Failure {
    Failure::Lost(outrigger_daemon::tls::failure(error))
}

/// Names no secret.
impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("address", &self.address())
            .field("client", &self.hello.client)
            .finish_non_exhaustive()
    }
}
