//! The hub as commands see it: find it, start it when there is none, ask it, read and write values, end it.
//!
//! Sidecars use the generated clients directly (`components/embedded`).

use crate::config;
use crate::error::{Error, Result};
use crate::folder;
use outrigger_proto::hub::v1::control_client::ControlClient;
use outrigger_proto::hub::v1::names_client::NamesClient;
use outrigger_proto::hub::v1::state_client::StateClient;
use outrigger_proto::hub::v1::{self, ShutdownRequest, StatusRequest, StatusResponse, WatchRequest};
use rustix::fs::FlockOperation;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tonic::transport::{Channel, Endpoint};

/// A hub that runs answers a status request within this.
const ANSWER: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(10);
/// Held by whoever is starting a hub, so that others wait for that one.
const STARTING: &str = "starting";

/// A connection to a hub. While it is kept, the hub does not count as idle.
#[derive(Debug, Clone)]
pub struct Client {
    control: ControlClient<Channel>,
    names: NamesClient<Channel>,
    state: StateClient<Channel>,
    socket: PathBuf,
}

/// How a hub went away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// It was asked to end, or nobody needed it.
    Ended,
    /// Killed, crashed, or cut off.
    Lost,
}

impl Client {
    /// Connects to the hub that listens on `socket`.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when there is none.
    pub async fn connect(socket: &Path) -> Result<Self> {
        let unreachable = |cause: String| Error::Unreachable {
            socket: socket.to_owned(),
            cause,
        };
        let endpoint = endpoint(socket)?;
        let channel = endpoint
            .connect()
            .await
            .map_err(|error| unreachable(root(&error)))?;
        Ok(Self {
            control: ControlClient::new(channel.clone()).max_decoding_message_size(usize::MAX),
            names: NamesClient::new(channel.clone()).max_decoding_message_size(usize::MAX),
            state: StateClient::new(channel).max_decoding_message_size(usize::MAX),
            socket: socket.to_owned(),
        })
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Who the hub is and how it is.
    pub async fn status(&self) -> Result<StatusResponse> {
        let answer = self.control.clone().status(StatusRequest {}).await;
        Ok(answer.map_err(|status| self.refused(&status))?.into_inner())
    }

    /// Asks the hub to end; it answers before it does. See [`gone`].
    pub async fn shutdown(&self) -> Result<()> {
        let answer = self.control.clone().shutdown(ShutdownRequest {}).await;
        answer.map_err(|status| self.refused(&status))?;
        Ok(())
    }

    /// All values of a space with their entity tags, in the order of keys.
    pub async fn values(&self, space: &str) -> Result<Vec<(String, v1::Item)>> {
        let mut values = Vec::new();
        let mut after = String::new();
        loop {
            let request = v1::KeysRequest {
                space: space.to_owned(),
                prefix: String::new(),
                after,
                limit: 0,
            };
            let page = self.state.clone().keys(request).await;
            let page = page.map_err(|status| self.refused(&status))?.into_inner();
            let request = v1::GetRequest {
                space: space.to_owned(),
                keys: page.keys.clone(),
            };
            let found = self.state.clone().get(request).await;
            let found = found.map_err(|status| self.refused(&status))?.into_inner().found;
            let last = page.keys.last().cloned();
            let items = page.keys.into_iter().zip(found);
            values.extend(items.filter_map(|(key, found)| Some((key, found.item?))));
            match last {
                Some(last) if page.more => after = last,
                _ => return Ok(values),
            }
        }
    }

    /// Writes a value, or deletes it; answers whether anything was deleted.
    pub async fn put(&self, space: &str, key: &str, value: Option<String>) -> Result<bool> {
        let kind = match value {
            Some(value) => v1::operation::Kind::Set(v1::Set {
                key: key.to_owned(),
                value: value.into(),
                ..v1::Set::default()
            }),
            None => v1::operation::Kind::Delete(v1::Delete {
                key: key.to_owned(),
                condition: None,
            }),
        };
        let request = v1::WriteRequest {
            transactions: vec![v1::Transaction {
                space: space.to_owned(),
                operations: vec![v1::Operation { kind: Some(kind) }],
            }],
        };
        let answer = self.state.clone().write(request).await;
        let results = answer
            .map_err(|status| self.refused(&status))?
            .into_inner()
            .results;
        let Some(result) = results.into_iter().next() else {
            return Err(Error::Refused("nothing for this write".to_owned()));
        };
        match result.failure {
            None => Ok(result.deleted > 0),
            Some(failure) => Err(Error::Refused(failure.message)),
        }
    }

    /// Returns when this hub is gone. Who needs a hub that was [`Gone::Lost`] calls [`ensure`] then.
    pub async fn ended(&self) -> Gone {
        // The hub ends this stream when it ends, and the system when the hub cannot.
        let Ok(answer) = self.names.clone().watch(WatchRequest {}).await else {
            return Gone::Lost;
        };
        let mut lists = answer.into_inner();
        loop {
            match lists.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return Gone::Ended,
                Err(_) => return Gone::Lost,
            }
        }
    }

