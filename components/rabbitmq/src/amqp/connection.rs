//! One connection: logging in, and the task that reads and writes until the end.

use super::Failure;
use super::channel::Channel;
use super::frame::{Frame, GREETING};
use super::method::{self, Method};
use super::state::{Shared, Then, Work};
use super::wire::{Table, Value};
use bytes::BytesMut;
use outrigger_daemon::dial::Stream;
use outrigger_daemon::tasks::Spawner;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The longest frame that we take.
const LONGEST_FRAME: u32 = 128 * 1024;
/// Read in one go.
const READ: usize = 64 * 1024;
/// How long the server may take to agree to an end.
const FAREWELL: Duration = Duration::from_secs(2);

/// Who we are.
#[derive(Clone)]
pub(crate) struct Login {
    pub vhost: String,
    pub proof: Proof,
    /// What people see of us at the server.
    pub name: Option<String>,
    /// The longest silence we ask for; the server may ask for less. Zero leaves it to the server.
    pub heartbeat: Duration,
}

#[derive(Clone)]
pub(crate) enum Proof {
    Password {
        user: String,
        password: String,
    },
    /// Our certificate.
    External,
}

/// A connection that is logged in. Dropping it says good-bye to the server, after all that waits to be written.
pub(crate) struct Connection {
    shared: Arc<Shared>,
}

/// What the server wants, and we agreed to.
struct Terms {
    channels: u16,
    frame: u32,
    heartbeat: u16,
}

impl Connection {
    /// Logs in. What follows happens in a task of `spawner`. Sets no time limit: the caller does.
    ///
    /// # Errors
    /// Why the server does not let us in.
    pub(crate) async fn open(mut stream: Stream, login: &Login, spawner: &Spawner) -> Result<Self, Failure> {
        let mut read = BytesMut::with_capacity(READ);
        let terms = shake_hands(&mut stream, &mut read, login).await?;
        let frame = usize::try_from(terms.frame).unwrap_or(usize::MAX);
        let shared = Arc::new(Shared::new(frame, terms.channels));
        let heartbeat = (terms.heartbeat > 0).then(|| Duration::from_secs(terms.heartbeat.into()));
        spawner.spawn(
            "connection to rabbitmq",
            drive(stream, read, Arc::clone(&shared), heartbeat),
        );
        Ok(Self { shared })
    }

    pub(crate) async fn channel(&self) -> Result<Channel, Failure> {
        Channel::open(&self.shared).await
    }

    /// Returns when the connection is gone, and why.
    pub(crate) async fn ended(&self) -> Failure {
        let mut end = self.shared.end.subscribe();
        match end.wait_for(Option::is_some).await {
            Ok(failure) => failure.clone().unwrap_or(Failure::Ended),
            Err(_) => Failure::Ended,
        }
    }

    /// Says good-bye.
    pub(crate) fn close(&self) {
        self.shared.close();
    }

    /// Why the server takes no messages at present, if it said so.
    pub(crate) fn blocked(&self) -> Option<String> {
        self.shared.blocked.borrow().clone()
    }