    fn refused(&self, status: &tonic::Status) -> Error {
        match status.code() {
            tonic::Code::Unavailable | tonic::Code::DeadlineExceeded | tonic::Code::Cancelled => {
                Error::Unreachable {
                    socket: self.socket.clone(),
                    cause: status.message().to_owned(),
                }
            }
            _ => Error::Refused(status.message().to_owned()),
        }
    }
}

/// The hub of a home: the one that runs, or a new one.
///
/// Race-free: of several callers one starts the hub and the others wait for it. `spawn` starts
/// `outrigger hub` for this home, detached; it is called again when that process ended without becoming ready
/// (another hub may still have been ending).
///
/// # Errors
/// [`Error::NotReady`] when no hub answers within `patience`, with how the last attempt ended.
pub async fn ensure(
    home: &Path,
    patience: Duration,
    mut spawn: impl FnMut() -> io::Result<Child> + Send,
) -> Result<Client> {
    let socket = config::socket(home)?;
    let deadline = Instant::now() + patience;
    let mut cause = "nobody answered".to_owned();
    let mut starting: Option<File> = None;
    let mut child: Option<Child> = None;
    loop {
        if let Ok(client) = alive(&socket).await {
            return Ok(client);
        }
        if Instant::now() >= deadline {
            return Err(Error::NotReady {
                home: home.to_owned(),
                waited: patience,
                cause,
            });
        }
        if starting.is_none() {
            starting = begin(home)?;
            if starting.is_some() {
                // Somebody else may just have been ready.
                continue;
            }
        }
        if starting.is_some() {
            match child.as_mut().map(Child::try_wait) {
                Some(Ok(None)) => {}
                Some(Ok(Some(status))) => {
                    cause = format!("the process that was started ended with {status}; see its log");
                    child = None;
                    // Not faster than this, should it fail at once each time.
                    sleep(POLL * 10).await;
                }
                Some(Err(error)) => {
                    return Err(Error::io("cannot wait for", "the hub that was started", error));
                }
                None => {
                    let started = spawn().map_err(|error| Error::io("cannot start", "a hub", error))?;
                    child = Some(started);
                }
            }
        }
        sleep(POLL).await;
    }
}

/// Waits until no hub has the folder of a home any more. Answers whether that came to pass in time.
///
/// # Errors
/// When the folder cannot be looked at.
pub async fn gone(home: &Path, patience: Duration) -> Result<bool> {
    let path = config::folder(home).join(folder::LOCK);
    let deadline = Instant::now() + patience;
    loop {
        let file = match OpenOptions::new().read(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(Error::io("cannot open", &path.display().to_string(), error)),
        };
        // Shared, and given back at once: it asks without getting in the way of a new hub for long.
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        sleep(POLL).await;
    }
}

/// A hub that answers.
async fn alive(socket: &Path) -> Result<Client> {
    let client = Client::connect(socket).await?;
    let unanswered = |_| Error::Unreachable {
        socket: socket.to_owned(),
        cause: format!("it does not answer within {ANSWER:?}"),
    };
    tokio::time::timeout(ANSWER, client.status())
        .await
        .map_err(unanswered)??;
    Ok(client)
}

/// The right to start a hub, `None` while somebody else has it.
fn begin(home: &Path) -> Result<Option<File>> {
    let folder = config::folder(home);
    folder::create(&folder)?;
    let path = folder.join(STARTING);
    let shown = path.display().to_string();
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|source| Error::io("cannot open", &shown, source))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(Error::io("cannot lock", &shown, error.into())),
    }
}

fn endpoint(socket: &Path) -> Result<Endpoint> {
    let wrong = |cause: &str| Error::Unreachable {
        socket: socket.to_owned(),
        cause: cause.to_owned(),
    };
    let path = socket.to_str().ok_or_else(|| wrong("the path is not UTF-8"))?;
    Endpoint::from_shared(format!("unix:{path}")).map_err(|_| wrong("the path cannot be a socket address"))
}

/// The innermost cause: tonic's own text says only that the transport failed.
fn root(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