    /// Returns when the server takes messages.
    ///
    /// # Errors
    /// It does not within `patience`, or the connection is gone.
    pub(crate) async fn open_to_messages(&self, patience: Duration) -> Result<(), Failure> {
        let mut blocked = self.shared.blocked.subscribe();
        let open = tokio::time::timeout(patience, blocked.wait_for(Option::is_none));
        tokio::select! {
            open = open => match (open, self.blocked()) {
                (Err(_), Some(reason)) => Err(Failure::Blocked(reason)),
                _ => Ok(()),
            },
            failure = self.ended() => Err(failure),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.close();
    }
}

async fn shake_hands(stream: &mut Stream, read: &mut BytesMut, login: &Login) -> Result<Terms, Failure> {
    write(stream, &GREETING).await?;
    let mechanisms = match next(stream, read).await {
        Ok(Method::Start { mechanisms }) => mechanisms,
        Ok(_) => return Err(Failure::NotAmqp),
        // Whoever does not know the greeting may just hang up.
        Err(Failure::Login) => return Err(Failure::NotAmqp),
        Err(failure) => return Err(failure),
    };
    let (mechanism, response) = match &login.proof {
        Proof::Password { user, password } => ("PLAIN", format!("\0{user}\0{password}")),
        Proof::External => ("EXTERNAL", String::new()),
    };
    if !mechanisms
        .split(|byte| *byte == b' ')
        .any(|offered| offered == mechanism.as_bytes())
    {
        return Err(Failure::Login);
    }
    let mut to = BytesMut::new();
    method::start_ok(&mut to, &properties(login), mechanism, response.as_bytes())?;
    write(stream, &to).await?;
    let terms = match next(stream, read).await? {
        Method::Tune {
            channels,
            frame,
            heartbeat,
        } => agree(channels, frame, heartbeat, login),
        Method::Close { code, text } => return Err(Failure::Closed { code, text }),
        _ => return Err(Failure::Malformed("it asks for more than was agreed to log in")),
    };
    to.clear();
    method::tune_ok(&mut to, terms.channels, terms.frame, terms.heartbeat)?;
    method::open(&mut to, &login.vhost)?;
    write(stream, &to).await?;
    match next(stream, read).await? {
        Method::OpenOk => Ok(terms),
        Method::Close { code, text } => Err(Failure::Closed { code, text }),
        _ => Err(Failure::Malformed("another answer to connection.open")),
    }
}

/// Zero is no limit.
fn agree(channels: u16, frame: u32, heartbeat: u16, login: &Login) -> Terms {
    let wanted = u16::try_from(login.heartbeat.as_secs()).unwrap_or(u16::MAX);
    Terms {
        channels: if channels == 0 { u16::MAX } else { channels },
        frame: if frame == 0 {
            LONGEST_FRAME
        } else {
            frame.min(LONGEST_FRAME)
        },
        heartbeat: match (wanted, heartbeat) {
            (0, other) | (other, 0) => other,
            (wanted, offered) => wanted.min(offered),
        },
    }
}

fn properties(login: &Login) -> Table {
    let able = [
        "publisher_confirms",
        "consumer_cancel_notify",
        "basic.nack",
        "connection.blocked",
        "authentication_failure_close",
    ];
    let able = able
        .into_iter()
        .map(|name| (name.to_owned(), Value::Bool(true)))
        .collect();
    let mut properties = Table::from([
        ("product".to_owned(), Value::from("Outrigger")),
        ("version".to_owned(), Value::from(env!("CARGO_PKG_VERSION"))),
        ("platform".to_owned(), Value::from("Rust")),
        ("capabilities".to_owned(), Value::Table(able)),
    ]);
    if let Some(name) = &login.name {
        properties.insert("connection_name".to_owned(), Value::from(name.as_str()));
    }
    properties
}

/// The next method, while there is nobody else to talk to.
async fn next(stream: &mut Stream, read: &mut BytesMut) -> Result<Method, Failure> {
    loop {
        if read.starts_with(b"AMQP") {
            return Err(Failure::NotAmqp);
        }
        let most = usize::try_from(LONGEST_FRAME).unwrap_or(usize::MAX);
        match Frame::next(read, most)? {
            Some(frame) if frame.payload.is_empty() => {}
            Some(frame) => return Method::read(frame.payload),
            None => match stream.read_buf(read).await {
                Ok(0) => return Err(Failure::Login),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Err(Failure::Login),
                Err(error) => return Err(lost(&error)),
            },
        }
    }
}

async fn write(stream: &mut Stream, bytes: &[u8]) -> Result<(), Failure> {
    stream.write_all(bytes).await.map_err(|error| lost(&error))?;
    stream.flush().await.map_err(|error| lost(&error))
}

async fn drive(stream: Stream, read: BytesMut, shared: Arc<Shared>, heartbeat: Option<Duration>) {
    let (reader, writer) = tokio::io::split(stream);
    let ended = tokio::select! {
        ended = keep_reading(reader, read, &shared, heartbeat) => ended,
        ended = keep_writing(writer, &shared, heartbeat) => ended,
        () = overdue(&shared) => Err(Failure::Ended),
    };
    let Err(failure) = ended;
    shared.fail(&failure);
}

async fn keep_reading(
    mut from: impl AsyncRead + Unpin,
    mut read: BytesMut,
    shared: &Shared,
    heartbeat: Option<Duration>,
) -> Result<Infallible, Failure> {
    // Twice the interval, as the specification has it, and some more for a slow network.
    let patience = heartbeat.map(|heartbeat| heartbeat * 2 + Duration::from_secs(1));
    loop {
        while let Some(frame) = Frame::next(&mut read, shared.longest_frame)? {
            match shared.take(frame)? {
                Then::Nothing => {}
                Then::Deliver(parcel) => parcel.deliver(shared).await?,
                // The writing side ends it, when our answer is out.
                Then::Stop => return std::future::pending().await,
            }
        }
        read.reserve(READ);
        let reading = from.read_buf(&mut read);
        let length = match patience {
            Some(patience) => tokio::time::timeout(patience, reading)
                .await
                .map_err(|_| Failure::Silent(patience))?,
            None => reading.await,
        };
        match length {
            Ok(0) => return Err(Failure::Lost("the server hung up".to_owned())),
            Ok(_) => {}
            Err(error) => return Err(lost(&error)),
        }
    }
}

async fn keep_writing(
    mut to: impl AsyncWrite + Unpin,
    shared: &Shared,
    heartbeat: Option<Duration>,
) -> Result<Infallible, Failure> {
    let interval = heartbeat.map(|heartbeat| heartbeat / 2);
    loop {
        match shared.work() {
            Work::Write(chunks, credit) => {
                for chunk in chunks {
                    to.write_all(&chunk).await.map_err(|error| lost(&error))?;
                }
                to.flush().await.map_err(|error| lost(&error))?;
                drop(credit);
            }
            Work::Stop(failure) => return Err(failure),
            Work::Wait => match interval {
                Some(interval) => {
                    if tokio::time::timeout(interval, shared.wake.notified())
                        .await
                        .is_err()
                    {
                        shared.heartbeat();
                    }
                }
                None => shared.wake.notified().await,
            },
        }
    }
}

/// Returns when a connection that was to be closed has not been for too long.
async fn overdue(shared: &Shared) {
    shared.farewell.notified().await;
    tokio::time::sleep(FAREWELL).await;
}

fn lost(error: &io::Error) -> Failure {
    Failure::Lost(outrigger_daemon::tls::failure(error))
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("vhost", &self.vhost)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
